"""torch.nn.utils.rnn.PackedSequence in and out: rows sorted by length, one step's live rows after another's."""

from __future__ import annotations

from typing import Any

import numpy as np

from gated_c._core import Engine
from gated_c.arrays import Array, as_float32
from gated_c.spec import LayerSpec
from gated_c.state import flatten_state, unflatten_state


def is_packed(x: Any) -> bool:
    """Whether x is a PackedSequence, told without importing torch."""
    return type(x).__name__ == "PackedSequence" and type(x).__module__ == "torch.nn.utils.rnn"


def run(engine: Engine, layer: LayerSpec, x: Any, state: Any, threads: int) -> tuple[Any, Any]:
    """``(PackedSequence, state)`` of tensors, as the torch module returns them; the state is in the caller's order."""
    import torch

    data = np.ascontiguousarray(as_float32("x.data", x.data))
    if data.ndim != 2 or data.shape[1] != layer.input_size:
        raise ValueError(f"x.data: expected (rows, {layer.input_size}), got {data.shape}")
    batch_sizes = np.asarray(x.batch_sizes)
    if batch_sizes.dtype.kind not in "iu" or batch_sizes.ndim != 1:
        raise ValueError(f"x.batch_sizes: expected integers (T,), got {batch_sizes.dtype} {batch_sizes.shape}")
    batch_sizes = np.require(batch_sizes, np.int64, ["C", "A"])
    if batch_sizes.sum() != len(data):
        raise ValueError(f"x.batch_sizes: expected a sum of {len(data)}, got {batch_sizes.sum()}")
    batch = int(batch_sizes.max(initial=0))
    for name in ("sorted_indices", "unsorted_indices"):
        indices = getattr(x, name)
        if indices is not None and not np.array_equal(np.sort(np.asarray(indices)), np.arange(batch)):
            raise ValueError(f"x.{name}: expected each of the {batch} rows once, got {np.asarray(indices)}")
    flat = engine.initial_state(batch)
    if state is not None:
        given = unflatten_state([layer], flatten_state([layer], state, batch, unbatched=False), batch, False)
        flat = np.concatenate([part.ravel() for part in _reorder(given, x.sorted_indices)])
    y = np.empty((len(data), layer.output_size), np.float32)
    engine.run_packed(data, y, flat, batch_sizes, threads)
    final = _reorder(unflatten_state([layer], flat, batch, unbatched=False), x.unsorted_indices)
    tensors = tuple(torch.from_numpy(part) for part in final)
    result = torch.nn.utils.rnn.PackedSequence(torch.from_numpy(y), x.batch_sizes, x.sorted_indices, x.unsorted_indices)
    return result, tensors if layer.has_c else tensors[0]


def _reorder(state: Any, indices: Any) -> tuple[Array, ...]:
    parts = state if isinstance(state, tuple) else (state,)
    if indices is None:
        return parts
    return tuple(np.ascontiguousarray(part[:, np.asarray(indices)]) for part in parts)
