"""What a step costs when thousands of streams live, and all of them or a few random ones tick.

Beside a pool: a dense batch of as many rows, which has nobody to look for; ONNX Runtime called for one stream after
another; and, as servers such as sherpa-onnx do it, on a batch stacked from the states of streams and unstacked again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import chain, cycle, islice
from typing import Any

import numpy as np
import numpy.typing as npt

from bench import engine, peers
from bench.case import Case
from bench.contest import Options, Task, Watch, contest
from bench.engine import Precision
from bench.measure import Entrant
from bench.peers import Ways
from bench.table import Result
from gated_c.spec import Array

Ids = npt.NDArray[np.int64]

#: Streams that live, and how many of them tick at once.
LIVES = ((1000, 1000), (10_000, 64))

#: Random choices of those that tick, gone through again and again.
CHOICES = 500


def tasks(options: Options) -> Iterator[Task]:
    for cell in ("gru",) if options.quick else ("gru", "lstm"):
        for size in (64,) if options.quick else (64, 256):
            for streams, active in LIVES:
                case = Case(cell, size, size, active)
                yield Task("pool", shape(case, streams), partial(compare, case, streams, options))


def shape(case: Case, streams: int) -> str:
    return f"{case.cell.upper()} H={case.hidden_size}, {case.batch} of {streams} streams tick"


def compare(case: Case, streams: int, options: Options, watch: Watch) -> list[Result]:
    """µs per step of a stream."""
    entrants = [*ours(case, streams, options), *stacked(case, streams, options)]
    result = contest("pool", case, entrants, options, watch, "µs per step of a stream", per_call=case.batch)
    return [replace(result, shape=shape(case, streams))]


def ours(case: Case, streams: int, options: Options) -> Iterator[Entrant]:
    """The pool in every precision, and a dense batch."""
    for precision in engine.PRECISIONS:
        if precision.dtype in options.dtypes:
            lacks = engine.why_not(precision, 1)
            yield engine.entrant(lacks or partial(Pool, case, precision, streams), precision)
            dense = partial(engine.runner, case, precision)
            yield engine.entrant(lacks or dense, precision, role="reference", name="dense batch")


def stacked(case: Case, streams: int, options: Options) -> Iterator[Entrant]:
    """ONNX Runtime, as it is used where streams come and go."""
    onnxruntime = peers.installed().get("onnxruntime")
    for dtype in options.dtypes if onnxruntime else ():
        for variant, way in ways(case, streams, dtype, onnxruntime).items():
            yield from peers.each_count("onnxruntime", variant, dtype, way, options.threads)


def ways(case: Case, streams: int, dtype: str, onnxruntime: Any) -> Ways:
    (way,) = onnxruntime.ways(case, dtype).values()
    if isinstance(way, str):
        return {"": way}
    if streams == case.batch:
        return {"one by one": partial(OneByOne, case, dtype)}
    return {"stacked": partial(Stacked, case, dtype, streams)}


def choices(ids: Ids, active: int) -> Iterator[Ids]:
    """Which streams tick. The first choice comes three times, for what is checked is a state carried on."""
    rng = np.random.default_rng(0)
    chosen = [rng.choice(ids, active, replace=False) if active < len(ids) else ids for _ in range(CHOICES)]
    return chain(chosen[:1] * 2, cycle(chosen))


class Pool:
    """``Pool.step`` into the caller's buffer."""

    def __init__(self, case: Case, precision: Precision, streams: int) -> None:
        self.pool = engine.model_of(case, precision).pool(streams)
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

    def __init__(self, case: Case, dtype: str, threads: int) -> None:
        from bench.peers.onnxruntime import Session

        one = replace(case, batch=1)
        first = Session(one, dtype, threads)
        self.run_one = first.session.run_with_iobinding
        self.sessions = [first, *(Session(one, dtype, threads, first.session) for _ in range(case.batch - 1))]
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

    def __init__(self, case: Case, dtype: str, streams: int, threads: int) -> None:
        from bench.peers.onnxruntime import inference_session, state_names

        self.session = inference_session(case, dtype, threads)
        self.inputs = [f"{name}_0" for name in state_names(case)]
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
        return np.asarray(self.y)
