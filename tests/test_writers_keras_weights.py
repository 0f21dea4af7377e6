"""Keras weights and their network: what Keras itself makes of both, and what it has no layer for."""

import json
import os
import re
import sys
import warnings

import numpy as np
import pytest
import reference
from conftest import random_spec, same_bits
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from writer_cases import layers, random_input

import gated_c as gc
from gated_c.spec import ACTIVATIONS, FUNCTIONS, Activation
from gated_c.tolerance import tolerance
from gated_c.writers import keras_weights, write

os.environ.setdefault("KERAS_BACKEND", "torch")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of the backend, while it is imported
    keras = pytest.importorskip("keras")
h5py = pytest.importorskip("h5py")

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras on torch

SETTINGS = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

CELLS = ["gru", "gru_reset_before", "lstm", "rnn", "rnn_relu", "rnn_tanh"]

BOUNDED = ["tanh", "sigmoid", "hard_sigmoid", "softsign", "hard_tanh", "relu6"]


@st.composite
def functions(draw, cell):
    """f of the gates, then one function for g and h alike."""
    f = Activation.of(draw(st.sampled_from(BOUNDED if cell == "rnn" else ["sigmoid", "hard_sigmoid"])))
    g = Activation.of(draw(st.sampled_from(BOUNDED)))
    return (f, g, g)[: ACTIVATIONS[cell]]


def spec(cell="lstm", **options):
    return random_spec(np.random.default_rng(0), cell, 3, 4, **options)


def load(path):
    """The network and weights, as Keras reads them."""
    network = keras.models.model_from_json(path.with_name(path.name.replace(".weights.h5", ".json")).read_text())
    network.load_weights(path)
    return network


def assert_agrees(chain, path):
    write(chain, path)
    x = random_input(chain[0])
    actual = keras.ops.convert_to_numpy(load(path)(x.swapaxes(0, 1))).swapaxes(0, 1)
    expected, _ = reference.chain(chain, x)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance(chain, x, expected))


@SETTINGS
@given(layer=layers(CELLS, functions))
def test_keras_agrees(tmp_path, layer):
    assert_agrees([layer], tmp_path / "m.weights.h5")


@pytest.mark.parametrize("name", sorted(set(FUNCTIONS) - keras_weights._NOT_IN_KERAS))
def test_every_function_agrees(tmp_path, name):
    function = Activation.of(name, *keras_weights._FIXED.get(name, ()))
    assert_agrees(
        [spec("rnn", activations=(function,), gain=0.2)], tmp_path / "m.weights.h5"
    )  # some grow without bound


@SETTINGS
@given(layer=layers(CELLS, functions))
def test_there_and_back_gives_the_same_bits(tmp_path, layer):
    """Two biases come back as one, their sum as the engine adds them."""
    write([layer], tmp_path / "m.weights.h5")
    back = gc.load(tmp_path / "m.weights.h5", config=tmp_path / "m.json")
    x = random_input(layer)
    assert same_bits(back(x.swapaxes(0, 1))[0].swapaxes(0, 1), gc.Model([layer])(x)[0])


def test_keras_to_pytorch_and_back_gives_the_same_bits(tmp_path):
    network = keras.Sequential([keras.Input((None, 3)), keras.layers.LSTM(4, return_sequences=True, name="encoder")])
    network.save(tmp_path / "m.keras")
    first = gc.load(tmp_path / "m.keras")
    write(first.layers, tmp_path / "m.safetensors")
    write(gc.load(tmp_path / "m.safetensors").layers, tmp_path / "m.weights.h5")
    last = gc.load(tmp_path / "m.weights.h5", config=tmp_path / "m.json")
    x = random_input(first.layers[0])
    assert same_bits(last(x)[0], first(x)[0])


def test_layers_of_a_kind_are_numbered(tmp_path):
    rng = np.random.default_rng(0)
    chain = [
        spec("lstm", bidirectional=True),
        random_spec(rng, "gru", 8, 2),
        random_spec(rng, "gru_reset_before", 2, 4),
    ]
    assert_agrees([*chain, random_spec(rng, "gru", 4, 4, bidirectional=True)], tmp_path / "m.weights.h5")
    with h5py.File(tmp_path / "m.weights.h5") as file:
        assert set(file["layers"]) == {"bidirectional", "gru", "gru_1", "bidirectional_1"}


@pytest.mark.parametrize("bidirectional", [False, True])
def test_tree_is_the_one_that_keras_writes(tmp_path, bidirectional):
    """Every group, attribute, shape and dtype."""

    def tree(path):
        found = {}
        with h5py.File(path) as file:
            file.visititems(lambda name, item: found.update({name: (getattr(item, "shape", None), dict(item.attrs))}))
        return found

    write([spec(bidirectional=bidirectional)], tmp_path / "ours.weights.h5")
    load(tmp_path / "ours.weights.h5").save_weights(tmp_path / "theirs.weights.h5")
    assert tree(tmp_path / "ours.weights.h5") == tree(tmp_path / "theirs.weights.h5")


def test_special_biases_come_back_with_the_same_bits(tmp_path):
    layer = spec()
    special = np.array([0.0, -0.0, np.inf, -np.inf, 1e-45, 3e38, 1.0, -1.0], np.float32)
    layer.weights["bias_ih_l0"][:8] = special
    layer.weights["bias_hh_l0"][:8] = special[::-1]
    layer.weights["bias_ih_l0"][8:16] = -0.0
    layer.weights["bias_hh_l0"][8:16] = -0.0
    write([layer], tmp_path / "m.weights.h5")
    back = gc.load(tmp_path / "m.weights.h5", config=tmp_path / "m.json")
    x = random_input(layer)
    expected = gc.Model([layer])(x)[0]
    assert np.isfinite(expected).all()
    assert same_bits(back(x.swapaxes(0, 1))[0].swapaxes(0, 1), expected)


def test_both_biases_of_a_gru_are_kept(tmp_path):
    layer = spec("gru")
    write([layer], tmp_path / "m.weights.h5")
    with h5py.File(tmp_path / "m.weights.h5") as file:
        both = file["layers/gru/cell/vars/2"][()]
    for row, name in zip(both, ("bias_ih_l0", "bias_hh_l0"), strict=True):
        r, z, n = np.split(layer.weights[name], 3)
        np.testing.assert_array_equal(row, np.concatenate([z, r, n]))


@pytest.mark.parametrize(("masked", "zero"), [("zero", True), ("repeat", False), ("repeat_initial", False)])
def test_outputs_of_masked_steps_are_configured(tmp_path, masked, zero):
    write([spec(masked=masked)], tmp_path / "m.weights.h5")
    config = json.loads((tmp_path / "m.json").read_text())["config"]["layers"][1]["config"]
    assert config["zero_output_for_mask"] is zero


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (spec(proj_size=2, name="lstm_1"), "lstm_1: proj_size 2: Keras has no projection"),
        (spec(clip=0.5), "lstm: clip 0.5: "),
        (spec(peepholes=True), "lstm: peepholes: "),
        (spec(input_forget=True), "lstm: input_forget: "),
        (spec("gru", reverse=True), "gru: reverse: "),
        (spec("rnn", activations=(Activation.of("scaled_tanh"),)), "rnn: activation scaled_tanh: "),
        (
            spec("rnn", activations=(Activation.of("hard_sigmoid", 0.2),)),
            "rnn: activation hard_sigmoid with 0.2, 0.5: ",
        ),
        (spec("rnn", activations=(Activation.of("leaky_relu"),)), "rnn: activation leaky_relu with 0.01, 0: "),
        (
            spec(activations=tuple(map(Activation.of, ["sigmoid", "tanh", "softsign"]))),
            "lstm: activations tanh and softsign: ",
        ),
    ],
)
def test_what_keras_does_not_do_is_refused_by_name(tmp_path, layer, message):
    with pytest.raises(gc.UnsupportedError, match=re.escape(message)):
        write([layer], tmp_path / "m.weights.h5")
    assert not list(tmp_path.iterdir())


def test_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ImportError, match=r'pip install "gated_c\[keras-files\]"'):
        write([spec()], tmp_path / "m.weights.h5")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("taken", ["m.json", "m.weights.h5"])
def test_a_directory_in_the_way_of_either_file_leaves_neither(tmp_path, taken):
    (tmp_path / taken).mkdir()
    with pytest.raises(IsADirectoryError) as error:
        write([spec()], tmp_path / "m.weights.h5")
    assert error.value.filename == str(tmp_path / taken)
    assert [path.name for path in tmp_path.iterdir()] == [taken]
