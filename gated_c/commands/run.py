"""``gated-c run``."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from gated_c import npy
from gated_c.commands.arguments import Commands, add_command, add_model, load, positive
from gated_c.commands.output import output_path
from gated_c.console import naming

QUIET_SECONDS = 1.0  # without a progress bar


def add(commands: Commands) -> None:
    parser = add_command(commands, _run, "run", "run a model over an array, in blocks if it is larger than memory")
    add_model(parser)
    parser.add_argument("input", metavar="INPUT.npy", type=Path, help="[T, N, C], [N, T, C] if batch-first, or [T, C]")
    parser.add_argument("--lengths", metavar="LENGTHS.npy", type=Path, help="the valid steps of each row: [N] integers")
    parser.add_argument(
        "--threads",
        metavar="N",
        type=positive,
        help="at most so many (default: as many as pay, up to the CPUs it may use)",
    )
    parser.add_argument(
        "-o", dest="output", metavar="OUT.npy", type=Path, help="the result, float32 (default: standard output)"
    )


def _run(args: argparse.Namespace) -> None:
    if args.output is None and sys.stdout is None:
        args.parser.error("standard output is closed: use -o OUT.npy")
    if args.output is None and sys.stdout.isatty():
        args.parser.error("not writing an array to a terminal: use -o OUT.npy, or redirect the output")
    model = load(args)
    with naming(args.input):
        x = npy.open_input(model, args.input)
    seq_len, batch = npy.seq_len_and_batch(model, x)
    lengths = None
    if args.lengths is not None:
        with naming(args.lengths):
            lengths = npy.open_lengths(model, args.lengths, seq_len, batch)
    with output_path(args.output) as path, _progress(seq_len * batch) as advance:
        y = npy.create_output(path, model.output_shape(x.shape))
        npy.run(model, x, y, lengths, advance, args.threads)


@contextmanager
def _progress(steps: int) -> Iterator[Callable[[int], object]]:
    """A bar on stderr for what takes its time, if that is a terminal; without tqdm, a percentage."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield lambda done: None
    elif find_spec("tqdm") is None:
        with _percentage(steps) as advance:
            yield advance
    else:
        from tqdm import tqdm  # type: ignore[import-untyped]

        with tqdm(total=steps, unit=" steps", unit_scale=True, delay=QUIET_SECONDS, leave=False) as bar:
            yield bar.update


@contextmanager
def _percentage(steps: int) -> Iterator[Callable[[int], object]]:
    start, done, shown = time.monotonic(), 0, False

    def advance(more: int) -> None:
        nonlocal done, shown
        done += more
        if time.monotonic() - start >= QUIET_SECONDS:
            print(f"\r{done / steps:4.0%}", end="", file=sys.stderr, flush=True)
            shown = True

    try:
        yield advance
    finally:
        if shown:
            print("\r    ", end="\r", file=sys.stderr, flush=True)
