"""HDF5 as Keras writes it, from memory: groups of arrays in one piece, which are views of the file's bytes.

Nothing outside the bytes is ever read: links and arrays that lead to other files are refused. What is read at all is
bounded by a multiple of the size of the file, whatever sizes it declares.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from gated_c.errors import FormatError, UnsupportedError
from gated_c.loaders.keras.hdf5_objects import (
    ATTRIBUTE,
    ATTRIBUTE_INFO,
    DATASPACE,
    DATATYPE,
    EXTERNAL_FILES,
    LAYOUT,
    UNDEFINED,
    Message,
    Structure,
    is_elsewhere,
    unpack,
)
from gated_c.loaders.names import shown

#: The arrays and strings of a file may take this many times its size, say if they have several names.
_MAX_EXPANSION = 16

#: Classes of types: floats, strings, opaque ones and those of any length.
_FLOAT, _STRING, _OPAQUE, _VARIABLE = 1, 3, 5, 9

#: Floats by size and bits of the exponent; a bfloat16 is the upper half of a float32.
_FLOATS = {(2, 5): "f2", (4, 8): "f4", (8, 11): "f8", (2, 8): "bfloat16"}

#: How an array is laid out.
_COMPACT, _CONTIGUOUS = 0, 1

#: What to do about it.
_IN_A_HEAP = "attributes in a newer form of HDF5 than Keras writes; save it again with Keras"
_IN_PIECES = "an array in pieces, which may be compressed; save it again with Keras, or run h5repack -f NONE -l CONTI"


class _Type(NamedTuple):
    """The type of an element: its class, size in bytes and, for a float, NumPy's name."""

    kind: int
    size: int
    name: str


class Hdf5:
    """A file's groups, attributes and arrays, by their paths. Raises ``FormatError``, ``UnsupportedError``."""

    def __init__(self, data: memoryview) -> None:
        self._file = Structure(data)
        self._budget = _MAX_EXPANSION * len(data)
        self._headers: dict[int, list[Message]] = {}
        self._links: dict[int, dict[str, int]] = {}
        with _reading("HDF5 header"):
            self._root = self._file.root()
            self._messages(self._root)

    def members(self, path: str) -> list[str]:
        """Names in a group, nothing if it does not exist."""
        with _reading(path):
            address = self._find(path)
            return [] if address is None else list(self._members(address))

    def array(self, path: str) -> npt.NDArray[Any]:
        """An array of any float type, as a view of the file, or of bfloat16, as float32."""
        with _reading(path):
            address = self._find(path)
            parts = {} if address is None else dict(self._messages(address))
            if address is None or not {LAYOUT, DATASPACE, DATATYPE} <= parts.keys():
                raise FormatError("no such array")
            if EXTERNAL_FILES in parts:
                raise FormatError("an array that lies in other files; Keras writes none")
            shape, kind = _shape(parts[DATASPACE]), _type(parts[DATATYPE])
            is_bfloat16 = (kind.kind, kind.size) == (_OPAQUE, 2) and self._attribute(address, "dtype") == ["bfloat16"]
            name = "bfloat16" if is_bfloat16 else kind.name
            if not name:
                raise UnsupportedError("a dtype that is no float; weights are floats")
            stored = self._stored(parts[LAYOUT], kind.size * math.prod(shape))
            if name != "bfloat16":
                return np.frombuffer(stored, name).reshape(shape)
            widened: npt.NDArray[Any] = (np.frombuffer(stored, "<u2").astype(np.uint32) << 16).view(np.float32)
            return widened.reshape(shape)

    def text(self, path: str, name: str) -> str | None:
        """An attribute of a group that is a string."""
        with _reading(f"{path}/{name}".lstrip("/")):
            address = self._find(path)
            texts = None if address is None else self._attribute(address, name)
            if texts is None:
                return None
            if len(texts) != 1:
                raise FormatError("expected one string")
            return texts[0]

    def texts(self, path: str, name: str) -> list[str]:
        """An attribute of a group that is a list of strings, in one piece or, as Keras writes long ones, in several
        called ``name0``, ``name1``..."""
        with _reading(f"{path}/{name}".lstrip("/")):
            address = self._find(path)
            found = None if address is None else self._attribute(address, name)
            pieces = [] if found is None else [found]
            while address is not None and found is None:
                piece = self._attribute(address, f"{name}{len(pieces)}")
                if piece is None:
                    break
                pieces.append(piece)
            if not pieces:
                raise FormatError("missing")
            return [text for piece in pieces for text in piece]

    def _find(self, path: str) -> int | None:
        """The address of an object, if there is one."""
        address = self._root
        for part in filter(None, path.split("/")):
            links = self._members(address)
            if part not in links:
                return None
            if not links[part]:
                raise FormatError("a link to something else; Keras writes none")
            address = links[part]
        return address

    def _members(self, address: int) -> dict[str, int]:
        if address not in self._links:
            self._links[address] = self._file.links(self._messages(address))
        return self._links[address]

    def _messages(self, address: int) -> list[Message]:
        if address not in self._headers:
            self._headers[address] = self._file.messages(address)
        return self._headers[address]

    def _stored(self, layout: memoryview, size: int) -> memoryview:
        """The bytes of an array, as far as they lie in the file in one piece and the budget allows."""
        version, kind = unpack("BB", layout)
        if version not in (3, 4) or kind not in (_COMPACT, _CONTIGUOUS):
            raise UnsupportedError(_IN_PIECES)
        self._spend(size)
        if kind == _COMPACT:
            stored = layout[4 : 4 + size]
        else:
            (start,) = unpack("2xQ", layout)
            stored = memoryview(b"") if start == UNDEFINED else self._file.block(start, size)
        if len(stored) != size:
            raise FormatError("no data for it in the file")
        return stored

    def _spend(self, size: int) -> None:
        self._budget -= size
        if self._budget < 0:
            raise FormatError(f"contents of more than {_MAX_EXPANSION} times the size of the file")

    def _attribute(self, address: int, name: str) -> list[str] | None:
        """The strings of an attribute, if there is such a one."""
        for kind, data in self._messages(address):
            if kind == ATTRIBUTE:
                attribute = _Attribute.parse(data)
                if attribute.name == name:
                    return list(self._strings(attribute))
            elif kind == ATTRIBUTE_INFO and is_elsewhere(data):
                raise UnsupportedError(_IN_A_HEAP)
        return None

    def _strings(self, attribute: _Attribute) -> Iterator[str]:
        kind, size, _ = attribute.type
        count = math.prod(attribute.shape)
        if count and (kind not in (_STRING, _VARIABLE) or count * size > len(attribute.data) or not size):
            raise FormatError("expected strings")
        for n in range(count):
            piece = attribute.data[n * size : (n + 1) * size]
            if kind == _VARIABLE:
                length, address, index = unpack("IQI", piece)
                piece = self._file.heap_object(address, index)[:length] if length else piece[:0]
            self._spend(len(piece))
            yield bytes(piece).rstrip(b"\0").decode("utf-8", "replace")


class _Attribute(NamedTuple):
    """A name with values, as yet as bytes."""

    name: str
    type: _Type
    shape: tuple[int, ...]
    data: memoryview

    @classmethod
    def parse(cls, data: memoryview) -> _Attribute:
        """IV.A.2.m."""
        version, *sizes = unpack("BxHHH", data)
        if version not in (1, 2, 3):
            raise FormatError(f"attributes of version {version}")
        at = 9 if version == 3 else 8
        parts = []
        for size in sizes:
            parts.append(data[at : at + size])
            at += (size + 7) // 8 * 8 if version == 1 else size
        name = bytes(parts[0]).rstrip(b"\0").decode("utf-8", "replace")
        return cls(name, _type(parts[1]), _shape(parts[2]), data[at:])


def _shape(space: memoryview) -> tuple[int, ...]:
    """IV.A.2.b."""
    version, ndim = unpack("BB", space)
    if version not in (1, 2) or ndim > 32:
        raise FormatError(f"a shape of version {version} with {ndim} dimensions")
    return unpack(f"{ndim}Q", space, 8 if version == 1 else 4)


def _type(stored: memoryview) -> _Type:
    """IV.A.2.d."""
    (kind, flags, size) = unpack("BB2xI", stored)
    kind &= 0x0F
    name = ""
    if kind == _FLOAT:
        (exponent,) = unpack("13xB", stored)
        name = _FLOATS.get((size, exponent), "")
        if name and name != "bfloat16":
            name = (">" if flags & 1 else "<") + name
    if kind == _VARIABLE and not flags & 1:
        kind = -1  # a list of anything
    return _Type(kind, size, name)


@contextmanager
def _reading(place: str) -> Iterator[None]:
    try:
        yield
    except (FormatError, UnsupportedError) as error:
        raise type(error)(f"{shown(place)}: {error}") from None
    except (ValueError, OverflowError) as error:  # shapes beyond what NumPy takes
        raise FormatError(f"{shown(place)}: {error}") from None
