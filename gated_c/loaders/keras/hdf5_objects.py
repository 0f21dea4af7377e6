"""The structure of HDF5 files, as far as h5py writes it by default: groups, objects and their messages.

Read here and not by the HDF5 library, which was not made for hostile files: changed bytes make it loop for ever, or
crash. Source: https://support.hdfgroup.org/documentation/hdf5/latest/_f_m_t3.html ("III.A" and so on).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

from gated_c.errors import FormatError, UnsupportedError
from gated_c.loaders.keras.hdf5_dense import dense_links

SIGNATURE = b"\x89HDF\r\n\x1a\n"

#: An address that is not set.
UNDEFINED = 2**64 - 1

# Types of messages (IV.A.2).
DATASPACE, LINK_INFO, DATATYPE, LINK, EXTERNAL_FILES, LAYOUT = 0x01, 0x02, 0x03, 0x06, 0x07, 0x08
ATTRIBUTE, CONTINUATION, SYMBOL_TABLE, ATTRIBUTE_INFO = 0x0C, 0x10, 0x11, 0x15

_SHARED = 2  # a flag of messages
_SOFT_LINK = 2  # a type of symbol table entries
_HARD_LINK = 0  # a type of link messages


class Message(NamedTuple):
    """A part of an object's header."""

    type: int
    data: memoryview


class Structure:
    """A file in memory. Raises ``FormatError``, ``UnsupportedError`` for other forms of HDF5."""

    def __init__(self, data: memoryview) -> None:
        self.data = data
        self._left = len(data) // 4  # parts that may be visited; they are longer, but some are visited twice
        self._heaps: dict[int, dict[int, memoryview]] = {}

    def root(self) -> int:
        """The address of the root group (II.A)."""
        if bytes(self.data[:8]) != SIGNATURE:
            raise FormatError("not an HDF5 file")
        (version,) = self.unpack("8xB", 0)
        if version in (0, 1):
            offsets, lengths = self.unpack("13xBB", 0)
            base, address = self.unpack("Q32xQ", 24 + 4 * version)
        elif version in (2, 3):
            offsets, lengths = self.unpack("9xBB", 0)
            base, address = self.unpack("12xQ16xQ", 0)
        else:
            raise UnsupportedError(f"superblock version {version}")
        if (offsets, lengths, base) != (8, 8, 0):
            raise UnsupportedError("addresses of other than 8 bytes, or a user block")
        return int(address)

    def unpack(self, form: str, at: int) -> tuple[Any, ...]:
        return unpack(form, self.data, at)

    def block(self, start: int, size: int) -> memoryview:
        """A piece of the file, which must lie in it."""
        if start + size > len(self.data):
            raise FormatError(f"byte {start}: expected {size} bytes more in the file")
        return self.data[start : start + size]

    def messages(self, address: int) -> list[Message]:
        """The header of an object (IV.A.1), wherever it goes on."""
        is_new = bytes(self.block(address, 4)) == b"OHDR"
        parse, blocks = (_new_messages, [self._new_header(address)]) if is_new else (_messages, [self._header(address)])
        found: list[Message] = []
        for block in blocks:  # grows on the way
            for message in parse(*block):
                self.visit(address)
                if message.type == CONTINUATION:
                    start, size = unpack("QQ", message.data)
                    piece = self.block(start, size)
                    blocks.append((piece[4:-4] if is_new else piece, block[1]))
                else:
                    found.append(message)
        return found

    def _header(self, address: int) -> tuple[memoryview, int]:
        version, size = self.unpack("B7xI", address)
        if version != 1:
            raise FormatError(f"byte {address}: expected an object")
        return self.block(address + 16, size), 0

    def _new_header(self, address: int) -> tuple[memoryview, int]:
        _, flags = self.unpack("4xBB", address)
        at = address + 6 + 16 * bool(flags & 0x20) + 4 * bool(flags & 0x10)
        width = 1 << (flags & 3)
        size = int.from_bytes(self.block(at, width), "little")
        return self.block(at + width, size), flags & 4

    def links(self, messages: list[Message]) -> dict[str, int]:
        """The objects in a group, by name, 0 for a link to somewhere else."""
        found: dict[str, int] = {}
        for kind, data in messages:
            if kind == SYMBOL_TABLE:
                tree, heap = unpack("QQ", data)
                found |= dict(self._entries(tree, heap))
            elif kind == LINK:
                name, address = _link(data)
                found[name] = address
            elif kind == LINK_INFO and is_elsewhere(data, 8):
                (flags,) = unpack("xB", data)
                found |= map(_link, dense_links(self, *unpack("QQ", data, 10 if flags & 1 else 2)))
        return found

    def _entries(self, tree: int, heap: int) -> Iterator[tuple[str, int]]:
        """Names and addresses in a symbol table (III.A, III.B, III.D)."""
        signature, size, start = self.unpack("4s4xQ8xQ", heap)
        if signature != b"HEAP":
            raise FormatError(f"byte {heap}: expected a heap of names")
        names = self.block(start, size)
        for node in self._leaves(tree):
            signature, count = self.unpack("4s2xH", node)
            if signature != b"SNOD":
                raise FormatError(f"byte {node}: expected entries of a group")
            for n in range(count):
                self.visit(node)
                name, address, kind = self.unpack("QQI", node + 8 + 40 * n)
                yield _terminated(names, name), 0 if kind == _SOFT_LINK else address

    def _leaves(self, tree: int) -> Iterator[int]:
        """The addresses of the nodes that a B-tree leads to."""
        nodes = [tree]
        for node in nodes:  # grows on the way
            signature, kind, level, count = self.unpack("4sBBH", node)
            if signature != b"TREE" or kind != 0:
                raise FormatError(f"byte {node}: expected a tree of names")
            children = [self.unpack("Q", node + 32 + 16 * n)[0] for n in range(count)]
            self.visit(node, 1 + count)
            if level:
                nodes += children
            else:
                yield from children

    def heap_object(self, address: int, index: int) -> memoryview:
        """An object of a heap of strings (III.E)."""
        if address not in self._heaps:
            self._heaps[address] = dict(self._heap_objects(address))
        if index not in self._heaps[address]:
            raise FormatError(f"byte {address}: no string {index} in this heap")
        return self._heaps[address][index]

    def _heap_objects(self, address: int) -> Iterator[tuple[int, memoryview]]:
        signature, size = self.unpack("4s4xQ", address)
        if signature != b"GCOL":
            raise FormatError(f"byte {address}: expected a heap of strings")
        heap = self.block(address, size)
        at = 16
        while at + 16 <= size:
            self.visit(address)
            index, length = unpack("H6xQ", heap, at)
            if index == 0:  # the space that is left
                return
            yield index, heap[at + 16 : at + 16 + length]
            at += 16 + (length + 7) // 8 * 8

    def visit(self, address: int, count: int = 1) -> None:
        """Count parts read, of which a file has no more than fit into it."""
        self._left -= count
        if self._left < 0:
            raise FormatError(f"byte {address}: more parts than fit into the file")


def unpack(form: str, data: memoryview, at: int = 0) -> tuple[Any, ...]:
    """Little-endian numbers; ``FormatError`` where the data end before."""
    try:
        return struct.unpack_from("<" + form, data, at)
    except (struct.error, OverflowError):
        raise FormatError("cut short") from None


def is_elsewhere(info: memoryview, width: int = 2) -> bool:
    """Whether links or attributes are kept in a heap instead (IV.A.2.c, IV.A.2.v). ``width`` is that of a number which
    this message may have or not."""
    (flags,) = unpack("xB", info)
    return bool(unpack("Q", info, 2 + width * (flags & 1))[0] != UNDEFINED)


def _messages(block: memoryview, _: int) -> Iterator[Message]:
    at = 0
    while at + 8 <= len(block):
        kind, size, flags = unpack("HHB", block, at)
        yield _message(kind, flags, block[at + 8 : at + 8 + size])
        at += 8 + size


def _new_messages(block: memoryview, has_order: int) -> Iterator[Message]:
    at, header = 0, 6 if has_order else 4
    while at + header <= len(block):
        kind, size, flags = unpack("BHB", block, at)
        yield _message(kind, flags, block[at + header : at + header + size])
        at += header + size


def _message(kind: int, flags: int, data: memoryview) -> Message:
    if flags & _SHARED and kind in (DATASPACE, DATATYPE, ATTRIBUTE):
        raise UnsupportedError("types or attributes that objects share")
    return Message(kind, data)


def _link(data: memoryview) -> tuple[str, int]:
    """IV.A.2.g; 0 for what is not a hard link."""
    (flags,) = unpack("xB", data)
    at = 2
    kind = _HARD_LINK
    if flags & 0x08:
        (kind,) = unpack("B", data, at)
        at += 1
    at += 8 * bool(flags & 0x04) + bool(flags & 0x10)
    width = 1 << (flags & 3)
    length = int.from_bytes(data[at : at + width], "little")
    name = bytes(data[at + width : at + width + length]).decode("utf-8", "replace")
    return name, unpack("Q", data, at + width + length)[0] if kind == _HARD_LINK else 0


def _terminated(names: memoryview, at: int) -> str:
    piece = bytes(names[at : at + 1024])
    return piece[: piece.find(b"\0")].decode("utf-8", "replace")
