"""Golden vectors: recorded with a model, replayed after loading."""

import numpy as np
import pytest
from conftest import EXACT, USABLE, random_spec

import gated_c as gc
from gated_c import golden
from gated_c.layers import Dense, Embedding, Pool, Split, Squeeze
from gated_c.loaders import native


def spec(cell="lstm", input_size=3, hidden_size=4, **options):
    return random_spec(np.random.default_rng(0), cell, input_size, hidden_size, **options)


def random(*shape):
    return np.random.default_rng(1).standard_normal(shape, np.float32)


MODELS = {
    "lstm": ([spec()], random(5, 2, 3)),
    "unbatched": ([spec("gru", batch_first=True)], random(5, 3)),
    "two recurrent": ([spec(), spec("gru", 4, 5, num_layers=2)], random(5, 2, 3)),
    "ids": ([Embedding(random(9, 3)), spec()], np.array([[8, 0], [1, 2], [3, 4]])),
    "pooled": ([spec(), Pool(4, "mean")], random(5, 2, 3)),
    "two results": ([spec(bidirectional=True), Split(8)], random(5, 2, 3)),
    "squeezed": ([spec(), Dense(random(1, 4)), Squeeze()], random(5, 2, 3)),
    "no steps": ([spec()], random(0, 2, 3)),
}


@pytest.mark.parametrize("name", MODELS)
def test_what_was_recorded_is_computed_again(name):
    layers, x = MODELS[name]
    model = gc.Model(layers)
    arrays = golden.record(model, x)
    assert all(key.startswith(golden.PREFIX) and array.dtype == np.float32 for key, array in arrays.items())
    golden.replay(gc.Model(layers), arrays)


@pytest.mark.parametrize("name", ["golden.y", "golden.state.0", "golden.state.1"])
def test_one_bit_of_a_result_is_enough_and_named(name):
    model = gc.Model([spec()])
    arrays = golden.record(model, random(5, 2, 3))
    arrays[name].view(np.uint32).flat[0] ^= 1
    if model.isa in EXACT:
        with pytest.raises(gc.FormatError, match=rf"{name}: 1 of \d+ values are not what they were, by up to "):
            golden.replay(model, arrays)
    else:
        golden.replay(model, arrays)


@pytest.mark.parametrize("recorded_on", USABLE)
def test_vectors_hold_on_every_instruction_set(isa, recorded_on, monkeypatch):
    monkeypatch.setenv("GATED_C_ISA", recorded_on)
    arrays = golden.record(gc.Model([spec(hidden_size=33)]), random(20, 2, 3))
    monkeypatch.setenv("GATED_C_ISA", isa)
    golden.replay(gc.Model([spec(hidden_size=33)]), arrays)


def test_vectors_of_an_inexact_instruction_set_allow_rounding_and_no_more():
    model = gc.Model([spec()])
    arrays = golden.record(model, random(5, 2, 3)) | {"golden.exact": np.zeros(1, np.float32)}
    arrays["golden.y"][0, 0, 0] += 2.0**-22
    golden.replay(model, arrays)
    arrays["golden.y"][0, 0, 0] += 1e-4
    with pytest.raises(gc.FormatError, match=r"golden.y: 1 of 40 values .* by up to 0.0001, at most "):
        golden.replay(model, arrays)


def test_another_model_is_noticed():
    arrays = golden.record(gc.Model([spec()]), random(5, 2, 3))
    with pytest.raises(gc.FormatError, match=r"golden.y: 40 of 40 values are not what they were"):
        golden.replay(gc.Model([spec(gain=0.5)]), arrays)


def test_nan_is_nan_whatever_its_bits():
    x = random(5, 2, 3)
    x[2, 0] = np.nan
    model = gc.Model([spec()])
    arrays = golden.record(model, x)
    arrays["golden.y"].view(np.uint32)[np.isnan(arrays["golden.y"])] ^= 1
    golden.replay(model, arrays)
    arrays["golden.y"][4, 0, 0] = 0
    with pytest.raises(gc.FormatError, match=r"golden.y: 1 of"):
        golden.replay(model, arrays)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"golden.x": None}, "golden.x: missing"),
        ({"golden.exact": None}, "golden.exact: missing"),
        ({"golden.y": None}, "golden.y: missing"),
        ({"golden.state.1": None}, r"expected golden.y, golden.state.0, golden.state.1 of this model, got golden.y"),
        ({"golden.more": random(1)}, "expected golden.y, golden.state.0, golden.state.1 of .*golden.more"),
        ({"golden.x": random(5, 2, 7)}, r"golden vectors do not fit the model: x: expected \(T, N, 3\)"),
        ({"golden.y": random(5, 2, 7)}, r"golden vectors do not fit the model: out: expected \(5, 2, 4\)"),
        ({"golden.state.0": random(1, 2, 7)}, r"golden.state.0: expected \(1, 2, 4\) of this model, got \(1, 2, 7\)"),
    ],
)
def test_vectors_that_do_not_fit_are_a_format_error(change, message):
    model = gc.Model([spec()])
    arrays = golden.record(model, random(5, 2, 3)) | change
    arrays = {name: array for name, array in arrays.items() if array is not None}
    with pytest.raises(gc.FormatError, match=message):
        golden.replay(model, arrays)


@pytest.mark.parametrize("wrong", [9.0, -1.0, np.nan, 1e30])
def test_ids_that_are_none_are_a_format_error(wrong):
    layers, x = MODELS["ids"]
    model = gc.Model(layers)
    arrays = golden.record(model, x)
    arrays["golden.x"][0, 0] = wrong
    with pytest.raises(gc.FormatError, match="golden vectors do not fit the model"):
        golden.replay(model, arrays)


def test_a_small_file_cannot_ask_for_a_large_result():
    """x is small, but what the model would make of it is not: the recorded y must have its size."""
    model = gc.Model([spec(input_size=1, hidden_size=4)])
    arrays = golden.record(model, random(5, 2, 1))
    arrays["golden.x"] = np.broadcast_to(np.float32(0), (10**6, 10**6, 1))
    with pytest.raises(gc.FormatError, match="out: expected"):
        golden.replay(model, arrays)


@pytest.mark.parametrize("name", MODELS)
def test_a_file_with_golden_vectors_can_be_checked_while_loading(tmp_path, name):
    layers, x = MODELS[name]
    gc.Model(layers).save(tmp_path / "m.gated", golden=x)
    gc.load(tmp_path / "m.gated", check=True)


def test_a_file_whose_weights_are_not_those_of_its_vectors_is_a_format_error(tmp_path):
    model = gc.Model([spec()])
    other = gc.Model([random_spec(np.random.default_rng(5), "lstm", 3, 4)])
    native.save(other.layers, tmp_path / "m.gated", golden.record(model, random(5, 2, 3)))
    gc.load(tmp_path / "m.gated")
    with pytest.raises(gc.FormatError, match=r"m\.gated: golden\.y: 40 of 40 values are not what they were"):
        gc.load(tmp_path / "m.gated", check=True)


def test_a_file_without_vectors_cannot_be_checked(tmp_path):
    gc.Model([spec()]).save(tmp_path / "m.gated")
    with pytest.raises(gc.UnsupportedError, match=r"m\.gated: no golden vectors in it"):
        gc.load(tmp_path / "m.gated", check=True)
    with pytest.raises(ValueError, match="check: expected False with a prefix"):
        gc.load(tmp_path / "m.gated", check=True, prefix="")


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_the_layout_that_is_asked_for_is_not_checked(tmp_path, name, batch_first):
    """Vectors are in that of the file."""
    layers, x = MODELS[name]
    gc.Model(layers).save(tmp_path / "m.gated", golden=x)
    assert gc.load(tmp_path / "m.gated", batch_first=batch_first, check=True).batch_first is batch_first
