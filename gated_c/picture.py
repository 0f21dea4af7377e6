"""Pictures in files, drawn by matplotlib, which is imported where one is wanted."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gated_c.files import replacing


def new_figure(width: float, height: float) -> Any:
    """An empty ``matplotlib.figure.Figure``, in inches. Raises ``ImportError`` that says how to install matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError('plots need matplotlib: pip install "gated_c[plot]"') from None
    return Figure(figsize=(width, height), layout="constrained")


@contextmanager
def picture(path: str | os.PathLike[str], width: float, height: float) -> Iterator[Any]:
    """An empty figure that is saved at the end, as the kind that the ending of ``path`` says. Raises ``ImportError``
    without matplotlib, ``ValueError`` for another ending, ``OSError``: before anything is drawn."""
    figure = new_figure(width, height)
    kind = Path(path).suffix[1:].lower()
    if kind not in figure.canvas.get_supported_filetypes():
        raise ValueError(f"{os.fspath(path)}: expected a name that ends with .png, .svg or .pdf")
    with replacing(path) as unfinished:
        yield figure
        figure.savefig(unfinished, format=kind)
