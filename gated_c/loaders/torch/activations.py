"""PyTorch's activations: the names of its functions, with the parameters that they have besides the tensor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gated_c.errors import UnsupportedError
from gated_c.spec import Activation

_BOUNDS: dict[tuple[float | None, float | None], Activation] = {
    (-1, 1): Activation.of("hard_tanh"),
    (0, 6): Activation.of("relu6"),
    (0, 1): Activation.of("hard_sigmoid", 1, 0),
    (0, None): Activation.of("relu"),
}


def _hardtanh(min_val: float = -1.0, max_val: float = 1.0) -> Activation:
    return _clamp(min_val, max_val)


def _clamp(min: float | None = None, max: float | None = None) -> Activation:
    if (min, max) not in _BOUNDS:
        raise UnsupportedError(f"bounds {min} and {max}; expected -1 and 1, 0 and 6, 0 and 1, or 0 alone")
    return _BOUNDS[min, max]


def _threshold(threshold: float, value: float) -> Activation:
    if value != 0:
        raise UnsupportedError(f"value {value}; expected 0")
    return Activation.of("thresholded_relu", threshold)


def _softplus(beta: float = 1, threshold: float = 20) -> Activation:
    if beta != 1 or threshold < 20:
        raise UnsupportedError(f"beta {beta} and threshold {threshold}; expected 1 and at least 20")
    return Activation.of("softplus")  # above 20 it differs from x by less than float32 can tell


def _prelu(weight: Any) -> Activation:
    if weight.numel() != 1:
        raise UnsupportedError(f"{weight.numel()} slopes; expected one for all features")
    return Activation.of("leaky_relu", weight.item())


ACTIVATIONS: dict[str, Callable[..., Activation]] = {
    "sigmoid": lambda: Activation.of("sigmoid"),
    "expit": lambda: Activation.of("sigmoid"),
    "tanh": lambda: Activation.of("tanh"),
    "relu": lambda: Activation.of("relu"),
    "relu6": lambda: Activation.of("relu6"),
    "hardsigmoid": lambda: Activation.of("hard_sigmoid"),
    "hardswish": lambda: Activation.of("hard_silu"),
    "hardtanh": _hardtanh,
    "clamp": _clamp,
    "clip": _clamp,
    "leaky_relu": lambda negative_slope=0.01: Activation.of("leaky_relu", negative_slope),
    "prelu": _prelu,
    "threshold": _threshold,
    "elu": lambda alpha=1.0: Activation.of("elu", alpha),
    "celu": lambda alpha=1.0: Activation.of("celu", alpha),
    "selu": lambda: Activation.of("selu"),
    "silu": lambda: Activation.of("silu"),
    "mish": lambda: Activation.of("mish"),
    "gelu": lambda approximate="none": Activation.of("gelu_tanh" if approximate == "tanh" else "gelu"),
    "softplus": _softplus,
    "softsign": lambda: Activation.of("softsign"),
    "logsigmoid": lambda: Activation.of("log_sigmoid"),
    "tanhshrink": lambda: Activation.of("tanh_shrink"),
    "softshrink": lambda lambd=0.5: Activation.of("soft_shrink", lambd),
    "hardshrink": lambda lambd=0.5: Activation.of("hard_shrink", lambd),
    "exp": lambda: Activation.of("exponential"),
}
