"""Networks and recurrent layers from Keras's files."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from typing import Any

from gated_c.errors import FormatError, UnsupportedError
from gated_c.layers import Layer, validate_chain
from gated_c.loaders.file_kind import file_kind
from gated_c.loaders.keras.archive import KerasNetwork, open_archive, open_hdf5
from gated_c.loaders.keras.config import KerasLayer, path_through, recurrent_layers
from gated_c.loaders.keras.layers import read_chain
from gated_c.loaders.keras.recurrent import MASKED, Dialect, read_recurrent_layer
from gated_c.loaders.keras.weights import Weights
from gated_c.loaders.names import shown
from gated_c.spec import LayerSpec

#: Names in a hint to choose from.
_MAX_NAMES = 8


def read_network(path: str | os.PathLike[str], *, config: Any = None, backend: str | None = None) -> list[Layer]:
    """The whole network in a file, which must be a single path of supported layers.

    ``config`` is that of the model for a file of weights alone: a dictionary, JSON, the path of a file of JSON, or a
    live Keras model. ``backend`` (``MASKED``) settles how sequences that begin with masked steps come out; ``None``
    takes what the file names, else TensorFlow. Raises ``FormatError``, ``UnsupportedError`` and, for arguments that do
    not fit, ``ValueError`` or ``TypeError``.
    """
    return chain_of(open_file(path, config), backend, "to run a recurrent layer alone: prefix={}")


def read_recurrent(path: str | os.PathLike[str], *, config: Any = None, backend: str | None = None) -> list[LayerSpec]:
    """Every recurrent layer in a file, whatever connects them, as it is by itself: y is in order of time, both
    directions beside each other, and 0 at masked steps. A stack of cells gives one layer for each.

    A layer that cannot be read is left out with a ``UserWarning``, as long as another can.
    """
    network = open_file(path, config)
    dialect = _dialect(network, backend)
    specs: list[LayerSpec] = []
    errors: list[FormatError | UnsupportedError] = []
    for layer in recurrent_layers(network.root):
        try:
            specs += read_recurrent_layer(layer, network.weights, dialect).alone()
        except (FormatError, UnsupportedError) as error:
            errors.append(error)
    if errors and not specs:
        raise errors[0]
    for left_out in errors:
        warnings.warn(f"{os.fspath(path)}: {left_out}", UserWarning, stacklevel=5)
    return specs


def chain_of(network: KerasNetwork, backend: str | None, hint: str) -> list[Layer]:
    """The checked chain of a network. ``hint`` is how to have one of its recurrent layers alone, with ``{}`` for the
    names of those that can be."""
    dialect = _dialect(network, backend)
    try:
        layers = read_chain(path_through(network.root), network.weights, dialect)
        if not any(isinstance(layer, LayerSpec) for layer in layers):
            raise UnsupportedError(f"{shown(network.root.name)}: no LSTM, GRU or RNN in it")
        validate_chain(layers)
    except UnsupportedError as error:
        names = [
            repr(shown(layer.name))
            for layer in recurrent_layers(network.root)
            if _can_be_alone(layer, network.weights, dialect)
        ]
        more = ["..."] if len(names) > _MAX_NAMES else []
        choice = hint.format(" or ".join(names[:_MAX_NAMES] + more))
        raise UnsupportedError(f"{error}; {choice}" if names else str(error)) from None
    except ValueError as error:
        raise FormatError(str(error)) from None
    return layers


def _can_be_alone(layer: KerasLayer, weights: Weights, dialect: Dialect) -> bool:
    try:
        read_recurrent_layer(layer, weights, dialect).alone()
    except (FormatError, UnsupportedError):
        return False
    return True


def open_file(path: str | os.PathLike[str], config: Any) -> KerasNetwork:
    """The network of any of the formats."""
    if config is not None and not isinstance(config, Mapping | str | os.PathLike):
        from gated_c.loaders.keras.live import serialised

        config = serialised(config)
    if file_kind(path) == "hdf5":
        return open_hdf5(path, config)
    if config is not None:
        raise ValueError("config: expected None for a file that holds its own")
    return open_archive(path)


def _dialect(network: KerasNetwork, backend: str | None) -> Dialect:
    if backend is not None and backend not in MASKED:
        raise ValueError(f"backend: expected one of {', '.join(MASKED)}, got {backend!r}")
    return Dialect(network.keras, MASKED.get(backend or network.backend, "repeat"))
