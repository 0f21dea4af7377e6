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
        self.reset = case.reset()
        self.state: Any = None
        self.y = np.zeros((case.seq_len, case.batch, case.hidden_size), np.float32)

    def write(self, x: Array) -> None:
        self.x = x

    def run(self, times: int) -> None:
        model, x, y, state = self.model, self.x, self.y, self.state
        lengths, reset = self.lengths, self.reset
        for _ in range(times):
            _, state = model(x, state, lengths=lengths, reset=reset, out=y)
        self.state = state

    def read(self) -> Array:
        return self.y


class Split(Sequence):
    """A call for each piece, as where resets are not known."""

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        self.cuts = case.cuts()
        shape = (1, case.batch, case.hidden_size)
        self.state = tuple(np.zeros(shape, np.float32) for _ in case.states)

    def run(self, times: int) -> None:
        model, x, y, state = self.model, self.x, self.y, self.state
        for _ in range(times):
            for first, last, rows in self.cuts:
                for part in state:
                    part[:, rows] = 0
                _, state = model(x[first:last], state if len(state) > 1 else state[0], out=y[first:last])
                state = state if isinstance(state, tuple) else (state,)
        self.state = state
