"""Small models with every kind of layer, cell and option that a ``.gated`` file can hold.

As a program, with a folder for an argument, it writes what fuzzing starts from.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from chains import ANYWHERE, OF_SEQUENCES, activation, floats
from conftest import CELLS, random_spec

import gated_c as gc
from gated_c import layers as L
from gated_c.spec import ACTIVATIONS, FUNCTIONS, Activation


def _activations(rng, cell, directions):
    return tuple(activation(rng) for _ in range(ACTIVATIONS[cell] * directions))


def _stacks(rng):
    """Cells with what each can do, alone."""
    for cell in CELLS:
        needed = {"activations": _activations(rng, cell, 1)} if cell == "rnn" else {}
        yield cell, random_spec(rng, cell, 3, 2, **needed)
        yield f"{cell}_deep", random_spec(rng, cell, 1, 3, num_layers=3, bias=False, **needed)
        needed = {"activations": _activations(rng, cell, 2)} if cell == "rnn" else {}
        yield f"{cell}_both", random_spec(rng, cell, 2, 4, num_layers=2, bidirectional=True, **needed)
    yield "projected", random_spec(rng, "lstm", 2, 5, proj_size=3, num_layers=2, bidirectional=True)
    for cell in ACTIVATIONS:
        general = {"activations": _activations(rng, cell, 2), "clip": 0.3}
        yield f"{cell}_general", random_spec(rng, cell, 2, 4, bidirectional=True, **general)
    yield "clipped", random_spec(rng, "lstm", 2, 4, clip=0.1, clip_output=False)
    yield "peepholes", random_spec(rng, "lstm", 2, 4, peepholes=True, num_layers=2)
    yield "coupled", random_spec(rng, "lstm", 2, 4, input_forget=True, proj_size=2)
    for cell, part in (("lstm", "initial_h"), ("lstm", "initial_c"), ("gru", "initial_h")):
        spec = random_spec(rng, cell, 2, 4, num_layers=2, bidirectional=True)
        yield f"{cell}_{part}", replace(spec, weights={**spec.weights, f"{part}_l1_reverse": floats(rng, 4)})
    yield "reverse", random_spec(rng, "gru", 2, 4, reverse=True)


def _around(rng, layer):
    return [layer, random_spec(rng, "gru", layer.output_size, 4)]


def _chains(rng):
    for kind, make in (ANYWHERE | OF_SEQUENCES).items():
        yield kind, _around(rng, make(rng, 6))
    for function in FUNCTIONS:
        yield f"elementwise_{function}", _around(rng, L.Elementwise(3, Activation(function, 0.7, -0.2)))
    for kind in L.POOLS:
        pool = L.Pool(4, kind, 1 if kind == "final" else 0)
        yield f"pool_{kind}", [random_spec(rng, "gru", 3, 4), pool, L.Dense(floats(rng, 2, 4))]
    for mode in L.MERGES:
        yield f"merge_{mode}", [random_spec(rng, "rnn_tanh", 3, 2, bidirectional=True), L.Merge(2, mode)]
    for masked in ("zero", "repeat", "repeat_initial"):
        chain = [random_spec(rng, "lstm", 3, 4, bidirectional=True, masked=masked), L.Flip(8), L.Flip(8, steps=False)]
        chain[1:1] = [L.Masking(8, -0.5), L.Unmask(8)] if masked == "zero" else []
        yield f"masked_{masked}", [L.Masking(3, 0.25), *chain, L.Dense(floats(rng, 2, 8), floats(rng, 2))]
    one = floats(rng, 3)
    yield "affine_of_one_array", _around(rng, L.Affine(one, one))
    yield "embedding", _around(rng, L.Embedding(floats(rng, 5, 3)))
    yield "embedding_of_mask", _around(rng, L.Embedding(floats(rng, 5, 3), mask_zero=True))
    yield "repeat", [L.Repeat(2, 4), random_spec(rng, "gru", 2, 3)]
    yield "reshape", [random_spec(rng, "gru", 3, 4), L.Reshape(3, 4, 6, 2), random_spec(rng, "rnn_relu", 2, 2)]
    yield "reshape_to_vector", [random_spec(rng, "gru", 3, 4), L.Reshape(3, 4, 0, 12), L.Dense(floats(rng, 2, 12))]
    yield "squeezed", [random_spec(rng, "gru", 3, 4), L.Dense(floats(rng, 1, 4)), L.Squeeze()]
    yield "split", [random_spec(rng, "gru", 3, 4), L.Split(4)]


#: Of narrow weights: name of a model, and what it becomes.
NARROW = [
    ("lstm", {"dtype": "bfloat16"}),
    ("projected", {"dtype": "bfloat16"}),
    ("gru_both", {"dtype": "bfloat16", "arithmetic": "bfloat16"}),
    ("lstm_initial_h", {"dtype": "int8"}),
    ("projected", {"dtype": "int8"}),
    ("gru_reset_before_both", {"dtype": "int8"}),
    ("rnn_relu_deep", {"dtype": "int8", "inputs": "float32"}),
    ("peepholes", {"dtype": "int8", "inputs": "bfloat16"}),
    ("embedding", {"dtype": "int8"}),
]


def gated_models():
    """Name -> model, always the same ones."""
    rng = np.random.default_rng(7)
    models = {name: gc.Model([spec]) for name, spec in _stacks(rng)}
    models |= {name: gc.Model(chain) for name, chain in _chains(rng)}
    deep = models["rnn_relu_deep"].layers[0]
    models["rnn_relu_int8_limits"] = gc.Model([replace(deep, h_limit=(0.5, 0.0, 2.0))], dtype="int8")
    return models | {"_".join([name, *words.values()]): models[name].to(**words) for name, words in NARROW}


def input_of(model, steps, batch):
    """x [T, N, C], of a vector [1, N, C], of ids [T, N, 1], with some that masks take out."""
    rng = np.random.default_rng(steps * 100 + batch)
    if model.takes == "ids":
        return rng.integers(0, len(model.layers[0].weight), (steps, batch, 1)).astype(np.int32)
    x = floats(rng, 1 if model.takes == "vector" else steps, batch, model.input_size)
    x[rng.random(x.shape[:2]) < 0.3] = 0.25
    return x


def write_corpus(folder):
    """Headers of all the models, and some whole files, with 0 for a checksum."""
    for name, model in gated_models().items():
        for suffix in ("", ".packed"):
            path = Path(folder, name + suffix)
            model.save(path, packed=bool(suffix))
            whole = path.read_bytes()
            start = 8 + int.from_bytes(whole[:8], "little")
            checksum = json.loads(whole[8:start])["__metadata__"]["gated_crc32"]
            header = whole[8:start].replace(checksum.encode(), b"00000000").rstrip()
            path.write_bytes(header)
            if name in ("lstm", "lstm_bfloat16", "projected_int8"):
                Path(folder, f"whole_{name}{suffix}").write_bytes(whole.replace(checksum.encode(), b"00000000"))


if __name__ == "__main__":
    write_corpus(sys.argv[1])
