"""Live sequences, one step at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from gated_c._core import Engine, StreamEngine
from gated_c.arrays import Array, as_float32, as_ids, checked_output, with_contiguous_rows
from gated_c.snapshot import Snapshot, checked_rows
from gated_c.state import State, flatten_state, unflatten_state

if TYPE_CHECKING:
    from gated_c.model import Model


class Stream(StreamEngine):
    """State and scratch of ``batch`` live sequences of a model, made by :meth:`gated_c.Model.stream`.

    ``step(x, out=None)`` is one tick: x float32 [N,C], or integer ids [N], to y [N,F]. Without ``out`` it returns the
    stream's own buffer, overwritten by the next step. Once a stream exists, a step of floats allocates nothing. A pool
    gives, at every step, what the steps since the last reset come to.

    A stream belongs to one thread at a time; a second one gets a ``RuntimeError``.
    """

    def __init__(self, engine: Engine, batch: int, squeezed: bool, model: Model) -> None:
        self._model = model

    def run(self, x: Any, out: Array | None = None) -> Array:
        """T ticks at once: x [T,N,C] ([N,T,C] if ``batch_first``) to y of the same form, with the bits of T steps.

        Ids are [T,N] ([N,T]). ``out`` takes y: float32, C-contiguous, apart from ``x``. Raises as :meth:`step` does.
        """
        model = self._model
        x = as_ids("x", x)[..., None] if model.takes == "ids" else as_float32("x", x)
        batch_first = model.batch_first
        seq_len = x.shape[1 if batch_first else 0] if x.ndim == 3 else 0
        lead = (self.batch, seq_len) if batch_first else (seq_len, self.batch)
        if x.shape != (*lead, model.input_size):
            known = f"{self.batch}, T" if batch_first else f"T, {self.batch}"
            features = "" if model.takes == "ids" else f", {model.input_size}"
            got = x.shape[:-1] if model.takes == "ids" else x.shape
            raise ValueError(f"x: expected ({known}{features}), got {got}")
        x = with_contiguous_rows(x)
        shape = lead if model.squeezed else (*lead, model.output_size)
        y = np.empty(shape, np.float32) if out is None else checked_output("out", out, shape)
        if np.may_share_memory(x, y):
            raise ValueError("out: expected memory apart from x")
        full = y[..., None] if model.squeezed else y
        if batch_first:
            self._run_steps(x.swapaxes(0, 1), full.swapaxes(0, 1))
        else:
            self._run_steps(x, full)
        return y

    @property
    def state(self) -> State:
        """The state in the form of :meth:`Model.__call__`: a copy. Assign one to continue from it; what pools and
        convolutions have seen is not part of it and starts anew."""
        flat = np.empty(self.engine.state_size(self.batch), np.float32)
        self._read_state(flat)
        return unflatten_state(self._model.recurrent, flat, self.batch, unbatched=False)

    @state.setter
    def state(self, state: State) -> None:
        flat = flatten_state(self._model.recurrent, state, self.batch, unbatched=False)
        self._reset(np.ones(self.batch, np.uint8))
        self._write_state(flat)

    def snapshot(self) -> Snapshot:
        """All that the rows keep, exactly: the state and what pools and convolutions have seen."""
        rows = np.empty((self.batch, self.engine.snapshot_size), np.uint8)
        self._save(rows)
        return Snapshot._of(rows)

    def restore(self, snapshot: Snapshot) -> None:
        """Go on from a snapshot of ``batch`` rows, taken from any stream or pool of a model with the same layers, sizes
        and options. Raises ``ValueError`` or ``TypeError``, and then changes nothing."""
        self._restore(checked_rows(snapshot, self.engine, self.batch))

    def fork(self) -> Stream:
        """A new stream of the same model that goes on from here."""
        return _restored(self._model, self.snapshot())

    def __reduce__(self) -> tuple[Callable[[Model, Snapshot], Stream], tuple[Model, Snapshot]]:
        """A pickle carries the model; that of a snapshot does not."""
        return _restored, (self._model, self.snapshot())

    def reset(self, rows: Any = None) -> None:
        """Back to the start: every row, or those of an index, a list of indices or a bool mask [N]. Raises
        ``IndexError`` or ``ValueError``, and then changes nothing."""
        if np.ndim(rows) > 1:
            raise ValueError(
                f"rows: expected an index, a list of them or a bool mask ({self.batch},), got {np.shape(rows)}"
            )
        chosen = np.zeros(self.batch, np.uint8)
        chosen[slice(None) if rows is None else rows] = 1
        self._reset(chosen)


def _restored(model: Model, snapshot: Snapshot) -> Stream:
    stream = model.stream(len(snapshot))
    stream.restore(snapshot)
    return stream
