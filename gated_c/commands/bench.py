"""``gated-c bench``."""

from __future__ import annotations

import argparse
from importlib.util import find_spec

from gated_c import timing, verify
from gated_c.commands.arguments import Commands, add_command, add_model, load, positive
from gated_c.console import print_table


def add(commands: Commands) -> None:
    parser = add_command(commands, _bench, "bench", "time a step and a sequence, beside PyTorch if it is installed")
    add_model(parser)
    parser.add_argument("-T", "--steps", type=positive, default=100, help="steps of the sequence (default: 100)")
    parser.add_argument("-N", "--batch", type=positive, default=1, help="rows of the batch (default: 1)")


def _bench(args: argparse.Namespace) -> None:
    model = load(args)
    lead = (args.batch, args.steps) if model.batch_first else (args.steps, args.batch)
    x = verify.random_input(model, lead)
    timings = {}
    if find_spec("torch") is not None and len(model.layers) == 1 and model.recurrent[0].in_torch:
        timings["pytorch"] = timing.time_torch(model, x)
    timings["gated_c"] = timing.time_model(model, x)
    print(f"{args.file}: T = {args.steps}, N = {args.batch}, {model.isa}, one thread")
    rows = [
        (work, engine, f"{t.p50:.2f}", f"{t.p99:.2f}", f"{t.calls:,}")
        for work in ("step", "sequence")
        for engine in reversed(timings)
        if (t := timings[engine].get(work))
    ]
    print_table(("", "", "p50 us", "p99 us", "calls"), rows, text_columns=2)
