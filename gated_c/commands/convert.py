"""``gated-c convert``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from gated_c import golden, writers
from gated_c.commands.arguments import Commands, add_command, add_model, add_narrow, check_narrow, load, narrowed
from gated_c.commands.output import output_path
from gated_c.console import naming, say


def add(commands: Commands) -> None:
    parser = add_command(commands, _convert, "convert", "write a model in another format")
    add_model(parser)
    parser.add_argument(
        "output",
        metavar="OUT",
        type=Path,
        help="by its name: .gated, which opens by mapping; of recurrent layers also .safetensors (a state_dict of "
        "PyTorch), .weights.h5 (Keras 3; the network's configuration goes to .json beside it) or .onnx (opset 14)",
    )
    add_narrow(parser)
    parser.add_argument(
        "--packed",
        action="store_true",
        help="of .gated: keep the weights as this CPU's instruction set reads them, too, for processes to share",
    )


def _convert(args: argparse.Namespace) -> None:
    with naming(args.output):
        is_ours = writers.ending_of(args.output) == writers.GATED
    for option in ("packed", "to"):
        if getattr(args, option) and not is_ours:
            args.parser.error(f"--{option} goes with .gated files")
    check_narrow(args)
    model = narrowed(args, load(args))
    if not is_ours:
        with naming(args.file):
            writers.write(model.layers, args.output)
        return
    with naming(args.file):
        vectors = _golden_vectors(args)
    with output_path(args.output) as path:
        model._write(path, vectors, args.packed)


def _golden_vectors(args: argparse.Namespace) -> dict[str, Any]:
    """Those of a ``.gated`` file, as long as the model stays as it was saved."""
    vectors = golden.read(args.file) if golden.is_native(args.file) else {}
    changed = [
        option for option in ("prefix", "batch_first", "nonlinearity", "to") if getattr(args, option) is not None
    ]
    if vectors and changed:
        options = ", ".join(f"--{option.replace('_', '-')}" for option in changed)
        say("warning", f"{args.file}: its golden vectors are left out: they do not go with {options}")
        return {}
    return vectors
