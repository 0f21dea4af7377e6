import sys

import pytest
import torch
from loader_files import assert_weights_of, weights_of
from torch import nn

from gated_c import UnsupportedError
from gated_c.loaders.torch.module import from_module

MODULES = {
    "lstm": lambda: nn.LSTM(3, 4, num_layers=2, proj_size=2, bidirectional=True, batch_first=True),
    "gru without bias": lambda: nn.GRU(3, 4, bias=False),
    "rnn": lambda: nn.RNN(3, 4, nonlinearity="relu"),
    "lstm cell": lambda: nn.LSTMCell(3, 4),
    "gru cell": lambda: nn.GRUCell(3, 4, bias=False),
    "rnn cell": lambda: nn.RNNCell(3, 4, nonlinearity="relu"),
}


@pytest.mark.parametrize("make", MODULES.values(), ids=MODULES.keys())
def test_a_live_module(make):
    module = make()
    (layer,) = from_module(module)
    assert_weights_of(layer, module)
    assert layer.batch_first == getattr(module, "batch_first", False)
    assert layer.cell.endswith("relu") == (getattr(module, "nonlinearity", "tanh") == "relu")
    assert layer.bidirectional == getattr(module, "bidirectional", False)
    assert layer.name == ""


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_floating_dtypes_become_float32(dtype):
    gru = nn.GRU(3, 4).to(dtype)
    assert_weights_of(from_module(gru)[0], gru)


def test_training_on_changes_nothing():
    lstm = nn.LSTM(2, 3)
    before = {name: weight.copy() for name, weight in weights_of(lstm).items()}
    (layer,) = from_module(lstm)
    with torch.no_grad():
        lstm.weight_hh_l0.add_(1)
    assert all((layer.weights[name] == weight).all() for name, weight in before.items())


def test_dropout_between_layers_is_that_of_inference():
    lstm = nn.LSTM(2, 3, num_layers=2, dropout=0.5)
    assert_weights_of(from_module(lstm.train())[0], lstm)


class Named(nn.LSTM):
    pass


def test_a_subclass_without_a_forward_of_its_own_is_one_layer():
    lstm = Named(2, 3)
    assert_weights_of(from_module(lstm)[0], lstm)


def test_parametrised_weights_are_refused():
    lstm = nn.utils.parametrizations.weight_norm(nn.LSTM(2, 3), "weight_hh_l0")
    with pytest.raises(UnsupportedError, match="remove_parametrizations"):
        from_module(lstm)


def test_what_is_no_module_is_a_type_error():
    with pytest.raises(TypeError, match=r"module: expected a torch\.nn\.Module, got OrderedDict"):
        from_module(nn.LSTM(2, 3).state_dict())


def test_without_torch_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match=r'pip install "gated_c\[torch\]"'):
        from_module(object())
