"""States as callers see them and as the core does.

A recurrent layer's state has PyTorch's form, ``h`` [L*D,N,H or P] or ``(h, c)`` with c [L*D,N,H]. The state of a model
is that of its only recurrent layer, or a tuple of theirs. The core has all of it in one flat array: layer after layer,
h then c.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from gated_c.arrays import Array, as_float32
from gated_c.spec import LayerSpec

LayerState: TypeAlias = Array | tuple[Array, Array]
State: TypeAlias = LayerState | tuple[LayerState, ...]


def flatten_state(layers: Sequence[LayerSpec], state: Any, batch: int, unbatched: bool) -> Array:
    """A new flat state of these recurrent layers; ``ValueError`` or ``TypeError`` names the part that does not fit."""
    if len(layers) == 1:
        return np.concatenate(_parts(layers[0], state, batch, unbatched))
    if not isinstance(state, tuple | list) or len(state) != len(layers):
        got = f"{len(state)}" if isinstance(state, tuple | list) else type(state).__name__
        raise TypeError(f"state: expected a tuple of {len(layers)}, one for each recurrent layer, got {got}")
    parts = []
    for index, (layer, own) in enumerate(zip(layers, state, strict=True)):
        try:
            parts += _parts(layer, own, batch, unbatched)
        except (TypeError, ValueError) as error:
            raise type(error)(f"state[{index}]: {error}") from None
    return np.concatenate(parts)


def flatten_initial(layers: Sequence[LayerSpec], initial: Any, batch: int, unbatched: bool) -> Array:
    """The same of ``initial``, a state of the whole batch or, without its axis, one for all rows."""
    first = initial
    for _ in range((len(layers) > 1) + layers[0].has_c):
        first = first[0] if isinstance(first, tuple | list) and first else first
    try:
        if unbatched or np.ndim(first) != 2:
            return flatten_state(layers, initial, batch, unbatched)
        row = flatten_state(layers, initial, 1, unbatched=True)
    except (TypeError, ValueError) as error:
        raise type(error)(f"initial: {error}") from None
    states = unflatten_state(layers, row, 1, unbatched=False)
    return np.concatenate([np.repeat(part, batch, axis=1).reshape(-1) for part in _arrays(states)])


def unflatten_state(layers: Sequence[LayerSpec], flat: Array, batch: int, unbatched: bool) -> State:
    """Views of a flat state in the form of a model's."""
    states: list[LayerState] = []
    at = 0
    for layer in layers:
        stack = layer.num_layers * layer.num_directions
        lead = (stack,) if unbatched else (stack, batch)
        h_end = at + stack * batch * layer.h_size
        end = h_end + stack * batch * layer.hidden_size if layer.has_c else h_end
        h = flat[at:h_end].reshape(*lead, layer.h_size)
        states.append((h, flat[h_end:end].reshape(*lead, layer.hidden_size)) if layer.has_c else h)
        at = end
    return states[0] if len(states) == 1 else tuple(states)


def _arrays(state: State) -> list[Array]:
    """Every h and c, in order."""
    if isinstance(state, tuple):
        return [array for part in state for array in _arrays(part)]
    return [state]


def _shapes(layer: LayerSpec, batch: int, unbatched: bool) -> list[tuple[int, ...]]:
    """Of h and, if there is one, c."""
    stack = layer.num_layers * layer.num_directions
    sizes = [layer.h_size, layer.hidden_size] if layer.has_c else [layer.h_size]
    return [(stack, size) if unbatched else (stack, batch, size) for size in sizes]


def _parts(layer: LayerSpec, state: Any, batch: int, unbatched: bool) -> list[Array]:
    if layer.has_c and not (isinstance(state, tuple | list) and len(state) == 2):
        raise TypeError(f"state: expected (h, c), got {type(state).__name__}")
    arrays = []
    shapes = _shapes(layer, batch, unbatched)
    for name, shape, part in zip(("h0", "c0"), shapes, state if layer.has_c else (state,), strict=False):
        array = as_float32(name, part)
        if array.shape != shape:
            raise ValueError(f"{name}: expected {shape}, got {array.shape}")
        arrays.append(array.reshape(-1))
    return arrays
