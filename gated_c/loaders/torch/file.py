"""What ``torch.save`` writes, read without torch: the zip archive, and the stream that came before PyTorch 1.6.

Storages are mapped and only touched when a module that lies in them is read.
"""

from __future__ import annotations

import mmap
import os
import struct
import zipfile
import zlib
from collections.abc import Mapping
from functools import cache, partial
from io import BytesIO
from typing import Any

from gated_c.errors import FormatError, UnsupportedError
from gated_c.loaders.names import shown
from gated_c.loaders.torch import unpickler
from gated_c.loaders.torch.state_dict import Found
from gated_c.loaders.torch.tensor import CALLS, ITEM_SIZES, Source
from gated_c.loaders.torch.tree import find_in_tree

_MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
_PROTOCOL_VERSION = 1001

#: A file may describe this many times its own size: compressed zip members, overlapping or expanded tensors.
_MAX_EXPANSION = 16

#: Pickle instructions allowed in any file, beside one for every eight bytes of it. A vocabulary takes one for every
#: seven bytes; half a million at their most wasteful take 110 MB.
_MIN_INSTRUCTIONS = 500_000

_SAVE_WEIGHTS = "save its weights instead: torch.save({}.state_dict(), 'weights.pt')"
_TORCHSCRIPT = "a TorchScript archive; " + _SAVE_WEIGHTS.format("torch.jit.load(path)")
_EXPORT = "a torch.export archive; " + _SAVE_WEIGHTS.format("torch.export.load(path).module()")

#: Members that torch.save never writes, and who does.
_FOREIGN_MEMBERS = {
    "constants.pkl": _TORCHSCRIPT,
    "models/model.json": _EXPORT,
    "serialized_exported_program.json": _EXPORT,
}


def find_in_zip(path: str | os.PathLike[str]) -> list[Found]:
    """The recurrent modules in a zip archive of PyTorch 1.6 or later."""
    archive = _Archive(path)
    archive.refuse_foreign()
    source = Source(
        locate=cache(lambda key: archive.member(f"data/{key}")),
        byte_order=archive.byte_order(),
        budget=_MAX_EXPANSION * len(archive.data),
    )
    root = unpickler.load(
        BytesIO(archive.member("data.pkl")),
        place="data.pkl",
        max_instructions=_max_instructions(archive.data),
        calls=CALLS,
        persistent_load=source.storage,
    )
    return find_in_tree(root)


def find_in_stream(path: str | os.PathLike[str]) -> list[Found]:
    """The recurrent modules in the older format: five pickles in a row, then the raw storages. It has no checksums."""
    stream = _Stream(path)
    if stream.load("magic number") != _MAGIC_NUMBER:
        raise FormatError("a pickle, but not one that torch.save wrote")
    if stream.load("protocol version") != _PROTOCOL_VERSION:
        raise FormatError("an unknown protocol version of torch.save")
    stream.load("system information")
    root = stream.load("contents")
    stream.find_storages(keys=stream.load("storage keys"))
    return find_in_tree(root)


class _Archive:
    """A zip file with one folder, as ``torch.save`` writes it."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.data = _map(path)
        self.damaged: dict[str, str] = {}
        try:
            with zipfile.ZipFile(path) as archive:
                self.members = {info.filename: info for info in archive.infolist()}
        except Exception as error:  # zipfile fails in many ways over a damaged directory
            raise FormatError(f"zip directory: {shown(str(error), 200)}") from None
        if sum(info.file_size for info in self.members.values()) > _MAX_EXPANSION * len(self.data):
            raise FormatError(f"zip directory: contents of more than {_MAX_EXPANSION} times the size of the file")
        self.folder = next(iter(self.members), "").partition("/")[0]

    def refuse_foreign(self) -> None:
        for name, what in _FOREIGN_MEMBERS.items():
            if f"{self.folder}/{name}" in self.members:
                raise UnsupportedError(what)
        if f"{self.folder}/data.pkl" not in self.members:
            raise FormatError("a zip archive, but not one that torch.save wrote: no data.pkl in it")

    def byte_order(self) -> str:
        if f"{self.folder}/byteorder" not in self.members:
            return "<"
        name = bytes(self.member("byteorder"))
        if name not in (b"little", b"big"):
            raise FormatError(f"byteorder: expected little or big, got {name!r:.20}")
        return "<" if name == b"little" else ">"

    def member(self, name: str) -> memoryview:
        """The bytes of a member, checked against its checksum; what failed once is not read again."""
        if name in self.damaged:
            raise FormatError(self.damaged[name])
        try:
            return self._checked(name)
        except FormatError as error:
            self.damaged[name] = str(error)
            raise

    def _checked(self, name: str) -> memoryview:
        info = self.members.get(f"{self.folder}/{name}")
        if info is None:
            raise FormatError(f"'{shown(name)}' is not in the archive")
        content = self._stored(info)
        if info.compress_type == zipfile.ZIP_DEFLATED:
            content = _inflated(content, info.file_size, name)
        elif info.compress_type != zipfile.ZIP_STORED:
            raise UnsupportedError(f"{shown(name)}: a compressed zip member; torch.save writes them uncompressed")
        # 0 is what torch.save leaves when its checksums are switched off.
        if len(content) != info.file_size or info.CRC not in (0, zlib.crc32(content)):
            raise FormatError(f"{shown(name)}: contents do not match their size and checksum")
        return content

    def _stored(self, info: zipfile.ZipInfo) -> memoryview:
        header = self.data[info.header_offset : info.header_offset + 30]
        if len(header) < 30 or header[:4] != b"PK\x03\x04":
            raise FormatError(f"{shown(info.filename)}: no zip header at byte {info.header_offset}")
        name_length, extra_length = struct.unpack("<HH", header[26:])
        start = info.header_offset + 30 + name_length + extra_length
        return memoryview(self.data)[start : start + info.compress_size]


class _Stream:
    """A file of several pickles; storages are known by their kind until the end of the file says where they are."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.data = _map(path)
        self.kinds: dict[str, str] = {}
        self.spans: dict[str, tuple[int, int]] = {}
        self.source = Source(partial(_span, self.data, self.spans), "<", _MAX_EXPANSION * len(self.data))

    def load(self, place: str) -> Any:
        """The next pickle."""
        return unpickler.load(
            self.data,
            place=place,
            max_instructions=_max_instructions(self.data),
            calls=CALLS,
            persistent_load=self.persistent_load,
        )

    def persistent_load(self, saved_id: Any) -> Any:
        if saved_id[0] == "module":  # a class, its source file and its source
            return saved_id[1]
        storage = self.source.storage(saved_id)
        self.kinds[storage.key] = storage.kind
        return storage

    def find_storages(self, keys: Any) -> None:
        """Note where each raw storage lies: an int64 count of elements, then those."""
        if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
            raise FormatError("storage keys: expected a list of strings")
        for key in keys:
            header = self.data.read(8)
            item_size = ITEM_SIZES.get(self.kinds.get(key, ""))
            if len(header) < 8 or item_size is None:
                raise FormatError(f"byte {self.data.tell()}: expected the storage '{shown(key)}'")
            start = self.data.tell()
            stop = start + int.from_bytes(header, "little", signed=True) * item_size
            if not start <= stop <= len(self.data):
                raise FormatError(f"byte {start}: storage '{shown(key)}' does not end within the file")
            self.spans[key] = (start, stop)
            self.data.seek(stop)


def _span(data: mmap.mmap, spans: Mapping[str, tuple[int, int]], key: str) -> memoryview:
    if key not in spans:
        raise FormatError(f"storage '{shown(key)}' is not in the file")
    start, stop = spans[key]
    return memoryview(data)[start:stop]


def _inflated(content: memoryview, size: int, name: str) -> memoryview:
    try:
        return memoryview(zlib.decompressobj(-zlib.MAX_WBITS).decompress(content, size + 1))
    except zlib.error as error:
        raise FormatError(f"{shown(name)}: {error}") from None


def _map(path: str | os.PathLike[str]) -> mmap.mmap:
    with open(path, "rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _max_instructions(data: mmap.mmap) -> int:
    return _MIN_INSTRUCTIONS + len(data) // 8
