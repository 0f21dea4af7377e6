"""Models whose weights are packed in a narrow format."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import reference
from conftest import TORCH_CELLS, USABLE, parts, random_spec, random_state, same_bits, state_of

import gated_c as gc
from gated_c._core import Engine
from gated_c.layers import Conv, Dense
from gated_c.spec import Activation
from gated_c.tolerance import tolerance

#: Flags of gated_c.h.
BFLOAT16, BFLOAT16_DOT = 2, 4

SEQ_LEN, BATCH = 40, 9

#: Odd and even lengths of both products, one block and several, input products computed ahead.
SHAPES = [(1, 1), (2, 3), (1, 8), (3, 16), (5, 33), (64, 64), (61, 51), (130, 129)]

OPTIONS = {
    "plain": {},
    "projected": {"proj_size": 7, "num_layers": 2},
    "bidirectional": {"num_layers": 2, "bidirectional": True},
}

ACTIVE = (Activation.of("hard_sigmoid"), Activation.of("softplus"), Activation.of("gelu"))

#: Beyond PyTorch's cells.
GENERAL = {
    "lstm": {"activations": ACTIVE, "clip": 0.9, "peepholes": True},
    "gru": {"activations": ACTIVE[:2], "num_layers": 2},
    "gru_reset_before": {"num_layers": 2},
    "rnn": {"activations": (Activation.of("mish"),)},
}


def narrow(layers, flags):
    model = gc.Model(layers)
    model._engine = Engine(model.layers, flags)
    return model


def to_bfloat16(array):
    """The nearest bfloat16, ties to even, as float32."""
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32).astype(np.uint64)
    rounded = (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000
    return rounded.astype(np.uint32).view(np.float32).reshape(array.shape)


def rounded(spec):
    """Weights of products on the grid of bfloat16, everything else as it is."""
    products = ("weight_ih", "weight_hh", "weight_hr")
    weights = {name: to_bfloat16(array) if name.startswith(products) else array for name, array in spec.weights.items()}
    return dataclasses.replace(spec, weights=weights)


def cases():
    for cell, options in GENERAL.items():
        for shape in [(3, 8), (5, 33), (60, 101)]:
            yield pytest.param(cell, shape, options, id=f"{cell}-{shape[0]}x{shape[1]}-general")
    for cell in TORCH_CELLS:
        for name, options in OPTIONS.items():
            if "proj_size" in options and cell != "lstm":
                continue
            for shape in SHAPES if name == "plain" else [(3, 8), (61, 51)]:
                yield pytest.param(cell, shape, options, id=f"{cell}-{shape[0]}x{shape[1]}-{name}")


def results(model, x, initial):
    """Arrays of everything that runs rows in its own way."""
    yield from run(model, x, initial())
    yield from run(model, x[:, :1], initial([0]))
    for batch in (2, 5):
        yield from run(model, x[:, :batch], initial(slice(batch)))
    lengths = np.random.default_rng(0).integers(0, len(x) + 1, x.shape[1])
    yield from run(model, x, initial(), lengths=lengths)
    if model.bidirectional:
        return
    stream = model.stream(x.shape[1])
    stream.state = initial()
    yield np.stack([stream.step(step).copy() for step in x[:5]])
    yield from parts(stream.state)
    pool = model.pool(4)
    members = [pool.open() for _ in range(4)]
    for t, step in enumerate(x[:9]):
        ticking = slice(1 + t % 4)
        yield pool.step(members[ticking], step[ticking]).copy()


def run(model, *args, **options):
    y, state = model(*args, **options)
    return y, *parts(state)


@pytest.mark.parametrize(("cell", "shape", "options"), list(cases()))
def test_bfloat16_gives_the_bits_of_float32_with_rounded_weights(isa, cell, shape, options):
    rng = np.random.default_rng(shape[1])
    spec = random_spec(rng, cell, *shape, gain=1.5, **options)
    h, c = random_state(rng, spec, BATCH)
    x = rng.standard_normal((SEQ_LEN, BATCH, spec.input_size)).astype(np.float32)
    x[5, 2] *= 1e-40  # subnormals
    x[9, 3] = 1e30  # saturation

    def initial(rows=slice(None)):
        return state_of(spec, h[:, rows], c[:, rows])

    expected = results(gc.Model([rounded(spec)]), x, initial)
    for got, right in zip(results(narrow([spec], BFLOAT16), x, initial), expected, strict=True):
        assert same_bits(got, right)


def test_bfloat16_rounds_to_nearest_even_and_keeps_nan(isa):
    values = np.float32([1, 1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20, -3e38, 3.4e38, 1e-40, np.inf, 0.1])
    weights = {"weight_ih_l0": values[:, None], "weight_hh_l0": np.zeros((9, 9), np.float32)}
    model = narrow([gc.LayerSpec("rnn_relu", 1, 9, bias=False, weights=weights)], BFLOAT16)
    assert same_bits(model(np.float32([[1]]))[0][0], np.maximum(to_bfloat16(values), 0))
    nan = np.uint32(0x7F800001).view(np.float32)  # only its last bit says so
    weights["weight_ih_l0"] = np.full((9, 1), nan)
    model = narrow([gc.LayerSpec("rnn_relu", 1, 9, bias=False, weights=weights)], BFLOAT16)
    assert np.isnan(model(np.float32([[1]]))[0]).all()


def test_layers_without_recurrence_stay_float32(isa):
    rng = np.random.default_rng(0)
    conv = Conv(rng.standard_normal((5, 3, 4)).astype(np.float32))
    dense = Dense(rng.standard_normal((6, 5)).astype(np.float32))
    spec = random_spec(rng, "gru", 6, 7)
    x = rng.standard_normal((7, 2, 4)).astype(np.float32)
    y, _ = narrow([conv, dense, spec, Dense(np.eye(7, dtype=np.float32) / 3)], BFLOAT16)(x)
    expected, _ = gc.Model([conv, dense, rounded(spec), Dense(np.eye(7, dtype=np.float32) / 3)])(x)
    assert same_bits(y, expected)


def test_bfloat16_halves_the_memory_of_weights():
    spec = random_spec(np.random.default_rng(0), "lstm", 256, 256)
    assert narrow([spec], BFLOAT16).packed_bytes < 0.51 * gc.Model([spec]).packed_bytes


def test_a_trace_of_bfloat16_is_that_of_rounded_weights(isa):
    spec = random_spec(np.random.default_rng(0), "gru_reset_before", 5, 21, num_layers=2)
    x = np.random.default_rng(1).standard_normal((9, 3, 5)).astype(np.float32)
    models = narrow([spec], BFLOAT16), gc.Model([rounded(spec)])
    got, expected = (model(x, trace=["gates"])[2]["gates"] for model in models)
    assert same_bits(got, expected)


def test_packed_weights_make_the_same_model(isa):
    spec = random_spec(np.random.default_rng(0), "lstm", 5, 21, proj_size=3)
    model = narrow([spec], BFLOAT16)
    packed = model._engine.packed.copy()
    again = gc.Model([spec])
    place = np.empty(packed.size + 16, np.float32)
    start = -place.ctypes.data // 4 % 16
    place[start : start + packed.size] = packed
    again._engine = Engine(again.layers, BFLOAT16, place[start : start + packed.size])
    x = np.random.default_rng(1).standard_normal((9, 3, 5)).astype(np.float32)
    assert same_bits(again(x)[0], model(x)[0])


def has_dot_of_bfloat16():
    try:
        return "avx512_bf16" in Path("/proc/cpuinfo").read_text() and "avx512" in USABLE
    except OSError:
        return False


needs_dot = pytest.mark.skipif(not has_dot_of_bfloat16(), reason="needs a CPU that multiplies bfloat16")


@pytest.fixture
def avx512(monkeypatch):
    monkeypatch.setenv("GATED_C_ISA", "avx512")


@needs_dot
@pytest.mark.parametrize(("cell", "shape", "options"), list(cases()))
def test_dot_products_of_bfloat16_have_the_same_bits_in_any_batch_and_step_by_step(avx512, cell, shape, options):
    rng = np.random.default_rng(shape[1])
    spec = random_spec(rng, cell, *shape, gain=1.5, **options)
    model = narrow([spec], BFLOAT16 | BFLOAT16_DOT)
    h, c = random_state(rng, spec, BATCH)
    x = rng.standard_normal((SEQ_LEN, BATCH, spec.input_size)).astype(np.float32)
    alone = [model(x[:, [n]], state_of(spec, h[:, [n]], c[:, [n]]))[0] for n in range(BATCH)]
    expected = np.concatenate(alone, 1)
    assert not same_bits(expected, narrow([spec], BFLOAT16)(x, state_of(spec, h, c))[0])
    for batch in (2, 3, 4, 6, BATCH):
        y, _ = model(x[:, :batch], state_of(spec, h[:, :batch], c[:, :batch]))
        assert same_bits(y, expected[:, :batch])
    lengths = [SEQ_LEN, *rng.integers(0, SEQ_LEN + 1, BATCH - 1)]
    assert same_bits(model(x, state_of(spec, h, c), lengths=lengths)[0][:, 0], expected[:, 0])
    if spec.bidirectional:
        return
    stream = model.stream(BATCH)
    stream.state = state_of(spec, h, c)
    assert same_bits(np.stack([stream.step(step).copy() for step in x]), expected)
    pool = model.pool(2)
    zero, _ = model(x[:, :2])
    members = [pool.open(), pool.open()]
    assert same_bits(np.stack([pool.step(members, step).copy() for step in x[:, :2]]), zero)


@needs_dot
@pytest.mark.parametrize("cell", ["lstm", "rnn_tanh"])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_step_is_that_of_rounded_weights_and_activations(avx512, cell, shape):
    rng = np.random.default_rng(shape[0])
    spec = random_spec(rng, cell, *shape)
    x = rng.standard_normal((12, 3, spec.input_size)).astype(np.float32)
    stream = narrow([spec], BFLOAT16 | BFLOAT16_DOT).stream(3)
    for step in x:
        h, c = stream.state if spec.has_c else (stream.state, None)
        y = stream.step(step)
        expected = reference.forward(rounded(spec), to_bfloat16(step)[None], to_bfloat16(h), c)[0][0]
        assert np.abs(y - expected).max() <= tolerance([rounded(spec)], step[None], expected)


@pytest.mark.parametrize("isa", [isa for isa in USABLE if isa != "avx512"])
def test_without_such_products_the_arithmetic_is_that_of_float32(monkeypatch, isa):
    monkeypatch.setenv("GATED_C_ISA", isa)
    spec = random_spec(np.random.default_rng(0), "lstm", 5, 21)
    x = np.random.default_rng(1).standard_normal((9, 3, 5)).astype(np.float32)
    assert same_bits(narrow([spec], BFLOAT16 | BFLOAT16_DOT)(x)[0], narrow([spec], BFLOAT16)(x)[0])


def test_formats_of_pairs_are_packed_alike(isa):
    spec = random_spec(np.random.default_rng(0), "lstm", 5, 24, num_layers=2)
    models = narrow([spec], BFLOAT16), narrow([spec], BFLOAT16 | BFLOAT16_DOT)
    assert same_bits(*(model._engine.packed for model in models))
