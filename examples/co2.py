"""Carbon dioxide, week by week: a bidirectional LSTM fills gaps of 18 weeks from the half years before and after.

    pip install -e ".[examples]"
    python examples/co2.py

The weekly series from Mauna Loa, 1958 to 2001, is statsmodels'. Its longest hole is 18 weeks, in 1964. The years from
1987 on were held out from the training, which is co2_train.py.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view
from timing import microseconds

import gated_c as gc

try:
    from statsmodels.datasets import co2
except ImportError as error:
    raise SystemExit('the series comes with statsmodels: pip install -e ".[examples]"') from error

HERE = Path(__file__).parent
FIRST_HELD_OUT = np.datetime64("1987")
HOLE = np.datetime64("1964-01-25")
CONTEXT, GAP, YEAR = 26, 18, 52
WINDOW = CONTEXT + GAP + CONTEXT
HIDDEN = slice(CONTEXT, CONTEXT + GAP)
SCALE = np.float32(3)

Array = npt.NDArray[np.float32]
Dates = npt.NDArray[np.datetime64]


def load_co2() -> tuple[Dates, Array]:
    """Weeks [2284] and their ppm of CO2 [2284], NaN where a week is missing."""
    series = co2.load_pandas().data["co2"]
    return series.index.to_numpy("datetime64[D]"), series.to_numpy(np.float32)


def windows(ppm: Array) -> Array:
    """Every window [T, N] of a series [T + N - 1]."""
    return sliding_window_view(ppm, WINDOW).T


def bridge(window: Array) -> Array:
    """Windows [T, N] with a straight line over the gap in the middle, and over every other hole."""
    line = window.copy()
    line[HIDDEN] = np.nan
    weeks = np.arange(len(line))
    for row in line.T:
        holes = np.isnan(row)
        row[holes] = np.interp(weeks[holes], weeks[~holes], row[~holes])
    return line


def features(window: Array) -> Array:
    """What the network sees of windows [T, N]: [T, N, 2], the bridged series around 0, and 1 where it was measured."""
    line = bridge(window)
    measured = ~np.isnan(window)
    measured[HIDDEN] = False
    return np.stack([(line - line.mean(axis=0)) / SCALE, measured], axis=-1, dtype=np.float32)


def fill(model: gc.Model, window: Array) -> Array:
    """The ppm [GAP, N] in the gaps of windows [T, N]: the straight line and what the network adds to it."""
    y, _ = model(features(window))
    return bridge(window)[HIDDEN] + SCALE * y[HIDDEN]


def as_last_year(ppm: Array, window: Array) -> Array:
    """A strong rival: the gaps [GAP, N] bent from the straight line as the same weeks a year before were."""
    before = windows(ppm)[:, -window.shape[1] - YEAR : -YEAR]
    return (bridge(window) + before - bridge(before))[HIDDEN]


def rmse(filled: Array, truth: Array) -> float:
    return float(np.sqrt(np.mean(np.square(filled - truth))))


def main() -> None:
    weeks, ppm = load_co2()
    held_out = windows(ppm[weeks >= FIRST_HELD_OUT])
    truth = held_out[HIDDEN]
    model = gc.load(HERE / "co2.gated")

    print(f"RMSE of {truth.shape[1]} gaps of {GAP} weeks from {FIRST_HELD_OUT} on, in ppm")
    print(f"    network: {rmse(fill(model, held_out), truth):.2f}")
    print(f"    straight line: {rmse(bridge(held_out)[HIDDEN], truth):.2f}")
    print(f"    as the year before: {rmse(as_last_year(ppm, held_out), truth):.2f}")

    start = int(np.searchsorted(weeks, HOLE)) - CONTEXT
    window = ppm[start : start + WINDOW, None]
    filled, straight = fill(model, window)[:, 0], bridge(window)[HIDDEN, 0]
    print("the hole of 1964   network  straight line")
    for i in range(0, GAP, 4):
        print(f"{weeks[start + CONTEXT + i]}           {filled[i]:.1f}          {straight[i]:.1f}")

    time = microseconds(partial(model, features(window)), calls=100)
    print(f"{time:.1f} µs per window of {WINDOW} weeks, {time / WINDOW:.2f} µs per step in both directions")


if __name__ == "__main__":
    main()
