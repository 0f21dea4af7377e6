"""Golden vectors: an input and what came out for it, kept in a ``.gated`` file to be computed again after loading.

They are float32 arrays named ``golden.x``, ``golden.y`` (``golden.y.0`` and ``.1`` of a model with two results),
``golden.state.0`` and so on, every h and c in order, and ``golden.exact``: 1 if they have the bits of every exact
instruction set. Ids are kept as floats.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from gated_c.arrays import Array
from gated_c.cpu import cpu_info
from gated_c.errors import FormatError, UnsupportedError
from gated_c.loaders.file_kind import file_kind
from gated_c.loaders.safetensors_file import open_safetensors
from gated_c.tolerance import ROUNDING, tolerance

if TYPE_CHECKING:
    from gated_c.model import Model

PREFIX = "golden."

_MOST_IDS = 2**24  # that float32 counts


def record(model: Model, x: Any) -> dict[str, Array]:
    """The arrays to keep: ``x`` as the model takes it, without lengths and masks, and the results from a zero state.

    Raises as a call does.
    """
    x = np.asarray(x)
    y, state = model(x)
    if x.dtype.kind in "iu" and x.max(initial=0) >= _MOST_IDS:
        raise ValueError(f"golden: expected ids below {_MOST_IDS}, got {x.max()}")
    arrays = {"x": x.astype(np.float32), "exact": np.array([_is_exact(model)], np.float32)}
    arrays |= _named("y", y) | _named("state", (state,))
    return {PREFIX + name: np.array(array, np.float32, order="C") for name, array in arrays.items()}


def is_native(path: str | os.PathLike[str]) -> bool:
    """Whether a file can hold golden vectors."""
    return file_kind(path) == "gated"


def read(path: str | os.PathLike[str]) -> dict[str, Array]:
    """What a ``.gated`` file holds of them; none is an empty dictionary."""
    tensors, _ = open_safetensors(path)
    return {name: tensor.read() for name, tensor in tensors.items() if name.startswith(PREFIX)}


def replay_file(path: str | os.PathLike[str], model: Model) -> None:
    """`replay` what is kept in the file that ``model`` came from; ``UnsupportedError`` if that is nothing."""
    arrays = read(path)
    if not arrays:
        raise UnsupportedError(
            "no golden vectors in it, and it does not say which framework wrote it: verify the file it was made from, "
            "or save the model with golden=x"
        )
    replay(model, arrays)


def replay(model: Model, arrays: Mapping[str, Array]) -> None:
    """Compute recorded results again: bit by bit if both instruction sets are exact, else within the rounding of its
    arithmetic. Raises ``FormatError`` that names the result and by how much it differs."""
    try:
        x, recorded_exact = arrays[PREFIX + "x"], arrays[PREFIX + "exact"]
    except KeyError as error:
        raise FormatError(f"{error.args[0]}: missing") from None
    expected = {name: array for name, array in arrays.items() if name not in (PREFIX + "x", PREFIX + "exact")}
    actual = _rerun(model, x, expected)
    if actual.keys() != expected.keys():
        raise FormatError(f"expected {', '.join(actual)} of this model, got {', '.join(expected)}")
    exact = bool(np.all(recorded_exact == 1)) and _is_exact(model)
    for name, array in expected.items():
        allowed = 0.0 if exact else tolerance(model.layers, x, array, rounding=ROUNDING[_narrowest(model)])
        _compare(name, actual[name], array, allowed)


def _rerun(model: Model, x: Array, expected: Mapping[str, Array]) -> dict[str, Array]:
    if model.takes == "ids":
        with np.errstate(invalid="ignore"):
            x = x.astype(np.int32)
    parts = [array for name, array in expected.items() if name.startswith(f"{PREFIX}y")]
    if not parts:
        raise FormatError(f"{PREFIX}y: missing")
    try:
        # The model checks the shape of what it is to write into: a file cannot make it larger than its own vectors.
        y, state = model(x, out=np.concatenate(parts, -1) if len(parts) > 1 else parts[0].copy())
    except (ValueError, TypeError, IndexError) as error:
        raise FormatError(f"golden vectors do not fit the model: {error}") from None
    results = _named("y", y) | _named("state", (state,))
    return {PREFIX + name: array for name, array in results.items()}


def _named(name: str, result: Any) -> dict[str, Array]:
    """``name`` for an array, ``name.0``, ``name.1``, ... for those in a tuple."""
    if isinstance(result, tuple):
        return {f"{name}.{index}": array for index, array in enumerate(_leaves(result))}
    return {name: result}


def _leaves(result: Any) -> Iterator[Array]:
    if isinstance(result, tuple):
        for part in result:
            yield from _leaves(part)
    else:
        yield result


def _compare(name: str, actual: Array, expected: Array, allowed: float) -> None:
    """Equal bits, save those of NaN, or a difference that is allowed."""
    if actual.shape != expected.shape:
        raise FormatError(f"{name}: expected {actual.shape} of this model, got {expected.shape}")
    expected = np.ascontiguousarray(expected)
    same = np.ascontiguousarray(actual).view(np.uint32) == expected.view(np.uint32)
    differing = ~(same | (np.isnan(actual) & np.isnan(expected)))
    with np.errstate(invalid="ignore"):
        differences = np.abs(actual - expected)[differing]
    if differences.size and not (allowed > 0 and differences.max() <= allowed):
        raise FormatError(
            f"{name}: {differences.size} of {expected.size} values are not what they were, by up to "
            f"{differences.max():.3g}, at most {allowed:.3g} expected"
        )


def _is_exact(model: Model) -> bool:
    return model.arithmetic == "float32" and any(isa.exact for isa in cpu_info().isas if isa.name == model.isa)


def _narrowest(model: Model) -> str:
    """What x and h are rounded to on their way into products."""
    return "int8" if model.dtype == "int8" else model.arithmetic
