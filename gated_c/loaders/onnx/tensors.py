"""Tensors of ONNX models, inside the file or beside it, as NumPy views of the mapped bytes."""

from __future__ import annotations

import math
import mmap
import os
import stat
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from gated_c.errors import FormatError, UnsupportedError
from gated_c.loaders.names import shown
from gated_c.loaders.onnx.wire import located
from gated_c.spec import Array

AnyArray: TypeAlias = npt.NDArray[Any]

#: TensorProto.DataType -> how NumPy reads it; bfloat16 is the upper half of a float32.
_BFLOAT16 = 16
_DTYPES = {1: "<f4", 2: "u1", 3: "i1", 4: "<u2", 5: "<i2", 6: "<i4", 7: "<i8", 9: "?", 10: "<f2", 11: "<f8"}
_DTYPES |= {12: "<u4", 13: "<u8", _BFLOAT16: "<u2"}
#: Where data that is not raw is found, by type; int32_data holds all that is shorter, float16 as its bits.
_TYPED_DATA = {1: "float_data", 7: "int64_data", 11: "double_data", 12: "uint64_data", 13: "uint64_data"}
_EXTERNAL = 1


class Tensors:
    """The tensors of one model. ``num_bytes`` is the size of the files seen so far."""

    def __init__(self, file: memoryview, folder: str) -> None:
        self.file = file
        self.folder = os.path.realpath(folder)
        self.num_bytes = len(file)
        self._external: dict[str, memoryview] = {}

    def array(self, tensor: Any) -> AnyArray:
        """The values of a TensorProto of a `skeleton`; of bfloat16 as float32."""
        where = f"tensor '{shown(tensor.name)}'"
        if tensor.data_type not in _DTYPES:
            raise UnsupportedError(
                f"{where}: data type {tensor.data_type}, which is neither a float, an int nor a bool"
            )
        dtype = np.dtype(_DTYPES[tensor.data_type])
        if tensor.data_location == _EXTERNAL:
            flat = _from_bytes(self._outside(tensor, where), dtype, where)
        elif tensor.HasField("raw_data"):
            offset, length = located(tensor.raw_data)
            flat = _from_bytes(self.file[offset : offset + length], dtype, where)
        else:
            flat = _typed(tensor, dtype)
        shape = tuple(tensor.dims)
        if min(shape, default=0) < 0 or math.prod(shape) != flat.size:
            raise FormatError(f"{where}: expected the elements of shape {_brief(shape)}, got {flat.size}")
        if tensor.data_type == _BFLOAT16:
            flat = (flat.astype(np.uint32) << 16).view(np.float32)
        return flat.reshape(shape)

    def release_pages(self) -> None:
        """Let what was read so far leave this process's memory, where systems can; arrays stay valid."""
        for data in (self.file, *self._external.values()):
            if isinstance(data.obj, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
                data.obj.madvise(mmap.MADV_DONTNEED)

    def _outside(self, tensor: Any, where: str) -> memoryview:
        entries = {entry.key: entry.value for entry in tensor.external_data}
        data = self._file_beside(entries.get("location", ""), where)
        offset = _size(entries.get("offset", "0"), where)
        length = _size(entries.get("length", str(max(0, len(data) - offset))), where)
        if offset + length > len(data):
            raise FormatError(f"{where}: expected external data of {offset + length} bytes, got {len(data)}")
        return data[offset : offset + length]

    def _file_beside(self, location: str, where: str) -> memoryview:
        """A file in the model's folder, mapped. Links may not lead out of it."""
        if location not in self._external:
            path = os.path.realpath(os.path.join(self.folder, location.replace("\0", "")))
            if not location or os.path.commonpath([path, self.folder]) != self.folder:
                raise FormatError(f"{where}: external data '{shown(location)}' is not inside the model's folder")
            self._external[location] = _mapped(path, f"{where}: external data '{shown(location)}'")
            self.num_bytes += len(self._external[location])
        return self._external[location]


def own(array: AnyArray) -> Array:
    """As float32, C-contiguous and apart from the file."""
    if array.dtype == np.float32 and array.flags.owndata and array.flags.c_contiguous:
        return array
    with np.errstate(over="ignore", under="ignore"):
        return np.array(array, dtype=np.float32, order="C")


def _mapped(path: str, where: str) -> memoryview:
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ValueError("expected a regular file")
        with open(path, "rb") as file:
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise FormatError(f"{where}: {reason}") from None


def _from_bytes(data: memoryview, dtype: np.dtype[Any], where: str) -> AnyArray:
    if len(data) % dtype.itemsize:
        raise FormatError(f"{where}: expected a multiple of {dtype.itemsize} bytes, got {len(data)}")
    array: AnyArray = np.frombuffer(data, np.uint8 if dtype == np.bool_ else dtype)
    return array != 0 if dtype == np.bool_ else array


def _typed(tensor: Any, dtype: np.dtype[Any]) -> AnyArray:
    field = _TYPED_DATA.get(tensor.data_type, "int32_data")
    values = getattr(tensor, field)
    if field == "int32_data":
        bits = np.fromiter(values, np.int32, len(values))
        return bits.astype(np.uint16).view(dtype) if dtype.itemsize == 2 else bits.astype(dtype)
    return np.fromiter(values, dtype, len(values))


def _size(text: str, where: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise FormatError(f"{where}: external data: expected a size, got '{shown(text)}'")
    return int(text)


def _brief(shape: tuple[int, ...]) -> str:
    return str(shape) if len(shape) <= 8 else f"of {len(shape)} dimensions"
