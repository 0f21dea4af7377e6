"""PyTorch: a recurrent module of a file, after each of its stacked layers."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from gated_c.arrays import Array
from gated_c.errors import UnsupportedError
from gated_c.layers import Layer
from gated_c.loaders.file_kind import file_kind
from gated_c.loaders.torch.state_dict import join
from gated_c.spec import LayerSpec
from gated_c.verify.reference import Stage, blaming
from gated_c.writers.torch_module import torch_module

_CELL_WEIGHT = re.compile(r"(weight|bias)_(ih|hh)$")


class TorchReference:
    """A state_dict, checkpoint or module. Raises ``ImportError`` without PyTorch, ``UnsupportedError`` for a file that
    it does not read with ``weights_only``."""

    lead: Sequence[int | None] = (None, None)

    def __init__(self, path: str | os.PathLike[str]) -> None:
        try:
            import torch
        except ImportError as error:
            raise ImportError('this file is verified with PyTorch: pip install "gated_c[torch]"') from error
        self.version = f"PyTorch {torch.__version__}"
        with blaming(self.version):
            self._tensors = _read(path)

    def stages(self, layers: Sequence[Layer], x: npt.NDArray[Any], lengths: Any) -> Iterator[Stage]:
        """Only sizes and options are taken from the layer; the weights are those that PyTorch reads."""
        (layer,) = layers
        assert isinstance(layer, LayerSpec)
        weights = _weights_at(layer, self._tensors)
        given = x
        for index in range(layer.num_layers):
            module = torch_module(_first_layers(replace(layer, weights=weights), index + 1))
            result = _run(module, x, lengths)
            number = "" if layer.num_layers == 1 else f" layer {index}"
            added = layer.alone(index)
            yield Stage(
                f"{layer.name or layer.cell}{number}", [_first_layers(layer, index + 1)], [added], given, result
            )
            given = result


def _first_layers(layer: LayerSpec, count: int) -> LayerSpec:
    suffixes = tuple(suffix for at, suffix in layer.suffixes() if at < count)
    weights = {name: weight for name, weight in layer.weights.items() if name.endswith(suffixes)}
    return replace(layer, num_layers=count, weights=weights)


def _read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """All tensors by their dotted names, by PyTorch's own reader, which executes nothing but its own modules."""
    import torch
    from safetensors.torch import load_file

    kind = file_kind(path)
    if kind == "safetensors":
        return dict(load_file(path))
    with torch.serialization.safe_globals(_modules_in(path)) if kind == "zip" else nullcontext():
        return dict(_flat(torch.load(path, map_location="cpu", weights_only=True), ""))


def _modules_in(path: str | os.PathLike[str]) -> list[Any]:
    """The classes of torch.nn that the file of a whole module asks for."""
    import torch

    names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    inside = [name.rpartition(".") for name in names if name.startswith("torch.nn.modules.")]
    return [getattr(import_module(module), class_name) for module, _, class_name in inside]


def _flat(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    if hasattr(value, "state_dict"):
        value = value.state_dict()
    if isinstance(value, Mapping):
        for key, child in value.items():
            yield from _flat(child, join(name, str(key)))
    elif hasattr(value, "detach"):
        yield name, value


def _weights_at(layer: LayerSpec, tensors: Mapping[str, Any]) -> dict[str, Array]:
    """Those of the module; the engine's name for it leaves out the wrappers of DataParallel and torch.compile."""
    named = {_CELL_WEIGHT.sub(r"\g<0>_l0", key.replace("_orig_mod.", "")): tensor for key, tensor in tensors.items()}
    wanted = join(layer.name, "weight_ih_l0")
    found = [key for key in named if f".{key}".endswith(f".{wanted}")]
    if not found:
        raise UnsupportedError(f"{layer.name}: PyTorch reads no such module from the file")
    prefix = min(found, key=len).removesuffix("weight_ih_l0")
    return {name: named[prefix + name].detach().float().numpy() for name in layer.weights}


def _run(module: Any, x: Array, lengths: Any) -> Array:
    import torch

    with torch.inference_mode():
        if lengths is not None:
            return _run_ragged(module, x, np.asarray(lengths))
        return np.asarray(module(torch.from_numpy(np.ascontiguousarray(x)))[0].numpy())


def _run_ragged(module: Any, x: Array, lengths: npt.NDArray[Any]) -> Array:
    """0 past each row's length. PyTorch has no empty sequences."""
    import torch
    from torch.nn.utils import rnn

    rows = torch.from_numpy(np.ascontiguousarray(x if module.batch_first else x.swapaxes(0, 1)))
    at_least_one = torch.from_numpy(np.maximum(lengths, 1))
    packed = rnn.pack_padded_sequence(rows, at_least_one, batch_first=True, enforce_sorted=False)
    padded, _ = rnn.pad_packed_sequence(module(packed)[0], batch_first=True, total_length=rows.shape[1])
    y: Array = np.where((lengths > 0)[:, None, None], padded.numpy(), np.float32(0))
    return y if module.batch_first else y.swapaxes(0, 1)
