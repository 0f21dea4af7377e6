"""LayerSpec: what weights describe, and everything that is wrong with them at once."""

import dataclasses

import numpy as np
import pytest
from conftest import TORCH_CELLS, random_spec

from gated_c.spec import LayerSpec


@pytest.mark.parametrize("cell", TORCH_CELLS)
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_sizes_follow_from_names_and_shapes(cell, bidirectional, bias):
    spec = random_spec(
        np.random.default_rng(0), cell, 3, 5, num_layers=2, bidirectional=bidirectional, bias=bias,
        proj_size=2 if cell == "lstm" else 0, batch_first=True,
    )  # fmt: skip
    found = LayerSpec.from_weights(
        spec.weights, nonlinearity=cell.removeprefix("rnn_") if "rnn" in cell else "tanh", batch_first=True
    )
    assert found.weights is spec.weights
    assert repr(found) == repr(spec)


def test_a_layer_of_a_stack_alone_is_a_module():
    limits = {"h_limit": (0.5, 0.25, 2.0, 0.0), "bidirectional": True}
    spec = random_spec(np.random.default_rng(0), "lstm", 3, 5, num_layers=2, proj_size=2, **limits)
    first, second = spec.alone(0), spec.alone(1)
    for alone in (first, second):
        alone.validate()
    assert (first.input_size, second.input_size) == (3, 4)
    assert first.weights["weight_hr_l0_reverse"] is spec.weights["weight_hr_l0_reverse"]
    assert second.weights["weight_hr_l0_reverse"] is spec.weights["weight_hr_l1_reverse"]
    assert (first.h_limit, second.h_limit) == ((0.5, 0.25), (2.0, 0.0))


def replaced(**changes):
    spec = random_spec(np.random.default_rng(0), "lstm", 3, 5)
    weights = {**spec.weights, **changes}
    return dataclasses.replace(spec, weights={name: w for name, w in weights.items() if w is not None}, name="encoder")


def test_every_problem_is_listed_at_once():
    spec = replaced(
        weight_ih_l0=np.zeros((20, 4), np.float32),
        weight_hh_l0=None,
        bias_ih_l0=np.zeros(20),
        weight_hr_l0=np.zeros((2, 5), np.float32),
    )
    with pytest.raises(ValueError, match="encoder: ") as error:
        spec.validate()
    for problem in (
        "weight_ih_l0: expected (20, 3), got (20, 4)",
        "weight_hh_l0: missing, expected (20, 5)",
        "bias_ih_l0: expected float32, got float64",
        "weight_hr_l0: unexpected",
    ):
        assert problem in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cell": "mgu"}, "cell: expected one of lstm, gru, gru_reset_before, rnn_tanh, rnn_relu, rnn, got 'mgu'"),
        ({"num_layers": 0}, "num_layers: expected at least 1, got 0"),
        ({"num_layers": 10**9}, "weights: expected those of 1000000000 layers, got 4 in all"),
        ({"hidden_size": 0}, "hidden_size: expected at least 1, got 0"),
        ({"proj_size": 5}, "proj_size: expected less than hidden_size 5, got 5"),
        ({"cell": "gru", "proj_size": 2}, "proj_size: expected 0 for gru, got 2"),
    ],
)
def test_sizes_out_of_range(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(replaced(), **change).validate()


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({}, "weight_ih_l0: missing"),
        ({"weight_ih_l0": (8, 3)}, "weight_hh_l0: missing"),
        ({"weight_ih_l0": (8, 3), "weight_hh_l0": (8,)}, "weight_hh_l0: expected two dimensions"),
        ({"weight_ih_l0": (8, 3), "weight_hh_l0": (8, 0)}, "weight_hh_l0: expected two dimensions of at least 1"),
        ({"weight_ih_l0": (10, 3), "weight_hh_l0": (10, 5)}, "expected 4, 3 or 1 times 5 rows"),
        ({"weight_ih_l0": (21, 3), "weight_hh_l0": (21, 5)}, "expected 4, 3 or 1 times 5 rows"),
        (
            {"weight_ih_l0": (20, 3), "weight_hh_l0": (20, 5), "weight_ih_l99999": (20, 5)},
            "of 100000 layers, got 3 arrays",
        ),
    ],
)
def test_weights_that_describe_no_module(weights, message):
    with pytest.raises(ValueError, match=message):
        LayerSpec.from_weights({name: np.zeros(shape, np.float32) for name, shape in weights.items()})


def test_unknown_nonlinearity():
    spec = random_spec(np.random.default_rng(0), "rnn_tanh", 3, 5)
    with pytest.raises(ValueError, match="nonlinearity: expected 'tanh' or 'relu', got 'gelu'"):
        LayerSpec.from_weights(spec.weights, nonlinearity="gelu")
