"""How far two correct float32 engines may be apart, from the weights and values of a chain.

A sum of products whose magnitudes add up to M takes roundings of partial sums; those are of random sign, so their
errors add up to about M * 2^-24. Twice that relative to the largest output, but at least the 1e-6 of ordinary weights,
is what a layer may add; what was there before grows with its weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gated_c import layers as plain
from gated_c.arrays import Array
from gated_c.layers import Layer
from gated_c.spec import LayerSpec

ORDINARY = 1e-6
ROUNDING = 2.0**-24
ROUNDINGS = 16  # in a row, of a layer without a sum of products

_WITHOUT_ROUNDING = (
    plain.Embedding,
    plain.Masking,
    plain.Unmask,
    plain.Flip,
    plain.Slice,
    plain.Split,
    plain.Repeat,
    plain.Reshape,
    plain.Squeeze,
)


def tolerance(layers: Sequence[Layer], x: npt.NDArray[Any], y: Array, before: float = 0.0) -> float:
    """The largest difference to expect in ``y``, what the layers make of ``x``, between two engines whose ``x`` differ
    by up to ``before``. Each rounds, so a layer counts twice."""
    inputs = _largest(x)
    largest = max(1.0, _largest(y))
    for layer in layers:
        if isinstance(layer, plain.Embedding):
            inputs = _largest(layer.weight)
        if isinstance(layer, _WITHOUT_ROUNDING):
            continue
        magnitude = _magnitude(layer, inputs, largest)
        steps = layer.num_layers if isinstance(layer, LayerSpec) else 1
        before = before * _gain(layer, x) + 2 * steps * max(ORDINARY, 2 * magnitude * ROUNDING) * largest
        inputs = max(magnitude, largest) if isinstance(layer, plain.Dense | plain.Conv) else largest
    return before


def _magnitude(layer: Layer, inputs: float, largest: float) -> float:
    """Of the largest sum: what its terms add up to without their signs."""
    if isinstance(layer, LayerSpec):
        return max(_sums(layer, suffix, inputs if at == 0 else largest, largest) for at, suffix in layer.suffixes())
    if isinstance(layer, plain.Dense | plain.Conv):
        bias = 0.0 if layer.bias is None else _largest(layer.bias)
        return _row_sum(layer.weight) * inputs + bias
    return ROUNDINGS * max(inputs, largest)


def _sums(layer: LayerSpec, suffix: str, inputs: float, largest: float) -> float:
    """Of W, R and b of one direction, with inputs and h of these magnitudes."""
    scales = {"weight_ih": inputs, "weight_hh": largest, "bias_ih": 1.0, "bias_hh": 1.0}
    terms = [
        _row_sums(layer.weights[name + suffix]) * scale
        for name, scale in scales.items()
        if name + suffix in layer.weights
    ]
    return float(np.sum(terms, 0).max())


def _gain(layer: Layer, x: npt.NDArray[Any]) -> float:
    """By how much an error of the input can grow."""
    if isinstance(layer, LayerSpec):
        return max(1.0, *(_row_sum(w) for name, w in layer.weights.items() if name.startswith("weight_ih")))
    if isinstance(layer, plain.Dense | plain.Conv):
        return max(1.0, _row_sum(layer.weight))
    if isinstance(layer, plain.Affine):
        return max(1.0, _largest(layer.scale))
    if isinstance(layer, plain.LayerNorm):
        deviation = np.sqrt(np.var(x, -1) + layer.epsilon).min(initial=1.0)
        return 2 * (1.0 if layer.weight is None else _largest(layer.weight)) / max(float(deviation), ROUNDING)
    return 2.0 if isinstance(layer, plain.Merge) else 1.0


def _row_sum(weight: Array) -> float:
    return float(_row_sums(weight).max())


def _row_sums(weight: Array) -> npt.NDArray[np.float64]:
    sums: npt.NDArray[np.float64] = np.abs(weight).reshape(len(weight), -1).sum(1, dtype=np.float64)
    return sums


def _largest(values: npt.NDArray[Any]) -> float:
    finite = values[np.isfinite(values)]
    return float(np.abs(finite).max(initial=0))
