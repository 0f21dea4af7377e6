"""What `gated_c.compare` found: figures, a table of them, a picture."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from gated_c.console import printable, table_lines
from gated_c.picture import new_figure, picture

#: How much larger the error of the last steps has to be than that of the first to call it growing.
GROWS = 2.0

SIZE = (8.0, 7.0)  # of a picture, in inches

_HEADER = ("layer", "direction", "error", "largest", "own error", "own largest", "last/first")


class Error(NamedTuple):
    """How far values are from their reference, over all that count."""

    relative: float  #: rms of the differences / rms of the reference
    largest: float  #: the largest difference


@dataclass(frozen=True)
class LayerComparison:
    """The h of one direction of one recurrent layer.

    ``error`` has built up since the network's input; ``own`` is the layer's alone, given the reference's input. A
    layer of a stack has its own, too. Over time ``error`` is the ``drift`` float64 [B], rms over rows and units of the
    steps from ``steps`` int64 [B] on, counted from 0 in the order in which the direction reads the steps that count;
    each step by itself, or in 100 parts if there are more.
    """

    name: str
    direction: str  #: ``forward`` or ``reverse``
    error: Error
    own: Error
    drift: npt.NDArray[np.float64] = field(repr=False)
    steps: npt.NDArray[np.int64] = field(repr=False)
    growth: float  #: rms of the differences in the last tenth of the steps / in the first; 1 if there are none

    @property
    def grows(self) -> bool:
        """Whether the error of the last tenth is more than twice that of the first."""
        return self.growth > GROWS

    @property
    def label(self) -> str:
        return f"{printable(self.name)} {self.direction}"


@dataclass(frozen=True)
class Comparison:
    """A model beside its reference on one input, the steps left out that do not count.

    ``reference`` and ``narrow`` say what each calculates with. ``layers`` are in the order of the network, forward
    before reverse. ``output`` is the error of y; ``rows`` are its rows (of a vector) or steps (of a sequence) of all
    rows, ``argmax_changed`` the share of them whose largest feature is another, ``None`` if there is only one feature.

    ``str()`` is a table.
    """

    reference: str
    narrow: str
    layers: tuple[LayerComparison, ...]
    output: Error
    rows: int
    argmax_changed: float | None

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"{self.narrow} beside {self.reference}"
        layers = [
            (printable(one.name), one.direction, *_numbers(*one.error, *one.own, one.growth)) for one in self.layers
        ]
        yield from table_lines(_HEADER, [*layers, ("y", "", *_numbers(*self.output), "", "", "")], text_columns=2)
        if self.argmax_changed is not None:
            changed = round(self.argmax_changed * self.rows)
            yield f"argmax of y: another in {changed:,} of {self.rows:,} ({self.argmax_changed:.2%})"
        growing = [one.label for one in self.layers if one.grows]
        yield f"error over time: {'grows in ' + ', '.join(growing) if growing else 'does not grow'}"

    def plot(self, to: str | os.PathLike[str] | Any = None) -> Any:
        """Draw the error of h over time and the errors of every layer, on logarithmic axes.

        Into a file by its name (.png, .svg, .pdf), into two axes of matplotlib, or into a new figure. Returns the
        figure. Raises ``ImportError`` without matplotlib, ``ValueError`` for another ending, ``OSError``.
        """
        if isinstance(to, str | os.PathLike):
            with picture(to, *SIZE) as figure:
                self.plot(figure.subplots(2))
            return figure
        over_time, of_layers = new_figure(*SIZE).subplots(2) if to is None else to
        self._draw_drift(over_time)
        self._draw_errors(of_layers)
        return over_time.figure

    def _draw_drift(self, axes: Any) -> None:
        for one in self.layers:
            marker = "." if len(one.steps) == 1 else ""
            axes.plot(one.steps, _above_0(one.drift), label=_literal(one.label), marker=marker)
        title = f"{self.narrow} beside {self.reference}"
        axes.set(yscale="log", xlabel="steps read", ylabel="error of h (rms)", title=title)
        axes.legend()

    def _draw_errors(self, axes: Any) -> None:
        places = np.arange(len(self.layers))
        for marker, name, errors in (
            ("o", "built up", [one.error.relative for one in self.layers]),
            ("x", "the layer's own", [one.own.relative for one in self.layers]),
        ):
            axes.plot(_above_0(np.array(errors)), places, marker, label=name)
        axes.set(xscale="log", xlabel="relative error of h", ylim=(len(places) - 0.5, -0.5))
        axes.set_yticks(places, [_literal(one.label) for one in self.layers])
        axes.grid(axis="y", linewidth=0.5)
        axes.legend()


def _numbers(*values: float) -> tuple[str, ...]:
    return tuple(f"{value:.2g}" for value in values)


def _literal(label: str) -> str:
    """That matplotlib draws as it is: no formulas, and nothing that begins as what it leaves out of a legend."""
    return (" " if label.startswith("_") else "") + label.replace("$", r"\$")


def _above_0(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """What a logarithmic axis can show; nothing elsewhere."""
    return np.where(np.isfinite(values) & (values > 0), values, np.nan)
