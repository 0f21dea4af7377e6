"""What was measured, and how it is printed: a line per shape, then a line per kind of work, and both as CSV or JSON."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from math import floor, log10
from pathlib import Path
from statistics import geometric_mean

from bench.measure import Timing

ENGINE = "gated_c"

#: Columns that are not peers: what the machine, the dense batch or the promise allows.
BOUNDS = ("roofline", "dense share", "dense batch", "no resets", "limit", "RTNeural, listed")

#: Below this share of the time on the CPU, other work has disturbed the figures.
UNDISTURBED = 0.97


@dataclass(frozen=True)
class Result:
    """One shape: the time of every engine, and how many times faster than some of them this one means to be.

    A goal names a column, or "best" for the fastest peer; 0.9 for ``roofline`` is 90 % of what the machine can do.
    """

    work: str
    shape: str
    unit: str
    times: Mapping[str, Timing]
    goals: Mapping[str, float]
    cpu_share: float = 1

    @property
    def ratios(self) -> dict[str, float]:
        """Time of every other column, and of the fastest peer, over that of the engine."""
        others = {name: timing.median for name, timing in self.times.items() if name != ENGINE}
        peers = [time for name, time in others.items() if name not in BOUNDS]
        if peers:
            others["best"] = min(peers)
        return {name: time / self.times[ENGINE].median for name, time in others.items()}

    @property
    def missed(self) -> dict[str, float]:
        """The goals that were measured and not reached."""
        ratios = self.ratios
        return {name: goal for name, goal in self.goals.items() if ratios.get(name, goal) < goal}

    def line(self) -> str:
        engine, ratios = self.times[ENGINE], self.ratios
        cells = [f"  {self.shape:<31}{number(engine.median):>8} ±{engine.spread / 2:<4.0%}"]
        for name, timing in self.times.items():
            if name != ENGINE:
                cells.append(f"{number(timing.median):>8} {as_ratio(name, ratios[name]):>6}")
        if self.missed:
            missed = (f"{name} {as_ratio(name, goal)}" for name, goal in self.missed.items())
            cells.append("  missed: " + ", ".join(missed))
        if self.cpu_share < UNDISTURBED:
            cells.append(f"  (disturbed: on the CPU {self.cpu_share:.0%} of the time)")
        return " ".join(cells).rstrip()

    def header(self) -> str:
        names = [f"{name:>15}" for name in self.times if name != ENGINE]
        return f"\n{self.work} ({self.unit}, median)\n  {'':<31}{ENGINE:>8}{'':7}" + " ".join(names)


def number(value: float) -> str:
    """Three digits that count."""
    return f"{value:.{max(0, 2 - floor(log10(value)))}f}"


def as_ratio(name: str, ratio: float) -> str:
    if name == "roofline":
        return f"{ratio:.0%}"
    return f"{ratio:.2f}x" if ratio < 10 else f"{ratio:.0f}x"


def summary(results: Iterable[Result]) -> str:
    """A line per kind of work: geometric means of the ratios, and how many shapes reach each goal."""
    works: dict[str, list[Result]] = {}
    for result in results:
        works.setdefault(result.work, []).append(result)
    lines = ["\nHow many times faster (geometric mean), and the goals with the number of shapes that reach them"]
    for work, rows in works.items():
        means = {
            name: geometric_mean([row.ratios[name] for row in rows])
            for name in rows[0].ratios
            if all(name in row.ratios for row in rows)
        }
        lines.append(f"\n  {work}, {len(rows)} shape{'s'[: len(rows) > 1]}")
        lines.append("    " + ", ".join(f"{name} {as_ratio(name, mean)}" for name, mean in means.items()))
        if any(row.goals for row in rows):
            lines.append("    goals: " + ", ".join(goal_texts(rows)))
    return "\n".join(lines)


def goal_texts(rows: list[Result]) -> Iterator[str]:
    """Each goal of the rows, as the range it spans, and in how many of them it is reached."""
    for name in dict.fromkeys(name for row in rows for name in row.goals):
        measured = [row for row in rows if name in row.goals and name in row.ratios]
        goals = sorted(row.goals[name] for row in rows if name in row.goals)
        wanted = "..".join(dict.fromkeys(as_ratio(name, goal) for goal in (goals[0], goals[-1])))
        reached = sum(name not in row.missed for row in measured)
        yield f"{name} {wanted} in {reached} of {len(measured)}" if measured else f"{name} {wanted} not measured"


def write_csv(results: Iterable[Result], path: Path) -> None:
    """A line per engine and shape."""
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(("work", "shape", "unit", "engine", "median", "p10", "p90", "times_faster", "goal"))
        for result in results:
            for name, timing in result.times.items():
                ratio, goal = result.ratios.get(name, ""), result.goals.get(name, "")
                row = (result.work, result.shape, result.unit, name, timing.median, timing.p10, timing.p90, ratio, goal)
                out.writerow(row)


def write_json(machine: Mapping[str, str], results: Iterable[Result], path: Path) -> None:
    """The machine and every result with its ratios."""
    rows = [asdict(result) | {"ratios": result.ratios, "missed": result.missed} for result in results]
    path.write_text(json.dumps({"machine": machine, "results": rows}, indent=1) + "\n")
