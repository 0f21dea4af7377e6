"""Live layers and models of Keras 3."""

import numpy as np
import pytest
from keras_models import assert_runs_like, keras, network, randomise
from test_loaders_keras_layers import masked_input

import gated_c as gc
from gated_c.errors import UnsupportedError

K = keras.layers


@pytest.mark.parametrize(
    "make",
    [
        lambda: K.LSTM(3, return_sequences=True),
        lambda: K.GRU(3),
        lambda: K.Bidirectional(K.LSTM(3), merge_mode="sum"),
        lambda: K.RNN([K.LSTMCell(2), K.GRUCell(3)]),
    ],
)
def test_a_single_layer_runs(make):
    layer = make()
    layer.build((None, 6, 3))
    assert_runs_like(gc.from_keras(randomise(layer)), layer, masked_input())


def test_training_on_does_not_change_what_was_read():
    model = network(K.LSTM(3))
    loaded = gc.from_keras(model)
    x = masked_input().astype(np.float32)
    before, _ = loaded(x)
    randomise(model, seed=9)
    np.testing.assert_array_equal(loaded(x)[0], before)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras saving
def test_weights_of_half_precision_become_float32(tmp_path):
    layer = K.LSTM(3, dtype="bfloat16", recurrent_initializer="uniform")
    model = keras.Sequential([keras.Input((None, 3)), layer])
    model.save(tmp_path / "m.keras")
    (layer,) = gc.from_keras(model).recurrent
    (stored,) = gc.load(tmp_path / "m.keras").recurrent
    kernel = model.layers[0].cell.kernel.value.detach().float().numpy()
    np.testing.assert_array_equal(layer.weights["weight_ih_l0"], kernel.T)
    np.testing.assert_array_equal(stored.weights["weight_ih_l0"], kernel.T)


def test_a_model_that_is_not_built_is_refused():
    with pytest.raises(ValueError, match="gru: expected a built layer or model"):
        gc.from_keras(K.GRU(3, name="gru"))


@pytest.mark.parametrize("thing", [None, 3, "lstm", np.zeros(3), keras])
def test_something_else_is_a_type_error(thing):
    with pytest.raises(TypeError, match="expected a Keras layer or model"):
        gc.from_keras(thing)


def test_a_subclassed_model_is_named():
    class Own(keras.Model):
        def __init__(self):
            super().__init__(name="own")
            self.rnn = K.GRU(2)

        def call(self, x):
            return self.rnn(x)

    model = Own()
    model(np.zeros((1, 2, 3), np.float32))
    with pytest.raises(UnsupportedError, match="own: "):
        gc.from_keras(model)


def test_an_unknown_backend_is_refused():
    with pytest.raises(ValueError, match="backend: expected one of"):
        gc.from_keras(network(K.GRU(2)), backend="theano")
