"""``gated-c compare``."""

from __future__ import annotations

import argparse
from contextlib import nullcontext
from pathlib import Path

import gated_c as gc
from gated_c.commands.arguments import (
    Commands,
    add_command,
    add_model,
    add_narrow,
    check_narrow,
    load,
    narrowed,
    open_given,
)
from gated_c.comparison import SIZE
from gated_c.console import naming
from gated_c.picture import picture


def add(commands: Commands) -> None:
    parser = add_command(
        commands, _compare, "compare", "say how far a narrow model is from the one in a file, and where"
    )
    add_model(parser)
    other = add_narrow(parser, required=True)
    other.add_argument("--with", dest="other", metavar="OTHER", type=Path, help="a file of the same layers, instead")
    parser.add_argument(
        "--input", metavar="X.npy", type=Path, required=True, help="[T, N, C], [N, T, C] if batch-first, or [T, C]"
    )
    parser.add_argument("--lengths", metavar="LENGTHS.npy", type=Path, help="the valid steps of its rows: [N] integers")
    parser.add_argument(
        "--plot", metavar="OUT.png", type=Path, help="save the errors over time as a picture (.png, .svg, .pdf)"
    )


def _compare(args: argparse.Namespace) -> None:
    check_narrow(args)
    model = load(args)
    x, lengths = open_given(args, model)
    with nullcontext() if args.plot is None else picture(args.plot, *SIZE) as figure:
        narrow = _narrow(args, model)
        with naming(args.other or args.file):
            found = gc.compare(model, narrow, x, lengths=lengths)
        print(found)
        if figure is not None:
            found.plot(figure.subplots(2))


def _narrow(args: argparse.Namespace, model: gc.Model) -> gc.Model:
    if args.other is None:
        return narrowed(args, model)
    with naming(args.other):
        return gc.load(args.other, batch_first=args.batch_first)
