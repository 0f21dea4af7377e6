"""What ``trace=`` shows of a call: every c and every gate of the recurrent layers.

The core has each in one flat array: of layer after layer c [L*D,T,N,H], or the gates behind their activations
[L*D,T,N,G,H] in canonical order.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, TypeAlias

import numpy as np

from gated_c.arrays import Array
from gated_c.layers import Layer, steps_after
from gated_c.spec import GATES, LayerSpec

#: What can be shown.
NAMES = ("c", "gates")

LayerTrace: TypeAlias = dict[str, Array]


def checked_names(trace: Any, layers: Sequence[LayerSpec]) -> tuple[str, ...]:
    """``trace`` as a tuple; ``TypeError`` or ``ValueError`` if it is not one of names that all these layers have."""
    if not isinstance(trace, tuple | list):
        raise TypeError(f"trace: expected a tuple of some of {', '.join(NAMES)}, got {trace!r}")
    for name in trace:
        if name not in NAMES:
            raise ValueError(f"trace: expected some of {', '.join(NAMES)}, got {name!r}")
    without = next((layer for layer in layers if not layer.has_c), None)
    if "c" in trace and without is not None:
        raise ValueError(f"trace: expected no c, got it for {without.name or 'a layer'}: {without.cell} has none")
    return tuple(trace)


def empty_trace(layers: Sequence[Layer], names: Sequence[str], seq_len: int, batch: int) -> dict[str, Array]:
    """The flat arrays for the core to fill."""
    return {
        name: np.empty(sum(map(prod, _shapes(layers, name, seq_len, batch))), np.float32)
        for name in dict.fromkeys(names)
    }


def unflatten_trace(
    layers: Sequence[Layer], flat: dict[str, Array], seq_len: int, batch: int, *, unbatched: bool, batch_first: bool
) -> LayerTrace | tuple[LayerTrace, ...]:
    """Views of the flat arrays: of the only recurrent layer, or a tuple of theirs."""
    traces: list[LayerTrace] = [{} for layer in layers if isinstance(layer, LayerSpec)]
    for name, array in flat.items():
        at = 0
        for trace, shape in zip(traces, _shapes(layers, name, seq_len, batch), strict=True):
            part = array[at : at + prod(shape)].reshape(shape)
            trace[name] = part[:, :, 0] if unbatched else part.swapaxes(1, 2) if batch_first else part
            at += prod(shape)
    return traces[0] if len(traces) == 1 else tuple(traces)


def _shapes(layers: Sequence[Layer], name: str, seq_len: int, batch: int) -> list[tuple[int, ...]]:
    """Of every recurrent layer."""
    shapes: list[tuple[int, ...]] = []
    for index, layer in enumerate(layers):
        if isinstance(layer, LayerSpec):
            lead = (layer.num_layers * layer.num_directions, steps_after(layers[:index], seq_len), batch)
            shapes.append(
                (*lead, GATES[layer.cell], layer.hidden_size) if name == "gates" else (*lead, layer.hidden_size)
            )
    return shapes
