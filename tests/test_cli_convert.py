"""`gated-c convert` as a shell user meets it."""

import re
from pathlib import Path

import numpy as np
import pytest
from conftest import random_spec, same_bits

import gated_c as gc
from gated_c import cli
from gated_c.layers import Dense, Pool

T, N, C, H = 11, 5, 3, 4


def layer(cell="lstm", **options):
    return random_spec(np.random.default_rng(0), cell, C, H, **options)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty current directory, so that messages hold short names."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def network():
    """A chain in ``network.gated``."""
    head = Dense(np.ones((2, H), np.float32), name="head")
    gc.Model([layer(name="encoder", batch_first=True), Pool(H, "last", name="pool"), head]).save("network.gated")


def files(folder):
    return {path.name for path in folder.iterdir()}


def random(*shape):
    return np.random.default_rng(1).standard_normal(shape, np.float32)


def test_convert_writes_a_whole_chain_as_gated(network):
    assert cli.main(["convert", "network.gated", "again.gated"]) == 0
    x = random(N, T, C)
    assert same_bits(gc.load("again.gated")(x)[0], gc.load("network.gated")(x)[0])


def test_convert_keeps_golden_vectors(folder, capsys):
    gc.Model([layer()]).save("m.gated", golden=random(T, N, C))
    assert cli.main(["convert", "m.gated", "again.gated"]) == 0
    assert Path("again.gated").read_bytes() == Path("m.gated").read_bytes()
    gc.load("again.gated", check=True)
    assert not capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "to"),
    [
        (["--to", "bfloat16", "--arithmetic", "bfloat16"], {"dtype": "bfloat16", "arithmetic": "bfloat16"}),
        (["--to", "int8", "--inputs", "float32"], {"dtype": "int8", "inputs": "float32"}),
        (["--to", "int8"], {"dtype": "int8"}),
    ],
)
def test_convert_makes_a_model_narrow(folder, options, to):
    gc.Model([layer()]).save("m.gated")
    assert cli.main(["convert", "m.gated", "narrow.gated", *options]) == 0
    expected, converted = gc.load("m.gated").to(**to), gc.load("narrow.gated")
    assert repr(converted) == repr(expected)
    x = random(T, N, C)
    assert same_bits(converted(x)[0], expected(x)[0])
    assert cli.main(["convert", "narrow.gated", "again.gated"]) == 0
    assert Path("again.gated").read_bytes() == Path("narrow.gated").read_bytes()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["m.gated", "out.onnx", "--to", "int8"], "--to goes with .gated files"),
        (["m.gated", "out.gated", "--inputs", "int8"], "--inputs goes with --to"),
    ],
)
def test_convert_refuses_options_that_go_nowhere(capsys, args, message):
    gc.Model([layer()]).save("m.gated")
    with pytest.raises(SystemExit) as exit:
        cli.main(["convert", *args])
    assert exit.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "option", [["--batch-first"], ["--prefix", "encoder"], ["--nonlinearity", "relu"], ["--to", "int8"]]
)
def test_convert_says_that_it_leaves_out_the_golden_vectors_of_what_it_changes(capsys, option):
    gc.Model([layer("rnn_tanh", name="encoder")]).save("m.gated", golden=random(T, N, C))
    assert cli.main(["convert", "m.gated", "changed.gated", *option]) == 0
    assert capsys.readouterr().err.startswith("gated-c: warning: m.gated: its golden vectors are left out")
    with pytest.raises(gc.UnsupportedError, match="no golden vectors"):
        gc.load("changed.gated", check=True)


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn_tanh", "rnn_relu"])
def test_convert_around_all_formats_keeps_every_bit(folder, cell):
    pytest.importorskip("h5py")
    pytest.importorskip("onnx")
    expected = gc.Model([layer(cell)])
    expected.save("0.gated")
    nonlinearity = ["--nonlinearity", "relu"] if cell == "rnn_relu" else []
    for command in (
        ["convert", "0.gated", "1.safetensors"],
        ["convert", "1.safetensors", "2.onnx", *nonlinearity],
        ["convert", "2.onnx", "3.weights.h5"],
        ["convert", "3.weights.h5", "4.gated", "--config", "3.json"],
    ):
        assert cli.main(command) == 0
    assert files(folder) == {"0.gated", "1.safetensors", "2.onnx", "3.weights.h5", "3.json", "4.gated"}
    x = random(T, N, C)
    y = gc.load("4.gated")(x.swapaxes(0, 1))[0].swapaxes(0, 1)
    assert same_bits(y, expected(x)[0])


def test_prefix_picks_the_layer_to_write(network, capsys):
    assert cli.main(["convert", "network.gated", "m.safetensors"]) == 1
    message = capsys.readouterr().err
    assert "pool (Pool), head (Dense): only recurrent layers are written to .safetensors" in message
    assert "with prefix 'encoder'" in message
    assert cli.main(["convert", "network.gated", "m.safetensors", "--prefix", "encoder"]) == 0
    assert [one.cell for one in gc.inspect("m.safetensors")] == ["lstm"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["m.gated", "out.pt"], "out.pt: expected a name in .gated, .safetensors, .weights.h5, .onnx, got .pt"),
        (["m.gated", "out.h5"], "out.h5: expected a name in .gated, .safetensors, .weights.h5, .onnx, got .h5"),
        (["m.gated", "out.onnx"], "m.gated: encoder: proj_size 2: ONNX has no projection"),
        (["m.gated", "out.weights.h5"], "m.gated: encoder: proj_size 2: Keras has no projection"),
        (["m.gated", "none/out.safetensors"], "none/out.safetensors: No such file or directory"),
        (["m.gated", "none/out.gated"], "none/out.gated: No such file or directory"),
    ],
)
def test_errors_name_the_file_and_leave_nothing(folder, capsys, args, message):
    gc.Model([layer(proj_size=2, name="encoder")]).save("m.gated")
    assert cli.main(["convert", *args]) == 1
    assert re.fullmatch(f"gated-c: error: {re.escape(message)}\n", capsys.readouterr().err)
    assert files(folder) == {"m.gated"}


@pytest.mark.parametrize("ending", [".gated", ".safetensors", ".weights.h5", ".onnx"])
def test_convert_may_replace_what_is_there(ending):
    pytest.importorskip("h5py")
    pytest.importorskip("onnx")
    gc.Model([layer()]).save("m.gated")
    Path(f"out{ending}").write_text("old")
    assert cli.main(["convert", "m.gated", f"out{ending}"]) == 0
    options = {"config": "out.json"} if ending == ".weights.h5" else {}
    assert gc.load(f"out{ending}", **options).output_size == H


def test_an_unfit_name_is_found_before_the_work(capsys):
    assert cli.main(["convert", "none.gated", "out.pt"]) == 1
    assert "out.pt: expected a name" in capsys.readouterr().err


def test_info_lists_what_convert_wrote_for_keras(capsys):
    pytest.importorskip("h5py")
    gc.Model([layer(name="encoder")]).save("m.gated")
    assert cli.main(["convert", "m.gated", "out.weights.h5"]) == 0
    assert cli.main(["info", "out.weights.h5", "--config", "out.json"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[:2] == ["lstm", "lstm"]
