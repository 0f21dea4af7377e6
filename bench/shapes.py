"""The shape sets that are lists of layers, from ``shapes.csv``.

A row is every combination of what stands between ``|``; ``=`` is an input as wide as the hidden state, ``quick`` says
which rows ``--quick`` keeps.
"""

from __future__ import annotations

import csv
from itertools import product
from pathlib import Path

from bench.case import Case

COLUMNS = ("cell", "input", "hidden", "layers", "directions", "batch", "time")


def shapes(quick: bool = False) -> dict[str, list[Case]]:
    """The cases of each set."""
    sets: dict[str, list[Case]] = {}
    with Path(__file__).with_name("shapes.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            if row["quick"] == "yes" or not quick:
                sets.setdefault(row["set"], []).extend(cases(row))
    return sets


def cases(row: dict[str, str]) -> list[Case]:
    """All that a row stands for."""
    combinations = product(*(row[column].split("|") for column in COLUMNS))
    return [case_of(*combination) for combination in combinations]


def case_of(cell: str, inputs: str, hidden: str, layers: str, directions: str, batch: str, time: str) -> Case:
    input_size = int(hidden if inputs == "=" else inputs)
    return Case(cell, input_size, int(hidden), int(batch), int(time), int(layers), directions == "2")
