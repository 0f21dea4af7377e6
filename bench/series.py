"""Which numbers does a plot show? Results in, lists of numbers with their labels out; ``bench.plots`` draws them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import TypeAlias

from bench.saved import sets
from bench.table import ENGINE, Ratio, Result, Time, counted

DTYPES = ("float32", "bfloat16", "int8")
CELLS = ("lstm", "gru")

#: Whose shapes their case says all about.
PLAIN_SETS = ("step", "sequence", "batched")

#: How the names of figures of ratios begin.
RATIOS = "ratios"

#: With fewer sizes there is no curve.
LEAST_SIZES = 2

#: A precision of the engine, such as "float32" or "int8 inputs float32", and how many threads it may use.
Kind: TypeAlias = tuple[str, int]

#: Role and label: each way of running this engine is a column, all ways of a peer are one.
Column: TypeAlias = tuple[str, str]


@dataclass(frozen=True)
class Row:
    """One shape: how many times faster the engine is than each peer, and which of them is the fastest."""

    shape: str
    peers: Mapping[str, float]
    best: str


@dataclass(frozen=True)
class Ratios:
    """The shapes of a set, in one precision, on up to so many threads."""

    set: str
    precision: str
    threads: int
    rows: Sequence[Row]


@dataclass(frozen=True)
class Curve:
    """Values over hidden sizes. ``role`` is that of ``bench.table.Time``."""

    label: str
    role: str
    sizes: Sequence[int]
    values: Sequence[float]


@dataclass(frozen=True)
class Panel:
    title: str
    curves: Sequence[Curve]


@dataclass(frozen=True)
class Bars:
    """One shape, and a time by name."""

    shape: str
    unit: str
    times: Mapping[str, float]


@dataclass(frozen=True)
class Beside:
    """Shapes of a set beside what others have published."""

    set: str
    bars: Sequence[Bars]

    @property
    def names(self) -> list[str]:
        return list(dict.fromkeys(name for bars in self.bars for name in bars.times))


def figure_file(*words: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", " ".join(words).lower()).strip("-") + ".svg"


def ratios_file(name: str, precision: str, threads: int) -> str:
    return figure_file(RATIOS, name, precision, counted(threads, "thread"))


def kind_of(ratio: Ratio) -> Kind:
    return f"{ratio.dtype} {ratio.variant}".rstrip(), ratio.threads


def by_kind(result: Result) -> dict[Kind, dict[str, Ratio]]:
    """The ratios of each precision and number of threads, by what they compare with."""
    found: dict[Kind, dict[str, Ratio]] = {}
    for ratio in result.ratios:
        found.setdefault(kind_of(ratio), {})[ratio.versus] = ratio
    return found


def is_new(ratio: Ratio) -> bool:
    """Whether the engine or the fastest peer is at its best on all of the threads: otherwise fewer gave the same."""
    return ratio.threads in (ratio.engine_threads, ratio.versus_threads if ratio.versus == "best" else 0)


def kinds(results: Iterable[Result]) -> list[Kind]:
    """The precisions and numbers of threads that say something of their own: one precision after another."""
    found = {kind_of(ratio) for result in results for ratio in result.ratios if is_new(ratio)}
    return sorted(found, key=lambda kind: (DTYPES.index(kind[0].split()[0]), kind[1], kind[0]))


def engines(results: Iterable[Result], role: str) -> list[str]:
    return sorted({time.engine for result in results for time in result.times if time.role == role})


def ratios(results: Iterable[Result]) -> Iterator[Ratios]:
    """Of every set, dtype and number of threads in which a peer was measured."""
    for name, of_set in sets(results).items():
        for kind in kinds(of_set):
            if kind[0] in DTYPES and (rows := [row for result in of_set if (row := row_of(result, kind))]):
                yield Ratios(name, *kind, rows)


def row_of(result: Result, kind: Kind) -> Row | None:
    found = by_kind(result).get(kind, {})
    peers = {name: found[name].ratio for name in engines([result], "peer") if name in found}
    return Row(result.shape, peers, min(peers, key=lambda name: peers[name])) if peers else None


def is_square(result: Result) -> bool:
    """One layer, in one direction, whose input is as wide as its state, in a set about nothing else."""
    case = result.case
    return (
        result.set in PLAIN_SETS
        and case is not None
        and case["input_size"] == case["hidden_size"]
        and case["num_layers"] == 1
        and not case["bidirectional"]
    )


def sweep(results: Iterable[Result], cell: str, batch: int, steps: bool) -> dict[int, Result]:
    """The square cases of a cell by hidden size, of single steps or of sequences."""
    found = {}
    for result in filter(is_square, results):
        case = result.case or {}
        if (case["cell"], case["batch"], case["seq_len"] == 1) == (cell, batch, steps):
            found[case["hidden_size"]] = result
    return dict(sorted(found.items()))


def curve(label: str, role: str, over: Mapping[int, Result], value: Callable[[Result], float | None]) -> Curve:
    """The sizes that have a value."""
    points = [(size, found) for size, result in over.items() if (found := value(result)) is not None]
    return Curve(label, role, [size for size, _ in points], [found for _, found in points])


def column_of(time: Time) -> Column:
    return time.role, time.name if time.role == "engine" else time.engine


def columns_of(results: Iterable[Result]) -> list[Column]:
    """The engine, the bound, the peers by name."""
    order = ("engine", "bound", "peer")
    found = {column_of(time) for result in results for time in result.times if time.role in order}
    return sorted(found, key=lambda column: (order.index(column[0]), column[1]))


def fastest(result: Result, *, column: Column, dtype: str, threads: int) -> float | None:
    """The best time of a column in one precision on exactly so many threads."""
    times = [time for time in result.times if (column_of(time), time.dtype, time.threads) == (column, dtype, threads)]
    return min((time.timing.median for time in times), default=None)


def latencies(results: Sequence[Result], dtype: str) -> list[Panel]:
    """Microseconds of a step over H on one thread, alone and in a sequence: the engine, the bound and every peer."""
    panels = []
    for steps, cell in product((True, False), CELLS):
        over = sweep(results, cell, 1, steps)
        curves = [
            curve(label, role, over, partial(fastest, column=(role, label), dtype=dtype, threads=1))
            for role, label in columns_of(over.values())
        ]
        curves = [curve for curve in curves if len(curve.sizes) >= LEAST_SIZES]
        if any(curve.role == "engine" for curve in curves):
            panels.append(Panel(f"{cell.upper()}, {'one step' if steps else 'in a sequence'}", curves))
    return panels


def speedups(results: Sequence[Result], threads: int = 2) -> list[Panel]:
    """How many times faster the engine is on so many threads than on one, over H: a panel per precision and cell."""
    panels = []
    for dtype, cell in product(DTYPES, CELLS):
        curves = [
            curve(label, "engine", sweep(results, cell, batch, steps), partial(speedup, dtype=dtype, threads=threads))
            for label, batch, steps in works(results)
        ]
        curves = [curve for curve in curves if len(curve.sizes) >= LEAST_SIZES]
        if curves:
            panels.append(Panel(f"{cell.upper()}, {dtype}", curves))
    return panels


def works(results: Iterable[Result]) -> list[tuple[str, int, bool]]:
    """Label, batch and whether it is a single step, for each kind of work on square cases."""
    cases = [result.case or {} for result in results if is_square(result)]
    found = {(case["batch"], case["seq_len"] == 1) for case in cases}
    names = {True: "one step", False: "sequence"}
    return [
        (names[steps] + (f" of {batch} rows" if batch > 1 else ""), batch, steps)
        for batch, steps in sorted(found, key=lambda work: (not work[1], work[0]))
    ]


def speedup(result: Result, *, dtype: str, threads: int) -> float | None:
    of = partial(fastest, result, column=("engine", ENGINE), dtype=dtype)
    alone, together = of(threads=1), of(threads=threads)
    return alone / together if alone and together else None


def published(results: Iterable[Result]) -> Iterator[Beside]:
    """The shapes of each set with published times: these, and the engine's at its best number of threads."""
    for name, of_set in sets(results).items():
        bars = [Bars(result.shape, result.unit, times) for result in of_set if (times := published_times(result))]
        if bars:
            yield Beside(name, bars)


def published_times(result: Result) -> dict[str, float]:
    others = {time.name: time.timing.median for time in result.times if time.role == "published"}
    ours: dict[str, list[float]] = {}
    for time in result.times:
        if time.role == "engine":
            ours.setdefault(f"{time.name}, {time.dtype}", []).append(time.timing.median)
    return {name: min(times) for name, times in ours.items()} | others if others else {}
