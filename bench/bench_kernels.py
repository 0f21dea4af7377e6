"""The engine alone, for comparing two commits: ``pytest bench --benchmark-enable``.

Plain ``pytest`` does not collect it. ``GATED_C_ISA`` forces an instruction set.
"""

from __future__ import annotations

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench import engine
from bench.case import Case

STEPS = [Case(cell, size, size) for cell in ("lstm", "gru") for size in (16, 64, 256)]
SEQUENCES = [Case(cell, size, size, seq_len=128) for cell in ("lstm", "gru") for size in (16, 64, 256)]
BATCHES = [Case(cell, 256, 256, batch, seq_len=64) for cell in ("lstm", "gru") for batch in (4, 32)]


@pytest.mark.parametrize("case", STEPS, ids=str)
def test_a_thousand_steps(benchmark: BenchmarkFixture, case: Case) -> None:
    run(benchmark, case, calls=1000)


@pytest.mark.parametrize("case", SEQUENCES, ids=str)
def test_sequence(benchmark: BenchmarkFixture, case: Case) -> None:
    run(benchmark, case)


@pytest.mark.parametrize("case", BATCHES, ids=str)
def test_batch(benchmark: BenchmarkFixture, case: Case) -> None:
    run(benchmark, case)


def run(benchmark: BenchmarkFixture, case: Case, calls: int = 1) -> None:
    runner = engine.runner(case)
    runner.write(case.inputs(seed=0))
    benchmark(runner.run, calls)
