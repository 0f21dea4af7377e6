"""Batches of sequences of different lengths, beside the peers and the live share of the padded batch's time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from bench import engine
from bench.case import Case
from bench.contest import Options, Task, Watch, compare, contest
from bench.shapes import shapes
from bench.table import Result


def tasks(options: Options) -> Iterator[Task]:
    for case in shapes(options.quick)["ragged"]:
        yield Task("ragged", str(case), partial(compare_ragged, case, options))


def compare_ragged(padded: Case, options: Options, watch: Watch) -> list[Result]:
    """Lengths uniform in 1..T."""
    lengths = np.random.default_rng(0).integers(1, padded.seq_len + 1, padded.batch)
    case = replace(padded, lengths=tuple(map(int, lengths)))
    (result,) = compare("ragged", case, options, watch)
    dense = contest("ragged", padded, engine.entrants(padded, ("float32",), options.threads), options, watch)
    share = float(lengths.mean()) / padded.seq_len
    beside = [
        replace(time, engine="dense share", role="reference", timing=time.timing.scaled(share))
        for time in dense.times
        if time.role == "engine"
    ]
    return [replace(result, times=(*result.times, *beside))]
