"""Plucked notes, one at a time, with pauses: what denoise.py cleans and amp.py amplifies.

    python examples/tones.py noisy.wav

writes ten seconds of them in noise. All of it is made here, from a seed; only NumPy is needed.
"""

from __future__ import annotations

import sys
import wave

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]

RATE = 8000
LOWEST, HIGHEST = 82.0, 660.0
HARMONICS = 20


def note(rng: np.random.Generator, samples: int, rate: int) -> npt.NDArray[np.float64]:
    """A harmonic tone [samples] that dies away, its upper partials sooner, at most 1 loud."""
    pitch = np.exp(rng.uniform(np.log(LOWEST), np.log(HIGHEST)))
    partials = np.arange(1, min(HARMONICS, int(0.45 * rate / pitch)) + 1)
    levels = partials ** -rng.uniform(0.7, 2.0) * rng.uniform(0.2, 1.0, len(partials))
    decay = np.exp(rng.uniform(np.log(2.0), np.log(12.0))) * np.sqrt(partials)
    seconds = np.arange(samples)[:, None] / rate
    waves = np.sin(2 * np.pi * pitch * partials * seconds + rng.uniform(0, 2 * np.pi, len(partials)))
    attack = np.minimum(1, seconds[:, 0] / 0.004)
    release = np.minimum(1, (seconds[-1, 0] - seconds[:, 0]) / 0.004)
    return attack * release * (np.exp(-decay * seconds) * waves @ levels) / levels.sum()


def tones(rng: np.random.Generator, count: int, samples: int, rate: int) -> Array:
    """Melodies [count, samples] within -1..1, about a fifth of them pauses."""
    out = np.zeros((count, samples))
    for melody in out:
        at = -int(rng.integers(0, rate // 4))
        while at < samples:
            length = int(rng.uniform(0.1, 0.5) * rate)
            own = rng.uniform(0.3, 0.9) * note(rng, length, rate)
            start, end = max(at, 0), min(at + length, samples)
            if end > start:
                melody[start:end] += own[start - at : end - at]
            at += length + (int(rng.uniform(0, 0.3) * rate) if rng.random() < 0.5 else 0)
    return out.astype(np.float32)


def with_noise(rng: np.random.Generator, clean: Array, snr: npt.ArrayLike) -> Array:
    """Each of clean [N, T] with white noise, ``snr`` dB (one, or [N]) below the power of all of them."""
    power = np.mean(np.square(clean))
    sigma = np.sqrt(power * 10 ** (-np.asarray(snr, np.float32) / 10))
    return clean + (sigma * rng.standard_normal(clean.T.shape)).T.astype(np.float32)


def write_wav(path: str, samples: Array, rate: int) -> None:
    """Mono, 16 bits: x becomes 32768 x, rounded and clipped."""
    with wave.open(path, "wb") as file:
        file.setparams((1, 2, rate, len(samples), "NONE", ""))
        file.writeframes(np.clip(np.rint(samples * np.float32(32768)), -32768, 32767).astype("<i2").tobytes())


def read_wav(path: str, rate: int) -> Array:
    """Samples [T] of a mono WAV of 16 bits, in -1..1. Raises ``SystemExit`` for another."""
    with wave.open(path, "rb") as file:
        found = (file.getnchannels(), file.getsampwidth(), file.getframerate())
        if found != (1, 2, rate):
            raise SystemExit(f"{path}: expected (channels, bytes, rate) (1, 2, {rate}), got {found}")
        return np.frombuffer(file.readframes(file.getnframes()), "<i2") / np.float32(32768)


def main() -> None:
    if len(sys.argv) != 2:
        raise SystemExit("usage: python examples/tones.py noisy.wav")
    rng = np.random.default_rng(0)
    write_wav(sys.argv[1], with_noise(rng, tones(rng, 1, 10 * RATE, RATE), 5)[0], RATE)


if __name__ == "__main__":
    main()
