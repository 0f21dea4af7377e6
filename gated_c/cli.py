"""The command line ``gated-c``: look into a model file, run it over ``.npy`` files, convert it, time it."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Any, BinaryIO, TypeAlias

import numpy as np

import gated_c as gc
from gated_c import golden, latency, npy, timing, verify, writers
from gated_c.console import describe, format_bytes, naming, naming_output, print_table, printable, say, showing_warnings
from gated_c.files import replacing

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

INTERRUPTED = 128 + 2  # what a shell reports for a process that SIGINT ended, ...
BROKEN_PIPE = 128 + 13  # ... and for SIGPIPE

QUIET_SECONDS = 1.0  # without a progress bar


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0, 1 after an error, 130 after Ctrl-C, 141 after a broken pipe, 143
    after SIGTERM, 129 after SIGHUP.

    A wrong command line raises ``SystemExit`` with code 2, as argparse does.
    """
    try:
        try:
            args = _parser().parse_args(argv)
            with _raising_signals():
                args.command(args)
        finally:
            _flush_stdout()
    except KeyboardInterrupt:
        return INTERRUPTED
    except _Signal as signalled:  # not to the interpreter, which would exit before all generators are closed
        return 128 + signalled.number
    except BrokenPipeError:
        return BROKEN_PIPE
    except (OSError, ValueError, TypeError, RuntimeError, ImportError, MemoryError, OverflowError) as error:
        say("error", describe(error))
        return 1
    return 0


class _Signal(BaseException):
    def __init__(self, number: int) -> None:
        self.number = number


@contextmanager
def _raising_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP as exceptions, which clean up; under ``nohup`` they stay ignored."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise _Signal(number)

    numbers = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) is signal.SIG_DFL]
    for number in numbers:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


def _flush_stdout() -> None:
    """Meet a closed pipe or a full disk here: at exit the interpreter would print a traceback about it."""
    if sys.stdout is None:
        return
    try:
        with naming_output("standard output"):
            sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="gated-c", description="Run LSTM, GRU and RNN networks from their files.")
    parser.add_argument("--version", action="version", version=f"gated-c {gc.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for add in (_add_info, _add_run, _add_convert, _add_verify, _add_bench, _add_latency, _add_cpu):
        add(commands)
    return parser


def _add_command(
    commands: Commands, command: Callable[[argparse.Namespace], None], name: str, about: str
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=about, description=f"{about[0].upper()}{about[1:]}.")
    parser.set_defaults(command=command, parser=parser)
    return parser


def _add_file(parser: argparse.ArgumentParser) -> None:
    kinds = ".pt .pth .safetensors .keras .h5 .onnx .nam .json .gated"
    parser.add_argument("file", metavar="FILE", type=Path, help=f"a model: {kinds}")


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config", metavar="JSON", type=Path, help="the network of a Keras file of weights alone, from model.to_json()"
    )


def _add_model(parser: argparse.ArgumentParser) -> None:
    """FILE, and what it may leave open."""
    _add_file(parser)
    _add_config(parser)
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


def _load(args: argparse.Namespace) -> gc.Model:
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


def _add_info(commands: Commands) -> None:
    parser = _add_command(commands, _info, "info", "list the recurrent modules of a file")
    _add_file(parser)
    _add_config(parser)


def _info(args: argparse.Namespace) -> None:
    with naming(args.file), showing_warnings():
        rows = [_info_row(layer) for layer in gc.inspect(args.file, config=args.config)]
        if not rows:
            raise ValueError("no LSTM, GRU or RNN in it")
    header = ("name", "cell", "layers", "directions", "input", "hidden", "proj", "batch_first", "parameters", "memory")
    print_table(header, rows, text_columns=2)


def _info_row(layer: gc.LayerSpec) -> tuple[object, ...]:
    return (
        printable(layer.name) or "-",
        layer.cell,
        layer.num_layers,
        layer.num_directions,
        layer.input_size,
        layer.hidden_size,
        layer.proj_size or "-",
        "yes" if layer.batch_first else "no",
        f"{layer.num_parameters:,}",
        format_bytes(gc.Model([layer]).packed_bytes),
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
    if args.output is None and sys.stdout is None:
        args.parser.error("standard output is closed: use -o OUT.npy")
    if args.output is None and sys.stdout.isatty():
        args.parser.error("not writing an array to a terminal: use -o OUT.npy, or redirect the output")
    model = _load(args)
    with naming(args.input):
        x = npy.open_input(model, args.input)
    seq_len, batch = npy.seq_len_and_batch(model, x)
    lengths = None
    if args.lengths is not None:
        with naming(args.lengths):
            lengths = npy.open_lengths(model, args.lengths, seq_len, batch)
    with _output_path(args.output) as path, _progress(seq_len * batch) as advance:
        y = npy.create_output(path, model.output_shape(x.shape))
        npy.run(model, x, y, lengths, advance)


@contextmanager
def _output_path(output: Path | None) -> Iterator[Path]:
    """A file to write that becomes ``output``, or goes to a pipe or device, only when all of it is there."""
    if output is not None and (output.is_file() or not output.exists()):
        with replacing(output) as path:
            yield path
        return
    with tempfile.TemporaryDirectory() as folder, _sink(output) as sink:
        path = Path(folder, "output")
        yield path
        with open(path, "rb") as file:
            shutil.copyfileobj(file, sink)


@contextmanager
def _sink(output: Path | None) -> Iterator[BinaryIO]:
    name = "standard output" if output is None else str(output)
    with naming_output(name), nullcontext(sys.stdout.buffer) if output is None else open(output, "wb") as sink:
        yield sink


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


def _add_convert(commands: Commands) -> None:
    parser = _add_command(commands, _convert, "convert", "write a model in another format")
    _add_model(parser)
    parser.add_argument(
        "output",
        metavar="OUT",
        type=Path,
        help="by its name: .gated, which opens by mapping; of recurrent layers also .safetensors (a state_dict of "
        "PyTorch), .weights.h5 (Keras 3; the network's configuration goes to .json beside it) or .onnx (opset 14)",
    )
    parser.add_argument(
        "--packed",
        action="store_true",
        help="of .gated: keep the weights as this CPU's instruction set reads them, too, for processes to share",
    )


def _convert(args: argparse.Namespace) -> None:
    with naming(args.output):
        is_ours = writers.ending_of(args.output) == writers.GATED
    if args.packed and not is_ours:
        args.parser.error("--packed goes with .gated files")
    model = _load(args)
    if not is_ours:
        with naming(args.file):
            writers.write(model.layers, args.output)
        return
    with naming(args.file):
        vectors = _golden_vectors(args)
    with _output_path(args.output) as path:
        model._write(path, vectors, args.packed)


def _golden_vectors(args: argparse.Namespace) -> dict[str, Any]:
    """Those of a ``.gated`` file, as long as the model stays as it was saved."""
    vectors = golden.read(args.file) if golden.is_native(args.file) else {}
    changed = [option for option in ("prefix", "batch_first", "nonlinearity") if getattr(args, option) is not None]
    if vectors and changed:
        options = ", ".join(f"--{option.replace('_', '-')}" for option in changed)
        say("warning", f"{args.file}: its golden vectors are left out: they do not go with {options}")
        return {}
    return vectors


def _add_verify(commands: Commands) -> None:
    parser = _add_command(
        commands, _verify, "verify", "compare every layer's output with the framework that wrote a file"
    )
    _add_model(parser)
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
    model = _load(args)
    with naming(args.file):
        reference = verify.open_reference(args.file, args.prefix, args.config)
    given: dict[str, tuple[Any, Any]] = {"random": (verify.random_input(model, reference.lead), None)}
    if args.input is not None:
        given[str(args.input)] = _open_given(args, model)
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
    model = _load(args)
    with naming(args.file):
        golden.replay_file(args.file, model)
    print(f"{args.file}: equals its golden vectors")


def _open_given(args: argparse.Namespace, model: gc.Model) -> tuple[Any, Any]:
    with naming(args.input):
        x = np.array(npy.open_input(model, args.input))
    if args.lengths is None:
        return x, None
    with naming(args.lengths):
        return x, npy.open_lengths(model, args.lengths, *npy.seq_len_and_batch(model, x))


def _add_bench(commands: Commands) -> None:
    parser = _add_command(commands, _bench, "bench", "time a step and a sequence, beside PyTorch if it is installed")
    _add_model(parser)
    parser.add_argument("-T", "--steps", type=_positive, default=100, help="steps of the sequence (default: 100)")
    parser.add_argument("-N", "--batch", type=_positive, default=1, help="rows of the batch (default: 1)")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"expected a positive number, got {text}")
    return int(text)


def _bench(args: argparse.Namespace) -> None:
    model = _load(args)
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


def _add_latency(commands: Commands) -> None:
    parser = _add_command(commands, _latency, "latency", "time single steps of a stream, and show how they spread")
    _add_model(parser)
    parser.add_argument("-N", "--batch", type=_positive, default=1, help="rows of the stream (default: 1)")
    parser.add_argument("--steps", type=_positive, default=1_000_000, help="how many (default: a million)")
    parser.add_argument(
        "--plot", metavar="OUT.png", type=Path, help="save the histogram as a picture (.png, .svg, .pdf)"
    )


def _latency(args: argparse.Namespace) -> None:
    model = _load(args)
    x = verify.random_input(model, (args.batch, None) if model.batch_first else (None, args.batch))
    with nullcontext() if args.plot is None else latency.picture(args.plot) as draw:
        with naming(args.file):
            times = latency.step_latencies(model, x, args.steps)
        title = f"{args.file}: {args.steps:,} steps, N = {args.batch}, {model.isa}"
        rows = [(name, f"{ns:,.0f}") for name, ns in latency.percentiles(times).items()]
        print(title)
        print(*latency.histogram_lines(times), sep="\n")
        print_table(("", "ns"), rows, text_columns=1)
        if draw is not None:
            draw(times, title)


def _add_cpu(commands: Commands) -> None:
    _add_command(commands, _cpu, "cpu", "list the instruction sets of this build and which one runs")


def _cpu(args: argparse.Namespace) -> None:
    info = gc.cpu_info()
    yes_no = ("no", "yes")
    rows = [
        (isa.name, isa.lanes, yes_no[isa.usable], yes_no[isa.exact], yes_no[isa.name == info.chosen])
        for isa in info.isas
    ]
    print_table(("isa", "lanes", "usable", "exact", "chosen"), rows, text_columns=1)
