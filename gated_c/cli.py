"""The command line ``gated-c``: look into a model file, run it over ``.npy`` files, convert it, time it."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO, TypeAlias

import numpy as np

import gated_c as gc
from gated_c import npy, timing

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

INTERRUPTED = 128 + 2  # what a shell reports for a process that SIGINT ended, ...
BROKEN_PIPE = 128 + 13  # ... and for SIGPIPE

QUIET_SECONDS = 1.0  # without a progress bar


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0, 1 after an error, 130 after Ctrl-C, 141 after a broken pipe.

    A wrong command line raises ``SystemExit`` with code 2, as argparse does.
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
    """Meet a closed pipe or a full disk here: at exit the interpreter would print a traceback about it."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise


def _describe(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error) or type(error).__name__


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Errors inside are about this file: let them say so."""
    try:
        yield
    except (ValueError, TypeError, NotImplementedError) as error:
        if str(path) in str(error):
            raise
        raise ValueError(f"{path}: {error}") from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="gated-c", description="Run LSTM, GRU and RNN networks from their files.")
    parser.add_argument("--version", action="version", version=f"gated-c {gc.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for add in (_add_info, _add_run, _add_convert, _add_bench, _add_cpu):
        add(commands)
    return parser


def _add_command(
    commands: Commands, command: Callable[[argparse.Namespace], None], name: str, about: str
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=about, description=f"{about[0].upper()}{about[1:]}.")
    parser.set_defaults(command=command, parser=parser)
    return parser


def _add_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", type=Path, help="a model: .pt, .pth, .safetensors or .gated")


def _add_model(parser: argparse.ArgumentParser) -> None:
    """FILE, and what it may leave open."""
    _add_file(parser)
    parser.add_argument("--prefix", metavar="NAME", help="which module of the file, by its name in 'gated-c info'")
    parser.add_argument(
        "--batch-first",
        action=argparse.BooleanOptionalAction,
        help="arrays are [N, T, C] rather than [T, N, C] (default: what FILE says, else not)",
    )
    parser.add_argument(
        "--nonlinearity", choices=("tanh", "relu"), help="of a plain RNN (default: what FILE says, else tanh)"
    )


def _load(args: argparse.Namespace) -> gc.Model:
    with _naming(args.file):
        return gc.load(args.file, prefix=args.prefix, batch_first=args.batch_first, nonlinearity=args.nonlinearity)


def _add_info(commands: Commands) -> None:
    _add_file(_add_command(commands, _info, "info", "list the recurrent modules of a file"))


def _info(args: argparse.Namespace) -> None:
    with _naming(args.file):
        rows = [_info_row(layer) for layer in gc.inspect(args.file)]
        if not rows:
            raise ValueError("no LSTM, GRU or RNN in it")
    header = ("name", "cell", "layers", "directions", "input", "hidden", "proj", "parameters", "memory")
    _print_table(header, rows, text_columns=2)


def _info_row(layer: gc.LayerSpec) -> tuple[object, ...]:
    # A name comes from the file, which must not send escape sequences to the terminal.
    name = layer.name if layer.name.isprintable() else ascii(layer.name)
    return (
        name or "-",
        layer.cell,
        layer.num_layers,
        layer.num_directions,
        layer.input_size,
        layer.hidden_size,
        layer.proj_size or "-",
        f"{layer.num_parameters:,}",
        _format_bytes(gc.Model([layer]).packed_bytes),
    )


def _add_run(commands: Commands) -> None:
    parser = _add_command(commands, _run, "run", "run a model over an array, in blocks if it is larger than memory")
    _add_model(parser)
    parser.add_argument("input", metavar="INPUT.npy", type=Path, help="[T, N, C], [N, T, C] if batch-first, or [T, C]")
    parser.add_argument("--lengths", metavar="LENGTHS.npy", type=Path, help="the valid steps of each row: [N] integers")
    parser.add_argument(
        "-o", dest="output", metavar="OUT.npy", type=Path, help="the result, float32 (default: standard output)"
    )


def _run(args: argparse.Namespace) -> None:
    if args.output is None and sys.stdout.isatty():
        args.parser.error("not writing an array to a terminal: use -o OUT.npy, or redirect the output")
    model = _load(args)
    with _naming(args.input):
        x = npy.open_input(model, args.input)
    seq_len, batch = npy.seq_len_and_batch(model, x)
    lengths = None
    if args.lengths is not None:
        with _naming(args.lengths):
            lengths = npy.open_lengths(args.lengths, batch, seq_len)
    with _output_path(args.output) as path, _progress(seq_len * batch) as advance:
        y = npy.create_output(path, (*x.shape[:-1], model.output_size))
        npy.run(model, x, y, lengths, advance)


@contextmanager
def _output_path(output: Path | None) -> Iterator[Path]:
    """A file to write that becomes ``output``, or goes to a pipe or device, only when all of it is there."""
    if output is not None and (output.is_file() or not output.exists()):
        with npy.replacing(output) as path:
            yield path
        return
    with tempfile.TemporaryDirectory() as folder, _sink(output) as sink:
        path = Path(folder, "output")
        yield path
        with open(path, "rb") as file:
            shutil.copyfileobj(file, sink)


def _sink(output: Path | None) -> AbstractContextManager[BinaryIO]:
    return nullcontext(sys.stdout.buffer) if output is None else open(output, "wb")


@contextmanager
def _progress(steps: int) -> Iterator[Callable[[int], object]]:
    """A bar on stderr for what takes its time, if that is a terminal and tqdm is installed."""
    if find_spec("tqdm") is None:
        yield lambda done: None
        return
    from tqdm import tqdm  # type: ignore[import-untyped]

    with tqdm(total=steps, unit=" steps", unit_scale=True, delay=QUIET_SECONDS, leave=False, disable=None) as bar:
        yield bar.update


def _add_convert(commands: Commands) -> None:
    parser = _add_command(commands, _convert, "convert", "write a module as a .gated file, which opens by mapping")
    _add_model(parser)
    parser.add_argument("output", metavar="OUT.gated", type=Path)


def _convert(args: argparse.Namespace) -> None:
    model = _load(args)
    with _output_path(args.output) as path:
        model.save(path)


def _add_bench(commands: Commands) -> None:
    parser = _add_command(commands, _bench, "bench", "time a step and a sequence, beside PyTorch if it is installed")
    _add_model(parser)
    parser.add_argument("-T", "--steps", type=_positive, default=100, help="steps of the sequence (default: 100)")
    parser.add_argument("-N", "--batch", type=_positive, default=1, help="rows of the batch (default: 1)")


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError
    return value


def _bench(args: argparse.Namespace) -> None:
    model = _load(args)
    lead = (args.batch, args.steps) if model.batch_first else (args.steps, args.batch)
    x = np.random.default_rng(0).standard_normal((*lead, model.input_size), np.float32)
    timings = {}
    if find_spec("torch") is not None:
        timings["pytorch"] = timing.time_torch(model, x)
    timings["gated_c"] = timing.time_model(model, x)
    print(f"{args.file}: T = {args.steps}, N = {args.batch}, {model.isa}, one thread")
    rows = [
        (work, engine, f"{t.p50:.2f}", f"{t.p99:.2f}", f"{t.calls:,}")
        for work in ("step", "sequence")
        for engine in reversed(timings)
        if (t := timings[engine].get(work))
    ]
    _print_table(("", "", "p50 us", "p99 us", "calls"), rows, text_columns=2)


def _add_cpu(commands: Commands) -> None:
    _add_command(commands, _cpu, "cpu", "list the instruction sets of this build and which one runs")


def _cpu(args: argparse.Namespace) -> None:
    info = gc.cpu_info()
    yes_no = ("no", "yes")
    rows = [
        (isa.name, isa.lanes, yes_no[isa.usable], yes_no[isa.exact], yes_no[isa.name == info.chosen])
        for isa in info.isas
    ]
    _print_table(("isa", "lanes", "usable", "exact", "chosen"), rows, text_columns=1)


def _format_bytes(size: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.4g} {unit}"
        size /= 1024
    return f"{size:.4g} GiB"


def _print_table(header: Sequence[str], rows: Sequence[Sequence[object]], text_columns: int) -> None:
    """Columns as wide as their widest cell, the first ``text_columns`` to the left and the numbers to the right."""
    table = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        text = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        numbers = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
        print("  ".join(text[:text_columns] + numbers[text_columns:]).rstrip())
