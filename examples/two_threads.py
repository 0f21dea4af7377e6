"""Score sequences on two threads that share one model, and print what c/two_threads.cpp prints.

    python -c "import numpy, sklearn.datasets as d; numpy.savetxt('images.txt', d.load_digits().data / 16, '%g')"
    python examples/two_threads.py examples/digits.gated < images.txt

A line of input is one sequence, the numbers of its first step, then of its second, and so on; a line of output is what
the network makes of it, after its last step. Here a sequence is one call, there it shares a pool with others.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import numpy.typing as npt

import gated_c as gc

Array = npt.NDArray[np.float32]


def read_sequences(lines: Iterable[str], features: int) -> list[Array]:
    """Each line as [T, C]."""
    return [np.array(line.split(), float).astype(np.float32).reshape(-1, features) for line in lines]


def score(model: gc.Model, sequence: Array) -> Array:
    """y [F] after the last step of sequence [T, C]."""
    y, _ = model(sequence)
    return y if model.gives == "vector" else y[-1]


def main() -> None:
    if len(sys.argv) != 2:
        raise SystemExit("usage: python examples/two_threads.py MODEL < sequences.txt")
    model = gc.load(sys.argv[1])
    with ThreadPoolExecutor(2) as threads:
        results = threads.map(partial(score, model), read_sequences(sys.stdin, model.input_size))
    for result in results:
        print(*(f"{number:.9g}" for number in result.tolist()))  # nine digits give every float back exactly


if __name__ == "__main__":
    main()
