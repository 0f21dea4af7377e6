"""Steps keep a deadline: no system call, no page fault; and how long they take is told as it was."""

import signal
import subprocess

import numpy as np
import pytest
from conftest import random_spec

import gated_c as gc
from gated_c import latency
from gated_c.cli import main
from tests.build_core import build, compiler


def test_a_warm_stream_and_pool_make_no_system_call_and_meet_no_page_fault(tmp_path):
    cc = compiler("gcc") or compiler("clang")
    if cc is None:
        pytest.skip("needs a C compiler")
    done = subprocess.run([build(cc, "tests/c/realtime.c", tmp_path)], capture_output=True, text=True, check=False)
    if done.returncode == 3:
        pytest.skip("needs seccomp")
    assert (done.returncode, done.stdout) == (0, "0 page faults\n")


def test_warming_a_stream_leaves_its_state_alone():
    layers = [random_spec(np.random.default_rng(1), "lstm", 4, 8), gc.layers.Conv(np.ones((2, 3, 8), np.float32))]
    stream, other = (gc.Model(layers).stream(2) for _ in range(2))
    x = np.random.default_rng(2).standard_normal((5, 2, 4), np.float32)
    for x_t in x:
        stream.warm()
        np.testing.assert_array_equal(stream.step(x_t), other.step(x_t))


def test_warming_a_pool_leaves_its_members_alone():
    layers = [random_spec(np.random.default_rng(1), "gru", 4, 8), gc.layers.Conv(np.ones((2, 3, 8), np.float32))]
    pool, other = (gc.Model(layers).pool(3) for _ in range(2))
    ids, other_ids = ([p.open(), p.open()] for p in (pool, other))
    x = np.random.default_rng(2).standard_normal((5, 2, 4), np.float32)
    for x_t in x:
        pool.warm()
        np.testing.assert_array_equal(pool.step(ids, x_t), other.step(other_ids, x_t))
    assert pool.open() not in ids


def test_percentiles_and_histogram_count_every_step():
    times = np.array([100] * 990 + [200] * 9 + [5000], np.int64)
    found = latency.percentiles(times)
    assert (found["p50"], found["max"]) == (100, 5000)
    assert 100 <= found["p99"] <= 200 <= found["p99.9"] < 5000
    edges, counts = latency.histogram(times)
    assert counts.sum() == 1000
    assert edges[0] <= 100 < edges[1] <= 120  # a quarter of an octave
    assert [line.split()[4] for line in latency.histogram_lines(times)] == ["990", "9", "1"]


@pytest.mark.parametrize("takes", ["sequence", "ids"])
def test_latencies_are_those_of_steps(takes):
    spec = random_spec(np.random.default_rng(0), "gru", 4, 8)
    embedding = gc.layers.Embedding(np.ones((10, 4), np.float32))
    model = gc.Model({"sequence": [spec], "ids": [embedding, spec]}[takes])
    times = latency.step_latencies(model, np.ones((6, 3, 4) if takes == "sequence" else (6, 3)), 1000)
    assert times.shape == (1000,)
    assert 1 <= np.median(times) < 1e6


def test_the_command_prints_a_histogram_and_saves_a_plot(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    gc.Model([random_spec(np.random.default_rng(0), "lstm", 4, 8)]).save(tmp_path / "m.gated")
    assert main(["latency", str(tmp_path / "m.gated"), "--steps", "2000", "--plot", str(tmp_path / "l.png")]) == 0
    out = capsys.readouterr().out
    assert "2,000 steps" in out
    assert sum(int(line.split()[4].replace(",", "")) for line in out.splitlines() if " .. " in line) == 2000
    assert [line.split()[0] for line in out.splitlines()[-4:]] == ["p50", "p99", "p99.9", "max"]
    assert (tmp_path / "l.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", ["l.gift", "l", "nowhere/l.png"])
def test_a_plot_that_cannot_be_written_is_an_error(name, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    gc.Model([random_spec(np.random.default_rng(0), "lstm", 4, 8)]).save(tmp_path / "m.gated")
    assert main(["latency", str(tmp_path / "m.gated"), "--steps", "10", "--plot", str(tmp_path / name)]) == 1
    out, err = capsys.readouterr()
    assert name in err
    assert not out  # nothing was measured first
    assert [path.name for path in tmp_path.iterdir()] == ["m.gated"]


def test_a_model_that_cannot_be_streamed_has_no_latency(tmp_path, capsys):
    gc.Model([random_spec(np.random.default_rng(0), "lstm", 4, 8, bidirectional=True)]).save(tmp_path / "m.gated")
    assert main(["latency", str(tmp_path / "m.gated")]) == 1
    assert "step by step" in capsys.readouterr().err


def test_signals_are_heard_while_steps_are_timed():
    def stop(number, frame):
        raise InterruptedError

    stream = gc.Model([random_spec(np.random.default_rng(0), "lstm", 4, 8)]).stream()
    times = np.zeros(100_000_000, np.int64)
    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        with pytest.raises(InterruptedError):
            stream._time_steps(np.ones((1, 1, 4), np.float32), times)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert times[-1] == 0
    stream.step(np.ones((1, 4), np.float32))  # nor is it in use any more
