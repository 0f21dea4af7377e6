"""Operators that join and take parts, of constants, sizes and features alike; of steps all, the first or the last."""

from __future__ import annotations

from typing import Any

import numpy as np

from gated_c.errors import FormatError, UnsupportedError
from gated_c.layers import Flip
from gated_c.loaders.onnx.call import Call, WrongOrder, checked_axis, checked_size
from gated_c.loaders.onnx.values import SIGNAL, Rows, Value, is_number, without_axes

#: Beyond this an end of a slice means "to the end", whatever the size: exporters write the largest integer they have.
_ENDLESS = 2**31 - 1
_MAX_NDIM = 16

#: Attributes of ReverseSequence and their defaults.
_SEQUENCE_AXES = (("time_axis", 0), ("batch_axis", 1))


def concat(call: Call) -> Value:
    values = [call.value(at) for at in range(len(call.inputs))]
    if not values:
        raise FormatError("expected inputs")
    axis = call.axis(0, values[0])
    if len({value.kind for value in values}) > 1:
        raise UnsupportedError("a branch: joins features with a constant")
    if len({value.rows for value in values}) > 1 or values[0].rows[axis]:
        raise UnsupportedError("a branch: joins steps or rows, or different axes of them")
    call.network.spend(sum(value.array.nbytes for value in values))
    return values[0].with_array(np.concatenate([value.array for value in values], axis))


def split(call: Call) -> tuple[Value, ...]:
    value, sizes = call.value(0), call.integers("split", 1)
    axis, count = call.axis(0, value), len(call.node.outputs)
    total = value.array.shape[axis]
    if value.rows[axis]:
        raise UnsupportedError("splits an axis of steps or of rows")
    if sizes is None:
        each = -(-total // max(1, count))
        sizes = [max(0, min(each, total - n * each)) for n in range(count)]
    ends = np.cumsum([checked_size(one) for one in sizes])
    if len(sizes) != count or ends[-1] != total:
        raise FormatError(f"split: expected {count} sizes of {total} in all, got {sizes}")
    return tuple(value.with_array(part) for part in np.split(value.array, ends[:-1], axis))


def slice_(call: Call) -> Value:
    value = call.value(0)
    starts, ends = call.integers("starts", 1), call.integers("ends", 2)
    if starts is None or ends is None:
        raise FormatError("starts, ends: expected both")
    axes, steps = call.integers("axes", 3), call.integers("steps", 4)
    axes = list(range(len(starts))) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    if not len(starts) == len(ends) == len(axes) == len(steps):
        raise FormatError("starts, ends, axes, steps: expected equally many")
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        value = _sliced(call, value, checked_axis(int(axis), value), start, end, step)
    return value


def _sliced(call: Call, value: Value, axis: int, start: Any, end: Any, step: Any) -> Value:
    if value.rows[axis]:
        return _rows_sliced(call, value, axis, start, end, step)
    start, end, step = int(start), int(end), int(step)
    if step == 0:
        raise FormatError("steps: expected another than 0")
    total = value.array.shape[axis]
    least, most = (0, total) if step > 0 else (-1, total - 1)
    first, stop = (max(least, min(most, at + total if at < 0 else at)) for at in (start, end))
    part = slice(max(first, 0), None if stop < 0 else stop, step)
    return value.with_array(value.array[(slice(None),) * axis + (part,)])


def _rows_sliced(call: Call, value: Value, axis: int, start: Any, end: Any, step: Any) -> Value:
    """Of steps all, all backwards, the first or the last; of rows all."""
    whole = value.sizes(call.network.sizes)[axis]
    last = whole.size - 1 if whole.size else None
    to_end = end == whole or (not isinstance(end, Rows) and end >= _ENDLESS) or (last is not None and end > last)
    from_last = start in (-1, last) or (not isinstance(start, Rows) and start >= _ENDLESS)
    if step == 1 and is_number(start, 0) and to_end:
        return value
    if value.rows[axis] == "T" and value.kind == SIGNAL:
        if step == -1 and from_last and not isinstance(end, Rows) and end <= -_ENDLESS:
            return _flipped(call, value)
        if step == 1 and start in (-1, last) and to_end:
            return call.pooled(value, axis, "last")
        if step == 1 and is_number(start, 0) and is_number(end, 1):
            return call.pooled(value, axis, "first")
    what = "steps other than all, the first or the last" if "T" in value.rows[axis] else "rows other than all"
    raise UnsupportedError(what)


def reverse_sequence(call: Call) -> Value:
    """Of sequences that are all of the full length."""
    value, lengths = call.signal(), call.value(1)
    time, rows = (checked_axis(call.node.integer(name, default), value) for name, default in _SEQUENCE_AXES)
    if "N" in value.rows[time] or "T" in value.rows[rows]:
        raise WrongOrder("takes steps for rows of the batch, or the opposite")
    if value.rows[time] != "T" or not call.are_full(lengths):
        raise UnsupportedError("other than all steps")
    return _flipped(call, value)


def _flipped(call: Call, value: Value) -> Value:
    source, local = call.path.only(value.array)
    if source.masked:
        raise UnsupportedError("time back to front after sequence_lens")
    flip = call.path.append(source, Flip(source.size, name=call.node.name))
    return call.mapped(value, flip, local)


def gather(call: Call) -> Value:
    """By constant indices; by those that are x, see the Embedding."""
    value, indices = call.value(0), call.constant(1)
    axis = call.axis(0, value)
    if indices is None:
        raise FormatError("indices: missing")
    call.network.spend(8 * indices.size)
    if value.rows[axis]:
        return _rows_gathered(call, value, axis, indices.tolist(), indices.ndim)
    if indices.dtype.kind not in "iuO":
        raise FormatError(f"indices: expected integers, got {indices.dtype}")
    indices = indices.astype(np.int64)
    if indices.ndim + value.array.ndim > _MAX_NDIM:
        raise FormatError("too many dimensions")
    call.network.spend(value.array.nbytes // max(1, value.array.shape[axis]) * indices.size)
    rows = value.rows[:axis] + ("",) * indices.ndim + value.rows[axis + 1 :]
    return Value(value.kind, np.asarray(np.take(value.array, indices, axis), value.array.dtype), rows)


def _rows_gathered(call: Call, value: Value, axis: int, index: Any, ndim: int) -> Value:
    if ndim == 1 and len(index) == 1:
        return _expanded_at(_rows_gathered(call, value, axis, index[0], 0), axis)
    size = value.sizes(call.network.sizes)[axis].size
    if ndim == 0 and value.rows[axis] == "T" and (index == -1 or (size and index == size - 1)):
        return without_axes(call.pooled(value, axis, "last"), {axis})
    if ndim == 0 and value.rows[axis] == "T" and is_number(index, 0):
        return without_axes(call.pooled(value, axis, "first"), {axis})
    if ndim == 0 and value.rows[axis] == "N" and size == 1 and index in (0, -1):
        return without_axes(value, {axis})
    if "N" in value.rows[axis]:
        raise WrongOrder("takes rows of the batch")
    raise UnsupportedError("takes steps other than the first or the last")


def _expanded_at(value: Value, axis: int) -> Value:
    return Value(value.kind, np.expand_dims(value.array, axis), (*value.rows[:axis], "", *value.rows[axis:]))
