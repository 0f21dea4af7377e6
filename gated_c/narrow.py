"""Weights in fewer bits than float32: bfloat16, and 8-bit integers with a scale for each row.

Both are grids of float32 numbers: rounding twice changes nothing, and what was rounded comes back exactly.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from gated_c.arrays import Array

MOST = 127  # of an 8-bit integer, either sign

_SMALLEST_SCALE = np.float32(np.finfo(np.float32).tiny)
_LARGEST_SCALE = np.float32(float.fromhex("0x1.0204p+121"))  # 127 times the next one is infinite

_DROPPED = (1 << 37) - 1  # bits of a float64 beyond a significand of 16


@dataclass(frozen=True, slots=True, eq=False)
class Bfloat16:
    """The upper halves of float32 numbers, ``bits`` uint16 of any shape."""

    bits: npt.NDArray[np.uint16]

    @classmethod
    def of(cls, weight: Array) -> Bfloat16:
        """Rounded to the nearest, ties to even. NaN stays NaN; beyond 3.39e38 infinity is nearest."""
        bits = np.ascontiguousarray(weight).view(np.uint32)
        rounded = bits + (0x7FFF + (bits >> 16 & 1))
        return cls((np.where(np.isnan(weight), bits | 0x400000, rounded) >> 16).astype(np.uint16))

    @property
    def shape(self) -> tuple[int, ...]:
        return self.bits.shape

    @property
    def dtype(self) -> np.dtype[np.float32]:
        return np.dtype(np.float32)

    def expanded(self) -> Array:
        expanded: Array = (self.bits.astype(np.uint32) << 16).view(np.float32)
        return expanded


@dataclass(frozen=True, slots=True, eq=False)
class Int8:
    """``q * scale``: ``q`` int8 [rows, columns] of -127..127, ``scale`` float32 [rows]."""

    q: npt.NDArray[np.int8]
    scale: Array

    @classmethod
    def of(cls, weight: Array) -> Int8:
        """A row's scale is its largest magnitude / 127, rounded up to a significand of 16 bits, so that the products
        are exact; q is the nearest integer to weight / scale, ties to even. A row that is not finite becomes NaN; one
        below 1.5e-36, of which the scale would be subnormal, zeros."""
        scale = _scale_of(np.abs(weight).max(1, initial=0))
        with np.errstate(invalid="ignore", divide="ignore", over="ignore", under="ignore"):
            q = np.rint(weight / scale[:, None])
        return cls(np.where(np.isfinite(q), q, 0).astype(np.int8), scale)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.q.shape

    @property
    def dtype(self) -> np.dtype[np.float32]:
        return np.dtype(np.float32)

    def expanded(self) -> Array:
        with np.errstate(all="ignore"):  # a file may hold any scales
            return self.q * self.scale[:, None]

    @property
    def is_rounded(self) -> bool:
        """Whether this is what `of` makes of these numbers."""
        largest = np.maximum(self.q.max(1, initial=0), -self.q.min(1, initial=0).astype(np.int16))
        scale = np.abs(self.scale)
        is_scale = (self.scale.view(np.uint32) & 0xFF == 0) & (self.scale >= _SMALLEST_SCALE)
        is_used = is_scale & (scale <= _LARGEST_SCALE) & (largest == MOST)
        return bool(np.all(is_used | ((largest == 0) & ((scale == 0) | np.isnan(scale)))))


def _scale_of(largest: Array) -> Array:
    """Of rows whose largest magnitudes are these. A quotient of two float32 is further from a number of 16 bits than
    float64 rounds, or is one."""
    with np.errstate(invalid="ignore"):
        exact = largest.astype(np.float64) / MOST
    up = ((exact.view(np.uint64) + np.uint64(_DROPPED)) & ~np.uint64(_DROPPED)).view(np.float64)
    scale: Array = np.minimum(np.where(up < _SMALLEST_SCALE, 0, up), _LARGEST_SCALE).astype(np.float32)
    scale[~np.isfinite(largest)] = np.nan
    return scale


#: A weight as it is kept, and an array of that.
Stored: TypeAlias = Array | Bfloat16 | Int8
Tensor: TypeAlias = npt.NDArray[Any]

#: Beginnings of the names of weights that can be narrow.
MATRICES = ("weight_ih", "weight_hh", "weight_hr")


class NarrowWeights(Mapping[str, Array]):
    """The weights of a ``LayerSpec`` in the width in which they are kept, ``stored``. Each is expanded to float32
    whenever it is asked for, so that nobody has both in memory."""

    def __init__(self, stored: Mapping[str, Stored]) -> None:
        self.stored = dict(stored)

    @property
    def is_narrow(self) -> bool:
        """Whether there is one that is."""
        return any(not isinstance(weight, np.ndarray) for weight in self.stored.values())

    def __getitem__(self, name: str) -> Array:
        return _expanded(self.stored[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self.stored)

    def __len__(self) -> int:
        return len(self.stored)


def _expanded(weight: Stored) -> Array:
    return weight if isinstance(weight, np.ndarray) else weight.expanded()


def stored_of(weights: Mapping[str, Array]) -> Mapping[str, Stored]:
    """The weights as they are kept: all have a shape, a dtype that is that of their numbers, and cost nothing."""
    return weights.stored if isinstance(weights, NarrowWeights) else weights


#: The part of a weight in int8 that is beside it.
SCALE = ".scale"


def parts_of(weight: Stored) -> dict[str, Tensor]:
    """The arrays that a weight consists of, by what their names add to its own."""
    if isinstance(weight, Int8):
        return {"": weight.q, SCALE: weight.scale}
    return {"": weight.bits if isinstance(weight, Bfloat16) else weight}


def unread(weights: Mapping[str, Array]) -> dict[str, Tensor]:
    """The weights, some other array in place of each narrow one, to stand for it where it is not read."""
    return {name: parts_of(weight)[""] for name, weight in stored_of(weights).items()}


#: A dtype -> what weights of it are kept as.
KINDS: dict[str, type[Bfloat16] | type[Int8]] = {"bfloat16": Bfloat16, "int8": Int8}


def dtype_of(weights: Mapping[str, Array], name: str) -> str:
    """The one that a weight is kept in."""
    kept = stored_of(weights)[name]
    return next((dtype for dtype, kind in KINDS.items() if isinstance(kept, kind)), "float32")


def narrowed(weights: Mapping[str, Array], dtypes: Mapping[str, str]) -> Mapping[str, Array]:
    """The weights with those that ``dtypes`` names, by the beginning of their names, rounded to its dtypes, and the
    others in float32. They themselves if they are that already."""
    stored = stored_of(weights)
    kinds = {name: KINDS.get(dtypes.get(name.rpartition("_l")[0], "float32"), np.ndarray) for name in stored}
    if all(isinstance(weight, kinds[name]) for name, weight in stored.items()):
        return weights
    kept = {name: _as(kinds[name], weight) for name, weight in stored.items()}
    return NarrowWeights(kept) if dtypes else {name: _expanded(weight) for name, weight in kept.items()}


def _as(kind: type[Any], weight: Stored) -> Stored:
    if not isinstance(weight, kind):
        weight = _expanded(weight) if kind is np.ndarray else kind.of(_expanded(weight))
    return weight
