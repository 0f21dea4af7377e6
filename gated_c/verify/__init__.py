"""The engine beside the framework that wrote a file: outputs after every layer, on the same input.

Framework and engine read the file by themselves, so this checks the loader as well as the arithmetic.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gated_c.arrays import Array, differences
from gated_c.errors import UnsupportedError
from gated_c.layers import Embedding
from gated_c.loaders.file_kind import file_kind
from gated_c.model import Model
from gated_c.spec import LayerSpec
from gated_c.tolerance import tolerance
from gated_c.verify.keras_reference import KerasReference
from gated_c.verify.onnx_reference import OnnxReference
from gated_c.verify.reference import Reference, Stage
from gated_c.verify.torch_reference import TorchReference

#: Of random input: steps for a state to settle, and several rows.
STEPS, ROWS = 16, 3


@dataclass(frozen=True)
class Finding:
    """The largest difference after a layer, and the largest that rounding explains and the difference before it."""

    layer: str
    error: float
    tolerance: float

    @property
    def is_fine(self) -> bool:
        return self.error <= self.tolerance


def open_reference(
    path: str | os.PathLike[str], prefix: str | None = None, config: str | os.PathLike[str] | None = None
) -> Reference:
    """A file as the framework reads it that it belongs to; the arguments are those of `gated_c.load`.

    Raises ``ImportError`` that says how to install the framework, ``UnsupportedError`` where there is none.
    """
    kind = file_kind(path)
    if kind == "onnx":
        return OnnxReference(path, prefix or "")
    if kind in ("keras", "hdf5"):
        return KerasReference(path, config, alone=prefix is not None)
    if kind == "json":
        raise UnsupportedError("no framework reads the JSON of audio plug-ins: verify what it was exported from")
    return TorchReference(path)


def verify(model: Model, reference: Reference, x: npt.NDArray[Any], lengths: Any = None) -> list[Finding]:
    """The engine beside the framework on ``x`` and ``lengths``, which are as the model takes them."""
    if x.ndim == 2 and model.takes == "sequence":
        x = np.expand_dims(x, 0 if model.batch_first else 1)
    return list(_compare(reference.stages(model.layers, x, lengths), x, lengths))


def random_input(model: Model, lead: Sequence[int | None]) -> npt.NDArray[Any]:
    """Normal numbers, or ids, the same at every call; ``lead`` are sizes of the first axes that must be kept to."""
    rng = np.random.default_rng(0)
    sizes = (ROWS, STEPS) if model.batch_first or model.takes == "vector" else (STEPS, ROWS)
    shape = [own if fixed is None else fixed for own, fixed in zip(sizes, lead, strict=False)]
    first = model.layers[0]
    if isinstance(first, Embedding):
        return rng.integers(len(first.weight), size=shape)
    if model.takes == "vector":
        shape = shape[:1]
    return rng.standard_normal((*shape, model.input_size), np.float32)


def _compare(stages: Iterable[Stage], x: npt.NDArray[Any], lengths: Any) -> Iterator[Finding]:
    """Run the engine as far as each stage."""
    before = 0.0
    for stage in stages:
        allowed = before = tolerance(stage.added, stage.given, stage.result, before)
        if any(isinstance(layer, LayerSpec) for layer in stage.chain):
            y, _ = Model(stage.chain)(x, lengths=lengths)
            ours = np.concatenate(y, -1) if isinstance(y, tuple) else y
            before = _difference(ours, stage.result)  # which is what the next one is given
            yield Finding(stage.name, before, allowed)


def _difference(ours: Array, theirs: Array) -> float:
    """The largest; NaN equals NaN, an infinity only itself."""
    if ours.shape != theirs.shape:
        raise ValueError(f"expected an output {theirs.shape} as the framework gives, got {ours.shape}")
    return float(differences(ours, theirs).max(initial=0))
