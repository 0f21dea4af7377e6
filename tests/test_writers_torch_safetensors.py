"""State_dicts for PyTorch: what torch itself makes of them, and what it has no module for."""

import re

import numpy as np
import pytest
from conftest import TORCH_CELLS, random_spec, same_bits
from hypothesis import HealthCheck, given, settings
from safetensors import safe_open
from writer_cases import assert_close, layers, random_input

import gated_c as gc
from gated_c.spec import Activation
from gated_c.writers import write

torch = pytest.importorskip("torch")
load_file = pytest.importorskip("safetensors.torch").load_file
torch.set_num_threads(1)

SETTINGS = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def spec(cell="lstm", **options):
    return random_spec(np.random.default_rng(0), cell, 3, 4, **options)


def torch_module(layer):
    kind = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}.get(layer.cell, torch.nn.RNN)
    sizes = (layer.input_size, layer.hidden_size, layer.num_layers)
    options = {"nonlinearity": "relu"} if layer.cell == "rnn_relu" else {}
    return kind(*sizes, bias=layer.bias, bidirectional=layer.bidirectional, **options)


@SETTINGS
@given(layer=layers(TORCH_CELLS))
def test_torch_loads_one_layer_by_bare_names_and_agrees(tmp_path, layer):
    write([layer], tmp_path / "m.safetensors")
    module = torch_module(layer)
    module.load_state_dict(load_file(tmp_path / "m.safetensors"), strict=True)
    x = random_input(layer)
    with torch.inference_mode():
        assert_close(layer, x, module(torch.from_numpy(x))[0].numpy())


@SETTINGS
@given(layer=layers(TORCH_CELLS))
def test_there_and_back_gives_the_same_weights(tmp_path, layer):
    write([layer], tmp_path / "m.safetensors")
    back = gc.load(tmp_path / "m.safetensors", nonlinearity="relu" if layer.cell == "rnn_relu" else None).layers[0]
    assert back.cell == layer.cell
    assert back.weights.keys() == layer.weights.keys()
    assert all(same_bits(back.weights[name], weight) for name, weight in layer.weights.items())


def test_projection_survives(tmp_path):
    write([spec(proj_size=2)], tmp_path / "m.safetensors")
    assert gc.load(tmp_path / "m.safetensors").layers[0].proj_size == 2


@pytest.mark.parametrize(
    ("names", "prefixes"),
    [
        (("encoder", "net.decoder"), {"encoder", "net.decoder"}),
        (("", "b"), {"0", "1"}),
        (("same", "same"), {"0", "1"}),
    ],
)
def test_several_layers_have_their_names_or_numbers(tmp_path, names, prefixes):
    write([spec(name=name) for name in names], tmp_path / "m.safetensors")
    assert {layer.name for layer in gc.inspect(tmp_path / "m.safetensors")} == prefixes


def test_numbered_layers_load_into_a_module_list(tmp_path):
    write([spec(), random_spec(np.random.default_rng(1), "gru", 4, 5)], tmp_path / "m.safetensors")
    module = torch.nn.ModuleList([torch.nn.LSTM(3, 4), torch.nn.GRU(4, 5)])
    module.load_state_dict(load_file(tmp_path / "m.safetensors"), strict=True)


def test_metadata_are_those_of_a_torch_file(tmp_path):
    write([spec()], tmp_path / "m.safetensors")
    with safe_open(tmp_path / "m.safetensors", framework="numpy") as file:
        assert file.metadata() == {"format": "pt"}


@pytest.mark.parametrize("function", ["tanh", "relu"])
def test_an_rnn_with_an_activation_of_pytorch_is_one(tmp_path, function):
    layer = spec("rnn", activations=(Activation.of(function),))
    write([layer], tmp_path / "m.safetensors")
    back = gc.load(tmp_path / "m.safetensors", nonlinearity=function)
    x = random_input(layer)
    assert same_bits(back(x)[0], gc.Model([layer])(x)[0])


def test_default_activations_in_so_many_words_are_no_obstacle(tmp_path):
    layer = spec("gru", activations=(Activation.of("sigmoid"), Activation.of("tanh")))
    write([layer], tmp_path / "m.safetensors")
    x = random_input(layer)
    assert same_bits(gc.load(tmp_path / "m.safetensors")(x)[0], gc.Model([layer])(x)[0])


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (spec("gru_reset_before", name="g"), "g: a GRU that resets before"),
        (spec(peepholes=True), "lstm: peepholes: "),
        (spec(input_forget=True), "lstm: input_forget: "),
        (spec(clip=0.5), "lstm: clip 0.5: "),
        (spec(reverse=True), "lstm: reverse: "),
        (spec("rnn", activations=(Activation.of("elu"),)), "rnn: activations elu: "),
        (
            spec("rnn", bidirectional=True, activations=(Activation.of("tanh"), Activation.of("relu"))),
            "rnn: activations tanh, relu: ",
        ),
    ],
)
def test_what_pytorch_does_not_do_is_refused_by_name(tmp_path, layer, message):
    with pytest.raises(gc.UnsupportedError, match=re.escape(message)):
        write([layer], tmp_path / "m.safetensors")
    assert not list(tmp_path.iterdir())


def test_a_refusal_lists_all_layers_and_options(tmp_path):
    chain = [spec(name="a", clip=1.0, peepholes=True), random_spec(np.random.default_rng(0), "gru_reset_before", 4, 2)]
    with pytest.raises(gc.UnsupportedError, match=r"a: clip 1: .*; a: peepholes: .*; gru_reset_before: a GRU"):
        write(chain, tmp_path / "m.safetensors")
