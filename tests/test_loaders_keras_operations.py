"""Operations on tensors between the layers of functional networks: slices, and means and maxima over time."""

import numpy as np
import pytest
from keras_models import assert_runs_like, functional, keras
from test_loaders_keras_layers import masked_input

import gated_c as gc
from gated_c.errors import UnsupportedError

K = keras.layers


def behind_a_masked_layer(*operations, layer=None):
    """Operations and layers on what a recurrent layer makes of a masked sequence."""
    x = keras.Input((6, 3))
    h = (layer or K.GRU(4, return_sequences=True))(K.Masking()(x))
    for operation in operations:
        h = operation(h)
    return functional(x, h)


RUN = {
    "the_last_step": [lambda h: h[:, -1], K.Dense(2)],
    "the_last_step_of_all_features": [lambda h: h[:, -1, :], K.Dense(2)],
    "the_first_step": [lambda h: h[:, 0]],
    "features": [lambda h: h[:, :, 1:3], K.LSTM(3)],
    "features_behind_an_ellipsis": [lambda h: h[..., -3:]],
    "features_of_one_step": [lambda h: h[:, -1, :2]],
    "features_of_a_vector": [lambda h: h[:, -1], lambda h: h[:, 1:-1]],
    "everything": [lambda h: h[:, 0:], K.LSTM(3)],
    "get_item": [lambda h: keras.ops.get_item(h, key=(slice(None), -1))],
    "mean": [lambda h: keras.ops.mean(h, axis=1), K.Dense(2)],
    "max": [lambda h: keras.ops.max(h, axis=-2)],
    "axes_in_a_tuple": [lambda h: keras.ops.max(h, axis=(1,))],
}


@pytest.mark.parametrize("name", RUN)
def test_an_operation_computes_what_keras_computes_and_drops_the_mask(name):
    model = behind_a_masked_layer(*RUN[name])
    assert_runs_like(gc.from_keras(model), model, masked_input())


@pytest.mark.parametrize("step", [0, -1])
@pytest.mark.parametrize("layer", [K.LSTM, K.GRU, K.SimpleRNN])
def test_one_step_of_both_directions_is_that_of_the_time_axis(layer, step):
    """The backward direction has not begun at the last step, unlike with ``return_sequences=False``."""
    both = K.Bidirectional(layer(4, return_sequences=True))
    model = behind_a_masked_layer(lambda h: h[:, step], layer=both)
    assert_runs_like(gc.from_keras(model), model, masked_input())


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.filterwarnings("ignore:__array__ implementation")
def test_a_file_with_operations_runs(tmp_path, suffix):
    model = behind_a_masked_layer(lambda h: h[:, :, :3], K.LSTM(3, return_sequences=True), lambda h: h[:, -1])
    model.save(tmp_path / f"m{suffix}")
    assert_runs_like(gc.load(tmp_path / f"m{suffix}"), model, masked_input())


def test_the_last_step_can_be_streamed():
    model = gc.from_keras(behind_a_masked_layer(lambda h: h[:, -1]))
    x = masked_input()[:1].astype("float32")
    np.testing.assert_array_equal(model.stream().run(x)[:, -1], model(x)[0])


REFUSED = {
    "another_step": (lambda h: h[:, 2], r"get_item.*: a slice \[:, 2\]"),
    "several_steps": (lambda h: h[:, -2:], r"a slice \[:, -2:\]"),
    "every_other_step": (lambda h: h[:, ::2], r"a slice \[:, ::2\]"),
    "one_feature": (lambda h: h[:, :, 0], r"a slice \[:, :, 0\]"),
    "every_other_feature": (lambda h: h[..., 1:4:2], r"a slice \[\.\.\., 1:4:2\]"),
    "a_row": (lambda h: h[0], r"a slice \[0\]"),
    "rows": (lambda h: h[1:, -1], r"a slice \[1:, -1\]"),
    "a_new_axis": (lambda h: h[:, None], r"a slice \[:, None\]"),
    "mean_over_features": (lambda h: keras.ops.mean(h, axis=-1), r"mean.*: over axis -1; only over time, axis 1"),
    "mean_over_all": (lambda h: keras.ops.mean(h), r"mean.*: over axis None"),
    "mean_over_two_axes": (lambda h: keras.ops.mean(h, axis=(1, 2)), r"mean.*: over axis \(1, 2\)"),
    "keepdims": (lambda h: keras.ops.max(h, axis=1, keepdims=True), "max.*: with keepdims=True"),
    "initial": (lambda h: keras.ops.max(h, axis=1, initial=0.5), "max.*: with initial=0.5"),
    "take": (lambda h: keras.ops.take(h, -1, axis=1), "take.*: "),
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_operations_are_named_with_the_recurrent_layer(name):
    operation, message = REFUSED[name]
    with pytest.raises(UnsupportedError, match=message + r".*'gru"):
        gc.from_keras(behind_a_masked_layer(operation))


def test_a_mean_over_a_vector_is_refused():
    model = behind_a_masked_layer(lambda h: h[:, -1], lambda h: keras.ops.mean(h, axis=1))
    with pytest.raises(UnsupportedError, match=r"mean.*: over axis 1; only over time"):
        gc.from_keras(model)


def test_an_embedding_of_a_slice_is_refused():
    ids = keras.Input((6,), dtype="int32")
    with pytest.raises(UnsupportedError, match=r"embedding.*: ids that were computed"):
        gc.from_keras(functional(ids, K.GRU(3)(K.Embedding(9, 4)(ids[:, :3]))))
