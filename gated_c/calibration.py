"""How far h reaches on given data, so that 8-bit integers need reach no farther."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from gated_c.arrays import Array
from gated_c.layers import Layer
from gated_c.model import Model
from gated_c.packed import is_packed
from gated_c.spec import LARGEST, LayerSpec

MARGIN = 1.05  # times the largest seen: what saturates beyond is rare, and costs one step of 254 to allow for

#: Cells whose h is within 1, but for projections and activations of their own.
_WITHIN_1 = ("lstm", "gru", "gru_reset_before", "rnn_tanh")


def calibrated(layers: Sequence[Layer], inputs: Any) -> list[Layer]:
    """The layers with ``h_limit`` of every recurrent one from an input like x of a call, or a list of such inputs.

    Raises as a call does, and ``ValueError`` where h is not finite or there is none.
    """
    is_one = is_packed(inputs) or not isinstance(inputs, list | tuple)
    xs = [inputs] if is_one else inputs
    if not xs:
        raise ValueError("calibrate: expected an input or a list of them, got none")
    found: list[Layer] = list(layers)
    for index, layer in enumerate(layers):
        if isinstance(layer, LayerSpec):
            found[index] = replace(layer, h_limit=_limits(layers[:index], layer, xs))
    return found


def _limits(before: Sequence[Layer], spec: LayerSpec, xs: Sequence[Any]) -> tuple[float, ...]:
    """Of each direction of each layer; y of all layers up to one is its h."""
    limits: list[float] = []
    for count in range(1, spec.num_layers + 1):
        model = Model([*before, _first(spec, count)])
        results = [_h(model, x) for x in xs]
        if not any(h.size for h in results):
            raise ValueError("calibrate: expected at least one step, got none")
        reached = [_largest(h, spec.num_directions) for h in results]
        largest = np.max(np.stack([*reached, _largest_initial(spec, count - 1)]), axis=0)
        limits += [_limit(spec, value) for value in largest.tolist()]
    return tuple(limits)


def _h(model: Model, x: Any) -> Array:
    y: Any = model(x)[0]
    return np.asarray(y.data) if is_packed(y) else y


def _first(spec: LayerSpec, count: int) -> LayerSpec:
    """That many layers of a stack."""
    alone = replace(spec, num_layers=count, h_limit=())
    names = alone.expected_shapes() | alone.initial_shapes()
    return replace(alone, weights={name: spec.weights[name] for name in names if name in spec.weights})


def _largest(h: Array, directions: int) -> Array:
    """abs(h) of each direction."""
    largest: Array = np.abs(h.reshape(-1, directions, h.shape[-1] // directions)).max((0, 2), initial=0)
    return largest


def _largest_initial(spec: LayerSpec, layer: int) -> Array:
    names = ["initial_h" + suffix for at, suffix in spec.suffixes() if at == layer]
    return np.array([np.abs(spec.weights[name]).max() if name in spec.weights else 0 for name in names], np.float32)


def _limit(spec: LayerSpec, largest: float) -> float:
    if not np.isfinite(largest):
        raise ValueError(
            f"calibrate: expected an input on which h is finite, got {largest} in {spec.name or spec.cell}"
        )
    is_within_1 = spec.cell in _WITHIN_1 and not spec.activations and not spec.proj_size
    limit = float(np.float32(min(largest * MARGIN, LARGEST)))
    return min(limit, 1.0) if is_within_1 else limit
