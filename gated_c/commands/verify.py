"""``gated-c verify``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from gated_c import golden, verify
from gated_c.commands.arguments import Commands, add_command, add_model, load, open_given
from gated_c.console import naming, print_table, printable


def add(commands: Commands) -> None:
    parser = add_command(
        commands, _verify, "verify", "compare every layer's output with the framework that wrote a file"
    )
    add_model(parser)
    parser.add_argument("--input", metavar="X.npy", type=Path, help="an input of yours, besides a random one")
    parser.add_argument("--lengths", metavar="LENGTHS.npy", type=Path, help="the valid steps of its rows: [N] integers")


def _verify(args: argparse.Namespace) -> None:
    if args.lengths is not None and args.input is None:
        args.parser.error("--lengths is about --input")
    with naming(args.file):
        is_ours = golden.is_native(args.file)
    if is_ours:
        _replay(args)
        return
    model = load(args)
    with naming(args.file):
        reference = verify.open_reference(args.file, args.prefix, args.config)
    given: dict[str, tuple[Any, Any]] = {"random": (verify.random_input(model, reference.lead), None)}
    if args.input is not None:
        given[str(args.input)] = open_given(args, model)
    with naming(args.file):
        found = [(name, one) for name, (x, n) in given.items() for one in verify.verify(model, reference, x, n)]
    rows = [(printable(one.layer), name, f"{one.error:.2g}", f"{one.tolerance:.2g}") for name, one in found]
    print_table(("layer", "input", "largest error", "tolerance"), rows, text_columns=2)
    wrong = [one.layer for _, one in found if not one.is_fine]
    if wrong:
        raise ValueError(f"{args.file}: differs from {reference.version} from {wrong[0]} on")
    print(f"{args.file}: equals {reference.version} up to rounding")


def _replay(args: argparse.Namespace) -> None:
    """Of a ``.gated`` file its own vectors are the reference; they are those of the whole model as it was saved."""
    for option in ("input", "prefix", "batch_first"):
        if getattr(args, option) is not None:
            args.parser.error(f"--{option.replace('_', '-')} does not go with the golden vectors of a .gated file")
    model = load(args)
    with naming(args.file):
        golden.replay_file(args.file, model)
    print(f"{args.file}: equals its golden vectors")
