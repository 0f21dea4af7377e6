"""Resets within a batch, beside the same call without any and beside splitting it in Python.

As in reinforcement learning: environments side by side, each with a new episode now and then.
"""

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

#: Mean steps of an episode.
EPISODE = 100


def tasks(options: Options) -> Iterator[Task]:
    for case in shapes(options.quick)["resets"]:
        yield Task("resets", str(case), partial(compare_resets, case, options))


def compare_resets(plain: Case, options: Options, watch: Watch) -> list[Result]:
    flags = np.random.default_rng(0).random((plain.seq_len, plain.batch)) < 1 / EPISODE
    case = replace(plain, resets=tuple((int(t), int(n)) for t, n in np.argwhere(flags)))
    split = engine.entrant(partial(engine.Split, case, engine.FLOAT32, 1), engine.FLOAT32, 1, "reference", "split")
    without = engine.beside("no resets", plain, options.threads)
    return [contest("resets", case, [*everyone(case, options), split, *without], options, watch)]
