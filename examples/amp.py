"""A guitar amplifier as plug-ins have it: an LSTM in a file of the Neural Amp Modeler and one of RTNeural.

    python examples/amp.py

amp.nam and amp.json are one network, trained by amp_train.py on the amplifier that `amplify` computes. A .nam file
holds the state that silence leaves, so its first sample is right; with RTNeural's JSON a host plays silence first.
Whole, in blocks and sample by sample, either file gives the same samples.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from timing import microseconds
from tones import Array, tones

import gated_c as gc

HERE = Path(__file__).parent
RATE = 48000
BUDGET = 1e6 / RATE
SILENCE = RATE
BLOCK = 64
DRIVE, BIAS, SAG = 8.0, 0.25, 0.5


def one_pole(cutoff: float) -> float:
    """The coefficient of a low-pass filter, y += coefficient * (x - y)."""
    return float(1 - np.exp(-2 * np.pi * cutoff / RATE))


def amplify(x: Array) -> Array:
    """The amplifier itself, x [N, T] to y [N, T]: a high-pass, a stage that saturates to one side first and sags under
    loud notes, a low-pass."""
    rumble = level = y = np.zeros(len(x))
    out = np.empty_like(x)
    start = np.tanh(BIAS)
    for t, x_t in enumerate(x.T.astype(float)):
        rumble = rumble + one_pole(150) * (x_t - rumble)
        high = x_t - rumble
        level = level + one_pole(40) * (np.abs(high) - level)
        driven = np.tanh(DRIVE * high / (1 + 4 * SAG * level) + BIAS) - start
        y = y + one_pole(5000) * (driven - y)
        out[:, t] = y
    return out


def held_out() -> tuple[Array, Array]:
    """Two seconds [T] that the training has not heard, and what the amplifier makes of them."""
    x = tones(np.random.default_rng(2), 1, 2 * RATE, RATE)
    return x[0], amplify(x)[0]


def whole(model: gc.Model, x: Array) -> Array:
    """x [T] to y [T] in one call."""
    return model(x[:, None])[0][:, 0]


def blocks(stream: gc.Stream, x: Array) -> Array:
    """The same from a stream, ``BLOCK`` samples a call, time first."""
    return np.concatenate([stream.run(x[t : t + BLOCK, None, None])[:, 0, 0] for t in range(0, len(x), BLOCK)])


def samples(stream: gc.Stream, x: Array) -> Array:
    """The same, one sample a call."""
    y = np.empty((len(x), 1, 1), np.float32)
    for x_t, y_t in zip(x.reshape(-1, 1, 1), y, strict=True):
        stream.step(x_t, y_t)
    return y[:, 0, 0]


def error_to_signal(y: Array, truth: Array) -> float:
    """The measure of amplifier modellers: the error's share of the signal's power."""
    return float(np.sum(np.square(y - truth)) / np.sum(np.square(truth)))


def verdict(y: Array, expected: Array) -> str:
    return "the same samples" if y.tobytes() == expected.tobytes() else "OTHER SAMPLES"


def main() -> None:
    x, truth = held_out()
    nam, rtneural = gc.load(HERE / "amp.nam"), gc.load(HERE / "amp.json")
    y = whole(nam, x)
    print(f"error to signal: {error_to_signal(y, truth):.2%} of {len(x)} held-out samples")
    print(f"    as a mere gain: {error_to_signal(x * (x @ truth) / (x @ x), truth):.2%}")

    print("amp.nam, in blocks: ", verdict(blocks(nam.stream(), x), y))
    print("amp.nam, by sample: ", verdict(samples(nam.stream(), x), y))
    after_silence = rtneural.stream()
    after_silence.run(np.zeros((1, SILENCE, 1), np.float32))
    print("amp.json, by sample:", verdict(samples(after_silence, x), y))

    stream = nam.stream()
    step = microseconds(partial(stream.step, x[:1, None]), calls=1000)
    block = microseconds(partial(stream.run, x[:BLOCK, None, None]), calls=100) / BLOCK
    print(f"{step:.2f} µs per sample, {block:.2f} in blocks of {BLOCK}, where {RATE} a second leave {BUDGET:.1f}")


if __name__ == "__main__":
    main()
