"""The layers found so far, each with the one it follows, and the numbering of the features between them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from gated_c.errors import UnsupportedError
from gated_c.layers import Layer, Pool, Slice, Unmask
from gated_c.loaders.names import shown
from gated_c.loaders.onnx.tensors import AnyArray
from gated_c.spec import LayerSpec


@dataclass(frozen=True)
class Mark:
    """In the place of a layer: what no layer gives, such as an LSTM's c, or a part of what one does, such as the mean
    in a LayerNorm. ``kind`` is what patterns look for, ``name`` the node's for a message that it fits none."""

    kind: str
    name: str
    amount: int = 0


@dataclass(frozen=True, eq=False)
class Source:
    """What a layer gives: ``size`` features, which have the numbers from ``start`` on. Without a layer: x.

    ``masked``: steps beyond the ``sequence_lens`` of a recurrent node are 0. ``is_state``: an output h or c of one.
    """

    start: int
    size: int
    parent: Source | None = None
    layer: Layer | Mark | None = None
    masked: bool = False
    is_state: bool = False


class Path:
    """Sources by the numbers of their features. ``spend`` accounts for memory, in bytes."""

    def __init__(self, spend: Callable[[int], None]) -> None:
        self.spend = spend
        self._sources: list[Source] = []
        self._starts: list[int] = []
        self._next = 0
        self._unmasked: dict[Source, Source] = {}
        self._slices: dict[tuple[Source, int, int], Source] = {}

    def add(
        self,
        parent: Source | None,
        layer: Layer | Mark | None,
        size: int,
        masked: bool | None = None,
        is_state: bool = False,
    ) -> Source:
        if masked is None:
            masked = parent is not None and parent.masked
        source = Source(self._next, size, parent, layer, masked, is_state)
        self._sources.append(source)
        self._starts.append(self._next)
        self._next += size
        return source

    def append(self, source: Source, layer: Layer) -> Source:
        """What the layer gives of a source."""
        return self.add(source, layer, layer.output_size)

    def mark(self, source: Source, kind: str, name: str, size: int, amount: int = 0) -> Source:
        """A part of what a layer does."""
        return self.add(source, Mark(kind, name, amount), size)

    def numbers(self, source: Source) -> AnyArray:
        """The numbers of all features of a source."""
        self.spend(8 * source.size)
        return np.arange(source.start, source.start + source.size)

    def only(self, array: AnyArray) -> tuple[Source, AnyArray]:
        """The one source that all these features are from, and which of its features they are."""
        if not array.size:
            raise UnsupportedError("nothing is left of the features")
        first = self._at(int(array.min()))
        if array.max() < first.start + first.size:
            return first, array - first.start
        return self._joined(first, self._at(int(array.max())), array)

    def is_state(self, array: AnyArray) -> bool:
        """Whether all these features are of states."""
        sources = np.unique(np.searchsorted(self._starts, array, "right") - 1)
        return all(self._sources[at].is_state for at in sources)

    def whole(self, numbers: AnyArray) -> Source:
        """A source with just these features, in this order, ``numbers`` [F]."""
        source, features = self.only(numbers)
        start, stop = int(features[0]), int(features[0]) + len(features)
        if not np.array_equal(features, np.arange(start, stop)):
            raise UnsupportedError("the features in another order")
        if (start, stop) == (0, source.size):
            return source
        part = (source, start, stop)
        if part not in self._slices:
            self._slices[part] = self.append(source, Slice(source.size, start, stop))
        return self._slices[part]

    def unmasked(self, source: Source) -> Source:
        """The source as a layer sees it that knows nothing of ``sequence_lens``."""
        if not source.masked:
            return source
        if source not in self._unmasked:
            self._unmasked[source] = self.add(source, Unmask(source.size), source.size, masked=False)
        return self._unmasked[source]

    def _at(self, number: int) -> Source:
        return self._sources[bisect_right(self._starts, number) - 1]

    def _joined(self, first: Source, second: Source, array: AnyArray) -> tuple[Source, AnyArray]:
        """Features of two sources as those of one: the two directions of a layer."""
        of_first = (array >= first.start) & (array < first.start + first.size)
        of_second = (array >= second.start) & (array < second.start + second.size)
        if np.all(of_first | of_second):
            local = np.where(of_first, array - first.start, array - second.start)
            for (a, is_a), (b, is_b) in (
                ((first, of_first), (second, of_second)),
                ((second, of_second), (first, of_first)),
            ):
                if joined := self._both_ends(a, local[is_a], b, local[is_b]):
                    return joined, local
                if joined := self._both_directions(a, b):
                    return joined, np.where(is_a, local, local + a.size)
        raise UnsupportedError(f"a branch: {_name(first)} and {_name(second)} meet here")

    def _both_ends(self, a: Source, of_a: AnyArray, b: Source, of_b: AnyArray) -> Source | None:
        """The last step of the first features and the first step of the others: a `Pool` of both directions."""
        if _pools(a, b) != ("last", "first") or a.parent is not b.parent or a.parent is None:
            return None
        if of_a.max() >= of_b.min():
            return None
        pool = Pool(a.size, "final", a.size - int(of_b.min()), name=_layer_name(a))
        return self.append(a.parent, pool)

    def _both_directions(self, a: Source, b: Source) -> Source | None:
        """A forward and a backward layer after the same source as one, or their final outputs."""
        if isinstance(a.layer, LayerSpec) and isinstance(b.layer, LayerSpec):
            if a.parent is not b.parent or a.masked != b.masked:
                return None
            both = bidirectional(a.layer, b.layer)
            return None if both is None else self.add(a.parent, both, both.output_size, a.masked)
        if _pools(a, b) not in (("final", "final"), ("last", "first")) or a.parent is None or b.parent is None:
            return None
        both_parents = self._both_directions(a.parent, b.parent)
        if both_parents is None:
            return None
        return self.append(both_parents, Pool(both_parents.size, "final", b.size, name=_layer_name(a)))


def bidirectional(forward: LayerSpec, backward: LayerSpec) -> LayerSpec | None:
    """Two layers as the directions of one, if they are alike."""
    if forward.reverse or forward.bidirectional or not backward.reverse:
        return None
    alike = replace(
        backward, reverse=False, weights=forward.weights, name=forward.name, activations=forward.activations
    )
    if alike.__dict__ != forward.__dict__:
        return None
    reverse = {f"{name}_reverse": weight for name, weight in backward.weights.items()}
    activations = forward.activations_of(0) + backward.activations_of(0)
    return replace(
        forward,
        weights={**forward.weights, **reverse},
        bidirectional=True,
        activations=activations if forward.activations or backward.activations else (),
    )


def _pools(a: Source, b: Source) -> tuple[str | None, ...]:
    return tuple(source.layer.kind if isinstance(source.layer, Pool) else None for source in (a, b))


def _layer_name(source: Source) -> str:
    return source.layer.name if source.layer else ""


def _name(source: Source) -> str:
    return f"'{shown(_layer_name(source))}'" if source.layer else "x"
