"""Keras's files: the ``.keras`` archive of Keras 3 and 2.12 on, HDF5 files of weights alone, and older ones of models.

Sources: keras/src/saving/saving_lib.py and keras/src/legacy/saving/legacy_h5_format.py of Keras 3.15.
"""

from __future__ import annotations

import json
import mmap
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from gated_c.errors import FormatError, UnsupportedError
from gated_c.loaders.keras.config import KerasLayer
from gated_c.loaders.keras.hdf5 import Hdf5
from gated_c.loaders.keras.weights import Weights, WeightsByLayer, WeightsByPath
from gated_c.loaders.names import shown
from gated_c.loaders.zip_archive import ZipArchive

_CONFIG = "config.json"
_METADATA = "metadata.json"
_WEIGHTS = "model.weights.h5"

#: Where the weights' version is nowhere said: a config of Keras 2 has this, one of Keras 3 calls it batch_shape.
_ONLY_IN_KERAS_2 = ('"batch_input_shape"', '"time_major"')


@dataclass(frozen=True)
class KerasNetwork:
    """A network as a file or a live object holds it: ``keras`` is the major version, ``backend`` empty if unknown."""

    root: KerasLayer
    weights: Weights = field(repr=False)
    keras: int
    backend: str = ""


def is_archive(path: str | os.PathLike[str]) -> bool:
    """Whether a zip file is one that Keras wrote."""
    try:
        with zipfile.ZipFile(path) as archive:
            return {_CONFIG, _METADATA} <= set(archive.namelist())
    except Exception:  # zipfile fails in many ways over a damaged directory, and who reads it will say so
        return False


def open_archive(path: str | os.PathLike[str]) -> KerasNetwork:
    """A ``.keras`` file."""
    archive = ZipArchive(path)
    if _WEIGHTS not in archive.members and "model.weights.npz" in archive.members:
        raise UnsupportedError("model.weights.npz: pickled weights; save the model again with weights in HDF5")
    version = _parsed(bytes(archive.member(_METADATA)), _METADATA).get("keras_version")
    root = KerasLayer.parse(_parsed(bytes(archive.member(_CONFIG)), _CONFIG))
    return KerasNetwork(root, WeightsByPath(Hdf5(archive.member(_WEIGHTS))), _major(version))


def open_hdf5(path: str | os.PathLike[str], config: Any) -> KerasNetwork:
    """A legacy model, which holds its config, or a file of weights, which needs one."""
    with open(path, "rb") as opened:
        file = Hdf5(memoryview(mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)))
    stored = file.text("", "model_config")
    if stored is not None:
        if config is not None:
            raise ValueError("config: expected None for a file that holds its own")
        folder = "model_weights"
        config = _parsed(stored, "model_config")
    else:
        folder = ""
        config = _given(config)
    root = KerasLayer.parse(config)
    if "layers" in file.members("") or "_layer_checkpoint_dependencies" in file.members(""):
        return KerasNetwork(root, WeightsByPath(file), _version_of(config))
    version = file.text(folder, "keras_version")
    weights = WeightsByLayer(root.parts("layers", "layers"), _lists(file, folder))
    return KerasNetwork(root, weights, _major(version), file.text(folder, "backend") or "")


def _lists(file: Hdf5, folder: str) -> dict[str, Any]:
    """Readers of each layer's weights, in order."""
    prefix = f"{folder}/" if folder else ""
    return {
        layer: [
            partial(file.array, f"{prefix}{layer}/{name}") for name in file.texts(f"{prefix}{layer}", "weight_names")
        ]
        for layer in file.texts(folder, "layer_names")
    }


def _given(config: Any) -> Mapping[str, Any]:
    """The config argument: a dictionary, JSON, or the path of a file of JSON."""
    if config is None:
        raise ValueError("config: expected that of the model for a file of weights alone, got None")
    if isinstance(config, Mapping):
        return config
    if not isinstance(config, str | os.PathLike):
        raise TypeError(f"config: expected a dict, JSON, a path or a Keras model, got {type(config).__name__}")
    text = os.fspath(config)
    if not text.lstrip().startswith("{"):
        return _parsed(Path(text).read_bytes(), f"config {text}")
    return _parsed(text, "config")


def _parsed(text: str | bytes, place: str) -> dict[str, Any]:
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{place}: {shown(str(error), 200)}") from None
    if not isinstance(parsed, dict):
        raise FormatError(f"{place}: expected an object")
    return parsed


def _version_of(config: Mapping[str, Any]) -> int:
    """Of a config alone."""
    if isinstance(config.get("keras_version"), str):
        return _major(config["keras_version"])
    text = json.dumps(config, default=str)
    return 2 if any(key in text for key in _ONLY_IN_KERAS_2) else 3


def _major(version: Any) -> int:
    """2 for what came before, too: only Keras 3 differs."""
    number = str(version or "").partition(".")[0]
    return 3 if number.isdecimal() and int(number) >= 3 else 2
