"""What narrow weights cost: the five networks with bfloat16 and int8 weights on the data held out from their training.

    pip install -e ".[examples]"
    python examples/narrow.py

Prints a table in Markdown. "y" is how far the output is from that of float32: rms of the differences / rms of y.
"""

from __future__ import annotations

from collections.abc import Iterator

import amp
import co2
import denoise
import digits
import numpy as np
import numpy.typing as npt
import sunspots

import gated_c as gc

#: What a model becomes by `Model.to`.
NARROW = {
    "bfloat16": {"dtype": "bfloat16"},
    "int8": {"dtype": "int8"},
    "int8, float32 inputs": {"dtype": "int8", "inputs": "float32"},
}

Models = list[gc.Model]  # that of float32 first
Row = tuple[str, list[str]]  # a figure, and what it is with each


def errors(models: Models, x: npt.NDArray[np.float32]) -> Row:
    return "y", [f"{gc.compare(models[0], model, x).output.relative:.2%}" for model in models]


def of_digits(models: Models) -> Iterator[Row]:
    x, truth = digits.held_out()
    guesses = [digits.guess(model, x) for model in models]
    yield f"of {len(x)} images right", [f"{np.mean(guess == truth):.1%}" for guess in guesses]
    yield "other digits than in float32", [f"{np.sum(guess != guesses[0])}" for guess in guesses]
    yield errors(models, x)


def of_sunspots(models: Models) -> Iterator[Row]:
    years, counts = sunspots.load_sunspots()
    past, truth = counts[years < sunspots.FIRST_HELD_OUT], counts[years >= sunspots.FIRST_HELD_OUT]
    forecasters = [sunspots.Forecaster(model, past) for model in models]
    rmse = [sunspots.errors(sunspots.forecast_all(forecaster, truth), truth) for forecaster in forecasters]
    yield "RMSE one year ahead", [f"{one_year:.2f}" for one_year, _ in rmse]
    yield f"RMSE over {sunspots.CYCLE} years", [f"{cycle:.2f}" for _, cycle in rmse]
    yield errors(models, counts[:, None, None] / sunspots.SCALE)


def of_co2(models: Models) -> Iterator[Row]:
    weeks, ppm = co2.load_co2()
    windows = co2.windows(ppm[weeks >= co2.FIRST_HELD_OUT])
    yield "RMSE, ppm", [f"{co2.rmse(co2.fill(model, windows), windows[co2.HIDDEN]):.3f}" for model in models]
    yield errors(models, co2.features(windows))


def of_denoise(models: Models) -> Iterator[Row]:
    for level, (clean, noisy, *_) in zip(denoise.SNRS, denoise.held_out(), strict=True):
        results = [denoise.snr(denoise.denoise(model, noisy), clean) for model in models]
        yield f"{level} dB of signal to noise become", [f"{result:.2f}" for result in results]
    yield errors(models, denoise.windows(noisy))


def of_amp(models: Models) -> Iterator[Row]:
    x, truth = amp.held_out()
    yield "error to signal", [f"{amp.error_to_signal(amp.whole(model, x), truth):.2%}" for model in models]
    yield errors(models, x[:, None])


FIGURES = {
    "digits.gated": of_digits,
    "sunspots.gated": of_sunspots,
    "co2.gated": of_co2,
    "denoise.gated": of_denoise,
    "amp.nam": of_amp,
}


def main() -> None:
    print("|", " | ".join(["file", "", "float32", *NARROW]), "|")
    print("|---" * (3 + len(NARROW)) + "|")
    for file, figures in FIGURES.items():
        model = gc.load(digits.HERE / file)
        for figure, values in figures([model, *(model.to(**to) for to in NARROW.values())]):
            print("|", " | ".join([file, figure, *values]), "|")
            file = ""


if __name__ == "__main__":
    main()
