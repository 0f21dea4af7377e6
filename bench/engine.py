"""The engine of this repository, run like its peers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from inspect import signature
from typing import Any

import numpy as np

import gated_c
from bench.case import Case
from bench.measure import Entrant, Runner
from bench.oracle import Oracle
from bench.table import ENGINE
from gated_c.spec import Array


@dataclass(frozen=True)
class Precision:
    """What ``Model.to`` is given."""

    dtype: str = "float32"
    variant: str = ""
    options: dict[str, str] = field(default_factory=dict, hash=False)


FLOAT32 = Precision()

PRECISIONS = (
    FLOAT32,
    Precision("bfloat16"),
    Precision("bfloat16", "arithmetic bfloat16", {"arithmetic": "bfloat16"}),
    Precision("int8"),
    Precision("int8", "inputs float32", {"inputs": "float32"}),
)


def entrants(case: Case, dtypes: Iterable[str], threads: Iterable[int]) -> Iterator[Entrant]:
    """Every precision, on every number of threads where a call has any to use: a step is one thread's."""
    for precision in PRECISIONS:
        if precision.dtype in dtypes:
            yield from each_count(case, precision, threads)


def each_count(case: Case, precision: Precision, threads: Iterable[int]) -> Iterator[Entrant]:
    for count in [1] if is_step(case) else threads:
        start = partial(runner, case, precision, count)
        yield entrant(why_not(precision, count) or start, precision, count)


def entrant(
    start: Callable[[], Runner] | str, precision: Precision, threads: int = 1, role: str = "engine", name: str = ENGINE
) -> Entrant:
    return Entrant(name, start, role, precision.variant, precision.dtype, threads)


def beside(name: str, case: Case, threads: Iterable[int]) -> list[Entrant]:
    """The engine in float32 on another case than the others, under another name."""
    entrants = each_count(case, FLOAT32, threads)
    return [replace(entrant, engine=name, role="reference", oracle=Oracle(case)) for entrant in entrants]


def why_not(precision: Precision, threads: int) -> str:
    """What this build lacks, if anything."""
    if precision.dtype != "float32" and not hasattr(gated_c.Model, "to"):
        return "this build has float32 alone"
    if threads > 1 and "threads" not in signature(gated_c.Model.__call__).parameters:
        return "this build has one thread alone"
    return ""


def model_of(case: Case, precision: Precision) -> gated_c.Model:
    model = gated_c.Model([case.spec()])
    return model if precision.dtype == "float32" else model.to(precision.dtype, **precision.options)


def is_step(case: Case) -> bool:
    return case.seq_len == 1 and not case.bidirectional


def runner(case: Case, precision: Precision = FLOAT32, threads: int = 1) -> Runner:
    return Stream(case, precision) if is_step(case) else Sequence(case, precision, threads)


class Stream:
    """``Stream.step`` into the caller's buffer."""

    def __init__(self, case: Case, precision: Precision) -> None:
        self.stream = model_of(case, precision).stream(case.batch)
        self.y = np.zeros((case.batch, case.hidden_size), np.float32)

    def write(self, x: Array) -> None:
        self.x = x[0]

    def run(self, times: int) -> None:
        step, x, y = self.stream.step, self.x, self.y
        for _ in range(times):
            step(x, y)

    def read(self) -> Array:
        return self.y[None]


class Sequence:
    """A call of the model on [T, N, C], into the caller's buffer."""

    def __init__(self, case: Case, precision: Precision, threads: int) -> None:
        self.model = model_of(case, precision)
        self.options: dict[str, Any] = {"threads": threads} if not why_not(FLOAT32, 2) else {}
        if case.lengths:
            self.options["lengths"] = np.array(case.lengths)
        if case.resets is not None:
            self.options["reset"] = case.reset()
        self.state: Any = None
        self.y = np.zeros((case.seq_len, case.batch, case.num_directions * case.hidden_size), np.float32)

    def write(self, x: Array) -> None:
        self.x = x

    def run(self, times: int) -> None:
        model, x, y, state, options = self.model, self.x, self.y, self.state, self.options
        for _ in range(times):
            _, state = model(x, state, out=y, **options)
        self.state = state

    def read(self) -> Array:
        return self.y


class Split(Sequence):
    """A call for each piece, as where resets are not known."""

    def __init__(self, case: Case, precision: Precision, threads: int) -> None:
        super().__init__(case, precision, threads)
        self.options.pop("reset")
        self.cuts = case.cuts()
        self.state = tuple(np.zeros(case.state_shape, np.float32) for _ in case.states)

    def run(self, times: int) -> None:
        model, x, y, state, options = self.model, self.x, self.y, self.state, self.options
        for _ in range(times):
            for first, last, rows in self.cuts:
                for part in state:
                    part[:, rows] = 0
                given = state if len(state) > 1 else state[0]
                _, state = model(x[first:last], given, out=y[first:last], **options)
                state = state if isinstance(state, tuple) else (state,)
        self.state = state
