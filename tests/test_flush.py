"""Subnormal numbers, as the model says."""

import pickle
import platform

import numpy as np
import pytest

import gated_c as gc
from gated_c import cli
from gated_c.loaders import native
from gated_c.options import ALL_FLAGS, Options

SMALLEST = np.float32(np.finfo(np.float32).tiny)

pytestmark = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "aarch64"), reason="the mode of other machines is left alone"
)


def halving(flush_subnormals):
    """h' = h / 2, so that a state becomes subnormal and then 0."""
    weights = {
        "weight_ih_l0": np.zeros((1, 1), np.float32),
        "weight_hh_l0": np.full((1, 1), 0.5, np.float32),
    }
    spec = gc.LayerSpec("rnn_relu", 1, 1, weights, bias=False)
    return gc.Model([spec], flush_subnormals=flush_subnormals)


def own_mode_flushes():
    return SMALLEST * np.float32(0.5) == 0


@pytest.mark.parametrize("way", ["call", "step", "run"])
@pytest.mark.parametrize("flush_subnormals", [False, True])
def test_a_state_becomes_subnormal_or_zero(flush_subnormals, way):
    model = halving(flush_subnormals)
    x, state = np.zeros((3, 1, 1), np.float32), np.full((1, 1, 1), SMALLEST)
    stream = model.stream()
    stream.state = state
    if way == "call":
        y, _ = model(x, state)
    elif way == "run":
        y = stream.run(x)
    else:
        y = np.stack([stream.step(x_t).copy() for x_t in x])
    expected = [0, 0, 0] if flush_subnormals else SMALLEST * np.float32([0.5, 0.25, 0.125])
    np.testing.assert_array_equal(y.ravel(), np.float32(expected))
    assert not own_mode_flushes()  # it is as it was


def test_a_file_and_a_pickle_keep_the_option(tmp_path):
    for flush_subnormals in (False, True):
        halving(flush_subnormals).save(tmp_path / "m.gated")
        assert gc.load(tmp_path / "m.gated").flush_subnormals is flush_subnormals
        assert (
            gc.load(tmp_path / "m.gated", flush_subnormals=not flush_subnormals).flush_subnormals
            is not flush_subnormals
        )
        assert pickle.loads(pickle.dumps(halving(flush_subnormals))).flush_subnormals is flush_subnormals


def test_an_unknown_flag_of_a_file_is_an_error(tmp_path, monkeypatch):
    layers = halving(False).layers
    monkeypatch.setattr(Options, "flags", ALL_FLAGS + 1)
    native.save(layers, tmp_path / "m.gated")
    with pytest.raises(gc.FormatError, match="gated_flags: unknown ones, 00000040"):
        gc.load(tmp_path / "m.gated")


def test_convert_keeps_the_option(tmp_path):
    old, new = tmp_path / "old.gated", tmp_path / "new.gated"
    halving(True).save(old)
    assert cli.main(["convert", str(old), str(new)]) == 0
    assert gc.load(new).flush_subnormals
