"""Zip archives, mapped: members as they lie in the file, checked."""

from __future__ import annotations

import mmap
import os
import struct
import zipfile
import zlib

from gated_c.errors import FormatError, UnsupportedError
from gated_c.loaders.names import shown

#: An archive may describe this many times its own size.
MAX_EXPANSION = 16


class ZipArchive:
    """The members of a zip file, by name."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        with open(path, "rb") as file:
            self.data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        try:
            with zipfile.ZipFile(path) as archive:
                self.members = {info.filename: info for info in archive.infolist()}
        except Exception as error:  # zipfile fails in many ways over a damaged directory
            raise FormatError(f"zip directory: {shown(str(error), 200)}") from None
        if sum(info.file_size for info in self.members.values()) > MAX_EXPANSION * len(self.data):
            raise FormatError(f"zip directory: contents of more than {MAX_EXPANSION} times the size of the file")

    def member(self, name: str) -> memoryview:
        """The bytes of a member, not copied if they are stored as they are, checked against its checksum."""
        info = self.members.get(name)
        if info is None:
            raise FormatError(f"'{shown(name)}' is not in the archive")
        content = self._compressed(info)
        if info.compress_type == zipfile.ZIP_DEFLATED:
            content = _inflated(content, info.file_size, name)
        elif info.compress_type != zipfile.ZIP_STORED:
            raise UnsupportedError(f"{shown(name)}: compressed by other means than deflate")
        if len(content) != info.file_size or zlib.crc32(content) != info.CRC:
            raise FormatError(f"{shown(name)}: contents do not match their size and checksum")
        return content

    def _compressed(self, info: zipfile.ZipInfo) -> memoryview:
        header = self.data[info.header_offset : info.header_offset + 30]
        if len(header) < 30 or header[:4] != b"PK\x03\x04":
            raise FormatError(f"{shown(info.filename)}: no zip header at byte {info.header_offset}")
        name_length, extra_length = struct.unpack("<HH", header[26:])
        start = info.header_offset + 30 + name_length + extra_length
        return memoryview(self.data)[start : start + info.compress_size]


def _inflated(content: memoryview, size: int, name: str) -> memoryview:
    try:
        return memoryview(zlib.decompressobj(-zlib.MAX_WBITS).decompress(content, size + 1))
    except zlib.error as error:
        raise FormatError(f"{shown(name)}: {error}") from None
