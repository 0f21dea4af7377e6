"""Live sequences that come and go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import numpy.typing as npt

from gated_c._core import Engine, PoolEngine
from gated_c.arrays import checked_members
from gated_c.snapshot import Snapshot, checked_rows

if TYPE_CHECKING:
    from gated_c.model import Model

Ids = npt.NDArray[np.int64]


class Pool(PoolEngine):
    """Up to ``capacity`` streams of one row, made by :meth:`gated_c.Model.pool`.

    ``open()`` gives an id, ``step(ids, x, out=None)`` is one tick of any of them, ``close(ids)`` makes room. Those that
    tick together cost what a batch of as many rows does, and each has the bits of a stream of its own. An id is an int
    of 63 bits and stays that of one member: closed, or in another pool, it is a ``ValueError``. ``len(pool)`` is how
    many are open, ``id in pool`` whether one is.

    A pool belongs to one thread at a time; a second one gets a ``RuntimeError``.
    """

    def __init__(self, engine: Engine, capacity: int, squeezed: bool, model: Model) -> None:
        self._model = model

    @property
    def ids(self) -> Ids:
        """All that are open, int64, in no order."""
        return self._idle(0)

    def idle(self, seconds: float) -> Ids:
        """The ids that have neither ticked nor been opened for so many seconds, to a hundredth or so; to find the
        forgotten. Raises ``ValueError`` for a negative number."""
        if not seconds >= 0:
            raise ValueError(f"seconds: expected 0 or more, got {seconds}")
        return self._idle(seconds)

    def fork(self, ids: Any) -> Any:
        """New members that go on from where others are: an id for an id, int64 [K] for several, which may repeat. All
        or none: ``RuntimeError`` if there is no room, else raises as :meth:`step` does."""
        forks = self._fork(checked_members("ids", ids))
        return int(forks[0]) if np.ndim(ids) == 0 else forks

    def snapshot(self, ids: Any) -> Snapshot:
        """All that an id or several keep, exactly; see :class:`gated_c.Snapshot`. Raises as :meth:`step` does."""
        members = checked_members("ids", ids)
        rows = np.empty((len(members), self.engine.snapshot_size), np.uint8)
        self._save(members, rows)
        return Snapshot._of(rows)

    def restore(self, ids: Any, snapshot: Snapshot) -> None:
        """Let an id or several go on from the rows of a snapshot, taken from any stream or pool of a model with the
        same layers, sizes and options. Raises ``ValueError`` or ``TypeError``, and then changes nothing."""
        members = checked_members("ids", ids)
        self._restore(members, checked_rows(snapshot, self.engine, len(members)))

    def __reduce__(self) -> NoReturn:
        raise TypeError("a pool cannot be pickled, as ids are those of one pool: pickle pool.snapshot(ids)")

    def __repr__(self) -> str:
        return f"<gated_c.Pool {len(self)} of {self.capacity} open>"
