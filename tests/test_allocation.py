"""A step of a stream or a pool allocates nothing; models, streams and pools leave nothing behind."""

import gc as collector
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from conftest import random_spec

import gated_c as gc
from tests.build_core import ALLOCATION, build, compiler


def test_steps_and_runs_allocate_nothing_in_c(tmp_path):
    cc = compiler("gcc") or compiler("clang")
    if cc is None:
        pytest.skip("needs a C compiler")
    executable = build(cc, "tests/c/allocation.c", tmp_path, link=ALLOCATION)
    done = subprocess.run([executable], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def step_of_a_stream(model, x, out):
    step = model.stream(2).step
    return lambda: step(x, out)


def step_of_a_pool(model, x, out):
    pool = model.pool(3)
    ids = np.array([pool.open(), pool.open()])
    step = pool.step
    return lambda: step(ids, x, out)


@pytest.mark.parametrize("hidden_size", [8, 200])  # without and with the GIL released
@pytest.mark.parametrize("step_of", [step_of_a_stream, step_of_a_pool])
def test_a_step_allocates_nothing_in_python(step_of, hidden_size):
    model = gc.Model([random_spec(np.random.default_rng(0), "lstm", 4, hidden_size)])
    x, out = np.zeros((2, 4), np.float32), np.zeros((2, hidden_size), np.float32)
    step, repeat = step_of(model, x, out), [None] * 2000
    for _ in repeat:
        step()
    tracemalloc.start()
    try:
        before, blocks = tracemalloc.get_traced_memory()[0], sys.getallocatedblocks()
        tracemalloc.reset_peak()
        for _ in repeat:
            step()
        blocks = sys.getallocatedblocks() - blocks
        peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert abs(blocks) <= 2  # the counters themselves
    assert peak < 200


def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_ten_thousand_models_leave_no_memory_behind(tmp_path):
    gc.Model([random_spec(np.random.default_rng(0), "lstm", 16, 32, num_layers=2)]).save(tmp_path / "m.gated")
    x = np.zeros((3, 2, 16), np.float32)

    def use(count):
        for _ in range(count):
            model = gc.load(tmp_path / "m.gated")
            model(x, lengths=[3, 1])
            stream = model.stream(2)
            stream.step(x[0])
            stream.state = stream.state
            pool = model.pool(2)
            pool.restore(pool.open(), stream.snapshot()[:1])
        collector.collect()

    use(500)
    before = resident_bytes()
    use(9500)
    # One leaked model a hundred (80 KiB each) would be 7.6 MB.
    assert resident_bytes() - before < 4 << 20
