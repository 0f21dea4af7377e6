"""How long does one step of a small network take in C, and how much does Python add to it?

RTNeural is C++ without a package to install: its times are those of its fastest backend with sizes fixed at compile
time, measured once on an AMD Zen 4 core at 3.7 GHz, and only mean something beside figures of such a core.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from statistics import median

from bench import engine
from bench.case import Case
from bench.goals import ENGINE, Result
from bench.measure import Effort, Timing, measure
from gated_c.spec import Array
from tests.build_core import build

RTNEURAL_US = {
    "lstm": {8: 0.06, 16: 0.08, 20: 0.16, 24: 0.14, 32: 0.18, 40: 0.29, 64: 0.74},
    "gru": {8: 0.06, 16: 0.08, 24: 0.15, 40: 0.23},
}

#: What a call from Python may add, in microseconds.
OVERHEAD_US = 0.020


def c_steps(runs: int) -> dict[tuple[str, int], float]:
    """Microseconds of a step by (cell, hidden_size), from ``native_step.c`` over the core."""
    cc = shutil.which("cc")
    if cc is None:
        raise RuntimeError("bench: expected a C compiler called cc")
    times: dict[tuple[str, int], list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        program = build(cc, "bench/native_step.c", folder)  # type: ignore[no-untyped-call]
        for _ in range(runs):
            output = subprocess.run([program], capture_output=True, text=True, check=True).stdout
            for line in output.splitlines():
                cell, hidden_size, nanoseconds = line.split()
                times.setdefault((cell, int(hidden_size)), []).append(float(nanoseconds) / 1e3)
    return {key: median(values) for key, values in times.items()}


class EmptyLoop:
    """The loop around the calls, which is the caller's."""

    def run(self, times: int) -> None:
        for _ in range(times):
            pass

    def write(self, x: Array) -> None:
        raise NotImplementedError

    def read(self) -> Array:
        raise NotImplementedError


def constant(microseconds: float) -> Timing:
    return Timing(microseconds, microseconds, microseconds)


def results(quick: bool, effort: Effort) -> Iterator[Result]:
    steps = c_steps(1 if quick else 5)
    for (cell, hidden_size), time in steps.items():
        case, times, goals = Case(cell, 1, hidden_size), {ENGINE: constant(time)}, {}
        if hidden_size in RTNEURAL_US[cell]:
            times["RTNeural, listed"] = constant(RTNEURAL_US[cell][hidden_size])
            goals["RTNeural, listed"] = 1.0
        yield Result("one step in C", str(case), "µs", times, goals)
    for (cell, hidden_size), time in steps.items():
        if hidden_size <= 16:
            case = Case(cell, 1, hidden_size)
            runner = engine.runner(case)
            runner.write(case.inputs(seed=0))
            timings, cpu_share = measure({ENGINE: runner, "loop": EmptyLoop()}, effort)
            added = constant(max(timings[ENGINE].median - timings["loop"].median - time, 1e-4))
            times = {ENGINE: added, "limit": constant(OVERHEAD_US)}
            yield Result("what Python adds to a step", str(case), "µs", times, {"limit": 1}, cpu_share)
