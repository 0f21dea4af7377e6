"""Masked sequences on Keras's NumPy backend: ``python keras_on_numpy.py FOLDER``.

A script of its own, since a process has one backend.
"""

import os
import sys
import warnings
from pathlib import Path

import numpy as np

os.environ["KERAS_BACKEND"] = "numpy"
warnings.simplefilter("ignore")

import keras  # noqa: E402

K = keras.layers

LAYERS = {
    "lstm": lambda: K.LSTM(2, return_sequences=True),
    "gru": lambda: K.GRU(2, reset_after=False),
    "backwards": lambda: K.GRU(2, return_sequences=True, go_backwards=True),
    "zero": lambda: K.SimpleRNN(2, return_sequences=True, zero_output_for_mask=True),
    "unrolled": lambda: K.GRU(2, return_sequences=True, unroll=True),
}


def main(folder):
    rng = np.random.default_rng(0)
    pattern = np.array([[0, 1, 0, 1], [1, 1, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0]])
    x = rng.normal(size=(4, 4, 3)).astype(np.float32) * pattern[..., None]
    h = rng.normal(size=(4, 2)).astype(np.float32)
    for name, make in LAYERS.items():
        layer = make()
        model = keras.Sequential([keras.Input((4, 3)), K.Masking(), layer])
        for weight in model.weights:
            weight.assign(rng.uniform(-0.7, 0.7, weight.shape))
        model.save(folder / f"{name}.keras")
        states = [h, h] if name == "lstm" else [h]
        np.savez(folder / f"{name}.npz", x=x, h=h, y=layer(x, initial_state=states, mask=pattern.astype(bool)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
