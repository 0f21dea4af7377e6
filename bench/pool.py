"""What does a step cost when thousands of streams live, and all of them or a few random ones tick?

Beside a pool: a dense batch of as many rows, which has nobody to look for; ONNX Runtime called for one stream after
another; and, as servers such as sherpa-onnx do it, on a batch stacked from the states of streams and unstacked again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, cycle, islice

import numpy as np
import numpy.typing as npt

import gated_c
from bench import engine
from bench.case import Case
from bench.goals import ENGINE, Result
from bench.measure import Effort, Runner, check, measure
from gated_c.spec import Array

Ids = npt.NDArray[np.int64]

#: Streams that live, and how many of them tick at once.
ALL, SOME = (1000, 1000), (10_000, 64)

#: By hidden_size, which is input_size too. At most 1.1, for random ones 1.15 times the time of a dense batch.
GOALS_OF_ALL = {
    64: {"dense batch": 1 / 1.1, "ORT, one by one": 10.0},
    256: {"dense batch": 1 / 1.1, "ORT, one by one": 3.5},
}
GOALS_OF_SOME = {"dense batch": 1 / 1.15, "ORT, stacked": 3.0}

#: Random choices of those that tick, gone through again and again.
CHOICES = 500


def results(quick: bool, effort: Effort) -> Iterator[Result]:
    for cell in ("gru",) if quick else ("gru", "lstm"):
        for size, goals in GOALS_OF_ALL.items():
            yield compare("1000 streams, all tick", cell, size, ALL, goals, effort)
        for size in GOALS_OF_ALL:
            yield compare("10000 streams, 64 random ones tick", cell, size, SOME, GOALS_OF_SOME, effort)


def compare(work: str, cell: str, size: int, lives: tuple[int, int], goals: dict[str, float], effort: Effort) -> Result:
    """Check everything against float64, then time it: µs per step of a stream."""
    streams, active = lives
    case = Case(cell, size, size, active)
    runners: dict[str, Runner] = {
        ENGINE: Pool(case, streams),
        "dense batch": engine.runner(case),
        **onnxruntime_runners(case, streams),
    }
    check(runners, case)
    times, cpu_share = measure(runners, effort)
    per_step = {name: timing.scaled(1 / active) for name, timing in times.items()}
    return Result(f"{work}, {cell.upper()}", str(case), "µs per step of a stream", per_step, goals, cpu_share)


def onnxruntime_runners(case: Case, streams: int) -> dict[str, Runner]:
    try:
        from bench.peers import onnxruntime
    except ImportError:
        return {}
    if streams == case.batch:
        return {"ORT, one by one": OneByOne(case, onnxruntime)}
    return {"ORT, stacked": Stacked(case, streams, onnxruntime)}


def choices(ids: Ids, active: int) -> Iterator[Ids]:
    """Which streams tick. The first choice comes three times, for what is checked is a state carried on."""
    rng = np.random.default_rng(0)
    chosen = [rng.choice(ids, active, replace=False) if active < len(ids) else ids for _ in range(CHOICES)]
    return chain(chosen[:1] * 2, cycle(chosen))


class Pool:
    """``Pool.step`` into the caller's buffer."""

    def __init__(self, case: Case, streams: int) -> None:
        self.pool = gated_c.Model([case.spec()]).pool(streams)
        ids = np.array([self.pool.open() for _ in range(streams)])
        self.choices = choices(ids, case.batch)
        self.y = np.zeros((case.batch, case.hidden_size), np.float32)

    def write(self, x: Array) -> None:
        self.x = x[0]

    def run(self, times: int) -> None:
        step, x, y, choices = self.pool.step, self.x, self.y, self.choices
        for _ in range(times):
            step(next(choices), x, y)

    def read(self) -> Array:
        return self.y[None]


class OneByOne:
    """A call for each stream, through its own bindings to one session."""

    def __init__(self, case: Case, onnxruntime) -> None:  # type: ignore[no-untyped-def]
        one = replace(case, batch=1)
        first = onnxruntime.Session(one)
        self.run_one = first.session.run_with_iobinding
        self.sessions = [first, *(onnxruntime.Session(one, first.session) for _ in range(case.batch - 1))]
        self.turns = cycle([[next(session.turns) for session in self.sessions] for _ in range(2)])

    def write(self, x: Array) -> None:
        for n, session in enumerate(self.sessions):
            session.write(x[:, n : n + 1])

    def run(self, times: int) -> None:
        run_one = self.run_one
        for bindings in islice(self.turns, times):
            for binding in bindings:
                run_one(binding)

    def read(self) -> Array:
        return np.concatenate([session.read() for session in self.sessions], 1)


class Stacked:
    """Each stream has its own states, which a tick copies into a batch and out of it."""

    def __init__(self, case: Case, streams: int, onnxruntime) -> None:  # type: ignore[no-untyped-def]
        self.session = onnxruntime.inference_session(case)
        self.inputs = [f"{name}_0" for name in case.states]
        self.states = [[np.zeros((1, 1, case.hidden_size), np.float32) for _ in range(streams)] for _ in self.inputs]
        self.choices = choices(np.arange(streams), case.batch)

    def write(self, x: Array) -> None:
        self.x = x

    def run(self, times: int) -> None:
        for _ in range(times):
            chosen = next(self.choices).tolist()
            batch = {"x": self.x}
            for name, states in zip(self.inputs, self.states, strict=True):
                batch[name] = np.concatenate([states[n] for n in chosen], 1)
            self.y, *after = self.session.run(None, batch)
            for states, new in zip(self.states, after, strict=True):
                for k, n in enumerate(chosen):
                    states[n] = new[:, k : k + 1].copy()

    def read(self) -> Array:
        return np.asarray(self.y[:, 0])
