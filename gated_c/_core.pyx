"""The engine for Python: arrays in, GIL released around long work, status out. Shapes are checked in model.py; only
Stream.step, which must cost nanoseconds, checks its own."""

cimport numpy as np
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from libc.string cimport memcpy

from os import environ

import numpy

from gated_c.arrays import checked_float32, checked_ids, checked_output

np.import_array()

cdef extern from "numpy/arrayobject.h":
    bint PyArray_ISCARRAY(np.ndarray array)
    bint PyArray_ISCARRAY_RO(np.ndarray array)


# A step of fewer multiplications takes about a microsecond or less: releasing the GIL (25 ns) would not pay.
cdef int64_t LONG_STEP = 50_000

cdef dict CELLS = {
    "lstm": GATED_LSTM,
    "gru": GATED_GRU,
    "rnn_tanh": GATED_RNN_TANH,
    "rnn_relu": GATED_RNN_RELU,
    "gru_reset_before": GATED_GRU_RESET_BEFORE,
    "rnn": GATED_RNN,
}

cdef dict FUNCTIONS = {
    "sigmoid": GATED_SIGMOID,
    "tanh": GATED_TANH,
    "relu": GATED_RELU,
    "linear": GATED_LINEAR,
    "affine": GATED_AFFINE,
    "hard_sigmoid": GATED_HARD_SIGMOID,
    "leaky_relu": GATED_LEAKY_RELU,
    "thresholded_relu": GATED_THRESHOLDED_RELU,
    "scaled_tanh": GATED_SCALED_TANH,
    "elu": GATED_ELU,
    "selu": GATED_SELU,
    "celu": GATED_CELU,
    "softsign": GATED_SOFTSIGN,
    "softplus": GATED_SOFTPLUS,
    "exponential": GATED_EXPONENTIAL,
    "silu": GATED_SILU,
    "hard_silu": GATED_HARD_SILU,
    "gelu": GATED_GELU,
    "gelu_tanh": GATED_GELU_TANH,
    "mish": GATED_MISH,
    "relu6": GATED_RELU6,
    "hard_tanh": GATED_HARD_TANH,
    "log_sigmoid": GATED_LOG_SIGMOID,
    "tanh_shrink": GATED_TANH_SHRINK,
    "soft_shrink": GATED_SOFT_SHRINK,
    "hard_shrink": GATED_HARD_SHRINK,
    "squareplus": GATED_SQUAREPLUS,
}


cdef dict KINDS = {
    "embedding": GATED_EMBEDDING,
    "dense": GATED_DENSE,
    "conv": GATED_CONV,
    "elementwise": GATED_ELEMENTWISE,
    "scale": GATED_SCALE,
    "layer_norm": GATED_LAYER_NORM,
    "softmax": GATED_SOFTMAX,
    "log_softmax": GATED_LOG_SOFTMAX,
    "merge_sum": GATED_MERGE_SUM,
    "merge_mul": GATED_MERGE_MUL,
    "merge_ave": GATED_MERGE_AVE,
    "slice": GATED_SLICE,
    "masking": GATED_MASKING,
    "unmask": GATED_UNMASK,
    "flip": GATED_FLIP,
    "flip_mask": GATED_FLIP_MASK,
    "pool_last": GATED_POOL_LAST,
    "pool_first": GATED_POOL_FIRST,
    "pool_mean": GATED_POOL_MEAN,
    "pool_max": GATED_POOL_MAX,
    "pool_final": GATED_POOL_FINAL,
    "repeat": GATED_REPEAT,
    "reshape": GATED_RESHAPE,
}

cdef dict MASKED = {"zero": GATED_ZERO, "repeat": GATED_REPEAT_OUTPUT, "repeat_initial": GATED_REPEAT_INITIAL}


cdef int check(gated_status status) except -1:
    if status == GATED_OK:
        return 0
    message = gated_status_string(status).decode()
    if status == GATED_NO_MEMORY:
        raise MemoryError(message)
    if status == GATED_BAD_INDEX:
        raise IndexError(message)
    if status in (GATED_UNKNOWN_ISA, GATED_UNUSABLE_ISA):
        usable = ", ".join(name for name, _, is_usable, _ in list_isas() if is_usable)
        raise RuntimeError(f"{message}: expected one of {usable}, got {environ['GATED_C_ISA']!r}")
    raise ValueError(message)


cdef inline float *floats(np.ndarray array) noexcept:
    return <float *>np.PyArray_DATA(array)


cdef inline ptrdiff_t stride(np.ndarray array, int axis) noexcept:
    """In elements."""
    return np.PyArray_STRIDE(array, axis) // np.PyArray_ITEMSIZE(array)


cdef const float *weight(dict arrays, str name):
    return floats(arrays[name]) if name in arrays else NULL


cdef gated_weights weights_of(dict arrays, str suffix, const gated_options *options):
    cdef gated_weights w
    w.weight_ih = weight(arrays, "weight_ih" + suffix)
    w.weight_hh = weight(arrays, "weight_hh" + suffix)
    w.bias_ih = weight(arrays, "bias_ih" + suffix)
    w.bias_hh = weight(arrays, "bias_hh" + suffix)
    w.weight_hr = weight(arrays, "weight_hr" + suffix)
    w.peephole = weight(arrays, "weight_peephole" + suffix)
    w.options = options
    w.initial_h = weight(arrays, "initial_h" + suffix)
    w.initial_c = weight(arrays, "initial_c" + suffix)
    return w


cdef gated_activation activation_of(activation):
    cdef gated_activation a
    a.function = FUNCTIONS[activation.name]
    a.alpha = activation.alpha
    a.beta = activation.beta
    return a


cdef gated_options options_of(spec, activations):
    cdef gated_options options
    cdef int i
    for i in range(3):
        options.activation[i] = activation_of(activations[min(i, len(activations) - 1)])
    options.clip = spec.clip
    options.clip_output = spec.clip_output
    options.input_forget = spec.input_forget
    return options


cdef class Memory:
    """Zeroed C memory that lives as long as its owner."""

    cdef void *at

    def __cinit__(self, size_t count, size_t size):
        self.at = PyMem_Calloc(count, size)
        if self.at == NULL:
            raise MemoryError()

    def __dealloc__(self):
        PyMem_Free(self.at)


cdef gated_recurrent *stack_of(spec, list alive) except NULL:
    """The recurrent layers of a LayerSpec. What they point to is appended to `alive`."""
    memory = Memory(spec.num_layers, sizeof(gated_recurrent))
    options_memory = Memory(2, sizeof(gated_options))
    arrays = {name: numpy.ascontiguousarray(w, numpy.float32) for name, w in spec.weights.items()}
    alive += [memory, options_memory, arrays]
    cdef gated_recurrent *layers = <gated_recurrent *>memory.at
    cdef gated_options *options = <gated_options *>options_memory.at
    cdef gated_recurrent *layer
    for direction in range(spec.num_directions):
        if spec.is_general:
            options[direction] = options_of(spec, spec.activations_of(direction))
    for index in range(spec.num_layers):
        layer = &layers[index]
        layer.cell = CELLS[spec.cell]
        layer.input_size = spec.input_size if index == 0 else spec.output_size
        layer.hidden_size = spec.hidden_size
        layer.proj_size = spec.proj_size
        layer.num_directions = spec.num_directions
        layer.reverse = spec.reverse
        layer.weights[0] = weights_of(arrays, f"_l{index}", options if spec.is_general else NULL)
        if spec.bidirectional:
            layer.weights[1] = weights_of(arrays, f"_l{index}_reverse", options + 1 if spec.is_general else NULL)
    return layers


cdef int describe_stack(spec, gated_layer *layer, list alive) except -1:
    layer.kind = GATED_STACK
    layer.stack = stack_of(spec, alive)
    layer.count = spec.num_layers
    layer.masked = MASKED[spec.masked]
    return 0


cdef int describe_plain(core, gated_layer *layer, list alive) except -1:
    """From a layers.Core."""
    arrays = {name: numpy.ascontiguousarray(getattr(core, name), numpy.float32)
              for name in ("weight", "bias") if getattr(core, name) is not None}
    alive.append(arrays)
    layer.kind = KINDS[core.kind]
    layer.count = core.number
    layer.weight = weight(arrays, "weight")
    layer.bias = weight(arrays, "bias")
    layer.activation = activation_of(core.activation)
    layer.value = core.value
    layer.dilation = core.dilation
    layer.flag = core.flag
    return 0


cdef class Engine:
    """Packed weights of a chain of layers."""

    cdef gated_model *model
    cdef readonly int input_size
    cdef readonly int output_size
    cdef readonly bint takes_ids
    cdef readonly str isa
    cdef int64_t step_work  # multiplications of a row's step

    def __cinit__(self, layers):
        """From a validated chain."""
        layers = [layer for layer in layers if getattr(layer, "core", True) is not None]
        memory = Memory(len(layers), sizeof(gated_layer))
        cdef gated_layer *described = <gated_layer *>memory.at
        alive = []  # converted arrays must outlive the call below
        for index, layer in enumerate(layers):
            described[index].input_size = layer.input_size
            described[index].output_size = layer.output_size
            if hasattr(layer, "core"):
                describe_plain(layer.core, &described[index], alive)
            else:
                describe_stack(layer, &described[index], alive)
            self.step_work += layer.num_parameters
        check(gated_model_create(described, len(layers), &self.model))
        self.input_size = layers[0].input_size
        self.output_size = layers[-1].output_size
        self.takes_ids = described[0].kind == GATED_EMBEDDING
        self.isa = chosen_isa()

    def __dealloc__(self):
        gated_model_free(self.model)

    @property
    def packed_bytes(self):
        """Bytes of packed weights."""
        return gated_model_bytes(self.model)

    def state_size(self, int64_t batch):
        """Floats of the state of `batch` rows."""
        return gated_state_size(self.model, batch)

    def initial_state(self, int64_t batch):
        """The flat state of `batch` rows that have seen nothing."""
        cdef np.npy_intp size = gated_state_size(self.model, batch)
        cdef np.ndarray state = np.PyArray_EMPTY(1, &size, np.NPY_FLOAT32, 0)
        gated_state_init(self.model, batch, floats(state))
        return state

    def run(
        self,
        np.ndarray x not None,
        np.ndarray y not None,
        np.ndarray state not None,
        lengths=None,
        mask=None,
        reset=None,
        initial=None,
        dict trace=None,
    ):
        """x [T,N,C] float32, or ids [T,N] int32; y [T,N,F] float32; last axis contiguous; state flat, updated in place;
        lengths int64 [N], mask and reset bool [T,N], initial flat, or None; trace "c" and "gates",
        flat, those that are wanted."""
        cdef gated_sequence s
        cdef gated_status status
        s = sequence_of(x, y, state)
        self._check_sizes(&s, state)
        if lengths is not None:
            s.lengths = <const int64_t *>np.PyArray_DATA(lengths)
        if mask is not None:
            s.mask = <const unsigned char *>np.PyArray_DATA(mask)
            s.mask_time = np.PyArray_STRIDE(mask, 0)
            s.mask_row = np.PyArray_STRIDE(mask, 1)
        if reset is not None:
            s.reset = <const unsigned char *>np.PyArray_DATA(reset)
            s.reset_time = np.PyArray_STRIDE(reset, 0)
            s.reset_row = np.PyArray_STRIDE(reset, 1)
        if initial is not None:
            s.initial = checked_flat("initial", initial, gated_state_size(self.model, s.batch))
        if trace is not None and "c" in trace:
            s.trace_c = checked_flat("c", trace["c"], gated_trace_c_size(self.model, s.seq_len, s.batch))
        if trace is not None and "gates" in trace:
            s.trace_gates = checked_flat("gates", trace["gates"], gated_trace_gates_size(self.model, s.seq_len, s.batch))
        with nogil:
            status = gated_run(self.model, &s)
        check(status)

    def run_packed(
        self, np.ndarray x not None, np.ndarray y not None, np.ndarray state not None, np.ndarray batch_sizes not None
    ):
        """x [sum(batch_sizes), C], y alike: rows of one step after another; batch_sizes int64 [T], not rising."""
        cdef gated_sequence s
        cdef gated_status status
        s = sequence_of(x[:, None], y[:, None], state)
        s.x_row, s.y_row = s.x_time, s.y_time
        s.seq_len = np.PyArray_DIM(batch_sizes, 0)
        s.batch = batch_sizes[0] if s.seq_len else 0
        s.batch_sizes = <const int64_t *>np.PyArray_DATA(batch_sizes)
        self._check_sizes(&s, state)
        with nogil:
            status = gated_run(self.model, &s)
        check(status)

    cdef int _check_sizes(self, const gated_sequence *s, np.ndarray state) except -1:
        """The last line before C: what model.py and packed.py must have made fit."""
        checked_flat("state", state, gated_state_size(self.model, s.batch))
        return 0


cdef float *checked_flat(str name, np.ndarray array, size_t size) except? NULL:
    if <size_t>np.PyArray_SIZE(array) != size:
        raise ValueError(f"{name}: expected {size} values, got {array.size}")
    return floats(array)


cdef gated_sequence sequence_of(np.ndarray x, np.ndarray y, np.ndarray state):
    cdef gated_sequence s
    s.seq_len = np.PyArray_DIM(x, 0)
    s.batch = np.PyArray_DIM(x, 1)
    s.x, s.x_time, s.x_row = np.PyArray_DATA(x), stride(x, 0), stride(x, 1)
    s.y, s.y_time, s.y_row = floats(y), stride(y, 0), stride(y, 1)
    s.state = floats(state)
    s.lengths = NULL
    s.mask = NULL
    s.mask_time = s.mask_row = 0
    s.batch_sizes = NULL
    s.reset = NULL
    s.reset_time = s.reset_row = 0
    s.initial = NULL
    s.trace_c = s.trace_gates = NULL
    return s


cdef class StreamEngine:
    """The state of a batch of live sequences and the scratch of their steps. stream.py adds what need not be fast."""

    cdef gated_stream *stream
    cdef bint busy
    cdef bint long_step
    cdef readonly Engine engine
    cdef readonly int batch
    cdef int input_size
    cdef int output_size
    cdef bint takes_ids
    cdef bint squeezed  # results have no axis of features
    cdef np.ndarray output  # [N, F], what step returns when the caller brings no buffer

    def __cinit__(self, Engine engine not None, int batch, bint squeezed, *args):
        check(gated_stream_create(engine.model, batch, &self.stream))
        self.engine = engine
        self.batch = batch
        self.input_size = engine.input_size
        self.output_size = engine.output_size
        self.long_step = engine.step_work * batch > LONG_STEP
        self.takes_ids = engine.takes_ids
        self.squeezed = squeezed
        shape = [batch] if squeezed else [batch, engine.output_size]
        self.output = numpy.zeros(shape, numpy.float32)

    def __dealloc__(self):
        gated_stream_free(self.stream)

    def step(self, x, out=None):
        """One tick of every row: x [N, C], or ids [N], to y [N, F] ([N] if the model squeezes its only feature).

        Without ``out`` the result is the stream's own buffer, overwritten by the next call. float32 C-contiguous arrays
        are used as they are; another dtype or layout of ``x`` is copied. ``x`` may be that buffer, or ``out``. Raises
        ``ValueError`` or ``TypeError`` with what was expected and what was got, ``IndexError`` for an id beyond the
        embedding, and then changes nothing.
        """
        if self.takes_ids:
            x = checked_ids("x", x, (self.batch,))
        elif not is_ready(x, 2, self.batch, self.input_size, False):
            x = checked_float32("x", x, (self.batch, self.input_size))
        if out is None:
            out = self.output
        elif not is_ready(out, 2 - self.squeezed, self.batch, self.output_size, True):
            out = checked_output("out", out, (<object>self.output).shape)
        cdef const void *source = np.PyArray_DATA(<np.ndarray>x)
        cdef float *target = floats(<np.ndarray>out)
        cdef gated_status status
        if self.busy:
            in_use()
        if self.long_step:
            self.busy = True
            with nogil:
                status = gated_stream_step(self.stream, source, target)
            self.busy = False
        else:
            status = gated_stream_step(self.stream, source, target)
        if status != GATED_OK:
            check(status)
        return out

    def _run_steps(self, np.ndarray x not None, np.ndarray y not None):
        """x [T,N,C] float32, or ids [T,N] int32, to y [T,N,F]: last axis contiguous, not overlapping."""
        cdef gated_sequence s = sequence_of(x, y, x)
        cdef gated_status status
        if self.busy:
            in_use()
        self.busy = True
        with nogil:
            status = gated_stream_run(self.stream, s.seq_len, s.x, s.x_time, s.x_row, s.y, s.y_time, s.y_row)
        self.busy = False
        check(status)

    def _reset(self, np.ndarray rows not None):
        """Of rows [N] uint8 those that are not 0."""
        if self.busy:
            in_use()
        if not PyArray_ISCARRAY_RO(rows) or np.PyArray_TYPE(rows) != np.NPY_UINT8 or np.PyArray_SIZE(rows) != self.batch:
            raise ValueError(f"rows: expected {self.batch} contiguous uint8 values")
        gated_stream_reset(self.stream, <const unsigned char *>np.PyArray_DATA(rows))

    def _read_state(self, np.ndarray flat not None):
        """Copy the state into a float32 array of ``engine.state_size(batch)`` values."""
        self._check_flat(flat)
        memcpy(floats(flat), gated_stream_state(self.stream), np.PyArray_NBYTES(flat))

    def _write_state(self, np.ndarray flat not None):
        """The reverse of _read_state."""
        self._check_flat(flat)
        memcpy(gated_stream_state(self.stream), floats(flat), np.PyArray_NBYTES(flat))

    cdef int _check_flat(self, np.ndarray flat) except -1:
        if self.busy:
            in_use()
        if not PyArray_ISCARRAY(flat) or np.PyArray_TYPE(flat) != np.NPY_FLOAT32 or (
            <size_t>np.PyArray_SIZE(flat) != gated_state_size(self.engine.model, self.batch)
        ):
            raise ValueError(f"flat: expected {self.engine.state_size(self.batch)} contiguous float32 values")
        return 0


cdef int in_use() except -1:
    raise RuntimeError("stream: in use by another thread; a stream belongs to one thread at a time")


cdef inline bint is_ready(array, int ndim, int rows, int width, bint writeable) noexcept:
    """Whether the kernels can use an array [rows, width], or [rows], as it is."""
    return (
        np.PyArray_CheckExact(array)
        and np.PyArray_TYPE(<np.ndarray>array) == np.NPY_FLOAT32
        and np.PyArray_NDIM(<np.ndarray>array) == ndim
        and np.PyArray_DIM(<np.ndarray>array, 0) == rows
        and (ndim == 1 or np.PyArray_DIM(<np.ndarray>array, 1) == width)
        and (PyArray_ISCARRAY(<np.ndarray>array) if writeable else PyArray_ISCARRAY_RO(<np.ndarray>array))
    )


def list_isas():
    """``(name, lanes, usable, exact)`` of every instruction set of this build, slowest first."""
    isas = []
    cdef const gated_isa_info *isa = gated_isa(0)
    while isa != NULL:
        isas.append((isa.name.decode(), isa.lanes, bool(isa.usable), bool(isa.exact)))
        isa = gated_isa(len(isas))
    return isas


def chosen_isa():
    """The name of the instruction set in use: the fastest usable, or the one that GATED_C_ISA forces."""
    cdef const gated_isa_info *isa = NULL
    check(gated_isa_chosen(&isa))
    return isa.name.decode()


def activate(activation, str isa, np.ndarray x):
    """An Activation of a C-contiguous float32 array, as the cells of one instruction set compute it."""
    cdef np.ndarray y = numpy.empty_like(x)
    cdef gated_activation a = activation_of(activation)
    check(gated_activate(isa.encode(), &a, floats(x), floats(y), np.PyArray_SIZE(x)))
    return y
