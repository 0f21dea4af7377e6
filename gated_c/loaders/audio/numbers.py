"""Sizes and weights as JSON spells them."""

from __future__ import annotations

from typing import Any, TypeGuard

import numpy as np

from gated_c.arrays import Array
from gated_c.errors import FormatError

_MOST = 2**31 - 1


def is_size(value: Any) -> TypeGuard[int]:
    """Whether it is a number of features or layers."""
    return type(value) is int and 1 <= value <= _MOST


def float32_array(values: Any, where: str) -> Array:
    """A list of numbers, or of lists of them, as an array. ``FormatError`` for anything else, and beyond float32."""
    try:
        array = np.array(values, float) if _holds_numbers(values) else None
    except (ValueError, OverflowError):  # ragged, nested too deep, or beyond float64
        array = None
    if array is None:
        raise FormatError(f"{where}: expected numbers alone, in lists of equal lengths")
    with np.errstate(over="ignore", under="ignore"):
        narrow = array.astype(np.float32)
    if not np.isfinite(narrow).all():
        raise FormatError(f"{where}: expected numbers within float32's range")
    return narrow


def _holds_numbers(value: Any) -> bool:
    return all(map(_holds_numbers, value)) if type(value) is list else type(value) in (int, float)
