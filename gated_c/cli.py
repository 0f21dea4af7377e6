"""The command line ``gated-c``: look into a model file, run it over ``.npy`` files, convert it, time it."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import gated_c as gc

INTERRUPTED = 128 + 2  # what a shell reports for a process ended by SIGINT, ...
BROKEN_PIPE = 128 + 13  # ... and by SIGPIPE


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code: 0, 1 after an error, 130 after Ctrl-C, 141 after a broken pipe.

    A wrong command line raises ``SystemExit(2)``, as argparse does.
    """
    try:
        try:
            args = _parser().parse_args(argv)
            args.command(args)
        finally:
            _flush_stdout()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        return BROKEN_PIPE
    except (OSError, ValueError, TypeError, RuntimeError, ImportError, MemoryError) as error:
        print(f"gated-c: error: {_describe(error)}", file=sys.stderr)
        return 1
    return 0


def _flush_stdout() -> None:
    """Meet a closed pipe or a full disk here, not in the interpreter's last breath, which would print a traceback."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise


def _describe(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error) or type(error).__name__


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="gated-c", description="Run LSTM, GRU and RNN networks from their files.")
    parser.add_argument("--version", action="version", version=f"gated-c {gc.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_info(commands)
    _add_run(commands)
    _add_convert(commands)
    _add_bench(commands)
    _add_cpu(commands)
    return parser


def _add_command(commands: Any, name: str, command: Any, about: str, details: str = "") -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=about, description=f"{about[0].upper()}{about[1:]}. {details}"
    )
    parser.set_defaults(command=command)
    return parser


def _add_model(parser: argparse.ArgumentParser) -> None:
    """FILE and what its reader may have to be told."""
    parser.add_argument("file", metavar="FILE", type=Path, help="the model: .pt, .pth, .safetensors or .gated")
    parser.add_argument("--prefix", metavar="NAME", help="which module of the file, by its name in 'gated-c info FILE'")
    parser.add_argument("--nonlinearity", choices=("tanh", "relu"), help="of a plain RNN whose file does not say")


def _add_batch_first(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--batch-first",
        action=argparse.BooleanOptionalAction,
        help="arrays are [N, T, C] rather than [T, N, C]; default: what the file says, else no",
    )


def _load(args: argparse.Namespace) -> gc.Model:
    batch_first = getattr(args, "batch_first", None)
    with _naming(args.file):
        return gc.load(args.file, prefix=args.prefix, batch_first=batch_first, nonlinearity=args.nonlinearity)


@contextmanager
def _naming(path: Path) -> Any:
    """Errors inside are about this file and say so."""
    try:
        yield
    except (ValueError, TypeError) as error:
        if str(path) in str(error):
            raise
        raise ValueError(f"{path}: {error}") from error
