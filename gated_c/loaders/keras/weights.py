"""Which arrays of a Keras file, or of a live network, are the weights of which layer.

Keras 3 (and the ``.keras`` files of 2.12 on) files them by path, ``layers/lstm/cell/vars/0``; before, and in its legacy
HDF5 format still, they are one list for each layer of the outermost network, trainable ones first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from gated_c.errors import FormatError
from gated_c.loaders.keras.config import KerasLayer
from gated_c.loaders.keras.hdf5 import Hdf5
from gated_c.loaders.names import shown
from gated_c.spec import Array

Arrays: TypeAlias = dict[str, npt.NDArray[Any]]

#: Arrays behind functions that read them, and those of each layer of a network, by its name.
Readers: TypeAlias = Sequence[Callable[[], npt.NDArray[Any]]]
Lists: TypeAlias = Mapping[str, Readers]

#: The weights of a layer in order; ``?option`` says which option it takes, ``*`` marks what is not trained.
_WEIGHTS = {
    "LSTMCell": ("kernel", "recurrent_kernel", "bias?use_bias"),
    "GRUCell": ("kernel", "recurrent_kernel", "bias?use_bias"),
    "SimpleRNNCell": ("kernel", "recurrent_kernel", "bias?use_bias"),
    "CuDNNLSTM": ("kernel", "recurrent_kernel", "bias"),
    "CuDNNGRU": ("kernel", "recurrent_kernel", "bias"),
    "Embedding": ("embeddings",),
    "Dense": ("kernel", "bias?use_bias"),
    "Conv1D": ("kernel", "bias?use_bias"),
    "LayerNormalization": ("gamma?scale", "beta?center"),
    "BatchNormalization": ("gamma?scale", "beta?center", "moving_mean*", "moving_variance*"),
}

_CACHE_LINE = 16  # float32

#: Layers of one cell: the class of it.
CELL_OF = {"LSTM": "LSTMCell", "GRU": "GRUCell", "SimpleRNN": "SimpleRNNCell"}


def weight_names(layer: KerasLayer) -> list[str]:
    """The weights that a layer or cell itself has, in order, ``*`` behind those that are not trained."""
    if layer.class_name == "Normalization":
        return [] if layer.config.get("mean") is not None else ["mean*", "variance*", "count*"]
    names = [name.partition("?") for name in _WEIGHTS.get(layer.class_name, ())]
    return [name for name, _, option in names if not option or layer.option(option, True)]


def owners(layer: KerasLayer) -> Iterator[KerasLayer]:
    """A layer's parts that have weights themselves, in the order of the older format."""
    if layer.is_network:
        for inner in layer.parts("layers", "layers"):
            yield from owners(inner)
    elif layer.class_name == "Bidirectional":
        for direction in directions(layer):
            yield from cells(direction)
    elif layer.class_name in CELL_OF or layer.class_name == "RNN":
        yield from cells(layer)
    elif layer.class_name == "TimeDistributed":
        yield from owners(layer.part("layer"))
    else:
        yield layer


def directions(layer: KerasLayer) -> tuple[KerasLayer, KerasLayer]:
    """The two layers in a Bidirectional one. Without a ``backward_layer`` the second is the first read backwards."""
    forward = layer.part("layer", "forward_layer")
    if layer.config.get("backward_layer") is not None:
        return forward, layer.part("backward_layer")
    mirrored = dict(forward.config, go_backwards=not forward.option("go_backwards", False))
    return forward, replace(forward, config=mirrored, path=f"{layer.path}/backward_layer")


def cells(layer: KerasLayer) -> list[KerasLayer]:
    """The cells of a recurrent layer, the lowest first."""
    if layer.class_name in CELL_OF:
        return [replace(layer, class_name=CELL_OF[layer.class_name], path=f"{layer.path}/cell")]
    if layer.class_name != "RNN":
        return [layer]
    cell = layer.part("cell")
    if cell.class_name != "StackedRNNCells":
        return [cell]
    return cell.parts("cells", "cells")


class Weights(Protocol):
    """Where weights come from."""

    def read(self, owner: KerasLayer) -> Arrays:
        """A layer's or cell's own weights, by name. Raises ``FormatError``, ``UnsupportedError``."""
        ...


class WeightsByPath:
    """Those of a Keras 3 file."""

    def __init__(self, file: Hdf5, root: str = "") -> None:
        self._file = file
        self._root = root
        # Keras 2.13 had another name for the same.
        is_2_13 = "_layer_checkpoint_dependencies" in file.members(root)
        self._layers = "_layer_checkpoint_dependencies" if is_2_13 else "layers"

    def read(self, owner: KerasLayer) -> Arrays:
        folder = "/".join(self._layers if part == "layers" else part for part in owner.path.split("/"))
        folder = f"{folder}/vars"
        names = weight_names(owner)
        stored = len(self._file.members(folder))
        if stored != len(names):
            raise _count_error(owner, names, stored)
        return {name.rstrip("*"): self._file.array(f"{folder}/{n}") for n, name in enumerate(names)}


class WeightsByLayer:
    """Lists of arrays, one for each layer of the outermost network, each behind a function that reads it."""

    def __init__(self, layers: Sequence[KerasLayer], lists: Lists) -> None:
        self._arrays: dict[str, list[Callable[[], npt.NDArray[Any]]]] = {}
        self._errors: dict[str, FormatError] = {}
        for layer, arrays in _matched(layers, lists):
            self._assign(layer, arrays)

    def read(self, owner: KerasLayer) -> Arrays:
        if owner.path in self._errors:
            raise self._errors[owner.path]
        names = weight_names(owner)
        readers = self._arrays.get(owner.path, [])
        if len(readers) != len(names):
            raise _count_error(owner, names, len(readers))
        return {name.rstrip("*"): read() for name, read in zip(names, readers, strict=True)}

    def _assign(self, layer: KerasLayer, arrays: Readers) -> None:
        """Deal a layer's list out to what is inside it."""
        slots = [
            (owner.path, owner.trainable and not name.endswith("*"))
            for owner in owners(layer)
            for name in weight_names(owner)
        ]
        slots.sort(key=lambda slot: not slot[1])
        if len(slots) != len(arrays):
            error = FormatError(f"{shown(layer.name)}: expected {len(slots)} weights, got {len(arrays)}")
            self._errors |= {owner.path: error for owner in owners(layer)}
            return
        for (path, _), read in zip(slots, arrays, strict=True):
            self._arrays.setdefault(path, []).append(read)


def _matched(layers: Sequence[KerasLayer], lists: Lists) -> Iterator[tuple[KerasLayer, Readers]]:
    """Layers and their lists: by name, or in order where weights were saved under other names than the config's."""
    weighty = [layer for layer in layers if any(map(weight_names, owners(layer)))]
    names = [str(layer.config.get("name")) for layer in weighty]
    if set(names) <= set(lists):
        return zip(weighty, (lists[name] for name in names), strict=True)
    filled = [arrays for arrays in lists.values() if arrays]
    if len(filled) != len(weighty):
        raise FormatError(f"weights: expected those of {len(weighty)} layers, got {len(filled)} lists")
    return zip(weighty, filled, strict=True)


def transpose(kernel: npt.NDArray[Any], rows: Array) -> Array:
    """Write a kernel [C, F] as ``rows`` [F, C], a cache line at a time: NumPy alone takes four times as long."""
    with np.errstate(over="ignore", under="ignore"):
        for at in range(0, len(kernel), _CACHE_LINE):
            rows[:, at : at + _CACHE_LINE] = kernel[at : at + _CACHE_LINE].T
    return rows


def _count_error(owner: KerasLayer, names: Sequence[str], stored: int) -> FormatError:
    expected = ", ".join(name.rstrip("*") for name in names) or "none"
    return FormatError(f"{shown(owner.name)}: weights: expected {expected}, got {stored} arrays")
