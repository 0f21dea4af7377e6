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


def _shapes(layer: LayerSpec, batch: int, unbatched: bool) -> dict[str, tuple[int, ...]]:
    rows: tuple[int, ...] = () if unbatched else (batch,)
    stack = layer.num_layers * layer.num_directions
    shapes = {"h": (stack, *rows, layer.h_size)}
    if layer.has_c:
        shapes["c"] = (stack, *rows, layer.hidden_size)
    return shapes


def flatten_state(layer: LayerSpec, state: Any, batch: int, unbatched: bool) -> Array:
    """A new flat state from ``h`` or ``(h, c)``; ``ValueError`` or ``TypeError`` names the part that does not fit."""
    shapes = _shapes(layer, batch, unbatched)
    if layer.has_c and not (isinstance(state, tuple | list) and len(state) == 2):
        raise TypeError(f"state: expected (h, c), got {type(state).__name__}")
    parts = state if layer.has_c else (state,)
    arrays = []
    for (name, shape), part in zip(shapes.items(), parts, strict=True):
        array = as_float32(f"{name}0", part)
        if array.shape != shape:
            raise ValueError(f"{name}0: expected {shape}, got {array.shape}")
        arrays.append(array.reshape(-1))
    return np.concatenate(arrays)


def unflatten_state(layer: LayerSpec, flat: Array, batch: int, unbatched: bool) -> State:
    """Views of a flat state as ``h`` or ``(h, c)``."""
    parts = []
    start = 0
    for shape in _shapes(layer, batch, unbatched).values():
        size = int(np.prod(shape))
        parts.append(flat[start : start + size].reshape(shape))
        start += size
    return (parts[0], parts[1]) if layer.has_c else parts[0]
