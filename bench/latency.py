"""How do single steps spread, a million of them? ``python -m bench.latency latency.json``, drawn by ``bench.plots``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

import gated_c
from bench import machine
from bench.case import Case
from bench.saved import read_json
from bench.table import FORMAT
from gated_c import latency

STEPS = 1_000_000

CASES = [Case(cell, size, size) for cell, size in product(("lstm", "gru"), (64, 256))]


@dataclass(frozen=True)
class Spread:
    """Steps counted between each two of ``edges``, and percentiles by name; all in nanoseconds."""

    shape: str
    steps: int
    edges: list[float]
    counts: list[int]
    percentiles: dict[str, float]


def spread(case: Case, steps: int) -> Spread:
    """Of steps of one stream, each timed in C."""
    times = latency.step_latencies(gated_c.Model([case.spec()]), case.inputs(seed=0), steps)
    edges, counts = latency.histogram(times)
    return Spread(str(case), steps, edges.tolist(), counts.tolist(), latency.percentiles(times))


def write(about: Mapping[str, str], spreads: Iterable[Spread], path: Path) -> None:
    content = {"format": FORMAT, "machine": about, "latencies": [asdict(spread) for spread in spreads]}
    path.write_text(json.dumps(content, indent=1) + "\n")


def read(path: Path) -> list[Spread]:
    """Raises ``ValueError`` for a file that is not of this format."""
    return [Spread(**spread) for spread in read_json(path)["latencies"]]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.latency", description="Time single steps, all of them.")
    parser.add_argument("out", type=Path, metavar="FILE.json")
    parser.add_argument("--steps", type=int, default=STEPS, help="of each shape (default: a million)")
    arguments = parser.parse_args()
    write(machine.describe(), (spread(case, arguments.steps) for case in CASES), arguments.out)


if __name__ == "__main__":
    main()
