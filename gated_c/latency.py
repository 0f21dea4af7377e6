"""How long single steps take, all of them: what a deadline is about."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from gated_c._core import clock_cost
from gated_c.model import Model

Nanoseconds = npt.NDArray[np.int64]

PERCENTILES = (50, 99, 99.9, 100)

_BINS_PER_OCTAVE = 4
_BAR = 50


def step_latencies(model: Model, x: npt.NDArray[Any], count: int) -> Nanoseconds:
    """Nanoseconds of ``count`` steps of one stream, one by one, measured in C with the clock's own time taken off.

    ``x`` holds the steps as the model takes sequences, used over and over; a tenth of ``count`` goes unmeasured before.
    Raises as :meth:`Model.stream` does.
    """
    if model.batch_first:
        x = x.swapaxes(0, 1)
    x = np.ascontiguousarray(x, np.int32 if model.takes == "ids" else np.float32)
    stream = model.stream(x.shape[1])
    stream.warm()
    times = np.empty(count, np.int64)
    stream._time_steps(x, times[: count // 10 + 1])
    stream._time_steps(x, times)
    return np.maximum(times - clock_cost(), 1)


def percentiles(times: Nanoseconds) -> dict[str, float]:
    """The nanoseconds that 50, 99, 99.9 and 100 % of the steps stay within."""
    names = [f"p{percent:g}" if percent < 100 else "max" for percent in PERCENTILES]
    return dict(zip(names, np.percentile(times, PERCENTILES).tolist(), strict=True))


def histogram(times: Nanoseconds) -> tuple[npt.NDArray[np.float64], Nanoseconds]:
    """Bin edges in nanoseconds, a quarter of an octave apart, and the steps between each two."""
    low, high = np.floor(np.log2(times.min()) * _BINS_PER_OCTAVE), np.log2(times.max()) * _BINS_PER_OCTAVE
    edges = 2.0 ** (np.arange(low, np.floor(high) + 2) / _BINS_PER_OCTAVE)
    counts, _ = np.histogram(times, edges)
    return edges, counts


def histogram_lines(times: Nanoseconds) -> Iterator[str]:
    """A line for each bin that is not empty; bars are logarithmic, so that a single step shows."""
    edges, counts = histogram(times)
    scale = _BAR / np.log2(counts.max() + 1)
    for low, high, count in zip(edges, edges[1:], counts, strict=False):
        if count:
            bar = "#" * max(1, round(scale * float(np.log2(count + 1))))
            yield f"{low:10,.0f} .. {high:9,.0f} ns  {count:11,}  {bar}"


def draw(times: Nanoseconds, title: str, figure: Any) -> None:
    """The histogram, into an empty figure of matplotlib."""
    edges, counts = histogram(times)
    axes = figure.subplots()
    axes.stairs(counts, edges, fill=True)
    axes.set(xscale="log", yscale="log", xlabel="ns of a step", ylabel="steps", title=title)
    for name, value in percentiles(times).items():
        axes.axvline(value, color="black", linewidth=0.8)
        axes.text(value, axes.get_ylim()[1], f" {name}", rotation=90, verticalalignment="top")
