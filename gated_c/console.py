"""How the command line talks: messages, the files they are about, tables."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

LINE_CHARS = 300  # of a message, which may hold any name from a file
MESSAGE_LINES = 30


def say(kind: str, message: str) -> None:
    if sys.stderr is not None:  # print would take standard output instead
        lines = [printable(line) for line in message.split("\n")]
        more = ["..."] if len(lines) > MESSAGE_LINES else []
        print(f"gated-c: {kind}:", "\n".join(lines[:MESSAGE_LINES] + more), file=sys.stderr)


def printable(text: str) -> str:
    """Names come from files, which must not send escape sequences to the terminal, nor megabytes."""
    if len(text) > LINE_CHARS:
        text = f"{text[: LINE_CHARS // 2]}...{text[-LINE_CHARS // 2 :]}"
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def describe(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error) or type(error).__name__


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Errors inside are about this file: let them say so."""
    try:
        yield
    except (ValueError, TypeError, NotImplementedError) as error:
        if str(path) in str(error):
            raise
        raise ValueError(f"{path}: {error}") from error


@contextmanager
def naming_output(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        error.filename = error.filename or name
        raise


@contextmanager
def showing_warnings() -> Iterator[None]:
    """Warnings as lines for a user, without the source line that issued them."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        try:
            yield
        finally:
            for warning in caught:
                say("warning", str(warning.message))


def format_bytes(size: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.4g} {unit}"
        size /= 1024
    return f"{size:.4g} GiB"


def print_table(header: Sequence[str], rows: Sequence[Sequence[object]], text_columns: int) -> None:
    print(*table_lines(header, rows, text_columns), sep="\n")


def table_lines(header: Sequence[str], rows: Sequence[Sequence[object]], text_columns: int) -> Iterator[str]:
    """Columns as wide as their widest cell, the first ``text_columns`` to the left and the numbers to the right."""
    table = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        text = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        numbers = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
        yield "  ".join(text[:text_columns] + numbers[text_columns:]).rstrip()
