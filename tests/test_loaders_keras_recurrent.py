"""Keras's recurrent layers with all their options, against Keras."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras_models import assert_runs_like, functional, keras, network
from test_loaders_keras_layers import masked_input

import gated_c as gc
from gated_c.errors import UnsupportedError
from gated_c.tolerance import tolerance

K = keras.layers

#: All of keras.activations that a cell can have.
ACTIVATIONS = [
    *("tanh", "sigmoid", "relu", "linear", "hard_sigmoid", "leaky_relu", "elu", "selu", "celu", "softsign", "softplus"),
    *("silu", "swish", "hard_silu", "hard_swish", "gelu", "mish", "relu6", "hard_tanh", "log_sigmoid", "tanh_shrink"),
    *("soft_shrink", "hard_shrink", "squareplus", "sparse_sigmoid", "exponential", None),
]

#: Those that keep values, and with them rounding errors, from growing step by step.
OF_GATES = ["sigmoid", "hard_sigmoid", "sparse_sigmoid", "tanh", "hard_tanh", "softsign"]
OF_CELLS = [name for name in ACTIVATIONS if name not in ("exponential", "hard_shrink")]  # the latter jumps

#: Both kinds of GRU, an LSTM, a plain RNN: as layers and as cells.
CELLS = {
    "lstm": (K.LSTM, K.LSTMCell, {}),
    "gru": (K.GRU, K.GRUCell, {"reset_after": True}),
    "gru_reset_before": (K.GRU, K.GRUCell, {"reset_after": False}),
    "rnn": (K.SimpleRNN, K.SimpleRNNCell, {}),
}

PATTERNS = {
    "none": ["11111"] * 3,
    "right padded": ["11111", "11000", "11110"],
    "left padded": ["00011", "01111", "11111"],
    "any": ["01011", "10010", "00000"],
}


@st.composite
def recurrent(draw):
    """How to make a layer of any cell or stack of cells, in one or two directions."""
    kind = draw(st.sampled_from(sorted(CELLS)))
    loop = {name: draw(st.booleans()) for name in ("return_sequences", "zero_output_for_mask")}
    backwards, units, stack = draw(st.booleans()), draw(st.integers(1, 4)), draw(st.integers(0, 2))
    sides = [draw(options_of(kind)) for _ in range(2)]

    def one(side):
        layer, cell, options = CELLS[kind]
        options = {**options, **sides[side]}
        around = {**loop, "go_backwards": backwards != bool(side)}
        if stack == 0:
            return layer(units, **options, **around)
        cells = [cell(units, **options) for _ in range(stack)]
        return K.RNN(cells if stack > 1 else cells[0], **around)

    if draw(st.booleans()):
        merge_mode = draw(st.sampled_from(["concat", "sum", "mul", "ave", None]))
        return lambda: K.Bidirectional(one(0), merge_mode, backward_layer=one(1))
    return lambda: one(0)


@st.composite
def options_of(draw, kind):
    options = {"use_bias": draw(st.booleans())}
    if draw(st.booleans()):
        options["activation"] = draw(st.sampled_from(OF_CELLS))
        if kind != "rnn":
            options["recurrent_activation"] = draw(st.sampled_from(OF_GATES))
    return options


@settings(max_examples=80, deadline=None)
@given(make=recurrent(), pattern=st.sampled_from(sorted(PATTERNS)), seed=st.integers(0, 99))
def test_any_layer_computes_what_keras_computes(make, pattern, seed):
    inputs = keras.Input((None, 3))
    model = functional(inputs, make()(K.Masking()(inputs)), seed)
    assert_runs_like(gc.from_keras(model), model, masked(np.random.default_rng(seed), PATTERNS[pattern]))


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("cell", [K.LSTM, K.GRU])
def test_any_activation_serves_cells_and_gates(cell, name):
    model = network(cell(5, activation=name, recurrent_activation=name))
    assert_runs_like(gc.from_keras(model), model, np.random.default_rng(0).uniform(-2, 2, (4, 1, 3)))


def masked(rng, pattern):
    """Sequences whose steps are 0 where the pattern says so."""
    return rng.normal(size=(3, 5, 3)) * (np.array([list(row) for row in pattern]) == "1")[..., None]


def test_a_cell_of_the_user_is_named():
    class MyCell(K.GRUCell):
        """Computes what it likes."""

    with pytest.raises(UnsupportedError, match=r"own: a cell of class .*MyCell"):
        gc.from_keras(network(K.RNN(MyCell(3), name="own")))


def test_convolutional_recurrence_is_named():
    with pytest.raises(UnsupportedError, match=r"input_layer.*: an input of 4 dimensions"):
        gc.from_keras(network(K.ConvLSTM1D(2, 2), shape=(3, 5, 2)))


def test_default_activations_take_the_plain_cells():
    layers = gc.from_keras(network(K.SimpleRNN(2, return_sequences=True), K.LSTM(2))).recurrent
    assert [(layer.cell, layer.activations) for layer in layers] == [("rnn_tanh", ()), ("lstm", ())]


def test_stateful_layers_run_from_a_zero_state():
    inputs = keras.Input(batch_shape=(3, 5, 3))
    model = functional(inputs, K.LSTM(2, stateful=True)(inputs))
    assert_runs_like(gc.from_keras(model), model, masked(np.random.default_rng(0), PATTERNS["none"]))


def test_unit_forget_bias_is_already_in_the_bias():
    model = keras.Sequential([keras.Input((None, 3)), K.LSTM(2, unit_forget_bias=True)])
    assert_runs_like(gc.from_keras(model), model, masked(np.random.default_rng(0), PATTERNS["none"]))


@pytest.mark.parametrize("unroll", [True, False])
def test_jax_unrolled_repeats_zero_like_the_others(unroll):
    model = network(K.Masking(), K.GRU(2, return_sequences=True, unroll=unroll), shape=(5, 3))
    assert gc.from_keras(model, backend="jax").recurrent[0].masked == ("repeat" if unroll else "repeat_initial")


def test_a_live_model_takes_the_backend_it_runs_on():
    assert gc.from_keras(network(K.Masking(), K.GRU(2))).recurrent[0].masked == "repeat"


@pytest.fixture(scope="module")
def on_numpy(tmp_path_factory):
    """Networks of the NumPy backend, and what they gave."""
    if find_spec("jax") is None:
        pytest.skip("Keras's NumPy backend imports jax, which is not installed")
    folder = tmp_path_factory.mktemp("numpy")
    script = Path(__file__).with_name("keras_on_numpy.py")
    subprocess.run([sys.executable, script, folder], check=True, capture_output=True)
    return folder


@pytest.mark.parametrize("name", ["lstm", "gru", "backwards", "zero", "unrolled"])
def test_on_numpy_leading_masked_steps_give_the_initial_h(on_numpy, name):
    example = np.load(on_numpy / f"{name}.npz")
    model = gc.load(on_numpy / f"{name}.keras", backend="numpy")
    h = example["h"][None]
    y, _ = model(example["x"], (h, h) if name == "lstm" else h)
    np.testing.assert_allclose(y, example["y"], rtol=0, atol=tolerance(model.layers, example["x"], y))


def uneven(merge_mode="concat", backward=K.LSTM):
    backward_layer = backward(5, return_sequences=True, go_backwards=True)
    forward_layer = K.LSTM(4, return_sequences=True)
    return K.Bidirectional(forward_layer, merge_mode, backward_layer=backward_layer, name="uneven")


@pytest.mark.parametrize("merge_mode", ["concat", None])
@pytest.mark.parametrize("backward", [K.LSTM, K.GRU])
def test_directions_of_different_sizes_are_named_with_the_way_to_run_each(merge_mode, backward):
    sizes = rf"lstm of 3 to 4, {backward.__name__.lower()} of 3 to 5"
    each = r"from_keras\(layer\.forward_layer\), from_keras\(layer\.backward_layer\)"
    model = network(uneven(merge_mode, backward), shape=(6, 3))
    with pytest.raises(UnsupportedError, match=rf"^uneven: directions of different cells or sizes: {sizes}; .*{each}$"):
        gc.from_keras(model)
    for layer in (model.layers[0].forward_layer, model.layers[0].backward_layer):
        assert_runs_like(gc.from_keras(layer), layer, masked_input())


def test_only_layers_that_can_be_loaded_alone_are_offered():
    model = network(uneven(), K.GRU(3, name="even"), shape=(6, 3))
    with pytest.raises(UnsupportedError, match=r"; its recurrent layers can be passed alone: 'even'$"):
        gc.from_keras(model)
