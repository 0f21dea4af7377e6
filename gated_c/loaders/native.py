"""Our own format, ``.gated``: a safetensors file whose metadata describe the layers.

Tensors are named ``<layer>.<weight>``, ``0.weight_ih_l0``; they stand one behind the other in the order of the header,
each on a multiple of its numbers' size. All are float32 but matrices of recurrent layers, which may be bfloat16, or
int8 [rows, columns] with float32 ``0.weight_ih_l0.scale`` [rows] beside it to be multiplied with. What a model computes
in is for the flags to say. Six entries of the metadata belong to it:

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
from gated_c.narrow import MATRICES, SCALE, Bfloat16, Int8, NarrowWeights, Stored, Tensor, parts_of, stored_of
from gated_c.options import ALL_FLAGS, DEFAULT, Options
from gated_c.spec import Activation, LayerSpec

VERSION = 1

PACKING, ALIGNMENT = packing()

_TYPES = {
    "str": str,
    "int": int,
    "bool": bool,
    "float": float,
    "tuple[Activation, ...]": list,
    "tuple[float, ...]": list,
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

#: Of tensors, and how NumPy reads them; bfloat16 as its bits.
_DTYPES = {"F32": "<f4", "BF16": "<u2", "I8": "i1"}


def save(
    layers: Sequence[Layer],
    path: str | bytes | os.PathLike[str],
    golden: Mapping[str, Array] | None = None,
    options: Options = DEFAULT,
    packed: Mapping[str, Array] | None = None,
) -> None:
    """Write the layers, in order, the vectors to check them with, and what else the model is told, which says in which
    width weights are kept.

    The file appears whole or not at all. Raises ``ValueError`` for weights that do not fit their layer, ``OSError``
    where nothing can be written.
    """
    validate_chain(layers)
    arrays: dict[str, Tensor] = {f"{_PACKED}.{isa}": array for isa, array in (packed or {}).items()}
    arrays |= _tensors(options.narrow(layers))
    arrays |= golden or {}
    metadata = {
        "gated_version": str(VERSION),
        "gated_layers": json.dumps([_describe(layer) for layer in layers]),
        "gated_core": json.dumps(core_words(layers)),
        "gated_flags": f"{options.flags:08x}",
    }
    if packed:
        metadata["gated_packing"] = str(PACKING)
    metadata["gated_crc32"] = _checksum(metadata, arrays)
    with replacing(path) as unfinished, open(unfinished, "wb") as file:
        write_safetensors(file, arrays, metadata)
        file.flush()
        os.fsync(file.fileno())


def _tensors(layers: Sequence[Layer]) -> dict[str, Tensor]:
    """All weights, then the scales of those in int8: the order in which they come back."""
    return {
        f"{index}.{name}{part}": np.ascontiguousarray(parts[part])
        for part in ("", SCALE)
        for index, layer in enumerate(layers)
        for name, weight in stored_of(layer.weights).items()
        if part in (parts := parts_of(weight))
    }


def _describe(layer: Layer) -> dict[str, Any]:
    values = {name: _plain(getattr(layer, name), kind) for name, kind in _fields_of(type(layer)).items()}
    if isinstance(layer, PlainLayer):
        return {"layer": type(layer).__name__, **values}
    return {name: value for name, value in values.items() if name not in _OPTIONS or value != _OPTIONS[name]}


def _plain(value: Any, kind: type) -> Any:
    """A field as the type that `read` insists on, which NumPy's scalars are not."""
    if kind is list:
        return tuple(_plain(one, Activation if isinstance(one, tuple) else float) for one in value)
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
    options = _options(metadata["gated_flags"])
    layers = _layers(json.loads(metadata["gated_layers"]), arrays)
    if _sorted_json(json.loads(metadata["gated_core"])) != _sorted_json(core_words(layers)):
        raise FormatError("gated_core: expected what gated_layers says")
    return Loaded(layers, options, metadata["gated_crc32"], _packed(metadata, arrays))


def _packed(metadata: Mapping[str, str], arrays: Mapping[str, Tensor]) -> dict[str, Array]:
    """Weights by instruction set that kernels can read where they are: another program that copied the file may have
    moved them."""
    if metadata.get("gated_packing") != str(PACKING) or sys.byteorder != "little":
        return {}
    by_isa = {name.partition(".")[2]: array for name, array in arrays.items() if name.startswith(f"{_PACKED}.")}
    return {
        isa: array for isa, array in by_isa.items() if array.dtype == np.float32 and array.ctypes.data % ALIGNMENT == 0
    }


def _options(flags: str) -> Options:
    if not re.fullmatch("[0-9a-f]{8}", flags):
        raise FormatError(f"gated_flags: expected 8 hexadecimal digits, got {shown(flags, 20)!r}")
    if int(flags, 16) & ~ALL_FLAGS:
        raise FormatError(f"gated_flags: unknown ones, {flags}; a newer gated_c may know them")
    try:
        return Options.of_flags(int(flags, 16))
    except ValueError as error:
        raise FormatError(f"gated_flags: {error}") from None


def _sorted_json(value: Any) -> str:
    """Equal texts for what is equal in JSON, where 1, 1.0 and true are not."""
    return json.dumps(value, sort_keys=True)


def is_native(metadata: Mapping[str, str]) -> bool:
    """Whether a safetensors file with these metadata is one of ours."""
    return "gated_version" in metadata


def _checksum(metadata: Mapping[str, str], arrays: Mapping[str, Tensor]) -> str:
    entries = ("gated_layers", "gated_core", "gated_flags", "gated_packing")
    crc = zlib.crc32("".join(metadata.get(entry, "") for entry in entries).encode("ascii"))
    for name in sorted(arrays):
        crc = zlib.crc32(arrays[name].data, crc)
    return f"{crc:08x}"


def _array(name: str, tensor: MappedTensor) -> Tensor:
    if tensor.dtype not in _DTYPES:
        raise FormatError(f"{shown(name)}: expected F32, BF16 or I8, got {tensor.dtype}")
    dtype = np.dtype(_DTYPES[tensor.dtype])
    return np.require(np.frombuffer(tensor.data, dtype).reshape(tensor.shape), dtype.newbyteorder("="), "A")


def _layers(descriptions: Any, arrays: Mapping[str, Tensor]) -> list[Layer]:
    weights: defaultdict[str, dict[str, Tensor]] = defaultdict(dict)
    for key, array in arrays.items():
        index, _, name = key.partition(".")
        weights[index][name] = array
    weights.pop(_GOLDEN, None)
    weights.pop(_PACKED, None)
    if not isinstance(descriptions, list) or not weights.keys() <= {str(n) for n in range(len(descriptions))}:
        raise FormatError("gated_layers: expected a list with a description for each layer that has weights")
    layers = [_layer(description, _weights(weights[str(n)])) for n, description in enumerate(descriptions)]
    validate_chain(layers)
    return layers


def _weights(tensors: Mapping[str, Tensor]) -> Mapping[str, Array]:
    """A layer's, from its tensors."""
    scales = {f"{name}{SCALE}" for name, tensor in tensors.items() if tensor.dtype == np.int8}
    stored = {name: _stored(name, tensor, tensors) for name, tensor in tensors.items() if name not in scales}
    weights = NarrowWeights(stored)
    return weights if weights.is_narrow else dict(weights)


def _stored(name: str, tensor: Tensor, tensors: Mapping[str, Tensor]) -> Stored:
    if tensor.dtype == np.float32:
        return tensor
    if not name.startswith(MATRICES):
        raise FormatError(f"{shown(name)}: expected F32, got {tensor.dtype}")
    if tensor.dtype == np.uint16:
        return Bfloat16(tensor)
    scale = tensors.get(name + SCALE)
    if scale is None or scale.dtype != np.float32 or tensor.ndim != 2 or scale.shape != tensor.shape[:1]:
        raise FormatError(f"{shown(name)}: expected two dimensions, and {SCALE} in F32 with a number for each row")
    integers = Int8(tensor, scale)
    return integers if integers.is_rounded else integers.expanded()


def _layer(description: Any, weights: Mapping[str, Array]) -> Layer:
    if not isinstance(description, dict):
        raise FormatError("gated_layers: expected an object for each layer")
    if "layer" in description:
        return _plain_layer(description, weights)
    described = _OPTIONS | {"activations": [], "h_limit": []} | description
    if {name: type(value) for name, value in described.items()} != _FIELDS:
        raise FormatError(f"gated_layers: expected {', '.join(set(_FIELDS) - set(_OPTIONS))} for each layer")
    if described["num_layers"] > len(weights):
        raise FormatError(f"gated_layers: more layers than the {len(weights)} weights")
    described["activations"] = tuple(_activation(activation) for activation in described["activations"])
    described["h_limit"] = tuple(described["h_limit"])
    if not all(isinstance(limit, float) for limit in described["h_limit"]):
        raise FormatError("gated_layers: expected numbers with a fraction for h_limit")
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
