"""Our own format, ``.gated``: a safetensors file whose metadata describe the layers.

Tensors are float32 and named ``<layer>.<weight>``, ``0.weight_ih_l0``. Three entries of the metadata belong to it:

``gated_version``  the version of this format, ``1``
``gated_layers``   JSON: for each layer an object with the fields of `LayerSpec` but the weights
``gated_crc32``    CRC-32, as 8 hexadecimal digits, of ``gated_layers`` and then all tensors, sorted by name

The checksum is verified whenever a file is opened, at about 2 GB/s. Reading maps the file, so all processes share one
copy. Saving replaces a file and never writes into one that may be mapped.
"""

from __future__ import annotations

import json
import os
import zlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from gated_c.errors import FormatError
from gated_c.files import replacing
from gated_c.loaders.names import shown
from gated_c.loaders.safetensors_file import MappedTensor, open_safetensors, write_safetensors
from gated_c.spec import Activation, Array, LayerSpec

VERSION = 1

_TYPES = {"str": str, "int": int, "bool": bool, "float": float, "tuple[Activation, ...]": list}
_FIELDS = {field.name: _TYPES[str(field.type)] for field in fields(LayerSpec) if field.name != "weights"}

#: What a cell does beyond PyTorch's: written only where it differs from these defaults.
_OPTIONS = {name: getattr(LayerSpec, name) for name in list(_FIELDS)[list(_FIELDS).index("name") + 1 :]}


def save(layers: Sequence[LayerSpec], path: str | bytes | os.PathLike[str]) -> None:
    """Write the layers, in order. The file appears whole or not at all. Raises ``ValueError`` for weights that do not
    fit their layer, ``OSError`` where nothing can be written."""
    for layer in layers:
        layer.validate()
    arrays = {
        f"{index}.{name}": np.ascontiguousarray(weight)
        for index, layer in enumerate(layers)
        for name, weight in layer.weights.items()
    }
    description = json.dumps([_describe(layer) for layer in layers])
    metadata = {
        "gated_version": str(VERSION),
        "gated_layers": description,
        "gated_crc32": _checksum(description, arrays),
    }
    with replacing(path) as unfinished, open(unfinished, "wb") as file:
        write_safetensors(file, arrays, metadata)
        file.flush()
        os.fsync(file.fileno())


def _describe(layer: LayerSpec) -> dict[str, Any]:
    values = {name: _plain(getattr(layer, name), kind) for name, kind in _FIELDS.items()}
    return {name: value for name, value in values.items() if name not in _OPTIONS or value != _OPTIONS[name]}


def _plain(value: Any, kind: type) -> Any:
    """A field as the type that `read` insists on, which NumPy's scalars are not."""
    if kind is list:
        return tuple(Activation(str(name), float(alpha), float(beta)) for name, alpha, beta in value)
    return kind(value)


def read(path: str | os.PathLike[str]) -> list[LayerSpec]:
    """The layers of a file, in order. Their weights are read-only views of the mapped file."""
    tensors, metadata = open_safetensors(path)
    if not is_native(metadata):
        raise FormatError("a safetensors file, but not a .gated one: no gated_version in its metadata")
    if metadata["gated_version"] != str(VERSION):
        version = shown(metadata["gated_version"], 20)
        raise FormatError(f"format version '{version}', this gated_c reads {VERSION}; a newer gated_c may read it")
    arrays = {name: _array(name, tensor) for name, tensor in tensors.items()}
    description = metadata.get("gated_layers", "")
    if metadata.get("gated_crc32") != _checksum(description, arrays):
        raise FormatError("contents do not match the checksum: the file was altered")
    return _layers(json.loads(description), arrays)


def is_native(metadata: Mapping[str, str]) -> bool:
    """Whether a safetensors file with these metadata is one of ours."""
    return "gated_version" in metadata


def _checksum(description: str, arrays: Mapping[str, Array]) -> str:
    crc = zlib.crc32(description.encode())
    for name in sorted(arrays):
        crc = zlib.crc32(arrays[name].data, crc)
    return f"{crc:08x}"


def _array(name: str, tensor: MappedTensor) -> Array:
    if tensor.dtype != "F32":
        raise FormatError(f"{shown(name)}: expected F32, got {tensor.dtype}")
    return np.require(tensor.view(), np.float32, "A")


def _layers(descriptions: Any, arrays: Mapping[str, Array]) -> list[LayerSpec]:
    weights: defaultdict[str, dict[str, Array]] = defaultdict(dict)
    for key, array in arrays.items():
        index, _, name = key.partition(".")
        weights[index][name] = array
    if not isinstance(descriptions, list) or len(descriptions) != len(weights):
        raise FormatError("gated_layers: expected a list with one description for each layer that has weights")
    return [_layer(description, weights[str(index)]) for index, description in enumerate(descriptions)]


def _layer(description: Any, weights: Mapping[str, Array]) -> LayerSpec:
    if not isinstance(description, dict):
        raise FormatError("gated_layers: expected an object for each layer")
    described = _OPTIONS | {"activations": []} | description
    if {name: type(value) for name, value in described.items()} != _FIELDS:
        raise FormatError(f"gated_layers: expected {', '.join(set(_FIELDS) - set(_OPTIONS))} for each layer")
    if described["num_layers"] > len(weights):
        raise FormatError(f"gated_layers: more layers than the {len(weights)} weights")
    described["activations"] = tuple(_activation(activation) for activation in described["activations"])
    layer = LayerSpec(weights=weights, **described)
    layer.validate()
    return layer


def _activation(values: Any) -> Activation:
    if not isinstance(values, list) or [type(value) for value in values] != [str, float, float]:
        raise FormatError("gated_layers: expected activations of a name, alpha and beta")
    return Activation(*values)
