"""``gated-c latency``."""

from __future__ import annotations

import argparse
from contextlib import nullcontext
from pathlib import Path

from gated_c import latency, verify
from gated_c.commands.arguments import Commands, add_command, add_model, load, positive
from gated_c.console import naming, print_table
from gated_c.picture import picture


def add(commands: Commands) -> None:
    parser = add_command(commands, _latency, "latency", "time single steps of a stream, and show how they spread")
    add_model(parser)
    parser.add_argument("-N", "--batch", type=positive, default=1, help="rows of the stream (default: 1)")
    parser.add_argument("--steps", type=positive, default=1_000_000, help="how many (default: a million)")
    parser.add_argument(
        "--plot", metavar="OUT.png", type=Path, help="save the histogram as a picture (.png, .svg, .pdf)"
    )


def _latency(args: argparse.Namespace) -> None:
    model = load(args)
    x = verify.random_input(model, (args.batch, None) if model.batch_first else (None, args.batch))
    with nullcontext() if args.plot is None else picture(args.plot, 8, 4) as figure:
        with naming(args.file):
            times = latency.step_latencies(model, x, args.steps)
        title = f"{args.file}: {args.steps:,} steps, N = {args.batch}, {model.isa}"
        rows = [(name, f"{ns:,.0f}") for name, ns in latency.percentiles(times).items()]
        print(title)
        print(*latency.histogram_lines(times), sep="\n")
        print_table(("", "ns"), rows, text_columns=1)
        if figure is not None:
            latency.draw(times, title, figure)
