"""How long does one time step of one live sequence take, called from Python?"""

from __future__ import annotations

from collections.abc import Iterator

from bench.case import Case
from bench.compare import compare
from bench.goals import Result
from bench.measure import Effort

#: (input_size, hidden_size)
UP_TO_16 = [(1, 8), (8, 8), (1, 16), (16, 16)]
UP_TO_40 = [(1, 20), (1, 24), (1, 32), (32, 32), (1, 40), (40, 40)]

GOALS_UP_TO_16 = {
    "lstm": {"torch": 350, "onnxruntime": 33, "litert": 20},
    "gru": {"torch": 150, "onnxruntime": 30, "litert": 14},
}
GOALS_UP_TO_40 = {
    "lstm": {"torch": 120, "onnxruntime": 12, "litert": 9},
    "gru": {"torch": 60, "onnxruntime": 12, "litert": 7},
}
#: By hidden_size, which is input_size too.
GOALS_FROM_64 = {
    64: {"best": 3.5, "onnxruntime": 5, "roofline": 0.9},
    128: {"best": 1.8, "onnxruntime": 2.3, "roofline": 0.9},
    256: {"best": 1.2, "onnxruntime": 1.5, "roofline": 0.9},
    512: {"best": 1.05, "onnxruntime": 1.2, "roofline": 0.9},
    1024: {"best": 1.1, "onnxruntime": 1.5, "roofline": 0.9},
}


def results(quick: bool, effort: Effort) -> Iterator[Result]:
    for cell in ("lstm", "gru"):
        for sizes in UP_TO_16[2:3] if quick else UP_TO_16:
            yield compare("one step, H 8..16", Case(cell, *sizes), GOALS_UP_TO_16[cell], effort)
        for sizes in UP_TO_40[4:5] if quick else UP_TO_40:
            yield compare("one step, H 20..40", Case(cell, *sizes), GOALS_UP_TO_40[cell], effort)
        for size in (64, 256) if quick else GOALS_FROM_64:
            yield compare("one step, H 64..1024", Case(cell, size, size), GOALS_FROM_64[size], effort)
