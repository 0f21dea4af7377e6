"""`gated-c compare` as a shell user meets it: the table, the picture, the exit code."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import random_spec

import gated_c as gc
from gated_c import cli

T, N, C, H = 11, 5, 3, 20


def layer(cell="lstm", **options):
    return random_spec(np.random.default_rng(0), cell, C, H, **options)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A current directory with a model, an input and its lengths."""
    monkeypatch.chdir(tmp_path)
    gc.Model([layer()]).save("m.gated")
    np.save("x.npy", np.random.default_rng(1).standard_normal((T, N, C), np.float32))
    np.save("lengths.npy", np.array([7, 0, 3, 1, 2]))
    return tmp_path


@pytest.mark.parametrize(
    ("options", "to"),
    [
        (["--to", "bfloat16"], {"dtype": "bfloat16"}),
        (["--to", "bfloat16", "--arithmetic", "bfloat16"], {"dtype": "bfloat16", "arithmetic": "bfloat16"}),
        (["--to", "int8"], {"dtype": "int8"}),
        (["--to", "int8", "--inputs", "float32"], {"dtype": "int8", "inputs": "float32"}),
    ],
)
@pytest.mark.parametrize("ragged", [False, True])
def test_compare_prints_what_python_finds(capsys, options, to, ragged):
    assert cli.main(["compare", "m.gated", "--input", "x.npy", *options, *["--lengths", "lengths.npy"] * ragged]) == 0
    model = gc.load("m.gated")
    found = gc.compare(model, model.to(**to), np.load("x.npy"), lengths=np.load("lengths.npy") if ragged else None)
    assert capsys.readouterr().out == f"{found}\n"


@pytest.fixture
def other():
    """The model with other weights, in ``other.gated``."""
    spec = layer()
    weights = {name: np.rint(8 * weight) / np.float32(8) for name, weight in spec.weights.items()}
    model = gc.Model([replace(spec, weights=weights)])
    model.save("other.gated")
    return model


@pytest.mark.parametrize("batch_first", [False, True])
def test_compare_with_another_file(capsys, other, batch_first):
    x = np.load("x.npy")
    if batch_first:
        np.save("x.npy", x.swapaxes(0, 1))
    options = ["--batch-first"] if batch_first else []
    assert cli.main(["compare", "m.gated", "--with", "other.gated", "--input", "x.npy", *options]) == 0
    assert capsys.readouterr().out == f"{gc.compare(gc.load('m.gated'), other, x)}\n"


@pytest.mark.parametrize("command", ["compare", "convert"])
def test_calibration_takes_an_input(capsys, command):
    x = np.load("x.npy")
    model = gc.load("m.gated")
    narrow = model.to("int8", calibrate=x)
    options = ["--to", "int8", "--calibrate", "x.npy"]
    if command == "compare":
        assert cli.main(["compare", "m.gated", *options, "--input", "x.npy"]) == 0
        assert capsys.readouterr().out == f"{gc.compare(model, narrow, x)}\n"
    else:
        assert cli.main(["convert", "m.gated", "narrow.gated", *options]) == 0
        assert gc.load("narrow.gated").layers[0].h_limit == narrow.layers[0].h_limit


def test_a_narrow_file_is_what_to_makes(capsys):
    assert cli.main(["convert", "m.gated", "narrow.gated", "--to", "int8"]) == 0
    assert cli.main(["compare", "m.gated", "--with", "narrow.gated", "--input", "x.npy"]) == 0
    model = gc.load("m.gated")
    assert capsys.readouterr().out == f"{gc.compare(model, model.to('int8'), np.load('x.npy'))}\n"


def test_compare_saves_a_plot(folder):
    pytest.importorskip("matplotlib")
    assert cli.main(["compare", "m.gated", "--to", "int8", "--input", "x.npy", "--plot", "errors.png"]) == 0
    assert Path("errors.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", ["errors.gift", "nowhere/errors.png"])
def test_a_plot_that_cannot_be_written_is_found_before_the_work(capsys, name):
    pytest.importorskip("matplotlib")
    assert cli.main(["compare", "m.gated", "--to", "int8", "--input", "x.npy", "--plot", name]) == 1
    out, err = capsys.readouterr()
    assert name in err
    assert not out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--input", "x.npy"], "one of the arguments --to --with is required"),
        (["--to", "int8"], "the following arguments are required: --input"),
        (["--to", "int8", "--with", "m.gated", "--input", "x.npy"], "not allowed with argument"),
        (["--to", "int4", "--input", "x.npy"], "argument --to: invalid choice"),
        (["--with", "m.gated", "--inputs", "float32", "--input", "x.npy"], "--inputs goes with --to"),
    ],
)
def test_wrong_command_lines_exit_with_2(capsys, options, message):
    with pytest.raises(SystemExit) as exit:
        cli.main(["compare", "m.gated", *options])
    assert exit.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--to", "bfloat16", "--inputs", "int8"], "m.gated: inputs: expected None with bfloat16, got 'int8'"),
        (
            ["--to", "int8", "--arithmetic", "bfloat16"],
            "m.gated: arithmetic: expected 'float32' with int8, got 'bfloat16'",
        ),
        (["--to", "int8", "--calibrate", "none.npy"], "none.npy: No such file or directory"),
        (["--to", "int8", "--calibrate", "lengths.npy"], r"lengths.npy: .*expected .*\(T, N, 3\) or .*, got \(5,\)"),
        (["--to", "bfloat16", "--calibrate", "x.npy"], "m.gated: calibrate: expected None with bfloat16, got ndarray"),
        (["--with", "none.gated"], "none.gated: No such file or directory"),
        (["--with", "gru.gated"], "gru.gated: narrow: expected lstm 3 -> 20 as layer 0, got gru 3 -> 20"),
        (["--to", "int8", "--lengths", "x.npy"], "x.npy: lengths: expected integers, got float32"),
        (["--to", "int8", "--input", "none.npy"], "none.npy: No such file or directory"),
        (["--to", "int8", "--input", "lengths.npy"], r"lengths.npy: .*expected .*\(T, N, 3\) or \(T, 3\), got \(5,\)"),
    ],
)
def test_errors_name_the_file(capsys, options, message):
    gc.Model([layer("gru")]).save("gru.gated")
    assert cli.main(["compare", "m.gated", "--input", "x.npy", *options]) == 1
    captured = capsys.readouterr()
    assert re.fullmatch(f"gated-c: error: {message}\n", captured.err)
    assert captured.out == ""
