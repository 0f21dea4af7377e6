"""``.nam``, the Neural Amp Modeler's: of its architectures the LSTM.

``weights`` is one flat list: for each layer W and R side by side [4H, C+H] in the order i f g o, the bias [4H], and the
h [H] and c [H] that it starts from; then the weight [1, H] and bias [1] of the read-out (NeuralAmpModelerCore,
NAM/lstm.cpp).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gated_c.errors import FormatError, UnsupportedError
from gated_c.layers import Dense, Layer
from gated_c.loaders.audio.numbers import float32_array, is_size
from gated_c.loaders.names import shown
from gated_c.spec import Array, LayerSpec

_GATES = 4


def read(content: Mapping[str, Any]) -> list[Layer]:
    """Sample by sample, [T,N,1] to [T,N,1]. Raises ``FormatError``, ``UnsupportedError``."""
    architecture = content["architecture"]
    if architecture != "LSTM":
        raise UnsupportedError(f"architecture {shown(str(architecture))}; only LSTM")
    config = content.get("config")
    if not isinstance(config, dict):
        raise FormatError("config: expected an object")
    input_size, hidden_size, num_layers = (_size(config, name) for name in ("input_size", "hidden_size", "num_layers"))
    weights = _Weights(content.get("weights"), input_size, hidden_size, num_layers)
    arrays: dict[str, Array] = {}
    for layer in range(num_layers):
        arrays |= _layer(weights, layer, input_size if layer == 0 else hidden_size, hidden_size)
    spec = LayerSpec("lstm", input_size, hidden_size, arrays, num_layers=num_layers, name="lstm")
    return [spec, Dense(weights.take(1, hidden_size), weights.take(1), name="head")]


def _size(config: Mapping[str, Any], name: str) -> int:
    value = config.get(name)
    if not is_size(value):
        raise FormatError(f"config: {name}: expected a positive number, got {shown(repr(value))}")
    return value


def _layer(weights: _Weights, layer: int, inputs: int, hidden_size: int) -> dict[str, Array]:
    both = weights.take(_GATES * hidden_size, inputs + hidden_size)
    bias = weights.take(_GATES * hidden_size)
    return {
        f"weight_ih_l{layer}": np.ascontiguousarray(both[:, :inputs]),
        f"weight_hh_l{layer}": np.ascontiguousarray(both[:, inputs:]),
        f"bias_ih_l{layer}": bias,
        f"bias_hh_l{layer}": np.zeros_like(bias),
        f"initial_h_l{layer}": weights.take(hidden_size),
        f"initial_c_l{layer}": weights.take(hidden_size),
    }


class _Weights:
    """The flat list, taken piece by piece."""

    def __init__(self, values: Any, input_size: int, hidden_size: int, num_layers: int) -> None:
        state_and_bias = (_GATES + 2) * hidden_size
        first = _GATES * hidden_size * (input_size + hidden_size) + state_and_bias
        others = (num_layers - 1) * (_GATES * hidden_size * 2 * hidden_size + state_and_bias)
        expected = first + others + hidden_size + 1
        if not isinstance(values, list) or len(values) != expected:
            got = len(values) if isinstance(values, list) else type(values).__name__
            raise FormatError(f"weights: expected {expected} numbers, got {got}")
        self._values = float32_array(values, "weights")
        if self._values.ndim != 1:
            raise FormatError("weights: expected numbers, got lists of them")
        self._at = 0

    def take(self, *shape: int) -> Array:
        start = self._at
        self._at += int(np.prod(shape))
        taken: Array = self._values[start : self._at].reshape(shape).copy()
        return taken
