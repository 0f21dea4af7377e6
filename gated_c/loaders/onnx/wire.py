"""The wire format of .onnx files (protobuf): a model without its tensors' data, which stays where it lies.

Field numbers: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto. What recurrent networks do not need (subgraphs,
documentation, metadata) is left out.
"""

from __future__ import annotations

import struct
from typing import Any

from gated_c.errors import FormatError

_RAW_DATA = 9
_FLOAT_DATA, _DOUBLE_DATA = 4, 10

#: Fields of a message: number -> the fields of the message there, ``str`` for text, None for anything else.
_TEXTS = {1: str, 2: str}
_TENSOR: dict[int, Any] = dict.fromkeys((1, 2, _FLOAT_DATA, 5, 7, _RAW_DATA, _DOUBLE_DATA, 11, 14))
_TENSOR |= {8: str, 13: _TEXTS}
_ATTRIBUTE = {1: str, **dict.fromkeys((2, 3, 4, 7, 8, 9, 20)), 5: _TENSOR}
_NODE = {**dict.fromkeys((1, 2, 3, 4, 7), str), 5: _ATTRIBUTE}
_SHAPE = {1: {1: None, 2: str}}
_VALUE_INFO = {1: str, 2: {1: {1: None, 2: _SHAPE}}}
_SPARSE_TENSOR = {1: {8: str}}
_GRAPH = {1: _NODE, 5: _TENSOR, 11: _VALUE_INFO, 12: _VALUE_INFO, 15: _SPARSE_TENSOR}
_MODEL = {1: None, 7: _GRAPH, 8: {1: str, 2: None}}

_POINTER = struct.Struct("<QQ")
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_FIXED_SIZES = {_FIXED64: 8, _FIXED32: 4}

#: Every message costs memory that its bytes do not show. Those of real models have more than this many bytes each.
_LEAST_BYTES_PER_MESSAGE = 8
_FREE_MESSAGES = 1000


def skeleton(file: memoryview) -> bytes:
    """A ModelProto as the file has it, but each TensorProto's ``raw_data`` says where its data is: see `located`.

    Packed ``float_data`` and ``double_data``, which are the same bytes on the wire, become ``raw_data`` too. Raises
    ``FormatError`` for what is no protobuf message.
    """
    return bytes(_Walk(file).stripped(0, len(file), _MODEL))


def located(raw_data: bytes) -> tuple[int, int]:
    """Offset and length in the file of the data of a tensor in a `skeleton`."""
    offset, length = _POINTER.unpack(raw_data)
    return offset, length


class _Walk:
    def __init__(self, data: memoryview) -> None:
        self.data = data
        self.messages_left = _FREE_MESSAGES + len(data) // _LEAST_BYTES_PER_MESSAGE

    def stripped(self, at: int, stop: int, fields: dict[int, Any]) -> bytearray:
        """The message at these bytes without other fields than these."""
        self.messages_left -= 1
        if self.messages_left < 0:
            raise FormatError("more parts than a model of this size has")
        kept = bytearray()
        while at < stop:
            start = at
            tag, at = self.varint(at, stop)
            number, wire_type = tag >> 3, tag & 7
            at, end = self.span(wire_type, at, stop)
            if number in fields:
                kept += self.field(number, wire_type, start, at, end, fields)
            at = end
        return kept

    def field(self, number: int, wire_type: int, start: int, at: int, end: int, fields: dict[int, Any]) -> Any:
        if wire_type == _LENGTH and fields is _TENSOR and number in (_RAW_DATA, _FLOAT_DATA, _DOUBLE_DATA):
            return _delimited(_RAW_DATA, _POINTER.pack(at, end - at))
        if wire_type == _LENGTH and fields[number] is str:
            self.check_text(at, end)
        elif wire_type == _LENGTH and fields[number] is not None:
            return _delimited(number, self.stripped(at, end, fields[number]))
        return self.data[start:end]

    def check_text(self, at: int, end: int) -> None:
        try:
            str(self.data[at:end], "utf-8")
        except UnicodeDecodeError:
            raise FormatError(f"byte {at}: a name that is not UTF-8") from None

    def span(self, wire_type: int, at: int, stop: int) -> tuple[int, int]:
        """Where the value that begins at a byte does so, and where it ends."""
        if wire_type == _VARINT:
            return at, self.varint(at, stop)[1]
        if wire_type == _LENGTH:
            length, at = self.varint(at, stop)
        elif wire_type in _FIXED_SIZES:
            length = _FIXED_SIZES[wire_type]
        else:
            raise FormatError(f"no ONNX model: byte {at} begins no field")
        if length > stop - at:
            raise FormatError(f"byte {at}: {length} bytes announced, {stop - at} there; cut short, or no ONNX model")
        return at, at + length

    def varint(self, at: int, stop: int) -> tuple[int, int]:
        value = 0
        for n, byte in enumerate(self.data[at : min(stop, at + 10)]):
            value |= (byte & 0x7F) << (7 * n)
            if byte < 0x80:
                return value, at + n + 1
        raise FormatError(f"byte {at} begins no number; cut short, or no ONNX model")


def _delimited(number: int, content: bytes | bytearray) -> bytes:
    return _varint(number << 3 | _LENGTH) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
