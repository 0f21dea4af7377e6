"""How long does a batch of sequences of one length take, per time step of the whole batch?"""

from __future__ import annotations

from collections.abc import Iterator

from bench.case import Case
from bench.compare import compare
from bench.goals import Result
from bench.measure import Effort

#: By hidden_size, which is input_size too.
GOALS_UP_TO_8 = {
    64: {"best": 1.1},
    128: {"best": 1.1},
    256: {"best": 1.1, "roofline": 0.9},
    512: {"best": 1.1, "roofline": 0.9},
}
GOALS_FROM_16 = {
    64: {"best": 1.25, "roofline": 0.8},
    128: {"best": 1.15, "roofline": 0.88},
    256: {"best": 1.05, "roofline": 0.94},
    512: {"best": 1.05, "roofline": 0.94},
    1024: {"best": 1.05, "roofline": 0.94},
}


def results(quick: bool, effort: Effort) -> Iterator[Result]:
    for cell in ("lstm", "gru"):
        for size in (64, 256) if quick else GOALS_UP_TO_8:
            for batch in (4,) if quick else (2, 4, 8):
                case = Case(cell, size, size, batch, seq_len=64)
                yield compare("batch 2..8", case, GOALS_UP_TO_8[size], effort)
        for size in (64, 256) if quick else GOALS_FROM_16:
            for batch in (32,) if quick else (16, 64, 256):
                case = Case(cell, size, size, batch, seq_len=min(64, 16384 // size))
                yield compare("batch 16..256", case, GOALS_FROM_16[size], effort)
