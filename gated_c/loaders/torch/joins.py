"""Parts of one layer's features brought together, such as both directions of a recurrent layer.

Anything else that takes two tensors is a branch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from typing import Any

from gated_c.errors import UnsupportedError
from gated_c.layers import Layer, Merge, Pool
from gated_c.loaders.torch.flow import Flow

BRANCH = "joins two paths; expected one path from layer to layer"


def cat(tensors: Sequence[Any], dim: int = 0) -> Flow:
    """Features of one layer side by side, in the order that they have in it."""
    joined: Flow = reduce(lambda a, b: _beside(a, b, dim), tensors)
    return joined


def _beside(a: Any, b: Any, dim: int) -> Flow:
    if not (isinstance(a, Flow) and isinstance(b, Flow) and a.width and b.width):
        raise UnsupportedError(BRANCH)
    at = a.index(dim)
    (start, middle), (next_start, stop) = a.cut or (0, a.width), b.cut or (0, b.width)
    cut = None if (start, stop) == (0, a.width) else (start, stop)
    layers = _side_by_side(a, b, is_whole=cut is None)
    if layers is None or a.axes != b.axes or a.axes[at] != a.feature:
        raise UnsupportedError(BRANCH)
    if middle != next_start:
        raise UnsupportedError("joins features of one layer in another order than its own")
    return replace(a, layers=layers, cut=cut).replaced(at, ("F",))


def _side_by_side(a: Flow, b: Flow, is_whole: bool) -> tuple[Layer, ...] | None:
    """The layers of both. One may have pooled the last steps of what the other pooled the first of."""
    if a.layers == b.layers:
        return a.layers
    *before, pool = a.layers or (None,)
    *other_before, other = b.layers or (None,)
    if not (isinstance(pool, Pool) and isinstance(other, Pool)) or before != other_before:
        return None
    if (pool.kind, pool.reverse_size) == (other.kind, other.reverse_size):
        return a.layers
    if (pool.kind, other.kind) == ("last", "first") and is_whole:
        return (*a.layers[:-1], replace(pool, kind="final", reverse_size=b.size or 0))
    return None


def merge(a: Flow, b: Flow, mode: str) -> Flow:
    """The sum or product of the two halves of one layer's features."""
    half = (a.width or 0) // 2
    if a.layers != b.layers or a.axes != b.axes or {a.cut, b.cut} != {(0, half), (half, a.width)}:
        raise UnsupportedError(BRANCH)
    return replace(a, cut=None).then(Merge(size=half, mode=mode))
