"""Sunspots, year by year: an LSTM forecasts the next year, or eleven by feeding its forecasts back to itself.

    pip install -e ".[examples]"
    python examples/sunspots.py

The yearly series from 1700 to 2008 is statsmodels'; the years from 1950 on were held out from the training, which is
sunspots_train.py.
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
    from statsmodels.datasets import sunspots
except ImportError as error:
    raise SystemExit('the series comes with statsmodels: pip install -e ".[examples]"') from error

HERE = Path(__file__).parent
FIRST_HELD_OUT = 1950
CYCLE = 11
SCALE = np.float32(100)

Array = npt.NDArray[np.float32]


def load_sunspots() -> tuple[npt.NDArray[np.int64], Array]:
    """Years [309] and their mean numbers of sunspots [309]."""
    data = sunspots.load_pandas().data
    return data["YEAR"].to_numpy(np.int64), data["SUNACTIVITY"].to_numpy(np.float32)


class Forecaster:
    """A stream of the trained network that has seen the years [T] so far, and its forecast of the next."""

    def __init__(self, model: gc.Model, past: Array) -> None:
        self.stream = model.stream()
        self.see(past)

    def see(self, counts: Array) -> None:
        """Take in the next years [T]."""
        self.next = self.stream.run(counts[:, None, None] / SCALE)[-1]

    def forecast(self, years: int) -> Array:
        """The years to come [years], each fed back as the next input. The stream ends where it was."""
        state, y = self.stream.state, self.next
        counts = np.empty(years, np.float32)
        for year in range(years):
            counts[year] = y[0, 0] * SCALE
            y = self.stream.step(y)
        self.stream.state = state
        return counts


def forecast_all(forecaster: Forecaster, counts: Array) -> Array:
    """Eleven years [T, CYCLE] from each of the next years [T] on, as of the year before."""
    forecasts = []
    for count in counts:
        forecasts.append(forecaster.forecast(CYCLE))
        forecaster.see(count[None])
    return np.array(forecasts)


def autoregression(counts: Array, held_out: int, order: int = 9) -> Array:
    """The rival from the textbooks: one-year forecasts of the last years, linear in the nine before, least squares."""
    past = np.column_stack([sliding_window_view(counts[:-1], order), np.ones(len(counts) - order)])
    coefficients, *_ = np.linalg.lstsq(past[:-held_out], counts[order:-held_out])
    return past[-held_out:] @ coefficients


def rmse(forecast: Array, truth: Array) -> float:
    return float(np.sqrt(np.mean(np.square(forecast - truth))))


def errors(forecasts: Array, truth: Array) -> tuple[float, float]:
    """RMSE of `forecast_all` one year ahead, and of eleven years as far as they are known."""
    return rmse(forecasts[:, 0], truth), rmse(forecasts[: 1 - CYCLE], sliding_window_view(truth, CYCLE))


def main() -> None:
    years, counts = load_sunspots()
    held_out = int(np.sum(years >= FIRST_HELD_OUT))
    truth = counts[-held_out:]

    forecaster = Forecaster(gc.load(HERE / "sunspots.gated"), counts[:-held_out])
    forecasts = forecast_all(forecaster, truth)
    one_year, cycle = errors(forecasts, truth)

    print("year  observed  forecast the year before")
    for year, observed, forecast in list(zip(years[-held_out:], truth, forecasts[:, 0], strict=True))[-CYCLE:]:
        print(f"{year}  {observed:8.1f}  {forecast:8.1f}")
    print(f"RMSE of {held_out} years from {FIRST_HELD_OUT} on, forecast one year ahead: {one_year:.1f}")
    print(f"    as the year before: {rmse(counts[-held_out - 1 : -1], truth):.1f}")
    print(f"    autoregression: {rmse(autoregression(counts, held_out), truth):.1f}")
    print(f"RMSE of the next {CYCLE} years, fed back: {cycle:.1f}")
    cycle_before = sliding_window_view(counts[-held_out - CYCLE : -CYCLE], CYCLE)
    print(f"    as {CYCLE} years before: {rmse(cycle_before, sliding_window_view(truth, CYCLE)):.1f}")
    print(f"{years[-1] + 1} to {years[-1] + CYCLE}:", *(f"{count:.0f}" for count in forecaster.forecast(CYCLE)))

    step = microseconds(partial(forecaster.stream.step, counts[:1, None]), calls=1000)
    print(f"{step:.2f} µs per step")


if __name__ == "__main__":
    main()
