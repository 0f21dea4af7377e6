"""Everything that can do a piece of work, checked and then timed in turns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from bench import engine, peers, roofline
from bench.case import DTYPES, Case
from bench.measure import Effort, Entrant, measure, start_all
from bench.oracle import Answers, Oracle
from bench.roofline import Peaks
from bench.table import Result, Time, Timing


@dataclass(frozen=True)
class Options:
    """What a run is asked for, and what the machine can do, by number of threads; nothing where that is unknown."""

    dtypes: tuple[str, ...] = DTYPES
    threads: tuple[int, ...] = (1,)
    quick: bool = False
    effort: Effort = field(default_factory=Effort)
    peaks: Mapping[int, Peaks] = field(default_factory=dict)


@dataclass(frozen=True)
class Watch:
    """``begins`` is told which entrant has its turn, for the case that it takes the process with it; ``crashed`` are
    those that did, with what happened."""

    begins: Callable[[str], None] = lambda label: None
    crashed: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Task:
    """A shape to be measured."""

    set: str
    shape: str
    run: Callable[[Watch], list[Result]]


def compare(name: str, case: Case, options: Options, watch: Watch) -> list[Result]:
    """The engine and every peer on a case of a set: µs per time step."""
    return [contest(name, case, everyone(case, options), options, watch)]


def everyone(case: Case, options: Options) -> list[Entrant]:
    """The engine and every peer."""
    ours = engine.entrants(case, options.dtypes, options.threads)
    return [*ours, *peers.entrants(case, options.dtypes, options.threads)]


def contest(
    name: str,
    case: Case,
    entrants: Iterable[Entrant],
    options: Options,
    watch: Watch,
    unit: str = "µs per step",
    per_call: float = 0,
    oracle: Answers | None = None,
) -> Result:
    """Check everything against float64 and time it. ``per_call`` of the unit are in a call, by default its steps."""
    entrants = [without_crashed(entrant, watch) for entrant in entrants]
    started, skipped = start_all(entrants, oracle or Oracle(case), watch.begins)
    timings, failures, cpu_share = measure(started, options.effort, watch.begins)
    scale = 1 / (per_call or case.seq_len)
    times = [time_of(entrant, timing.scaled(scale)) for entrant, timing in timings]
    times += bounds(case, times, options.peaks, case.seq_len * scale)
    return Result(name, str(case), unit, tuple(times), (*skipped, *failures), case.fields(), cpu_share)


def without_crashed(entrant: Entrant, watch: Watch) -> Entrant:
    """With the reason instead of the start if it has crashed."""
    reason = watch.crashed.get(entrant.label)
    return entrant.unable(reason) if reason else entrant


def time_of(entrant: Entrant, timing: Timing) -> Time:
    said = {key: getattr(entrant, key) for key in ("role", "variant", "dtype", "threads", "error", "tolerance")}
    return Time(entrant.engine, timing, **said)


def bounds(case: Case, times: list[Time], peaks: Mapping[int, Peaks], steps: float) -> list[Time]:
    """The roofline of so many steps, in each precision and number of threads that the engine was timed with."""
    found = []
    timed = {(time.dtype, time.variant, time.threads) for time in times if time.role == "engine"}
    for precision in engine.PRECISIONS:
        for threads, peak in peaks.items():
            if (precision.dtype, precision.variant, threads) in timed:
                bound = Timing.exactly(steps * roofline.step_us(case, precision, peak))
                found.append(Time("roofline", bound, "bound", precision.variant, precision.dtype, threads))
    return found
