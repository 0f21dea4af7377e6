"""Two models side by side: every figure against the same in NumPy."""

import sys
from dataclasses import replace

import numpy as np
import pytest
from chains import floats
from conftest import random_spec, state_of

import gated_c as gc
from gated_c import layers as L
from gated_c.spec import Activation
from tests import reference

RELU = Activation.of("relu")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def coarse(layers):
    """The layers with the weights of recurrent ones rounded to eighths."""
    return [
        replace(layer, weights={name: np.rint(8 * weight) / np.float32(8) for name, weight in layer.weights.items()})
        if isinstance(layer, gc.LayerSpec)
        else layer
        for layer in layers
    ]


def models(*layers):
    return gc.Model(layers), gc.Model(coarse(layers))


def rms(values):
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))


def error(expected, values):
    """As a comparison has it, of arrays that hold nothing else."""
    apart = np.subtract(expected, values, dtype=np.float64)
    return pytest.approx((rms(apart) / rms(expected), np.abs(apart).max()), rel=1e-12)


# One layer, whose h is y


def test_the_error_of_a_layer_is_that_of_its_output(rng):
    model, narrow = models(random_spec(rng, "lstm", 3, 5))
    x = floats(rng, 7, 4, 3)
    (layer,) = gc.compare(model, narrow, x).layers
    y, narrow_y = model(x)[0], narrow(x)[0]
    assert (layer.name, layer.direction) == ("lstm", "forward")
    assert layer.error == layer.own == error(y, narrow_y)
    assert layer.error.relative > 0.01


def test_drift_is_the_error_of_every_step(rng):
    model, narrow = models(random_spec(rng, "gru", 3, 5))
    x = floats(rng, 23, 4, 3)
    (layer,) = gc.compare(model, narrow, x).layers
    apart = model(x)[0] - narrow(x)[0]
    np.testing.assert_array_equal(layer.steps, np.arange(23))
    np.testing.assert_allclose(layer.drift, [rms(step) for step in apart], rtol=1e-6)
    assert layer.growth == pytest.approx(rms(apart[-3:]) / rms(apart[:3]))


def test_drift_of_a_long_sequence_is_in_a_hundred_parts(rng):
    model, narrow = models(random_spec(rng, "gru", 3, 5))
    x = floats(rng, 250, 2, 3)
    (layer,) = gc.compare(model, narrow, x).layers
    apart = model(x)[0] - narrow(x)[0]
    assert layer.steps[:5].tolist() == [0, 2, 5, 7, 10]
    np.testing.assert_allclose(layer.drift, [rms(part) for part in np.split(apart, layer.steps[1:])], rtol=1e-6)
    assert layer.growth == pytest.approx(rms(apart[-25:]) / rms(apart[:25]))


@pytest.mark.parametrize("as_mask", [False, True])
def test_steps_beyond_a_length_are_left_out(rng, as_mask):
    model, narrow = models(random_spec(rng, "lstm", 3, 5, bidirectional=True))
    x, lengths = floats(rng, 6, 4, 3), np.array([6, 2, 0, 3])
    live = np.arange(6)[:, None] < lengths
    found = gc.compare(model, narrow, x, **({"mask": live} if as_mask else {"lengths": lengths}))
    y, narrow_y = model(x, lengths=lengths)[0], narrow(x, lengths=lengths)[0]
    assert found.rows == 11
    assert found.output == error(y[live], narrow_y[live])
    forward, reverse = found.layers
    assert forward.error == error(y[live][:, :5], narrow_y[live][:, :5])
    assert reverse.error == error(y[live][:, 5:], narrow_y[live][:, 5:])


def test_a_direction_drifts_in_the_order_in_which_it_reads(rng):
    model, narrow = models(random_spec(rng, "lstm", 3, 5, bidirectional=True))
    x, mask = floats(rng, 4, 2, 3), np.array([[1, 1], [1, 0], [1, 1], [0, 1]], bool)
    forward, reverse = gc.compare(model, narrow, x, mask=mask).layers
    apart = model(x, mask=mask)[0] - narrow(x, mask=mask)[0]
    rows = [apart[mask[:, n], n] for n in range(2)]  # three steps each
    np.testing.assert_allclose(forward.drift, [rms([row[k][:5] for row in rows]) for k in range(3)], rtol=1e-6)
    np.testing.assert_allclose(reverse.drift, [rms([row[2 - k][5:] for row in rows]) for k in range(3)], rtol=1e-6)
    assert (forward.direction, reverse.direction) == ("forward", "reverse")


def test_a_lone_reverse_direction_says_so(rng):
    (layer,) = gc.compare(*models(random_spec(rng, "gru", 3, 5, reverse=True)), floats(rng, 4, 2, 3)).layers
    assert layer.direction == "reverse"


def test_growth_tells_errors_that_build_up(rng):
    """h_t = w h_{t-1} + x_t keeps what it adds if w is 1, and forgets it if w is less."""

    def integrator(w):
        weights = {"weight_ih_l0": [[1]], "weight_hh_l0": [[w]], "bias_ih_l0": [0], "bias_hh_l0": [0]}
        return gc.Model([gc.LayerSpec("rnn_relu", 1, 1, {k: np.array(v, np.float32) for k, v in weights.items()})])

    x = np.ones((100, 1, 1), np.float32)
    (layer,) = gc.compare(integrator(1), integrator(1.125), x).layers
    assert layer.drift[1] == 0.125
    assert layer.grows
    (layer,) = gc.compare(integrator(0.25), integrator(0.125), x).layers
    assert layer.drift[1] == 0.125
    assert layer.growth == pytest.approx(0.1905 / 0.1724, rel=1e-3)
    assert not layer.grows


@pytest.mark.parametrize(
    ("to", "name"),
    [
        ({"dtype": "bfloat16"}, "bfloat16"),
        ({"dtype": "bfloat16", "arithmetic": "bfloat16"}, "bfloat16 with bfloat16 arithmetic"),
        ({"dtype": "int8"}, "int8"),
        ({"dtype": "int8", "inputs": "float32"}, "int8 with float32 inputs"),
    ],
)
def test_narrow_models_are_run_as_they_are_and_named(rng, to, name):
    model = gc.Model([random_spec(rng, "gru", 3, 40)])
    narrow = model.to(**to)
    x = floats(rng, 7, 4, 3)
    found = gc.compare(model, narrow, x)
    assert (found.reference, found.narrow) == ("float32", name)
    assert found.layers[0].error == error(model(x)[0], narrow(x)[0])
    assert gc.compare(narrow, narrow, x).output == (0, 0)


# Several layers


def oracle(layers, x):
    """h of every recurrent layer, in float64."""
    for layer in layers:
        if isinstance(layer, gc.LayerSpec):
            x, _ = reference.recurrent(layer, x, None, np.ones(x.shape[:2], bool))
            yield x
        else:
            x = reference.PLAIN[type(layer).__name__](layer, x)


def test_errors_build_up_and_are_told_apart_from_those_of_the_layer_alone(rng):
    stack = random_spec(rng, "lstm", 6, 5, num_layers=2, bidirectional=True, name="stack", gain=3)
    after = random_spec(rng, "gru", 4, 7, gain=3)
    between = L.Dense(floats(rng, 4, 10), floats(rng, 4))
    model, narrow = models(L.Dense(floats(rng, 6, 3)), stack, between, L.Elementwise(4, RELU), after)
    x = floats(rng, 9, 4, 3)
    found = gc.compare(model, narrow, x).layers

    layers = [model.layers[0], stack.alone(0), stack.alone(1), between, model.layers[3], after]
    true, built_up = list(oracle(layers, x)), list(oracle(coarse(layers), x))
    own = [
        built_up[0],
        *oracle(coarse(layers[2:3]), true[0]),
        *oracle(coarse(layers[3:]), true[1]),
    ]
    expected = [
        ("stack layer 0", "forward", 0, slice(5)),
        ("stack layer 0", "reverse", 0, slice(5, 10)),
        ("stack layer 1", "forward", 1, slice(5)),
        ("stack layer 1", "reverse", 1, slice(5, 10)),
        ("gru", "forward", 2, slice(7)),
    ]
    assert [(one.name, one.direction) for one in found] == [(name, direction) for name, direction, *_ in expected]
    for one, (*_, index, part) in zip(found, expected, strict=True):
        # float32 adds about 1e-6 to differences of 0.1
        h = true[index][..., part]
        for got, values in ((one.error, built_up[index]), (one.own, own[index])):
            assert got.relative == pytest.approx(rms(values[..., part] - h) / rms(h), rel=1e-3)
            assert got.largest == pytest.approx(np.abs(values[..., part] - h).max(), rel=1e-3)
        assert one.error.largest > 0.01
    assert found[4].error.relative != found[4].own.relative


def chains(rng):
    """Whose last layer is a recurrent one of one direction, so that y is its h."""
    encoder = random_spec(rng, "lstm", 3, 4, num_layers=2, bidirectional=True)
    keras = random_spec(rng, "gru", 3, 4, masked="repeat")
    last = random_spec(rng, "gru", 4, 5)
    yield "stack", [random_spec(rng, "lstm", 3, 4, num_layers=3)]
    yield "pooled", [encoder, L.Pool(8, "mean"), L.Dense(floats(rng, 4, 8)), L.Repeat(4, 6), last]
    yield "masking", [L.Masking(3, 0.25), encoder, L.Merge(4, "sum"), last]
    yield "unmasked", [keras, L.Unmask(4), L.Conv(floats(rng, 4, 2, 4)), last]
    yield "flipped", [L.Flip(3), keras, L.Flip(4), L.Conv(floats(rng, 4, 2, 4)), last]
    yield "reshaped", [encoder, L.Reshape(6, 8, 12, 4), last]
    yield "projected", [random_spec(rng, "lstm", 3, 6, proj_size=4), L.LayerNorm(4), last]


@pytest.mark.parametrize("name", [name for name, _ in chains(np.random.default_rng(0))])
@pytest.mark.parametrize("with_state", [False, True])
@pytest.mark.parametrize("to", ["bfloat16", "int8", "calibrated"])
def test_layers_run_as_they_do_within_the_network(rng, name, with_state, to):
    x = floats(rng, 6, 4, 3)
    x[[1, 4], [2, 0]] = 0.25
    model = gc.Model(dict(chains(rng))[name])
    narrow = model.to("int8", calibrate=x) if to == "calibrated" else model.to(to)
    state = None
    if with_state:
        states = [
            state_of(
                layer,
                floats(rng, layer.num_layers * layer.num_directions, 4, layer.h_size),
                floats(rng, layer.num_layers * layer.num_directions, 4, layer.hidden_size),
            )
            for layer in model.recurrent
        ]
        state = tuple(states) if len(states) > 1 else states[0]
    mask = rng.random((6, 4)) < 0.7
    mask[:, 3] = False
    found = gc.compare(model, narrow, x, state=state, mask=mask)
    assert found.output == found.layers[-1].error  # bit by bit: y comes from the whole network
    assert found.output.largest > 0


def test_learned_initial_states_are_those_of_their_layers(rng):
    spec = random_spec(rng, "lstm", 3, 4, num_layers=2)
    learned = {f"initial_{part}_l{index}": floats(rng, 4) for part in "hc" for index in range(2)}
    model, narrow = models(replace(spec, weights=spec.weights | learned))
    found = gc.compare(model, narrow, floats(rng, 5, 2, 3))
    assert found.output == found.layers[-1].error


# What counts


def test_rows_that_embeddings_and_masks_take_out_do_not_count(rng):
    embedding = L.Embedding(floats(rng, 9, 3), mask_zero=True)
    model, narrow = models(embedding, random_spec(rng, "gru", 3, 4))
    ids = np.array([[3, 0, 2], [0, 0, 5]])
    found = gc.compare(model, narrow, ids, lengths=[2, 2, 1])
    assert found.rows == 2
    counts = np.array([[True, False, True], [False, False, False]])
    assert found.output == error(model(ids, lengths=[2, 2, 1])[0][counts], narrow(ids, lengths=[2, 2, 1])[0][counts])


def test_steps_beyond_a_length_stay_out_behind_a_layer_without_masks(rng):
    keras = random_spec(rng, "gru", 3, 4, masked="repeat")
    model, narrow = models(keras, L.Unmask(4), L.Conv(floats(rng, 2, 2, 4)))
    x = floats(rng, 5, 3, 3)
    found = gc.compare(model, narrow, x, lengths=[5, 0, 2])
    live = np.arange(5)[:, None] < [5, 0, 2]
    assert found.rows == 7
    assert found.output == error(model(x, lengths=[5, 0, 2])[0][live], narrow(x, lengths=[5, 0, 2])[0][live])


def test_rows_of_no_steps_do_not_count_in_a_vector(rng):
    model, narrow = models(random_spec(rng, "gru", 3, 4), L.Pool(4, "last"), L.Dense(floats(rng, 2, 4)))
    x = floats(rng, 5, 3, 3)
    found = gc.compare(model, narrow, x, lengths=[5, 0, 2])
    assert found.rows == 2
    assert found.output == error(*(one(x, lengths=[5, 0, 2])[0][[0, 2]] for one in (model, narrow)))


def test_argmax_counts_the_rows_with_another_largest_feature(rng):
    spec = random_spec(rng, "gru", 3, 4, gain=4)
    model, narrow = models(spec, L.Pool(4, "last"), L.Dense(floats(rng, 5, 4)))
    x = 2 * floats(rng, 9, 200, 3)
    found = gc.compare(model, narrow, x)
    y, narrow_y = model(x)[0], narrow(x)[0]
    assert 0 < found.argmax_changed == np.mean(y.argmax(1) != narrow_y.argmax(1)) < 1


def test_one_feature_has_no_argmax(rng):
    model, narrow = models(random_spec(rng, "gru", 3, 4), L.Dense(floats(rng, 1, 4)))
    assert gc.compare(model, narrow, floats(rng, 5, 2, 3)).argmax_changed is None


def test_an_argmax_of_two_results_changes_with_either(rng):
    model, narrow = models(random_spec(rng, "gru", 3, 4, bidirectional=True, gain=4), L.Split(8))
    x = floats(rng, 30, 5, 3)
    (a, b), (narrow_a, narrow_b) = model(x)[0], narrow(x)[0]
    changed = (a.argmax(-1) != narrow_a.argmax(-1)) | (b.argmax(-1) != narrow_b.argmax(-1))
    found = gc.compare(model, narrow, x)
    assert 0 < found.argmax_changed == changed.mean()
    assert found.output == error(np.concatenate([a, b], -1), np.concatenate([narrow_a, narrow_b], -1))


# Forms of arrays


def figures(found):
    return (found.output, found.rows, found.argmax_changed, [(one.error, one.own, one.growth) for one in found.layers])


def test_batch_first_gives_the_same_figures(rng):
    layers = [random_spec(rng, "lstm", 3, 4, bidirectional=True), random_spec(rng, "gru", 8, 5)]
    x, mask, h, c = floats(rng, 6, 4, 3), rng.random((6, 4)) < 0.7, floats(rng, 2, 4, 4), floats(rng, 2, 4, 4)
    state = ((h, c), floats(rng, 1, 4, 5))
    expected = gc.compare(*models(*layers), x, mask=mask, state=state)
    by_row = models(*(replace(layer, batch_first=True) for layer in layers))
    assert figures(gc.compare(*by_row, x.swapaxes(0, 1), mask=mask.T, state=state)) == figures(expected)


@pytest.mark.parametrize("batch_first", [False, True])
def test_one_sequence_needs_no_batch(rng, batch_first):
    pair = models(random_spec(rng, "lstm", 3, 4, batch_first=batch_first), L.Dense(floats(rng, 2, 4)))
    x, mask, h, c = floats(rng, 6, 3), rng.random(6) < 0.7, floats(rng, 1, 4), floats(rng, 1, 4)
    axis = 0 if batch_first else 1
    expected = gc.compare(
        *pair, np.expand_dims(x, axis), mask=np.expand_dims(mask, axis), state=(h[:, None], c[:, None])
    )
    assert figures(gc.compare(*pair, x, mask=mask, state=(h, c))) == figures(expected)


@pytest.mark.parametrize("x", [np.ones((4, 3), np.float32), np.ones(3, np.float32)])
def test_vectors_in_and_out(rng, x):
    model, narrow = models(L.Dense(floats(rng, 4, 3)), L.Repeat(4, 5), random_spec(rng, "gru", 4, 6), L.Pool(6, "last"))
    found = gc.compare(model, narrow, x)
    assert found.rows == (4 if x.ndim == 2 else 1)
    assert found.output == error(model(x)[0], narrow(x)[0])
    assert found.layers[0].steps.size == 5


@pytest.mark.parametrize("pool", [[], [L.Pool(4, "max")]])
def test_an_output_without_an_axis_of_features(rng, pool):
    model, narrow = models(random_spec(rng, "gru", 3, 4), *pool, L.Dense(floats(rng, 1, 4)), L.Squeeze())
    x = floats(rng, 6, 4, 3)
    found = gc.compare(model, narrow, x)
    assert found.output == error(model(x)[0], narrow(x)[0])
    assert found.rows == (4 if pool else 24)


# Special values


def test_a_model_beside_itself_is_without_errors(rng):
    layers = [random_spec(rng, "lstm", 3, 4, num_layers=2, bidirectional=True), L.Dense(floats(rng, 3, 8))]
    x = floats(rng, 6, 4, 3)
    x[2, 1, 0] = np.nan
    found = gc.compare(gc.Model(layers), gc.Model(layers), x)
    assert found.output == (0, 0)
    assert found.argmax_changed == 0
    for one in found.layers:
        assert one.error == one.own == (0, 0)
        assert not one.drift.any()
        assert one.growth == 1
        assert not one.grows


def test_a_nan_of_one_model_only_is_an_infinite_error(rng):
    spec = random_spec(rng, "gru", 3, 4)
    broken = replace(spec, weights=spec.weights | {"bias_ih_l0": np.full(12, np.nan, np.float32)})
    found = gc.compare(gc.Model([spec]), gc.Model([broken]), floats(rng, 5, 2, 3))
    assert found.output == (np.inf, np.inf)


def test_an_error_where_the_reference_is_zero_is_infinite(rng):
    spec = random_spec(rng, "gru", 3, 4)
    silent = replace(spec, weights={name: np.zeros_like(weight) for name, weight in spec.weights.items()})
    (layer,) = gc.compare(gc.Model([silent]), gc.Model([spec]), floats(rng, 5, 2, 3)).layers
    assert layer.error.relative == np.inf
    assert 0 < layer.error.largest < 1


# Wrong arguments


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": 5}, "narrow: expected gru 3 -> 4 as layer 0, got gru 3 -> 5"),
        ({"cell": "lstm"}, "narrow: expected gru 3 -> 4 as layer 0, got lstm 3 -> 4"),
        ({"bidirectional": True}, "narrow: expected gru 3 -> 4 as layer 0, got gru 3 -> 4, bidirectional"),
        ({"batch_first": True}, "narrow: expected gru 3 -> 4 as layer 0, got gru 3 -> 4, batch_first"),
        ({"num_layers": 2}, "narrow: expected gru 3 -> 4 as layer 0, got gru 3 -> 4, 2 layers"),
    ],
)
def test_other_sizes_are_refused(rng, change, message):
    options = {"cell": "gru", "hidden_size": 4} | change
    other = random_spec(rng, options.pop("cell"), 3, options.pop("hidden_size"), **options)
    with pytest.raises(ValueError, match=f"^{message}$"):
        gc.compare(gc.Model([random_spec(rng, "gru", 3, 4)]), gc.Model([other]), floats(rng, 5, 2, 3))


def test_other_plain_layers_are_refused(rng):
    spec = random_spec(rng, "gru", 3, 4)
    x = floats(rng, 5, 2, 3)
    wide, pooled = [spec, L.Dense(floats(rng, 2, 4))], [spec, L.Pool(4, "last")]
    with pytest.raises(ValueError, match=r"^narrow: expected Dense 4 -> 2 as layer 1, got Pool 4 -> 4$"):
        gc.compare(gc.Model(wide), gc.Model(pooled), x)
    with pytest.raises(ValueError, match=r"^narrow: expected 2 layers, got 1$"):
        gc.compare(gc.Model(wide), gc.Model([spec]), x)
    steps = [[*pooled, L.Repeat(4, count)] for count in (2, 3)]
    with pytest.raises(
        ValueError, match=r"^narrow: expected Repeat 4 -> 4, steps 2 as layer 2, got Repeat 4 -> 4, steps 3$"
    ):
        gc.compare(*map(gc.Model, steps), x)


def test_what_a_call_refuses_is_refused(rng):
    pair = models(random_spec(rng, "gru", 3, 4))
    x = floats(rng, 5, 2, 3)
    with pytest.raises(ValueError, match=r"x: expected \(T, N, 3\) or \(T, 3\), got \(5, 2, 2\)"):
        gc.compare(*pair, x[..., :2])
    with pytest.raises(ValueError, match=r"lengths: expected \(2,\), got \(3,\)"):
        gc.compare(*pair, x, lengths=[1, 2, 3])
    with pytest.raises(TypeError, match="mask: expected bool"):
        gc.compare(*pair, x, mask=np.ones((5, 2)))
    with pytest.raises(ValueError, match="h0: expected"):
        gc.compare(*pair, x, state=np.zeros((1, 3, 4)))
    with pytest.raises(TypeError, match="narrow: expected a Model, got str"):
        gc.compare(pair[0], "bfloat16", x)


@pytest.mark.parametrize(
    ("shape", "lengths"), [((0, 2, 3), None), ((5, 0, 3), None), ((5, 2, 3), [0, 0])], ids=["T", "N", "lengths"]
)
def test_nothing_to_compare_is_an_error(rng, shape, lengths):
    with pytest.raises(ValueError, match="x: expected at least one step that counts, got none"):
        gc.compare(*models(random_spec(rng, "gru", 3, 4)), np.zeros(shape, np.float32), lengths=lengths)


def test_packed_sequences_are_refused(rng):
    torch = pytest.importorskip("torch")
    x = torch.nn.utils.rnn.pack_padded_sequence(torch.zeros(5, 2, 3), [5, 2])
    with pytest.raises(TypeError, match="x: expected an array and lengths, got a PackedSequence"):
        gc.compare(*models(random_spec(rng, "gru", 3, 4)), x)


# Table and picture


def test_prints_a_table_with_every_figure(rng):
    model, narrow = models(
        random_spec(rng, "lstm", 3, 4, bidirectional=True, name="en\x1bcoder"), L.Dense(floats(rng, 3, 8))
    )
    found = gc.compare(model, narrow, floats(rng, 6, 4, 3))
    title, header, forward, reverse, y, argmax, verdict = str(found).splitlines()
    assert title == "float32 beside float32"
    assert header.split("  ")[0] == "layer"
    assert forward.split()[:2] == [r"en\x1bcoder", "forward"]
    for row, one in ((forward, found.layers[0]), (reverse, found.layers[1])):
        assert row.split()[2:] == [f"{value:.2g}" for value in (*one.error, *one.own, one.growth)]
    assert y.split() == ["y", *(f"{value:.2g}" for value in found.output)]
    assert argmax.startswith("argmax of y: another in ")
    assert "of 24" in argmax
    assert verdict.startswith("error over time: ")
    assert {line.rindex(line.split()[-1]) + len(line.split()[-1]) for line in (header, forward, reverse)} == {
        len(header)
    }


def test_plots_into_a_file(rng, tmp_path):
    pytest.importorskip("matplotlib")
    found = gc.compare(*models(random_spec(rng, "gru", 3, 4)), floats(rng, 6, 4, 3))
    found.plot(tmp_path / "drift.png")
    assert (tmp_path / "drift.png").read_bytes().startswith(b"\x89PNG")


def test_plots_drift_and_errors_into_axes(rng):
    pytest.importorskip("matplotlib")
    found = gc.compare(*models(random_spec(rng, "gru", 3, 4, num_layers=2)), floats(rng, 6, 4, 3))
    figure = found.plot()
    over_time, of_layers = figure.axes
    for line, one in zip(over_time.lines, found.layers, strict=True):
        np.testing.assert_array_equal(line.get_ydata(), one.drift)
        assert line.get_label() == one.label
    built_up, own = of_layers.lines
    np.testing.assert_array_equal(built_up.get_xdata(), [one.error.relative for one in found.layers])
    np.testing.assert_array_equal(own.get_xdata(), [one.own.relative for one in found.layers])
    assert (over_time.get_yscale(), of_layers.get_xscale()) == ("log", "log")
    assert found.plot(figure.subplots(2)) is figure


@pytest.mark.parametrize("name", ["_hidden", "$^{$"])
def test_names_are_drawn_as_they_are(rng, tmp_path, recwarn, name):
    pytest.importorskip("matplotlib")
    model = gc.Model([random_spec(rng, "gru", 3, 4, name=name)])
    figure = gc.compare(model, model.to("bfloat16"), floats(rng, 4, 1, 3)).plot(tmp_path / "names.svg")
    drift, errors = figure.axes
    shown = [drift.get_legend().get_texts()[0], errors.get_yticklabels()[0]]
    assert [text.get_text().strip().replace(r"\$", "$") for text in shown] == [f"{name} forward"] * 2
    assert not recwarn


def test_no_error_at_all_can_be_plotted(rng, tmp_path):
    pytest.importorskip("matplotlib")
    model = gc.Model([random_spec(rng, "gru", 3, 4)])
    gc.compare(model, model, floats(rng, 1, 4, 3)).plot(tmp_path / "nothing.svg")
    assert (tmp_path / "nothing.svg").stat().st_size


def test_a_picture_without_matplotlib_names_the_pip_line(rng, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    found = gc.compare(*models(random_spec(rng, "gru", 3, 4)), floats(rng, 6, 4, 3))
    with pytest.raises(ImportError, match=r'pip install "gated_c\[plot\]"'):
        found.plot()


def test_a_picture_of_another_kind_is_refused(rng, tmp_path):
    pytest.importorskip("matplotlib")
    found = gc.compare(*models(random_spec(rng, "gru", 3, 4)), floats(rng, 6, 4, 3))
    with pytest.raises(ValueError, match=r"drift.gift: expected a name that ends with .png, .svg or .pdf"):
        found.plot(tmp_path / "drift.gift")
    assert not list(tmp_path.iterdir())
