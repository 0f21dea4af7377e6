"""Keras's activations, as its files spell them.

Sources: keras.activations and the activation layers of Keras 3.15 and of Keras 2 (tf_keras 2.21).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gated_c.errors import FormatError, UnsupportedError
from gated_c.loaders.names import shown
from gated_c.spec import FUNCTIONS, Activation

#: What ``activation`` returns for these is not in ``FUNCTIONS``: they look at all features at once.
SOFTMAXES = ("softmax", "log_softmax")

#: Names that Keras has and `FUNCTIONS` does not, or with other parameters.
_NAMED = {
    "leaky_relu": Activation.of("leaky_relu", 0.2),
    "sparse_sigmoid": Activation.of("hard_sigmoid", 0.5, 0.5),
    "swish": Activation.of("silu"),
    "hard_swish": Activation.of("hard_silu"),
} | {name: Activation(name, 0.0, 0.0) for name in SOFTMAXES}

#: Names in `FUNCTIONS` that Keras does not have.
_FOREIGN = frozenset({"affine", "thresholded_relu", "scaled_tanh", "gelu_tanh"})

_HARD_SIGMOID_2 = Activation.of("hard_sigmoid", 0.2, 0.5)


def activation(value: Any, keras_version: int) -> Activation:
    """An ``activation`` of a layer's config: ``None``, a name, a serialised function or an activation layer.

    ``hard_sigmoid`` is clip(0.2 x + 0.5) before Keras 3 and clip(x / 6 + 0.5) since. Raises ``UnsupportedError``.
    """
    if value is None:
        return Activation.of("linear")
    if isinstance(value, str):
        return _named(value, keras_version)
    if not isinstance(value, Mapping):
        raise FormatError(f"activation: expected a name or an object, got {type(value).__name__}")
    if value.get("class_name") == "function":
        return activation(_function_name(value.get("config")), keras_version)
    return layer_activation(str(value.get("class_name")), value.get("config"), keras_version)


def layer_activation(class_name: str, config: Any, keras_version: int) -> Activation:
    """What a layer such as ``LeakyReLU`` computes."""
    if class_name not in LAYERS or not isinstance(config, Mapping):
        raise UnsupportedError(f"activation {shown(class_name)}")
    return LAYERS[class_name](config, keras_version)


def _named(name: str, keras_version: int) -> Activation:
    if name == "hard_sigmoid" and keras_version < 3:
        return _HARD_SIGMOID_2
    if name in _NAMED:
        return _NAMED[name]
    if name not in FUNCTIONS or name in _FOREIGN:
        raise UnsupportedError(f"activation {shown(name)}")
    return Activation.of(name)


def _function_name(config: Any) -> str:
    """Of a serialised function, which some versions wrap once more."""
    name = config.get("name") if isinstance(config, Mapping) else config
    if not isinstance(name, str):
        raise FormatError("activation: expected the name of a function")
    return name


def _relu(config: Mapping[str, Any], keras_version: int) -> Activation:
    slope = number(config, "negative_slope", 0.0)
    threshold = number(config, "threshold", 0.0)
    bound = number(config, "max_value", None)
    if slope == threshold == 0 and bound in (None, 6.0):
        return Activation.of("relu" if bound is None else "relu6")
    if bound is None and threshold == 0:
        return Activation.of("leaky_relu", slope)
    if bound is None and slope == 0:
        return Activation.of("thresholded_relu", threshold)
    raise UnsupportedError(f"ReLU with max_value={bound}, negative_slope={slope}, threshold={threshold}")


def _softmax(config: Mapping[str, Any], keras_version: int) -> Activation:
    if config.get("axis", -1) != -1:
        raise UnsupportedError(f"Softmax over axis {shown(str(config['axis']))}; only the last one")
    return _NAMED["softmax"]


def _leaky_relu(config: Mapping[str, Any], keras_version: int) -> Activation:
    return Activation.of("leaky_relu", number(config, "alpha" if "alpha" in config else "negative_slope", 0.3))


#: Layers that are activations.
LAYERS: dict[str, Callable[[Mapping[str, Any], int], Activation]] = {
    "Activation": lambda config, version: activation(config.get("activation"), version),
    "ReLU": _relu,
    "LeakyReLU": _leaky_relu,
    "ELU": lambda config, version: Activation.of("elu", number(config, "alpha", 1.0)),
    "ThresholdedReLU": lambda config, version: Activation.of("thresholded_relu", number(config, "theta", 1.0)),
    "Softmax": _softmax,
}


def number(config: Mapping[str, Any], name: str, default: Any) -> Any:
    """A number of a layer's config; older versions wrap those that were arrays."""
    value = config.get(name, default)
    if isinstance(value, Mapping):
        value = value.get("value")
    if value is None and default is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise FormatError(f"{name}: expected a number, got {shown(repr(value))}")
    try:
        return float(value)
    except OverflowError:
        raise FormatError(f"{name}: expected a float64, got {shown(repr(value))}") from None
