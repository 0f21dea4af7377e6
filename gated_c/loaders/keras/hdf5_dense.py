"""The members of an HDF5 group that keeps its links in a heap: one of more than eight, some name of which is not ASCII.

Source as in hdf5_objects.py; of heaps and trees as large as many hundreds of members take, no larger.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from gated_c.errors import FormatError, UnsupportedError

if TYPE_CHECKING:
    from gated_c.loaders.keras.hdf5_objects import Structure

_LINK_NAMES = 5  # a type of trees
_RECORD = 11  # bytes: a hash, and an id in the heap
_TOO_LARGE = "a group of so many members, some of other than ASCII names; save it again as .keras"


def dense_links(file: Structure, heap: int, tree: int) -> Iterator[memoryview]:
    """The link messages of a group, from the addresses of its heap and of its tree of names."""
    objects = _Heap(file, heap)
    for record in _records(file, tree):
        yield objects.read(record[4:])


def _records(file: Structure, tree: int) -> Iterator[memoryview]:
    """All records of a tree of up to two levels (III.A.2)."""
    signature, kind, size, depth, root, count = file.unpack("4sxB4xHHxxQH", tree)
    if (signature, kind, size) != (b"BTHD", _LINK_NAMES, _RECORD):
        raise FormatError(f"byte {tree}: expected a tree of links")
    if depth > 1:
        raise UnsupportedError(_TOO_LARGE)
    yield from _node(file, root, count, b"BTIN" if depth else b"BTLF")
    at = root + 6 + count * _RECORD
    for n in range(count + 1 if depth else 0):
        child, child_count = file.unpack("QB", at + 9 * n)
        yield from _node(file, child, child_count, b"BTLF")


def _node(file: Structure, address: int, count: int, signature: bytes) -> Iterator[memoryview]:
    if bytes(file.block(address, 4)) != signature:
        raise FormatError(f"byte {address}: expected a node of a tree of links")
    for n in range(count):
        yield file.block(address + 6 + n * _RECORD, _RECORD)


class _Heap:
    """A fractal heap (III.G): blocks by their offset in it, in rows whose blocks double from the third on."""

    def __init__(self, file: Structure, address: int) -> None:
        self._file = file
        (signature,) = file.unpack("4s", address)
        if signature != b"FRHP":
            raise FormatError(f"byte {address}: expected a heap of links")
        (filters,) = file.unpack("7xH", address)
        self._width, self._start, self._largest, bits = file.unpack("110xHQQH", address)
        self._root, self._rows = file.unpack("132xQH", address)
        self._offset_size = (bits + 7) // 8
        if filters or not self._start:
            raise FormatError(f"byte {address}: a heap of links in blocks of {self._start} bytes, {filters} of filters")

    def read(self, identifier: memoryview) -> memoryview:
        """An object by its id: a kind, an offset and a length."""
        if identifier[0]:  # not in a block
            raise UnsupportedError(_TOO_LARGE)
        offset = int.from_bytes(identifier[1 : 1 + self._offset_size], "little")
        length = int.from_bytes(identifier[1 + self._offset_size :], "little")
        place = self._place(offset)
        self._file.visit(place, 1 + length // 4)  # overlapping objects of a hostile file add up
        return self._file.block(place, length)

    def _place(self, offset: int) -> int:
        """Where in the file an offset is."""
        if not self._rows:
            return int(self._root) + offset
        at = self._root + 13 + self._offset_size
        begin = 0
        for row in range(self._rows):
            size: int = self._start << max(row - 1, 0)
            if size > self._largest:
                break
            end = begin + self._width * size
            if offset < end:
                column = (offset - begin) // size
                (block,) = self._file.unpack("Q", at + 8 * (row * self._width + column))
                return int(block) + offset - begin - column * size
            begin = end
        raise UnsupportedError(_TOO_LARGE)
