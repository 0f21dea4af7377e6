"""Which format a name stands for, and what no foreign format takes."""

import re
from pathlib import Path

import numpy as np
import pytest
from conftest import random_spec

import gated_c as gc
from gated_c.layers import Dense, Flip, Softmax, Unmask
from gated_c.writers import ending_of, write


def spec(cell="lstm", **options):
    return random_spec(np.random.default_rng(0), cell, 3, 4, **options)


@pytest.mark.parametrize(
    ("name", "ending"),
    [
        ("a.gated", ".gated"),
        ("plain", ".gated"),
        ("/dir.onnx/plain", ".gated"),
        (Path("B.SafeTensors"), ".safetensors"),
        ("a.weights.h5", ".weights.h5"),
        ("a.b.onnx", ".onnx"),
    ],
)
def test_names_end_with_their_format(name, ending):
    assert ending_of(name) == ending


@pytest.mark.parametrize("name", ["a.pt", "a.keras", "a.h5", "a.npz"])
def test_formats_that_are_only_read_are_not_written(tmp_path, name):
    message = f"expected a name in .gated, .safetensors, .weights.h5, .onnx, got .{name[2:]}"
    with pytest.raises(ValueError, match=re.escape(message)):
        write([spec()], tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("ending", [".safetensors", ".weights.h5", ".onnx"])
def test_plain_layers_are_refused_by_name(tmp_path, ending):
    dense = Dense(np.zeros((2, 4), np.float32), name="head")
    chain = [spec(name="a"), dense, Softmax(2, name="labels")]
    message = f"head (Dense), labels (Softmax): only recurrent layers are written to {ending}; load one of them, "
    with pytest.raises(gc.UnsupportedError, match=re.escape(f"{message}with prefix 'a'")):
        write(chain, tmp_path / f"m{ending}")
    assert not list(tmp_path.iterdir())


def test_several_plain_layers_of_one_name_are_named_once(tmp_path):
    chain = [Flip(3, name="lstm"), spec(name="lstm"), Flip(4, name="lstm")]
    with pytest.raises(gc.UnsupportedError, match=r"^lstm \(Flip\): only"):
        write(chain, tmp_path / "m.onnx")


def test_an_unmask_is_no_layer_to_another_framework(tmp_path):
    write([spec(), Unmask(4)], tmp_path / "m.safetensors")
    assert len(gc.inspect(tmp_path / "m.safetensors")) == 1


def test_gated_takes_whatever_it_is(tmp_path):
    write([spec(peepholes=True, clip=0.5)], tmp_path / "m.gated")
    assert gc.load(tmp_path / "m.gated").layers[0].peepholes


@pytest.mark.parametrize("ending", [".gated", ".safetensors", ".weights.h5", ".onnx"])
def test_wrong_weights_are_never_written(tmp_path, ending):
    layer = spec()
    layer.weights["weight_ih_l0"] = np.zeros((1, 1), np.float32)
    with pytest.raises(ValueError, match="weight_ih_l0: expected"):
        write([layer], tmp_path / f"m{ending}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("ending", [".safetensors", ".weights.h5", ".onnx"])
def test_a_failure_leaves_the_old_file(tmp_path, monkeypatch, ending):
    pytest.importorskip("onnx")
    pytest.importorskip("h5py")
    path = tmp_path / f"m{ending}"
    path.write_text("old")

    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="No space left"):
        write([spec()], path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
