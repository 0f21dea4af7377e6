"""The layers around recurrent ones, against Keras, masked steps included."""

import numpy as np
import pytest
from keras_models import assert_runs_like, keras, network

import gated_c as gc
from gated_c.errors import UnsupportedError

K = keras.layers

MASK = ["110110", "111000", "001011", "000000"]


def masked_input(size=3, steps=6):
    """Four sequences, some steps of which are 0."""
    x = np.random.default_rng(1).normal(size=(4, steps, size))
    return x * (np.array([list(row) for row in MASK]) == "1")[:, :steps, None]


def gru(**options):
    return K.GRU(4, **options)


#: One layer between two recurrent ones, the mask being that of a Masking layer in front.
IN_SEQUENCES = {
    "dense": lambda: K.Dense(5, activation="gelu"),
    "dense_without_bias": lambda: K.Dense(5, use_bias=False),
    "dense_softmax": lambda: K.Dense(3, activation="softmax"),
    "dense_log_softmax": lambda: K.Dense(3, activation="log_softmax"),
    "dense_with_a_layer_as_activation": lambda: K.Dense(3, activation=K.LeakyReLU(0.4)),
    "time_distributed_dense": lambda: K.TimeDistributed(K.Dense(5, activation="relu")),
    "time_distributed_network": lambda: K.TimeDistributed(
        keras.Sequential([keras.Input((4,)), K.Dense(5, "tanh"), K.BatchNormalization(), K.Dense(2)])
    ),
    "activation": lambda: K.Activation("mish"),
    "exponential": lambda: K.Activation("exponential"),
    "softmax_activation": lambda: K.Activation("softmax"),
    "relu": K.ReLU,
    "relu6": lambda: K.ReLU(max_value=6),
    "relu_with_slope": lambda: K.ReLU(negative_slope=0.3),
    "relu_with_threshold": lambda: K.ReLU(threshold=0.1),
    "leaky_relu": K.LeakyReLU,
    "elu": lambda: K.ELU(0.7),
    "layer_normalization": K.LayerNormalization,
    "layer_normalization_without_weights": lambda: K.LayerNormalization(center=False, scale=False, epsilon=1e-5),
    "batch_normalization": K.BatchNormalization,
    "batch_normalization_without_weights": lambda: K.BatchNormalization(center=False, scale=False),
    "normalization": lambda: K.Normalization(mean=[0.1, -0.2, 0.3, 0.4], variance=[1.0, 2.0, 0.5, 3.0]),
    "normalization_of_all": lambda: K.Normalization(axis=None, mean=0.2, variance=2.0),
    "inverse_normalization": lambda: K.Normalization(mean=[0.1, 0.2, 0.3, 0.4], variance=[1.0, 2, 3, 4], invert=True),
    "rescaling": lambda: K.Rescaling(0.5, -0.25),
    "rescaling_of_each_feature": lambda: K.Rescaling([0.5, 1.0, 2.0, 4.0], [1.0, 2.0, 3.0, 4.0]),
    "causal_convolution": lambda: K.Conv1D(5, 3, padding="causal", activation="elu"),
    "dilated_causal_convolution": lambda: K.Conv1D(5, 2, padding="causal", dilation_rate=2, use_bias=False),
    "convolution_of_one_tap": lambda: K.Conv1D(5, 1, activation="softmax"),
    "masking": lambda: K.Masking(0.0),
    "identity": K.Identity,
    "dropout": lambda: K.Dropout(0.5),
    "spatial_dropout": lambda: K.SpatialDropout1D(0.5),
    "gaussian_dropout": lambda: K.GaussianDropout(0.5),
    "alpha_dropout": lambda: K.AlphaDropout(0.5),
    "gaussian_noise": lambda: K.GaussianNoise(0.5),
    "activity_regularization": lambda: K.ActivityRegularization(0.1),
}


@pytest.mark.parametrize("name", IN_SEQUENCES)
def test_a_layer_of_sequences_hands_masks_on_as_in_keras(name):
    model = network(
        K.Masking(), gru(return_sequences=True), IN_SEQUENCES[name](), gru(return_sequences=True), shape=(6, 3)
    )
    assert_runs_like(gc.from_keras(model), model, masked_input())


#: From a sequence to a vector or another sequence.
ACROSS_TIME = {
    "flatten": lambda: [K.Flatten()],
    "reshape_to_a_vector": lambda: [K.Reshape((-1,))],
    "reshape_to_other_steps": lambda: [K.Reshape((3, -1)), gru()],
    "repeat_vector": lambda: [gru(), K.RepeatVector(3), gru(return_sequences=True)],
    "vector_as_steps": lambda: [gru(), K.Reshape((4, 1)), gru()],
    "flatten_a_vector": lambda: [gru(), K.Flatten()],
    "maximum": lambda: [K.GlobalMaxPooling1D()],
    "dense_behind_a_vector": lambda: [gru(go_backwards=True), K.LayerNormalization(), K.Dense(2, activation="sigmoid")],
}


@pytest.mark.parametrize("name", ACROSS_TIME)
def test_a_layer_across_time_computes_what_keras_computes(name):
    model = network(K.Masking(), gru(return_sequences=True), *ACROSS_TIME[name](), shape=(6, 3))
    assert_runs_like(gc.from_keras(model), model, masked_input())


def test_the_average_over_time_leaves_masked_steps_out():
    model = network(K.Masking(), gru(return_sequences=True), K.GlobalAveragePooling1D(), K.Dense(2))
    assert_runs_like(gc.from_keras(model), model, masked_input()[:3])


def test_the_average_of_no_steps_is_0():
    """Keras divides 0 by 0."""
    model = network(K.Masking(), gru(return_sequences=True), K.GlobalAveragePooling1D())
    np.testing.assert_array_equal(gc.from_keras(model)(masked_input().astype(np.float32))[0][3], 0)


@pytest.mark.parametrize("mask_zero", [True, False])
def test_an_embedding_masks_id_0(mask_zero):
    model = network(K.Embedding(7, 3, mask_zero=mask_zero), K.LSTM(4), shape=(None,), dtype="int32")
    ids = np.array([[3, 1, 0, 2, 0], [1, 6, 5, 4, 3], [0, 0, 0, 0, 0], [0, 2, 2, 0, 0]])
    assert_runs_like(gc.from_keras(model), model, ids)


def test_a_second_masking_layer_replaces_the_mask():
    model = network(K.Masking(), K.Dense(3), K.Masking(0.5), gru(return_sequences=True))
    assert_runs_like(gc.from_keras(model), model, masked_input())


def test_networks_inside_networks_run_and_hand_masks_on():
    inner = keras.Sequential([K.Bidirectional(K.LSTM(3, return_sequences=True)), K.Dropout(0.1)])
    model = network(K.Masking(), keras.Sequential([inner, K.Dense(4)]), K.GRU(2))
    assert_runs_like(gc.from_keras(model), model, masked_input())


def test_vectors_go_in_where_the_input_has_no_steps():
    model = network(K.Dense(4), K.RepeatVector(5), gru(return_sequences=True), shape=(3,))
    assert_runs_like(gc.from_keras(model), model, np.random.default_rng(0).normal(size=(2, 3)))


def test_layers_of_a_chain_are_named_as_in_keras():
    inner = keras.Sequential([K.GRU(3, name="deep")], name="inner")
    layers = gc.from_keras(network(K.Dense(2, name="first"), inner)).layers
    assert [layer.name for layer in layers] == ["first", "inner.deep", "inner.deep", "inner.deep"]


REFUSED = {
    "an_unknown_layer": (lambda: [gru(return_sequences=True), K.MaxPooling1D(name="pool")], "pool: .* MaxPooling1D"),
    "lambda": (lambda: [gru(), K.Lambda(lambda x: x, name="own")], "own: .* Lambda"),
    "a_convolution_that_sees_the_future": (
        lambda: [K.Conv1D(2, 3, name="conv", padding="same"), gru()],
        "conv: .*'same'",
    ),
    "strides": (lambda: [K.Conv1D(2, 3, padding="causal", strides=2), gru()], r"strides=\(2,\)"),
    "a_norm_over_time": (lambda: [K.LayerNormalization(axis=1, name="norm"), gru()], "norm: .*axis"),
    "rms_norm": (lambda: [K.RMSNormalization(name="rms"), gru()], "rms: .*RMSNormalization"),
    "pooling_that_keeps_time": (lambda: [gru(return_sequences=True), K.GlobalMaxPooling1D(keepdims=True)], "keepdims"),
    "a_bounded_relu": (lambda: [gru(), K.ReLU(2.0, name="bounded")], "bounded: ReLU with max_value=2.0"),
    "time_distributed_recurrence": (lambda: [K.TimeDistributed(K.Flatten(), name="td"), gru()], "td: .*Flatten"),
    "softmax_in_a_cell": (lambda: [K.LSTM(3, name="odd", activation="softmax")], "odd: activation softmax"),
    "glu": (lambda: [gru(), K.Activation("glu", name="glu")], "glu: activation glu"),
    "no_recurrent_layer": (lambda: [K.Dense(2)], "no LSTM, GRU or RNN"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_run_is_named(name):
    make, message = REFUSED[name]
    with pytest.raises(UnsupportedError, match=message):
        gc.from_keras(network(*make(), shape=(4, 3)))


def test_flattening_needs_a_fixed_number_of_steps():
    with pytest.raises(UnsupportedError, match=r"flat: needs a fixed number of steps"):
        gc.from_keras(network(gru(return_sequences=True), K.Reshape((-1,), name="flat"), shape=(None, 3)))
