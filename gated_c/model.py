"""A loaded network: checks what comes in, shapes what goes out. The arithmetic is in the core."""

from __future__ import annotations

import os
from collections.abc import Sequence
from operator import index
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from gated_c import packed
from gated_c._core import Engine
from gated_c.arrays import Array, as_float32, checked_output, with_contiguous_rows
from gated_c.spec import LayerSpec
from gated_c.state import flatten_state, unflatten_state, zero_state
from gated_c.stream import Stream

Mask: TypeAlias = npt.NDArray[np.bool_]


class Model:
    """A stack of recurrent layers, packed for this CPU. Immutable: any number of threads may call one at once.

    Made by :func:`gated_c.load` and :func:`gated_c.from_torch`, or from a ``LayerSpec``.
    """

    def __init__(self, layers: Sequence[LayerSpec]) -> None:
        if len(layers) != 1:
            raise ValueError(f"layers: expected one recurrent module, got {len(layers)}")
        for layer in layers:
            layer.validate()
        self.layers = tuple(layers)
        self._engine = Engine(self.layers)

    @property
    def input_size(self) -> int:
        """C, features of x."""
        return self.layers[0].input_size

    @property
    def output_size(self) -> int:
        """Features of y: D * H, or D * P with a projection."""
        return self.layers[-1].output_size

    @property
    def batch_first(self) -> bool:
        """Whether x and y are [N, T, C] rather than [T, N, C]. The state is the same either way."""
        return self.layers[0].batch_first

    @property
    def bidirectional(self) -> bool:
        return any(layer.bidirectional for layer in self.layers)

    @property
    def streamable(self) -> bool:
        """Whether :meth:`stream` works: no direction starts at the end of the sequence."""
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

    def __reduce__(self) -> tuple[type[Model], tuple[tuple[LayerSpec, ...]]]:
        return Model, (self.layers,)

    def __repr__(self) -> str:
        layers = ", ".join(repr(layer) for layer in self.layers)
        return f"<gated_c.Model {layers} on {self.isa}>"

    def __call__(
        self,
        x: Any,
        state: Any = None,
        *,
        lengths: Any = None,
        mask: Any = None,
        out: Array | None = None,
    ) -> tuple[Any, Any]:
        """Run whole sequences: ``(y, state)``.

        ``x`` float32 [T,N,C], [N,T,C] if ``batch_first``, [T,C] for one sequence without a batch axis. Another dtype is
        converted to float32 by one copy, as is an array whose last axis is not contiguous.

        ``state`` is h [L*D,N,H or P], or ``(h, c)`` with c [L*D,N,H] for LSTM, without N if ``x`` has none; ``None`` is
        zeros. The returned state has the same form, in new arrays.

        ``lengths`` [N] ints, 0..T in any order, or ``mask`` [T,N] ([N,T] if ``batch_first``) bool, True where a step
        counts: the other steps are not computed, leave the row's state alone and are 0 in ``y``. The reverse direction
        of a row starts at its own last step.

        ``out`` takes ``y``: float32, C-contiguous, of y's shape, apart from ``x``.

        A ``torch.nn.utils.rnn.PackedSequence`` comes back as one, with its state as tensors.

        Raises ``ValueError`` or ``TypeError`` with what was expected and what was got.
        """
        if packed.is_packed(x):
            if lengths is not None or mask is not None or out is not None:
                raise ValueError("lengths, mask, out: expected None with a PackedSequence")
            return packed.run(self._engine, self.layers[0], x, state)
        x, unbatched = self._time_major(x)
        seq_len, batch = x.shape[:2]
        if lengths is not None and mask is not None:
            raise ValueError("lengths, mask: expected at most one of them")
        if lengths is not None:
            lengths = self._checked_lengths(lengths, seq_len, batch)
        if mask is not None:
            mask = self._checked_mask(mask, seq_len, batch, unbatched)
        y, y_time_major = self._output(out, x, unbatched)
        layer = self.layers[0]
        flat = zero_state(self._engine, batch) if state is None else flatten_state(layer, state, batch, unbatched)
        self._engine.run(x, y_time_major, flat, lengths, mask)
        return y, unflatten_state(layer, flat, batch, unbatched)

    def stream(self, batch: int = 1) -> Stream:
        """Live state for ``batch`` sequences, advanced one step at a time. Raises ``ValueError`` for a bidirectional
        model: its reverse direction starts at the end of the sequence, which a stream has not seen."""
        batch = index(batch)
        if not 1 <= batch < 2**31:
            raise ValueError(f"batch: expected 1 to {2**31 - 1}, got {batch}")
        return Stream(self._engine, batch, self.layers[0])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a ``.gated`` file: safetensors with JSON metadata, bit-exact, opened by mapping."""
        from gated_c.loaders import native

        native.save(self.layers, path)

    def _time_major(self, x: Any) -> tuple[Array, bool]:
        """x as a [T,N,C] view, and whether it came without a batch axis."""
        x = as_float32("x", x)
        shape = ("N", "T") if self.batch_first else ("T", "N")
        if x.ndim not in (2, 3) or x.shape[-1] != self.input_size:
            expected = f"({', '.join(shape)}, {self.input_size}) or (T, {self.input_size})"
            raise ValueError(f"x: expected {expected}, got {x.shape}")
        x = with_contiguous_rows(x)
        if x.ndim == 2:
            return x[:, None], True
        return (x.swapaxes(0, 1) if self.batch_first else x), False

    def _output(self, out: Array | None, x: Array, unbatched: bool) -> tuple[Array, Array]:
        """y in the caller's shape and as a [T,N,D*H] view."""
        seq_len, batch = x.shape[:2]
        swap = self.batch_first and not unbatched
        rows = () if unbatched else (batch,)
        shape = (*rows, seq_len, self.output_size) if swap else (seq_len, *rows, self.output_size)
        if out is None:
            y = np.empty(shape, np.float32)
        else:
            y = checked_output("out", out, shape)
            if np.may_share_memory(y, x):
                raise ValueError("out: expected memory apart from x")
        if unbatched:
            return y, y[:, None]
        return y, y.swapaxes(0, 1) if swap else y

    @staticmethod
    def _checked_lengths(lengths: Any, seq_len: int, batch: int) -> npt.NDArray[np.int64]:
        array = np.asarray(lengths)
        if array.dtype.kind not in "iu" and array.size:
            raise TypeError(f"lengths: expected integers, got {array.dtype}")
        if array.shape != (batch,):
            raise ValueError(f"lengths: expected ({batch},), got {array.shape}")
        wrong = np.flatnonzero((array < 0) | (array > seq_len))
        if wrong.size:
            raise ValueError(f"lengths: expected 0 to {seq_len}, got {array[wrong[0]]} in row {wrong[0]}")
        return np.require(array, np.int64, ["C", "A"])

    def _checked_mask(self, mask: Any, seq_len: int, batch: int, unbatched: bool) -> Mask:
        array = np.asarray(mask)
        if array.dtype != np.bool_:
            raise TypeError(f"mask: expected bool, got {array.dtype}")
        rows = () if unbatched else (batch,)
        shape = (*rows, seq_len) if self.batch_first else (seq_len, *rows)
        if array.shape != shape:
            raise ValueError(f"mask: expected {shape}, got {array.shape}")
        if unbatched:
            return array[:, None]
        return array.swapaxes(0, 1) if self.batch_first else array
