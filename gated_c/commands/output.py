"""A file of results that is there whole, or not at all."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import BinaryIO

from gated_c.console import naming_output
from gated_c.files import replacing


@contextmanager
def output_path(output: Path | None) -> Iterator[Path]:
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
