"""Live sequences, one step at a time."""

from __future__ import annotations

from typing import Any

import numpy as np

from gated_c._core import Engine, StreamEngine
from gated_c.arrays import Array, as_float32, checked_output, with_contiguous_rows
from gated_c.spec import LayerSpec
from gated_c.state import State, flatten_state, unflatten_state, zero_state


class Stream(StreamEngine):
    """State and scratch of ``batch`` live sequences of a model, made by :meth:`gated_c.Model.stream`.

    ``step(x, out=None)`` is one tick: x float32 [N,C] to y [N, H or P]. Without ``out`` it returns the stream's own
    buffer, overwritten by the next step. Once a stream exists, a step allocates nothing.

    A stream belongs to one thread at a time; a second one gets a ``RuntimeError``.
    """

    def __init__(self, engine: Engine, batch: int, layer: LayerSpec) -> None:
        self._layer = layer

    def run(self, x: Any, out: Array | None = None) -> Array:
        """T ticks at once: x [T,N,C] ([N,T,C] if ``batch_first``) to y of the same form, with the bits of T steps.

        ``out`` takes y: float32, C-contiguous, apart from ``x``. Raises as :meth:`step` does.
        """
        x = as_float32("x", x)
        batch_first = self._layer.batch_first
        seq_len = x.shape[1 if batch_first else 0] if x.ndim == 3 else 0
        lead = (self.batch, seq_len) if batch_first else (seq_len, self.batch)
        if x.shape != (*lead, self._layer.input_size):
            known = f"{self.batch}, T" if batch_first else f"T, {self.batch}"
            raise ValueError(f"x: expected ({known}, {self._layer.input_size}), got {x.shape}")
        x = with_contiguous_rows(x)
        shape = (*lead, self._layer.output_size)
        y = np.empty(shape, np.float32) if out is None else checked_output("out", out, shape)
        if np.may_share_memory(x, y):
            raise ValueError("out: expected memory apart from x")
        if batch_first:
            self._run_steps(x.swapaxes(0, 1), y.swapaxes(0, 1))
        else:
            self._run_steps(x, y)
        return y

    @property
    def state(self) -> State:
        """h [L,N,H or P], or ``(h, c)`` with c [L,N,H] for LSTM: a copy. Assign one to continue from it."""
        flat = zero_state(self.engine, self.batch)
        self._read_state(flat)
        return unflatten_state(self._layer, flat, self.batch, unbatched=False)

    @state.setter
    def state(self, state: State) -> None:
        self._write_state(flatten_state(self._layer, state, self.batch, unbatched=False))

    def reset(self, rows: Any = None) -> None:
        """Back to zeros: every row, or those of an index, a list of indices or a bool mask [N]."""
        flat = zero_state(self.engine, self.batch)
        if np.ndim(rows) > 1:
            raise ValueError(
                f"rows: expected an index, a list of them or a bool mask ({self.batch},), got {np.shape(rows)}"
            )
        if rows is not None:
            self._read_state(flat)
            state = unflatten_state(self._layer, flat, self.batch, unbatched=False)
            for part in state if isinstance(state, tuple) else (state,):
                part[:, rows] = 0
        self._write_state(flat)
