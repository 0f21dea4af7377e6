"""The engine of this repository, run like its peers."""

from __future__ import annotations

from typing import Any

import numpy as np

import gated_c
from bench.case import Case
from bench.measure import Runner
from gated_c.spec import Array


def runner(case: Case) -> Runner:
    return Stream(case) if case.seq_len == 1 else Sequence(case)


class Stream:
    """``Stream.step`` into the caller's buffer."""

    def __init__(self, case: Case) -> None:
        self.stream = gated_c.Model([case.spec()]).stream(case.batch)
        self.y = np.zeros((case.batch, case.hidden_size), np.float32)

    def write(self, x: Array) -> None:
        self.x = x[0]

    def run(self, times: int) -> None:
        step, x, y = self.stream.step, self.x, self.y
        for _ in range(times):
            step(x, y)

    def read(self) -> Array:
        return self.y[None]


class Sequence:
    """A call of the model on [T, N, C], into the caller's buffer."""

    def __init__(self, case: Case) -> None:
        self.model = gated_c.Model([case.spec()])
        self.lengths = np.array(case.lengths) if case.lengths else None
        self.state: Any = None
        self.y = np.zeros((case.seq_len, case.batch, case.hidden_size), np.float32)

    def write(self, x: Array) -> None:
        self.x = x

    def run(self, times: int) -> None:
        model, x, y, state, lengths = self.model, self.x, self.y, self.state, self.lengths
        for _ in range(times):
            _, state = model(x, state, lengths=lengths, out=y)
        self.state = state

    def read(self) -> Array:
        return self.y
