"""`gated-c verify` as a shell user meets it: the table, the verdict, the exit code."""

import re
from pathlib import Path

import numpy as np
import pytest
from conftest import random_spec

import gated_c as gc
from gated_c import cli, verify
from gated_c.writers import write

torch = pytest.importorskip("torch")
torch.set_num_threads(1)

C, H = 3, 4


def layer(cell="lstm", **options):
    return random_spec(np.random.default_rng(0), cell, C, H, **options)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A current directory with a state_dict and an input for it."""
    monkeypatch.chdir(tmp_path)
    write([layer(num_layers=2)], "m.safetensors")
    np.save("x.npy", np.random.default_rng(1).standard_normal((7, 5, C), np.float32))
    np.save("lengths.npy", np.array([7, 0, 3, 1, 2]))


def table(capsys):
    """Rows under the header, without numbers, and the last line."""
    header, *rows, verdict = capsys.readouterr().out.splitlines()
    assert re.split(r"\s{2,}", header) == ["layer", "input", "largest error", "tolerance"]
    split = [re.split(r"\s{2,}", row) for row in rows]
    assert all(float(error) <= float(tolerance) for _, _, error, tolerance in split)
    return [(layer, given) for layer, given, _, _ in split], verdict


def test_verify_lists_every_layer_and_the_verdict(capsys):
    assert cli.main(["verify", "m.safetensors"]) == 0
    rows, verdict = table(capsys)
    assert rows == [("lstm layer 0", "random"), ("lstm layer 1", "random")]
    assert verdict == f"m.safetensors: equals PyTorch {torch.__version__} up to rounding"


@pytest.mark.parametrize("more", [[], ["--lengths", "lengths.npy"]])
def test_verify_takes_an_input_as_well(capsys, more):
    assert cli.main(["verify", "m.safetensors", "--input", "x.npy", *more]) == 0
    rows, _ = table(capsys)
    assert rows[2:] == [("lstm layer 0", "x.npy"), ("lstm layer 1", "x.npy")]


@pytest.mark.parametrize("batch_first", ["--batch-first", "--no-batch-first"])
def test_verify_takes_one_sequence(capsys, batch_first):
    np.save("one.npy", np.load("x.npy")[:, 0])
    assert cli.main(["verify", "m.safetensors", "--input", "one.npy", batch_first]) == 0
    rows, _ = table(capsys)
    assert len(rows) == 4


def test_a_difference_is_exit_code_1_and_names_the_layer(monkeypatch, capsys):
    found = [
        verify.Finding("first", 1e-7, 1e-6),
        verify.Finding("second", 0.5, 1e-6),
        verify.Finding("third", 1.0, 1.0),
    ]
    monkeypatch.setattr(verify, "verify", lambda *args: found)
    assert cli.main(["verify", "m.safetensors"]) == 1
    captured = capsys.readouterr()
    assert captured.out.splitlines()[2].split() == ["second", "random", "0.5", "1e-06"]
    message = f"m.safetensors: differs from PyTorch {torch.__version__} from second on"
    assert captured.err == f"gated-c: error: {message}\n"


def test_verify_follows_what_the_command_line_says_of_the_file(capsys):
    write([layer("rnn_relu")], "rnn.safetensors")
    assert cli.main(["verify", "rnn.safetensors", "--nonlinearity", "relu"]) == 0


def test_a_gated_file_replays_its_golden_vectors(capsys):
    gc.Model([layer()]).save("m.gated", golden=np.load("x.npy"))
    assert cli.main(["verify", "m.gated"]) == 0
    assert capsys.readouterr().out == "m.gated: equals its golden vectors\n"


def test_a_gated_file_without_golden_vectors_says_what_to_do(capsys):
    gc.Model([layer()]).save("m.gated")
    assert cli.main(["verify", "m.gated"]) == 1
    assert capsys.readouterr().err.startswith("gated-c: error: m.gated: no golden vectors in it")


@pytest.mark.parametrize(
    "option", [["--input", "x.npy"], ["--prefix", "lstm"], ["--batch-first"], ["--no-batch-first"]]
)
def test_golden_vectors_are_of_the_whole_file_and_nothing_else(capsys, option):
    gc.Model([layer()]).save("m.gated", golden=np.load("x.npy"))
    with pytest.raises(SystemExit) as exit:
        cli.main(["verify", "m.gated", *option])
    assert exit.value.code == 2
    assert "does not go with the golden vectors of a .gated file" in capsys.readouterr().err


def test_lengths_need_an_input():
    with pytest.raises(SystemExit) as exit:
        cli.main(["verify", "m.safetensors", "--lengths", "lengths.npy"])
    assert exit.value.code == 2


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["none.pt"], "none.pt: No such file or directory"),
        (["m.safetensors", "--input", "none.npy"], "none.npy: No such file or directory"),
        (["m.safetensors", "--input", "lengths.npy"], r"lengths.npy: .*expected .*\(T, N, 3\) or \(T, 3\), got \(5,\)"),
        (["m.safetensors", "--input", "x.npy", "--lengths", "x.npy"], "x.npy: lengths: expected integers, got float32"),
    ],
)
def test_errors_name_the_file(capsys, args, message):
    assert cli.main(["verify", *args]) == 1
    captured = capsys.readouterr()
    assert re.fullmatch(f"gated-c: error: {message}\n", captured.err)
    assert captured.out == ""


def test_no_framework_reads_the_files_of_audio_plug_ins(capsys):
    Path("amp.nam").write_bytes((Path(__file__).parent.parent / "examples/amp.nam").read_bytes())
    assert cli.main(["verify", "amp.nam"]) == 1
    assert "gated-c: error: amp.nam: no framework reads" in capsys.readouterr().err
