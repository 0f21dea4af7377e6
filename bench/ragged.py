"""What does a batch of sequences of different lengths cost, beside torch's packed path and beside the padded batch?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from bench import engine, peers
from bench.case import Case
from bench.goals import ENGINE, Result
from bench.measure import Effort, Runner, check, measure

BATCH, SEQ_LEN = 32, 128

#: At most 1.05 times the live share of the time of the padded batch.
GOALS = {"torch packed": 5, "dense share": 1 / 1.05}


def results(quick: bool, effort: Effort) -> Iterator[Result]:
    lengths = tuple(map(int, np.random.default_rng(0).integers(1, SEQ_LEN + 1, BATCH)))
    for cell in ("lstm", "gru"):
        for size in (64,) if quick else (64, 128, 256, 512):
            yield compare_ragged(Case(cell, size, size, BATCH, SEQ_LEN, lengths), effort)


def compare_ragged(case: Case, effort: Effort) -> Result:
    assert case.lengths
    ragged: dict[str, Runner] = {ENGINE: engine.runner(case), **peers.runners(case)}
    check(ragged, case)
    padded = replace(case, lengths=None)
    dense: dict[str, Runner] = {"dense share": engine.runner(padded)}
    check(dense, padded)

    times, cpu_share = measure(ragged | dense, effort)
    times["dense share"] = times["dense share"].scaled(sum(case.lengths) / (case.batch * case.seq_len))
    per_step = {name: timing.scaled(1 / case.seq_len) for name, timing in times.items()}
    work = f"ragged batch, lengths uniform in 1..T, {case.cell.upper()}"
    return Result(work, str(case), "µs per step", per_step, GOALS, cpu_share)
