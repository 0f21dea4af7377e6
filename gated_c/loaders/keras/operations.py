"""Operations on tensors that stand between Keras's layers: ``h[:, -1]``, ``keras.ops.mean(h, axis=1)``.

None of them knows a mask, in Keras 2 and 3: every step counts, and what comes behind sees no mask.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import EllipsisType
from typing import Any, TypeAlias

from gated_c.errors import UnsupportedError
from gated_c.layers import Slice
from gated_c.loaders.keras.chain import Chain
from gated_c.loaders.keras.config import KerasLayer
from gated_c.loaders.names import shown

#: What stands between the commas of ``h[...]``; ``None`` is a new axis, or what no slice is made of.
_Part: TypeAlias = slice | int | EllipsisType | None

_ALL = slice(None)

#: Index of a step -> the Pool that takes it.
_STEPS = {0: "first", -1: "last"}


def slice_of(chain: Chain, layer: KerasLayer) -> None:
    """The first or last step of a sequence, a range of features, or both."""
    key = layer.arguments.get("key", layer.arguments.get("slice_spec"))
    parts = [_part(value) for value in (key if isinstance(key, list | tuple) else [key])]
    batch, step, features = _by_axis(parts, chain.is_vector)
    start, stop, stride = features.indices(chain.width()) if isinstance(features, slice) else (0, 0, 1)
    if batch != _ALL or step not in (_ALL, *_STEPS) or stride != 1 or start >= stop:
        raise UnsupportedError(
            f"a slice [{', '.join(map(_spelled, parts))}]; only the first or last step, or a range of features"
        )
    chain.unmask(layer.name)
    if isinstance(step, int):
        chain.pool(layer.name, _STEPS[step])
    if stop - start < chain.width():
        chain.append(Slice(chain.width(), start, stop, name=layer.name))


def mean(chain: Chain, layer: KerasLayer) -> None:
    _reduce(chain, layer, "mean")


def maximum(chain: Chain, layer: KerasLayer) -> None:
    _reduce(chain, layer, "max")


def _reduce(chain: Chain, layer: KerasLayer, kind: str) -> None:
    """Over time."""
    options = {**layer.config, **layer.arguments}
    axis = options.get("axis")
    if chain.is_vector or axis not in (1, -2, [1], [-2], (1,), (-2,)):
        raise UnsupportedError(f"over axis {shown(str(axis))}; only over time, axis 1 of a sequence")
    for option in ("keepdims", "initial"):
        if options.get(option) not in (None, False):
            raise UnsupportedError(f"with {option}={shown(str(options[option]))}")
    chain.unmask(layer.name)
    chain.pool(layer.name, kind)


def _part(value: Any) -> _Part:
    if isinstance(value, Mapping):
        if value.get("class_name") == "__ellipsis__":
            return Ellipsis
        bounds = value.get("config", value)  # Keras 2 has no class_name around them
        if isinstance(bounds, Mapping):
            value = slice(*(bounds.get(name) for name in ("start", "stop", "step")))
            return _plain(value)
    return value if type(value) is int else None


def _plain(part: slice) -> slice | None:
    """With a step of 1 and a start of 0 left out; ``None`` if it is not made of numbers."""
    if any(type(bound) not in (int, type(None)) for bound in (part.start, part.stop, part.step)) or part.step == 0:
        return None
    return slice(part.start or None, part.stop, None if part.step == 1 else part.step)


def _by_axis(parts: list[_Part], is_vector: bool) -> tuple[_Part, _Part, _Part]:
    """What is taken of rows, steps and features; of each ``None`` if that is not a part for each axis."""
    axes = 2 if is_vector else 3
    at = parts.index(Ellipsis) if Ellipsis in parts else len(parts)
    before, after = parts[:at], parts[at + 1 :]
    whole = [*before, *[_ALL] * (axes - len(before) - len(after)), *after]
    if len(whole) != axes:
        return None, None, None
    return whole[0], _ALL if is_vector else whole[1], whole[-1]


def _spelled(part: _Part) -> str:
    if isinstance(part, slice):
        bounds = ["" if bound is None else str(bound) for bound in (part.start, part.stop, part.step)]
        return ":".join(bounds if bounds[2] else bounds[:2])
    return "..." if part is Ellipsis else str(part)
