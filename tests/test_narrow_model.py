"""Models with narrow weights: what they hold, say and refuse."""

import copy
import pickle
from dataclasses import replace

import numpy as np
import pytest
from conftest import random_spec, same_bits

import gated_c as gc
from gated_c import layers as L
from gated_c import writers
from gated_c.narrow import Bfloat16, Int8

KINDS = {"bfloat16": Bfloat16, "int8": Int8}


@pytest.fixture
def model():
    rng = np.random.default_rng(0)
    spec = random_spec(rng, "lstm", 3, 40, num_layers=2, bidirectional=True, proj_size=20)
    dense = L.Dense(rng.standard_normal((2, 40)).astype(np.float32))
    return gc.Model([spec, dense], flush_subnormals=True)


@pytest.fixture
def x():
    return np.random.default_rng(1).standard_normal((5, 2, 3)).astype(np.float32)


def is_matrix(name):
    return name.startswith(("weight_ih", "weight_hh", "weight_hr"))


@pytest.mark.parametrize("dtype", KINDS)
def test_matrices_of_recurrent_layers_are_rounded_and_nothing_else(model, dtype):
    narrow = model.to(dtype)
    for name, weight in model.layers[0].weights.items():
        expected = KINDS[dtype].of(weight).expanded() if is_matrix(name) else weight
        assert same_bits(narrow.layers[0].weights[name], expected)
    assert narrow.layers[1] is model.layers[1]
    assert (narrow.dtype, narrow.arithmetic, narrow.flush_subnormals) == (dtype, "float32", True)
    assert narrow.num_parameters == model.num_parameters


@pytest.mark.parametrize("isa", [isa.name for isa in gc.cpu_info().isas if isa.usable and isa.exact])
def test_bfloat16_has_the_bits_of_float32_with_its_weights(model, x, isa, monkeypatch):
    monkeypatch.setenv("GATED_C_ISA", isa)
    narrow = model.to("bfloat16")
    wide = gc.Model(narrow.to("float32").layers, flush_subnormals=True)
    (y, state), (expected, final) = narrow(x), wide(x)
    for got, wanted in zip((y, *state), (expected, *final), strict=True):
        assert same_bits(got, wanted)


@pytest.mark.parametrize(("inputs", "kind"), [(None, Int8), ("float32", np.ndarray), ("bfloat16", Bfloat16)])
def test_inputs_have_a_dtype_of_their_own(model, inputs, kind):
    narrow = model.to("int8", inputs=inputs)
    kept = narrow.layers[0].weights.stored
    assert {type(weight) for name, weight in kept.items() if name.startswith("weight_ih")} == {kind}
    assert {type(weight) for name, weight in kept.items() if name.startswith("weight_hh")} == {Int8}
    assert narrow.inputs == (inputs or "int8")


def test_a_narrow_model_goes_on_from_what_it_was_rounded_to(model, x):
    narrow = model.to("int8")
    wide = narrow.to("float32")
    assert (wide.dtype, type(wide.layers[0].weights)) == ("float32", dict)
    again = narrow.to("bfloat16")
    for name in filter(is_matrix, wide.layers[0].weights):
        assert same_bits(wide.layers[0].weights[name], narrow.layers[0].weights[name])
        expected = Bfloat16.of(narrow.layers[0].weights[name]).expanded()
        assert same_bits(again.layers[0].weights[name], expected)
    assert same_bits(wide.to("int8")(x)[0], narrow(x)[0])


def test_nothing_to_do_is_the_same_model(model):
    assert model.to("float32") is model
    narrow = model.to("int8")
    assert narrow.to("int8") is narrow
    assert narrow.to("int8", inputs="float32") is not narrow


def test_layers_are_rounded_by_the_constructor_too(model, x):
    options = {"dtype": "int8", "inputs": "bfloat16", "flush_subnormals": True}
    assert same_bits(gc.Model(model.layers, **options)(x)[0], model.to("int8", inputs="bfloat16")(x)[0])


def test_it_says_what_it_is(model):
    assert repr(model).replace(" on ", " in int8 with float32 inputs on ") == repr(model.to("int8", inputs="float32"))
    assert " in bfloat16 with bfloat16 arithmetic on " in repr(model.to("bfloat16", arithmetic="bfloat16"))


@pytest.mark.parametrize(
    "words", [{"dtype": "fp16"}, {"dtype": "int8", "arithmetic": "bfloat16"}, {"dtype": "bfloat16", "inputs": "int8"}]
)
def test_what_does_not_exist_is_refused(model, words):
    with pytest.raises(ValueError, match=r": expected .*, got '"):
        model.to(**words)
    with pytest.raises(ValueError, match=r": expected .*, got '"):
        gc.Model(model.layers, **words)


@pytest.mark.parametrize("options", [{"dtype": "bfloat16"}, {"dtype": "int8", "inputs": "float32"}])
def test_it_is_pickled_narrow(model, x, options):
    narrow = model.to(**options)
    assert len(pickle.dumps(narrow)) < 0.9 * len(pickle.dumps(model))
    for other in (pickle.loads(pickle.dumps(narrow)), copy.deepcopy(narrow)):
        assert same_bits(other(x)[0], narrow(x)[0])
        assert repr(other) == repr(narrow)
        assert other.layers[0].weights.stored.keys() == narrow.layers[0].weights.stored.keys()


def test_other_formats_get_the_numbers_it_was_rounded_to(model, tmp_path):
    narrow = gc.Model([model.layers[0]], dtype="int8")
    writers.write(narrow.layers, tmp_path / "m.safetensors")
    written = gc.load(tmp_path / "m.safetensors").layers[0].weights
    assert all(same_bits(written[name], weight) for name, weight in narrow.layers[0].weights.items())


@pytest.mark.parametrize("h_limit", [(1.0,), (1.0, -1.0, 0.5, 0.5), (np.nan, 0, 0, 0), (np.inf, 0, 0, 0)])
def test_limits_without_sense_are_refused(model, h_limit):
    spec = model.layers[0]
    with pytest.raises(ValueError, match="h_limit: expected "):
        replace(spec, h_limit=h_limit).validate()
