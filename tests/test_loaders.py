"""Choosing among what a file holds, and telling kinds of files apart."""

import gc
import os
import subprocess
import sys
from collections import OrderedDict

import pytest
import torch
from loader_files import assert_weights_of, load_one
from safetensors.torch import save_file
from torch import nn
from torch.nn.utils import prune

from gated_c import FormatError, UnsupportedError, inspect
from gated_c.loaders import load_layers, read_layers


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(5, 3)
        self.encoder = nn.ModuleDict({"lstm": nn.LSTM(3, 4, num_layers=2, bidirectional=True)})
        self.decoder = nn.GRU(8, 2)
        self.cell = nn.RNNCell(2, 3)


@pytest.fixture
def tagger():
    return Tagger()


@pytest.fixture
def path(tmp_path, tagger):
    torch.save({"epoch": 3, "state_dict": tagger.state_dict()}, tmp_path / "tagger.pt")
    return tmp_path / "tagger.pt"


def test_every_recurrent_module_is_listed_by_its_prefix(path, tagger):
    layers = {layer.name: layer for layer in read_layers(path)}
    assert list(layers) == ["encoder.lstm", "decoder", "cell"]
    for name, layer in layers.items():
        assert_weights_of(layer, tagger.get_submodule(name))
    assert layers["encoder.lstm"].bidirectional
    assert layers["encoder.lstm"].num_layers == 2
    assert [layer.cell for layer in layers.values()] == ["lstm", "gru", "rnn_tanh"]


@pytest.mark.parametrize("prefix", ["encoder.lstm", "encoder.lstm.", "state_dict.encoder.lstm"])
def test_prefix_picks_one(path, tagger, prefix):
    layer = load_one(path, prefix=prefix)
    assert_weights_of(layer, tagger.encoder["lstm"])
    assert layer.name == "encoder.lstm"


def test_several_without_a_prefix_are_named_with_their_sizes(path):
    with pytest.raises(ValueError, match="prefix: expected one of the following, got None") as caught:
        load_layers(path)
    assert not isinstance(caught.value, FormatError)
    for line in (
        "\n  encoder.lstm (lstm, 3 to 8)",
        "\n  decoder (gru, 8 to 2)",
        "\n  cell (rnn_tanh, 2 to 3)",
    ):
        assert line in str(caught.value)


def test_an_unknown_prefix_lists_those_that_exist(path):
    with pytest.raises(ValueError, match=r"got 'encoder\.gru'(?s:.*)encoder\.lstm \(lstm, "):
        load_layers(path, prefix="encoder.gru")


def test_a_long_list_is_complete(tmp_path):
    torch.save({f"layer{n}": nn.GRU(1, 1).state_dict() for n in range(30)}, tmp_path / "many.pt")
    with pytest.raises(ValueError, match=r"got None(\n  layer\d+ \(gru, 1 to 1\)){30}$"):
        load_layers(tmp_path / "many.pt")


@pytest.mark.parametrize("wrapper", ["module.", "_orig_mod.", "_orig_mod.module.", "module._orig_mod."])
def test_wrappers_are_left_out_of_the_name_and_accepted_in_it(tmp_path, wrapper):
    lstm = nn.LSTM(2, 3)
    torch.save({f"{wrapper}rnn.{name}": weight for name, weight in lstm.state_dict().items()}, tmp_path / "a.pt")
    for prefix in (None, "rnn", f"{wrapper}rnn"):
        layer = load_one(tmp_path / "a.pt", prefix=prefix)
        assert layer.name == "rnn"
        assert_weights_of(layer, lstm)


def test_a_wrapped_bare_module_is_the_root(tmp_path):
    torch.save(nn.DataParallel(nn.GRU(2, 3)).state_dict(), tmp_path / "a.pt")
    assert load_one(tmp_path / "a.pt").name == ""


def test_equal_prefixes_in_two_state_dicts_are_told_apart_by_the_path_to_them(tmp_path):
    encoder, decoder = nn.ModuleDict({"gru": nn.GRU(2, 3)}), nn.ModuleDict({"gru": nn.GRU(3, 3)})
    torch.save({"en": encoder.state_dict(), "de": [decoder.state_dict()]}, tmp_path / "a.pt")
    assert [layer.name for layer in read_layers(tmp_path / "a.pt")] == ["en.gru", "de.0.gru"]
    assert_weights_of(load_one(tmp_path / "a.pt", prefix="de.0.gru"), decoder["gru"])
    with pytest.raises(ValueError, match=r"(?s)got 'gru'.* en\.gru .* de\.0\.gru "):
        load_layers(tmp_path / "a.pt", prefix="gru")


def test_a_state_dict_takes_batch_first_and_nonlinearity_from_the_keywords(tmp_path):
    torch.save(nn.RNN(2, 3).state_dict(), tmp_path / "rnn.pt")
    assert load_one(tmp_path / "rnn.pt").cell == "rnn_tanh"
    assert load_one(tmp_path / "rnn.pt").batch_first is False
    layer = load_one(tmp_path / "rnn.pt", batch_first=True, nonlinearity="relu")
    assert layer.cell == "rnn_relu"
    assert layer.batch_first is True


def test_keywords_overrule_a_whole_module(tmp_path):
    torch.save(nn.RNN(2, 3, nonlinearity="relu", batch_first=True), tmp_path / "rnn.pt")
    assert load_one(tmp_path / "rnn.pt", nonlinearity="tanh").cell == "rnn_tanh"
    assert load_one(tmp_path / "rnn.pt", batch_first=False).batch_first is False


def test_another_nonlinearity_is_a_value_error(path):
    with pytest.raises(ValueError, match="nonlinearity: expected 'tanh' or 'relu', got 'gelu'"):
        load_layers(path, nonlinearity="gelu")


def test_a_file_without_recurrent_weights_says_so(tmp_path):
    torch.save(nn.Linear(2, 3).state_dict(), tmp_path / "linear.pt")
    assert read_layers(tmp_path / "linear.pt") == []
    with pytest.raises(ValueError, match=r"linear\.pt: no weights of an LSTM, GRU or RNN in it"):
        load_layers(tmp_path / "linear.pt")


def test_weights_that_do_not_fit_are_all_named(tmp_path):
    weights = dict(nn.LSTM(2, 3, num_layers=2).state_dict())
    del weights["bias_hh_l1"]
    weights["weight_ih_l1"] = torch.zeros(12, 7)
    torch.save({f"rnn.{name}": weight for name, weight in weights.items()}, tmp_path / "a.pt")
    with pytest.raises(FormatError) as caught:
        load_layers(tmp_path / "a.pt")
    assert str(tmp_path / "a.pt") + ": rnn: " in str(caught.value)
    assert "weight_ih_l1: expected (12, 3), got (12, 7)" in str(caught.value)
    assert "bias_hh_l1: missing" in str(caught.value)


def test_loading_leaves_no_open_file_behind(path, tmp_path, tagger):
    torch.save(tagger.state_dict(), tmp_path / "stream.pt", _use_new_zipfile_serialization=False)
    save_file(tagger.state_dict(), tmp_path / "plain.safetensors")
    gc.disable()
    try:
        before = os.listdir("/proc/self/fd")
        for name in (path, tmp_path / "stream.pt", tmp_path / "plain.safetensors"):
            for _ in range(3):
                read_layers(name)
        assert os.listdir("/proc/self/fd") == before
    finally:
        gc.enable()


def test_only_the_chosen_module_has_to_be_sound(tmp_path):
    names = ("good.weight_ih", "good.weight_hh", "bad.weight_ih_l0", "bad.weight_hh_l0_g", "bad.weight_hh_l0_v")
    torch.save({name: torch.ones(4, 1) for name in names}, tmp_path / "a.pt")
    assert load_one(tmp_path / "a.pt", prefix="good").cell == "lstm"
    with pytest.raises(UnsupportedError, match=r"bad: 'bad\.weight_hh_l0_g' is part of a parametrised weight"):
        load_layers(tmp_path / "a.pt", prefix="bad")


def test_modules_that_cannot_be_read_are_left_out_of_the_list_with_a_warning(tmp_path):
    weights = nn.ModuleDict({name: nn.GRU(1, 2) for name in ("good", "bad", "odd")}).state_dict()
    del weights["bad.bias_ih_l0"]
    weights["odd.bias_hh_l0_g"] = weights.pop("odd.bias_hh_l0")
    torch.save(weights, tmp_path / "a.pt")
    with pytest.warns(UserWarning, match=r"a\.pt: ") as caught:
        assert [layer.name for layer in inspect(tmp_path / "a.pt")] == ["good"]
    missing, parametrised = caught
    assert str(missing.message) == f"{tmp_path / 'a.pt'}: bad: bias_ih_l0: missing, expected (6,)"
    assert "a.pt: odd: 'odd.bias_hh_l0_g' is part of a parametrised weight" in str(parametrised.message)
    assert {warning.filename for warning in caught} == {__file__}


def test_a_file_in_which_no_module_can_be_read_raises_what_is_wrong_with_the_first(tmp_path):
    names = ("a.weight_ih_l0", "b.weight_hh_l0", "b.weight_hh_l0_g")
    torch.save({name: torch.ones(4, 1) for name in names}, tmp_path / "a.pt")
    with pytest.raises(FormatError, match=r"a\.pt: a: weight_hh_l0: missing"):
        read_layers(tmp_path / "a.pt")


def test_new_style_parametrisations_are_refused_by_name(tmp_path):
    lstm = nn.utils.parametrizations.weight_norm(nn.LSTM(2, 2), "weight_hh_l0")
    torch.save(lstm.state_dict(), tmp_path / "a.pt")
    with pytest.raises(UnsupportedError, match=r"parametrizations\.weight_hh_l0\.original0.*remove_parametrizations"):
        load_layers(tmp_path / "a.pt")


def test_pruned_weights_are_refused_by_name(tmp_path):
    torch.save(prune.identity(nn.GRU(2, 2), "weight_hh_l0").state_dict(), tmp_path / "a.pt")
    with pytest.raises(UnsupportedError, match=r"prune\.remove"):
        load_layers(tmp_path / "a.pt")


def test_contents_decide_and_not_the_name(tmp_path):
    gru = nn.GRU(2, 3)
    save_file(gru.state_dict(), tmp_path / "really_safetensors.pt")
    torch.save(gru.state_dict(), tmp_path / "really_torch.safetensors")
    torch.save(gru.state_dict(), tmp_path / "no_extension", _use_new_zipfile_serialization=False)
    for name in ("really_safetensors.pt", "really_torch.safetensors", "no_extension"):
        assert_weights_of(load_one(tmp_path / name), gru)


@pytest.mark.parametrize("name", ["m.pt", "m.pth", "m.ckpt", "m.safetensors", "m.keras", "m.h5", "m.gated"])
@pytest.mark.parametrize("content", [b"", b"x", b"PK", b"\x80", b"\0" * 300, b"{}" * 50, b"<!DOCTYPE html>" * 20])
def test_a_file_that_is_not_what_its_name_says_is_a_format_error(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FormatError, match=name):
        load_layers(tmp_path / name)


@pytest.mark.parametrize("name", ["m.npz", "m.tflite"])
def test_known_formats_that_are_not_supported_are_named(tmp_path, name):
    (tmp_path / name).write_bytes(b"anything")
    with pytest.raises(UnsupportedError, match=rf"{name}: \.\w+ files are not supported; \.pt, "):
        load_layers(tmp_path / name)


def test_hdf5_is_known_by_its_contents(tmp_path):
    (tmp_path / "weights").write_bytes(b"\x89HDF\r\n\x1a\n")
    with pytest.raises(FormatError, match="weights: HDF5 header"):
        load_layers(tmp_path / "weights")


def test_an_unknown_kind_of_file_is_unsupported(tmp_path):
    (tmp_path / "notes.txt").write_text("a long enough text without any meaning")
    with pytest.raises(UnsupportedError, match=r"notes\.txt: an unknown kind of file"):
        load_layers(tmp_path / "notes.txt")


def test_a_git_lfs_pointer_is_called_that(tmp_path):
    (tmp_path / "m.pt").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 34\n")
    with pytest.raises(FormatError, match="git lfs pull"):
        load_layers(tmp_path / "m.pt")


def test_what_cannot_be_opened_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_layers(tmp_path / "none.pt")
    with pytest.raises(IsADirectoryError):
        load_layers(tmp_path)


def test_a_folder_of_tensorflow_says_what_to_save_instead(tmp_path):
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "saved_model.pb").write_bytes(b"")
    for function in (load_layers, read_layers):
        with pytest.raises(UnsupportedError, match=r"saved: a SavedModel folder .* model\.save\('network\.keras'\)"):
            function(tmp_path / "saved")


@pytest.mark.parametrize("name", ["pipe", "pipe.pt", "pipe.safetensors", "link.gated"])
def test_a_pipe_is_a_format_error(tmp_path, name):
    os.mkfifo(tmp_path / (name.replace("link", "pipe")))
    (tmp_path / "link.gated").symlink_to("pipe.gated")
    for function in (load_layers, read_layers):
        with pytest.raises(FormatError, match=rf"{name}: expected a regular file"):
            function(tmp_path / name)


def test_a_prefix_that_is_no_string_is_a_type_error(path):
    with pytest.raises(TypeError, match="prefix: expected a str or None, got int"):
        load_layers(path, prefix=3)


def test_paths_may_be_strings_and_any_bytes(tmp_path):
    gru = nn.GRU(2, 3)
    for name in (b"plain.safetensors", b"\xff\xfe.safetensors"):
        path = bytes(tmp_path) + b"/" + name
        save_file(gru.state_dict(), tmp_path / "a.safetensors")
        (tmp_path / "a.safetensors").rename(path.decode(errors="surrogateescape"))
        for same in (path, path.decode(errors="surrogateescape")):
            assert_weights_of(load_one(same), gru)
            assert len(read_layers(same)) == 1


def test_files_load_where_torch_cannot_be_imported(tmp_path):
    lstm = nn.LSTM(2, 3)
    torch.save(OrderedDict(lstm.state_dict()), tmp_path / "zip.pt")
    torch.save(lstm, tmp_path / "module.pt")
    torch.save(lstm.state_dict(), tmp_path / "stream.pt", _use_new_zipfile_serialization=False)
    save_file(lstm.state_dict(), tmp_path / "plain.safetensors")
    script = """
import sys
sys.modules["torch"] = None
from pathlib import Path
from gated_c.loaders import load_layers, native
for path in sorted(Path(sys.argv[1]).iterdir()):
    layers = load_layers(path)
    native.save(layers, path.with_suffix(".gated"))
    assert load_layers(path.with_suffix(".gated"))[0].weights["weight_ih_l0"].shape == (12, 2)
    print(path.name)
assert not [name for name in sys.modules if name.startswith("torch.")]
"""
    result = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["module.pt", "plain.safetensors", "stream.pt", "zip.pt"]
