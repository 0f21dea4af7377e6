"""Arrays from outside: one conversion where it is needed, one error where it cannot be."""

from __future__ import annotations

from operator import index
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]


def as_float32(name: str, value: Any) -> Array:
    """``value`` as a float32 array: itself if it is one, else a copy. Complex numbers, text and objects are refused.

    A torch tensor on the CPU is used as it is, without its gradient.
    """
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name}: expected a plain array, got a masked one; say which steps count with mask=")
    array = np.asarray(value.detach() if hasattr(value, "detach") else value)
    if array.dtype == np.float32:
        return array
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name}: expected real numbers, got {array.dtype}")
    return array.astype(np.float32)


def as_ids(name: str, value: Any) -> npt.NDArray[np.int32]:
    """``value`` as int32 indices: itself if it is such an array, else a copy. Other than integers are refused.

    Those beyond int32 become -1, which no embedding has.
    """
    array = np.asarray(value.detach() if hasattr(value, "detach") else value)
    if array.dtype == np.int32:
        return array
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name}: expected integer ids, got {array.dtype}")
    return np.where((array < 0) | (array > np.iinfo(np.int32).max), -1, array).astype(np.int32)


def checked_ids(name: str, value: Any, shape: tuple[int, ...]) -> npt.NDArray[np.int32]:
    """``value`` as a C-contiguous int32 array of exactly ``shape``; ``ValueError`` or ``TypeError`` otherwise."""
    array = as_ids(name, value)
    if array.shape != shape:
        raise ValueError(f"{name}: expected {shape}, got {array.shape}")
    return np.require(array, np.int32, ["C", "A"])


def checked_lengths(lengths: Any, seq_len: int, batch: int) -> npt.NDArray[np.int64]:
    """``lengths`` as C-contiguous int64 [N], each 0 to ``seq_len``; ``ValueError`` or ``TypeError`` otherwise."""
    array = np.asarray(lengths)
    if array.dtype.kind not in "iu" and array.size:
        raise TypeError(f"lengths: expected integers, got {array.dtype}")
    if array.shape != (batch,):
        raise ValueError(f"lengths: expected ({batch},), got {array.shape}")
    wrong = np.flatnonzero((array < 0) | (array > seq_len))
    if wrong.size:
        raise ValueError(f"lengths: expected 0 to {seq_len}, got {array[wrong[0]]} in row {wrong[0]}")
    return np.require(array, np.int64, ["C", "A"])


def checked_threads(threads: Any) -> int:
    """``threads`` for the core: 1 or more, or 0 for ``None``; ``ValueError`` or ``TypeError`` otherwise."""
    if threads is None:
        return 0
    if isinstance(threads, bool) or not hasattr(threads, "__index__"):
        raise TypeError(f"threads: expected an integer or None, got {type(threads).__name__}")
    count = index(threads)
    if count < 1:
        raise ValueError(f"threads: expected 1 or more, or None, got {count}")
    return min(count, 2**31 - 1)


def checked_members(name: str, value: Any) -> npt.NDArray[np.int64]:
    """Ids of members of a pool, one or several, as a C-contiguous int64 [K]; ``ValueError`` or ``TypeError`` otherwise.

    Those beyond int64 become -1, which no member has.
    """
    array = np.asarray(value.detach() if hasattr(value, "detach") else value)
    if array.dtype.kind not in "iu" and not (array.size == 0 and array.ndim == 1):
        raise TypeError(f"{name}: expected integers, got {array.dtype}")
    if array.ndim > 1:
        raise ValueError(f"{name}: expected one or a list of them, got {array.shape}")
    if array.dtype == np.uint64:
        array = np.where(array > np.iinfo(np.int64).max, np.uint64(2**64 - 1), array)
    return np.require(array.reshape(-1).astype(np.int64), np.int64, ["C", "A"])


def with_contiguous_rows(array: Array) -> Array:
    """``array``, copied unless its last axis is contiguous and every stride is a whole number of floats."""
    aligned = array.flags.aligned and all(stride % array.itemsize == 0 for stride in array.strides)
    if aligned and (array.shape[-1] <= 1 or array.strides[-1] == array.itemsize):
        return array
    return np.array(array, order="C")


def checked_float32(name: str, value: Any, shape: tuple[int, ...]) -> Array:
    """``value`` as a C-contiguous float32 array of exactly ``shape``; ``ValueError`` or ``TypeError`` otherwise."""
    array = as_float32(name, value)
    if array.shape != shape:
        raise ValueError(f"{name}: expected {shape}, got {array.shape}")
    return np.require(array, np.float32, ["C", "A"])


def checked_output(name: str, value: Any, shape: tuple[int, ...]) -> Array:
    """``value`` if results can be written straight into it; ``ValueError`` or ``TypeError`` otherwise."""
    if not isinstance(value, np.ndarray):
        raise TypeError(f"{name}: expected a numpy array, got {type(value).__name__}")
    if value.dtype != np.float32:
        raise TypeError(f"{name}: expected float32, got {value.dtype}")
    if value.shape != shape:
        raise ValueError(f"{name}: expected {shape}, got {value.shape}")
    if not value.flags.carray:
        raise ValueError(f"{name}: expected a writeable C-contiguous array")
    return value


def differences(a: Array, b: Array) -> npt.NDArray[np.float64]:
    """|a - b|: 0 where both are NaN or the same infinity, infinite where only one is."""
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore"):
        apart = np.abs(a.astype(np.float64) - b)
    return np.where(same, 0, np.where(np.isnan(apart), np.inf, apart))
