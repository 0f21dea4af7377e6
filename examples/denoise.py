"""Notes out of noise: an LSTM reads windows of 8 ms, 2 ms apart, and gives 2 ms of the clean signal for each.

    python examples/denoise.py                        # how much it helps
    python examples/denoise.py noisy.wav clean.wav    # mono, 16 bits, 8000 Hz: python examples/tones.py writes one

The notes are synthetic (tones.py), and others than in the training, which is denoise_train.py. c/denoise.c does the
same to a stream, block by block, and writes the same bytes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view
from timing import microseconds
from tones import RATE, Array, read_wav, tones, with_noise, write_wav

import gated_c as gc

HERE = Path(__file__).parent
WINDOW, HOP = 64, 16
LATE = HOP
SECONDS = 2
SNRS = (0, 5, 10)


def windows(noisy: Array) -> Array:
    """What the network reads of noisy [N, T]: [steps, N, WINDOW], each to give the HOP samples that lie HOP before its
    end; beyond the ends is silence."""
    steps = -(-(noisy.shape[1] + LATE) // HOP)
    padded = np.zeros((len(noisy), WINDOW - HOP + steps * HOP), np.float32)
    padded[:, WINDOW - HOP :][:, : noisy.shape[1]] = noisy
    return sliding_window_view(padded, WINDOW, axis=1)[:, ::HOP].swapaxes(0, 1)


def denoise(model: gc.Model, noisy: Array) -> Array:
    """The clean signal [N, T] of noisy [N, T]."""
    y, _ = model(windows(noisy))
    return y.swapaxes(0, 1).reshape(len(noisy), -1)[:, LATE:][:, : noisy.shape[1]]


def fixed_filter(clean: Array, noisy: Array) -> npt.NDArray[np.float64]:
    """The rival from the textbooks: Wiener's filter [WINDOW, HOP], from the same windows to the same samples, by least
    squares over all of clean and noisy [N, T]."""
    x = windows(noisy).reshape(-1, WINDOW).astype(float)
    y = windows(clean)[..., -LATE - HOP : -LATE].reshape(-1, HOP)
    return np.linalg.solve(x.T @ x, x.T @ y)


def filtered(coefficients: npt.NDArray[np.float64], noisy: Array) -> npt.NDArray[np.float64]:
    """Noisy [N, T] through it."""
    y = windows(noisy) @ coefficients
    return y.swapaxes(0, 1).reshape(len(noisy), -1)[:, LATE:][:, : noisy.shape[1]]


def snr(estimate: npt.NDArray[np.floating], clean: Array) -> float:
    """Decibels of the clean signal over what the estimate makes wrong."""
    return float(10 * np.log10(np.mean(np.square(clean)) / np.mean(np.square(estimate - clean))))


def held_out() -> Iterator[tuple[Array, Array, Array, Array]]:
    """For every level of noise: 80 seconds that the training has not heard, clean and noisy [N, T], and others to fit
    the rival to."""
    rng = np.random.default_rng(3)
    known, clean = (tones(rng, 40, SECONDS * RATE, RATE) for _ in range(2))
    for level in SNRS:
        yield clean, with_noise(rng, clean, level), known, with_noise(rng, known, level)


def report(model: gc.Model) -> None:
    print("dB of 80 held-out seconds: noisy, denoised, through a filter that was fitted to this level of noise")
    for clean, noisy, known, noisy_known in held_out():
        rival = filtered(fixed_filter(known, noisy_known), noisy)
        print(f"  {snr(noisy, clean):4.1f}  {snr(denoise(model, noisy), clean):4.1f}  {snr(rival, clean):4.1f}")

    stream, x = model.stream(), windows(clean[:1])
    step = microseconds(partial(stream.step, x[0]), calls=1000)
    print(f"{step:.2f} µs per step, which is {1e6 * HOP / RATE:.0f} µs of sound")


def main() -> None:
    model = gc.load(HERE / "denoise.gated")
    if len(sys.argv) == 3:
        noisy = read_wav(sys.argv[1], RATE)
        write_wav(sys.argv[2], denoise(model, noisy[None])[0], RATE)
    elif len(sys.argv) == 1:
        report(model)
    else:
        raise SystemExit("usage: python examples/denoise.py [noisy.wav clean.wav]")


if __name__ == "__main__":
    main()
