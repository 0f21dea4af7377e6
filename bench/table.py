"""What was measured, and what it is written as: lines for a reader, and CSV or JSON, described in bench/README.md."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import groupby
from math import floor, log10
from pathlib import Path
from statistics import geometric_mean
from typing import Any

import numpy as np

ENGINE = "gated_c"

#: Rises with every change to the JSON that its readers must know of.
FORMAT = 1

#: Below this share of the time on the CPU, other work has disturbed a single thread's figures.
UNDISTURBED = 0.97


@dataclass(frozen=True)
class Timing:
    """Median and quartiles of the samples."""

    median: float
    q1: float
    q3: float
    samples: int

    @classmethod
    def of(cls, samples: list[float]) -> Timing:
        q1, median, q3 = (float(value) for value in np.percentile(samples, (25, 50, 75)))
        return cls(median, q1, q3, len(samples))

    @classmethod
    def exactly(cls, value: float) -> Timing:
        return cls(value, value, value, 1)

    def scaled(self, factor: float) -> Timing:
        return Timing(self.median * factor, self.q1 * factor, self.q3 * factor, self.samples)

    @property
    def spread(self) -> float:
        """Distance of the quartiles as a share of the median."""
        return (self.q3 - self.q1) / self.median


@dataclass(frozen=True)
class Time:
    """How long one engine takes, in one precision and on a number of threads."""

    engine: str
    timing: Timing
    role: str = "peer"  # "engine" is ours, "bound" the machine's, "reference" and "published" stand beside
    variant: str = ""
    dtype: str = "float32"
    threads: int = 1
    error: float | None = None  # largest deviation from float64, and what is allowed
    tolerance: float | None = None

    @property
    def name(self) -> str:
        return f"{self.engine} {self.variant}".rstrip()

    def is_beside(self, dtype: str, variant: str, threads: int) -> bool:
        """Whether the engine in this precision, with so many threads at most, is compared to this."""
        if self.role == "published":
            return True
        if self.role == "peer":
            return self.dtype == dtype and self.threads <= threads
        same = (self.dtype, self.variant) == (dtype, variant)
        return same and (self.threads == threads if self.role == "bound" else self.threads <= threads)

    def fields(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if name != "timing"} | asdict(self.timing)


@dataclass(frozen=True)
class Skip:
    """What was not timed, and why."""

    engine: str
    reason: str
    variant: str = ""
    dtype: str = "float32"
    threads: int = 1

    def line(self) -> str:
        name = f"{self.engine} {self.variant}".rstrip()
        return f"    without {name}, {self.dtype}, {counted(self.threads, 'thread')}: {self.reason}"


@dataclass(frozen=True)
class Ratio:
    """How many times faster the engine is than ``versus``, where each may use up to ``threads`` threads and is taken at
    its best number of them. ``versus`` is a peer, ``best`` for the fastest of them, or what else stands beside; for
    ``roofline`` it is the share of what the machine can do."""

    dtype: str
    variant: str
    threads: int
    versus: str
    ratio: float
    engine_threads: int
    versus_threads: int
    versus_name: str


@dataclass(frozen=True)
class Result:
    """One shape: everything timed and what was not."""

    set: str
    shape: str
    unit: str
    times: tuple[Time, ...]
    skipped: tuple[Skip, ...] = ()
    case: Mapping[str, Any] | None = None
    cpu_share: float = 1

    @property
    def ratios(self) -> list[Ratio]:
        return [ratio for kind in self.kinds() for ratio in self.ratios_of(*kind)]

    def kinds(self) -> list[tuple[str, str, int]]:
        """Precisions of the engine as dtype and variant, each with every number of threads."""
        counts = sorted({time.threads for time in self.times if time.role in ("engine", "peer")})
        precisions = dict.fromkeys((time.dtype, time.variant) for time in self.times if time.role == "engine")
        return [(*precision, count) for precision in precisions for count in counts]

    def ratios_of(self, dtype: str, variant: str, threads: int) -> Iterator[Ratio]:
        """Of one precision of the engine, everything on up to so many threads."""
        ours = self.fastest(dtype, variant, threads)
        if ours is None:
            return
        rivals: dict[str, list[Time]] = {}
        for time in self.times:
            if time.role == "peer" and time.is_beside(dtype, variant, threads):
                rivals.setdefault("best", []).append(time)
            if time.role != "engine" and time.is_beside(dtype, variant, threads):
                rivals.setdefault(time.engine, []).append(time)
        for versus, times in rivals.items():
            rival = min(times, key=lambda time: time.timing.median)
            ratio = rival.timing.median / ours.timing.median
            name = rival.name if rival.role == "peer" else rival.engine
            yield Ratio(dtype, variant, threads, versus, ratio, ours.threads, rival.threads, name)

    def fastest(self, dtype: str, variant: str, threads: int) -> Time | None:
        """The engine's time in this precision at its best number of threads."""
        kind = ("engine", dtype, variant)
        times = [t for t in self.times if (t.role, t.dtype, t.variant) == kind and t.threads <= threads]
        return min(times, key=lambda time: time.timing.median, default=None)

    def lines(self, skipped: Iterable[Skip] = ()) -> Iterator[str]:
        """The shape, then a line per precision and number of threads, and what is to be said of what is missing."""
        disturbed = f"  (disturbed: on the CPU {self.cpu_share:.0%} of the time)" * (self.cpu_share < UNDISTURBED)
        yield f"\n  {self.shape}  [{self.unit}]{disturbed}"
        yield from (self.line(*kind) for kind in self.kinds() if self.fastest(*kind))
        yield from (skip.line() for skip in skipped)

    def line(self, dtype: str, variant: str, threads: int) -> str:
        ours = self.fastest(dtype, variant, threads)
        assert ours is not None
        label = f"{dtype} {variant}".rstrip()
        time = f"{number(ours.timing.median):>8} ±{ours.timing.spread / 2:<4.0%}"
        cells = [f"    {label:<29}{counted(threads, 'thread'):<10}{time}"]
        for ratio in self.ratios_of(dtype, variant, threads):
            name = f"best, {ratio.versus_name}," if ratio.versus == "best" else ratio.versus_name
            cells.append(f"{name} {as_ratio(ratio)}")
        return "  ".join(cells)

    def fields(self) -> dict[str, Any]:
        return {
            "set": self.set,
            "shape": self.shape,
            "case": self.case,
            "unit": self.unit,
            "cpu_share": self.cpu_share,
            "times": [time.fields() for time in self.times],
            "ratios": [asdict(ratio) for ratio in self.ratios],
            "skipped": [asdict(skip) for skip in self.skipped],
        }


@dataclass(frozen=True)
class Mean:
    """Geometric mean of a ratio over the shapes of a set that have it."""

    set: str
    dtype: str
    variant: str
    threads: int
    versus: str
    ratio: float
    shapes: int


def means(results: Iterable[Result]) -> list[Mean]:
    """Of the results with a case, by set, precision and number of threads in the order of their first appearance."""
    groups: dict[tuple[str, str, str, int], dict[str, list[float]]] = {}
    for result in (result for result in results if result.case):
        for ratio in result.ratios:
            group = groups.setdefault((result.set, ratio.dtype, ratio.variant, ratio.threads), {})
            group.setdefault(ratio.versus, []).append(ratio.ratio)
    return [
        Mean(*key, versus, geometric_mean(values), len(values))
        for key, group in groups.items()
        for versus, values in group.items()
    ]


def counted(count: int, word: str) -> str:
    return f"{count} {word}{'s' * (count != 1)}"


def number(value: float) -> str:
    """Three digits that count."""
    return f"{value:.{max(0, 2 - floor(log10(value)))}f}" if value > 0 else "0"


def as_ratio(of: Ratio | Mean) -> str:
    if of.versus == "roofline":
        return f"{of.ratio:.0%}"
    return f"{of.ratio:.2f}x" if of.ratio < 10 else f"{of.ratio:.0f}x"


def summary(results: Iterable[Result]) -> str:
    """A line per set, precision and number of threads: geometric means of the ratios."""
    lines = ["\nHow many times faster than each at its best number of threads (geometric mean, number of shapes)"]
    for name, of_set in groupby(means(results), lambda mean: mean.set):
        lines.append(f"\n  {name}")
        for (dtype, variant, threads), group in groupby(of_set, lambda mean: (mean.dtype, mean.variant, mean.threads)):
            label = f"{dtype} {variant}".rstrip()
            cells = ", ".join(f"{mean.versus} {as_ratio(mean)} ({mean.shapes})" for mean in group)
            lines.append(f"    {label:<29}{counted(threads, 'thread'):<10} {cells}")
    return "\n".join(lines)


CSV_COLUMNS = (
    "set",
    "shape",
    "unit",
    "engine",
    "variant",
    "role",
    "dtype",
    "threads",
    "median",
    "q1",
    "q3",
    "samples",
    "error",
    "tolerance",
)


def write_csv(results: Iterable[Result], path: Path) -> None:
    """A line per engine, precision, number of threads and shape."""
    with path.open("w", newline="") as file:
        out = csv.DictWriter(file, CSV_COLUMNS)
        out.writeheader()
        for result in results:
            about = {"set": result.set, "shape": result.shape, "unit": result.unit}
            out.writerows(about | time.fields() for time in result.times)


def write_json(about: Mapping[str, Any], results: Iterable[Result], path: Path) -> None:
    """The machine, every result with its ratios, and the means."""
    results = list(results)
    content = {
        "format": FORMAT,
        **about,
        "results": [result.fields() for result in results],
        "means": [asdict(mean) for mean in means(results)],
    }
    path.write_text(json.dumps(content, indent=1) + "\n")
