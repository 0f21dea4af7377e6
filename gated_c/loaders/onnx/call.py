"""A node with its inputs at hand: what every operator asks for, and what the layers do to a signal's axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gated_c.errors import FormatError, UnsupportedError
from gated_c.layers import Layer, Pool, Repeat, Reshape
from gated_c.loaders.onnx.path import Path, Source
from gated_c.loaders.onnx.tensors import AnyArray, Tensors, own
from gated_c.loaders.onnx.values import CONSTANT, GIVEN, SIGNAL, Node, Rows, Value
from gated_c.spec import Array

#: Bytes that a graph may compute and copy: this multiple of its files, and some for what is small anyway.
_BUDGET_FACTOR = 4
_FREE_BYTES = 2**20


#: Of Python's in a list.
_BYTES_OF_INT = 40


class WrongOrder(UnsupportedError):
    """The axes of x are not what they were taken for."""


class Budget:
    """The memory that reading a network may take."""

    def __init__(self, tensors: Tensors) -> None:
        self.tensors = tensors
        self.spent = 0

    def spend(self, num_bytes: int) -> None:
        self.spent += num_bytes
        if self.spent > _BUDGET_FACTOR * self.tensors.num_bytes + _FREE_BYTES:
            raise FormatError("tensors far larger than the file that makes them")


class Network:
    """What is known while a graph is read. ``sizes``: of the axes ``"N"`` and ``"T"``, if the file says it.

    Nothing in it refers back to it: the file is unmapped as soon as it is read.
    """

    def __init__(self, tensors: Tensors, clip: str) -> None:
        self.tensors = tensors
        self.clip = clip
        self.sizes: dict[str, int] = {}
        self.spend = Budget(tensors).spend
        self.path = Path(self.spend)


@dataclass(frozen=True)
class Call:
    """One node, its inputs (``None``: omitted), and the network that it belongs to."""

    node: Node
    inputs: Sequence[Value | None]
    network: Network

    @property
    def path(self) -> Path:
        return self.network.path

    def optional(self, at: int) -> Value | None:
        return self.inputs[at] if at < len(self.inputs) else None

    def value(self, at: int) -> Value:
        value = self.optional(at)
        if value is None:
            raise FormatError(f"input {at} is missing")
        return value

    def signal(self, at: int = 0) -> Value:
        """An input that must come from x."""
        value = self.value(at)
        if value.kind == GIVEN:
            raise UnsupportedError("a second input of the network")
        if value.kind != SIGNAL:
            raise UnsupportedError(f"a constant as input {at}")
        return value

    def constant(self, at: int) -> AnyArray | None:
        """The numbers of an input that must not depend on x, ``None`` if it is omitted."""
        value = self.optional(at)
        if value is None:
            return None
        if value.kind != CONSTANT or any(value.rows):
            raise UnsupportedError(f"input {at} depends on an input of the network; expected a constant")
        return value.array

    def taken(self, at: int) -> AnyArray | None:
        """`constant`, of which the caller makes a copy."""
        array = self.constant(at)
        if array is not None:
            self.network.spend(4 * array.size)
        return array

    def weight(self, at: int) -> Array | None:
        """`constant` as float32, apart from the file."""
        array = self.constant(at)
        return None if array is None else self.own(array)

    def own(self, array: AnyArray) -> Array:
        self.network.spend(4 * array.size)
        return own(array)

    def integers(self, name: str, at: int) -> list[Any] | None:
        """Sizes or axes that older opsets have as an attribute and newer ones as an input."""
        attribute = self.node.integers(name)
        if attribute is not None:
            return attribute
        array = self.constant(at)
        if array is None:
            return None
        if array.dtype.kind not in "iuO":
            raise FormatError(f"{name}: expected integers, got {array.dtype}")
        self.network.spend(_BYTES_OF_INT * array.size)
        return list(array.ravel().tolist())

    def number(self, name: str, at: int, default: float) -> float:
        """A single number, likewise."""
        if self.node.has(name):
            return self.node.number(name, default)
        array = self.constant(at)
        if array is None:
            return default
        if array.size != 1:
            raise FormatError(f"{name}: expected one number, got {array.size}")
        return float(array.ravel()[0])

    def are_full(self, lengths: Value) -> bool:
        """Whether these lengths of sequences are the number of steps of x, whatever that is."""
        full = Rows.of("T", self.network.sizes)
        return lengths.kind == CONSTANT and all(length == full for length in distinct(lengths.array).flat)

    def axis(self, default: int, value: Value) -> int:
        return checked_axis(self.node.integer("axis", default), value)

    def features(self, value: Value, axis: int = -1) -> Source:
        """A source with just the features along an axis; the other axes are rows."""
        axis = checked_axis(axis, value)
        if value.rows[axis]:
            raise WrongOrder("works on an axis of steps or of rows; expected features")
        if value.array.size != value.array.shape[axis]:
            raise UnsupportedError("works on one of several axes of features")
        return self.path.whole(value.array.ravel())

    def after(self, value: Value, axis: int, source: Source) -> Value:
        """The value with the features of another source along an axis."""
        shape = [1] * value.array.ndim
        shape[axis] = source.size
        return value.with_array(self.path.numbers(source).reshape(shape))

    def applied(self, value: Value, layer: Layer) -> Value:
        """What a layer makes of the features along the last axis."""
        return self.after(value, -1, self.path.append(self.features(value), layer))

    def mapped(self, value: Value, source: Source, local: AnyArray) -> Value:
        """The value with the same features of another source of the same size."""
        self.network.spend(8 * local.size)
        return value.with_array(local + source.start)

    def pooled(self, value: Value, axis: int, kind: str) -> Value:
        """One step, or the mean or largest of all, along the axis of time, which keeps the size 1."""
        rows = tuple("" if n == axis else name for n, name in enumerate(value.rows))
        if value.kind == CONSTANT:
            return Value(CONSTANT, value.array, rows)
        source, local = self.path.only(value.array)
        pool = self.path.append(self.path.unmasked(source), Pool(source.size, kind, name=self.node.name))
        return Value(SIGNAL, self.mapped(value, pool, local).array, rows)

    def unrolled(self, value: Value) -> Value:
        """Steps as features: an axis of time becomes one of numbers."""
        axis, steps = value.axis_of("T"), self.network.sizes.get("T")
        if axis is None or steps is None or value.kind != SIGNAL:
            raise UnsupportedError("a new shape that mixes axes whose sizes the file does not say")
        source, local = self.path.only(value.array)
        source = self.path.unmasked(source)
        self.network.spend(8 * steps * local.size)
        layer = Reshape(steps, source.size, 0, steps * source.size, name=self.node.name)
        offsets = np.arange(steps).reshape([-1 if n == axis else 1 for n in range(local.ndim)]) * source.size
        rows = tuple("" if n == axis else name for n, name in enumerate(value.rows))
        return Value(SIGNAL, self.path.append(source, layer).start + offsets + local, rows)

    def sequence(self, value: Value, axis: int) -> Value:
        """Features as steps, the opposite; steps that are all alike are repetitions."""
        array = np.moveaxis(value.array, axis, 0)
        steps, numbers = len(array), array.reshape(len(array), -1)
        if np.all(numbers == numbers[0]):
            source = self.path.whole(numbers[0])
            source = self.path.append(source, Repeat(source.size, steps, name=self.node.name))
        else:
            source = self.path.whole(numbers.ravel())
            size = source.size // steps
            source = self.path.append(source, Reshape(0, source.size, steps, size, name=self.node.name))
        rows = tuple("T" if n == axis else name for n, name in enumerate(value.rows))
        shape = [1 if n == axis else size for n, size in enumerate(value.array.shape)]
        return Value(SIGNAL, self.path.numbers(source).reshape(shape), rows)


def checked_axis(axis: int, value: Value) -> int:
    ndim = value.array.ndim
    if not -ndim <= axis < ndim:
        raise FormatError(f"axis: expected one of {ndim}, got {axis}")
    return axis % ndim


def checked_size(size: Any) -> int:
    number = int(size)
    if not 0 <= number < 2**40:
        raise FormatError(f"a size of {number}")
    return number


def distinct(array: AnyArray) -> AnyArray:
    """An array without its repetitions by broadcasting: the same numbers, if fewer of them."""
    once = tuple(slice(0, 1) if stride == 0 else slice(None) for stride in array.strides)
    return array[(...,) + once]  # noqa: RUF005 - mypy takes the alternative for newer syntax


def vector(array: AnyArray | None, size: int) -> AnyArray | None:
    """An input that has one number for each feature, or is omitted."""
    if array is not None and array.size != size:
        raise FormatError(f"expected {size} numbers, got {array.size}")
    return None if array is None else array.reshape(size)
