"""Chains of random layers."""

import numpy as np
from conftest import random_spec

from gated_c import layers as L
from gated_c.spec import FUNCTIONS, Activation


def floats(rng, *shape):
    return rng.uniform(-1, 1, shape).astype(np.float32)


def activation(rng):
    return Activation.of(str(rng.choice(sorted(FUNCTIONS))))


#: Layers that leave a sequence a sequence and a vector a vector, of `size` features.
ANYWHERE = {
    "dense": lambda rng, size: L.Dense(floats(rng, 7, size), floats(rng, 7), activation(rng)),
    "dense_without_bias": lambda rng, size: L.Dense(floats(rng, 33, size)),
    "elementwise": lambda rng, size: L.Elementwise(size, activation(rng)),
    "softmax": lambda rng, size: L.Softmax(size),
    "log_softmax": lambda rng, size: L.Softmax(size, log=True),
    "layer_norm": lambda rng, size: L.LayerNorm(size, floats(rng, size), floats(rng, size), 1e-3),
    "scaled_layer_norm": lambda rng, size: L.LayerNorm(size, weight=floats(rng, size)),
    "shifted_layer_norm": lambda rng, size: L.LayerNorm(size, bias=floats(rng, size)),
    "plain_layer_norm": lambda rng, size: L.LayerNorm(size),
    "affine": lambda rng, size: L.Affine(floats(rng, size), floats(rng, size)),
    "slice": lambda rng, size: L.Slice(size, size // 3, size // 3 + max(size // 2, 1)),
}

#: Those of a sequence only.
OF_SEQUENCES = {
    "conv": lambda rng, size: L.Conv(floats(rng, 5, 3, size), floats(rng, 5), activation(rng), 2),
    "masking": lambda rng, size: L.Masking(size, 0.25),
    "unmask": lambda rng, size: L.Unmask(size),
}


def random_layers(rng, kinds, table, size):
    layers = []
    for kind in kinds:
        layers.append(table[kind](rng, size))
        size = layers[-1].output_size
    return layers


def size_after(layers, size):
    return layers[-1].output_size if layers else size


def recurrent(rng, cell, size, hidden, **options):
    return random_spec(rng, cell, size, hidden, **options)
