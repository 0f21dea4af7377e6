"""What several commands take: a model file, and what it may leave open."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

import gated_c as gc
from gated_c import npy
from gated_c.console import naming
from gated_c.options import DTYPES

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add_command(
    commands: Commands, command: Callable[[argparse.Namespace], None], name: str, about: str
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=about, description=f"{about[0].upper()}{about[1:]}.")
    parser.set_defaults(command=command, parser=parser)
    return parser


def add_file(parser: argparse.ArgumentParser) -> None:
    kinds = ".pt .pth .safetensors .keras .h5 .onnx .nam .json .gated"
    parser.add_argument("file", metavar="FILE", type=Path, help=f"a model: {kinds}")


def add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config", metavar="JSON", type=Path, help="the network of a Keras file of weights alone, from model.to_json()"
    )


def add_model(parser: argparse.ArgumentParser) -> None:
    """FILE, and what it may leave open."""
    add_file(parser)
    add_config(parser)
    parser.add_argument("--prefix", metavar="NAME", help="which module of the file, by its name in 'gated-c info'")
    parser.add_argument(
        "--batch-first",
        action=argparse.BooleanOptionalAction,
        help="arrays are [N, T, C] rather than [T, N, C] (default: what FILE says, else not)",
    )
    parser.add_argument(
        "--nonlinearity", choices=("tanh", "relu"), help="of a plain RNN (default: what FILE says, else tanh)"
    )
    parser.add_argument(
        "--backend",
        choices=("tensorflow", "torch", "jax", "numpy"),
        help="of a Keras file, for sequences that begin with masked steps (default: what FILE says, else tensorflow)",
    )
    parser.add_argument("--clip", choices=("spec", "ort"), help="whose clipping an ONNX file means (default: spec)")


def load(args: argparse.Namespace) -> gc.Model:
    with naming(args.file):
        return gc.load(
            args.file,
            prefix=args.prefix,
            batch_first=args.batch_first,
            nonlinearity=args.nonlinearity,
            config=args.config,
            backend=args.backend,
            clip=args.clip,
        )


def add_narrow(parser: argparse.ArgumentParser, *, required: bool = False) -> Any:
    """``--to`` and what goes with it. Returns the group of what excludes ``--to``."""
    instead = parser.add_mutually_exclusive_group(required=required)
    instead.add_argument("--to", choices=DTYPES, help="dtype of the weights of recurrent layers")
    parser.add_argument(
        "--arithmetic", choices=("float32", "bfloat16"), help="of products with bfloat16 weights (default: float32)"
    )
    parser.add_argument(
        "--inputs", choices=("int8", "float32", "bfloat16"), help="of products of x in an int8 model (default: int8)"
    )
    parser.add_argument(
        "--calibrate", metavar="X.npy", type=Path, help="an input like those to come, for the scale of h in int8"
    )
    return instead


def check_narrow(args: argparse.Namespace) -> None:
    """That nothing goes with ``--to`` which is not there."""
    for option in ("arithmetic", "inputs", "calibrate"):
        if args.to is None and getattr(args, option) is not None:
            args.parser.error(f"--{option} goes with --to")


def narrowed(args: argparse.Namespace, model: gc.Model) -> gc.Model:
    """As ``--to`` says, or ``model`` itself."""
    if args.to is None:
        return model
    calibrate = None if args.calibrate is None else _open_input(args.calibrate, model)
    with naming(args.file):
        return model.to(args.to, arithmetic=args.arithmetic or "float32", inputs=args.inputs, calibrate=calibrate)


def positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"expected a positive number, got {text}")
    return int(text)


def open_given(args: argparse.Namespace, model: gc.Model) -> tuple[Any, Any]:
    """The arrays of ``--input`` and ``--lengths``, which may be ``None``."""
    x = _open_input(args.input, model)
    if args.lengths is None:
        return x, None
    with naming(args.lengths):
        return x, npy.open_lengths(model, args.lengths, *npy.seq_len_and_batch(model, x))


def _open_input(path: Path, model: gc.Model) -> Any:
    with naming(path):
        return np.array(npy.open_input(model, path))
