"""PyTorch's views of a tensor: what only moves, merges, splits, drops or picks axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import Any

from gated_c.errors import UnsupportedError
from gated_c.layers import Repeat, Reshape
from gated_c.loaders.torch.flow import Extent, Flow


def sizes_of(given: Sequence[Any]) -> list[Any]:
    """Sizes or axes that may have been given as one sequence."""
    return list(given[0]) if len(given) == 1 and isinstance(given[0], tuple | list) else list(given)


def permute(x: Flow, *dims: Any) -> Flow:
    order = [x.index(dim) for dim in sizes_of(dims)]
    if sorted(order) != list(range(len(x.axes))):
        raise UnsupportedError(f"order {order} of {x}")
    return x.with_axes(*(x.axes[at] for at in order))


def transpose(x: Flow, dim0: int, dim1: int) -> Flow:
    axes = list(x.axes)
    a, b = x.index(dim0), x.index(dim1)
    axes[a], axes[b] = axes[b], axes[a]
    return x.with_axes(*axes)


def squeeze(x: Flow, dim: Any = None) -> Flow:
    """Rows and steps count as more than one."""
    dims = range(len(x.axes)) if dim is None else [x.index(d) for d in sizes_of([dim])]
    return x.with_axes(*(axis for at, axis in enumerate(x.axes) if axis or at not in dims))


def unsqueeze(x: Flow, dim: int) -> Flow:
    at = dim if dim >= 0 else dim + len(x.axes) + 1
    return x.with_axes(*x.axes[:at], (), *x.axes[at:])


def flatten(x: Flow, start_dim: int = 0, end_dim: int = -1) -> Flow:
    start, end = x.index(start_dim), x.index(end_dim)
    merged = tuple(letter for axis in x.axes[start : end + 1] for letter in axis)
    return x.with_axes(*x.axes[:start], merged, *x.axes[end + 1 :])


def unflatten(x: Flow, dim: int, sizes: Sequence[int | Extent]) -> Flow:
    at = x.index(dim)
    return reshape(x, [*x.shape[:at], *sizes, *x.shape[at + 1 :]])


def reshape(x: Flow, *shape: Any) -> Flow:
    """The letters in their order, divided into other axes."""
    sizes = [Extent.of(size) for size in sizes_of(shape)]
    for divide in (_divided, _divided_by_numbers, _divided_as_told):
        divided = divide(x, sizes)
        if divided is not None:
            return divided
    listed = ", ".join(map(str, sizes))
    raise UnsupportedError(f"{x} as ({listed}): expected axes of rows, steps and features")


def _divided(x: Flow, sizes: Sequence[Extent]) -> Flow | None:
    given = prod((size for size in sizes if not _is_rest(size)), start=Extent(()))
    rest = x.extent(x.letters).over(given)
    letters, axes = x.letters, []
    for size in (rest if _is_rest(size) else size for size in sizes):
        if size is None:
            return None
        count = next((n for n in range(len(letters) + 1) if x.extent(letters[:n]).same(size)), None)
        if count is None and letters[:1] == ("F",) and x.parts == 1 and x.extent(("F",)).over(size):
            x, letters, count = replace(x, parts=size.factor), ("D", "H", *letters[1:]), 1
        if count is None:
            return None
        axes.append(letters[:count])
        letters = letters[count:]
    return None if letters else x.with_axes(*axes)


def _is_rest(size: Extent) -> bool:
    return size.factor == -1


def _divided_by_numbers(x: Flow, sizes: Sequence[Extent]) -> Flow | None:
    """Where the code says how many steps there are: (N, steps, features) of a sequence or of a vector, and (N, steps *
    features) of a sequence."""
    rows, *numbers = sizes
    if not (_is_rest(rows) or rows.letters == ["N"]) or any(size.letters for size in numbers):
        return None
    counts = [size.factor for size in numbers]
    if x.holds("N", "T", "F") and len(counts) == 2 and counts[1] in (x.size or counts[1], -1):
        return _regrouped(x, counts[0], counts[0], x.size or counts[1])
    if x.holds("N", "T", "F") and len(counts) == 1 and x.size and counts[0] % x.size == 0:
        return _regrouped(x, counts[0] // x.size, 0, counts[0])
    if x.holds("N", "F") and x.size is None and len(counts) == 2:
        return _regrouped(x, 0, *counts)
    return None


def _divided_as_told(x: Flow, sizes: Sequence[Extent]) -> Flow | None:
    """Where nothing but this tells how many features x has."""
    last = sizes[-1]
    if x.size is not None or x.axes[-1] != ("F",) or last.letters or last.factor < 2:
        return None
    return _divided(x.sized(last.factor), sizes)


def _regrouped(x: Flow, from_steps: int, steps: int, size: int) -> Flow | None:
    input_size = max(steps, 1) * size // max(from_steps, 1)
    if min(input_size, size, steps + 1, from_steps + 1) < 1:
        return None
    x = x.then(Reshape(from_steps, input_size, steps, size))
    return x.with_axes(("N",), *((("T",),) if steps else ()), x.feature)


def repeat(x: Flow, *counts: Any) -> Flow:
    """Of an axis of size 1: a vector as so many steps."""
    given = sizes_of(counts)
    x = x.with_axes(*((),) * (len(given) - len(x.axes)), *x.axes)
    return _widened(x, given)


def expand(x: Flow, *shape: Any) -> Flow:
    given = [Extent.of(size) for size in sizes_of(shape)]
    x = x.with_axes(*((),) * (len(given) - len(x.axes)), *x.axes)
    kept = [_is_rest(size) or size.same(x.extent(axis)) for size, axis in zip(given, x.axes, strict=False)]
    return _widened(x, [1 if keep else size for size, keep in zip(given, kept, strict=True)])


def _widened(x: Flow, counts: Sequence[Any]) -> Flow:
    """So many times each axis."""
    if len(counts) != len(x.axes):
        raise UnsupportedError(f"repeats {x} {len(counts)} times")
    for at, count in enumerate(map(Extent.of, counts)):
        if count.same(Extent(())):
            continue
        if x.axes[at] or "T" in x.letters or count.letters or not x.size or count.factor < 1:
            raise UnsupportedError(f"repeats {x} {count} times; expected a vector, as a number of steps")
        x = x.then(Repeat(size=x.size, steps=count.factor)).replaced(at, ("T",))
    return x


def getitem(x: Flow, key: Any) -> Flow:
    keys = list(key) if isinstance(key, tuple) else [key]
    if Ellipsis in keys:
        at = keys.index(Ellipsis)
        named = sum(k is not None for k in keys) - 1
        keys[at : at + 1] = [slice(None)] * (len(x.axes) - named)
    dim = 0
    for k in keys:
        if k is None:
            x = unsqueeze(x, dim)
        elif isinstance(k, slice):
            x = narrow(x, dim, k)
        else:
            x = select(x, dim, k)
            continue
        dim += 1
    return x


def select(x: Flow, dim: int, index: Any) -> Flow:
    at = x.index(dim)
    axis = x.axes[at]
    count = x.extent(axis)
    if axis == ("T",) and type(index) is int and index in (0, -1):
        return x.pooled(at, "last" if index else "first")
    if count.letters or type(index) is not int or "H" in axis or not -count.factor <= index < count.factor:
        raise UnsupportedError(f"takes [{index}] of axis {at} of {x}")
    index %= count.factor
    if axis[:1] == ("L",):
        parts = count.factor // x.stack
        if index < count.factor - parts:
            raise UnsupportedError(f"takes the final state of layer {index // parts} of {x.stack}; expected the last")
        x, axis, index = replace(x, stack=1), axis[1:], index % parts
    if axis in (("D",), ("F",)):
        width = (x.size or 0) // x.parts if axis == ("D",) else 1
        x = replace(features(x, index * width, (index + 1) * width), parts=1)
    return x.replaced(at)


def narrow(x: Flow, dim: int, part: slice) -> Flow:
    at = x.index(dim)
    axis = x.axes[at]
    count = x.extent(axis)
    start, stop = part.start or 0, part.stop
    if isinstance(stop, Extent) and stop.same(count):
        stop = None
    if isinstance(stop, Extent) and stop.same(Extent("T")) and axis == ("T",) and not x.steps_added[0]:
        stop = -x.steps_added[1]
    if part.step in (None, 1) and type(start) is int and (stop is None or type(stop) is int):
        if (start, stop) == (0, None):
            return x
        if axis == ("T",) and x.steps_added[1] and (start, stop) == (0, -x.steps_added[1]):
            return replace(x, steps_added=(x.steps_added[0], 0))
        if axis == ("T",) and (start, stop) in ((0, 1), (-1, None)):
            return x.pooled(at, "last" if start else "first", ())
        if not count.letters:
            return _narrowed(x, at, *slice(start, stop).indices(count.factor)[:2])
    raise UnsupportedError(f"takes some of axis {at} of {x}")


def _narrowed(x: Flow, at: int, start: int, stop: int) -> Flow:
    axis = x.axes[at]
    count = x.extent(axis).factor
    if (start, stop) == (0, count):
        return x
    if axis == ("F",) and start < stop:
        x = features(x, start, stop)
        return x.replaced(at, x.feature)
    if axis[:1] == ("L",) and (start, stop) == (count - count // x.stack, count):
        return x.replaced(at, axis[1:], stack=1)
    raise UnsupportedError(f"takes [{start}:{stop}] of axis {at} of {x}")


def features(x: Flow, start: int, stop: int) -> Flow:
    """Some of the features; the axes stay."""
    offset = x.cut[0] if x.cut else 0
    cut = (offset + start, offset + stop)
    return replace(x, cut=None if cut == (0, x.width) else cut)


def split(x: Flow, split_size: Any, dim: int = 0) -> list[Flow]:
    at = x.index(dim)
    size = x.size or 0
    sizes = [split_size] * -(-size // split_size) if isinstance(split_size, int) else list(split_size)
    if x.axes[at] != ("F",) or not size or any(type(n) is not int for n in sizes):
        raise UnsupportedError(f"splits axis {at} of {x}; expected the features")
    starts = [sum(sizes[:n]) for n in range(len(sizes))]
    return [_narrowed(x, at, start, min(start + n, size)) for start, n in zip(starts, sizes, strict=True)]


def chunk(x: Flow, chunks: int, dim: int = 0) -> list[Flow]:
    return split(x, -(-(x.size or 0) // chunks) or 1, dim)
