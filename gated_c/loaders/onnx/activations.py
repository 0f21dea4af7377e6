"""ONNX's activations, as operators on the network's signal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import inf

import numpy as np

from gated_c.errors import UnsupportedError
from gated_c.layers import Elementwise
from gated_c.loaders.onnx.call import Call
from gated_c.loaders.onnx.values import Value
from gated_c.spec import Activation

#: Operator -> our function, its attributes that are our alpha and beta, and ONNX's defaults of these.
_FUNCTIONS: Mapping[str, tuple[str, tuple[tuple[str, float], ...]]] = {
    "Relu": ("relu", ()),
    "Sigmoid": ("sigmoid", ()),
    "Tanh": ("tanh", ()),
    "Softplus": ("softplus", ()),
    "Softsign": ("softsign", ()),
    "Exp": ("exponential", ()),
    "Mish": ("mish", ()),
    "HardSwish": ("hard_silu", ()),
    "HardSigmoid": ("hard_sigmoid", (("alpha", 0.2), ("beta", 0.5))),
    "LeakyRelu": ("leaky_relu", (("alpha", 0.01),)),
    "ThresholdedRelu": ("thresholded_relu", (("alpha", 1.0),)),
    "Elu": ("elu", (("alpha", 1.0),)),
    "Celu": ("celu", (("alpha", 1.0),)),
}

_SELU = (1.6732632423543772, 1.0507009873554805)

#: Exporters write this, float32's, where they mean no bound.
_LEAST = -3.4e38

#: (min, max) -> the function that a Clip is.
_CLIPS = {
    (-inf, inf): Activation.of("linear"),
    (0.0, inf): Activation.of("relu"),
    (0.0, 6.0): Activation.of("relu6"),
    (0.0, 1.0): Activation.of("hard_sigmoid", 1.0, 0.0),
    (-1.0, 1.0): Activation.of("hard_tanh"),
}


def function(call: Call) -> Value:
    name, parameters = _FUNCTIONS[call.node.op]
    return _activated(call, Activation.of(name, *(call.node.number(key, default) for key, default in parameters)))


def selu(call: Call) -> Value:
    if not np.allclose([call.node.number("alpha", _SELU[0]), call.node.number("gamma", _SELU[1])], _SELU, 1e-6):
        raise UnsupportedError("alpha and gamma other than the usual ones")
    return _activated(call, Activation.of("selu"))


def gelu(call: Call) -> Value:
    return _activated(call, Activation.of("gelu_tanh" if call.node.text("approximate", "none") == "tanh" else "gelu"))


def swish(call: Call) -> Value:
    if call.node.number("alpha", 1.0) != 1:
        raise UnsupportedError("alpha other than 1")
    return _activated(call, Activation.of("silu"))


def prelu(call: Call) -> Value:
    slope = call.constant(1)
    if slope is None or slope.size != 1:
        raise UnsupportedError("a slope for each feature")
    return _activated(call, Activation.of("leaky_relu", float(slope.ravel()[0])))


def shrink(call: Call) -> Value:
    threshold, bias = call.node.number("lambd", 0.5), call.node.number("bias", 0.0)
    if bias not in (0.0, threshold):
        raise UnsupportedError("a bias that is neither 0 nor lambd")
    return _activated(call, Activation.of("soft_shrink" if bias else "hard_shrink", threshold))


def clip(call: Call) -> Value:
    low, high = call.number("min", 1, -inf), call.number("max", 2, inf)
    bounds = (-inf if low < _LEAST else low, inf if high > -_LEAST else high)
    if bounds not in _CLIPS:
        raise UnsupportedError(f"min and max {bounds}; relu, relu6, hard_tanh and 0 to 1 are supported")
    return _activated(call, _CLIPS[bounds])


def _activated(call: Call, activation: Activation) -> Value:
    value = call.signal()
    if activation.name == "linear":
        return value
    source, local = call.path.only(value.array)
    return call.mapped(
        value, call.path.append(source, Elementwise(source.size, activation, name=call.node.name)), local
    )


ACTIVATIONS: dict[str, Callable[[Call], Value]] = {
    **dict.fromkeys(_FUNCTIONS, function),
    "Selu": selu,
    "Gelu": gelu,
    "Swish": swish,
    "PRelu": prelu,
    "Shrink": shrink,
    "Clip": clip,
}
