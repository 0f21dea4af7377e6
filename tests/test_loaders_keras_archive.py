"""Keras's archives and older files, altered in every way that a stranger or an accident could."""

import io
import json
import zipfile
from contextlib import suppress

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras_models import keras, network
from test_loaders_keras_hdf5 import at_most

import gated_c as gc
from gated_c.errors import FormatError, UnsupportedError

K = keras.layers

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras saving


@pytest.fixture(scope="module")
def members(tmp_path_factory):
    """What is in a sound archive."""
    path = tmp_path_factory.mktemp("keras") / "m.keras"
    network(K.LSTM(3, name="lstm"), K.Dense(2, name="dense")).save(path)
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def archive(path, members, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def with_weights(members, change):
    """The archive's members after a change of the HDF5 file."""
    content = io.BytesIO(members["model.weights.h5"])
    with h5py.File(content, "a") as file:
        change(file)
    return members | {"model.weights.h5": content.getvalue()}


def with_config(members, change):
    config = json.loads(members["config.json"])
    change(config["config"]["layers"])
    return members | {"config.json": json.dumps(config)}


def test_a_compressed_archive_loads_the_same(tmp_path, members):
    stored = gc.load(archive(tmp_path / "a.keras", members))
    deflated = gc.load(archive(tmp_path / "b.keras", members, zipfile.ZIP_DEFLATED))
    for ours, theirs in zip(stored.layers, deflated.layers, strict=True):
        for name, weight in ours.weights.items():
            np.testing.assert_array_equal(weight, theirs.weights[name])


def test_a_zip_bomb_is_refused_without_memory_for_it(tmp_path, members):
    bomb = archive(tmp_path / "m.keras", members | {"model.weights.h5": bytes(50_000_000)}, zipfile.ZIP_DEFLATED)
    with (
        at_most(1_000_000),
        pytest.raises(FormatError, match=r"m\.keras: zip directory: contents of more than 16 times"),
    ):
        gc.load(bomb)


def test_a_member_that_unpacks_to_more_than_it_says_is_refused(tmp_path, members):
    path = archive(tmp_path / "m.keras", members, zipfile.ZIP_DEFLATED)
    content = bytearray(path.read_bytes())
    directory = content.rindex(b"PK\x01\x02", 0, content.rindex(b"model.weights.h5"))
    content[directory + 24 : directory + 28] = (100).to_bytes(4, "little")  # its size unpacked
    path.write_bytes(content)
    with pytest.raises(FormatError, match=r"model\.weights\.h5: contents do not match"):
        gc.load(path)


@pytest.mark.parametrize("name", ["config.json", "metadata.json", "model.weights.h5"])
def test_a_missing_member_is_named(tmp_path, members, name):
    path = archive(tmp_path / "m.keras", {key: content for key, content in members.items() if key != name})
    with pytest.raises(FormatError, match=rf"m\.keras: '{name}' is not in the archive"):
        gc.load(path)


@pytest.mark.parametrize("name", ["config.json", "metadata.json", "model.weights.h5"])
@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff\xfe", b"3", b"[" * 100_000])
def test_a_member_of_nonsense_is_a_format_error(tmp_path, members, name, content):
    with pytest.raises(FormatError, match=r"m\.keras: "):
        gc.load(archive(tmp_path / "m.keras", members | {name: content}))


def test_pickled_weights_are_not_read(tmp_path, members):
    members = {name.replace("h5", "npz"): content for name, content in members.items()}
    with pytest.raises(UnsupportedError, match="pickled"):
        gc.load(archive(tmp_path / "m.keras", members))


def test_a_config_nested_without_end_is_a_format_error(tmp_path, members):
    config = {"class_name": "LSTM", "config": {"units": 3}}
    for _ in range(300):
        config = {"class_name": "Sequential", "config": {"layers": [config]}}
    with pytest.raises(FormatError, match=r"m\.keras"):
        gc.load(archive(tmp_path / "m.keras", members | {"config.json": json.dumps(config)}))


OPTIONS = [
    ("units", 4, "lstm: kernel: expected"),
    ("units", 10**12, "lstm: kernel: expected"),
    ("units", 0, "lstm: units: expected at least 1"),
    ("units", "3", "lstm: units: expected at least 1"),
    ("use_bias", False, "lstm: weights: expected kernel, recurrent_kernel, got 3 arrays"),
    ("use_bias", "no", "lstm: use_bias: expected a bool"),
    ("return_sequences", 1, "lstm: return_sequences: expected a bool"),
    ("activation", 3, "activation: expected a name"),
    ("activation", {"class_name": "function"}, "activation: expected the name"),
]


@pytest.mark.parametrize(("option", "value", "message"), OPTIONS)
def test_an_option_that_does_not_fit_is_a_format_error(tmp_path, members, option, value, message):
    def change(layers):
        layers[1]["config"][option] = value

    with pytest.raises(FormatError, match=message):
        gc.load(archive(tmp_path / "m.keras", with_config(members, change)))


def test_an_unknown_layer_is_named_with_those_that_load(tmp_path, members):
    def change(layers):
        layers[2]["class_name"] = "Wormhole"

    path = archive(tmp_path / "m.keras", with_config(members, change))
    with pytest.raises(UnsupportedError, match=r"dense: a layer of class Wormhole; .* prefix='lstm'"):
        gc.load(path)
    assert gc.load(path, prefix="lstm").layers[0].hidden_size == 3


SHAPES = [
    ("layers/lstm/cell/vars/0", (3, 13), "lstm: kernel: expected"),
    ("layers/lstm/cell/vars/0", (12,), "lstm: kernel: expected"),
    ("layers/lstm/cell/vars/0", (0, 12), "lstm: kernel: expected"),
    ("layers/lstm/cell/vars/1", (4, 12), "lstm: recurrent_kernel: expected"),
    ("layers/lstm/cell/vars/2", (11,), "lstm: bias: expected"),
    ("layers/lstm/cell/vars/2", (), "lstm: bias: expected"),
    ("layers/dense/vars/0", (3, 2, 1), "dense: kernel: expected 2 dimensions"),
    ("layers/dense/vars/0", (5, 2), "dense: .*expected 3, got 5"),
    ("layers/dense/vars/1", (3,), "dense: bias: expected"),
]


@pytest.mark.parametrize(("path", "shape", "message"), SHAPES)
def test_a_weight_of_the_wrong_shape_is_a_format_error(tmp_path, members, path, shape, message):
    def change(file):
        del file[path]
        file[path] = np.zeros(shape, np.float32)

    with pytest.raises(FormatError, match=message):
        gc.load(archive(tmp_path / "m.keras", with_weights(members, change)))


def test_a_link_out_of_the_archive_is_refused(tmp_path, members):
    def change(file):
        del file["layers/lstm"]
        file["layers/lstm"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/")

    with pytest.raises(FormatError, match=r"lstm.*a link to something else"):
        gc.load(archive(tmp_path / "m.keras", with_weights(members, change)))


def test_weights_filed_as_keras_2_13_did_are_found(tmp_path, members):
    """It called the same folders _layer_checkpoint_dependencies."""

    def change(file):
        file.move("layers", "_layer_checkpoint_dependencies")

    moved = gc.load(archive(tmp_path / "a.keras", with_weights(members, change)))
    sound = gc.load(archive(tmp_path / "b.keras", members))
    np.testing.assert_array_equal(moved.layers[0].weights["weight_ih_l0"], sound.layers[0].weights["weight_ih_l0"])


@settings(max_examples=40, deadline=None)
@given(fraction=st.floats(0, 0.999))
def test_a_truncated_archive_is_a_format_error(tmp_path_factory, members, fraction):
    path = archive(tmp_path_factory.mktemp("cut") / "m.keras", members)
    content = path.read_bytes()
    path.write_bytes(content[: int(fraction * len(content))])
    with pytest.raises(FormatError, match=r"m\.keras"):
        gc.load(path)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_damaged_archive_is_refused_or_loads(tmp_path_factory, members, data):
    path = archive(tmp_path_factory.mktemp("damage") / "m.keras", members)
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    with suppress(FormatError, UnsupportedError):
        gc.load(path)


@pytest.mark.parametrize("attribute", ["layer_names", "weight_names"])
def test_an_older_file_without_its_lists_of_names_is_a_format_error(tmp_path, attribute):
    network(K.LSTM(3, name="lstm")).save(tmp_path / "m.h5")
    with h5py.File(tmp_path / "m.h5", "a") as file:
        group = file["model_weights"] if attribute == "layer_names" else file["model_weights/lstm"]
        del group.attrs[attribute]
    with pytest.raises(FormatError, match=rf"m\.h5: .*{attribute}: missing"):
        gc.load(tmp_path / "m.h5")


def test_an_older_file_that_lists_too_few_weights_is_a_format_error(tmp_path):
    network(K.LSTM(3, name="lstm")).save(tmp_path / "m.h5")
    with h5py.File(tmp_path / "m.h5", "a") as file:
        group = file["model_weights/lstm"]
        group.attrs["weight_names"] = group.attrs["weight_names"][:2]
    with pytest.raises(FormatError, match=r"m\.h5: lstm: expected 3 weights, got 2"):
        gc.load(tmp_path / "m.h5")


def test_hdf5_of_something_else_is_a_format_error(tmp_path):
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file["measurements"] = [1.0, 2.0]
    with pytest.raises(ValueError, match="config: expected that of the model"):
        gc.load(tmp_path / "m.h5")
    with pytest.raises(FormatError, match="layer_names: missing"):
        gc.load(tmp_path / "m.h5", config=network(K.LSTM(2)))
