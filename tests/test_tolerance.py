"""The bound of rounding: it holds for float32 beside float64, and a real mistake is far outside."""

import dataclasses

import numpy as np
import pytest
import reference
from conftest import CELLS, random_spec

import gated_c as gc
from gated_c.layers import Affine, Dense, Embedding, Flip, LayerNorm, Merge, Softmax, Unmask
from gated_c.spec import ACTIVATIONS, Activation
from gated_c.tolerance import tolerance


def random(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape, np.float32)


def spec(cell="lstm", input_size=8, hidden_size=16, **options):
    if cell == "rnn":
        options = {"activations": (Activation.of("softsign"),) * (1 + options.get("bidirectional", False))} | options
    return random_spec(np.random.default_rng(0), cell, input_size, hidden_size, **options)


CHAINS = {
    **{cell: [spec(cell, num_layers=2, bidirectional=True)] for cell in CELLS},
    "dense": [spec(), Dense(random(5, 16), random(5)), Softmax(5)],
    "normalised": [spec(), LayerNorm(16, random(16), random(16)), spec("gru", 16, 4)],
    "merged": [Affine(random(8), random(8)), spec(bidirectional=True), Merge(16, "mul")],
    "large weights": [spec(gain=20.0)],
}


@pytest.mark.parametrize("name", CHAINS)
def test_the_engine_is_within_it(name):
    chain = CHAINS[name]
    x = random(20, 7, 8)
    expected, _ = reference.chain(chain, x)
    assert np.abs(gc.Model(chain)(x)[0] - expected).max() <= tolerance(chain, x, expected)


@pytest.mark.parametrize("cell", sorted(ACTIVATIONS))
def test_a_gate_in_the_wrong_place_is_far_outside(cell):
    layer = spec(cell)
    x = random(20, 7, 8)
    weights = {name: np.roll(weight, 16, axis=0) for name, weight in layer.weights.items()}
    if cell == "rnn":
        weights["weight_ih_l0"] = np.roll(layer.weights["weight_ih_l0"], 1, axis=0)
    y = gc.Model([layer])(x)[0]
    wrong = gc.Model([dataclasses.replace(layer, weights=weights)])(x)[0]
    assert np.abs(wrong - y).max() > 1000 * tolerance([layer], x, y)


def test_errors_of_the_input_come_out_times_twice_the_norm_of_a_row():
    dense = Dense(np.array([[3, 4], [1, 1]], np.float32))
    x, y = random(5, 2), random(5, 2)
    assert tolerance([dense], x, y, 1.0) == pytest.approx(10, abs=1e-4)


def test_layers_that_only_move_numbers_add_nothing():
    layers = [Embedding(random(9, 3)), Unmask(3), Flip(3)]
    assert tolerance(layers, np.array([[8]]), random(1, 1, 3), 0.25) == 0.25


def test_infinities_do_not_make_it_infinite():
    assert np.isfinite(tolerance([spec()], np.full((2, 2, 8), np.inf, np.float32), np.full((2, 2, 16), np.nan)))
