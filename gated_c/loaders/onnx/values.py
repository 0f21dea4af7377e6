"""What runs along the edges of an ONNX graph while it is read, and the nodes between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from gated_c.errors import FormatError, UnsupportedError
from gated_c.loaders.names import shown
from gated_c.loaders.onnx.tensors import AnyArray

#: AttributeProto.AttributeType, as far as the attributes of supported nodes go.
FLOAT, INT, STRING, TENSOR, FLOATS, INTS, STRINGS = 1, 2, 3, 4, 6, 7, 8
_FIELDS = {FLOAT: "f", INT: "i", STRING: "s", TENSOR: "t", FLOATS: "floats", INTS: "ints", STRINGS: "strings"}

CONSTANT, SIGNAL, GIVEN = "constant", "signal", "given"


@dataclass(frozen=True)
class Value:
    """A tensor of the graph, each axis of which is either numbers or *rows*: ``"N"`` batch, ``"T"`` time, ``"NT"`` or
    ``"TN"`` both in this order. Of an axis of rows, ``array`` has one: they are all alike.

    ``kind`` says what ``array`` holds: a ``constant``, in which the unknown size of an axis is a `Rows`; of a
    ``signal``, which features of the network are where, as `Path` numbers them; of what another input has ``given``,
    which is the caller's business, nothing.
    """

    kind: str
    array: AnyArray
    rows: tuple[str, ...]

    def sizes(self, known: dict[str, int]) -> list[Any]:
        """The size of every axis, `Rows` where it has rows. ``known`` has those that the file says."""
        return [Rows.of(rows, known) if rows else size for rows, size in zip(self.rows, self.array.shape, strict=True)]

    def with_array(self, array: AnyArray) -> Value:
        return replace(self, array=array)

    def axis_of(self, rows: str) -> int | None:
        """The axis that has just these rows, if there is one."""
        return self.rows.index(rows) if rows in self.rows else None

    @property
    def has_time(self) -> bool:
        return any("T" in rows for rows in self.rows)


def constant(array: Any) -> Value:
    array = np.asarray(array)
    return Value(CONSTANT, array, ("",) * array.ndim)


def without_axes(value: Value, axes: set[int]) -> Value:
    """The value without axes of size 1."""
    rows = tuple(rows for axis, rows in enumerate(value.rows) if axis not in axes)
    return Value(value.kind, value.array.squeeze(tuple(axes)), rows)


#: Whatever comes from another input than x: an initial state, lengths.
GIVEN_VALUE = Value(GIVEN, np.zeros(()), ())


@dataclass(frozen=True, eq=False)
class Rows:
    """A number of steps, of sequences, or a product with these: ``factor`` times the sizes of ``axes``. ``size`` is the
    number, where the file says it."""

    axes: str
    factor: int
    size: int | None

    @classmethod
    def of(cls, axes: str, known: dict[str, int]) -> Rows:
        sizes = [known.get(axis) for axis in axes]
        total = None if None in sizes else int(np.prod([size for size in sizes if size], dtype=object))
        return cls("".join(sorted(axes)), 1, total)

    def __mul__(self, other: Any) -> Any:
        other = other if isinstance(other, Rows) else Rows("", int(other), int(other))
        size = None if self.size is None or other.size is None else self.size * other.size
        return Rows("".join(sorted(self.axes + other.axes)), self.factor * other.factor, size)

    __rmul__ = __mul__

    def __floordiv__(self, other: Any) -> Any:
        other = other if isinstance(other, Rows) else Rows("", int(other), int(other))
        left = list(self.axes)
        for axis in other.axes:
            if axis not in left:
                return int(self) // int(other)
            left.remove(axis)
        if other.factor == 0 or self.factor % other.factor:
            return int(self) // int(other)
        size = None if self.size is None or not other.size else self.size // other.size
        factor = self.factor // other.factor
        return Rows("".join(left), factor, size) if left else factor

    __truediv__ = __floordiv__

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Rows):
            alike = (self.axes, self.factor) == (other.axes, other.factor)
            return alike or (self.size is not None and self.size == other.size)
        return self.size is not None and self.size == other

    __hash__ = None  # type: ignore[assignment]

    def __lt__(self, other: Any) -> bool:
        return bool(int(self) < other)

    def __gt__(self, other: Any) -> bool:
        return bool(int(self) > other)

    def __int__(self) -> int:
        if self.size is None:
            raise UnsupportedError("arithmetic on a size that the file does not say")
        return self.size

    __index__ = __int__

    def __add__(self, other: Any) -> int:
        return int(self) + int(other)

    __radd__ = __add__

    def __sub__(self, other: Any) -> int:
        return int(self) - int(other)

    def __rsub__(self, other: Any) -> int:
        return int(other) - int(self)


@dataclass(frozen=True)
class Node:
    """A node of the graph. Attributes are asked for by name and type; ``opset`` is that of the whole model."""

    op: str
    name: str
    inputs: Sequence[str] = ()
    outputs: Sequence[str] = ()
    opset: int = 0
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, proto: Any, opset: int) -> Node:
        """A NodeProto. One without a name goes by its first output's."""
        op = proto.op_type if proto.domain in ("", "ai.onnx") else f"{proto.domain}.{proto.op_type}"
        name = proto.name or next(filter(None, proto.output), "")
        attributes = {attribute.name: attribute for attribute in proto.attribute}
        return cls(op, name, tuple(proto.input), tuple(proto.output), opset, attributes)

    def __str__(self) -> str:
        return f"{shown(self.op)} '{shown(self.name)}'"

    def has(self, name: str) -> bool:
        return name in self.attributes

    def integer(self, name: str, default: int) -> int:
        return int(self._get(name, INT, default))

    def number(self, name: str, default: float) -> float:
        return float(self._get(name, FLOAT, default))

    def text(self, name: str, default: str) -> str:
        return _decoded(self._get(name, STRING, default.encode()))

    def integers(self, name: str) -> list[int] | None:
        values = self._get(name, INTS, None)
        return None if values is None else [int(value) for value in values]

    def numbers(self, name: str) -> list[float]:
        return [float(value) for value in self._get(name, FLOATS, ())]

    def texts(self, name: str) -> list[str]:
        return [_decoded(value) for value in self._get(name, STRINGS, ())]

    def tensor(self, name: str) -> Any:
        return self._get(name, TENSOR, None)

    def _get(self, name: str, kind: int, default: Any) -> Any:
        if name not in self.attributes:
            return default
        attribute = self.attributes[name]
        if attribute.type != kind:
            raise FormatError(f"attribute {name}: expected one of type {kind}, got type {attribute.type}")
        return getattr(attribute, _FIELDS[kind])


def is_number(size: Any, wanted: int) -> bool:
    """Whether a size is that number, and not just that of an axis of rows which happens to have it."""
    return not isinstance(size, Rows) and bool(size == wanted)


def _decoded(text: bytes) -> str:
    return text.decode("utf-8", "replace")
