"""Did this commit make the engine slower? ``pytest bench`` times it alone, to be saved and compared with a saved run.

Plain ``pytest`` does not collect it. ``GATED_C_ISA`` forces an instruction set. See README.md here.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Sequence
from itertools import product

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

import gated_c
from bench.case import Case
from gated_c.layers import Conv, Dense
from gated_c.spec import Array

STEPS = 1000

CELLS = ("lstm", "gru")
DTYPES = ("float32", "bfloat16", "int8")
SMALL, LARGE = (16, 64, 256), (256, 512)


def cases(sizes: Sequence[int], batches: Sequence[int] = (1,), seq_len: int = 1) -> list[Case]:
    return [Case(cell, size, size, batch, seq_len) for cell, size, batch in product(CELLS, sizes, batches)]


def label(case: Case) -> str:
    return f"{case.cell}-{case.hidden_size}" + (f"-batch{case.batch}" if case.batch > 1 else "")


def over(cases: list[Case]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases, ids=label)


over_dtypes = pytest.mark.parametrize("dtype", DTYPES)
over_threads = pytest.mark.parametrize("threads", [1, 2], ids=("1thread", "2threads"))


@over(cases(SMALL))
@over_dtypes
def test_steps(benchmark: BenchmarkFixture, case: Case, dtype: str) -> None:
    """A thousand steps of one stream, called from Python."""
    stream = model([case.spec()], dtype).stream()
    x, y = random(1, case.input_size), np.zeros((1, case.hidden_size), np.float32)

    def steps() -> None:
        step = stream.step
        for _ in range(STEPS):
            step(x, y)

    benchmark(steps)


@over(cases(SMALL, seq_len=128))
@over_dtypes
def test_sequence(benchmark: BenchmarkFixture, case: Case, dtype: str) -> None:
    """128 steps of one sequence at once."""
    run(benchmark, case, dtype)


@over(cases((256,), batches=(4, 32), seq_len=64))
@over_dtypes
def test_batch(benchmark: BenchmarkFixture, case: Case, dtype: str) -> None:
    """64 steps of a batch."""
    run(benchmark, case, dtype)


@over(cases(LARGE, batches=(1, 32), seq_len=64))
@over_threads
def test_threads(benchmark: BenchmarkFixture, case: Case, threads: int) -> None:
    """64 steps of one sequence and of a batch, on one thread and on two."""
    run(benchmark, case, "float32", threads)


@over(cases((64, 256), batches=(64,)))
@over_dtypes
def test_pool(benchmark: BenchmarkFixture, case: Case, dtype: str) -> None:
    """A tick of 64 of a thousand streams, the same ones each time, in no order."""
    pool = model([case.spec()], dtype).pool(1000)
    ids = np.array([pool.open() for _ in range(1000)])
    chosen = np.random.default_rng(0).choice(ids, case.batch, replace=False)
    x, y = random(case.batch, case.input_size), np.zeros((case.batch, case.hidden_size), np.float32)
    benchmark(pool.step, chosen, x, y)


@pytest.mark.parametrize("rows", [1, 64])
def test_dense(benchmark: BenchmarkFixture, rows: int) -> None:
    """256 to 256 features, of one row and of many, and the recurrent layer that a model needs at its smallest."""
    made = model([Dense(random(256, 256), random(256)), Case("gru", 256, 1).spec()])
    benchmark(made, random(1, rows, 256))


@pytest.mark.parametrize("seq_len", [1, 64])
def test_conv(benchmark: BenchmarkFixture, seq_len: int) -> None:
    """64 to 64 features over 5 steps, of one step and of a sequence, before the same."""
    stream = model([Conv(random(64, 5, 64), random(64)), Case("gru", 64, 1).spec()]).stream()
    benchmark(stream.run, random(seq_len, 1, 64))


def run(benchmark: BenchmarkFixture, case: Case, dtype: str, threads: int = 1) -> None:
    """A call on [T, N, C] into the caller's buffer."""
    made = model([case.spec()], dtype, threads)
    x, y = case.inputs(seed=0), np.zeros((case.seq_len, case.batch, case.hidden_size), np.float32)
    benchmark(made, x, out=y)


def model(layers: list[gated_c.layers.Layer], dtype: str = "float32", threads: int = 1) -> gated_c.Model:
    if threads > len(os.sched_getaffinity(0)):
        pytest.skip(f"needs {threads} CPUs")
    if "threads" not in inspect.signature(gated_c.Model).parameters:
        if threads > 1:
            pytest.skip("this build has one thread")
        made = gated_c.Model(layers)
    else:
        made = gated_c.Model(layers, threads=threads)
    return made if dtype == "float32" else made.to(dtype)


def random(*shape: int) -> Array:
    return np.random.default_rng(0).uniform(-0.1, 0.1, shape).astype(np.float32)
