"""Operators on constants and sizes, computed while the graph is read."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from gated_c.errors import FormatError, UnsupportedError
from gated_c.loaders.onnx.call import Call
from gated_c.loaders.onnx.tensors import AnyArray
from gated_c.loaders.onnx.values import Rows, Value, constant

#: No tensor has more elements.
_MAX_SIZE = 2**48


def _divided(a: AnyArray, b: AnyArray) -> AnyArray:
    """Integers are divided towards zero."""
    if a.dtype == object or b.dtype == object:
        return np.floor_divide(a, b)
    return np.trunc(a / b).astype(a.dtype) if a.dtype.kind in "iu" else a / b


#: Of as many inputs as NumPy's function takes.
ELEMENTWISE: Mapping[str, Callable[..., Any]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": _divided,
    "Pow": np.power,
    "Neg": np.negative,
    "Abs": np.abs,
    "Sqrt": np.sqrt,
    "Reciprocal": np.reciprocal,
    "Exp": np.exp,
    "Log": np.log,
    "Tanh": np.tanh,
    "Floor": np.floor,
    "Ceil": np.ceil,
    "Equal": np.equal,
    "Greater": np.greater,
    "Less": np.less,
    "Not": np.logical_not,
    "And": np.logical_and,
    "Or": np.logical_or,
    "Where": np.where,
}

_NORMS: Mapping[str, Callable[..., Any]] = {
    "ReduceSum": np.sum,
    "ReduceMean": np.mean,
    "ReduceMax": np.max,
    "ReduceMin": np.min,
    "ReduceProd": np.prod,
    "ReduceL2": lambda x, axis, keepdims: np.sqrt(np.sum(np.square(x), axis, keepdims=keepdims)),
    "ReduceSumSquare": lambda x, axis, keepdims: np.sum(np.square(x), axis, keepdims=keepdims),
}

#: TensorProto.DataType of those casts that change what is computed here.
_CASTS = {1: np.float32, 10: np.float16, 11: np.float64, 6: np.int32, 7: np.int64, 9: np.bool_}


def elementwise(call: Call) -> Value:
    arrays = [call.value(at).array for at in range(len(call.inputs))]
    rows = [value.rows for value in call.inputs if value is not None]
    size = math.prod(np.broadcast_shapes(*(array.shape for array in arrays)))
    call.network.spend(8 * size)
    result = np.asarray(_without_warnings(ELEMENTWISE[call.node.op], *arrays))
    if result.dtype == object and any(_is_huge(one) for one in result.flat):
        raise FormatError("sizes beyond all bounds")
    if any(name for names in rows for name in names):
        return Value("constant", result, _merged_rows(rows, result.ndim))
    return constant(result)


def reduce(call: Call) -> Value:
    array = _array(call, 0)
    axes = call.integers("axes", 1)
    if axes is None and call.node.integer("noop_with_empty_axes", 0):
        return call.value(0)
    call.network.spend(8 * array.size)
    keepdims = call.node.integer("keepdims", 1) != 0
    axis = None if not axes else tuple(int(one) for one in axes)
    return constant(_without_warnings(_NORMS[call.node.op], array, axis=axis, keepdims=keepdims))


def matmul(call: Call) -> Value:
    a, b = _array(call, 0), _array(call, 1)
    if a.ndim != 2 or b.ndim != 2:
        raise UnsupportedError("a product of constants that are no matrices")
    if a.shape[0] * a.shape[1] * b.shape[1] > 2**32:
        raise UnsupportedError("a large product of constants")
    call.network.spend(8 * a.shape[0] * b.shape[1])
    return constant(_without_warnings(np.matmul, a, b))


def cast(call: Call) -> Value:
    """Sizes stay what they are; so do types that only matter to a runtime."""
    value = call.value(0)
    dtype = _CASTS.get(call.node.integer("to", 0))
    if dtype is None or value.array.dtype in (dtype, object):
        return value
    call.network.spend(np.dtype(dtype).itemsize * value.array.size)
    return value.with_array(_without_warnings(value.array.astype, dtype))


def range_(call: Call) -> Value:
    bounds = [_array(call, at) for at in range(3)]
    start, stop, step = (int(bound) for bound in bounds)
    if step == 0:
        raise FormatError("delta: expected another than 0")
    steps = range(start, stop, step)
    call.network.spend(8 * len(steps))
    return constant(np.arange(start, stop, step))


def constant_node(call: Call) -> Value:
    node = call.node
    tensor = node.tensor("value")
    if tensor is not None:
        return constant(call.network.tensors.array(tensor))
    for name, values, dtype in (
        ("value_float", [node.number("value_float", 0)], np.float32),
        ("value_int", [node.integer("value_int", 0)], np.int64),
    ):
        if node.has(name):
            return constant(np.array(values[0], dtype))
    if node.has("value_floats"):
        return constant(np.array(node.numbers("value_floats"), np.float32))
    if node.has("value_ints"):
        return constant(np.array(node.integers("value_ints"), np.int64))
    raise UnsupportedError("neither a tensor nor numbers")


def _array(call: Call, at: int) -> AnyArray:
    array = call.constant(at)
    if array is None:
        raise FormatError(f"input {at} is missing")
    return array


def _is_huge(size: Any) -> bool:
    if isinstance(size, Rows):
        return len(size.axes) > 8 or abs(size.factor) >= _MAX_SIZE or abs(size.size or 0) >= _MAX_SIZE
    return bool(abs(size) >= _MAX_SIZE)


def _merged_rows(rows: list[tuple[str, ...]], ndim: int) -> tuple[str, ...]:
    padded = [("",) * (ndim - len(names)) + names for names in rows]
    return tuple(max(names) for names in zip(*padded, strict=True))


def _without_warnings(function: Callable[..., Any], *arrays: Any, **options: Any) -> Any:
    with np.errstate(all="ignore"):
        return function(*arrays, **options)


OPERATORS: Mapping[str, Callable[[Call], Value]] = {
    **dict.fromkeys(ELEMENTWISE, elementwise),
    **dict.fromkeys(_NORMS, reduce),
    "MatMul": matmul,
    "Cast": cast,
    "Range": range_,
    "Constant": constant_node,
}
