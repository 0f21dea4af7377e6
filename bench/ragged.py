"""Batches of sequences of different lengths, beside the peers and the live share of the padded batch's time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from bench import engine
from bench.case import Case
from bench.contest import Options, Task, Watch, contest, everyone
from bench.shapes import shapes
from bench.table import Result

DENSE = "dense share"


def tasks(options: Options) -> Iterator[Task]:
    for case in shapes(options.quick)["ragged"]:
        yield Task("ragged", str(case), partial(compare_ragged, case, options))


def compare_ragged(padded: Case, options: Options, watch: Watch) -> list[Result]:
    """Lengths uniform in 1..T."""
    lengths = np.random.default_rng(0).integers(1, padded.seq_len + 1, padded.batch)
    case = replace(padded, lengths=tuple(map(int, lengths)))
    entrants = [*everyone(case, options), *engine.beside(DENSE, padded, options.threads)]
    result = contest("ragged", case, entrants, options, watch)
    share = float(lengths.mean()) / padded.seq_len
    times = (replace(time, timing=time.timing.scaled(share)) if time.engine == DENSE else time for time in result.times)
    return [replace(result, times=tuple(times))]
