"""Networks of Keras 2, written in each of its formats with an input and what Keras makes of it.

A script of its own, since TensorFlow takes seconds to import: ``python keras_2_networks.py FOLDER``.
"""

import sys
import warnings
from pathlib import Path

import numpy as np
import tensorflow as tf
import tf_keras as keras
from tf_keras import layers as K

import gated_c as gc


def networks():
    """name -> model and what it is fed."""
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 3, (4, 6))
    x = rng.normal(size=(4, 6, 3)) * rng.integers(0, 2, (4, 6, 1))
    text = keras.Sequential(
        [
            K.Embedding(7, 4, mask_zero=True),
            K.Bidirectional(K.LSTM(3, return_sequences=True, recurrent_activation="hard_sigmoid")),
            K.BatchNormalization(),
            K.RNN([K.GRUCell(3, reset_after=False), K.SimpleRNNCell(2)]),
            K.Dense(2, activation=K.LeakyReLU(0.1)),
        ]
    )
    text.build((None, 6))
    frozen = keras.Sequential([K.Dense(4, input_shape=(6, 3)), K.BatchNormalization(), K.LayerNormalization()])
    frozen.layers[0].trainable = False
    nested = keras.Sequential(
        [
            K.Masking(input_shape=(6, 3)),
            frozen,
            K.GRU(3, return_sequences=True, go_backwards=True),
            K.TimeDistributed(K.Dense(3, activation="selu")),
            K.GRU(2, reset_after=False, recurrent_activation="hard_sigmoid", return_sequences=True),
            K.Flatten(),
            K.Dense(2, activation="softmax"),
        ]
    )
    inputs = keras.Input((6, 3))
    y, *_ = K.LSTM(3, return_sequences=True, return_state=True, use_bias=False)(K.Masking()(inputs))
    functional = keras.Model(inputs, K.GlobalMaxPooling1D()(K.Conv1D(3, 2, padding="causal")(y)))
    return {
        "text": (text, ids),
        "nested": (nested, x),
        "functional": (functional, x),
        "called": (calls_of_networks(), x),
        "operations": (operations(), x),
        "mean": (keras.Model(inputs, tf.reduce_mean(y, axis=1)), x),
        "max": (keras.Model(inputs, tf.reduce_max(y[:, :, 1:], 1)), x),
    }


def calls_of_networks():
    """Of a functional one and of Sequentials with and without an input, each twice."""
    inputs = keras.Input((6, 3))
    h = inputs
    for inner in (
        keras.Model(inputs, K.Dense(3)(K.SimpleRNN(3, return_sequences=True)(inputs))),
        keras.Sequential([K.GRU(3, return_sequences=True, input_shape=(6, 3))]),
        keras.Sequential([K.Dense(3), K.LSTM(3, return_sequences=True)]),
    ):
        h = inner(inner(h))
    return keras.Model(inputs, h)


def operations():
    """On the tensors between layers, which drop the mask."""
    inputs = keras.Input((6, 3))
    h = K.Bidirectional(K.GRU(3, return_sequences=True))(K.Masking()(inputs))
    h = K.LSTM(4, return_sequences=True)(h[:, :, 2:-1])
    return keras.Model(inputs, K.Dense(2)(h[:, -1, :]))


def main(folder):
    for name, (model, x) in networks().items():
        rng = np.random.default_rng(1)
        model.set_weights([rng.uniform(0.3, 0.7, weight.shape) for weight in model.get_weights()])
        model.save(folder / f"{name}.keras")
        model.save(folder / f"{name}.h5")
        model.save_weights(folder / f"{name}_weights.h5", save_format="h5")
        model.save_weights(folder / f"{name}.weights.h5")
        (folder / f"{name}.json").write_text(model.to_json())
        x = x if name == "text" else x.astype(np.float32)
        np.savez(folder / f"{name}.npz", x=x, y=model(x), live=gc.from_keras(model)(x)[0])


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(Path(sys.argv[1]))
