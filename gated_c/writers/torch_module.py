"""Layers as live modules of PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from gated_c.spec import LayerSpec


def torch_module(layer: LayerSpec) -> Any:
    """The ``torch.nn`` module with the weights of a layer that is ``in_torch``."""
    from torch import nn, tensor

    kinds: dict[str, Callable[..., nn.Module]] = {
        "lstm": partial(nn.LSTM, proj_size=layer.proj_size),
        "gru": nn.GRU,
        "rnn_tanh": partial(nn.RNN, nonlinearity="tanh"),
        "rnn_relu": partial(nn.RNN, nonlinearity="relu"),
    }
    module = kinds[layer.cell](
        layer.input_size,
        layer.hidden_size,
        layer.num_layers,
        bias=layer.bias,
        batch_first=layer.batch_first,
        bidirectional=layer.bidirectional,
    )
    module.load_state_dict({name: tensor(weight) for name, weight in layer.weights.items()})
    return module
