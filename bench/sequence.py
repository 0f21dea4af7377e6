"""How long does a whole sequence take at batch 1, per time step?"""

from __future__ import annotations

from collections.abc import Iterator

from bench.case import Case
from bench.compare import compare
from bench.goals import Result
from bench.measure import Effort

#: (input_size, hidden_size)
UP_TO_40 = [(1, 8), (1, 16), (16, 16), (1, 20), (1, 32), (32, 32), (1, 40), (40, 40)]

GOALS_UP_TO_40 = {"torch": 5, "onnxruntime": 2}
#: Times ONNX Runtime, by hidden_size, which is input_size too.
GOALS_FROM_64 = {
    "lstm": {64: 1.4, 128: 1.15, 256: 1.15, 512: 1.12, 1024: 1.25},
    "gru": {64: 1.9, 128: 1.3, 256: 1.25, 512: 1.15, 1024: 1.2},
}


def results(quick: bool, effort: Effort) -> Iterator[Result]:
    for cell in ("lstm", "gru"):
        for seq_len in (128,) if quick else (128, 1000):
            for sizes in UP_TO_40[1:2] if quick else UP_TO_40:
                yield compare("sequence, H 8..40", Case(cell, *sizes, seq_len=seq_len), GOALS_UP_TO_40, effort)
        for size in (64, 256) if quick else GOALS_FROM_64[cell]:
            goals = {"onnxruntime": GOALS_FROM_64[cell][size], "roofline": 0.95}
            yield compare("sequence, H 64..1024", Case(cell, size, size, seq_len=128), goals, effort)
