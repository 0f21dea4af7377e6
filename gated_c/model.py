"""A loaded network: checks what comes in, shapes what goes out. The arithmetic is in the core."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from operator import index
from typing import Any, TypeAlias, overload

import numpy as np
import numpy.typing as npt

from gated_c import packed
from gated_c._core import Engine, chosen_isa
from gated_c.arrays import (
    Array,
    as_float32,
    as_ids,
    checked_lengths,
    checked_output,
    checked_threads,
    with_contiguous_rows,
)
from gated_c.errors import UnsupportedError
from gated_c.layers import (
    Embedding,
    Layer,
    PlainLayer,
    Split,
    Squeeze,
    first_takes,
    gives,
    steps_after,
    validate_chain,
)
from gated_c.options import Options
from gated_c.pool import Pool
from gated_c.spec import LayerSpec
from gated_c.state import flatten_initial, flatten_state, unflatten_state
from gated_c.stream import Stream
from gated_c.trace import checked_names, empty_trace, unflatten_trace

Mask: TypeAlias = npt.NDArray[np.bool_]


class Model:
    """A chain of layers, packed for this CPU. Immutable: any number of threads may call one at once.

    Made by :func:`gated_c.load`, :func:`gated_c.from_torch` and :func:`gated_c.from_keras`, or from layers:
    ``LayerSpec`` and those of ``gated_c.layers``. Raises ``ValueError`` or ``TypeError`` for layers that do not fit.

    With ``flush_subnormals`` numbers below 1.2e-38 become 0 for the length of each call (FTZ and DAZ), so that a state
    that fades in silence costs no more than another; otherwise the calling thread's mode applies. x86 and ARM may take
    a different side of that border.

    ``dtype``, ``arithmetic`` and ``inputs`` are those of :meth:`to`: the weights are rounded as it rounds them.

    ``threads`` is what calls use that do not say: ``None`` for as many as pay for their work, up to
    ``cpu_info().threads``, or how many at most, the calling thread being one. The bits are the same for any number.
    Streams and pools stay on the calling thread, and a forked process on one.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        *,
        flush_subnormals: bool = False,
        dtype: str = "float32",
        arithmetic: str = "float32",
        inputs: str | None = None,
        threads: int | None = None,
        _packed: Mapping[str, Array] | None = None,
    ) -> None:
        if isinstance(layers, LayerSpec | PlainLayer):
            raise TypeError(f"layers: expected a list of layers, got one {type(layers).__name__}")
        self._options = Options.checked(flush_subnormals, dtype, arithmetic, inputs)
        self._threads = checked_threads(threads)
        validate_chain(layers)
        self.layers = self._options.narrow(layers)
        self.recurrent = tuple(layer for layer in self.layers if isinstance(layer, LayerSpec))
        packed_weights = _packed.get(chosen_isa()) if _packed else None
        self._engine = Engine(self.layers, self._options.flags, packed_weights)
        self._pickled: tuple[Any, ...] = (
            partial(Model, **self._options._asdict(), threads=self.threads),
            (self.layers,),
        )

    @property
    def flush_subnormals(self) -> bool:
        """Whether numbers below 1.2e-38 become 0."""
        return self._options.flush_subnormals

    @property
    def threads(self) -> int | None:
        """What calls use at most that do not say; ``None`` for as many as pay."""
        return self._threads or None

    @property
    def dtype(self) -> str:
        """Of the weights of recurrent layers: ``float32``, ``bfloat16`` or ``int8``."""
        return self._options.dtype

    @property
    def arithmetic(self) -> str:
        """Of products with bfloat16 weights: ``float32`` or ``bfloat16``."""
        return self._options.arithmetic

    @property
    def inputs(self) -> str | None:
        """Of products of x in an int8 model: ``int8``, ``float32`` or ``bfloat16``; else ``None``."""
        return self._options.inputs

    @cached_property
    def takes(self) -> str:
        """What x is: a ``sequence`` of features, ``ids`` or a ``vector``."""
        return first_takes(self.layers)

    @cached_property
    def gives(self) -> str:
        """What y is: a ``sequence`` or a ``vector``."""
        given = "vector" if self.takes == "vector" else "sequence"
        for layer in self.layers:
            given = given if isinstance(layer, Split | Squeeze) else gives(layer, given)
        return given

    @cached_property
    def squeezed(self) -> bool:
        """Whether y lacks the axis of features, of which there is one."""
        return isinstance(self.layers[-1], Squeeze)

    @cached_property
    def input_size(self) -> int:
        """C, features of x; 1 for ids."""
        return self.layers[0].input_size

    @cached_property
    def output_size(self) -> int:
        """F, features of y."""
        return self.layers[-1].output_size

    @cached_property
    def batch_first(self) -> bool:
        """Whether sequences are [N, T, C] rather than [T, N, C]. The state is the same either way."""
        return self.recurrent[0].batch_first

    @property
    def bidirectional(self) -> bool:
        return any(layer.bidirectional for layer in self.recurrent)

    @property
    def streamable(self) -> bool:
        """Whether :meth:`stream` works: no layer needs the end of the sequence first."""
        return all(layer.streamable for layer in self.layers)

    @property
    def num_parameters(self) -> int:
        return sum(layer.num_parameters for layer in self.layers)

    @property
    def packed_bytes(self) -> int:
        """Memory of the weights as the kernels read them."""
        return int(self._engine.packed_bytes)

    @property
    def isa(self) -> str:
        """The instruction set this model was packed for."""
        return str(self._engine.isa)

    @property
    def handle(self) -> object:
        """The model of the C interface, a ``gated_model *``, for code in C or Cython: a ``PyCapsule`` of the name
        ``gated_c.gated_model``. The pointer is valid, and the model unchanged, while the model or the capsule lives."""
        return self._engine.handle

    def __reduce__(self) -> tuple[Any, ...]:
        return self._pickled

    def __repr__(self) -> str:
        layers = ", ".join(repr(layer) for layer in self.layers)
        narrow = "" if self.dtype == "float32" else f" in {self._options}"
        return f"<gated_c.Model {layers}{narrow} on {self.isa}>"

    @overload
    def __call__(
        self,
        x: Any,
        state: Any = None,
        *,
        lengths: Any = None,
        mask: Any = None,
        reset: Any = None,
        initial: Any = None,
        trace: None = None,
        out: Array | None = None,
        threads: int | None = None,
    ) -> tuple[Any, Any]: ...

    @overload
    def __call__(
        self,
        x: Any,
        state: Any = None,
        *,
        lengths: Any = None,
        mask: Any = None,
        reset: Any = None,
        initial: Any = None,
        trace: Sequence[str],
        out: Array | None = None,
        threads: int | None = None,
    ) -> tuple[Any, Any, Any]: ...

    def __call__(
        self,
        x: Any,
        state: Any = None,
        *,
        lengths: Any = None,
        mask: Any = None,
        reset: Any = None,
        initial: Any = None,
        trace: Any = None,
        out: Array | None = None,
        threads: int | None = None,
    ) -> tuple[Any, ...]:
        """Run whole sequences: ``(y, state)``, or ``(y, state, trace)`` with ``trace``.

        ``x`` float32 [T,N,C], [N,T,C] if ``batch_first``, [T,C] for one sequence without a batch axis. Another dtype is
        converted to float32 by one copy, as is an array whose last axis is not contiguous. A model that begins with an
        embedding takes integer ids [T,N], [N,T] or [T]; one that takes vectors [N,C] or [C].

        ``y`` has the form of a sequence x, or is [N,F] or [F] if the model ends with a vector; no F where a ``Squeeze``
        ends it; two such arrays where a ``Split`` does.

        ``state`` is, for a model of one recurrent layer, h [L*D,N,H or P], or ``(h, c)`` with c [L*D,N,H] for LSTM,
        without N if ``x`` has none; a tuple of these for several; ``None`` is ``initial``. The returned state has the
        same form, in new arrays.

        ``lengths`` [N] ints, 0..T in any order, or ``mask`` [T,N] ([N,T] if ``batch_first``) bool, True where a step
        counts: the other steps leave the row's state alone, are not pooled, and are 0 in ``y`` (in models from Keras
        they are what Keras makes of them). The reverse direction of a row starts at its own last step.

        ``reset`` [T,N] ([N,T]) bool, True where a new sequence begins with a step, whether it counts or not: before it
        the row's state returns to ``initial``, with the bits of a call for each piece. The reverse direction begins
        anew at the end of each piece; the state returned is that of the last piece, of the reverse direction that of
        the first. Convolutions look no further back. ``initial`` is a state, of the whole batch or one without N for
        all rows; ``None`` is the learned one of the weights, or zeros. Models with a ``Pool``, ``Flip``, ``Repeat`` or
        ``Reshape`` take no ``reset``.

        ``trace``, of ``"c"`` and ``"gates"``, also returns every c, as ``trace["c"]`` [L*D,T,N,H], and gate behind its
        activation, as ``trace["gates"]`` [L*D,T,N,G,H], gates in the order i f g o and r z n ([L*D,N,T,...] if
        ``batch_first``, without N if ``x`` has none); a tuple of such dictionaries for several recurrent layers. They
        are 0 at steps that do not count.

        ``out`` takes ``y``: float32, C-contiguous, of y's shape, apart from ``x``.

        ``threads`` is how many this call uses at most, ``None`` for what the model says.

        A ``torch.nn.utils.rnn.PackedSequence`` comes back as one, with its state as tensors.

        Raises ``ValueError``, ``TypeError`` or, for ids, ``IndexError`` with what was expected and what was got,
        ``UnsupportedError`` for a layer that takes no ``reset``.
        """
        threads = self._threads if threads is None else checked_threads(threads)
        if packed.is_packed(x):
            return self._run_packed(x, state, (lengths, mask, reset, initial, trace, out), threads)
        x, unbatched = self._time_major(x)
        seq_len, batch = x.shape[:2]
        if lengths is not None and mask is not None:
            raise ValueError("lengths, mask: expected at most one of them")
        if self.takes == "vector" and not (lengths is None and mask is None):
            raise ValueError("lengths, mask: expected None for a model that takes vectors")
        if lengths is not None:
            lengths = checked_lengths(lengths, seq_len, batch)
        if mask is not None:
            mask = self._checked_mask("mask", mask, seq_len, batch, unbatched)
        if reset is not None:
            if self._looks_across:
                raise UnsupportedError(f"reset: {self._looks_across} makes one result of the steps before and after")
            reset = self._checked_mask("reset", reset, seq_len, batch, unbatched)
        if initial is not None:
            initial = flatten_initial(self.recurrent, initial, batch, unbatched)
        shown = None
        if trace is not None:
            shown = empty_trace(self.layers, checked_names(trace, self.recurrent), seq_len, batch)
        y, y_time_major = self._output(out, x, unbatched)
        flat = self._flat_state(state, initial, batch, unbatched)
        self._engine.run(x, y_time_major, flat, lengths, mask, reset, initial, shown, threads)
        final = unflatten_state(self.recurrent, flat, batch, unbatched)
        result: Any = y
        if isinstance(self.layers[-1], Split):
            half = self.output_size // 2
            result = (y[..., :half], y[..., half:])
        if shown is None:
            return result, final
        axes = {"unbatched": unbatched, "batch_first": self.batch_first}
        return result, final, unflatten_trace(self.layers, shown, seq_len, batch, **axes)

    def to(self, dtype: str, *, arithmetic: str = "float32", inputs: str | None = None, calibrate: Any = None) -> Model:
        """The model with narrower weights: ``bfloat16``, half of float32, or ``int8``, a quarter; or ``float32``.

        What becomes narrow is ``weight_ih``, ``weight_hh`` and ``weight_hr`` of recurrent layers; biases, peepholes,
        initial states and all other layers stay float32, as do x, y and the state. :attr:`layers` then hold the rounded
        numbers, and expand them to float32 whenever they are asked for. A model that is narrow already is rounded once
        more, and in ``float32`` keeps the numbers it was rounded to.

        ``bfloat16`` has 8 bits of significand. The arithmetic is that of float32, so results are, bit by bit, those of
        a float32 model with these weights. Random networks come within 2e-3 of h (root mean square, relative).
        ``arithmetic="bfloat16"`` also rounds x and h on their way into products, for CPUs that multiply bfloat16: a
        row's bits are then the same in every batch, step by step and in one call, but only on CPUs with that
        instruction. On others it is without effect.

        ``int8`` has one scale for each row of a matrix, the largest magnitude / 127. x, or what the layer before gives,
        and h become 8-bit integers on their way into products, which are exact, so bits are the same on all instruction
        sets that promise it. Random networks come within 1e-2. The scale of x is each step's own, from its largest
        value. That of h is fixed where h is bounded by 1, as in an LSTM, a GRU or a tanh RNN: a larger one, which only
        an initial state can bring, saturates. Where it has no bound (ReLU, projections, other activations) it is each
        step's own. ``inputs`` says what products of x use instead: ``float32`` or ``bfloat16`` weights, and float32
        arithmetic. Random networks then come within 3e-3, in more memory.

        ``calibrate``, an input like x of a call or a list of such inputs, fixes the scale of h everywhere: the model
        runs on it in float32, and of each direction of each layer the largest h, and 5 % more, becomes the ``h_limit``
        of its ``LayerSpec``, or 1 where that is less. An h beyond it saturates, so the data should be like what comes.
        Steps then cost less where h has no bound, and are finer where it stays far below.

        Whether a network bears narrow weights is for its own data to say. Raises ``ValueError`` for a combination that
        does not exist, and as a call does for ``calibrate``.
        """
        from gated_c.calibration import calibrated

        options = Options.checked(self.flush_subnormals, dtype, arithmetic, inputs)
        if calibrate is None and options == self._options:
            return self
        if calibrate is not None and dtype != "int8":
            raise ValueError(f"calibrate: expected None with {dtype}, got {type(calibrate).__name__}")
        layers = self.layers if calibrate is None else calibrated(self.layers, calibrate)
        return Model(layers, **options._asdict(), threads=self.threads)

    def stream(self, batch: int = 1) -> Stream:
        """Live state for ``batch`` sequences, advanced one step at a time. Raises ``ValueError`` if a layer needs the
        end of the sequence first, as a reverse direction does."""
        batch = index(batch)
        if not 1 <= batch < 2**31:
            raise ValueError(f"batch: expected 1 to {2**31 - 1}, got {batch}")
        return Stream(self._engine, batch, self.squeezed, self)

    def pool(self, capacity: int) -> Pool:
        """Room for ``capacity`` streams of one row that open, tick, fork and close independently of each other, at the
        speed of a batch. Raises ``ValueError`` as :meth:`stream` does."""
        capacity = index(capacity)
        if not 1 <= capacity < 2**31:
            raise ValueError(f"capacity: expected 1 to {2**31 - 1}, got {capacity}")
        return Pool(self._engine, capacity, self.squeezed, self)

    def save(self, path: str | os.PathLike[str], *, golden: Any = None, packed: bool = False) -> None:
        """Write a ``.gated`` file: safetensors with JSON metadata, bit-exact, opened by mapping. Narrow weights
        stay narrow.

        With ``golden``, an input like x, it also keeps that and what the model makes of it, for ``load(check=True)``.

        With ``packed`` it also keeps the weights as the kernels of :attr:`isa` read them, and is twice as large. On a
        CPU where that is the instruction set in use, models from it share these where they are mapped, in any number of
        processes, and nobody may change the file in place meanwhile; elsewhere nothing differs. Four processes with a
        model of 100 MB then have 1 MB of their own each instead of 99. They are as fast, except with weights beyond the
        L2 cache where the file system has no huge pages: at H = 1024 a step takes up to 1.2 times as long, sequences
        1.05 times.
        """
        from gated_c.golden import record

        self._write(path, {} if golden is None else record(self, golden), packed)

    def _write(self, path: str | os.PathLike[str], golden: Mapping[str, Array], packed: bool) -> None:
        """`save`, with golden vectors that are there already."""
        from gated_c.loaders import native

        weights = {self.isa: self._engine.packed} if packed else {}
        native.save(self.layers, path, golden, self._options, weights)

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of y for an x of ``shape``. Raises ``ValueError`` if x cannot have it."""
        whole = (*shape, 1) if self.takes == "ids" else tuple(shape)
        axes = 2 if self.takes == "vector" else 3
        if len(whole) not in (axes - 1, axes) or whole[-1] != self.input_size:
            raise ValueError(f"x: expected {self._forms()}, got {shape}")
        lead = whole[:-1]
        if self.takes == "vector":
            return self._y_shape(steps_after(self.layers, 1), lead)
        time = 1 if self.batch_first and len(lead) == 2 else 0
        rows = tuple(size for axis, size in enumerate(lead) if axis != time)
        return self._y_shape(steps_after(self.layers, lead[time]), rows)

    def _run_packed(self, x: Any, state: Any, others: tuple[Any, ...], threads: int) -> tuple[Any, Any]:
        if any(other is not None for other in others):
            raise ValueError("lengths, mask, reset, initial, trace, out: expected None with a PackedSequence")
        if len(self.layers) > 1:
            raise TypeError(
                "x: expected an array and lengths: only a model of one recurrent layer takes PackedSequence"
            )
        return packed.run(self._engine, self.recurrent[0], x, state, threads)

    def _flat_state(self, state: Any, initial: Array | None, batch: int, unbatched: bool) -> Array:
        if state is not None:
            return flatten_state(self.recurrent, state, batch, unbatched)
        return self._engine.initial_state(batch) if initial is None else initial.copy()

    @cached_property
    def _looks_across(self) -> str:
        """The first layer that takes all steps for one sequence, by its name; or none."""
        for layer in self.layers:
            if isinstance(layer, PlainLayer) and not layer.divisible:
                return layer.name or type(layer).__name__
        return ""

    def _time_major(self, x: Any) -> tuple[npt.NDArray[Any], bool]:
        """x as a [T,N,C] view, ids as [T,N,1], a vector as [1,N,C]; and whether it came without a batch axis."""
        x = self._checked_ids(x)[..., None] if self.takes == "ids" else as_float32("x", x)
        vector = self.takes == "vector"
        steps = () if vector else ("T",)
        if x.ndim not in (1 + len(steps), 2 + len(steps)) or x.shape[-1] != self.input_size:
            raise ValueError(f"x: expected {self._forms()}, got {x.shape[:-1] if self.takes == 'ids' else x.shape}")
        unbatched = x.ndim == 1 + len(steps)
        x = with_contiguous_rows(x)
        if unbatched:
            return x[None, None] if vector else x[:, None], True
        if vector:
            return x[None], False
        return (x.swapaxes(0, 1) if self.batch_first else x), False

    def _forms(self) -> str:
        """The shapes that x may have, for a message."""
        if self.takes == "vector":
            return f"(N, {self.input_size}) or ({self.input_size},)"
        lead = "N, T" if self.batch_first else "T, N"
        return f"({lead}) or (T,)" if self.takes == "ids" else f"({lead}, {self.input_size}) or (T, {self.input_size})"

    def _checked_ids(self, x: Any) -> npt.NDArray[np.int32]:
        ids = np.require(as_ids("x", x), np.int32, "A")
        first = self.layers[0]
        count = len(first.weight) if isinstance(first, Embedding) else 0
        if ids.size and not (ids.min() >= 0 and ids.max() < count):
            place = tuple(int(i) for i in np.argwhere((ids < 0) | (ids >= count))[0])
            raise IndexError(f"x: expected ids of 0 to {count - 1}, got {np.asarray(x)[place]} at {place}")
        return ids

    def _y_shape(self, seq_len: int, rows: tuple[int, ...]) -> tuple[int, ...]:
        """Of y with ``seq_len`` steps; ``rows`` is (N,), or () without a batch axis."""
        steps = () if self.gives == "vector" else (seq_len,)
        features = () if self.squeezed else (self.output_size,)
        return (*rows, *steps, *features) if self.batch_first else (*steps, *rows, *features)

    def _output(self, out: Array | None, x: npt.NDArray[Any], unbatched: bool) -> tuple[Array, Array]:
        """y in the caller's shape and as a [T,N,F] view."""
        seq_len, batch = x.shape[:2]
        if len(self.layers) > 1:
            seq_len = steps_after(self.layers, seq_len)
        swap = self.batch_first and not unbatched
        shape = self._y_shape(seq_len, () if unbatched else (batch,))
        if out is None:
            y = np.empty(shape, np.float32)
        else:
            y = checked_output("out", out, shape)
            if np.may_share_memory(y, x):
                raise ValueError("out: expected memory apart from x")
        if unbatched or self.squeezed or self.gives == "vector":
            full = (batch, seq_len, self.output_size) if swap else (seq_len, batch, self.output_size)
            return y, y.reshape(full).swapaxes(0, 1) if swap else y.reshape(full)
        return y, y.swapaxes(0, 1) if swap else y

    def _checked_mask(self, name: str, mask: Any, seq_len: int, batch: int, unbatched: bool) -> Mask:
        array = np.asarray(mask)
        if array.dtype.kind != "b":
            raise TypeError(f"{name}: expected bool, got {array.dtype}")
        rows = () if unbatched else (batch,)
        shape = (*rows, seq_len) if self.batch_first else (seq_len, *rows)
        if array.shape != shape:
            raise ValueError(f"{name}: expected {shape}, got {array.shape}")
        if unbatched:
            return array[:, None]
        return array.swapaxes(0, 1) if self.batch_first else array
