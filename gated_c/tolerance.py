"""How far two correct float32 engines may be apart, from the weights and values of a chain.

A sum of products whose magnitudes add up to M takes roundings of partial sums; those are of random sign, so their
errors add up to about M * 2^-24, and activations, which are approximations, add a few roundings of 1 or the output.
Twice that is what a layer may add in each engine. Errors of its input are of random sign as well: they come out times
the norm of a row of weights, or twice that.
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

#: The relative error of one, of numbers that go into products; of an 8-bit integer beside the largest.
ROUNDING = {"float32": 2.0**-24, "bfloat16": 2.0**-9, "int8": 2.0**-8}
ROUNDINGS = 4  # of activations and products after the sum
SAFETY = 2

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


def tolerance(
    layers: Sequence[Layer],
    x: npt.NDArray[Any],
    y: Array,
    before: float = 0.0,
    rounding: float = ROUNDING["float32"],
) -> float:
    """The largest difference to expect in ``y``, what the layers make of ``x``, between two engines whose ``x`` differ
    by up to ``before``."""
    inputs, largest = _largest(x), _largest(y)
    for layer in layers:
        if isinstance(layer, plain.Embedding):
            inputs = _largest(layer.weight)
        if isinstance(layer, _WITHOUT_ROUNDING):
            continue
        magnitude = _magnitude(layer, inputs, largest, x)
        count = layer.num_layers if isinstance(layer, LayerSpec) else 1
        own = 2 * SAFETY * count * (magnitude + ROUNDINGS * max(1.0, largest)) * rounding
        before = before * SAFETY * _gain(layer, inputs, x) ** count + own
        inputs = magnitude if isinstance(layer, plain.Dense | plain.Conv) else largest
    return before


def _magnitude(layer: Layer, inputs: float, largest: float, x: npt.NDArray[Any]) -> float:
    """Of the largest sum: what its terms add up to without their signs."""
    if isinstance(layer, LayerSpec):
        return max(_sums(layer, suffix, inputs if at == 0 else largest, largest) for at, suffix in layer.suffixes())
    if isinstance(layer, plain.Dense | plain.Conv):
        bias = 0.0 if layer.bias is None else _largest(layer.bias)
        return float(_row_sums(layer.weight).max()) * inputs + bias
    return _gain(layer, inputs, x) * inputs


def _sums(layer: LayerSpec, suffix: str, inputs: float, largest: float) -> float:
    """Of W, R and b of one direction, with inputs and h of these magnitudes."""
    scales = {"weight_ih": inputs, "weight_hh": largest, "bias_ih": 1.0, "bias_hh": 1.0}
    terms = [
        _row_sums(layer.weights[name + suffix]) * scale
        for name, scale in scales.items()
        if name + suffix in layer.weights
    ]
    return float(np.sum(terms, 0).max())


def _gain(layer: Layer, inputs: float, x: npt.NDArray[Any]) -> float:
    """By how much an error of the input can grow."""
    if isinstance(layer, LayerSpec):
        return max(1.0, *(_row_norm(w) for name, w in layer.weights.items() if name.startswith("weight_ih")))
    if isinstance(layer, plain.Dense | plain.Conv):
        return _row_norm(layer.weight)
    if isinstance(layer, plain.Affine):
        return _largest(layer.scale)
    if isinstance(layer, plain.LayerNorm):
        deviation = np.sqrt(np.var(x, -1) + layer.epsilon).min(initial=np.inf)
        largest = 1.0 if layer.weight is None else _largest(layer.weight)
        return 2 * largest / max(float(deviation), ROUNDING["float32"])
    if isinstance(layer, plain.Merge):
        return 2 * inputs if layer.mode == "mul" else 2.0
    return 1.0


def _row_norm(weight: Array) -> float:
    return float(np.linalg.norm(weight.reshape(len(weight), -1), axis=1).max())


def _row_sums(weight: Array) -> npt.NDArray[np.float64]:
    sums: npt.NDArray[np.float64] = np.abs(weight).reshape(len(weight), -1).sum(1, dtype=np.float64)
    return sums


def _largest(values: npt.NDArray[Any]) -> float:
    finite = values[np.isfinite(values)]
    return float(np.abs(finite).max(initial=0))
