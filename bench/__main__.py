"""``python -m bench``: every engine warm and in turns, in every precision, on one thread and on more. See README.md."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from time import monotonic

from bench import machine, roofline
from bench.case import DTYPES
from bench.contest import Options, Task
from bench.isolate import run_isolated
from bench.measure import QUICK, Effort
from bench.roofline import Peaks
from bench.sets import SETS
from bench.table import Result, Skip, number, summary, write_csv, write_json

#: A shape that takes this many times its budget, and so many seconds for compilers and the check, hangs.
PATIENCE, PREPARATION = 20, 200


def parse_arguments(given: list[str] | None = None) -> argparse.Namespace:
    cpus = len(os.sched_getaffinity(0))
    parser = argparse.ArgumentParser(prog="python -m bench", description="The engine beside every peer installed.")
    parser.add_argument("--suite", type=several(SETS), metavar="SET,...", default=tuple(SETS), help=", ".join(SETS))
    parser.add_argument("--quick", action="store_true", help="a few shapes of each set, in one or two minutes")
    parser.add_argument("--dtype", type=several(DTYPES), metavar="DTYPE,...", default=DTYPES, help=", ".join(DTYPES))
    parser.add_argument(
        "--threads", type=counts, metavar="N,...", default=(1, 2)[:cpus], help="as many as there are CPUs"
    )
    parser.add_argument("--budget", type=float, metavar="SECONDS", help="how long to measure a shape")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write every time")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything: see bench/README.md")
    arguments = parser.parse_args(given)
    if max(arguments.threads) > cpus:
        parser.error(f"--threads: expected at most {cpus}, which this process may use, got {max(arguments.threads)}")
    return arguments


def several(known: Iterable[str]) -> Callable[[str], tuple[str, ...]]:
    """A type for argparse: names from a list, separated by commas."""
    names = tuple(known)

    def parse(text: str) -> tuple[str, ...]:
        found = tuple(dict.fromkeys(text.split(",")))
        unknown = set(found) - set(names)
        if unknown:
            expected, got = ", ".join(names), ", ".join(sorted(unknown))
            raise argparse.ArgumentTypeError(f"expected some of {expected}, got {got}")
        return found

    return parse


def counts(text: str) -> tuple[int, ...]:
    """Numbers of threads, from 1."""
    try:
        found = tuple(sorted({int(count) for count in text.split(",")}))
    except ValueError:
        found = ()
    if not found or found[0] < 1:
        raise argparse.ArgumentTypeError(f"expected numbers from 1 with commas between, got {text}")
    return found


def options_of(arguments: argparse.Namespace) -> Options:
    effort = QUICK if arguments.quick else Effort()
    if arguments.budget:
        effort = Effort(arguments.budget, effort.least_rounds, effort.most_rounds)
    return Options(arguments.dtype, arguments.threads, arguments.quick, effort, peaks_of(arguments.threads))


def peaks_of(threads: tuple[int, ...]) -> dict[int, Peaks]:
    """What the machine can do; nothing where there is no C compiler to find out."""
    try:
        return {count: roofline.measure_peaks(count) for count in threads}
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"without the roofline: {error}")
        return {}


def measured(tasks: list[Task], effort: Effort) -> list[Result]:
    """Every result, printed as soon as it is there."""
    results: list[Result] = []
    said: set[tuple[str, str, str, str]] = set()
    for task in tasks:
        if not results or results[-1].set != task.set:
            print(f"\n{task.set}")
        try:
            new = run_isolated(task, PREPARATION + PATIENCE * effort.seconds)
        except RuntimeError as error:
            print(f"  failed: {error}", flush=True)
            continue
        for result in new:
            print("\n".join(result.lines([skip for skip in result.skipped if is_news(skip, said)])), flush=True)
        results += new
    return results


def is_news(skip: Skip, said: set[tuple[str, str, str, str]]) -> bool:
    """Whether a reason is said for the first time."""
    key = (skip.engine, skip.variant, skip.dtype, skip.reason)
    new = key not in said
    said.add(key)
    return new


def print_peaks(peaks: Peaks) -> None:
    gmacs = ", ".join(f"{dtype} {number(rate)}" for dtype, rate in peaks.gmacs.items())
    sizes = {f"{size >> 10} KiB": rate for size, rate in peaks.bandwidth if size in (2**14, 2**18, 2**22, 2**27)}
    reads = ", ".join(f"{size} {number(rate)}" for size, rate in sizes.items())
    print(
        f"{peaks.threads} thread{'s'[: peaks.threads > 1]}: GMAC/s {gmacs}; GB/s {reads}; step {peaks.chain_ns:.0f} ns"
    )


def main() -> None:
    arguments = parse_arguments()
    start = monotonic()
    about = machine.describe()
    for name, text in about.items():
        print(f"{name + ':':<14}{text}")
    if machine.is_busy():
        print("warning: the machine is busy, the figures will be worse than it can do")
    options = options_of(arguments)
    for peaks in options.peaks.values():
        print_peaks(peaks)
    results = measured([task for name in arguments.suite for task in SETS[name](options)], options.effort)
    print(summary(results))
    print(f"\nin {(monotonic() - start) / 60:.1f} minutes")
    if arguments.csv:
        write_csv(results, arguments.csv)
    if arguments.json:
        asked = {
            "sets": arguments.suite,
            "dtypes": arguments.dtype,
            "threads": arguments.threads,
            "quick": arguments.quick,
            "budget": options.effort.seconds,
        }
        rates = [asdict(peaks) for peaks in options.peaks.values()]
        write_json({"machine": about, "options": asked, "peaks": rates}, results, arguments.json)
    sys.exit(0 if results else 1)


if __name__ == "__main__":
    main()
