"""Layers that exporters write as several operators, and neighbours that are one layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import isclose, pi, sqrt

import numpy as np

from gated_c.errors import UnsupportedError
from gated_c.layers import LINEAR, Affine, Conv, Dense, Elementwise, Layer, LayerNorm, Merge, Reshape
from gated_c.loaders.onnx.call import Call, distinct
from gated_c.loaders.onnx.path import Mark, Source
from gated_c.loaders.onnx.values import Value
from gated_c.spec import Activation

#: What x is multiplied by -> the activation that this is, and how many times. Numbers are Affines: scale and shift.
_PRODUCTS: tuple[tuple[tuple[object, ...], str, float], ...] = (
    (("sigmoid",), "silu", 1.0),
    (("hard_sigmoid",), "hard_silu", 1.0),
    (("softplus", "tanh"), "mish", 1.0),
    (((sqrt(0.5), 0.0), "erf", (1.0, 1.0)), "gelu", 2.0),
    (((1.0, 3.0), "relu6"), "hard_silu", 6.0),
    (("cubic", (sqrt(2 / pi), 0.0), "tanh", (1.0, 1.0)), "gelu_tanh", 2.0),
)

#: x + 0.044715 x^3 is a part of the last one, "cubic".
_CUBIC = (0.044715, 0.0)

_MERGES = {"Add": "sum", "Mul": "mul"}


def combined(call: Call, a: Value, b: Value) -> Value:
    """A node that takes two signals."""
    path, op = call.path, call.node.op
    (of_a, local_a), (of_b, local_b) = path.only(a.array), path.only(b.array)
    if a.rows == b.rows and a.array.shape == b.array.shape:
        if np.array_equal(local_a, local_b) and (source := _activation(call, of_a, of_b)):
            return call.mapped(a, source, local_a)
        if op in _MERGES and (source := _merged(call, a, b)):
            return a.with_array(path.numbers(source).reshape(a.array.shape))
    if a.rows == b.rows and b.array.size == 1 and (source := _normed(call, path.whole(a.array.ravel()), of_b)):
        return a.with_array(path.numbers(source).reshape(a.array.shape))
    raise UnsupportedError("a branch: joins two signals")


def _merged(call: Call, a: Value, b: Value) -> Source | None:
    """Both halves of the features: two directions become one."""
    source, features = call.path.only(np.concatenate([a.array.ravel(), b.array.ravel()]))
    size = source.size // 2
    orders = features, np.roll(features, size)
    if not any(np.array_equal(order, np.arange(source.size)) for order in orders):
        return None
    return call.path.append(source, Merge(size, _MERGES[call.node.op], name=call.node.name))


def _activation(call: Call, a: Source, b: Source) -> Source | None:
    """x and something made of x, which is an activation or a part of one."""
    for x, other in ((a, b), (b, a)):
        source = _product(call, x, other) if call.node.op == "Mul" else None
        if call.node.op == "Add" and _consists_of(x, other, ("cube", _CUBIC)):
            source = call.path.mark(x, "cubic", call.node.name, x.size)
        if source is not None:
            return source
    return None


def _product(call: Call, x: Source, factor: Source) -> Source | None:
    """x, perhaps a number of times, times a function of x: an activation."""
    if x is factor:
        return call.path.mark(x, "square", call.node.name, x.size)
    if _consists_of(x, factor, ("square",)):
        return call.path.mark(x, "cube", call.node.name, x.size)
    if source := _gated(call, x, factor):
        return source
    if isinstance(x.layer, Affine) and x.parent is not None and (pair := _pair(x.layer)) and pair[1] == 0:
        source = _gated(call, x.parent, factor)
        return None if source is None else _times(call, source, pair[0])
    return None


def _gated(call: Call, x: Source, factor: Source) -> Source | None:
    for pattern, name, scale in _PRODUCTS:
        if _consists_of(x, factor, pattern):
            activation = Elementwise(x.size, Activation.of(name), name=call.node.name)
            return _times(call, call.path.append(x, activation), scale)
    return None


def _consists_of(x: Source, source: Source, pattern: tuple[object, ...]) -> bool:
    """Whether these are the layers between two sources."""
    steps = _steps(x, source)
    return steps is not None and len(steps) == len(pattern) and all(map(_fits, steps, pattern))


def _times(call: Call, source: Source, factor: float) -> Source:
    if factor == 1:
        return source
    scale = np.full(source.size, factor, np.float32)
    return call.path.append(source, Affine(scale, np.zeros_like(scale), name=call.node.name))


def _steps(x: Source, source: Source) -> list[Layer | Mark] | None:
    """The layers between two sources."""
    steps: list[Layer | Mark] = []
    while source is not x:
        if source.parent is None or source.layer is None or len(steps) > 3:
            return None
        steps.insert(0, source.layer)
        source = source.parent
    return steps


def _fits(step: Layer | Mark, wanted: object) -> bool:
    if isinstance(wanted, tuple):
        pair = _pair(step) if isinstance(step, Affine) else None
        return pair is not None and all(isclose(a, b, rel_tol=1e-3) for a, b in zip(pair, wanted, strict=True))
    if isinstance(step, Elementwise) and step.activation.name == "hard_sigmoid":
        return wanted == "hard_sigmoid" and np.allclose(step.activation[1:], (1 / 6, 0.5), 1e-6)
    return wanted == (step.kind if isinstance(step, Mark) else getattr(step, "activation", LINEAR).name)


def _pair(layer: Affine) -> tuple[float, float] | None:
    """Scale and shift, if they are the same for all features."""
    scale, shift = float(layer.scale[0]), float(layer.shift[0])
    same = bool(np.all(layer.scale == layer.scale[0]) and np.all(layer.shift == layer.shift[0]))
    return (scale, shift) if same else None


def _normed(call: Call, x: Source, other: Source) -> Source | None:
    """(x - mean(x)) / sqrt(mean((x - mean(x))^2) + epsilon), in two steps."""
    if call.node.op == "Sub" and _is_mark(other, "mean") and other.parent is x:
        return call.path.mark(x, "centred", call.node.name, x.size)
    if call.node.op != "Div" or not _is_mark(x, "centred") or x.parent is None:
        return None
    steps = _steps(x, other) or []
    kinds = [step.kind if isinstance(step, Mark) else type(step).__name__ for step in steps]
    if kinds != ["square", "mean", "Affine", "sqrt"] or not isinstance(steps[2], Affine):
        return None
    scale, epsilon = _pair(steps[2]) or (0, 0)
    return (
        None if scale != 1 else call.path.append(x.parent, LayerNorm(x.size, None, None, epsilon, name=call.node.name))
    )


def normalized_rows(call: Call) -> Value:
    """BatchNormalization whose statistics are those of every step: what tf2onnx makes of a LayerNorm."""
    value, (mean, variance) = call.signal(), (call.signal(at) for at in (3, 4))
    x = call.path.whole(value.array.ravel())
    (of_mean, _), (of_variance, _) = call.path.only(mean.array), call.path.only(variance.array)
    parts = ("centred", "sum of squares", (1 / x.size, 0.0))
    if not (_consists_of(x, of_mean, ("mean",)) and _consists_of(x, of_variance, parts)):
        raise UnsupportedError("statistics other than those of every step")
    if np.any(distinct(call.value(1).array) != 1) or np.any(distinct(call.value(2).array) != 0):
        raise UnsupportedError("scale and B of every step")
    layer = LayerNorm(x.size, None, None, call.node.number("epsilon", 1e-5), name=call.node.name)
    source = call.path.append(x, layer)
    return value.with_array(call.path.numbers(source).reshape(value.array.shape))


def _is_mark(source: Source, kind: str) -> bool:
    return isinstance(source.layer, Mark) and source.layer.kind == kind


def fused(layers: Sequence[Layer]) -> list[Layer]:
    """Neighbours as one layer, wherever it does the same with no more roundings."""
    result: list[Layer] = []
    for layer in layers:
        one = _fused(result[-1], layer) if result else None
        if one is None:
            result.append(layer)
        else:
            result[-1] = one
    return [layer for layer in result if not _does_nothing(layer)]


def _fused(first: Layer, second: Layer) -> Layer | None:
    if isinstance(first, Dense | Conv) and first.activation == LINEAR:
        if isinstance(second, Elementwise):
            return replace(first, activation=second.activation)
        if isinstance(second, Affine) and first.bias is None and np.all(second.scale == 1):
            return replace(first, bias=second.shift)
    if isinstance(first, LayerNorm) and isinstance(second, Affine) and first.bias is None:
        if first.weight is None and not np.any(second.shift):
            return replace(first, weight=second.scale)
        if np.all(second.scale == 1):
            return replace(first, bias=second.shift)
    if isinstance(first, Affine) and isinstance(second, Affine) and not np.any(first.shift):
        with np.errstate(over="ignore", under="ignore"):
            return replace(second, scale=first.scale * second.scale)
    if isinstance(first, Reshape) and isinstance(second, Reshape):
        return replace(first, steps=second.steps, new_size=second.new_size)
    return None


def _does_nothing(layer: Layer) -> bool:
    if isinstance(layer, Affine):
        return bool(np.all(layer.scale == 1) and not np.any(layer.shift))
    return isinstance(layer, Reshape) and (layer.input_steps, layer.size) == (layer.steps, layer.new_size)
