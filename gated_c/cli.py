"""The command line ``gated-c``: look into a model file, run it over ``.npy`` files, convert it, time it."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

import gated_c as gc
from gated_c.commands import bench, compare, convert, cpu, info, latency, run, verify
from gated_c.console import describe, naming_output, say

INTERRUPTED = 128 + 2  # what a shell reports for a process that SIGINT ended, ...
BROKEN_PIPE = 128 + 13  # ... and for SIGPIPE


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
    for command in (info, run, convert, verify, compare, bench, latency, cpu):
        command.add(commands)
    return parser
