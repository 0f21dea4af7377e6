"""Chains from live PyTorch modules, against PyTorch."""

import copy
from operator import methodcaller

import numpy as np
import pytest
import reference
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch_networks import NETWORKS, module_of, packed_classifier, packed_tagger, packed_twice

import gated_c as gc
from gated_c.layers import Affine, Elementwise
from gated_c.loaders.torch.activations import ACTIVATIONS
from gated_c.loaders.torch.module import from_module
from gated_c.spec import LayerSpec
from gated_c.tolerance import tolerance

torch.set_num_threads(1)

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections")


def flat(state):
    """The arrays of a state of any depth."""
    return [part for one in state for part in flat(one)] if isinstance(state, tuple) else [np.asarray(state)]


def returned(result):
    """What a module's forward gives: y, and the rest if any."""
    parts = list(result.values()) if isinstance(result, dict) else result if isinstance(result, tuple) else [result]
    return parts[0].numpy(), tuple(parts[1:])


def assert_equals_torch(module, x, *more, **options):
    """The engine's y and, where forward returns it, state are torch's. The model."""
    with torch.inference_mode():
        expected, expected_state = returned(module.eval()(x, *more))
    model = gc.from_torch(module.train())
    given = x.numpy()
    y, state = model(given[..., None] if model.takes == "sequence" and given.ndim == 2 else given, **options)
    allowed = tolerance(model.layers, given, expected)
    np.testing.assert_allclose(y.reshape(expected.shape), expected, rtol=0, atol=allowed)
    for part, other in zip(flat(state), flat(expected_state), strict=False):
        np.testing.assert_allclose(part, other, rtol=0, atol=allowed)
    return model


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_as_people_write_them(name):
    torch.manual_seed(0)
    assert_equals_torch(*NETWORKS[name]())


@pytest.mark.parametrize(
    ("make", "x"), [(packed_tagger, (3, 7)), (packed_classifier, (7, 3, 6)), (packed_twice, (3, 7, 6))]
)
def test_the_lengths_that_forward_packs_by_are_those_of_the_model(make, x):
    torch.manual_seed(0)
    lengths = torch.tensor([3, 7, 1])
    x = torch.randint(0, 20, x) if len(x) == 2 else torch.randn(x)
    assert_equals_torch(make(), x, lengths, lengths=lengths.numpy())


@pytest.mark.parametrize("name", ["voice_activity_detector", "time_major_tagger", "forecaster", "denoising_mask"])
def test_networks_that_need_no_end_stream(name):
    torch.manual_seed(0)
    module, x = NETWORKS[name]()
    model = gc.from_torch(module)
    y, _ = model(x.numpy())
    steps = x.numpy().swapaxes(0, 1) if model.batch_first else x.numpy()
    stream = model.stream(batch=steps.shape[1])
    for step in steps:
        last = stream.step(np.ascontiguousarray(step))
    np.testing.assert_array_equal(last, y if model.gives == "vector" else y[:, -1] if model.batch_first else y[-1])


# Chains that hypothesis draws: modules in a row, with what lies between them.


class Output(nn.Module):
    """A recurrent module's y."""

    def __init__(self, recurrent):
        super().__init__()
        self.recurrent = recurrent

    def forward(self, x):
        return self.recurrent(x)[0]


FINALS = {
    "last": lambda h, parts: h[-1],
    "both": lambda h, parts: torch.cat((h[-2], h[-1]), 1),
    "sum": lambda h, parts: h[-1] + h[-2],
    "side by side": lambda h, parts: h.view(-1, parts, *h.shape[1:])[-1].transpose(0, 1).reshape(h.size(1), -1),
    "kept apart": lambda h, parts: torch.tanh(h)[-parts:].permute(1, 0, 2).flatten(1),
}


class Final(nn.Module):
    """A recurrent module's final state."""

    def __init__(self, recurrent, kind):
        super().__init__()
        self.recurrent = recurrent
        self.kind = kind

    def forward(self, x):
        _, h = self.recurrent(x)
        h = h[0] if isinstance(self.recurrent, nn.LSTM) else h
        return FINALS[self.kind](h, 1 + self.recurrent.bidirectional)


class TimeFirst(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x.transpose(0, 1)).transpose(0, 1)


class FeaturesFirst(nn.Module):
    """For the modules that want [N, F, T]."""

    def __init__(self, *inner):
        super().__init__()
        self.inner = nn.Sequential(*inner)

    def forward(self, x):
        return self.inner(x.permute(0, 2, 1)).permute(0, 2, 1)


POOLS = {
    "last": lambda x: x[:, -1],
    "last by select": lambda x: x.select(1, -1),
    "first": lambda x: x[:, 0, :],
    "mean": lambda x: x.mean(1),
    "max": lambda x: torch.max(x, dim=1)[0],
    "amax": lambda x: x.permute(1, 0, 2).amax(0),
    "adaptive": lambda x: F.adaptive_avg_pool1d(x.mT, 1).squeeze(-1),
}


class Take(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.kind = kind

    def forward(self, x):
        return POOLS[self.kind](x)


@st.composite
def recurrents(draw, size, final=False):
    """One that gives its y or, at the end, its final state, and the features of that."""
    kind = draw(st.sampled_from([nn.LSTM, nn.GRU, nn.RNN]))
    options = {
        "num_layers": draw(st.integers(1, 2)),
        "bidirectional": draw(st.booleans()),
        "bias": draw(st.booleans()),
        "batch_first": draw(st.booleans()),
    }
    if kind is nn.RNN:
        options["nonlinearity"] = draw(st.sampled_from(["tanh", "relu"]))
    hidden = draw(st.integers(1, 5))
    if kind is nn.LSTM and hidden > 1 and draw(st.booleans()):
        options["proj_size"] = hidden - 1
    width = options.get("proj_size", hidden)
    if final:
        options["batch_first"] = True
        how = draw(
            st.sampled_from(list(FINALS) if options["bidirectional"] else ["last", "side by side", "kept apart"])
        )
        halves = options["bidirectional"] and how not in ("last", "sum")
        return Final(kind(size, hidden, **options), how), width * (1 + halves)
    module = Output(kind(size, hidden, **options))
    width *= 1 + options["bidirectional"]
    return module if options["batch_first"] else TimeFirst(module), width


@st.composite
def pointwise(draw, size, of_sequence):
    """A module of every step, or of a vector, and the features it gives."""
    width = draw(st.integers(1, 5))
    norm = nn.BatchNorm1d(size)
    nn.init.normal_(norm.running_mean)
    nn.init.uniform_(norm.running_var, 0.5, 2)
    conv = nn.Sequential(nn.ConstantPad1d((4, 0), 0.0), nn.Conv1d(size, width, 3, dilation=2))
    choices = [
        (nn.Linear(size, width, bias=draw(st.booleans())), width),
        (nn.Sequential(nn.Dropout(), nn.Sigmoid(), nn.Identity()), size),
        (nn.Softmax(dim=-1), size),
        (nn.LogSoftmax(dim=-1), size),
        (nn.LayerNorm(size, eps=1.0), size),
        (FeaturesFirst(norm) if of_sequence else norm, size),
        *([(FeaturesFirst(conv, nn.Tanh()), width)] if of_sequence else []),
    ]
    return draw(st.sampled_from(choices))


@st.composite
def chains(draw):
    torch.manual_seed(draw(st.integers(0, 2**32 - 1)))
    size = input_size = draw(st.integers(1, 5))
    modules = []
    for _ in range(draw(st.integers(0, 2))):
        module, size = draw(pointwise(size, of_sequence=True))
        modules.append(module)
    for _ in range(draw(st.integers(1, 2))):
        module, size = draw(recurrents(size))
        modules.append(module)
        module, size = draw(pointwise(size, of_sequence=True))
        modules.append(module)
    ending = draw(st.sampled_from(["sequence", "final state", *POOLS]))
    if ending in POOLS:
        modules.append(Take(ending))
    elif ending == "final state":
        module, size = draw(recurrents(size, final=True))
        modules.append(module)
    if ending != "sequence":
        module, size = draw(pointwise(size, of_sequence=False))
        modules.append(module)
    return nn.Sequential(*modules), torch.randn(draw(st.integers(1, 3)), draw(st.integers(1, 6)), input_size)


@settings(max_examples=60, deadline=None)
@given(chains())
def test_chains_equal_torch(chain):
    assert_equals_torch(*chain)


# Activations

ARGUMENTS = {
    "hardtanh": (-1.0, 1.0),
    "clamp": (0, 6),
    "clip": (0.0, 1.0),
    "leaky_relu": (0.3,),
    "prelu": (torch.tensor([0.2], dtype=torch.float64),),
    "threshold": (0.4, 0.0),
    "elu": (0.7,),
    "celu": (0.7,),
    "softshrink": (0.3,),
    "hardshrink": (0.3,),
}
MODULES = [
    *(nn.Sigmoid(), nn.Tanh(), nn.ReLU(), nn.ReLU(inplace=True), nn.ReLU6(), nn.Hardsigmoid(), nn.Hardswish()),
    *(nn.Hardtanh(), nn.Hardtanh(0.0, 1.0), nn.LeakyReLU(0.3), nn.PReLU(init=0.2), nn.Threshold(0.4, 0.0)),
    *(nn.ELU(0.7), nn.CELU(0.7), nn.SELU(), nn.SiLU(), nn.Mish(), nn.GELU(), nn.GELU("tanh"), nn.Softplus()),
    *(nn.Softsign(), nn.LogSigmoid(), nn.Tanhshrink(), nn.Softshrink(0.3), nn.Hardshrink(0.3)),
]


def forms_of(name):
    """The ways to call an activation by its name."""
    arguments = ARGUMENTS.get(name, ())
    functions = [getattr(namespace, name) for namespace in (torch, F, torch.special) if hasattr(namespace, name)]
    methods = [method for method in (name, f"{name}_") if hasattr(torch.Tensor, method)]
    return [
        *(lambda x, function=function: function(x, *arguments) for function in functions),
        *(methodcaller(method, *arguments) for method in methods),
    ]


def assert_is_the_function(layer, function):
    """To the last bits of float64, on both sides of every kink."""
    x = torch.linspace(-8, 8, 321, dtype=torch.float64)
    expected = function(x.clone()).detach().numpy()
    activation = layer.activation
    actual = reference.ACTIVATIONS[activation.name](x.numpy(), activation.alpha, activation.beta)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-7)  # parameters of modules are float32


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_form_of_an_activation(name):
    assert forms_of(name)
    for form in forms_of(name):
        _, layer = from_module(module_of(lambda self, x, form=form: form(self.gru(x)[0]), gru=nn.GRU(2, 3)))
        assert isinstance(layer, Elementwise)
        assert layer.size == 3
        assert_is_the_function(layer, form)


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_activation_modules(module):
    _, layer = from_module(nn.Sequential(Output(nn.GRU(2, 3)), module))
    assert layer.name == "1"
    assert_is_the_function(layer, copy.deepcopy(module).double())


# What else forward may do


def test_layers_are_named_after_their_places():
    module, _ = NETWORKS["causal_convolution_before_an_lstm"]()
    assert [layer.name for layer in from_module(module)] == ["conv", "norm", "silu", "lstm", "dense"]


def test_all_recurrent_layers_have_the_order_of_the_input():
    def forward(self, x):
        y, _ = self.first(x.transpose(0, 1))
        return self.second(y.transpose(0, 1))

    module = module_of(forward, first=nn.GRU(2, 3), second=nn.GRU(3, 2, batch_first=True))
    assert [layer.batch_first for layer in from_module(module)] == [True, True]


class Doubled(nn.LSTM):
    def forward(self, x):
        return 2 * super().forward(x)[0]


def test_a_subclass_with_its_own_forward_is_followed_inside():
    for module, path in ((Doubled(2, 3), ""), (nn.Sequential(Doubled(2, 3)), "0")):
        spec, layer = from_module(module)
        assert isinstance(spec, LayerSpec)
        assert spec.name == path
        assert layer.activation == ("affine", 2.0, 0.0)
        assert_equals_torch(module, torch.randn(5, 2, 2))


@pytest.mark.parametrize("make", [lambda self, x, h: h, lambda self, x, h: (h[0], h[1].detach())])
def test_an_initial_state_that_the_caller_gives_is_that_of_the_model(make):
    module = module_of(lambda self, x, h: self.lstm(x, make(self, x, h)), lstm=nn.LSTM(2, 3))
    h, c = torch.randn(1, 4, 3), torch.randn(1, 4, 3)
    assert_equals_torch(module, torch.randn(5, 4, 2), (h, c), state=(h.numpy(), c.numpy()))


def test_a_parametrised_linear_layer_has_its_present_weight():
    linear = nn.utils.parametrizations.weight_norm(nn.Linear(3, 2))
    assert_equals_torch(nn.Sequential(Output(nn.GRU(2, 3)), linear), torch.randn(5, 4, 2))


def test_writes_in_place_are_followed_where_their_result_is():
    def forward(self, x):
        y, h = self.gru(x)
        y = F.relu(y.mul_(2), inplace=True)
        y += self.shift
        return y, h

    assert_equals_torch(module_of(forward, gru=nn.GRU(2, 3), shift=torch.randn(3)), torch.randn(5, 4, 2))


def test_numbers_for_each_feature_keep_their_bits():
    scale, shift = torch.rand(3) + 0.5, torch.randn(3)
    module = module_of(
        lambda self, x: self.scale * self.gru(x)[0] + self.shift, gru=nn.GRU(2, 3), scale=scale, shift=shift
    )
    _, *affine = from_module(module)
    assert all(isinstance(layer, Affine) for layer in affine)
    assert affine[0].scale.tobytes() == scale.numpy().tobytes()
    assert affine[1].shift.tobytes() == shift.numpy().tobytes()
