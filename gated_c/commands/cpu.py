"""``gated-c cpu``."""

from __future__ import annotations

import argparse

import gated_c as gc
from gated_c.commands.arguments import Commands, add_command
from gated_c.console import print_table


def add(commands: Commands) -> None:
    add_command(
        commands, _cpu, "cpu", "list the instruction sets of this build, which one runs, and on how many threads"
    )


def _cpu(args: argparse.Namespace) -> None:
    info = gc.cpu_info()
    yes_no = ("no", "yes")
    rows = [
        (isa.name, isa.lanes, yes_no[isa.usable], yes_no[isa.exact], yes_no[isa.name == info.chosen])
        for isa in info.isas
    ]
    print_table(("isa", "lanes", "usable", "exact", "chosen"), rows, text_columns=1)
    print(f"threads: {info.threads}, of {info.openmp}" if info.openmp else "threads: 1, without OpenMP")
