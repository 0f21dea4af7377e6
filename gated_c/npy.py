"""One ``.npy`` file through a model into another, block by block, so that neither has to fit in memory."""

from __future__ import annotations

import math
import os
import stat
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gated_c.arrays import Array, checked_lengths
from gated_c.layers import Embedding, Layer
from gated_c.model import Model
from gated_c.spec import LayerSpec

Lengths = npt.NDArray[np.int64]

BLOCK_FLOATS = 1 << 24  # x and y of one block, 64 MiB
BLOCK_MACS = 1 << 30  # multiply-adds of one block, well under a second: Ctrl-C and the progress bar wait for it
FULL_BATCH = 64  # rows from which more of them at once are no faster


def open_input(model: Model, path: Path) -> npt.NDArray[Any]:
    """The mapped array of a ``.npy`` file, in a form that the model takes; else ``ValueError``."""
    x = open_array(path)
    expected, kinds = ("integer ids", "iu") if model.takes == "ids" else ("real numbers", "fiub")
    if x.dtype.kind not in kinds:
        raise ValueError(f"expected {expected}, got {x.dtype}")
    model.output_shape(x.shape)  # complains of a wrong one
    return x


def open_lengths(model: Model, path: Path, seq_len: int, batch: int) -> Lengths:
    """The lengths [N] in a ``.npy`` file of integers 0..T; ``ValueError`` or ``TypeError`` otherwise."""
    return checked_lengths(open_array(path), seq_len, batch)


def open_array(path: Path) -> npt.NDArray[Any]:
    """The mapped array of a ``.npy`` file; ``ValueError`` if it is none, or is broken."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError("expected a regular file")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy's, about sizes that overflow
        try:
            shape, dtype, start = _read_header(path)
            expected, actual = start + math.prod(shape) * dtype.itemsize, path.stat().st_size
            if expected <= actual and not dtype.hasobject:
                return np.lib.format.open_memmap(path, mode="r")
        except OSError:
            raise
        except Exception as error:  # a broken header is parsed as Python, and fails in as many ways
            raise ValueError("not a .npy file") from error
    if dtype.hasobject:
        raise ValueError("object arrays are not supported")
    raise ValueError(f"truncated: header says {expected} bytes, file has {actual}")


def _read_header(path: Path) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """Shape, dtype, and where the data start."""
    with open(path, "rb") as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
        return shape, dtype, file.tell()


def create_output(path: Path, shape: tuple[int, ...]) -> Array:
    """A mapped float32 array in a new ``.npy`` file that has its place on the disk: a full one is an ``OSError`` here
    and not a crash at the first write to a page without one."""
    y: Array = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
    with open(path, "r+b") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)
        except OSError as error:
            error.filename = os.fspath(path)
            raise
    return y


def seq_len_and_batch(model: Model, x: npt.NDArray[Any]) -> tuple[int, int]:
    """T and N of x; a vector has one step."""
    lead = x.shape if model.takes == "ids" else x.shape[:-1]
    if model.takes == "vector":
        return 1, math.prod(lead)
    if len(lead) == 1:
        return lead[0], 1
    return (lead[1], lead[0]) if model.batch_first else (lead[0], lead[1])


def run(
    model: Model,
    x: npt.NDArray[Any],
    y: Array,
    lengths: Lengths | None,
    advance: Callable[[int], object],
    threads: int | None = None,
) -> None:
    """Fill y with the model's output for x, the same bits as in one call. ``advance`` hears of every block's N * T."""
    seq_len, batch = seq_len_and_batch(model, x)
    if x.ndim < (2 if model.takes != "sequence" else 3):
        x, y = _with_rows(model, model.takes, x), _with_rows(model, model.gives, y)
    steps, rows = block_size(model, seq_len, batch)
    for row in range(0, batch, rows):
        state = None
        n = slice(row, min(row + rows, batch))
        for time in range(0, seq_len, steps):
            t = slice(time, min(time + steps, seq_len))
            live = None if lengths is None else np.clip(lengths[n] - t.start, 0, t.stop - t.start)
            part, state = model(x[_block(model, model.takes, n, t)], state, lengths=live, threads=threads)
            y[_block(model, model.gives, n, t if steps < seq_len else slice(None))] = part
            advance((n.stop - n.start) * (t.stop - t.start))


def _with_rows(model: Model, kind: str, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """What x or y would be with an axis of one row."""
    return np.expand_dims(array, 0 if model.batch_first or kind == "vector" else 1)


def _block(model: Model, kind: str, n: slice, t: slice) -> tuple[slice, ...]:
    if kind == "vector":
        return (n,)
    return (n, t) if model.batch_first else (t, n)


def block_size(model: Model, seq_len: int, batch: int) -> tuple[int, int]:
    """Steps and rows of a block. Some models need whole sequences; others carry their state on."""
    width = model.input_size + model.output_size
    whole_sequences = max(1, BLOCK_FLOATS // max(1, seq_len * width))
    if not all(layer.streamable and _is_stepwise(layer) for layer in model.layers):
        return max(1, seq_len), whole_sequences
    # Rows lie apart in a batch-first file: few of them with many steps each read it in long runs.
    rows = min(batch, max(FULL_BATCH, whole_sequences)) if model.batch_first else batch
    steps = min(BLOCK_FLOATS // width, BLOCK_MACS // model.num_parameters) // max(1, rows)
    return max(1, min(seq_len, steps)), max(1, rows)


def _is_stepwise(layer: Layer) -> bool:
    """Whether a sequence can be cut anywhere, with nothing but the state to carry on."""
    if isinstance(layer, LayerSpec):
        return layer.masked == "zero"
    return layer.stepwise and not (isinstance(layer, Embedding) and layer.mask_zero)
