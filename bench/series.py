"""Which numbers does a plot show? Results in, lists of numbers with their labels out; ``bench.plots`` draws them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import TypeAlias

from bench.saved import sets
from bench.table import ENGINE, Ratio, Result, Time

DTYPES = ("float32", "bfloat16", "int8")
CELLS = ("lstm", "gru")

#: With fewer sizes there is no curve.
LEAST_SIZES = 2

#: A precision of the engine, such as "float32" or "int8 inputs float32", and how many threads it may use.
Kind: TypeAlias = tuple[str, int]


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
    """One shape and milliseconds by column."""

    shape: str
    milliseconds: Mapping[str, float]


def by_kind(result: Result) -> dict[Kind, dict[str, Ratio]]:
    """The ratios of each precision and number of threads, by what they compare with."""
    found: dict[Kind, dict[str, Ratio]] = {}
    for ratio in result.ratios:
        kind = f"{ratio.dtype} {ratio.variant}".rstrip(), ratio.threads
        found.setdefault(kind, {})[ratio.versus] = ratio
    return found


def ratios(results: Iterable[Result]) -> Iterator[Ratios]:
    """Of every set, precision and number of threads in which a peer was measured and somebody is best on them all."""
    for name, of_set in sets(results).items():
        rows: dict[Kind, list[Row]] = {}
        used: set[Kind] = set()
        for result in of_set:
            rivals = {time.engine for time in result.times if time.role == "peer"}
            for kind, found in by_kind(result).items():
                peers = {versus: ratio for versus, ratio in found.items() if versus in rivals}
                if peers:
                    rows.setdefault(kind, []).append(row_of(result.shape, peers))
                if any(kind[1] in (ratio.engine_threads, ratio.versus_threads) for ratio in peers.values()):
                    used.add(kind)
        for kind in rows:
            if kind in used:
                yield Ratios(name, *kind, rows[kind])


def row_of(shape: str, peers: Mapping[str, Ratio]) -> Row:
    values = {name: ratio.ratio for name, ratio in peers.items()}
    return Row(shape, values, min(values, key=lambda name: values[name]))


def is_square(result: Result) -> bool:
    """One layer, in one direction, whose input is as wide as its state."""
    case = result.case
    return (
        case is not None
        and case["input_size"] == case["hidden_size"]
        and case["num_layers"] == 1
        and not case["bidirectional"]
    )


def sweep(results: Iterable[Result], cell: str, batch: int, steps: bool) -> dict[int, Result]:
    """The square cases of a cell by hidden size: single steps, or sequences of the length with the most sizes."""
    lengths: dict[int, dict[int, Result]] = {}
    for result in filter(is_square, results):
        case = result.case or {}
        if (case["cell"], case["batch"], case["seq_len"] == 1) == (cell, batch, steps):
            lengths.setdefault(case["seq_len"], {})[case["hidden_size"]] = result
    most = max(lengths, key=lambda length: len(lengths[length]), default=None)
    return dict(sorted(lengths[most].items())) if most else {}


def curve(label: str, role: str, over: Mapping[int, Result], value: Callable[[Result], float | None]) -> Curve:
    """The sizes that have a value."""
    points = [(size, found) for size, result in over.items() if (found := value(result)) is not None]
    return Curve(label, role, [size for size, _ in points], [found for _, found in points])


def fastest(result: Result, *, role: str, engine: str, dtype: str, threads: int) -> float | None:
    """Time of an engine in one precision on exactly so many threads: its best variant, of this engine the plain one."""

    def fits(time: Time) -> bool:
        same = (time.role, time.engine, time.dtype, time.threads) == (role, engine, dtype, threads)
        return same and (role != "engine" or not time.variant)

    return min((time.timing.median for time in result.times if fits(time)), default=None)


def latencies(results: Sequence[Result], dtype: str) -> list[Panel]:
    """Microseconds of a step over H on one thread, alone and in a sequence: the engine, the bound and every peer."""
    panels = []
    for steps, cell in product((True, False), CELLS):
        over = sweep(results, cell, 1, steps)
        curves = [
            curve(engine, role, over, partial(fastest, role=role, engine=engine, dtype=dtype, threads=1))
            for role, engine in columns(over.values())
        ]
        curves = [curve for curve in curves if len(curve.sizes) >= LEAST_SIZES]
        if any(curve.role == "engine" for curve in curves):
            length = "one step" if steps else f"sequence of {over[curves[0].sizes[0]].case['seq_len']} steps"
            panels.append(Panel(f"{cell.upper()}, {length}", curves))
    return panels


def columns(results: Iterable[Result]) -> list[tuple[str, str]]:
    """(role, engine) of everything that was timed: the engine, the bound, the peers by name."""
    found = {(time.role, time.engine) for result in results for time in result.times}
    order = ("engine", "bound", "peer")
    return sorted((pair for pair in found if pair[0] in order), key=lambda pair: (order.index(pair[0]), pair[1]))


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
    found = {(result.case["batch"], result.case["seq_len"] == 1) for result in results if is_square(result)}
    names = {True: "one step", False: "sequence"}
    return [
        (names[steps] + (f" of {batch} rows" if batch > 1 else ""), batch, steps)
        for batch, steps in sorted(found, key=lambda work: (not work[1], work[0]))
    ]


def speedup(result: Result, *, dtype: str, threads: int) -> float | None:
    of = partial(fastest, result, role="engine", engine=ENGINE, dtype=dtype)
    alone, together = of(threads=1), of(threads=threads)
    return alone / together if alone and together else None


def published(results: Iterable[Result]) -> Iterator[Bars]:
    """Shapes for which others have published a time: milliseconds of the sequence, theirs and the engine's at its best
    number of threads in each precision."""
    for result in results:
        others = {time.name: time.timing.median for time in result.times if time.role == "published"}
        if not others or not result.case:
            continue
        ours: dict[str, float] = {}
        for dtype in DTYPES:
            times = [t.timing.median for t in result.times if (t.role, t.dtype) == ("engine", dtype)]
            if times:
                ours[f"{ENGINE} {dtype}"] = min(times)
        scale = result.case["seq_len"] / 1e3
        yield Bars(result.shape, {name: value * scale for name, value in (ours | others).items()})
