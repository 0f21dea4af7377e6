"""PyTorch's form of a state, and the core's: all h [L*D,N,H or P], then all c [L*D,N,H], in one flat array."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from gated_c._core import Engine
from gated_c.arrays import Array, as_float32
from gated_c.spec import LayerSpec

State: TypeAlias = Array | tuple[Array, Array]


def zero_state(engine: Engine, batch: int) -> Array:
    """The flat state of ``batch`` rows that have seen nothing."""
    return np.zeros(engine.state_size(batch), np.float32)


def _shapes(layer: LayerSpec, batch: int, unbatched: bool) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Of h and c."""
    stack = layer.num_layers * layer.num_directions
    if unbatched:
        return (stack, layer.h_size), (stack, layer.hidden_size)
    return (stack, batch, layer.h_size), (stack, batch, layer.hidden_size)


def flatten_state(layer: LayerSpec, state: Any, batch: int, unbatched: bool) -> Array:
    """A new flat state from ``h`` or ``(h, c)``; ``ValueError`` or ``TypeError`` names the part that does not fit."""
    if layer.has_c and not (isinstance(state, tuple | list) and len(state) == 2):
        raise TypeError(f"state: expected (h, c), got {type(state).__name__}")
    arrays = []
    for name, shape, part in zip(
        ("h0", "c0"), _shapes(layer, batch, unbatched), state if layer.has_c else (state,), strict=False
    ):
        array = as_float32(name, part)
        if array.shape != shape:
            raise ValueError(f"{name}: expected {shape}, got {array.shape}")
        arrays.append(array.reshape(-1))
    return np.concatenate(arrays)


def unflatten_state(layer: LayerSpec, flat: Array, batch: int, unbatched: bool) -> State:
    """Views of a flat state as ``h`` or ``(h, c)``."""
    h_shape, c_shape = _shapes(layer, batch, unbatched)
    if not layer.has_c:
        return flat.reshape(h_shape)
    h_size = h_shape[0] * batch * h_shape[-1]
    return flat[:h_size].reshape(h_shape), flat[h_size:].reshape(c_shape)
