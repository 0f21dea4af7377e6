"""``.npy`` files: any block size gives the bits of one call, and any file that is not one gives one kind of error."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from conftest import random_spec

import gated_c as gc
from gated_c import npy
from gated_c.layers import Conv, Dense, Embedding, Pool, Repeat, Squeeze

T, N, C, H = 11, 5, 3, 4


def random_model(**options) -> gc.Model:
    return gc.Model([random_spec(np.random.default_rng(0), "lstm", C, H, **options)])


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal(shape, np.float32)


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "x.npy"


def run(model: gc.Model, path: Path, lengths: np.ndarray | None = None) -> np.ndarray:
    """The output file for the input file ``path``, loaded."""
    x = npy.open_input(model, path)
    output = path.with_name("y.npy")
    npy.run(model, x, npy.create_output(output, model.output_shape(x.shape)), lengths, lambda _: None)
    return np.load(output)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("lengths", [None, np.array([3, 0, T, 1, 7])])
@pytest.mark.parametrize("block_floats", [1, 100, 10**6])
def test_blocks_have_the_bits_of_one_call(path, monkeypatch, bidirectional, batch_first, lengths, block_floats):
    monkeypatch.setattr(npy, "BLOCK_FLOATS", block_floats)
    monkeypatch.setattr(npy, "FULL_BATCH", 2)
    model = random_model(num_layers=2, bidirectional=bidirectional, batch_first=batch_first)
    x = random(N, T, C) if batch_first else random(T, N, C)
    np.save(path, x)
    np.testing.assert_array_equal(run(model, path, lengths), model(x, lengths=lengths)[0], strict=True)


def chain(batch_first, *layers):
    gru = random_spec(np.random.default_rng(0), "gru", C, H, batch_first=batch_first)
    return gc.Model(
        [layer for layer in layers if isinstance(layer, Embedding)]
        + [gru]
        + [layer for layer in layers if not isinstance(layer, Embedding)]
    )


CHAINS = {
    "dense": [Dense(random(2, H))],
    "squeezed": [Dense(random(1, H)), Squeeze()],
    "pooled": [Pool(H, "mean"), Dense(random(2, H))],
    "convolved": [Conv(random(2, 3, H))],
    "ids": [Embedding(random(9, C), mask_zero=True), Pool(H, "last")],
    "ids, every step": [Embedding(random(9, C)), Dense(random(2, H))],
    "repeated": [Pool(H, "max"), Repeat(H, 3)],
}


@pytest.mark.parametrize("layers", CHAINS.values(), ids=CHAINS)
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("lengths", [None, np.array([3, 0, T, 1, 7])])
@pytest.mark.parametrize("block_floats", [1, 100])
def test_blocks_of_chains_have_the_bits_of_one_call(path, monkeypatch, layers, batch_first, lengths, block_floats):
    monkeypatch.setattr(npy, "BLOCK_FLOATS", block_floats)
    monkeypatch.setattr(npy, "FULL_BATCH", 2)
    model = chain(batch_first, *layers)
    lead = (N, T) if batch_first else (T, N)
    x = np.random.default_rng(2).integers(0, 9, lead) if model.takes == "ids" else random(*lead, C)
    np.save(path, x)
    np.testing.assert_array_equal(run(model, path, lengths), model(x, lengths=lengths)[0], strict=True)
    one = x[0] if batch_first else x[:, 0]
    np.save(path, one)
    np.testing.assert_array_equal(run(model, path), model(one)[0], strict=True)


def test_vectors_are_rows(path):
    decoder = random_spec(np.random.default_rng(0), "gru", C, H)
    model = gc.Model([Repeat(C, 4), decoder])
    for x in (random(N, C), random(C)):
        np.save(path, x)
        np.testing.assert_array_equal(run(model, path), model(x)[0], strict=True)


@pytest.mark.parametrize("layers", CHAINS.values(), ids=CHAINS)
@pytest.mark.parametrize("batch_first", [False, True])
def test_the_shape_of_a_result_is_known_beforehand(layers, batch_first):
    model = chain(batch_first, *layers)
    for lead in [(T,), (4, T) if batch_first else (T, 4)]:
        x = np.zeros(lead, np.int64) if model.takes == "ids" else random(*lead, C)
        assert model.output_shape(x.shape) == model(x)[0].shape


def test_heavy_models_take_short_blocks(monkeypatch):
    model = random_model()
    monkeypatch.setattr(npy, "BLOCK_MACS", 4 * N * model.num_parameters)
    assert npy.block_size(model, T, N) == (4, N)


def test_one_sequence_needs_no_batch_axis(path):
    x, model = random(T, C), random_model()
    np.save(path, x)
    np.testing.assert_array_equal(run(model, path), model(x)[0], strict=True)


@pytest.mark.parametrize("shape", [(0, N, C), (T, 0, C), (0, C)])
def test_arrays_may_be_empty(path, shape):
    np.save(path, np.empty(shape, np.float32))
    assert run(random_model(), path).shape == (*shape[:-1], H)


@pytest.mark.parametrize("dtype", ["<f8", ">f4", "<f2", "<i4"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_any_real_dtype_and_order_will_do(path, dtype, order):
    x, model = np.asarray(3 * random(T, N, C), dtype, order=order), random_model()
    np.save(path, x)
    np.testing.assert_array_equal(run(model, path), model(x)[0], strict=True)


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_every_version_of_the_format_opens(path, version):
    x = random(T, N, C)
    with open(path, "wb") as file:
        np.lib.format.write_array(file, x, version)
    np.testing.assert_array_equal(npy.open_input(random_model(), path), x)


def header(text: str) -> bytes:
    text = text.ljust(118)
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


def header_of_shape(shape: str, descr: str = "<f4") -> bytes:
    return header(f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}}}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a .npy file"),
        (b"PK\x03\x04", "not a .npy file"),
        (b"\x93NUMPY\x09\x00\x02\x00{}", "not a .npy file"),
        (header("((("), "not a .npy file"),
        (header("-" * 9000 + "1"), "not a .npy file"),
        (header_of_shape("(-1, 3)"), "not a .npy file"),
        (header_of_shape(f"({10**25}, 0)"), "not a .npy file"),
        (header_of_shape("(5, 3)", "evil"), "not a .npy file"),
        (header_of_shape("(5, 3)"), "truncated: header says 188 bytes, file has 128"),
        (header_of_shape(f"({10**25}, 3)"), f"truncated: header says {12 * 10**25 + 128} bytes, file has 128"),
        (header_of_shape("(4294967296, 4294967296, 3)"), "truncated: .*"),
        (header_of_shape("(5, 3)", "|O"), "object arrays are not supported"),
        (header_of_shape("(0, 3)", "<c8"), "expected real numbers, got complex64"),
        (header_of_shape("(0, 4)"), r"x: expected \(T, N, 3\) or \(T, 3\), got \(0, 4\)"),
    ],
)
def test_what_is_no_input_is_a_value_error(path, content, message):
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"^{message}$"):
        npy.open_input(random_model(), path)


def test_a_fifo_is_no_input(path):
    os.mkfifo(path)
    with pytest.raises(ValueError, match=r"^expected a regular file$"):
        npy.open_input(random_model(), path)
