"""What every engine must answer before it is timed, and how far off its precision may take it.

float32: a gate is a sum of K = C + H products, of weights below H^-0.5 and numbers about 1, so that its partial sums
stay about 1. K roundings of 2^-24 at random, K up to 4096, put it off by 64 * 2^-24 / 2 = 2e-6 in the mean, and one in
many by 1e-5. Narrower formats: eight times the largest deviation that rounding the weights and x alone causes in
float64, since an engine may round the sums, the gates, c and h as well, each about as much; and for int8 a step of
1/127, the scale of h where it is fixed because h is between -1 and 1.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import numpy as np

from bench.case import Case
from gated_c.spec import Array
from tests.reference import forward

FLOAT32_TOLERANCE = 1e-5

#: Calls that are checked: the second shows that the state is carried on.
CALLS = 2


class Answers(Protocol):
    """x of the first calls, and y of each in float64."""

    inputs: list[Array]
    expected: list[Array]

    def tolerance(self, dtype: str) -> float:
        """How far y may be off."""


class Oracle:
    """The answers to the first calls of a case."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.inputs = [case.inputs(seed) for seed in range(CALLS)]
        self.expected = self.answers("float32")
        self.tolerances = {"float32": FLOAT32_TOLERANCE}

    def answers(self, dtype: str) -> list[Array]:
        """y of each call, [T, N, D*H], from weights and x rounded to a format."""
        case, h, c, answers = self.case, None, None, []
        weights = {name: rounded(weight, dtype) for name, weight in case.weights().items()}
        spec = replace(case.spec(), weights=weights)
        for x in self.inputs:
            y, h, c = forward(spec, rounded(x, dtype), h, c, case.live(), case.reset())  # type: ignore[no-untyped-call]
            answers.append(y)
        return answers

    def tolerance(self, dtype: str) -> float:
        if dtype not in self.tolerances:
            step = 1 / 127 if dtype == "int8" else 0
            self.tolerances[dtype] = 8 * deviation(self.answers(dtype), self.expected) + step
        return self.tolerances[dtype]


def deviation(answers: list[Array], expected: list[Array]) -> float:
    """The largest, NaN if there is one."""
    return max(float(np.max(np.abs(y - wanted))) for y, wanted in zip(answers, expected, strict=True))


def rounded(array: Array, dtype: str) -> Array:
    """The nearest numbers of a format. For int8 with one scale for the whole array and 7 bits, the coarsest in use."""
    if dtype == "float32":
        return array
    if dtype == "bfloat16":
        bits = array.view(np.uint32)
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)
    step = np.abs(array).max() / 63
    return np.rint(array / step) * step if step else array
