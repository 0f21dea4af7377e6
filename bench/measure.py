"""Timing several engines on one case in turns, so that whatever disturbs the machine disturbs all of them."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from time import perf_counter_ns, process_time_ns, sleep, thread_time_ns
from typing import Protocol

import numpy as np

from bench.oracle import Answers, deviation
from bench.table import Skip, Timing
from gated_c.spec import Array

#: A sample is at least this long: the clock and the loop around the calls must not show.
SAMPLE_NS = 200_000

#: Threads that wait for work by spinning are left alone until they give up, but no longer than this.
SETTLE_MS = 50


class Runner(Protocol):
    """An engine ready to run one case. It starts from a zero state and carries the state from call to call."""

    def write(self, x: Array) -> None:
        """Set the input [T, N, C] of the calls to come."""

    def run(self, times: int) -> None:
        """Call the engine so many times, in the tightest loop that Python has."""

    def read(self) -> Array:
        """The output [T, N, D*H] of the last call."""


@dataclass(frozen=True)
class Effort:
    """How long to measure one case."""

    seconds: float = 4
    least_rounds: int = 5
    most_rounds: int = 31


QUICK = Effort(seconds=0.3, least_rounds=3, most_rounds=7)


@dataclass
class Entrant:
    """One way of running a case: how to start it, or why it cannot be; the answers, where they are not those of the
    others; whether one thread is pinned; and, once checked, its deviation from float64."""

    engine: str
    start: Callable[[], Runner] | str
    role: str = "peer"
    variant: str = ""
    dtype: str = "float32"
    threads: int = 1
    pinned: bool = True
    oracle: Answers | None = None
    error: float | None = None
    tolerance: float | None = None

    @property
    def name(self) -> str:
        return f"{self.engine} {self.variant}".rstrip()

    @property
    def label(self) -> str:
        """Told apart from every other of its shape."""
        return f"{self.name}, {self.dtype}, {self.threads}"

    def unable(self, reason: str) -> Entrant:
        return replace(self, start=reason)

    def skip(self, reason: object) -> Skip:
        text = f"{type(reason).__name__}: {reason}" if isinstance(reason, Exception) else str(reason)
        return Skip(self.engine, shortened(text), self.variant, self.dtype, self.threads)


def shortened(text: str, limit: int = 160) -> str:
    """The first lines of a message, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 3] + "..."


Started = list[tuple[Entrant, Runner]]


def start_all(
    entrants: Iterable[Entrant], oracle: Answers, begins: Callable[[str], None] = lambda label: None
) -> tuple[Started, list[Skip]]:
    """Start and check each; what cannot be, fails or is wrong is left out with the reason."""
    started: Started = []
    skipped = []
    for entrant in entrants:
        if isinstance(entrant.start, str):
            skipped.append(entrant.skip(entrant.start))
            continue
        begins(entrant.label)
        try:
            runner = entrant.start()
            check(entrant, runner, entrant.oracle or oracle)
        except Exception as error:  # whatever a peer does, the others go on
            skipped.append(entrant.skip(error))
        else:
            started.append((entrant, runner))
    return started, skipped


def check(entrant: Entrant, runner: Runner, oracle: Answers) -> None:
    """Two calls with carried state. Raises ``ValueError`` if the answers are not those of float64."""
    answers = []
    for x in oracle.inputs:
        runner.write(x)
        runner.run(1)
        answers.append(np.array(runner.read(), np.float32))
    entrant.tolerance = oracle.tolerance(entrant.dtype)
    entrant.error = deviation(answers, oracle.expected)
    if not entrant.error <= entrant.tolerance:
        raise ValueError(
            f"wrong by {entrant.error:.2g}, of which {entrant.tolerance:.2g} may be due to {entrant.dtype}"
        )


def measure(
    started: Started, effort: Effort, begins: Callable[[str], None] = lambda label: None
) -> tuple[list[tuple[Entrant, Timing]], list[Skip], float]:
    """Microseconds per call of each, wall clock; those that failed; and the share of the time that a CPU was given to
    the engine's single thread.

    A sample follows the same number of untimed calls, since the engines in between have used the caches. What runs on
    one thread is pinned to a CPU; several threads may use all that the process may.
    """
    turns, skipped = Turns(), []
    samplers = [Sampler(entrant, runner, effort.seconds / len(started)) for entrant, runner in started]
    gc.disable()
    try:
        for turn in range(-1, effort.most_rounds):
            for sampler in samplers:
                if not sampler.is_due(turn, effort):
                    continue
                begins(sampler.entrant.label)
                turns.give(sampler.entrant)
                try:
                    sampler.plan(effort) if turn < 0 else sampler.sample()
                except Exception as error:  # whatever a peer does, the others go on
                    sampler.failed = True
                    skipped.append(sampler.entrant.skip(error))
    finally:
        gc.enable()
        turns.end()
    ours = [sampler for sampler in samplers if sampler.entrant.role == "engine" and sampler.entrant.threads == 1]
    wall, cpu = (sum(getattr(sampler, name) for sampler in ours) for name in ("wall_ns", "cpu_ns"))
    timings = [(sampler.entrant, Timing.of(sampler.times)) for sampler in samplers if not sampler.failed]
    return timings, skipped, min(cpu / wall, 1.0) if wall else 1.0


@dataclass
class Sampler:
    """One entrant's share of the measurement, in seconds, and what came of it."""

    entrant: Entrant
    runner: Runner
    seconds: float
    calls: int = 1
    rounds: int = 0
    times: list[float] = field(default_factory=list)
    wall_ns: int = 0
    cpu_ns: int = 0
    failed: bool = False

    def plan(self, effort: Effort) -> None:
        """How many calls take ``SAMPLE_NS`` even when nothing interrupts them, and how many samples fit the time."""
        while (shortest := min(elapsed_ns(self.runner, self.calls) for _ in range(2))) < SAMPLE_NS:
            self.calls *= 2
        rounds = self.seconds * 1e9 / (2 * shortest)
        self.rounds = int(np.clip(rounds, effort.least_rounds, effort.most_rounds))

    def is_due(self, turn: int, effort: Effort) -> bool:
        """Fewer rounds than the most spread over all turns."""
        if turn < 0 or self.failed:
            return not self.failed
        return (turn + 1) * self.rounds // effort.most_rounds > turn * self.rounds // effort.most_rounds

    def sample(self) -> None:
        self.runner.run(self.calls)
        cpu_start = thread_time_ns()
        elapsed = elapsed_ns(self.runner, self.calls)
        self.cpu_ns += thread_time_ns() - cpu_start
        self.wall_ns += elapsed
        self.times.append(elapsed / self.calls / 1e3)


class Turns:
    """Who has the CPUs: one of them for one thread, all that are allowed for more."""

    def __init__(self) -> None:
        self.allowed = os.sched_getaffinity(0)
        self.before = 1

    def give(self, entrant: Entrant) -> None:
        if self.before > 1:
            settle()
        alone = entrant.threads == 1 and entrant.pinned
        os.sched_setaffinity(0, {max(self.allowed)} if alone else self.allowed)
        self.before = entrant.threads

    def end(self) -> None:
        os.sched_setaffinity(0, self.allowed)


def settle() -> None:
    """Wait until no thread of the process spins."""
    for _ in range(SETTLE_MS):
        start = process_time_ns()
        sleep(1e-3)
        if process_time_ns() - start < 200_000:
            return


def elapsed_ns(runner: Runner, calls: int) -> int:
    start = perf_counter_ns()
    runner.run(calls)
    return perf_counter_ns() - start
