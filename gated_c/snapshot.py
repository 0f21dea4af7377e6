"""What live sequences keep, as a value: to go on from later, elsewhere, or twice."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gated_c._core import Engine, check_intact
from gated_c.errors import FormatError

Rows = npt.NDArray[np.uint8]


class Snapshot:
    """All that some rows keep, exactly: their state and what pools and convolutions have seen. Made by
    :meth:`gated_c.Stream.snapshot` and :meth:`gated_c.Pool.snapshot`, and the same from both.

    It fits every stream and pool of a model with the same layers, sizes and options, in any process, whatever the
    weights and the instruction set. It can be pickled, has a length, and ``snapshot[i]`` is the snapshot of some of its
    rows: those of an index, a slice, a list of indices or a bool mask. ``rows`` [N, size] uint8 are its bytes,
    read-only; ``Snapshot(rows)`` takes them back, and raises ``ValueError`` for damaged ones.
    """

    def __init__(self, rows: Any) -> None:
        array = np.asarray(rows)
        if array.dtype != np.uint8 or array.ndim != 2:
            raise ValueError(f"rows: expected uint8 (N, size), got {array.dtype} {array.shape}")
        array = np.array(array, order="C")
        check_intact(array)
        self.rows = array
        array.setflags(write=False)

    @classmethod
    def _of(cls, rows: Rows) -> Snapshot:
        """Of new rows, fresh from the core."""
        snapshot = cls.__new__(cls)
        snapshot.rows = rows
        rows.setflags(write=False)
        return snapshot

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: Any) -> Snapshot:
        chosen = np.arange(len(self))[rows]
        return Snapshot._of(self.rows[chosen.reshape(-1)])

    def __reduce__(self) -> tuple[type[Snapshot], tuple[Rows]]:
        return Snapshot, (self.rows,)

    def __repr__(self) -> str:
        return f"<gated_c.Snapshot of {len(self)} rows, {self.rows.nbytes} bytes>"

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a file, whole or not at all: the rows as a ``.npy`` array."""
        from gated_c.files import replacing

        with replacing(path) as temporary, open(temporary, "wb") as file:
            np.save(file, self.rows, allow_pickle=False)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Snapshot:
        """Read a file of :meth:`save`. Raises ``FormatError`` if it is not what was saved."""
        from gated_c import npy

        try:
            rows: Any = npy.open_array(Path(path))
            if rows.offset + rows.nbytes != os.path.getsize(path):
                raise ValueError(f"expected no bytes behind the array {rows.shape}")
            return cls(rows)
        except ValueError as error:
            raise FormatError(f"{os.fspath(path)}: {error}") from error


def checked_rows(snapshot: Any, engine: Engine, count: int) -> Rows:
    """The rows of a snapshot of ``count`` rows that fits a model; ``ValueError`` or ``TypeError`` otherwise."""
    if not isinstance(snapshot, Snapshot):
        raise TypeError(f"snapshot: expected a Snapshot, got {type(snapshot).__name__}")
    if len(snapshot) != count:
        raise ValueError(f"snapshot: expected {count} rows, got {len(snapshot)}")
    try:
        engine.check_snapshots(snapshot.rows)
    except ValueError as error:
        raise ValueError(f"snapshot: {error}") from None
    return snapshot.rows
