"""Our own format, ``.gated``: a safetensors file whose metadata describe the layers.

Tensors are float32 and named ``<layer>.<weight>``, ``0.weight_ih_l0``; they stand one behind the other in the order of
the header, each on a multiple of 4 bytes. Six entries of the metadata belong to it:

``gated_version``  the version of this format, ``1``
``gated_layers``   JSON: for each layer an object with its fields but the weights: those of `LayerSpec`, or those of the
                   class in `layers` that ``layer`` names
``gated_core``     JSON: the same in the words of gated_c.h (`core_words`), for the C library, which reads only these
``gated_flags``    those of ``gated_model_create`` in gated_c.h, as 8 hexadecimal digits
``gated_packing``  GATED_PACKING of gated_c.h, in decimal, of packed weights; only where there are such
``gated_crc32``    CRC-32, likewise, of the entries from ``gated_layers`` on, all ASCII, and then all tensors, sorted by
                   name

A tensor ``packed.<instruction set>`` [K] holds all weights once more, as that instruction set's kernels read them. It
comes first, on a multiple of 64 bytes of the file. Where its version, place and instruction set fit, a model uses it
where it is mapped, and otherwise packs the others for itself. Tensors named ``golden.*`` are vectors to check a loaded
model with (`golden`). The checksum is verified whenever a file is opened, at about 2 GB/s. Reading maps the file, so
all processes share one copy. Saving replaces a file and never writes into one that may be mapped.
"""

from __future__ import annotations

import json
import os
import re
import sys
import zlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from gated_c._core import packing
from gated_c.arrays import Array
from gated_c.errors import FormatError
from gated_c.files import replacing
from gated_c.layers import Layer, PlainLayer, validate_chain
from gated_c.loaders import Loaded
from gated_c.loaders.core_words import core_words
from gated_c.loaders.names import shown
from gated_c.loaders.safetensors_file import MappedTensor, open_safetensors, write_safetensors
from gated_c.spec import Activation, LayerSpec

VERSION = 1

FLUSH_SUBNORMALS = 1  # of gated_flags

PACKING, ALIGNMENT = packing()

_TYPES = {
    "str": str,
    "int": int,
    "bool": bool,
    "float": float,
    "tuple[Activation, ...]": list,
    "Activation": Activation,
}


def _fields_of(layer_type: type[Layer]) -> dict[str, type]:
    """The fields that are described: all but the weights."""
    types = {field.name: _TYPES.get(str(field.type)) for field in fields(layer_type)}
    return {name: kind for name, kind in types.items() if kind is not None}


_FIELDS = _fields_of(LayerSpec)

#: What a cell does beyond PyTorch's: written only where it differs from these defaults.
_OPTIONS = {name: getattr(LayerSpec, name) for name in list(_FIELDS)[list(_FIELDS).index("name") + 1 :]}

_PLAIN = {layer_type.__name__: layer_type for layer_type in PlainLayer.__subclasses__()}

_GOLDEN = "golden"
_PACKED = "packed"


def save(
    layers: Sequence[Layer],
    path: str | bytes | os.PathLike[str],
    golden: Mapping[str, Array] | None = None,
    flush_subnormals: bool = False,
    packed: Mapping[str, Array] | None = None,
) -> None:
    """Write the layers, in order, the vectors to check them with, and what else the model is told.

    The file appears whole or not at all. Raises ``ValueError`` for weights that do not fit their layer, ``OSError``
    where nothing can be written.
    """
    validate_chain(layers)
    arrays = {f"{_PACKED}.{isa}": array for isa, array in (packed or {}).items()}
    arrays |= {
        f"{index}.{name}": np.ascontiguousarray(weight)
        for index, layer in enumerate(layers)
        for name, weight in layer.weights.items()
    }
    arrays |= golden or {}
    metadata = {
        "gated_version": str(VERSION),
        "gated_layers": json.dumps([_describe(layer) for layer in layers]),
        "gated_core": json.dumps(core_words(layers)),
        "gated_flags": f"{int(flush_subnormals) * FLUSH_SUBNORMALS:08x}",
    }
    if packed:
        metadata["gated_packing"] = str(PACKING)
    metadata["gated_crc32"] = _checksum(metadata, arrays)
    with replacing(path) as unfinished, open(unfinished, "wb") as file:
        write_safetensors(file, arrays, metadata)
        file.flush()
        os.fsync(file.fileno())


def _describe(layer: Layer) -> dict[str, Any]:
    values = {name: _plain(getattr(layer, name), kind) for name, kind in _fields_of(type(layer)).items()}
    if isinstance(layer, PlainLayer):
        return {"layer": type(layer).__name__, **values}
    return {name: value for name, value in values.items() if name not in _OPTIONS or value != _OPTIONS[name]}


def _plain(value: Any, kind: type) -> Any:
    """A field as the type that `read` insists on, which NumPy's scalars are not."""
    if kind is list:
        return tuple(_plain(activation, Activation) for activation in value)
    if kind is Activation:
        name, alpha, beta = value
        return Activation(str(name), float(alpha), float(beta))
    return kind(value)


def read(path: str | os.PathLike[str]) -> list[Layer]:
    """The layers of a file, in order. Their weights are read-only views of the mapped file."""
    return read_file(path).layers


def read_file(path: str | os.PathLike[str]) -> Loaded:
    """All that a file says but its golden vectors."""
    tensors, metadata = open_safetensors(path)
    if not is_native(metadata):
        raise FormatError("a safetensors file, but not a .gated one: no gated_version in its metadata")
    if metadata["gated_version"] != str(VERSION):
        version = shown(metadata["gated_version"], 20)
        raise FormatError(f"format version '{version}', this gated_c reads {VERSION}; a newer gated_c may read it")
    arrays = {name: _array(name, tensor) for name, tensor in tensors.items()}
    for entry in ("gated_layers", "gated_core", "gated_flags", "gated_crc32"):
        if entry not in metadata:
            raise FormatError(f"{entry}: missing in the metadata")
    if metadata["gated_crc32"] != _checksum(metadata, arrays):
        raise FormatError("contents do not match the checksum: the file was altered")
    if _flags(metadata) & ~FLUSH_SUBNORMALS:
        raise FormatError(
            f"gated_flags: unknown ones, {shown(metadata['gated_flags'], 20)}; a newer gated_c may know them"
        )
    layers = _layers(json.loads(metadata["gated_layers"]), arrays)
    if _sorted_json(json.loads(metadata["gated_core"])) != _sorted_json(core_words(layers)):
        raise FormatError("gated_core: expected what gated_layers says")
    flush_subnormals = bool(_flags(metadata) & FLUSH_SUBNORMALS)
    return Loaded(layers, flush_subnormals, metadata["gated_crc32"], _packed(metadata, arrays))


def _packed(metadata: Mapping[str, str], arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Weights by instruction set that kernels can read where they are: another program that copied the file may have
    moved them."""
    if metadata.get("gated_packing") != str(PACKING) or sys.byteorder != "little":
        return {}
    by_isa = {name.partition(".")[2]: array for name, array in arrays.items() if name.startswith(f"{_PACKED}.")}
    return {isa: array for isa, array in by_isa.items() if array.ctypes.data % ALIGNMENT == 0}


def _flags(metadata: Mapping[str, str]) -> int:
    flags = metadata["gated_flags"]
    if not re.fullmatch("[0-9a-f]{8}", flags):
        raise FormatError(f"gated_flags: expected 8 hexadecimal digits, got {shown(flags, 20)!r}")
    return int(flags, 16)


def _sorted_json(value: Any) -> str:
    """Equal texts for what is equal in JSON, where 1, 1.0 and true are not."""
    return json.dumps(value, sort_keys=True)


def is_native(metadata: Mapping[str, str]) -> bool:
    """Whether a safetensors file with these metadata is one of ours."""
    return "gated_version" in metadata


def _checksum(metadata: Mapping[str, str], arrays: Mapping[str, Array]) -> str:
    entries = ("gated_layers", "gated_core", "gated_flags", "gated_packing")
    crc = zlib.crc32("".join(metadata.get(entry, "") for entry in entries).encode("ascii"))
    for name in sorted(arrays):
        crc = zlib.crc32(arrays[name].data, crc)
    return f"{crc:08x}"


def _array(name: str, tensor: MappedTensor) -> Array:
    if tensor.dtype != "F32":
        raise FormatError(f"{shown(name)}: expected F32, got {tensor.dtype}")
    return np.require(tensor.view(), np.float32, "A")


def _layers(descriptions: Any, arrays: Mapping[str, Array]) -> list[Layer]:
    weights: defaultdict[str, dict[str, Array]] = defaultdict(dict)
    for key, array in arrays.items():
        index, _, name = key.partition(".")
        weights[index][name] = array
    weights.pop(_GOLDEN, None)
    weights.pop(_PACKED, None)
    if not isinstance(descriptions, list) or not weights.keys() <= {str(n) for n in range(len(descriptions))}:
        raise FormatError("gated_layers: expected a list with a description for each layer that has weights")
    layers = [_layer(description, weights[str(index)]) for index, description in enumerate(descriptions)]
    validate_chain(layers)
    return layers


def _layer(description: Any, weights: Mapping[str, Array]) -> Layer:
    if not isinstance(description, dict):
        raise FormatError("gated_layers: expected an object for each layer")
    if "layer" in description:
        return _plain_layer(description, weights)
    described = _OPTIONS | {"activations": []} | description
    if {name: type(value) for name, value in described.items()} != _FIELDS:
        raise FormatError(f"gated_layers: expected {', '.join(set(_FIELDS) - set(_OPTIONS))} for each layer")
    if described["num_layers"] > len(weights):
        raise FormatError(f"gated_layers: more layers than the {len(weights)} weights")
    described["activations"] = tuple(_activation(activation) for activation in described["activations"])
    layer = LayerSpec(weights=weights, **described)
    layer.validate()
    return layer


def _plain_layer(description: dict[str, Any], weights: Mapping[str, Array]) -> PlainLayer:
    kind = description["layer"]
    if not isinstance(kind, str) or kind not in _PLAIN:
        raise FormatError(
            f"gated_layers: expected a kind of layer, got {shown(str(kind))!r}; a newer gated_c may know it"
        )
    layer_type, expected = _PLAIN[kind], _fields_of(_PLAIN[kind])
    values = {name: value for name, value in description.items() if name != "layer"}
    if "activation" in values:
        values["activation"] = _activation(values["activation"])
    if {name: type(value) for name, value in values.items()} != expected:
        raise FormatError(f"gated_layers: expected {', '.join(expected)} for a layer of kind {kind}")
    arrays = {field.name for field in fields(layer_type)} - expected.keys()
    if not weights.keys() <= arrays:
        raise FormatError(f"{kind}: unexpected {shown(', '.join(weights.keys() - arrays))}")
    try:
        return layer_type(**values, **weights)  # type: ignore[arg-type]
    except TypeError as error:  # a weight is missing
        raise FormatError(f"{kind}: {error}") from None


def _activation(values: Any) -> Activation:
    if not isinstance(values, list) or [type(value) for value in values] != [str, float, float]:
        raise FormatError("gated_layers: expected activations of a name, alpha and beta")
    return Activation(*values)
