"""How long a call takes."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from timeit import repeat


def microseconds(call: Callable[[], object], calls: int) -> float:
    """Typical µs of a call, Python's part included: the median of 101 runs of ``calls`` calls."""
    return median(repeat(call, number=calls, repeat=101)) / calls * 1e6
