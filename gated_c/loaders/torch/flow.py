"""The tensor on the one path through a PyTorch network: the layers that led to it, and how its axes lie.

A layer of a chain sees rows, steps and features. PyTorch's code moves, merges and drops axes between its layers, which
computes nothing: here that is bookkeeping on letters. N are rows, T steps, F features. F may lie apart as D times H
(directions and the features of each), and a final state has L, its layers. An axis is a tuple of letters, of several
where they are merged; what has size 1 has no letter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import prod
from typing import Any, TypeAlias

from gated_c.errors import UnsupportedError
from gated_c.layers import Embedding, Layer, PlainLayer, Pool, Repeat, Reshape, Slice
from gated_c.spec import LayerSpec

Axis: TypeAlias = tuple[str, ...]


class Extent:
    """A size of which only the data tells all: that of some letters times a known factor."""

    def __init__(self, letters: Iterable[str], factor: int = 1) -> None:
        self.letters = sorted(letters)
        self.factor = factor

    @classmethod
    def of(cls, size: int | Extent) -> Extent:
        return size if isinstance(size, Extent) else cls((), size)

    def same(self, other: Extent) -> bool:
        return (self.letters, self.factor) == (other.letters, other.factor)

    def over(self, other: Extent) -> Extent | None:
        """The quotient, ``None`` if there is a remainder."""
        left = Counter(self.letters)
        left.subtract(other.letters)
        if min(left.values(), default=0) < 0 or not other.factor or self.factor % other.factor:
            return None
        return Extent(left.elements(), self.factor // other.factor)

    def __mul__(self, other: Any) -> Extent:
        if not isinstance(other, int | Extent):
            return NotImplemented
        other = Extent.of(other)
        return Extent(self.letters + other.letters, self.factor * other.factor)

    __rmul__ = __mul__
    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        raise TypeError("only the data tells this size")

    def __str__(self) -> str:
        return "*".join([*self.letters, *([str(self.factor)] if self.factor != 1 or not self.letters else [])])


@dataclass(frozen=True, eq=False)
class Flow:
    """Immutable: what is done to it gives another one.

    ``width`` are the features that the last layer gives, ``None`` as long as no layer told; layers until then have
    size 0. ``cut`` are those of them that are left, ``None`` all. ``parts`` and ``stack`` are the sizes of D and L.
    ``lengths`` are those that it was packed by. What was made integers, ``as_integers``, is for an Embedding only.
    ``steps_added`` before and after the sequence are for a convolution only. ``place`` names the layers to come.
    """

    axes: tuple[Axis, ...]
    layers: tuple[Layer, ...] = ()
    width: int | None = None
    cut: tuple[int, int] | None = None
    parts: int = 1
    stack: int = 1
    packed: bool = False
    lengths: Any = None
    as_integers: bool = False
    is_state: bool = False
    steps_added: tuple[int, int] = (0, 0)
    place: str = ""

    @property
    def size(self) -> int | None:
        """The number of features, ``None`` as long as no layer told."""
        return self.cut[1] - self.cut[0] if self.cut else self.width

    @property
    def letters(self) -> Axis:
        return tuple(letter for axis in self.axes for letter in axis)

    @property
    def feature(self) -> Axis:
        """The axis of all features and of nothing else."""
        return () if self.size == 1 else ("F",)

    @property
    def shape(self) -> tuple[int | Extent, ...]:
        extents = map(self.extent, self.axes)
        return tuple(extent if extent.letters else extent.factor for extent in extents)

    def known(self, letter: str) -> int | None:
        """The size of a letter, ``None`` if only the data tells."""
        part = None if self.size is None else self.size // self.parts
        return {"F": self.size, "H": part, "D": self.parts, "L": self.stack}.get(letter)

    def extent(self, letters: Axis) -> Extent:
        sizes = {letter: self.known(letter) for letter in letters}
        added = f"T{self.steps_added}" if any(self.steps_added) else "T"
        unknown = [added if letter == "T" else letter for letter, size in sizes.items() if size is None]
        return Extent(unknown, prod(size for size in sizes.values() if size is not None))

    def holds(self, *letters: str) -> bool:
        """Whether the axes are these, in this order."""
        return self.axes == tuple(self.feature if letter == "F" else (letter,) for letter in letters)

    def index(self, dim: int) -> int:
        """The position of the axis that PyTorch calls ``dim``."""
        if not isinstance(dim, int) or not -len(self.axes) <= dim < len(self.axes):
            raise UnsupportedError(f"axis {dim} of {self}")
        return dim % len(self.axes)

    def __str__(self) -> str:
        return "[" + ", ".join("*".join(axis) or "1" for axis in self.axes) + "]"

    def with_axes(self, *axes: Axis, **changes: Any) -> Flow:
        """The same numbers otherwise divided. D and H become F where they meet."""
        flow = replace(self, **changes)
        divided = "".join(letter for letter in "DH" if flow.known(letter) != 1) or "F"
        axes = tuple(tuple("".join(axis).replace(divided, "F")) for axis in axes)
        return replace(flow, axes=axes, parts=flow.parts if any("D" in axis for axis in axes) else 1)

    def replaced(self, at: int, *axes: Axis, **changes: Any) -> Flow:
        """With other axes, or none, in the place of one."""
        return self.with_axes(*self.axes[:at], *axes, *self.axes[at + 1 :], **changes)

    def then(self, layer: Layer) -> Flow:
        """After one more layer; the axes stay."""
        if any(self.steps_added):
            raise UnsupportedError("reads steps that padding added; expected a causal Conv1d there")
        if self.as_integers and not isinstance(layer, Embedding):
            raise UnsupportedError("computes with what was made integers; expected an Embedding")
        flow = self.sized(layer.input_size) if self.width is None and layer.input_size else self
        if (flow.size or 0) != layer.input_size:
            raise UnsupportedError(f"expected {layer.input_size} features, got {flow.size} in {self}")
        if isinstance(layer, PlainLayer):
            layer = replace(layer, name=self.place)
        layers = (*flow.chain, layer)
        return replace(
            flow, layers=layers, width=layer.output_size or None, cut=None, is_state=False, as_integers=False
        )

    def sized(self, size: int) -> Flow:
        """The layers so far get their size from the first that knows it."""
        layers = tuple(replace(layer, size=size) for layer in self.layers)  # type: ignore[call-arg]
        return replace(self, layers=layers, width=size)

    @property
    def chain(self) -> tuple[Layer, ...]:
        """The layers, and what cuts out the features that are left."""
        if self.cut is None or self.width is None:
            return self.layers
        return (*self.layers, Slice(size=self.width, start=self.cut[0], stop=self.cut[1], name=self.place))

    def then_at(self, dim: int, layer: Layer) -> Flow:
        """After a layer that works on the features, which have to lie as axis ``dim``, and that may give others."""
        at = self.index(dim)
        flow = self
        if self.axes[at] == ("T", "F"):
            flow = self._flattened(layer.input_size)
        elif self.axes[at] != self.feature:
            raise UnsupportedError(f"expected the features as axis {at}, got {self}")
        flow = flow.then(layer)
        return flow.replaced(at, flow.feature)

    def _flattened(self, size: int) -> Flow:
        """All steps as one vector, whose size tells how many there are."""
        if self.axes != (("N",), ("T", "F")) or not self.size or size % self.size:
            raise UnsupportedError(f"expected {size} features, got {self}")
        flow = self.then(Reshape(size // self.size, self.size, 0, size))
        return flow.with_axes(("N",), flow.feature)

    def after(self, spec: LayerSpec) -> tuple[Flow, Flow]:
        """After a recurrent layer: its output, with axes as they are, and its final h."""
        y = replace(self.then(spec), packed=self.packed)
        y = y.with_axes(*y.axes[:2], y.feature)
        both = spec.bidirectional
        pool = Pool(spec.output_size, "final" if both else "last", spec.h_size if both else 0)
        h = replace(replace(y, packed=False).then(pool), stack=spec.num_layers, parts=spec.num_directions)
        first = (*("L" * (spec.num_layers > 1)), *("D" * both))
        return y, h.with_axes(first, ("N",), ("H",) * (spec.h_size > 1), is_state=True)

    def pooled(self, at: int, kind: str, *kept: Axis) -> Flow:
        """After a Pool over the steps, axis ``at``. Features cut off before it are cut off after it."""
        whole = replace(self, cut=None).then(Pool(size=self.width or 0, kind=kind))
        return whole.replaced(at, *kept, cut=self.cut)

    def arranged(self, *order: str) -> Flow:
        """A sequence with these axes. A vector is one of one step, or of as many steps as it was divided into."""
        at = order.index("T")
        steps = self.axes[at : at + 1]
        if self.holds(*order):
            return self
        if "T" not in self.letters and self.size:
            if steps == ((),) and self.replaced(at).holds("N", "F"):
                return self.then(Repeat(size=self.size, steps=1)).replaced(at, ("T",))
            if self.holds(*({"T": "D", "F": "H"}.get(letter, letter) for letter in order)):
                flow = self.then(Reshape(0, self.size, self.parts, self.size // self.parts))
                return flow.with_axes(*(flow.feature if letter == "F" else (letter,) for letter in order))
        raise UnsupportedError(f"expected [{', '.join(order)}], got {self}")
