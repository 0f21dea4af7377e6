"""What do resets within a batch cost, beside the same call without any and beside splitting it in Python?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from bench import engine, peers
from bench.case import Case
from bench.goals import ENGINE, Result
from bench.measure import Effort, Runner, check, measure

#: As in reinforcement learning: environments side by side, each with a new episode now and then.
SEQ_LEN, EPISODE = 128, 100

#: At most 1.03 times the time without resets.
GOALS = {"no resets": 1 / 1.03, "split": 1.5, "torch split": 5}


def results(quick: bool, effort: Effort) -> Iterator[Result]:
    rng = np.random.default_rng(0)
    for cell in ("lstm", "gru"):
        for size in (16, 64, 256) if quick else (16, 64, 128, 256):
            for batch in (1, 8) if quick else (1, 8, 32):
                resets = np.argwhere(rng.random((SEQ_LEN, batch)) < 1 / EPISODE)
                case = Case(cell, size, size, batch, SEQ_LEN, resets=tuple((int(t), int(n)) for t, n in resets))
                yield compare_resets(case, effort)


def compare_resets(case: Case, effort: Effort) -> Result:
    runners: dict[str, Runner] = {ENGINE: engine.runner(case), "split": engine.Split(case)}
    torch = peers.installed().get("torch")
    if torch:
        runners |= torch.runners(case)
    check(runners, case)
    without = replace(case, resets=None)
    plain: dict[str, Runner] = {"no resets": engine.runner(without)}
    check(plain, without)

    times, cpu_share = measure(runners | plain, effort)
    per_step = {name: timing.scaled(1 / case.seq_len) for name, timing in times.items()}
    return Result("resets within a batch", str(case), "µs per step", per_step, GOALS, cpu_share)
