"""Live PyTorch modules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from gated_c.arrays import Array
from gated_c.errors import UnsupportedError
from gated_c.layers import Layer
from gated_c.loaders.torch.state_dict import StoredTensor, find_modules
from gated_c.spec import LayerSpec


@dataclass(frozen=True, slots=True)
class LiveTensor(StoredTensor):
    """A tensor of PyTorch, of any floating dtype, on any device."""

    tensor: Any
    shape: tuple[int, ...]

    def read(self) -> Array:
        values = self.tensor.detach().cpu().float().numpy()
        return np.array(values, dtype=np.float32, order="C")  # training on must not change what was read


def from_module(module: Any) -> list[Layer]:
    """The layers of a live module, as they stand now, in float32.

    A recurrent module of ``torch.nn``, one of the three Cells included, is one layer. Any other is followed through its
    ``forward``, as far as that is one path of supported layers; arguments with a default keep it, those without one
    may be the state or the lengths. Dropout and BatchNorm are those of inference, whatever ``module.training`` says.

    Rows, steps and features come as a Model takes and gives them: where ``forward`` merges rows and steps at its end,
    y has them apart; where it adds an axis for the only feature of x, x is to have it. Where it packs by lengths and
    unpacks, PyTorch ends the sequence with the longest row, so x has to end there too.

    Raises ``UnsupportedError`` with what cannot be followed and where, and names the recurrent modules inside.
    """
    try:
        from torch import nn
    except ImportError as error:
        raise ImportError('from_torch needs PyTorch: pip install "gated_c[torch]"') from error
    if not isinstance(module, nn.Module):
        raise TypeError(f"module: expected a torch.nn.Module, got {type(module).__name__}")
    kinds = (nn.LSTM, nn.GRU, nn.RNN, nn.LSTMCell, nn.GRUCell, nn.RNNCell)
    if any(isinstance(module, kind) and _forward(module) is kind.forward for kind in kinds):
        return [read_recurrent(module, "")]
    from gated_c.loaders.torch.graph import follow

    try:
        return follow(module)
    except UnsupportedError as error:
        inside = [name for name, child in module.named_modules() if name and isinstance(child, kinds)]
        raise UnsupportedError(f"{type(module).__name__}: {error}{_hint(inside)}") from error


def read_recurrent(module: Any, name: str) -> LayerSpec:
    """An ``nn.LSTM``, ``nn.GRU``, ``nn.RNN`` or Cell. Dropout between layers is that of inference, none."""
    weights = {key: LiveTensor(tensor, tuple(tensor.shape)) for key, tensor in module.state_dict().items()}
    found = next(found for found in find_modules(weights) if not found.prefix)
    batch_first = getattr(module, "batch_first", False)  # the Cells have none
    nonlinearity = getattr(module, "nonlinearity", "tanh")
    return found.read(name, batch_first, nonlinearity)


def _forward(module: Any) -> Any:
    return getattr(module.forward, "__func__", None)


def _hint(inside: list[str]) -> str:
    if not inside:
        return ""
    return f"; inside it are {', '.join(inside)}: pass module.get_submodule({inside[0]!r})"
