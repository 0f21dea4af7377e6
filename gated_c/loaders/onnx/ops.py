"""Operators on the network's signal, as the plain layers that do the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from gated_c.errors import FormatError, UnsupportedError
from gated_c.layers import Affine, Dense, Embedding, LayerNorm, Softmax
from gated_c.loaders.onnx import parts as onnx_parts
from gated_c.loaders.onnx.activations import ACTIVATIONS
from gated_c.loaders.onnx.call import Call, WrongOrder, checked_axis, distinct, vector
from gated_c.loaders.onnx.conv import conv, pad
from gated_c.loaders.onnx.path import Mark
from gated_c.loaders.onnx.patterns import combined, normalized_rows
from gated_c.loaders.onnx.tensors import AnyArray
from gated_c.loaders.onnx.values import CONSTANT, GIVEN, SIGNAL, Value, without_axes

#: Of TensorProto.DataType; what the cast of others makes of x.
_FLOATS = (1, 10, 11, 16)
_INTEGERS = "cast to integers"

#: Over time.
_REDUCTIONS = {"ReduceMean": "mean", "ReduceMax": "max"}


def softmax(call: Call) -> Value:
    value = call.signal()
    old = call.node.opset < 13
    axis = call.axis(1 if old else -1, value)
    if old and axis != value.array.ndim - 1:
        raise UnsupportedError("over several axes")
    source = call.features(value, axis)
    layer = Softmax(source.size, call.node.op == "LogSoftmax", name=call.node.name)
    return call.after(value, axis, call.path.append(source, layer))


def layer_normalization(call: Call) -> Value:
    value = call.signal()
    axis = call.axis(-1, value)
    if axis != value.array.ndim - 1:
        raise UnsupportedError("over several axes")
    source = call.features(value, axis)
    weight, bias = (vector(call.weight(at), source.size) for at in (1, 2))
    layer = LayerNorm(source.size, weight, bias, call.node.number("epsilon", 1e-5), name=call.node.name)
    return call.after(value, axis, call.path.append(source, layer))


def batch_normalization(call: Call) -> Value:
    value = call.signal()
    if value.array.ndim > 1 and value.rows[1]:
        return normalized_rows(call)
    if call.node.integer("training_mode", 0) or not call.node.integer("spatial", 1):
        raise UnsupportedError("training_mode, or statistics of every step")
    scale, shift, mean, variance = (call.weight(at) for at in range(1, 5))
    if scale is None or shift is None or mean is None or variance is None or value.array.ndim < 2:
        raise FormatError("expected scale, B, mean and var")
    per_feature = scale.astype(float) / np.sqrt(variance.astype(float) + call.node.number("epsilon", 1e-5))
    shape = (-1,) + (1,) * (value.array.ndim - 2)
    return _affine(call, value, per_feature.reshape(shape), (shift - mean * per_feature).reshape(shape))


def matmul(call: Call) -> Value:
    weight, value = call.constant(1), call.signal()
    if weight is None or weight.ndim < 2 or weight.size != weight.shape[-1] * weight.shape[-2]:
        raise UnsupportedError("a product with more than one matrix")
    weight = weight.reshape(weight.shape[-2:])
    return call.applied(value, Dense(call.own(weight.T), name=call.node.name))


def gemm(call: Call) -> Value:
    value, weight, bias = call.signal(), call.constant(1), call.constant(2)
    if weight is None or weight.ndim != 2 or value.array.ndim != 2 or call.node.integer("transA", 0):
        raise UnsupportedError("transA, or a product of others than matrices")
    weight = call.own(weight if call.node.integer("transB", 0) else weight.T)
    alpha, beta = call.node.number("alpha", 1.0), call.node.number("beta", 1.0)
    if bias is not None:
        if bias.size not in (1, len(weight)) or bias.size not in (*bias.shape[-1:], 1):
            raise UnsupportedError("C other than one number for each feature")
        bias = call.own(np.broadcast_to(bias.ravel() * np.float32(beta), len(weight)))
    return call.applied(value, Dense(weight if alpha == 1 else weight * np.float32(alpha), bias, name=call.node.name))


def gather(call: Call) -> Value:
    """Rows of a table by x: an Embedding. Else like any other Gather."""
    table, ids = call.value(0), call.value(1)
    if ids.kind != SIGNAL or table.kind != CONSTANT:
        return onnx_parts.gather(call)
    if table.array.ndim != 2 or call.axis(0, table) != 0:
        raise UnsupportedError("by x, but not rows of a table")
    if ids.array.size != 1:
        raise WrongOrder("several ids at each step")
    source = call.path.whole(ids.array.ravel())
    while isinstance(source.layer, Mark) and source.layer.kind == _INTEGERS and source.parent is not None:
        source = source.parent
    if source.layer is not None:
        raise UnsupportedError("ids that were computed from x")
    embedding = call.path.append(source, Embedding(call.own(table.array), name=call.node.name))
    array = call.path.numbers(embedding).reshape((1,) * ids.array.ndim + (-1,))
    return Value(SIGNAL, array, (*ids.rows, ""))


def cast(call: Call) -> Value:
    """To integers only of ids; between floating types nothing, all being float32 here."""
    value = call.signal()
    if call.node.integer("to", 0) in _FLOATS:
        return value
    source, local = call.path.only(value.array)
    return call.mapped(value, call.path.mark(source, _INTEGERS, call.node.name, source.size), local)


def reduce(call: Call) -> Value:
    """The mean or largest over time: a Pool. Over features only in a pattern."""
    value = call.signal()
    axes = call.integers("axes", 1)
    reduced = {checked_axis(int(axis), value) for axis in axes or range(value.array.ndim)}
    for axis in sorted(reduced):
        if value.rows[axis] == "T" and call.node.op in _REDUCTIONS:
            value = call.pooled(value, axis, _REDUCTIONS[call.node.op])
        elif value.rows[axis]:
            raise WrongOrder("over an axis of rows")
        elif value.array.shape[axis] > 1:
            value = _marked(call, value, axis)
    return value if call.node.integer("keepdims", 1) else without_axes(value, reduced)


def _marked(call: Call, value: Value, axis: int) -> Value:
    kind = {"ReduceMean": "mean", "ReduceSumSquare": "sum of squares"}.get(call.node.op)
    if kind is None:
        raise UnsupportedError("over features")
    return call.after(value, axis, call.path.mark(call.features(value, axis), kind, call.node.name, 1))


def global_pool(call: Call) -> Value:
    value = call.signal()
    kind = "max" if "Max" in call.node.op else "mean"
    for axis in range(2, value.array.ndim):
        if value.rows[axis] == "T":
            value = call.pooled(value, axis, kind)
        elif value.rows[axis] or value.array.shape[axis] > 1:
            raise WrongOrder("over an axis other than that of time")
    return value


def pool(call: Call) -> Value:
    """With a window of all steps: global."""
    sizes = call.signal().sizes(call.network.sizes)[2:]
    padding = any(call.node.integers("pads") or ()) or call.node.text("auto_pad", "NOTSET") not in ("NOTSET", "VALID")
    if padding or set(call.node.integers("dilations") or (1,)) != {1} or call.node.integers("kernel_shape") != sizes:
        raise UnsupportedError("with a window other than the whole sequence")
    return global_pool(call)


def part(call: Call) -> Value:
    """An operator that only makes sense in a pattern."""
    value = call.signal()
    kind = _power(call) if call.node.op == "Pow" else {"Erf": "erf", "Sqrt": "sqrt"}[call.node.op]
    source, local = call.path.only(value.array)
    return call.mapped(value, call.path.mark(source, kind, call.node.name, source.size), local)


def _power(call: Call) -> str:
    exponent = call.constant(1)
    for number, kind in ((2, "square"), (3, "cube")):
        if exponent is not None and np.all(distinct(exponent) == number):
            return kind
    raise UnsupportedError("an exponent other than 2 and 3")


def negative(call: Call) -> Value:
    return _affine(call, call.signal(), np.float32(-1), None)


def arithmetic(call: Call) -> Value:
    """With a constant: an Affine. Of two signals: a pattern."""
    a, b = call.value(0), call.value(1)
    if GIVEN in (a.kind, b.kind):
        raise UnsupportedError("a second input of the network")
    if a.kind == SIGNAL and b.kind == SIGNAL:
        return combined(call, a, b)
    value, other = (a, b) if a.kind == SIGNAL else (b, a)
    if other.array.dtype == object or (call.node.op == "Div" and value is b):
        raise UnsupportedError("a size, or a constant divided by features")
    call.network.spend(8 * other.array.size)
    number = other.array.astype(float)
    if call.node.op in ("Mul", "Div"):
        with np.errstate(all="ignore"):
            return _affine(call, value, number if call.node.op == "Mul" else 1 / number, None)
    if call.node.op == "Sub" and value is b:
        return _affine(call, value, np.float32(-1), number)
    return _affine(call, value, None, -number if call.node.op == "Sub" else number)


def _affine(call: Call, value: Value, scale: AnyArray | None, shift: AnyArray | None) -> Value:
    """scale * value + shift, numbers for each feature."""
    shape = value.array.shape
    for number in (scale, shift):
        if number is not None and np.broadcast_shapes(shape, number.shape) != shape:
            raise WrongOrder("a constant that is not one number for each feature")
    source, local = call.path.only(value.array)
    call.network.spend(8 * source.size)
    scales, shifts = np.ones(source.size, np.float32), np.zeros(source.size, np.float32)
    with np.errstate(over="ignore", under="ignore"):
        if scale is not None:
            scales[local] = scale
        if shift is not None:
            shifts[local] = shift
    return call.mapped(value, call.path.append(source, Affine(scales, shifts, name=call.node.name)), local)


OPERATORS: dict[str, Callable[[Call], Value | Sequence[Value]]] = {
    **ACTIVATIONS,
    **dict.fromkeys(("Add", "Sub", "Mul", "Div"), arithmetic),
    **dict.fromkeys(("Softmax", "LogSoftmax"), softmax),
    **dict.fromkeys(("ReduceMean", "ReduceMax", "ReduceSumSquare"), reduce),
    **dict.fromkeys(("AveragePool", "MaxPool"), pool),
    **dict.fromkeys(("GlobalAveragePool", "GlobalMaxPool"), global_pool),
    **dict.fromkeys(("Erf", "Sqrt", "Pow"), part),
    "LayerNormalization": layer_normalization,
    "BatchNormalization": batch_normalization,
    "MatMul": matmul,
    "Gemm": gemm,
    "Gather": gather,
    "Cast": cast,
    "Neg": negative,
    "ReverseSequence": onnx_parts.reverse_sequence,
    "Pad": pad,
    "Conv": conv,
}
