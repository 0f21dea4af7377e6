"""Handwritten digits, row by row: a GRU reads an image of 8x8 pixels as 8 steps of 8 and names the digit.

    pip install -e ".[examples]"
    python examples/digits.py

Many-to-one: the output after the last row goes through a dense layer. A stream gives what that makes of the rows so
far. The images are scikit-learn's; the last 360 were held out from the training, which is digits_train.py.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from timing import microseconds

import gated_c as gc

try:
    from sklearn.datasets import load_digits
except ImportError as error:
    raise SystemExit('the images come with scikit-learn: pip install -e ".[examples]"') from error

HERE = Path(__file__).parent
HELD_OUT = 360

Array = npt.NDArray[np.float32]


def load_images() -> tuple[Array, npt.NDArray[np.int64]]:
    """Images [1797, 8, 8] with pixels in 0..1, and their labels [1797]."""
    data = load_digits()
    return (data.images / 16).astype(np.float32), data.target


def held_out() -> tuple[Array, npt.NDArray[np.int64]]:
    """Those that the training has not seen."""
    images, labels = load_images()
    return images[-HELD_OUT:], labels[-HELD_OUT:]


def guess(model: gc.Model, images: Array) -> npt.NDArray[np.int64]:
    """The digits [N] on images [N, 8, 8]."""
    scores, _ = model(images)
    return scores.argmax(axis=1)


def show_row_by_row(model: gc.Model, image: Array) -> None:
    """Stream one image and print the best guess after each row."""
    stream = model.stream()
    for row in image:
        scores = stream.step(row[None])[0]
        guess = scores.argmax()
        share = 1 / np.exp(scores - scores[guess]).sum()
        pixels = "".join(" .:-=+*%@"[round(8 * pixel)] * 2 for pixel in row)
        print(f"  {pixels}  {guess}  {share:4.0%}")


def main() -> None:
    x, truth = held_out()
    model = gc.load(HERE / "digits.gated")

    print("one image, the best guess after each row:")
    show_row_by_row(model, x[0])

    guesses = guess(model, x)
    print("guessed", *guesses[:20])
    print("is     ", *truth[:20])
    print(f"right: {np.mean(guesses == truth):.1%} of {HELD_OUT} held-out images")

    step = microseconds(partial(model.stream().step, x[0, :1]), calls=1000)
    batch = microseconds(partial(model, x), calls=5)
    print(f"{step:.2f} µs per step of a stream")
    print(f"{batch / HELD_OUT:.2f} µs per image in a batch of {HELD_OUT}")


if __name__ == "__main__":
    main()
