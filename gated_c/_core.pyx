"""The engine for Python: arrays in, GIL released around long work, status out. Shapes are checked in model.py; only
Stream.step, which must cost nanoseconds, checks its own."""

cimport numpy as np
from cpython.exc cimport PyErr_CheckSignals
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from cpython.pycapsule cimport PyCapsule_GetContext, PyCapsule_New, PyCapsule_SetContext, PyCapsule_SetDestructor
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.string cimport memcpy
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

from gated_c cimport *

from os import environ

import numpy

from gated_c.arrays import checked_float32, checked_ids, checked_members, checked_output
from gated_c.errors import FormatError, UnsupportedError
from gated_c.narrow import unread

np.import_array()

cdef extern from "numpy/arrayobject.h":
    bint PyArray_ISCARRAY(np.ndarray array)
    bint PyArray_ISCARRAY_RO(np.ndarray array)

cdef extern from *:
    """
    /* A flag that says whose turn it is, with the GIL and without: who finds it up keeps out. */
    typedef char gated_flag;
    static inline int gated_raise(gated_flag *flag) { return !__atomic_exchange_n(flag, 1, __ATOMIC_ACQUIRE); }
    static inline void gated_lower(gated_flag *flag) { __atomic_store_n(flag, 0, __ATOMIC_RELEASE); }
    """
    ctypedef char gated_flag
    bint gated_raise(gated_flag *flag) nogil
    void gated_lower(gated_flag *flag) nogil


# A step of fewer multiplications takes about a microsecond or less: releasing the GIL (25 ns) would not pay.
cdef int64_t LONG_STEP = 50_000

# Nanoseconds between two looks at signals while steps are timed: seldom enough not to show in the times.
cdef int64_t SIGNAL_PERIOD = 100_000_000

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

FLAGS = {
    "flush_subnormals": GATED_FLUSH_SUBNORMALS,
    "bfloat16": GATED_BFLOAT16,
    "bfloat16_dot": GATED_BFLOAT16_DOT,
    "int8": GATED_INT8,
    "inputs_float32": GATED_INPUTS_FLOAT32,
    "inputs_bfloat16": GATED_INPUTS_BFLOAT16,
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
    if status == GATED_NO_FILE:
        raise OSError(message)
    if status == GATED_BAD_FILE:
        raise FormatError(message)
    if status == GATED_UNSUPPORTED_FILE:
        raise UnsupportedError(message)
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


cdef gated_weights weights_of(dict arrays, str suffix, const gated_options *options, float h_limit):
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
    w.h_limit = h_limit
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


cdef gated_recurrent *stack_of(spec, bint is_read, list alive) except NULL:
    """The recurrent layers of a LayerSpec, of which matrices are read or are packed already. What they point to is
    appended to `alive`."""
    memory = Memory(spec.num_layers, sizeof(gated_recurrent))
    options_memory = Memory(2, sizeof(gated_options))
    given = spec.weights if is_read else unread(spec.weights)
    arrays = {name: numpy.ascontiguousarray(w) for name, w in given.items()}
    alive += [memory, options_memory, arrays]
    cdef gated_recurrent *layers = <gated_recurrent *>memory.at
    cdef gated_options *options = <gated_options *>options_memory.at
    cdef gated_recurrent *layer
    for direction in range(spec.num_directions):
        if spec.is_general:
            options[direction] = options_of(spec, spec.activations_of(direction))
    limits = iter(spec.h_limit or (0,) * (spec.num_layers * spec.num_directions))
    for index in range(spec.num_layers):
        layer = &layers[index]
        layer.cell = CELLS[spec.cell]
        layer.input_size = spec.input_size if index == 0 else spec.output_size
        layer.hidden_size = spec.hidden_size
        layer.proj_size = spec.proj_size
        layer.num_directions = spec.num_directions
        layer.reverse = spec.reverse
        for direction, suffix in enumerate((f"_l{index}", f"_l{index}_reverse")[:spec.num_directions]):
            described = options + <int>direction if spec.is_general else NULL
            layer.weights[direction] = weights_of(arrays, suffix, described, next(limits))
    return layers


cdef int describe_stack(spec, bint is_read, gated_layer *layer, list alive) except -1:
    layer.kind = GATED_STACK
    layer.stack = stack_of(spec, is_read, alive)
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


cdef void release_owner(capsule) noexcept:
    Py_DECREF(<object>PyCapsule_GetContext(capsule))


cdef object handle_of(void *pointer, const char *name, owner):
    """A PyCapsule that keeps the owner of the pointer alive."""
    capsule = PyCapsule_New(pointer, name, NULL)
    PyCapsule_SetContext(capsule, <void *>owner)
    PyCapsule_SetDestructor(capsule, release_owner)
    Py_INCREF(owner)
    return capsule


cdef class Engine:
    """Packed weights of a chain of layers."""

    cdef gated_model *model
    cdef object file  # keeps alive what the model reads of it
    cdef readonly int input_size
    cdef readonly int output_size
    cdef readonly bint takes_ids
    cdef readonly str isa
    cdef int64_t step_work  # multiplications of a row's step

    def __cinit__(self, layers, unsigned flags, np.ndarray packed=None):
        """From a validated chain and the sum of some ``FLAGS``; ``packed`` float32 [K], read where it lies, is that of
        an equal one on the instruction set in use. ``FormatError`` if it cannot be."""
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
                describe_stack(layer, packed is None, &described[index], alive)
            self.step_work += layer.num_parameters
        cdef gated_packed weights
        cdef gated_status status
        if packed is None:
            check(gated_model_create(described, len(layers), flags, &self.model))
        else:
            weights.data, weights.floats = floats(packed), np.PyArray_SIZE(packed)
            status = gated_model_create_packed(described, len(layers), flags, &weights, &self.model)
            if status == GATED_BAD_SIZE:
                raise FormatError(f"packed weights: {packed.size} numbers are not those of these layers")
            check(status)
            self.file = packed
        self.input_size = layers[0].input_size
        self.output_size = layers[-1].output_size
        self.takes_ids = described[0].kind == GATED_EMBEDDING
        self.isa = chosen_isa()

    def __dealloc__(self):
        gated_model_free(self.model)

    @property
    def handle(self):
        return handle_of(self.model, "gated_c.gated_model", self)

    @property
    def packed_bytes(self):
        """Bytes of packed weights."""
        return gated_model_bytes(self.model)

    @property
    def packed(self):
        """All weights as the kernels read them, float32 [packed_bytes / 4], not to be written."""
        cdef gated_packed weights
        gated_model_packed(self.model, &weights)
        cdef np.npy_intp size = weights.floats
        array = np.PyArray_SimpleNewFromData(1, &size, np.NPY_FLOAT32, <void *>weights.data)
        np.set_array_base(array, self)
        array.setflags(write=False)
        return array

    def state_size(self, int64_t batch):
        """Floats of the state of `batch` rows."""
        return gated_state_size(self.model, batch)

    @property
    def snapshot_size(self):
        """Bytes of the snapshot of a row."""
        return gated_snapshot_size(self.model)

    def check_snapshots(self, np.ndarray rows not None):
        """``ValueError`` unless every row of a uint8 array is a snapshot that fits this model."""
        check_snapshots(rows, self.model)

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
        int threads=0,
    ):
        """x [T,N,C] float32, or ids [T,N] int32; y [T,N,F] float32; last axis contiguous; state flat, updated in place;
        lengths int64 [N], mask and reset bool [T,N], initial flat, or None; trace "c" and "gates",
        flat, those that are wanted; threads as in gated_c.h."""
        cdef gated_sequence s
        cdef gated_status status
        s = sequence_of(x, y, state, threads)
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
            size = gated_trace_gates_size(self.model, s.seq_len, s.batch)
            s.trace_gates = checked_flat("gates", trace["gates"], size)
        with nogil:
            status = gated_run(self.model, &s)
        check(status)

    def run_packed(
        self,
        np.ndarray x not None,
        np.ndarray y not None,
        np.ndarray state not None,
        np.ndarray batch_sizes not None,
        int threads=0,
    ):
        """x [sum(batch_sizes), C], y alike: rows of one step after another; batch_sizes int64 [T], not rising."""
        cdef gated_sequence s
        cdef gated_status status
        s = sequence_of(x[:, None], y[:, None], state, threads)
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


cdef gated_sequence sequence_of(np.ndarray x, np.ndarray y, np.ndarray state, int threads):
    cdef gated_sequence s
    s.threads = threads
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
    cdef gated_flag busy
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

    @property
    def handle(self):
        """The stream of the C interface, a ``gated_stream *``: a ``PyCapsule`` of the name ``gated_c.gated_stream``.
        The pointer is valid while the stream or the capsule lives. Both are one state, and calls from C are not checked
        for use by two threads."""
        return handle_of(self.stream, "gated_c.gated_stream", self)

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
        take(&self.busy, "stream")
        if self.long_step:
            with nogil:
                status = gated_stream_step(self.stream, source, target)
        else:
            status = gated_stream_step(self.stream, source, target)
        gated_lower(&self.busy)
        if status != GATED_OK:
            check(status)
        return out

    def warm(self):
        """Read all weights and write all scratch once, so that no later step meets a cold page. The state stays as it
        is."""
        take(&self.busy, "stream")
        cdef gated_status status = gated_stream_warm(self.stream)
        gated_lower(&self.busy)
        check(status)

    def _time_steps(self, np.ndarray x not None, np.ndarray times not None):
        """Nanoseconds of a step each, clock included, into times [K] int64; the steps are those of x [T,N,C] or [T,N],
        contiguous, over and over."""
        cdef int64_t steps = np.PyArray_DIM(x, 0), i
        cdef const char *source = <const char *>np.PyArray_DATA(x)
        cdef ptrdiff_t step_bytes = np.PyArray_STRIDE(x, 0)
        cdef int64_t *target = <int64_t *>np.PyArray_DATA(times)
        cdef int64_t count = np.PyArray_SIZE(times)
        cdef float *y = floats(self.output)
        cdef int64_t start, asked = clock()
        take(&self.busy, "stream")
        try:
            with nogil:
                for i in range(count):
                    start = clock()
                    gated_stream_step(self.stream, source + i % steps * step_bytes, y)
                    target[i] = clock() - start
                    if start - asked > SIGNAL_PERIOD:
                        asked = start
                        with gil:
                            PyErr_CheckSignals()  # Ctrl-C
        finally:
            gated_lower(&self.busy)

    def _run_steps(self, np.ndarray x not None, np.ndarray y not None):
        """x [T,N,C] float32, or ids [T,N] int32, to y [T,N,F]: last axis contiguous, not overlapping."""
        cdef gated_sequence s = sequence_of(x, y, x, 1)
        cdef gated_status status
        take(&self.busy, "stream")
        with nogil:
            status = gated_stream_run(self.stream, s.seq_len, s.x, s.x_time, s.x_row, s.y, s.y_time, s.y_row)
        gated_lower(&self.busy)
        check(status)

    def _reset(self, np.ndarray rows not None):
        """Of rows [N] uint8 those that are not 0."""
        if not PyArray_ISCARRAY_RO(rows) or np.PyArray_TYPE(rows) != np.NPY_UINT8 or (
            np.PyArray_SIZE(rows) != self.batch
        ):
            raise ValueError(f"rows: expected {self.batch} contiguous uint8 values")
        take(&self.busy, "stream")
        gated_stream_reset(self.stream, <const unsigned char *>np.PyArray_DATA(rows))
        gated_lower(&self.busy)

    def _save(self, np.ndarray rows not None):
        """Snapshots of all rows into uint8 [N, engine.snapshot_size]."""
        cdef char *bytes = check_rows(rows, self.batch, self.engine)
        cdef size_t size = gated_snapshot_size(self.engine.model)
        cdef int64_t n
        take(&self.busy, "stream")
        with nogil:
            for n in range(self.batch):
                gated_stream_save(self.stream, n, bytes + n * size)
        gated_lower(&self.busy)

    def _restore(self, np.ndarray rows not None):
        """The reverse of _save, after ``engine.check_snapshots``."""
        cdef const char *bytes = check_rows(rows, self.batch, self.engine)
        cdef size_t size = gated_snapshot_size(self.engine.model)
        cdef int64_t n
        take(&self.busy, "stream")
        with nogil:
            for n in range(self.batch):
                gated_stream_restore(self.stream, n, bytes + n * size)
        gated_lower(&self.busy)

    def _read_state(self, np.ndarray flat not None):
        """Copy the state into a float32 array of ``engine.state_size(batch)`` values."""
        self._check_flat(flat)
        take(&self.busy, "stream")
        memcpy(floats(flat), gated_stream_state(self.stream), np.PyArray_NBYTES(flat))
        gated_lower(&self.busy)

    def _write_state(self, np.ndarray flat not None):
        """The reverse of _read_state."""
        self._check_flat(flat)
        take(&self.busy, "stream")
        memcpy(gated_stream_state(self.stream), floats(flat), np.PyArray_NBYTES(flat))
        gated_lower(&self.busy)

    cdef int _check_flat(self, np.ndarray flat) except -1:
        if not PyArray_ISCARRAY(flat) or np.PyArray_TYPE(flat) != np.NPY_FLOAT32 or (
            <size_t>np.PyArray_SIZE(flat) != gated_state_size(self.engine.model, self.batch)
        ):
            raise ValueError(f"flat: expected {self.engine.state_size(self.batch)} contiguous float32 values")
        return 0


def clock_cost():
    """Nanoseconds that two readings of the clock are apart with nothing between them: the median of 1000 pairs."""
    cdef int64_t[1000] times
    cdef int64_t start
    cdef int i
    with nogil:
        for i in range(1000):
            start = clock()
            times[i] = clock() - start
    return sorted(times)[500]


cdef inline int64_t clock() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return now.tv_sec * 1_000_000_000 + now.tv_nsec


cdef class PoolEngine:
    """Streams of one row that come and go. pool.py adds what need not be fast."""

    cdef gated_pool *pool
    cdef gated_flag busy
    cdef readonly Engine engine
    cdef readonly int capacity
    cdef int input_size
    cdef int output_size
    cdef bint takes_ids
    cdef bint squeezed  # results have no axis of features
    cdef np.ndarray output  # [capacity, F], what step returns the head of when the caller brings no buffer
    cdef np.ndarray head  # that of the last step
    cdef np.ndarray first  # its first row

    def __cinit__(self, Engine engine not None, int capacity, bint squeezed, *args):
        check(gated_pool_create(engine.model, capacity, &self.pool))
        self.engine = engine
        self.capacity = capacity
        self.input_size = engine.input_size
        self.output_size = engine.output_size
        self.takes_ids = engine.takes_ids
        self.squeezed = squeezed
        self.output = numpy.zeros([capacity] if squeezed else [capacity, engine.output_size], numpy.float32)
        self.head = self.output
        self.first = self.output[0] if not squeezed else self.output[:1].reshape(())

    def __dealloc__(self):
        gated_pool_free(self.pool)

    @property
    def handle(self):
        """The pool of the C interface, a ``gated_pool *``: a ``PyCapsule`` of the name ``gated_c.gated_pool``, as
        ``Stream.handle`` is."""
        return handle_of(self.pool, "gated_c.gated_pool", self)

    def __len__(self):
        return gated_pool_count(self.pool)

    def __contains__(self, id):
        return isinstance(id, (int, numpy.integer)) and 0 <= id < 1 << 63 and gated_pool_has(self.pool, id) != 0

    def warm(self):
        """Read all weights and write all scratch once, so that no later step meets a cold page. Takes as long as a
        few steps of ``capacity`` members, all of which stay as they are."""
        take(&self.busy, "pool")
        cdef gated_status status = gated_pool_warm(self.pool)
        gated_lower(&self.busy)
        check(status)

    def open(self):
        """The id of a new member, at its start. Raises ``RuntimeError`` if ``capacity`` are open."""
        cdef int64_t id
        take(&self.busy, "pool")
        cdef gated_status status = gated_pool_open(self.pool, &id)
        gated_lower(&self.busy)
        self._check(status, None)
        return id

    def close(self, ids):
        """Forget an id or several, all or none: from now on they are unknown. Raises as :meth:`step` does."""
        cdef np.ndarray own = members(ids)
        take(&self.busy, "pool")
        cdef gated_status status = gated_pool_close(self.pool, np.PyArray_DIM(own, 0), id_data(own))
        gated_lower(&self.busy)
        self._check(status, own)

    def reset(self, ids):
        """Send an id or several back to the start, all or none. Raises as :meth:`step` does."""
        cdef np.ndarray own = members(ids)
        take(&self.busy, "pool")
        cdef gated_status status = gated_pool_reset(self.pool, np.PyArray_DIM(own, 0), id_data(own))
        gated_lower(&self.busy)
        self._check(status, own)

    def step(self, ids, x, out=None):
        """One tick of some members: ids [K] int64, in any order, and x [K, C], or ids of an embedding [K], to y [K, F]
        ([K] if the model squeezes its only feature). Of a single id x is [C], or one id, and y [F].

        Without ``out`` the result is in the pool's own buffer, overwritten by the next call. Arrays of int64 and of
        float32, C-contiguous, are used as they are; lists, another dtype or layout are copied. ``x`` may be that
        buffer, or ``out``. Raises ``ValueError`` for an id that is not open or occurs twice, and for wrong shapes,
        ``TypeError`` for wrong types, ``IndexError`` for an id beyond the embedding, and then changes nothing.
        """
        if not is_member_array(ids):
            if isinstance(ids, int) or numpy.ndim(ids) == 0:
                return self._step_one(ids, x, out)
            ids = checked_members("ids", ids)
        cdef int64_t count = np.PyArray_DIM(<np.ndarray>ids, 0)
        if self.takes_ids:
            x = checked_ids("x", x, (count,))
        elif not is_ready(x, 2, count, self.input_size, False):
            x = checked_float32("x", x, (count, self.input_size))
        if out is not None and not is_ready(out, 2 - self.squeezed, count, self.output_size, True):
            out = checked_output("out", out, (count, *(<object>self.first).shape))
        return self._tick(<np.ndarray>ids, <np.ndarray>x, out)

    cdef object _step_one(self, id, x, out):
        cdef np.ndarray ids = checked_members("ids", id)
        if self.takes_ids:
            x = checked_ids("x", x, ())
        elif not is_ready(x, 1, self.input_size, 0, False):
            x = checked_float32("x", x, (self.input_size,))
        out = self.first if out is None else checked_output("out", out, (<object>self.first).shape)
        return self._tick(ids, <np.ndarray>x, out)

    cdef object _tick(self, np.ndarray ids, np.ndarray x, out):
        """y, in the head of the pool's own buffer if out is None."""
        cdef gated_status status
        take(&self.busy, "pool")
        try:
            if out is None:
                out = self._head(np.PyArray_DIM(ids, 0))
            status = self._step(ids, x, <np.ndarray>out)
        finally:
            gated_lower(&self.busy)
        if status != GATED_OK:
            self._check(status, ids)
        return out

    cdef object _head(self, int64_t count):
        if np.PyArray_DIM(self.head, 0) != count:
            self.head = self.output[:count]
        return self.head

    cdef gated_status _step(self, np.ndarray ids, np.ndarray x, np.ndarray out) noexcept:
        cdef int64_t count = np.PyArray_DIM(ids, 0)
        cdef const int64_t *members = id_data(ids)
        cdef const void *source = np.PyArray_DATA(x)
        cdef float *target = floats(out)
        cdef gated_status status
        if self.engine.step_work * count <= LONG_STEP:
            return gated_pool_step(self.pool, count, members, source, target)
        with nogil:
            status = gated_pool_step(self.pool, count, members, source, target)
        return status

    def _fork(self, np.ndarray ids not None):
        """ids int64 [K] to those of new members."""
        cdef np.ndarray forks = numpy.empty_like(ids)
        cdef int64_t count = np.PyArray_DIM(ids, 0)
        take(&self.busy, "pool")
        cdef gated_status status = gated_pool_fork(self.pool, count, id_data(ids), <int64_t *>id_data(forks))
        gated_lower(&self.busy)
        self._check(status, ids)
        return forks

    def _idle(self, double seconds):
        cdef np.ndarray ids = numpy.empty(self.capacity, numpy.int64)
        take(&self.busy, "pool")
        cdef int64_t count = gated_pool_idle(self.pool, seconds, <int64_t *>id_data(ids))
        gated_lower(&self.busy)
        return ids[:count].copy()

    def _save(self, np.ndarray ids not None, np.ndarray rows not None):
        """Snapshots of ids int64 [K] into uint8 [K, engine.snapshot_size]."""
        cdef int64_t n, count = np.PyArray_DIM(ids, 0)
        cdef const int64_t *members = id_data(ids)
        cdef char *bytes = check_rows(rows, count, self.engine)
        cdef size_t size = gated_snapshot_size(self.engine.model)
        cdef gated_status status = GATED_OK
        take(&self.busy, "pool")
        with nogil:
            for n in range(count):
                if status == GATED_OK:
                    status = gated_pool_save(self.pool, members[n], bytes + n * size)
        gated_lower(&self.busy)
        self._check(status, ids)

    def _restore(self, np.ndarray ids not None, np.ndarray rows not None):
        """The reverse of _save, after ``engine.check_snapshots``. All ids or none."""
        cdef int64_t n, count = np.PyArray_DIM(ids, 0)
        cdef const int64_t *members = id_data(ids)
        cdef const char *bytes = check_rows(rows, count, self.engine)
        cdef size_t size = gated_snapshot_size(self.engine.model)
        take(&self.busy, "pool")
        try:
            self._check_open(ids)
            with nogil:
                for n in range(count):
                    gated_pool_restore(self.pool, members[n], bytes + n * size)
        finally:
            gated_lower(&self.busy)

    cdef int _check(self, gated_status status, ids) except -1:
        """``check``, saying which id it was."""
        if status == GATED_POOL_FULL:
            raise RuntimeError(f"pool: expected room for {1 if ids is None else len(ids)}, "
                               f"got {len(self)} of {self.capacity} open")
        if status == GATED_UNKNOWN_ID or status == GATED_REPEATED_ID:
            self._check_open(ids)
        return check(status)

    cdef int _check_open(self, ids) except -1:
        for place, id in enumerate(ids.tolist()):
            if id not in self:
                raise ValueError(f"ids: expected members that are open, got {id} at {place}")
        seen = {}
        for place, id in enumerate(ids.tolist()):
            if seen.setdefault(id, place) != place:
                raise ValueError(f"ids: expected each member once, got {id} at {seen[id]} and {place}")
        return 0


cdef inline const int64_t *id_data(np.ndarray ids) noexcept:
    return <const int64_t *>np.PyArray_DATA(ids)


cdef inline bint is_member_array(array) noexcept:
    return (
        np.PyArray_CheckExact(array)
        and np.PyArray_TYPE(<np.ndarray>array) == np.NPY_INT64
        and np.PyArray_NDIM(<np.ndarray>array) == 1
        and PyArray_ISCARRAY_RO(<np.ndarray>array)
    )


cdef np.ndarray members(ids):
    return ids if is_member_array(ids) else checked_members("ids", ids)


cdef char *check_rows(np.ndarray rows, int64_t count, Engine engine) except NULL:
    """The last line before C: what snapshot.py must have made fit."""
    shape = (count, engine.snapshot_size)
    if rows.dtype != numpy.uint8 or not rows.flags.c_contiguous or (<object>rows).shape != shape:
        raise ValueError(f"rows: expected contiguous uint8 {shape}")
    return <char *>np.PyArray_DATA(rows)


cdef int check_snapshots(np.ndarray rows, const gated_model *model) except -1:
    if rows.dtype != numpy.uint8 or rows.ndim != 2 or not rows.flags.c_contiguous:
        raise ValueError("rows: expected contiguous uint8 [N, size]")
    cdef const char *bytes = <const char *>np.PyArray_DATA(rows)
    cdef int64_t n = 0, count = np.PyArray_DIM(rows, 0), size = np.PyArray_DIM(rows, 1)
    cdef gated_status status = GATED_OK
    with nogil:
        while n < count and status == GATED_OK:
            status = gated_snapshot_check(model, bytes + n * size, size)
            n += 1
    if status != GATED_OK:
        raise ValueError(f"row {n - 1}: {gated_status_string(status).decode()}")
    return 0


def check_intact(np.ndarray rows not None):
    """``ValueError`` unless every row of a uint8 array is a snapshot, of whatever model."""
    check_snapshots(rows, NULL)


cdef inline int take(gated_flag *busy, str what) except -1:
    if not gated_raise(busy):
        in_use(what)
    return 0


cdef int in_use(str what) except -1:
    raise RuntimeError(f"{what}: in use by another thread; a {what} belongs to one thread at a time")


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


def packing():
    """``(version, alignment)``: GATED_PACKING, and of how many bytes the place of packed weights is a multiple."""
    return GATED_PACKING, GATED_PACKED_ALIGNMENT


def abi_version():
    """GATED_ABI_VERSION of the library, which its name ends with."""
    return gated_abi_version()


def usable_threads():
    """Threads that a call may have at most, if it leaves that to the engine."""
    return gated_threads()


def openmp():
    """Name of OpenMP's runtime, which is loaded by this if it is not yet, or None."""
    cdef const char *name = gated_openmp()
    return None if name == NULL else name.decode()


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
