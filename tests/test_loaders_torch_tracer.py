"""How far forward is followed, and what is said where it cannot be."""

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence
from torch_networks import NETWORKS, module_of
from torch_refused import REFUSED

from gated_c import UnsupportedError
from gated_c.loaders.torch.module import from_module
from gated_c.spec import LayerSpec


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_followed_is_named_with_its_place(name):
    forward, modules, message = REFUSED[name]
    module = module_of(forward, **{"gru": nn.GRU(2, 3, batch_first=True), **modules})
    with pytest.raises(UnsupportedError, match=message) as caught:
        from_module(module)
    assert str(caught.value).startswith(f"{name}: ")
    assert "inside it are gru" in str(caught.value)


def test_a_network_without_recurrent_layers_is_refused():
    with pytest.raises(UnsupportedError, match=r"^Sequential: expected an LSTM, GRU or RNN on the path, got none$"):
        from_module(nn.Sequential(nn.Linear(2, 3), nn.ReLU()))


def test_the_recurrent_modules_inside_are_named():
    module = nn.ModuleDict({"encoder": nn.Sequential(nn.LSTM(2, 3)), "decoder": nn.GRUCell(2, 3)})
    with pytest.raises(UnsupportedError, match=r'^ModuleDict: .* missing the required "forward" function') as caught:
        from_module(module)
    assert str(caught.value).endswith("inside it are encoder.0, decoder: pass module.get_submodule('encoder.0')")


@pytest.mark.parametrize("name", ["register_forward_hook", "register_forward_pre_hook"])
def test_hooks_of_the_whole_module_are_refused(name):
    module, _ = NETWORKS["forecaster"]()
    getattr(module, name)(lambda *args: None)
    with pytest.raises(UnsupportedError, match="hooks, or a forward of this one module"):
        from_module(module)


def test_a_forward_of_this_one_module_is_refused():
    module, _ = NETWORKS["forecaster"]()
    module.forward = lambda x: x
    with pytest.raises(UnsupportedError, match="hooks, or a forward of this one module"):
        from_module(module)


def test_hooks_inside_are_followed():
    module = nn.Sequential(nn.GRU(2, 3))
    module[0].register_forward_hook(lambda module, args, result: result[0] * 2)
    _, layer = from_module(module)
    assert layer.activation == ("affine", 2.0, 0.0)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:torch.quantize_per_tensor")
def test_modules_that_are_no_longer_python_are_refused():
    module, _ = NETWORKS["voice_activity_detector"]()
    with pytest.raises(UnsupportedError, match="compiled; pass the module that it was made from"):
        from_module(torch.jit.script(nn.Sequential(nn.Linear(2, 3))))
    with pytest.raises(UnsupportedError, match=r"gru \(GRU\): quantised; pass the float model"):
        from_module(torch.ao.quantization.quantize_dynamic(module, {nn.GRU}))


def test_known_decisions_are_followed():
    def forward(self, x):
        assert x.dim() == 3
        x = self.norm(x) if self.norm is not None else x
        if len(x.shape) == 2:
            x = x.unsqueeze(0)
        batch, *_ = x.shape
        for layer in self.layers:
            x, _ = layer(x)
        assert x.size(-1) == 4
        return x.reshape(batch, -1, 4)

    layers = nn.ModuleList([nn.GRU(2, 3, batch_first=True), nn.GRU(3, 4, batch_first=True)])
    assert [layer.name for layer in from_module(module_of(forward, layers=layers, norm=None))] == [
        "layers.0",
        "layers.1",
    ]


def test_arguments_with_a_default_keep_it():
    def forward(self, x, h=None, *, after=torch.nn.functional.relu, double=False):
        if h is None:
            h = torch.zeros(1, x.size(1), 3)
        y = after(self.gru(x, h)[0])
        return 2 * y if double else y

    _, layer = from_module(module_of(forward, gru=nn.GRU(2, 3)))
    assert layer.activation.name == "relu"


def test_the_code_for_training_is_not_followed():
    def forward(self, x):
        y, _ = self.gru(x)
        return y + torch.randn_like(y) if self.training else y

    module = module_of(forward, gru=nn.GRU(2, 3)).train()
    assert len(from_module(module)) == 1
    assert module.training
    assert module.gru.training


def test_dead_code_is_not_in_the_way():
    def forward(self, x):
        y, _ = self.gru(x)
        torch.einsum("tnf,tnf->tn", y, y)
        return y

    (layer,) = from_module(module_of(forward, gru=nn.GRU(2, 3)))
    assert isinstance(layer, LayerSpec)


def test_following_changes_nothing():
    def forward(self, x):
        y, self.h = self.gru(x, self.h)
        return self.norm(y.permute(1, 2, 0)).permute(2, 0, 1)

    module = module_of(forward, gru=nn.GRU(2, 3), norm=nn.BatchNorm1d(3))
    module.h = None
    attributes, weights = dict(vars(module)), {name: value.clone() for name, value in module.state_dict().items()}
    forwards = nn.GRU.forward, nn.BatchNorm1d.forward, pack_padded_sequence
    from_module(module)
    assert vars(module) == attributes
    assert all(torch.equal(value, weights[name]) for name, value in module.state_dict().items())
    assert (nn.GRU.forward, nn.BatchNorm1d.forward, nn.utils.rnn.pack_padded_sequence) == forwards
    assert "forward" not in vars(nn.BatchNorm1d)
