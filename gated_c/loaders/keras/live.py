"""Live Keras layers and models, of Keras 3 on any backend and of Keras 2 (tf_keras)."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from gated_c.errors import UnsupportedError
from gated_c.layers import Layer
from gated_c.loaders.keras.archive import KerasNetwork
from gated_c.loaders.keras.config import KerasLayer
from gated_c.loaders.keras.file import chain_of
from gated_c.loaders.keras.weights import WeightsByLayer


def from_keras(layer_or_model: Any, backend: str | None = None) -> list[Layer]:
    """The chain of a built Keras layer or model, as it stands now; weights are copied as float32.

    ``backend`` as in `read_network`, by default the one that Keras runs on. Raises ``TypeError`` for another object,
    ``ValueError`` for one that is not built, ``UnsupportedError`` for what is not run.
    """
    config = serialised(layer_or_model)
    if not layer_or_model.built:
        raise ValueError(f"{layer_or_model.name}: expected a built layer or model; call it on data, or its build()")
    root = KerasLayer.parse(config)
    layers = root.parts("layers", "layers") if root.is_network else [root]
    objects = layer_or_model.layers if root.is_network else [layer_or_model]
    weights = WeightsByLayer(layers, {layer.name: _readers(layer) for layer in objects})
    network = KerasNetwork(root, weights, int(config["keras_version"].partition(".")[0]), config["backend"])
    return chain_of(network, backend, "its recurrent layers can be passed alone: {}")


def serialised(layer: Any) -> dict[str, Any]:
    """The config of a live layer or model, with the ``keras_version`` and ``backend`` it is of."""
    package: Any = sys.modules.get(_package(layer))
    serialize = getattr(getattr(package, "saving", None), "serialize_keras_object", None)
    if serialize is None:
        raise TypeError(f"expected a Keras layer or model, got {type(layer).__name__}")
    try:
        config = serialize(layer)
    except NotImplementedError as error:
        raise UnsupportedError(f"{layer.name}: it has no config that says what it computes: {error}") from None
    return dict(config, keras_version=package.__version__, backend=package.backend.backend())


def _package(layer: Any) -> str:
    """``keras`` or ``tf_keras``: that of the innermost of its classes that comes from there."""
    packages = (kind.__module__.partition(".")[0] for kind in type(layer).__mro__)
    return next((package for package in packages if package in ("keras", "tf_keras")), "")


def _readers(layer: Any) -> list[Callable[[], npt.NDArray[Any]]]:
    """Trained weights first, as in the older files."""
    return [partial(_values, weight) for weight in [*layer.trainable_weights, *layer.non_trainable_weights]]


def _values(weight: Any) -> npt.NDArray[Any]:
    value = weight.value
    if callable(value):  # tf_keras
        value = value()
    if hasattr(value, "detach"):
        value = value.detach().cpu().float()
    return np.asarray(value)
