"""Files of Keras 2, as tf_keras writes them and as older versions did."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import h5py
import numpy as np
import pytest

import gated_c as gc
from gated_c.tolerance import tolerance

NETWORKS = ["text", "nested", "functional", "called", "operations", "mean", "max"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Every network in every format."""
    if find_spec("tf_keras") is None:
        pytest.skip("tf_keras is not installed")
    folder = tmp_path_factory.mktemp("keras2")
    script = Path(__file__).with_name("keras_2_networks.py")
    subprocess.run(
        [sys.executable, script, folder], check=True, capture_output=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    return folder


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("suffix", [".keras", ".h5", "_weights.h5", ".weights.h5"])
def test_a_network_of_keras_2_computes_what_it_did(folder, name, suffix):
    config = folder / f"{name}.json" if "weights" in suffix else None
    model = gc.load(folder / f"{name}{suffix}", config=config)
    example = np.load(folder / f"{name}.npz")
    x, y = example["x"], example["y"]
    np.testing.assert_allclose(model(x)[0], y, rtol=0, atol=tolerance(model.layers, x, y))


@pytest.mark.parametrize("name", NETWORKS)
def test_a_live_model_of_keras_2_gives_the_same_as_its_file(folder, name):
    example = np.load(folder / f"{name}.npz")
    np.testing.assert_array_equal(example["live"], gc.load(folder / f"{name}.keras")(example["x"])[0])


def test_weights_of_layers_with_other_names_are_matched_in_order(folder):
    config = json.loads((folder / "nested.json").read_text())
    for layer in config["config"]["layers"]:
        layer["config"]["name"] += "_7"
    renamed = gc.load(folder / "nested_weights.h5", config=config)
    expected = gc.load(folder / "nested.h5")
    for layer, other in zip(renamed.layers, expected.layers, strict=True):
        for name, weight in layer.weights.items():
            np.testing.assert_array_equal(weight, other.weights[name])


def legacy_file(path, class_name, config, weights, version="2.2.4"):
    """A Sequential of one recurrent layer as Keras 2 wrote it: names end in :0, lists of names are fixed-length."""
    entry = {"class_name": class_name, "config": {"name": "only", "batch_input_shape": [None, None, 3], **config}}
    with h5py.File(path, "w") as file:
        model = {"class_name": "Sequential", "config": [entry] if version < "2.2.3" else {"layers": [entry]}}
        file.attrs["model_config"] = json.dumps(model).encode()
        group = file.create_group("model_weights")
        group.attrs["keras_version"] = version.encode()
        group.attrs["backend"] = b"tensorflow"
        group.attrs["layer_names"] = np.array([b"only"])
        layer = group.create_group("only")
        names = [f"only/{name}:0" for name in weights]
        layer.attrs["weight_names"] = np.array([name.encode() for name in names])
        for name, weight in zip(names, weights.values(), strict=True):
            layer[name] = weight
    return path


def uniform(*shape):
    return np.random.default_rng(len(shape) + sum(shape)).uniform(-1, 1, shape).astype(np.float32)


@pytest.mark.parametrize("version", ["2.0.8", "2.2.4"])
def test_a_gru_from_before_reset_after_resets_before(tmp_path, version):
    weights = {"kernel": uniform(3, 6), "recurrent_kernel": uniform(2, 6), "bias": uniform(6)}
    config = {"units": 2, "recurrent_activation": "hard_sigmoid"}
    (layer,) = gc.inspect(legacy_file(tmp_path / "m.h5", "GRU", config, weights, version))
    assert layer.cell == "gru_reset_before"
    assert layer.activations == (gc.Activation("hard_sigmoid", 0.2, 0.5), gc.Activation("tanh", 0.0, 0.0))
    np.testing.assert_array_equal(layer.weights["weight_hh_l0"][:2], weights["recurrent_kernel"][:, 2:4].T)  # r
    np.testing.assert_array_equal(layer.weights["bias_ih_l0"][2:4], weights["bias"][:2])  # z


def test_a_cudnn_lstm_has_its_kernels_transposed_and_two_biases(tmp_path):
    weights = {"kernel": uniform(3, 8), "recurrent_kernel": uniform(2, 8), "bias": uniform(16)}
    (layer,) = gc.inspect(legacy_file(tmp_path / "m.h5", "CuDNNLSTM", {"units": 2}, weights))
    for gate in range(4):
        at = slice(2 * gate, 2 * gate + 2)
        np.testing.assert_array_equal(layer.weights["weight_ih_l0"][at].ravel(), weights["kernel"][:, at].ravel())
        np.testing.assert_array_equal(layer.weights["weight_hh_l0"][at], weights["recurrent_kernel"][:, at])
    np.testing.assert_array_equal(layer.weights["bias_ih_l0"], weights["bias"][:8] + weights["bias"][8:])


def test_a_cudnn_gru_keeps_its_two_biases(tmp_path):
    weights = {"kernel": uniform(3, 6), "recurrent_kernel": uniform(2, 6), "bias": uniform(12)}
    (layer,) = gc.inspect(legacy_file(tmp_path / "m.h5", "CuDNNGRU", {"units": 2}, weights))
    assert layer.cell == "gru"
    np.testing.assert_array_equal(layer.weights["bias_hh_l0"][:2], weights["bias"][8:10])  # r
    np.testing.assert_array_equal(layer.weights["weight_hh_l0"][:2], weights["recurrent_kernel"][:, 2:4])
