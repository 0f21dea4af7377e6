"""safetensors files, mapped: the container of plain checkpoints and of our own format."""

from __future__ import annotations

import json
import mmap
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import safetensors

from gated_c.errors import FormatError, UnsupportedError
from gated_c.loaders.names import shown
from gated_c.loaders.torch.state_dict import Found, StoredTensor, find_modules
from gated_c.spec import Array

#: Dtypes that weights come in, and how NumPy reads them; bfloat16 is the upper half of a float32.
_DTYPES = {"F16": "<f2", "BF16": "<u2", "F32": "<f4", "F64": "<f8"}

#: Those of the arrays that are written.
_WRITTEN = {"float32": "F32", "uint16": "BF16", "int8": "I8"}


@dataclass(frozen=True, slots=True)
class MappedTensor(StoredTensor):
    """A tensor where it lies in the file."""

    data: memoryview
    dtype: str
    shape: tuple[int, ...]

    def view(self) -> npt.NDArray[Any]:
        """The stored elements, read-only and not copied; those of bfloat16 as uint16."""
        if self.dtype not in _DTYPES:
            raise UnsupportedError(f"dtype {shown(self.dtype)}; recurrent weights are F16, BF16, F32 or F64")
        return np.frombuffer(self.data, _DTYPES[self.dtype]).reshape(self.shape)

    def read(self) -> Array:
        if self.dtype == "BF16":
            return (self.view().astype(np.uint32) << 16).view(np.float32)
        with np.errstate(over="ignore", under="ignore"):
            return np.array(self.view(), dtype=np.float32)


def find_in_safetensors(path: str | os.PathLike[str]) -> list[Found]:
    """The recurrent modules of a safetensors file."""
    tensors, _ = open_safetensors(path)
    return find_modules(tensors)


def open_safetensors(path: str | os.PathLike[str]) -> tuple[dict[str, MappedTensor], dict[str, str]]:
    """Map a file: its tensors and its metadata."""
    try:
        with safetensors.safe_open(path, framework="numpy"):
            pass  # opening checks the whole header: types, sizes, no holes, no overlaps, nothing missing
    except safetensors.SafetensorError as error:
        raise FormatError(f"safetensors header: {shown(str(error), 200)}") from None
    with open(path, "rb") as file:
        data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(bytes(data[8:start]))
    metadata = header.pop("__metadata__", None) or {}
    body = data[start:]
    return {name: _mapped(body, entry) for name, entry in header.items()}, metadata


def write_safetensors(file: IO[bytes], arrays: Mapping[str, npt.NDArray[Any]], metadata: Mapping[str, str]) -> None:
    """Write C-contiguous arrays, one behind the other from a multiple of 64 bytes on, those of the widest numbers
    first, so that all are aligned: float32, uint16 as bfloat16, int8."""
    header: dict[str, Any] = {"__metadata__": metadata}
    arrays = dict(sorted(arrays.items(), key=lambda item: -item[1].itemsize))
    stop = 0
    for name, array in arrays.items():
        start, stop = stop, stop + array.nbytes
        header[name] = {"dtype": _WRITTEN[array.dtype.name], "shape": array.shape, "data_offsets": [start, stop]}
    content = json.dumps(header).encode()
    content += b" " * (-(8 + len(content)) % 64)
    file.write(len(content).to_bytes(8, "little") + content)
    for array in arrays.values():
        file.write(array.astype(array.dtype.newbyteorder("<"), copy=False).data)


def _mapped(body: memoryview, entry: dict[str, Any]) -> MappedTensor:
    start, stop = entry["data_offsets"]
    return MappedTensor(body[start:stop], entry["dtype"], tuple(entry["shape"]))
