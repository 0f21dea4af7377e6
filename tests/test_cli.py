"""The commands as a shell user meets them: output, exit codes, messages, what is left on the disk."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import re
import signal
import stat
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from conftest import random_spec
from safetensors.numpy import save_file

import gated_c as gc
from gated_c import cli, commands, npy, timing
from gated_c.console import format_bytes

T, N, C, H = 11, 5, 3, 4


def layer(cell: str = "lstm", input_size: int = C, hidden_size: int = H, **options) -> gc.LayerSpec:
    return random_spec(np.random.default_rng(0), cell, input_size, hidden_size, **options)


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal(shape, np.float32)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """An empty current directory, so that messages hold short names."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def model(folder) -> gc.Model:
    """The LSTM in ``lstm.gated``, with an input for it in ``x.npy`` [T,N,C]."""
    model = gc.Model([layer()])
    model.save("lstm.gated")
    np.save("x.npy", random(T, N, C))
    return model


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def command(*args: str) -> list[str]:
    return [sys.executable, "-W", "error", "-m", "gated_c", *args]


# info


def test_info_lists_every_module_in_aligned_columns(folder, capsys):
    encoder, decoder = layer(num_layers=2, bidirectional=True), layer("gru", input_size=7)
    save_file(
        {f"encoder.rnn.{name}": weight for name, weight in encoder.weights.items()}
        | {f"decoder.{name}": weight for name, weight in decoder.weights.items()},
        "two.safetensors",
    )
    assert cli.main(["info", "two.safetensors"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == [
        "name",
        "cell",
        "layers",
        "directions",
        "input",
        "hidden",
        "proj",
        "batch_first",
        "parameters",
        "dtype",
        "memory",
    ]
    rows = {line.split()[0]: line.split()[1:] for line in lines[1:]}
    assert rows["encoder.rnn"][:8] == ["lstm", "2", "2", "3", "4", "-", "no", str(encoder.num_parameters)]
    assert rows["decoder"][:8] == ["gru", "1", "1", "7", "4", "-", "no", str(decoder.num_parameters)]
    assert len({line.index(row[7]) + len(row[7]) for line, row in zip(lines[1:], rows.values(), strict=True)}) == 1


@pytest.mark.parametrize("words", [{"dtype": "bfloat16"}, {"dtype": "int8", "inputs": "float32"}])
def test_info_says_how_narrow_weights_are(folder, capsys, words):
    model = gc.Model([layer(), layer("gru", input_size=4)]).to(**words)
    model.save("m.gated")
    assert cli.main(["info", "m.gated"]) == 0
    lines = capsys.readouterr().out.splitlines()
    said = "bfloat16" if words["dtype"] == "bfloat16" else "int8 with float32 inputs"
    alone = [gc.Model([spec]).to(**words).packed_bytes for spec in model.layers]
    for line, size in zip(lines[1:], alone, strict=True):
        assert line.partition(f" {said} ")[2].strip() == format_bytes(size)


def test_info_does_not_pass_escape_sequences_on(folder, capsys):
    save_file({f"\x1b[2Jrnn.{name}": weight for name, weight in layer().weights.items()}, "m.safetensors")
    assert cli.main(["info", "m.safetensors"]) == 0
    assert r"\x1b[2Jrnn" in capsys.readouterr().out


def test_info_clips_names(folder, capsys):
    gc.Model([layer(name="x" * 10**6)]).save("m.gated")
    assert cli.main(["info", "m.gated"]) == 0
    assert len(capsys.readouterr().out) < 2000


def test_info_shows_warnings_as_lines(model, monkeypatch, capsys):
    def inspect(path, config):
        warnings.warn("left out: 'enc\x1b[2J', a QuantizedLSTM", stacklevel=2)
        return model.layers

    monkeypatch.setattr(gc, "inspect", inspect)
    assert cli.main(["info", "lstm.gated"]) == 0
    captured = capsys.readouterr()
    assert captured.err == "gated-c: warning: left out: 'enc\\x1b[2J', a QuantizedLSTM\n"
    assert len(captured.out.splitlines()) == 2


# run


def test_run_takes_the_lengths_of_rows(model):
    lengths = np.array([3, 0, T, 1, 7], np.uint8)
    np.save("lengths.npy", lengths)
    assert cli.main(["run", "lstm.gated", "x.npy", "--lengths", "lengths.npy", "-o", "y.npy"]) == 0
    np.testing.assert_array_equal(np.load("y.npy"), model(np.load("x.npy"), lengths=lengths)[0], strict=True)


def test_run_flags_tell_what_the_file_does_not(folder):
    relu = layer("rnn_relu", batch_first=True)
    save_file(
        {f"a.{name}": weight for name, weight in layer().weights.items()}
        | {f"b.{name}": weight for name, weight in relu.weights.items()},
        "m.safetensors",
    )
    x = random(N, T, C)
    np.save("x.npy", x)
    flags = ["--prefix", "b", "--batch-first", "--nonlinearity", "relu"]
    assert cli.main(["run", "m.safetensors", "x.npy", "-o", "y.npy", *flags]) == 0
    np.testing.assert_array_equal(np.load("y.npy"), gc.Model([relu])(x)[0], strict=True)


def test_run_writes_to_a_redirected_stdout(model, capsysbinary):
    assert cli.main(["run", "lstm.gated", "x.npy"]) == 0
    y = np.load(io.BytesIO(capsysbinary.readouterr().out))
    np.testing.assert_array_equal(y, model(np.load("x.npy"))[0], strict=True)


def test_run_does_not_write_to_a_terminal(model, monkeypatch, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    with pytest.raises(SystemExit) as exit:
        cli.main(["run", "lstm.gated", "x.npy"])
    assert exit.value.code == 2
    assert "use -o OUT.npy" in capsys.readouterr().err


def test_run_writes_into_a_pipe_and_leaves_it_a_pipe(model, folder):
    os.mkfifo("pipe")
    received = []
    reader = threading.Thread(target=lambda: received.append(Path("pipe").read_bytes()), daemon=True)
    reader.start()
    assert cli.main(["run", "lstm.gated", "x.npy", "-o", "pipe"]) == 0
    reader.join()
    np.testing.assert_array_equal(np.load(io.BytesIO(received[0])), model(np.load("x.npy"))[0])
    assert Path("pipe").is_fifo()


@pytest.mark.parametrize("command", [["run", "lstm.gated", "x.npy", "-o"], ["convert", "lstm.gated"]])
def test_outputs_keep_the_permissions_of_what_they_replace(model, command):
    Path("old").touch(0o600)
    assert cli.main([*command, "old"]) == 0
    assert stat.S_IMODE(os.stat("old").st_mode) == 0o600


def test_run_may_replace_its_own_input(model):
    x = np.load("x.npy")
    assert cli.main(["run", "lstm.gated", "x.npy", "-o", "x.npy"]) == 0
    np.testing.assert_array_equal(np.load("x.npy"), model(x)[0])


def test_run_writes_through_a_symbolic_link(model, folder):
    Path("link.npy").symlink_to("real.npy")
    assert cli.main(["run", "lstm.gated", "x.npy", "-o", "link.npy"]) == 0
    assert Path("link.npy").is_symlink()
    assert np.load("real.npy").shape == (T, N, H)


@pytest.mark.parametrize(
    ("failure", "code"), [(KeyboardInterrupt(), 130), (MemoryError(), 1), (OSError(28, "No space left on device"), 1)]
)
def test_run_leaves_the_old_output_after_a_failure(model, folder, monkeypatch, failure, code):
    def fail_in_the_second_block(done: int) -> None:
        raise failure

    Path("y.npy").write_text("old")
    before = files(folder)
    monkeypatch.setattr(npy, "BLOCK_FLOATS", 1)
    monkeypatch.setattr(commands.run, "_progress", lambda steps: contextlib.nullcontext(fail_in_the_second_block))
    assert cli.main(["run", "lstm.gated", "x.npy", "-o", "y.npy"]) == code
    assert files(folder) == before
    assert Path("y.npy").read_text() == "old"


def test_run_finds_a_full_disk_before_it_starts(model, folder, monkeypatch, capsys):
    def full(*args: int) -> None:
        raise OSError(28, "No space left on device")

    before = files(folder)
    monkeypatch.setattr(os, "posix_fallocate", full)
    assert cli.main(["run", "lstm.gated", "x.npy", "-o", "y.npy"]) == 1
    assert capsys.readouterr().err == "gated-c: error: y.npy: No space left on device\n"
    assert files(folder) == before


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("stream", "shown"), [(Terminal(), True), (io.StringIO(), False)])
def test_progress_bar_is_for_terminals(model, monkeypatch, stream, shown):
    pytest.importorskip("tqdm")
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(commands.run, "QUIET_SECONDS", 0)
    assert cli.main(["run", "lstm.gated", "x.npy", "-o", "y.npy"]) == 0
    assert ("steps/s" in stream.getvalue()) == shown


def test_progress_bar_waits_for_a_second(model, monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert cli.main(["run", "lstm.gated", "x.npy", "-o", "y.npy"]) == 0
    assert sys.stderr.getvalue().strip() == ""


@pytest.mark.parametrize(("seconds", "shown"), [(0, "\r  9%\r 18%"), (60, "")])
def test_progress_without_tqdm_is_a_percentage_after_a_while(model, monkeypatch, seconds, shown):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setattr(commands.run, "find_spec", lambda name: None)
    monkeypatch.setattr(commands.run, "QUIET_SECONDS", seconds)
    monkeypatch.setattr(npy, "BLOCK_FLOATS", 1)
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert cli.main(["run", "lstm.gated", "x.npy", "-o", "y.npy"]) == 0
    assert sys.stderr.getvalue().startswith(shown)
    assert sys.stderr.getvalue().endswith("\r100%\r    \r" if shown else "")
    assert bool(shown) == bool(sys.stderr.getvalue())


# convert


def test_convert_keeps_every_bit(model, folder):
    weights = {f"net.rnn.{name}": weight for name, weight in layer("gru").weights.items()}
    save_file(weights, "gru.safetensors")
    assert cli.main(["convert", "gru.safetensors", "gru.gated", "--batch-first"]) == 0
    converted = gc.load("gru.gated")
    assert converted.batch_first
    for name, weight in layer("gru").weights.items():
        np.testing.assert_array_equal(converted.layers[0].weights[name], weight, strict=True)
    assert files(folder) == {"lstm.gated", "x.npy", "gru.safetensors", "gru.gated"}


# bench and cpu


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(timing, "SECONDS", 0.001)
    monkeypatch.setattr(timing, "WARM_UP_SECONDS", 0.001)


def bench_rows(capsys) -> set[tuple[str, str]]:
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["p50", "us", "p99", "us", "calls"]
    for line in lines[2:]:
        _, _, p50, p99, calls = line.split()
        assert float(p50) <= float(p99)
        assert int(calls.replace(",", "")) > 0
    return {tuple(line.split()[:2]) for line in lines[2:]}


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize(
    ("cell", "options"),
    [
        ("lstm", {"proj_size": 2}),
        ("gru", {"num_layers": 2}),
        ("rnn_tanh", {"bias": False}),
        ("rnn_relu", {}),
    ],
)
def test_bench_times_pytorch_beside_us(folder, quick, capsys, cell, options, batch_first):
    pytest.importorskip("torch")
    gc.Model([layer(cell, batch_first=batch_first, **options)]).save("m.gated")
    assert cli.main(["bench", "m.gated", "-T", "4", "-N", "2"]) == 0
    assert bench_rows(capsys) == set(itertools.product(["step", "sequence"], ["gated_c", "pytorch"]))


def test_bench_needs_no_torch(model, quick, monkeypatch, capsys):
    monkeypatch.setattr(commands.bench, "find_spec", lambda name: None)
    assert cli.main(["bench", "lstm.gated"]) == 0
    assert bench_rows(capsys) == {("step", "gated_c"), ("sequence", "gated_c")}


def test_bench_of_a_bidirectional_model_has_no_steps(folder, quick, monkeypatch, capsys):
    monkeypatch.setattr(commands.bench, "find_spec", lambda name: None)
    gc.Model([layer(bidirectional=True)]).save("m.gated")
    assert cli.main(["bench", "m.gated"]) == 0
    assert bench_rows(capsys) == {("sequence", "gated_c")}


def test_bench_compares_before_it_times(model, quick, monkeypatch, capsys):
    pytest.importorskip("torch")
    other = layer(bias=False)
    monkeypatch.setattr(timing, "torch_module", lambda _, make=timing.torch_module: make(other))
    assert cli.main(["bench", "lstm.gated"]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("gated-c: error: outputs differ from PyTorch's by up to ")
    assert captured.out == ""


def test_cpu_marks_the_chosen_isa(capsys):
    assert cli.main(["cpu"]) == 0
    header, *rows, threads = (line.split() for line in capsys.readouterr().out.splitlines())
    assert header == ["isa", "lanes", "usable", "exact", "chosen"]
    info = gc.cpu_info()
    assert threads[:2] == ["threads:", f"{info.threads},"]
    assert [row[0] for row in rows] == [isa.name for isa in info.isas]
    assert [row[0] for row in rows if row[4] == "yes"] == [info.chosen]


# errors


def test_version(capsys):
    with pytest.raises(SystemExit) as exit:
        cli.main(["--version"])
    assert exit.value.code == 0
    assert capsys.readouterr().out == f"gated-c {gc.__version__}\n"


@pytest.mark.parametrize(
    "args",
    [[], ["dance"], ["info"], ["run", "m.gated"], ["bench", "m.gated", "-T", "0"], ["bench", "m.gated", "-N", "x"]],
)
def test_wrong_command_lines_exit_with_2(args, capsys):
    with pytest.raises(SystemExit) as exit:
        cli.main(args)
    assert exit.value.code == 2
    assert capsys.readouterr().err.startswith("usage: gated-c")


def test_sizes_must_be_positive(capsys):
    with pytest.raises(SystemExit):
        cli.main(["bench", "m.gated", "-T", "0"])
    assert capsys.readouterr().err.endswith(": expected a positive number, got 0\n")


def test_messages_are_clipped_and_without_escape_sequences(model, monkeypatch, capsys):
    def inspect(path, config):
        raise gc.FormatError(f"m.pt: evil\x1b[2J{'x' * 10**6} is no class\nof torch" + "\n" * 100)

    monkeypatch.setattr(gc, "inspect", inspect)
    assert cli.main(["info", "m.pt"]) == 1
    message = capsys.readouterr().err
    assert message.startswith("gated-c: error: m.pt: evil\\x1b[2Jxxx")
    assert "x is no class\nof torch\n" in message
    assert message.endswith("\n...\n")
    assert len(message) < 500


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["info", "none.pt"], "none.pt: No such file or directory"),
        (["info", "."], r"\.: Is a directory"),
        (["info", "linear.safetensors"], "linear.safetensors: no LSTM, GRU or RNN in it"),
        (["bench", "none.gated"], "none.gated: No such file or directory"),
        (["convert", "none.gated", "out.gated"], "none.gated: No such file or directory"),
        (["convert", "lstm.gated", "none/out.gated"], "none/out.gated: No such file or directory"),
        (["convert", "lstm.gated", "."], r"\.: Is a directory"),
        (["convert", "lstm.gated", "out.gated", "--prefix", "decoder"], r"lstm.gated: .*'decoder'\n(.*\n)*.*"),
        (["run", "lstm.gated", "none.npy", "-o", "y.npy"], "none.npy: No such file or directory"),
        (["run", "lstm.gated", "x.npy", "-o", "none/y.npy"], "none/y.npy: No such file or directory"),
        (["run", "lstm.gated", "x.npy", "-o", "."], r"\.: Is a directory"),
        (["run", "lstm.gated", "wide.npy", "-o", "y.npy"],
         r"wide.npy: x: expected \(T, N, 3\) or \(T, 3\), got \(5, 4\)"),
        (["run", "lstm.gated", "complex.npy", "-o", "y.npy"], "complex.npy: expected real numbers, got complex128"),
        (["run", "lstm.gated", "objects.npy", "-o", "y.npy"], "objects.npy: object arrays are not supported"),
        (["run", "lstm.gated", "lstm.gated", "-o", "y.npy"], "lstm.gated: not a .npy file"),
        (["run", "lstm.gated", "empty.npy", "-o", "y.npy"], "empty.npy: not a .npy file"),
        (["run", "lstm.gated", "cut.npy", "-o", "y.npy"], "cut.npy: truncated: header says 788 bytes, file has 787"),
        (["run", "lstm.gated", "x.npy", "--lengths", "x.npy", "-o", "y.npy"],
         "x.npy: lengths: expected integers, got float32"),
        (["run", "lstm.gated", "x.npy", "--lengths", "long.npy", "-o", "y.npy"],
         "long.npy: lengths: expected 0 to 11, got 12 in row 3"),
        (["run", "lstm.gated", "x.npy", "--lengths", "negative.npy", "-o", "y.npy"],
         "negative.npy: lengths: expected 0 to 11, got -1 in row 0"),
    ],
)  # fmt: skip
def test_errors_name_the_file_and_leave_nothing(model, folder, capsys, args, message):
    save_file({"weight": random(2, 2), "bias": random(2)}, "linear.safetensors")
    np.save("wide.npy", random(5, 4))
    np.save("complex.npy", np.zeros((T, N, C), complex))
    np.save("objects.npy", np.array([[None] * C]), allow_pickle=True)
    np.save("long.npy", np.array([0, 1, 2, 12, 12]))
    np.save("negative.npy", np.array([-1, 1, 2, 3, 4]))
    Path("empty.npy").touch()
    Path("cut.npy").write_bytes(Path("x.npy").read_bytes()[:-1])
    before = files(folder)
    assert cli.main(args) == 1
    captured = capsys.readouterr()
    assert re.fullmatch(f"gated-c: error: {message}\n", captured.err)
    assert captured.out == ""
    assert files(folder) == before


# as a process


def run(*args: str, isa: str = "", **options) -> subprocess.CompletedProcess[str]:
    """The finished command, its stdout buffered as in a shell."""
    changes = {"PYTHONUNBUFFERED": "", "GATED_C_ISA": isa or os.environ.get("GATED_C_ISA", "")}
    return subprocess.run(
        command(*args), text=True, timeout=60, stderr=subprocess.PIPE, env=os.environ | changes, **options
    )


def test_python_m_is_the_command(model):
    result = run("info", "lstm.gated", stdout=subprocess.PIPE)
    assert (result.returncode, result.stderr) == (0, "")
    assert len(result.stdout.splitlines()) == 2


@pytest.mark.parametrize("args", [["cpu"], ["--help"], ["run", "lstm.gated", "x.npy"]])
def test_broken_pipe_is_quiet(model, args):
    read_end, write_end = os.pipe()
    os.close(read_end)
    result = run(*args, stdout=write_end)
    os.close(write_end)
    assert (result.returncode, result.stderr) == (141, "")


def test_full_stdout_is_an_error(model):
    with open("/dev/full", "w") as full:
        result = run("cpu", stdout=full)
    assert (result.returncode, result.stderr) == (1, "gated-c: error: standard output: No space left on device\n")


def test_sizes_beyond_an_array_are_an_error(model, capsys):
    assert cli.main(["bench", "lstm.gated", "-T", "9" * 30]) == 1
    assert re.fullmatch("gated-c: error: .+\n", capsys.readouterr().err)


def test_full_device_is_named(model, capsys):
    assert cli.main(["run", "lstm.gated", "x.npy", "-o", "/dev/full"]) == 1
    assert capsys.readouterr().err == "gated-c: error: /dev/full: No space left on device\n"


def test_closed_stdout_is_no_traceback(model, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdout", None)
    assert cli.main(["info", "lstm.gated"]) == 0
    assert cli.main(["run", "lstm.gated", "x.npy", "-o", "y.npy"]) == 0
    with pytest.raises(SystemExit):
        cli.main(["run", "lstm.gated", "x.npy"])
    assert "standard output is closed: use -o OUT.npy" in capsys.readouterr().err


def test_closed_stderr_keeps_messages_out_of_stdout(folder, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stderr", None)
    assert cli.main(["info", "none.pt"]) == 1
    assert capsys.readouterr().out == ""


def test_unknown_isa_is_an_error(model):
    result = run("bench", "lstm.gated", isa="abacus")
    assert result.returncode == 1
    assert re.fullmatch("gated-c: error: .*GATED_C_ISA.*\n", result.stderr)


def signalled(folder: Path, number: int) -> tuple[int, bytes]:
    """The exit code and stderr of a long run that got a signal after it had begun to write."""
    gc.Model([layer(hidden_size=512, num_layers=8, proj_size=8)]).save("slow.gated")
    np.lib.format.open_memmap("long.npy", mode="w+", dtype=np.float32, shape=(10**6, C))
    before = files(folder)
    process = subprocess.Popen(
        command("run", "slow.gated", "long.npy", "-o", "y.npy"),
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),  # under nohup or in the background it is ignored
    )
    while files(folder) == before and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert files(folder) == before
    return process.returncode, errors


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_are_quiet_and_leave_nothing(folder, number):
    assert signalled(folder, number) == (128 + number, b"")


def test_signals_are_as_before_afterwards(model, monkeypatch):
    hangup = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert cli.main(["info", "lstm.gated"]) == 0
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, hangup)
