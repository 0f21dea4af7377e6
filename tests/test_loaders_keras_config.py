"""The path through functional networks, and what is no single path."""

import json

import numpy as np
import pytest
from keras_models import assert_runs_like, functional, keras, network, randomise, results_of
from test_loaders_keras_layers import masked_input

import gated_c as gc
from gated_c.errors import FormatError, UnsupportedError
from gated_c.loaders.keras.config import KerasLayer, path_through, recurrent_layers

K = keras.layers

pytestmark = pytest.mark.filterwarnings("ignore:Layer .* was passed an input with a mask")


def config_of(model):
    return json.loads(model.to_json())


def sequence(steps=6):
    return keras.Input((steps, 3))


def test_a_functional_network_with_masks_runs():
    x = sequence()
    h = K.GRU(4, return_sequences=True)(K.Masking()(x))
    model = functional(x, K.Dense(2)(K.LSTM(3)(h)))
    assert_runs_like(gc.from_keras(model), model, masked_input())


def test_a_functional_network_of_ids_runs():
    ids = keras.Input((None,), dtype="int32")
    model = functional(ids, K.Bidirectional(K.GRU(3))(K.Embedding(9, 4, mask_zero=True)(ids)))
    assert_runs_like(gc.from_keras(model), model, np.array([[1, 0, 8], [0, 3, 3]]))


def test_layers_after_a_dropped_mask_see_none():
    x = sequence()
    h = K.Conv1D(3, 2, padding="causal")(K.Masking()(x))
    model = functional(x, K.LSTM(3)(h))
    assert_runs_like(gc.from_keras(model), model, masked_input())


def test_networks_inside_functional_ones_run():
    inner_x = keras.Input((6, 4))
    inner = keras.Model(inner_x, K.Dense(2)(K.GRU(3, return_sequences=True, name="deep")(inner_x)), name="inner")
    x = sequence()
    model = functional(x, K.LSTM(3)(inner(K.Dense(4)(K.Masking()(x)))))
    loaded = gc.from_keras(model)
    assert_runs_like(loaded, model, masked_input())
    assert "inner.deep" in [layer.name for layer in loaded.layers]


def inner_network(form):
    layers = [K.Dense(3), K.GRU(3, return_sequences=True)]
    return keras.Sequential([sequence(), *layers]) if form == "sequential" else in_functional(*layers)


def in_functional(*layers):
    x = y = sequence()
    for layer in layers:
        y = layer(y)
    return keras.Model(x, y)


@pytest.mark.parametrize("form", ["sequential", "functional"])
@pytest.mark.parametrize("behind", [[], [K.Dense(2)]], ids=["last", "inside"])
@pytest.mark.parametrize("calls", [1, 2])
def test_calls_of_an_inner_network_are_counted_as_keras_does(form, behind, calls):
    """Keras counts the building of a functional one where it is the output, not where a layer takes it up."""
    model = randomise(in_functional(*[inner_network(form)] * calls, *behind))
    assert_runs_like(gc.from_keras(model), model, masked_input())


def test_a_layer_called_twice_in_a_row_runs_twice():
    shared = K.GRU(3, return_sequences=True)
    x = sequence()
    model = functional(x, shared(shared(x)))
    assert_runs_like(gc.from_keras(model), model, masked_input())


@pytest.mark.parametrize("layer", [K.LSTM(3, return_state=True), K.Bidirectional(K.GRU(3, return_state=True))])
def test_states_among_the_outputs_are_the_state(layer):
    x = sequence()
    model = functional(x, layer(x))
    loaded = gc.from_keras(model)
    assert_runs_like(loaded, model, masked_input())
    _, state = loaded(masked_input().astype(np.float32))
    ours = [half for part in (state if isinstance(state, tuple) else (state,)) for half in part]
    for mine, theirs in zip(ours, results_of(model, masked_input())[1:], strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-6)


def branch_at_a_sum():
    x = sequence()
    return x, K.Add(name="sum")([K.LSTM(3, name="left")(x), K.GRU(3, name="right")(x)])


def encoder_and_decoder():
    x = sequence()
    _, *state = K.LSTM(3, return_state=True, name="encoder")(x)
    return x, K.LSTM(3, name="decoder")(x, initial_state=state)


def two_outputs():
    x = sequence()
    h = K.LSTM(3, name="lstm")(x)
    return x, [K.Dense(1, name="a")(h), K.Dense(2, name="b")(h)]


def the_state_goes_on():
    x = sequence()
    _, h, _ = K.LSTM(3, return_state=True, name="lstm")(x)
    return x, K.Dense(2, name="head")(h)


def a_mask_by_hand():
    x, mask = sequence(), keras.Input((6,), dtype="bool", name="mask")
    return [x, mask], K.LSTM(3, name="lstm")(x, mask=mask)


def a_mask_that_was_dropped():
    ids = keras.Input((None,), dtype="int32")
    embedding = K.Embedding(5, 3, mask_zero=True)
    h = K.Conv1D(3, 2, padding="causal")(embedding(ids))
    return ids, K.LSTM(3, name="lstm")(h, mask=embedding.compute_mask(ids))


def an_operation():
    x = sequence()
    return x, K.LSTM(3, name="lstm")(x * 2)


REFUSED = {
    branch_at_a_sum: "sum: a branch: Add of left, right; .*'left' or 'right'",
    encoder_and_decoder: "decoder: a branch: LSTM of input_layer.*, encoder, encoder; .*'encoder' or 'decoder'",
    two_outputs: "expected one output, got a, b; .*'lstm'",
    the_state_goes_on: "lstm: a branch: its output 1 goes on",
    a_mask_by_hand: "lstm: called with a mask of a tensor of its own",
    a_mask_that_was_dropped: "lstm: called with a mask of embedding",
    an_operation: "a layer of class Multiply",
}


@pytest.mark.parametrize("make", REFUSED, ids=lambda make: make.__name__)
def test_what_is_no_single_path_is_named_with_its_recurrent_layers(make):
    with pytest.raises(UnsupportedError, match=REFUSED[make]):
        gc.from_keras(functional(*make()))


def test_every_recurrent_layer_is_found_around_a_branch():
    root = KerasLayer.parse(config_of(functional(*branch_at_a_sum())))
    assert [layer.name for layer in recurrent_layers(root)] == ["left", "right"]


def test_weights_are_numbered_by_class():
    config = config_of(network(K.LSTM(2, return_sequences=True), K.Dense(1), K.LSTM(2), K.Dense(1)))
    paths = [layer.path for layer in path_through(KerasLayer.parse(config))]
    assert paths == [f"layers/{name}" for name in ("input_layer", "lstm", "dense", "lstm_1", "dense_1")]


def changed(model, change):
    config = config_of(model)
    change(config["config"])
    return config


def cut(config):
    config["layers"][1]["inbound_nodes"] = []


def circle(config):
    node = config["layers"][1]["inbound_nodes"][0]["args"][0]["config"]
    node["keras_history"] = [config["layers"][-1]["config"]["name"], 0, 0]


def missing(config):
    config["layers"][1]["inbound_nodes"][0]["args"][0]["config"]["keras_history"] = ["nowhere", 0, 0]


def far_node(config):
    config["output_layers"][1] = 10**9


def no_layers(config):
    config["layers"] = 3


def no_class(config):
    del config["layers"][1]["class_name"]


def no_config(config):
    config["layers"][1]["config"] = "LSTM"


@pytest.mark.parametrize("change", [cut, circle, missing, far_node, no_layers, no_class, no_config])
def test_a_broken_config_is_a_format_error(change):
    x = sequence()
    config = changed(functional(x, K.Dense(2)(K.LSTM(3)(x))), change)
    with pytest.raises(FormatError, match=r"config|inbound_nodes|layers"):
        path_through(KerasLayer.parse(config))


def test_training_behaviour_on_purpose_is_refused():
    x = sequence()
    with pytest.raises(UnsupportedError, match="called with training=True"):
        gc.from_keras(functional(x, K.LSTM(3)(K.Dropout(0.5)(x, training=True))))


def test_classes_of_the_user_are_not_taken_for_keras_ones():
    class LSTM(K.LSTM):
        """Computes what it likes."""

    with pytest.raises(UnsupportedError, match=r"class .+LSTM"):
        gc.from_keras(network(LSTM(3)))
