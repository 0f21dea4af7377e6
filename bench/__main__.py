"""``python -m bench``: one thread, float32, every engine warm and in turns on the same core.

Pin it to one core for steady figures: ``taskset -c 1 python -m bench``.
"""

from __future__ import annotations

import argparse
from importlib import import_module
from pathlib import Path

from bench import machine
from bench.goals import Result, summary, write_csv, write_json
from bench.measure import QUICK, Effort

QUESTIONS = ("native", "step", "sequence", "batch", "ragged", "reset", "pool", "network", "startup")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="The engine beside every peer installed.")
    parser.add_argument("--quick", action="store_true", help="a few shapes, in about a minute")
    parser.add_argument("--only", metavar="QUESTION,...", default=",".join(QUESTIONS), help=", ".join(QUESTIONS))
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write every timing")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every timing and the machine")
    arguments = parser.parse_args()
    arguments.only = arguments.only.split(",")
    unknown = set(arguments.only) - set(QUESTIONS)
    if unknown:
        parser.error(f"--only: expected some of {', '.join(QUESTIONS)}, got {', '.join(sorted(unknown))}")
    return arguments


def measured(questions: list[str], quick: bool) -> list[Result]:
    """Every result, printed as soon as it is there."""
    results: list[Result] = []
    for question in questions:
        for result in import_module(f"bench.{question}").results(quick, QUICK if quick else Effort()):
            if not results or result.work != results[-1].work:
                print(result.header())
            print(result.line(), flush=True)
            results.append(result)
    return results


def main() -> None:
    arguments = parse_arguments()
    about = machine.describe()
    for name, text in about.items():
        print(f"{name + ':':<14}{text}")
    if machine.is_busy():
        print("warning: the machine is busy, the figures will be worse than it can do")
    results = measured(arguments.only, arguments.quick)
    print(summary(results))
    if arguments.csv:
        write_csv(results, arguments.csv)
    if arguments.json:
        write_json(about, results, arguments.json)


if __name__ == "__main__":
    main()
