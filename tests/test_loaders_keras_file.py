"""Keras's files as a whole: every format gives the same layers, and `load` and `inspect` take what they document."""

import json
import subprocess
import sys

import h5py
import numpy as np
import pytest
from keras_models import assert_runs_like, functional, keras, network
from test_loaders_keras_config import branch_at_a_sum
from test_loaders_keras_layers import masked_input

import gated_c as gc
from gated_c.errors import FormatError, UnsupportedError

K = keras.layers

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras saving


def example():
    """Something of everything that names and orders weights: nested, frozen, stacked, wrapped, without bias."""
    frozen = keras.Sequential([K.Dense(4, name="frozen"), K.BatchNormalization(), K.LayerNormalization()], name="inner")
    frozen.layers[0].trainable = False
    return network(
        K.Masking(),
        frozen,
        K.Bidirectional(K.LSTM(3, return_sequences=True, dropout=0.2), name="both"),
        K.RNN([K.GRUCell(2), K.SimpleRNNCell(3, use_bias=False)], return_sequences=True, name="stack"),
        K.TimeDistributed(K.Dense(3)),
        K.Dropout(0.5),
        K.GRU(3, reset_after=False, name="last"),
        K.Dense(2, activation="softmax"),
        shape=(6, 3),
    )


def assert_same_layers(layers, expected):
    assert [type(layer) for layer in layers] == [type(layer) for layer in expected]
    for layer, other in zip(layers, expected, strict=True):
        assert repr(layer) == repr(other)
        assert layer.weights.keys() == other.weights.keys()
        for name, weight in layer.weights.items():
            np.testing.assert_array_equal(weight, other.weights[name], err_msg=f"{layer.name} {name}")


@pytest.fixture(scope="module")
def model():
    return example()


@pytest.mark.parametrize("name", ["m.keras", "m.h5"])
def test_a_whole_model_loads_from_any_format(tmp_path, model, name):
    model.save(tmp_path / name)
    loaded = gc.load(tmp_path / name)
    assert_same_layers(loaded.layers, gc.from_keras(model).layers)
    assert loaded.batch_first
    assert_runs_like(loaded, model, masked_input())


def test_names_of_any_language_load_from_an_older_file(tmp_path):
    """Beyond eight layers HDF5 files them elsewhere."""
    model = network(K.LSTM(3, name="gedächtnis"), *[K.Dense(2, name=f"größe_{n}") for n in range(9)])
    model.save(tmp_path / "m.h5")
    assert_same_layers(gc.load(tmp_path / "m.h5").layers, gc.from_keras(model).layers)


def test_a_keras_file_is_known_by_its_contents(tmp_path, model):
    model.save(tmp_path / "m.keras")
    (tmp_path / "m.keras").rename(tmp_path / "model")
    assert_same_layers(gc.load(tmp_path / "model").layers, gc.from_keras(model).layers)


def test_files_are_read_without_any_framework(tmp_path, model):
    model.save(tmp_path / "m.keras")
    model.save(tmp_path / "m.h5")
    code = f"""
import sys
import gated_c as gc
assert gc.load({str(tmp_path / "m.keras")!r}).num_parameters == gc.load({str(tmp_path / "m.h5")!r}).num_parameters
sys.exit(bool({{"keras", "tensorflow", "torch", "h5py", "onnx"}} & set(sys.modules)))
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("form", ["model", "json", "dict", "path"])
def test_a_file_of_weights_takes_a_config(tmp_path, model, form):
    model.save_weights(tmp_path / "m.weights.h5")
    (tmp_path / "m.json").write_text(model.to_json())
    config = {"model": model, "json": model.to_json(), "dict": json.loads(model.to_json()), "path": tmp_path / "m.json"}
    loaded = gc.load(tmp_path / "m.weights.h5", config=config[form])
    assert_same_layers(loaded.layers, gc.from_keras(model).layers)


def test_a_file_of_weights_alone_asks_for_the_config(tmp_path, model):
    model.save_weights(tmp_path / "m.weights.h5")
    with pytest.raises(ValueError, match=r"^config: expected that of the model") as raised:
        gc.load(tmp_path / "m.weights.h5")
    assert not isinstance(raised.value, FormatError)


@pytest.mark.parametrize("name", ["m.keras", "m.h5"])
def test_a_config_beside_the_files_own_is_refused(tmp_path, model, name):
    model.save(tmp_path / name)
    with pytest.raises(ValueError, match="config: expected None"):
        gc.load(tmp_path / name, config=model)


def test_a_config_of_another_network_is_a_format_error(tmp_path, model):
    model.save_weights(tmp_path / "m.weights.h5")
    other = network(K.LSTM(9, name="other"))
    with pytest.raises(FormatError, match=r"m\.weights\.h5: other: .*expected"):
        gc.load(tmp_path / "m.weights.h5", config=other)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b'{"a": "\xff"}', "'utf-8' codec can't decode byte 0xff"), (b"no json", "Expecting value"), (b"[]", "an object")],
)
def test_a_file_of_config_that_cannot_be_read_is_named(tmp_path, model, content, message):
    model.save_weights(tmp_path / "m.weights.h5")
    (tmp_path / "network.json").write_bytes(content)
    with pytest.raises(FormatError, match=rf"m\.weights\.h5: config .*network\.json: .*{message}"):
        gc.load(tmp_path / "m.weights.h5", config=tmp_path / "network.json")


@pytest.mark.parametrize("config", [3, "{broken", b"{}", [1]])
def test_a_config_that_is_none_is_refused(tmp_path, model, config):
    model.save_weights(tmp_path / "m.weights.h5")
    with pytest.raises((ValueError, TypeError), match=r"config|Keras"):
        gc.load(tmp_path / "m.weights.h5", config=config)


def test_a_prefix_picks_one_recurrent_layer(tmp_path, model):
    model.save(tmp_path / "m.keras")
    (layer,) = gc.load(tmp_path / "m.keras", prefix="last").layers
    assert (layer.cell, layer.hidden_size, layer.masked) == ("gru_reset_before", 3, "zero")
    (both,) = gc.load(tmp_path / "m.keras", prefix="both").layers
    assert both.bidirectional


def test_a_prefix_picks_a_stack_of_cells(tmp_path, model):
    model.save(tmp_path / "m.keras")
    assert [layer.name for layer in gc.load(tmp_path / "m.keras", prefix="stack").layers] == ["stack.0", "stack.1"]
    assert [layer.name for layer in gc.load(tmp_path / "m.keras", prefix="stack.1").layers] == ["stack.1"]


def test_an_unknown_prefix_lists_names_and_sizes(tmp_path, model):
    model.save(tmp_path / "m.keras")
    with pytest.raises(
        ValueError, match=r"prefix: expected one of (?s:.*)both \(lstm, 4 to 6\)(?s:.*)last \(gru_reset"
    ):
        gc.load(tmp_path / "m.keras", prefix="first")


def test_one_layer_backwards_alone_is_in_order_of_time(tmp_path):
    model = network(K.LSTM(3, go_backwards=True, return_sequences=True, name="back"))
    model.save(tmp_path / "m.keras")
    x = masked_input().astype(np.float32)
    y, _ = gc.load(tmp_path / "m.keras", prefix="back")(x)
    np.testing.assert_array_equal(y, gc.load(tmp_path / "m.keras")(x)[0][:, ::-1])


def test_a_prefix_reaches_layers_beside_a_branch(tmp_path):
    functional(*branch_at_a_sum()).save(tmp_path / "m.keras")
    with pytest.raises(UnsupportedError, match=r"m\.keras: sum: a branch: .*prefix='left' or 'right'"):
        gc.load(tmp_path / "m.keras")
    assert gc.load(tmp_path / "m.keras", prefix="right").layers[0].cell == "gru"


def test_inspect_lists_the_recurrent_layers(tmp_path, model):
    model.save(tmp_path / "m.keras")
    assert [layer.name for layer in gc.inspect(tmp_path / "m.keras")] == ["both", "stack.0", "stack.1", "last"]


def test_inspect_takes_a_config_for_a_file_of_weights(tmp_path, model):
    model.save_weights(tmp_path / "m.weights.h5")
    with pytest.raises(ValueError, match="config: expected"):
        gc.inspect(tmp_path / "m.weights.h5")
    assert [layer.name for layer in gc.inspect(tmp_path / "m.weights.h5", config=model)][-1] == "last"


def test_inspect_warns_of_a_layer_that_cannot_be_used(tmp_path):
    network(K.GRU(2, return_sequences=True, name="fine"), K.LSTM(2, activation="softmax", name="odd")).save(
        tmp_path / "m.keras"
    )
    with pytest.warns(UserWarning, match=r"m\.keras: odd: activation softmax") as warned:
        assert [layer.name for layer in gc.inspect(tmp_path / "m.keras")] == ["fine"]
    assert warned[0].filename == __file__


def test_batch_first_can_be_overruled(tmp_path, model):
    model.save(tmp_path / "m.keras")
    x = masked_input().astype(np.float32)
    time_major = gc.load(tmp_path / "m.keras", batch_first=False)
    np.testing.assert_array_equal(time_major(x.swapaxes(0, 1))[0], gc.load(tmp_path / "m.keras")(x)[0])


@pytest.mark.parametrize("options", [{"nonlinearity": "relu"}, {"clip": "ort"}])
def test_arguments_of_other_formats_are_refused(tmp_path, model, options):
    model.save(tmp_path / "m.keras")
    with pytest.raises(ValueError, match=rf"{next(iter(options))}: expected None for this kind of file"):
        gc.load(tmp_path / "m.keras", **options)


def test_keras_arguments_are_refused_for_other_files(tmp_path, model):
    gc.from_keras(model).save(tmp_path / "m.gated")
    for options in ({"config": {}}, {"backend": "jax"}):
        with pytest.raises(ValueError, match=rf"{next(iter(options))}: expected None"):
            gc.load(tmp_path / "m.gated", **options)


@pytest.mark.parametrize("backend", ["tensorflow", "torch", "jax", "numpy", None])
def test_the_backend_says_what_leading_masked_steps_give(tmp_path, backend):
    """Keras repeats 0 with two of them, the initial h with the others; a .keras file does not say, and means 0."""
    network(K.Masking(), K.GRU(2, return_sequences=True)).save(tmp_path / "m.keras")
    x = np.array([[[0, 0, 0], [1, 2, 3]]], np.float32)
    h = np.full((1, 1, 2), 0.5, np.float32)
    y, _ = gc.load(tmp_path / "m.keras", backend=backend)(x, h)
    np.testing.assert_array_equal(y[0, 0], 0.5 if backend in ("jax", "numpy") else 0)


def test_a_file_that_names_its_backend_is_believed(tmp_path):
    network(K.Masking(), K.GRU(2, return_sequences=True)).save(tmp_path / "m.h5")
    assert gc.load(tmp_path / "m.h5").recurrent[0].masked == "repeat"
    with h5py.File(tmp_path / "m.h5", "a") as file:
        file["model_weights"].attrs["backend"] = "jax"
    assert gc.load(tmp_path / "m.h5").recurrent[0].masked == "repeat_initial"


def test_an_unknown_backend_is_refused(tmp_path, model):
    model.save(tmp_path / "m.keras")
    with pytest.raises(ValueError, match=r"backend: expected one of tensorflow, torch, jax, numpy, got 'theano'"):
        gc.load(tmp_path / "m.keras", backend="theano")


@pytest.mark.parametrize(("version", "slope"), [("3.0.0", 1 / 6), ("2.3.1", 0.2), ("2.4.0-tf", 0.2), ("1.2.2", 0.2)])
def test_hard_sigmoid_is_that_of_the_files_version(tmp_path, version, slope):
    network(K.LSTM(2, recurrent_activation="hard_sigmoid")).save(tmp_path / "m.h5")
    with h5py.File(tmp_path / "m.h5", "a") as file:
        file["model_weights"].attrs["keras_version"] = version
    (layer,) = gc.inspect(tmp_path / "m.h5")
    assert layer.activations[0] == gc.Activation("hard_sigmoid", slope, 0.5)
