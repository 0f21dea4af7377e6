"""Bounds of h from data."""

import subprocess
from dataclasses import replace

import numpy as np
import pytest
from conftest import CELLS, parts, random_spec, same_bits
from gated_models import gated_models, input_of

import gated_c as gc
from gated_c import layers as L
from gated_c.calibration import MARGIN, calibrated
from gated_c.spec import Activation

T, N, C = 6, 3, 4


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def spec_of(rng, cell, **options):
    if cell == "rnn":
        options["activations"] = (Activation.of("elu"),) * (1 + options.get("bidirectional", False))
    return random_spec(rng, cell, C, 8, **options)


@pytest.mark.parametrize("cell", CELLS)
def test_the_limit_is_a_little_more_than_the_largest_h(rng, cell):
    model = gc.Model([spec_of(rng, cell, gain=0.5)])
    xs = [rng.standard_normal((T, N, C)).astype(np.float32) for _ in range(3)]
    narrow = model.to("int8", calibrate=xs)
    largest = max(np.abs(model(x)[0]).max() for x in xs)
    assert narrow.layers[0].h_limit == (pytest.approx(MARGIN * largest, rel=1e-6),)
    assert model.layers[0].h_limit == ()
    assert calibrated(model.layers, xs[0])[0].h_limit <= narrow.layers[0].h_limit


def test_every_direction_of_every_layer_has_its_own(rng):
    spec = spec_of(rng, "lstm", num_layers=2, bidirectional=True, proj_size=3)
    model, x = gc.Model([spec]), 3 * rng.standard_normal((T, N, C)).astype(np.float32)
    _, _, trace = model(x, trace=("c", "gates"))
    o, h = trace["gates"][..., 3, :], []
    for at, suffix in enumerate(("_l0", "_l0_reverse", "_l1", "_l1_reverse")):
        h.append(np.abs((o[at] * np.tanh(trace["c"][at])) @ spec.weights["weight_hr" + suffix].T).max())
    assert model.to("int8", calibrate=x).layers[0].h_limit == pytest.approx([MARGIN * limit for limit in h], rel=1e-5)


def test_h_that_is_bounded_needs_no_more_than_its_bound(rng):
    x = 100 * rng.standard_normal((T, N, C))
    assert gc.Model([spec_of(rng, "rnn_tanh", gain=50)]).to("int8", calibrate=x).layers[0].h_limit == (1,)
    assert gc.Model([spec_of(rng, "rnn_relu", gain=5)]).to("int8", calibrate=x).layers[0].h_limit[0] > 1


@pytest.mark.parametrize("name", ["repeat", "reshape", "embedding", "masked_repeat", "conv", "split", "gru_initial_h"])
def test_layers_around_are_run_too(name):
    model = gated_models()[name]
    x = input_of(model, 3, 2)
    x = x[0] if model.takes == "vector" else x[..., 0] if model.takes == "ids" else x
    for spec in model.to("int8", calibrate=x).recurrent:
        assert len(spec.h_limit) == spec.num_layers * spec.num_directions
        assert all(0 < limit <= 1 for limit in spec.h_limit) or spec.cell == "rnn_relu"


def test_a_learned_initial_state_is_within_the_limit(rng):
    spec = spec_of(rng, "gru", bidirectional=True)
    weights = {**spec.weights, "initial_h_l0_reverse": np.full(8, -0.9, np.float32)}
    limits = calibrated([replace(spec, weights=weights)], np.zeros((1, 1, C)))[0].h_limit
    assert limits[0] < 0.8
    assert limits[1] == pytest.approx(0.9 * MARGIN)


def test_a_narrow_model_is_calibrated_with_the_numbers_it_has(rng):
    model = gc.Model([spec_of(rng, "gru", batch_first=True)], dtype="bfloat16")
    x = rng.standard_normal((N, T, C))
    limit = np.abs(model(x)[0]).max()
    assert model.to("int8", calibrate=x).layers[0].h_limit == (pytest.approx(MARGIN * limit, rel=1e-6),)


def test_what_cannot_be_calibrated_with_is_refused(rng):
    model = gc.Model([spec_of(rng, "rnn_relu", name="encoder")])
    with pytest.raises(ValueError, match="calibrate: expected None with bfloat16, got ndarray"):
        model.to("bfloat16", calibrate=np.zeros((T, N, C)))
    with pytest.raises(ValueError, match="calibrate: expected an input or a list of them, got none"):
        model.to("int8", calibrate=[])
    with pytest.raises(ValueError, match="calibrate: expected an input on which h is finite, got nan in encoder"):
        model.to("int8", calibrate=np.full((T, N, C), np.nan))
    with pytest.raises(ValueError, match=r"x: expected \(T, N, 4\) or \(T, 4\), got \(6, 3, 5\)"):
        model.to("int8", calibrate=np.zeros((T, N, C + 1)))

    for x in (np.zeros((0, N, C)), np.zeros((T, 0, C))):
        with pytest.raises(ValueError, match="calibrate: expected at least one step, got none"):
            model.to("int8", calibrate=x)


@pytest.mark.parametrize("many", [False, True])
def test_packed_sequences_are_inputs_like_others(rng, many):
    torch = pytest.importorskip("torch")
    model, x, lengths = gc.Model([spec_of(rng, "gru", num_layers=2)]), rng.standard_normal((T, N, C)), [T, 4, 1]
    packed = torch.nn.utils.rnn.pack_padded_sequence(torch.tensor(x), lengths)
    narrow = model.to("int8", calibrate=[packed, packed] if many else packed)
    h = np.abs(model(x, lengths=lengths)[0]).max()
    assert narrow.layers[0].h_limit[1] == pytest.approx(MARGIN * h, rel=1e-6)


def test_a_limit_is_a_number_of_float32(rng):
    spec = spec_of(rng, "rnn_relu")
    weights = {name: np.zeros_like(weight) for name, weight in spec.weights.items()}
    weights["bias_ih_l0"][:] = 3.4e38
    model = gc.Model([replace(spec, weights=weights)])
    assert model.to("int8", calibrate=np.zeros((T, N, C))).layers[0].h_limit == (np.finfo(np.float32).max,)


def test_files_keep_limits_with_the_same_bits(rng, tmp_path, program):
    x = rng.standard_normal((T, N, C)).astype(np.float32)
    spec = spec_of(rng, "lstm", num_layers=2, bidirectional=True, proj_size=3)
    model = gc.Model([spec, L.Dense(np.ones((1, 6), np.float32))]).to("int8", calibrate=x)
    model.save(tmp_path / "m.gated", golden=x)
    loaded = gc.load(tmp_path / "m.gated", check=True)
    assert loaded.layers[0].h_limit == model.layers[0].h_limit
    command = [program, "run", tmp_path / "m.gated", str(T), str(N)]
    done = subprocess.run(command, input=x.tobytes(), capture_output=True, check=True)
    y, state = model(x)
    expected = np.concatenate([part.ravel() for part in (y, *parts(state))])
    assert same_bits(np.frombuffer(done.stdout, np.float32), expected)
