"""Resets within a batch, beside the same call without any and beside splitting it in Python.

As in reinforcement learning: environments side by side, each with a new episode now and then.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from bench import engine, peers
from bench.case import Case
from bench.contest import Options, Task, Watch, contest
from bench.shapes import shapes
from bench.table import Result

#: Mean steps of an episode.
EPISODE = 100


def tasks(options: Options) -> Iterator[Task]:
    for case in shapes(options.quick)["resets"]:
        yield Task("resets", str(case), partial(compare_resets, case, options))


def compare_resets(plain: Case, options: Options, watch: Watch) -> list[Result]:
    flags = np.random.default_rng(0).random((plain.seq_len, plain.batch)) < 1 / EPISODE
    case = replace(plain, resets=tuple((int(t), int(n)) for t, n in np.argwhere(flags)))
    split = engine.entrant(partial(engine.Split, case, engine.FLOAT32, 1), engine.FLOAT32, 1, "reference", "split")
    ours = engine.entrants(case, options.dtypes, options.threads)
    result = contest(
        "resets", case, [*ours, split, *peers.entrants(case, options.dtypes, options.threads)], options, watch
    )
    without = contest("resets", plain, engine.entrants(plain, ("float32",), options.threads), options, watch)
    beside = [replace(time, engine="no resets", role="reference") for time in without.times if time.role == "engine"]
    return [replace(result, times=(*result.times, *beside))]
