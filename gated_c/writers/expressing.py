"""What the writers share: the order of gates, the functions of a cell, and the refusal of what a format cannot say."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from gated_c.errors import UnsupportedError
from gated_c.spec import Activation, Array, LayerSpec

#: Canonical order of the gates in W, R and b.
_GATES = {"lstm": "ifgo", "gru": "rzn", "gru_reset_before": "rzn"}

_FIXED = {"rnn_tanh": "tanh", "rnn_relu": "relu"}


def refuse_unless_empty(layers: Sequence[LayerSpec], refusals: Callable[[LayerSpec], Iterable[str]]) -> None:
    """Raise one ``UnsupportedError`` with every refusal of every layer, if there is any."""
    refused = [
        f"{layer.name or layer.cell}: {refusal}" for layer in layers for refusal in dict.fromkeys(refusals(layer))
    ]
    if refused:
        raise UnsupportedError("; ".join(refused))


def functions_of(layer: LayerSpec, direction: int) -> tuple[Activation, ...]:
    """f, g, h of a direction as `LayerSpec.activations_of` has them, of every cell."""
    if layer.cell in _FIXED:
        return (Activation.of(_FIXED[layer.cell]),)
    return layer.activations_of(direction)


def names_of(layer: LayerSpec, direction: int) -> tuple[str, ...]:
    """The names of `functions_of`."""
    return tuple(activation.name for activation in functions_of(layer, direction))


def reordered(layer: LayerSpec, weight: Array, order: str) -> Array:
    """W, R or b [G*H, ...] with its gates in another order, such as ``iofg``."""
    gates = _GATES.get(layer.cell)
    if gates is None:
        return weight
    blocks = np.split(weight, len(gates))
    return np.concatenate([blocks[gates.index(letter)] for letter in order])


def distinct_names(layers: Sequence[LayerSpec]) -> list[str]:
    """Each layer's own name if that tells them apart, else its index."""
    names = [layer.name for layer in layers]
    return names if all(names) and len(set(names)) == len(names) else [str(n) for n in range(len(layers))]
