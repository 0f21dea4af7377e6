"""Learned initial states: weights of a layer, which every sequence and stream starts from."""

import dataclasses
import pickle

import numpy as np
import pytest
from conftest import CELLS, parts, random_spec, random_state, same_bits

import gated_c as gc
from gated_c import layers as L
from gated_c import writers
from gated_c.spec import Activation
from tests import reference
from tests.chains import floats
from tests.test_layers import error
from tests.test_reset import learned_state, with_initial_state


def random_learned(rng, cell, input_size=3, hidden_size=6, **options):
    if cell == "rnn":
        options["activations"] = (Activation.of("tanh"),) * (1 + options.get("bidirectional", False))
    return with_initial_state(rng, random_spec(rng, cell, input_size, hidden_size, **options))


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_call_without_a_state_starts_from_it(cell, bidirectional):
    rng = np.random.default_rng(0)
    spec = random_learned(rng, cell, num_layers=2, bidirectional=bidirectional)
    model = gc.Model([spec])
    x = rng.standard_normal((7, 3, 3)).astype(np.float32)
    y, state = model(x)
    expected_y, *expected = reference.forward(spec, x)
    assert error(y, expected_y) < 1e-6
    given_y, given_state = model(x, learned_state(spec, 3))
    assert same_bits(y, given_y)
    for part, wanted, same in zip(parts(state), expected, parts(given_state), strict=False):
        assert error(part, wanted) < 1e-6
        assert same_bits(part, same)


def test_a_row_without_steps_ends_with_it():
    spec = random_learned(np.random.default_rng(1), "lstm", proj_size=2)
    _, state = gc.Model([spec])(np.zeros((4, 2, 3), np.float32), lengths=[0, 0])
    for part, wanted in zip(state, learned_state(spec, 2), strict=True):
        assert same_bits(part, wanted)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_streams_start_from_it_and_go_back_to_it(cell):
    rng = np.random.default_rng(2)
    spec = random_learned(rng, cell, num_layers=2)
    model = gc.Model([spec, L.Dense(floats(rng, 4, 6))])
    x = rng.standard_normal((6, 3, 3)).astype(np.float32)
    y, _ = model(x)
    stream = model.stream(3)
    assert all(same_bits(a, b) for a, b in zip(parts(stream.state), parts(learned_state(spec, 3)), strict=True))
    assert same_bits(np.stack([stream.step(step).copy() for step in x]), y)
    stream.reset([1])
    again = stream.run(x)
    assert same_bits(again[:, 1], y[:, 1])
    assert not same_bits(again[:, 0], y[:, 0])
    stream.reset()
    assert same_bits(stream.run(x), y)


def test_packed_sequences_start_from_it():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(3)
    spec = random_learned(rng, "lstm")
    model = gc.Model([spec])
    x = rng.standard_normal((5, 2, 3)).astype(np.float32)
    packed = torch.nn.utils.rnn.pack_padded_sequence(torch.from_numpy(x), [5, 2])
    y, state = model(packed)
    wanted_y, wanted = model(x, lengths=[5, 2])
    assert same_bits(torch.nn.utils.rnn.pad_packed_sequence(y)[0].numpy(), wanted_y)
    assert all(same_bits(a.numpy(), b) for a, b in zip(state, wanted, strict=True))


@pytest.mark.parametrize("part", ["initial_h_l1", "initial_c_l0"])
def test_what_is_missing_of_it_is_zeros(part):
    rng = np.random.default_rng(4)
    spec = random_spec(rng, "lstm", 3, 6, num_layers=2)
    spec = dataclasses.replace(spec, weights={**spec.weights, part: floats(rng, 6)})
    model = gc.Model([spec])
    x = rng.standard_normal((4, 2, 3)).astype(np.float32)
    assert same_bits(model(x)[0], model(x, learned_state(spec, 2))[0])
    assert not same_bits(model(x)[0], model(x, tuple(np.zeros_like(p) for p in learned_state(spec, 2)))[0])


def test_it_is_kept_by_our_format_and_by_pickle(tmp_path):
    rng = np.random.default_rng(5)
    model = gc.Model([random_learned(rng, "lstm", bidirectional=True, num_layers=2)])
    x = rng.standard_normal((4, 2, 3)).astype(np.float32)
    model.save(tmp_path / "m.gated", golden=x)
    loaded = gc.load(tmp_path / "m.gated", check=True)
    assert loaded.recurrent[0].has_initial_state
    assert same_bits(loaded(x)[0], model(x)[0])
    assert same_bits(pickle.loads(pickle.dumps(model))(x)[0], model(x)[0])


@pytest.mark.parametrize("cell", ["lstm", "gru", "gru_reset_before", "rnn_tanh"])
@pytest.mark.parametrize("options", [{"num_layers": 2}, {"bidirectional": True, "batch_first": True}])
def test_onnx_files_have_it_as_the_default_of_their_input(tmp_path, cell, options):
    pytest.importorskip("onnxruntime")
    from onnx_models import runtime

    rng = np.random.default_rng(6)
    model = gc.Model([random_learned(rng, cell, **options)])
    x = rng.standard_normal((4, 2, 3)).astype(np.float32)
    writers.write(model.layers, tmp_path / "m.onnx")
    y, _ = model(x)
    assert error(runtime(tmp_path / "m.onnx").run(["Y"], {"X": x})[0], y) < 1e-6
    assert same_bits(gc.load(tmp_path / "m.onnx")(x)[0], y)


@pytest.mark.parametrize("ending", [".safetensors", ".weights.h5"])
def test_files_that_cannot_say_it_are_refused(tmp_path, ending):
    spec = random_learned(np.random.default_rng(7), "gru")
    with pytest.raises(gc.UnsupportedError, match="gru: a learned initial state"):
        writers.write([spec], tmp_path / f"m{ending}")
    assert not spec.in_torch


def test_wrong_ones_are_refused():
    rng = np.random.default_rng(8)
    spec = random_learned(rng, "gru")
    wrong = dataclasses.replace(spec, weights={**spec.weights, "initial_h_l0": floats(rng, 5)})
    with pytest.raises(ValueError, match=r"initial_h_l0: expected \(6,\), got \(5,\)"):
        gc.Model([wrong])
    wrong = dataclasses.replace(spec, weights={**spec.weights, "initial_c_l0": floats(rng, 6)})
    with pytest.raises(ValueError, match="initial_c_l0: unexpected"):
        gc.Model([wrong])
    wrong = dataclasses.replace(spec, weights={**spec.weights, "initial_h_l1": floats(rng, 6)})
    with pytest.raises(ValueError, match="initial_h_l1: unexpected"):
        gc.Model([wrong])


def test_the_state_that_is_given_wins():
    rng = np.random.default_rng(9)
    spec = random_learned(rng, "gru")
    without = dataclasses.replace(spec, weights={k: w for k, w in spec.weights.items() if "initial" not in k})
    h, _ = random_state(rng, spec, 2)
    x = rng.standard_normal((4, 2, 3)).astype(np.float32)
    assert same_bits(gc.Model([spec])(x, h)[0], gc.Model([without])(x, h)[0])
