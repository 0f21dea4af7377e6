"""The inference list of Baidu's DeepBench at batch 1: recurrent layers of a server and of a device.

It times the recurrent part without the product of x, so here x has one feature. GPUs' times beside ours are those of
2017 in DeepBench's results workbooks (results/inference/server), likewise of the recurrent part alone, in float32.
Sequences of more multiply-adds than ``MOST_MACS`` are cut: every step costs the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from bench.case import Case
from bench.contest import Options, Task, Watch, compare
from bench.shapes import shapes
from bench.table import Result, Time, Timing

GPUS = ("Titan Xp, 2017", "GTX 1080 Ti, 2017")

#: Milliseconds of the whole sequence on each, by cell and hidden size.
PUBLISHED_MS = {
    ("lstm", 256): (1.994, 1.597),
    ("lstm", 512): (1.258, 0.890),
    ("lstm", 1024): (1.872, 1.889),
    ("lstm", 1536): (6.198, 6.853),
    ("lstm", 2048): (5.272, 5.778),
    ("gru", 512): (0.053, 0.110),
    ("gru", 1024): (59.26, 64.3),
    ("gru", 1536): (31.73, 34.6),
    ("gru", 2048): (51.59, 57.2),
    ("gru", 2560): (74.62, 89.1),
    ("gru", 2816): (177.8, 211.0),
}

MOST_MACS = 500_000_000


def tasks(options: Options) -> Iterator[Task]:
    for case in shapes(options.quick)["deepbench"]:
        yield Task("deepbench", name(case), partial(compare_cut, case, options))


def compare_cut(case: Case, options: Options, watch: Watch) -> list[Result]:
    """As long as it is affordable, beside the GPUs' time of a step of the whole."""
    (result,) = compare("deepbench", replace(case, seq_len=affordable(case)), options, watch)
    return [replace(result, shape=name(case), times=(*result.times, *published(case)))]


def affordable(case: Case) -> int:
    return min(case.seq_len, max(25, MOST_MACS // case.recurrent_macs))


def name(case: Case) -> str:
    cut = affordable(case)
    return f"{case.cell.upper()} H={case.hidden_size} T={case.seq_len}" + f", {cut} steps of it" * (cut < case.seq_len)


def published(case: Case) -> list[Time]:
    times = PUBLISHED_MS.get((case.cell, case.hidden_size), ())
    return [
        Time(gpu, Timing.exactly(1e3 * ms / case.seq_len), "published") for gpu, ms in zip(GPUS, times, strict=False)
    ]
