"""The engine beside every peer on one case."""

from __future__ import annotations

from collections.abc import Mapping

from bench import engine, peers
from bench.case import Case
from bench.goals import ENGINE, Result
from bench.measure import Effort, Runner, check, measure
from bench.roofline import Roofline


def compare(work: str, case: Case, goals: Mapping[str, float], effort: Effort) -> Result:
    """Check everything that can run the case against float64, then time it: µs per time step."""
    runners: dict[str, Runner] = {ENGINE: engine.runner(case), **peers.runners(case)}
    check(runners, case)
    times, cpu_share = measure(runners | {"roofline": Roofline(case)}, effort)
    per_step = {
        name: timing if name == "roofline" else timing.scaled(1 / case.seq_len) for name, timing in times.items()
    }
    return Result(f"{work}, {case.cell.upper()}", str(case), "µs per step", per_step, goals, cpu_share)
