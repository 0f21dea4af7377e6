"""One step of a small network in C, and how much Python adds to it.

RTNeural is C++ without a package to install: its times are those of its fastest backend with sizes fixed at compile
time, measured once on an AMD Zen 4 core at 3.7 GHz, and only mean something beside figures of such a core.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from functools import partial

from bench import engine
from bench.case import Case
from bench.contest import Options, Task, Watch
from bench.measure import Effort, Entrant, measure
from bench.table import ENGINE, Result, Time, Timing
from gated_c.spec import Array
from tests.build_core import build

RTNEURAL = "RTNeural, listed"
RTNEURAL_US = {
    "lstm": {8: 0.06, 16: 0.08, 20: 0.16, 24: 0.14, 32: 0.18, 40: 0.29, 64: 0.74},
    "gru": {8: 0.06, 16: 0.08, 24: 0.15, 40: 0.23},
}

#: Up to this size what Python adds is measured too: beyond, it is lost in the step.
LARGEST_OVERHEAD = 16


def tasks(options: Options) -> Iterator[Task]:
    yield Task("native", "one step in C", partial(steps, options))


def steps(options: Options, watch: Watch) -> list[Result]:
    times = c_steps(1 if options.quick else 5)
    results = [in_c(*key, timing) for key, timing in times.items()]
    small = {key: timing for key, timing in times.items() if key[1] <= LARGEST_OVERHEAD}
    return results + [overhead(*key, timing.median, options.effort) for key, timing in small.items()]


def c_steps(runs: int) -> dict[tuple[str, int], Timing]:
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
    return {key: Timing.of(values) for key, values in times.items()}


def in_c(cell: str, hidden_size: int, timing: Timing) -> Result:
    case, times = Case(cell, 1, hidden_size), [Time(ENGINE, timing, "engine")]
    if hidden_size in RTNEURAL_US[cell]:
        times.append(Time(RTNEURAL, Timing.exactly(RTNEURAL_US[cell][hidden_size]), "published"))
    return Result("native", f"{case}, in C", "µs per step", tuple(times), case=case.fields())


class EmptyLoop:
    """The loop around the calls, which is the caller's."""

    def run(self, times: int) -> None:
        for _ in range(times):
            pass

    def write(self, x: Array) -> None:
        raise NotImplementedError

    def read(self) -> Array:
        raise NotImplementedError


def overhead(cell: str, hidden_size: int, c_us: float, effort: Effort) -> Result:
    """What a step from Python takes beyond one in C and the loop around it."""
    case = Case(cell, 1, hidden_size)
    stream, loop = engine.runner(case), EmptyLoop()
    stream.write(case.inputs(seed=0))
    entrants = [(Entrant(ENGINE, "", "engine"), stream), (Entrant("loop", "", "reference"), loop)]
    timings, _, cpu_share = measure(entrants, effort)
    called, looped = (timing.median for _, timing in timings)
    added = Timing.exactly(max(called - looped - c_us, 1e-4))
    times = (Time(ENGINE, added, "engine"),)
    return Result("native", f"{case}, what Python adds", "µs", times, case=case.fields(), cpu_share=cpu_share)
