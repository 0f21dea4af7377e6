"""Models of 8-bit integers compute what tests/int8.py says, on every instruction set and whatever they are given."""

import dataclasses

import numpy as np
import pytest
from conftest import EXACT, parts, random_spec, random_state, same_bits, state_of

import gated_c as gc
from gated_c.spec import Activation
from tests import int8, reference
from tests.test_layers import error, tolerance

BOUNDED = tuple(map(Activation.of, ("hard_sigmoid", "softsign", "hard_tanh")))
SCALED = Activation.of("scaled_tanh", 0.5, 2.0)
OPEN = Activation.of("softplus")

#: Cells whose h is bounded, and cells whose h is not, by what they are an example of.
CELLS = {
    "lstm": ("lstm", {}),
    "gru": ("gru", {}),
    "rnn_tanh": ("rnn_tanh", {}),
    "rnn_relu": ("rnn_relu", {}),
    "gru_reset_before": ("gru_reset_before", {}),
    "projected": ("lstm", {"proj_size": 11}),
    "without bias": ("lstm", {"bias": False}),
    "bounded lstm": ("lstm", {"activations": BOUNDED, "peepholes": True, "clip": 0.9}),
    "open lstm": ("lstm", {"activations": (BOUNDED[0], BOUNDED[1], OPEN)}),
    "open projected": ("lstm", {"activations": (BOUNDED[0], BOUNDED[1], OPEN), "proj_size": 5}),
    "scaled gru": ("gru", {"activations": (BOUNDED[0], SCALED)}),
    "signed gru": ("gru", {"activations": (BOUNDED[1], BOUNDED[2])}),
    "open gru_reset_before": ("gru_reset_before", {"activations": (BOUNDED[0], OPEN)}),
    "signed gru_reset_before": ("gru_reset_before", {"activations": (BOUNDED[1], BOUNDED[2])}),
    "bounded rnn": ("rnn", {"activations": BOUNDED[1:2]}),
    "limited rnn_relu": ("rnn_relu", {"h_limit": (0.75,)}),
    "limited lstm": ("lstm", {"h_limit": (0.125,)}),
}

#: Lengths that fill words of four integers and those that do not, one block and several.
SHAPES = [(1, 1), (4, 8), (3, 16), (6, 33), (61, 51), (64, 64)]

SEQ_LEN, BATCH = 36, 5


def spec_of(kind, input_size, hidden_size, gain=1.5):
    cell, options = CELLS[kind]
    if "proj_size" in options:
        options = options | {"proj_size": max(1, min(options["proj_size"], hidden_size - 1))}
    if options.get("proj_size", 0) >= hidden_size:
        pytest.skip("nothing to project")
    return random_spec(np.random.default_rng(hidden_size), cell, input_size, hidden_size, gain=gain, **options)


def linear(weight_ih, weight_hh, bias=None, **options):
    """h = W x + R h + b, of which every bit is known."""
    weights = {"weight_ih_l0": weight_ih, "weight_hh_l0": weight_hh}
    if bias is not None:
        weights |= {"bias_ih_l0": bias, "bias_hh_l0": bias / 2}
    rows = len(weight_ih)
    options = {"activations": (Activation.of("linear"),), "bias": bias is not None, **options}
    return gc.LayerSpec("rnn", weight_ih.shape[1], rows, weights, **options)


def int8_model(*layers, **options):
    return gc.Model(layers, dtype="int8", **options)


@pytest.mark.parametrize("shape", SHAPES, ids="{0[0]}x{0[1]}".format)
@pytest.mark.parametrize("kind", CELLS)
def test_each_step_is_that_of_the_definition(isa, kind, shape):
    spec = spec_of(kind, *shape)
    rng = np.random.default_rng(1)
    h, c = random_state(rng, spec, BATCH)
    x = rng.standard_normal((SEQ_LEN, BATCH, spec.input_size)).astype(np.float32)
    y, _, trace = int8_model(spec)(x, state_of(spec, h, c), trace=("c", "gates") if spec.has_c else ("gates",))

    def before(initial, rest):
        return np.concatenate([initial, rest[:-1]]).reshape(1, SEQ_LEN * BATCH, -1)

    # Every step from the state that the engine had, as rows of one batch: roundings of h do not accumulate.
    states = before(h, y), before(c, trace["c"][0]) if spec.has_c else None
    shown = {}
    steps = x.reshape(1, SEQ_LEN * BATCH, -1)
    expected, _, expected_c = reference.forward(spec, steps, *states, trace=shown, matrix=int8.matrices(spec))
    allowed = tolerance(spec, x, np.abs(expected).max())
    assert error(y, expected.reshape(y.shape)) <= allowed
    assert error(trace["gates"], shown["gates"].reshape(trace["gates"].shape)) <= allowed
    if spec.has_c:
        assert error(trace["c"], expected_c.reshape(trace["c"].shape)) <= allowed * np.abs(expected_c).max()


@pytest.mark.parametrize("h_limit", [(), (1.5,)])
@pytest.mark.parametrize("shape", [(1, 1), (5, 7), (64, 33), (130, 65)], ids="{0[0]}x{0[1]}".format)
@pytest.mark.parametrize("isa", EXACT)
def test_pre_activations_have_the_bits_of_the_definition(monkeypatch, isa, shape, h_limit):
    monkeypatch.setenv("GATED_C_ISA", isa)
    rng = np.random.default_rng(2)
    inputs, hidden = shape
    weight_ih, weight_hh = (rng.standard_normal((hidden, k)).astype(np.float32) for k in shape)
    bias = rng.standard_normal(hidden).astype(np.float32)
    spec = linear(weight_ih, weight_hh / (2 * hidden), bias, h_limit=h_limit)
    x = rng.standard_normal((40, 7, inputs)).astype(np.float32)
    h = rng.standard_normal((1, 7, hidden)).astype(np.float32)
    y, _ = int8_model(spec)(x, h)
    for step, before, after in zip(x, [h[0], *y], y, strict=False):
        acc = int8.added(np.broadcast_to(bias + bias / 2, after.shape), step, weight_ih)
        assert same_bits(int8.added(acc, before, spec.weights["weight_hh_l0"], *h_limit), after)


@pytest.mark.parametrize("inputs", ["float32", "bfloat16"])
@pytest.mark.parametrize("cell", ["lstm", "gru", "gru_reset_before", "rnn_relu"])
@pytest.mark.parametrize("shape", [(1, 1), (5, 33), (64, 64)], ids="{0[0]}x{0[1]}".format)
def test_inputs_of_another_format_go_into_the_same_sums(isa, shape, cell, inputs):
    rng = np.random.default_rng(3)
    spec = random_spec(rng, cell, *shape)
    h, c = random_state(rng, spec, 3)
    model = int8_model(spec, inputs=inputs)
    x = rng.standard_normal((1, 3, spec.input_size)).astype(np.float32)
    y, _ = model(x, state_of(spec, h, c))
    matrix = int8.matrices(spec)
    expected, _, _ = reference.forward(
        model.layers[0], x, h, c, matrix=lambda name, weight: weight if name == "weight_ih" else matrix(name, weight)
    )
    assert error(y, expected) <= tolerance(spec, x, np.abs(expected).max())


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn_tanh", "rnn_relu", "gru_reset_before"])
def test_a_step_is_as_near_as_roundings_allow(cell):
    """Rounding moves a product of x and a row of weights by at most half a scale times the sum of the other's
    magnitudes; activations and gates at most double that in all."""
    rng = np.random.default_rng(4)
    spec = random_spec(rng, cell, 40, 40)
    h, c = random_state(rng, spec, 20)
    x = rng.standard_normal((1, 20, 40)).astype(np.float32)
    model = int8_model(spec)
    y, _ = model(x, state_of(spec, h, c))
    exact, _, _ = reference.forward(model.layers[0], x, h, c)
    moved = 0
    for v, name in ((x, "weight_ih_l0"), (h, "weight_hh_l0")):
        moved += np.abs(v).max() / 127 / 2 * np.abs(model.layers[0].weights[name]).sum(1).max()
    assert 0 < error(y, exact) <= 2 * moved


def test_layers_of_a_stack_are_those_of_a_chain(isa):
    rng = np.random.default_rng(5)
    lower, upper = random_spec(rng, "gru", 10, 20), random_spec(rng, "gru", 20, 20)
    weights = {**lower.weights, **{name.replace("l0", "l1"): w for name, w in upper.weights.items()}}
    both = dataclasses.replace(lower, num_layers=2, weights=weights)
    x = rng.standard_normal((50, 3, 10)).astype(np.float32)
    assert same_bits(int8_model(both)(x)[0], int8_model(lower, upper)(x)[0])


def test_each_layer_and_direction_has_a_limit_of_its_own(isa):
    rng = np.random.default_rng(6)
    spec = random_spec(rng, "lstm", 3, 20, num_layers=2, bidirectional=True)
    x = rng.standard_normal((20, 2, 3)).astype(np.float32)
    _, (free, _) = int8_model(spec)(x)
    for limited in range(4):
        limits = tuple(0.01 if i == limited else 0.0 for i in range(4))
        _, (h, _) = int8_model(dataclasses.replace(spec, h_limit=limits))(x)
        own = [not same_bits(a, b) for a, b in zip(h, free, strict=True)]
        assert own[limited] and not any(own[: limited // 2 * 2])


@pytest.mark.parametrize("cell", ["lstm", "rnn_tanh"])
def test_an_initial_h_beyond_the_limit_saturates(isa, cell):
    spec = random_spec(np.random.default_rng(7), cell, 3, 20)
    model, x = int8_model(spec), np.ones((2, 1, 3), np.float32)
    signs = np.where(np.arange(20) % 2, 1, -1).astype(np.float32).reshape(1, 1, 20)
    c = np.zeros_like(signs)
    expected, _ = model(x, state_of(spec, signs, c))
    for factor in (1.01, 5, 1e38):
        assert same_bits(model(x, state_of(spec, signs * np.float32(factor), c))[0], expected)


@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn_relu", "gru_reset_before"])
def test_what_is_not_finite_comes_out_as_nan_in_its_row_only(isa, cell, bad):
    rng = np.random.default_rng(8)
    spec = random_spec(rng, cell, 5, 20, bias=False)
    model = int8_model(spec)
    x = rng.standard_normal((6, 4, 5)).astype(np.float32)
    y, _ = model(x)
    x[3, 2, 4] = bad
    got, _ = model(x)
    assert np.isnan(got[3:, 2]).all()
    got[3:, 2] = y[3:, 2]
    assert same_bits(got, y)
    h, c = random_state(rng, spec, 4)
    h[0, 1, 17] = bad
    got, _ = model(x[:1], state_of(spec, h, c))
    assert np.isnan(got).any(-1).tolist() == [[False, True, False, False]]


def test_weights_that_are_not_finite_make_their_unit_nan(isa):
    for bad in (np.nan, np.inf):
        weight = np.ones((3, 2), np.float32)
        weight[1, 0] = bad
        y, _ = int8_model(linear(weight, np.zeros((3, 3), np.float32)))(np.ones((1, 2), np.float32))
        assert np.isnan(y).tolist() == [[False, True, False]]


@pytest.mark.parametrize("isa", EXACT)
def test_zeros_and_numbers_too_small_for_a_scale_leave_the_bias(monkeypatch, isa):
    monkeypatch.setenv("GATED_C_ISA", isa)
    bias = np.float32([1, -2, 0.3])
    for weight in (0, 1e-37, 1e-45):
        for value in (0, -0.0, 1e-37, 1e-45):
            spec = linear(np.full((3, 5), weight, np.float32), np.zeros((3, 3), np.float32), bias)
            y, _ = int8_model(spec)(np.full((1, 5), value, np.float32))
            assert same_bits(y[0], bias + bias / 2)


@pytest.mark.parametrize("isa", EXACT)
def test_extreme_magnitudes_keep_their_digits(monkeypatch, isa):
    monkeypatch.setenv("GATED_C_ISA", isa)
    rng = np.random.default_rng(9)
    weight_ih = rng.standard_normal((6, 9)).astype(np.float32)
    for weight, value in ((1e30, 1e-30), (1e-30, 1e30), (3e37, 1), (1, 3e37), (1e-30, 1e-30)):
        spec = linear(weight_ih * np.float32(weight), np.zeros((6, 6), np.float32))
        x = rng.uniform(-1, 1, (1, 9)).astype(np.float32) * np.float32(value)
        with np.errstate(over="ignore", under="ignore"):
            expected = int8.added(np.zeros((1, 6), np.float32), x, spec.weights["weight_ih_l0"])
        expected += 0  # of the recurrent product
        assert same_bits(int8_model(spec)(x)[0], expected)


@pytest.mark.parametrize("isa", EXACT)
def test_the_longest_sums_are_exact_and_longer_ones_refused(monkeypatch, isa):
    monkeypatch.setenv("GATED_C_ISA", isa)
    longest = (2**31 - 1) // 127**2
    for length in (longest, longest + 1):
        weight = np.ones((2, length), np.float32)
        weight[1] = -1
        spec = linear(weight, np.zeros((2, 2), np.float32))
        if length > longest:
            with pytest.raises(ValueError):
                int8_model(spec)
            int8_model(spec, inputs="float32")
        else:
            x = np.ones((1, length), np.float32)
            expected = int8.added(np.zeros((1, 2), np.float32), x, weight)
            assert same_bits(int8_model(spec)(x)[0], expected)


def test_weights_that_are_rounded_already_stay_as_they_are(isa):
    spec = random_spec(np.random.default_rng(10), "gru", 20, 30)
    model = int8_model(spec)
    again = int8_model(*model.layers)
    x = np.random.default_rng(11).standard_normal((9, 2, 20)).astype(np.float32)
    assert same_bits(model(x)[0], again(x)[0])
    for name, weight in model.layers[0].weights.items():
        assert same_bits(weight, again.layers[0].weights[name])


def test_flushing_subnormals_changes_nothing_but_subnormals():
    spec = random_spec(np.random.default_rng(12), "lstm", 20, 30)
    x = np.random.default_rng(13).standard_normal((9, 2, 20)).astype(np.float32)
    x[3] *= np.float32(1e-37)
    for y, flushed in zip(*(parts(int8_model(spec, flush_subnormals=f)(x)) for f in (False, True)), strict=True):
        for a, b in zip(parts(y), parts(flushed), strict=True):
            assert same_bits(a, b)


def test_int8_takes_little_more_than_a_quarter_of_the_memory():
    spec = random_spec(np.random.default_rng(0), "lstm", 256, 256)
    assert int8_model(spec).packed_bytes < 0.27 * gc.Model([spec]).packed_bytes
