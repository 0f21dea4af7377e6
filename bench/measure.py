"""Timing several engines on one case in turns, so that whatever disturbs the machine disturbs all of them."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from dataclasses import dataclass
from time import perf_counter_ns, process_time_ns
from typing import Protocol

import numpy as np

from bench.case import Case
from gated_c.spec import Array
from tests.reference import forward

#: A sample is at least this long: the clock and the loop around the calls must not show.
SAMPLE_NS = 200_000


class Runner(Protocol):
    """An engine ready to run one case. It starts from a zero state and carries the state from call to call."""

    def write(self, x: Array) -> None:
        """Set the input [T, N, C] of the calls to come."""

    def run(self, times: int) -> None:
        """Call the engine so many times, in the tightest loop that Python has."""

    def read(self) -> Array:
        """The output [T, N, H] of the last call."""


@dataclass(frozen=True)
class Timing:
    """Median, 10th and 90th percentile of the samples."""

    median: float
    p10: float
    p90: float

    @classmethod
    def of(cls, samples: list[float]) -> Timing:
        p10, median, p90 = np.percentile(samples, (10, 50, 90))
        return cls(float(median), float(p10), float(p90))

    def scaled(self, factor: float) -> Timing:
        return Timing(self.median * factor, self.p10 * factor, self.p90 * factor)

    @property
    def spread(self) -> float:
        """Distance of the percentiles as a share of the median."""
        return (self.p90 - self.p10) / self.median


@dataclass(frozen=True)
class Effort:
    """How long to measure one case."""

    seconds: float = 4
    least_rounds: int = 5
    most_rounds: int = 41


QUICK = Effort(seconds=0.3, least_rounds=3, most_rounds=15)


def check(runners: Mapping[str, Runner], case: Case) -> None:
    """Two calls with carried state. Raises ``AssertionError`` if an engine is not within 1e-5 of the float64 answer."""
    h = c = None
    for call in range(2):
        x = case.inputs(seed=call)
        expected, h, c = forward(case.spec(), x, h, c, case.live(), case.reset())  # type: ignore[no-untyped-call]
        for name, runner in runners.items():
            runner.write(x)
            runner.run(1)
            np.testing.assert_allclose(runner.read(), expected, rtol=0, atol=1e-5, err_msg=f"{name}, {case}")


def measure(runners: Mapping[str, Runner], effort: Effort) -> tuple[dict[str, Timing], float]:
    """Microseconds per call of each engine, and the share of the time in which this process had a CPU.

    A sample follows the same number of untimed calls, since the engines in between have used the caches.
    """
    sample_ns, calls = {}, {}
    for name, runner in runners.items():
        calls[name], sample_ns[name] = sample_of(runner)
    round_ns = 2 * sum(sample_ns.values())
    rounds = int(np.clip(effort.seconds * 1e9 / round_ns, effort.least_rounds, effort.most_rounds))
    samples: dict[str, list[float]] = {name: [] for name in runners}
    wall, cpu = perf_counter_ns(), process_time_ns()
    gc.disable()
    try:
        for _ in range(rounds):
            for name, runner in runners.items():
                runner.run(calls[name])
                samples[name].append(elapsed_ns(runner, calls[name]) / calls[name] / 1e3)
    finally:
        gc.enable()
    cpu_share = (process_time_ns() - cpu) / (perf_counter_ns() - wall)
    return {name: Timing.of(values) for name, values in samples.items()}, cpu_share


def sample_of(runner: Runner) -> tuple[int, int]:
    """How many calls take ``SAMPLE_NS`` even when nothing interrupts them, and what they take."""
    calls = 1
    while (shortest := min(elapsed_ns(runner, calls) for _ in range(3))) < SAMPLE_NS:
        calls *= 2
    return calls, shortest


def elapsed_ns(runner: Runner, calls: int) -> int:
    start = perf_counter_ns()
    runner.run(calls)
    return perf_counter_ns() - start
