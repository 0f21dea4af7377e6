"""Operators that only move numbers about: the same for constants, sizes and the features of a signal."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gated_c.errors import FormatError, UnsupportedError
from gated_c.loaders.onnx.call import Call, checked_axis, checked_size, distinct
from gated_c.loaders.onnx.parts import concat, gather, slice_, split
from gated_c.loaders.onnx.reshape import reshaped
from gated_c.loaders.onnx.values import CONSTANT, SIGNAL, Rows, Value, constant, is_number, without_axes

_MAX_NDIM = 16


def identity(call: Call) -> Value:
    return call.value(0)


def dropout(call: Call) -> tuple[Value, ...]:
    training = call.constant(2)
    if training is not None and np.any(distinct(training)):
        raise UnsupportedError("training_mode")
    return (call.value(0),)


def transpose(call: Call) -> Value:
    value = call.value(0)
    ndim = value.array.ndim
    perm = call.node.integers("perm")
    perm = list(range(ndim))[::-1] if perm is None else [checked_axis(axis, value) for axis in perm]
    if sorted(perm) != list(range(ndim)):
        raise FormatError(f"perm: expected all of {ndim} axes")
    return Value(value.kind, value.array.transpose(perm), tuple(value.rows[axis] for axis in perm))


def unsqueeze(call: Call) -> Value:
    value, axes = call.value(0), call.integers("axes", 1) or []
    ndim = value.array.ndim + len(axes)
    if ndim > _MAX_NDIM:
        raise FormatError(f"{ndim} dimensions")
    new = {axis % ndim for axis in axes if -ndim <= axis < ndim}
    if len(new) != len(axes):
        raise FormatError(f"axes: expected different ones of {ndim}, got {axes}")
    rows = iter(value.rows)
    labels = tuple("" if axis in new else next(rows) for axis in range(ndim))
    return Value(value.kind, np.expand_dims(value.array, tuple(new)), labels)


def squeeze(call: Call) -> Value:
    value, axes = call.value(0), call.integers("axes", 1)
    sizes = value.sizes(call.network.sizes)
    if axes is None:
        axes = [axis for axis, size in enumerate(sizes) if size == 1]
    dropped = {checked_axis(axis, value) for axis in axes}
    for axis in sorted(dropped):
        if sizes[axis] != 1:
            raise UnsupportedError(f"axis {axis}, whose size is {_size(sizes[axis])}; expected 1")
        if "T" in value.rows[axis]:
            value = call.pooled(value, axis, "last")
    return without_axes(value, dropped)


def reshape(call: Call) -> Value:
    value, target = call.value(0), call.integers("shape", 1)
    if target is None or len(target) > _MAX_NDIM:
        raise FormatError("shape: expected one of a few dimensions")
    sizes = value.sizes(call.network.sizes)
    if not call.node.integer("allowzero", 0):
        if any(is_number(size, 0) and axis >= len(sizes) for axis, size in enumerate(target)):
            raise FormatError(f"shape: 0 beyond the {len(sizes)} axes there are")
        target = [sizes[axis] if is_number(size, 0) else size for axis, size in enumerate(target)]
    return reshaped(call, value, target)


def flatten(call: Call) -> Value:
    value = call.value(0)
    axis = call.node.integer("axis", 1)
    sizes = value.sizes(call.network.sizes)
    if not -len(sizes) <= axis <= len(sizes):
        raise FormatError(f"axis: expected one of {len(sizes)}, got {axis}")
    return reshaped(call, value, [math.prod(sizes[:axis]), math.prod(sizes[axis:])])


def shape(call: Call) -> Value:
    value = call.value(0)
    start, end = call.node.integer("start", 0), call.node.integer("end", len(value.rows))
    return _sizes(value.sizes(call.network.sizes)[start:end])


def size(call: Call) -> Value:
    return _sizes(math.prod(call.value(0).sizes(call.network.sizes)))


def _sizes(sizes: Any) -> Value:
    array = np.array(sizes, object)
    return constant(array if any(isinstance(one, Rows) for one in array.flat) else array.astype(np.int64))


def constant_of_shape(call: Call) -> Value:
    target = call.integers("shape", 0)
    tensor = call.node.tensor("value")
    fill = np.zeros(1, np.float32) if tensor is None else call.network.tensors.array(tensor)
    if target is None or fill.size != 1:
        raise FormatError("expected a shape and a value")
    return _expanded(call, constant(fill.reshape(())), target)


def expand(call: Call) -> Value:
    target = call.integers("shape", 1)
    if target is None:
        raise FormatError("shape: missing")
    return _expanded(call, call.value(0), target)


def _expanded(call: Call, value: Value, target: list[Any]) -> Value:
    """Broadcast, without a copy."""
    ndim = max(len(target), value.array.ndim)
    if ndim > _MAX_NDIM:
        raise FormatError(f"{ndim} dimensions")
    array = value.array.reshape((1,) * (ndim - value.array.ndim) + value.array.shape)
    rows = [""] * (ndim - len(value.rows)) + list(value.rows)
    target = [1] * (ndim - len(target)) + target
    new_shape: list[int] = list(array.shape)
    for axis, wanted in enumerate(target):
        if isinstance(wanted, Rows) and array.shape[axis] == 1 and not rows[axis]:
            if value.kind == SIGNAL:
                raise UnsupportedError("repeats features over an axis whose size the file does not say")
            rows[axis] = wanted.axes
        elif not isinstance(wanted, Rows) and array.shape[axis] == 1 and not rows[axis]:
            new_shape[axis] = checked_size(wanted)
    if value.kind == SIGNAL:
        call.network.spend(array.itemsize * math.prod(new_shape))
    return Value(value.kind, np.broadcast_to(array, new_shape), tuple(rows))


def tile(call: Call) -> Value:
    value, counts = call.value(0), call.integers("repeats", 1) or []
    if len(counts) != value.array.ndim:
        raise FormatError(f"repeats: expected {value.array.ndim}, got {len(counts)}")
    if any(rows and count != 1 for rows, count in zip(value.rows, counts, strict=True)):
        raise UnsupportedError("repeats steps or rows")
    if value.kind == CONSTANT and value.array.size == 1:
        return _expanded(call, value, counts)
    counts = [checked_size(count) for count in counts]
    call.network.spend(value.array.nbytes * math.prod(counts))
    return value.with_array(np.tile(value.array, counts))


def _size(size: Any) -> str:
    return "not in the file" if isinstance(size, Rows) and size.size is None else str(int(size))


OPERATORS: dict[str, Callable[[Call], Value | Sequence[Value]]] = {
    "Identity": identity,
    "Cast": identity,
    "Dropout": dropout,
    "Transpose": transpose,
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
    "Reshape": reshape,
    "Flatten": flatten,
    "Shape": shape,
    "Size": size,
    "ConstantOfShape": constant_of_shape,
    "Expand": expand,
    "Tile": tile,
    "Concat": concat,
    "Split": split,
    "Slice": slice_,
    "Gather": gather,
}
