"""Live PyTorch modules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from gated_c.errors import UnsupportedError
from gated_c.loaders.state_dict import StoredTensor, find_modules
from gated_c.spec import Array, LayerSpec


@dataclass(frozen=True, slots=True)
class LiveTensor(StoredTensor):
    """A tensor of PyTorch, of any floating dtype, on any device."""

    tensor: Any
    shape: tuple[int, ...]

    def read(self) -> Array:
        values = self.tensor.detach().cpu().float().numpy()
        return np.array(values, dtype=np.float32, order="C")  # training on must not change what was read


def from_module(module: Any) -> list[LayerSpec]:
    """The layers of an ``nn.LSTM``, ``nn.GRU``, ``nn.RNN`` or of one of the three Cells, as they stand now.

    Weights are copied as float32; dropout between layers is that of inference, none. Raises ``UnsupportedError`` for
    any other module, subclasses with a ``forward`` of their own included, and names the recurrent modules inside it.
    """
    try:
        from torch import nn
    except ImportError as error:
        raise ImportError('from_torch needs PyTorch: pip install "gated_c[torch]"') from error
    if not isinstance(module, nn.Module):
        raise TypeError(f"module: expected a torch.nn.Module, got {type(module).__name__}")
    recurrent = (nn.LSTM, nn.GRU, nn.RNN, nn.LSTMCell, nn.GRUCell, nn.RNNCell)
    if not any(isinstance(module, kind) and _forward(module) is kind.forward for kind in recurrent):
        inside = [name for name, child in module.named_modules() if name and isinstance(child, recurrent)]
        raise UnsupportedError(_refusal(module, inside))
    weights = {name: LiveTensor(tensor, tuple(tensor.shape)) for name, tensor in module.state_dict().items()}
    (found,) = find_modules(weights)
    batch_first = getattr(module, "batch_first", False)  # the Cells have none
    nonlinearity = getattr(module, "nonlinearity", "tanh")
    return [found.read("", batch_first, nonlinearity)]


def _forward(module: Any) -> Any:
    return getattr(module.forward, "__func__", None)


def _refusal(module: Any, inside: list[str]) -> str:
    refusal = f"{type(module).__name__}: expected an LSTM, GRU, RNN or one of their Cells, as torch.nn computes them"
    if not inside:
        return refusal
    return f"{refusal}; inside it are {', '.join(inside)}: pass module.get_submodule({inside[0]!r})"
