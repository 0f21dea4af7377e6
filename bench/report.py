"""What does a results file say in tables? ``python -m bench.report results.json`` writes them into docs/benchmarks.md.

Only what stands between ``<!-- begin NAME -->`` and ``<!-- end NAME -->`` is replaced, the text around it is written by
hand. Figures are those of ``bench.plots`` in the folder beside the page that has its name.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench import latency, saved, series
from bench.latency import Spread
from bench.saved import Saved
from bench.series import DTYPES, RATIOS, Kind, engines, is_new, kind_of, kinds, ratios_file
from bench.table import ENGINE, UNDISTURBED, Mean, Ratio, Result, as_ratio, counted, means, number

PAGE = Path("docs/benchmarks.md")


def machine(run: Saved) -> Iterator[str]:
    """CPU, instruction set and versions, and how the run was asked for."""
    options = {name: as_text(value) for name, value in run.about.get("options", {}).items()}
    yield from table(("", ""), (run.about.get("machine", {}) | options).items())


def as_text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def peaks(run: Saved) -> Iterator[str]:
    """What the rooflines are made of; reads of as many bytes as are powers of four."""
    found = run.about.get("peaks", [])
    types = list(dict.fromkeys(name for peak in found for name in peak["gmacs"]))
    rates = [{size: rate for size, rate in peak["bandwidth"] if is_power_of_four(size)} for peak in found]
    sizes = sorted({size for of_peak in rates for size in of_peak})
    header = ["threads", *(f"{name}, 10⁹/s" for name in types), *(f"{size_name(size)}, GB/s" for size in sizes)]
    cells = (
        [
            str(peak["threads"]),
            *(number(peak["gmacs"][name]) if name in peak["gmacs"] else "" for name in types),
            *(number(of_peak[size]) if size in of_peak else "" for size in sizes),
        ]
        for peak, of_peak in zip(found, rates, strict=True)
    )
    yield from table(header, cells)


def is_power_of_four(size: int) -> bool:
    return size.bit_count() == 1 and size.bit_length() % 2 == 1


def size_name(size: int) -> str:
    return f"{size >> 20} MiB" if size >= 1 << 20 else f"{size >> 10} KiB"


def geometric_means(run: Saved) -> Iterator[str]:
    """A row per set, precision and number of threads, a column per peer; with the number of shapes."""
    rivals = engines(run.results, "peer")
    rows: dict[tuple[str, Kind], dict[str, Mean]] = {}
    for mean in means(run.results):
        kind = f"{mean.dtype} {mean.variant}".rstrip(), mean.threads
        rows.setdefault((mean.set, kind), {})[mean.versus] = mean
    columns = ["best", *rivals, "roofline"]
    cells = []
    for name, results in saved.sets(run.results).items():
        for kind in kinds(results):
            found = rows.get((name, kind), {})
            if found.keys() & set(columns):
                cells.append([name, kind_name(kind), *(mean_cell(found.get(column)) for column in columns)])
    yield from table(("set", "precision", "fastest peer", *rivals, "roofline"), cells)


def mean_cell(mean: Mean | None) -> str:
    return f"{as_ratio(mean)} ({mean.shapes})" if mean else ""


def tables(run: Saved, figures: Sequence[Path]) -> Iterator[str]:
    """For each set float32, and folded what is narrower: figures of the ratios and a table."""
    for name, results in saved.sets(run.results).items():
        yield from ("", f"### {name}", "")
        for dtype in DTYPES:
            of_dtype = [result for result in results if result.fastest(dtype, "", 1)]
            of_set = [*images(figures_of(name, of_dtype, dtype, figures)), *set_table(of_dtype, dtype)]
            if of_dtype:
                yield from of_set if dtype == "float32" else folded(dtype, of_set)


def figures_of(name: str, results: Sequence[Result], dtype: str, figures: Sequence[Path]) -> list[Path]:
    names = [ratios_file(name, *kind) for kind in kinds(results) if kind[0] == dtype]
    return [path for path in figures if path.name in names]


def set_table(results: Sequence[Result], dtype: str) -> Iterator[str]:
    """The engine in one precision on one thread, then a column for its variants and for more threads."""
    plain = (dtype, 1)
    others = [kind for kind in kinds(results) if kind != plain and kind[0].split()[0] == dtype]
    beside = [*engines(results, "bound"), *engines(results, "reference"), *engines(results, "published")]
    units = sorted({result.unit for result in results})
    header = ["shape", f"{ENGINE}, {units[0]}" if len(units) == 1 else ENGINE, "fastest peer", "faster", *beside]
    rows = (table_row(result, plain, beside, others) for result in results)
    if len(units) > 1:
        rows = ([f"{row[0]}, {result.unit}", *row[1:]] for row, result in zip(rows, results, strict=True))
    yield from table(header + [kind_name(kind).removeprefix(dtype).lstrip(" ,") for kind in others], rows)


def kind_name(kind: Kind) -> str:
    precision, threads = kind
    return precision if threads == 1 else f"{precision}, {counted(threads, 'thread')}"


def table_row(result: Result, plain: Kind, beside: Sequence[str], others: Sequence[Kind]) -> list[str]:
    found = series.by_kind(result)
    of_plain = found.get(plain, {})
    best = of_plain.get("best")
    return [
        plain_shape(result),
        engine_time(result, plain),
        versus_time(result, best) if best else "",
        as_ratio(best) if best else "",
        *(as_ratio(of_plain[name]) if name in of_plain else "" for name in beside),
        *(other_cell(result, kind, found.get(kind, {})) for kind in others),
    ]


def plain_shape(result: Result) -> str:
    return one_line(result.shape) + " (disturbed)" * (result.cpu_share < UNDISTURBED)


def one_line(text: str) -> str:
    return " ".join(text.split())


def engine_time(result: Result, kind: Kind) -> str:
    """With half the distance of the quartiles."""
    dtype, _, variant = kind[0].partition(" ")
    ours = result.fastest(dtype, variant, kind[1])
    return f"{number(ours.timing.median)} ±{ours.timing.spread / 2:.0%}" if ours else ""


def versus_time(result: Result, ratio: Ratio) -> str:
    ours = result.fastest(ratio.dtype, ratio.variant, ratio.threads)
    return f"{ratio.versus_name} {number(ours.timing.median * ratio.ratio)}" if ours else ""


def other_cell(result: Result, kind: Kind, found: Mapping[str, Ratio]) -> str:
    """Time, times as fast as the fastest peer of this precision, share of the roofline. Empty if threads add none."""
    if not any(map(is_new, found.values())):
        return ""
    parts = [engine_time(result, kind)]
    if "best" in found:
        parts.append(f"{as_ratio(found['best'])} {found['best'].versus_name}")
    if "roofline" in found:
        parts.append(as_ratio(found["roofline"]))
    return ", ".join(filter(None, parts))


def published(run: Saved) -> Iterator[str]:
    """The engine beside times that others have published."""
    for beside in series.published(run.results):
        columns = beside.names
        header = [f"{beside.set}: {beside.bars[0].unit}", *columns]
        cells = (
            [one_line(row.shape), *(number(row.times[name]) if name in row.times else "" for name in columns)]
            for row in beside.bars
        )
        yield from (*table(header, cells), "")


def spread(spreads: Iterable[Spread]) -> Iterator[str]:
    """Percentiles of single steps in microseconds."""
    names = ("p50", "p99", "p99.9", "max")
    cells = ([one_line(s.shape), *(number(s.percentiles[name] / 1e3) for name in names)] for s in spreads)
    yield from table(("one step, µs", *names), cells)


def losses(run: Saved) -> Iterator[str]:
    """Every shape where a peer of the same precision is faster, the worst first."""
    found = [
        (ratio, result)
        for result in run.results
        for ratio in result.ratios
        if ratio.versus == "best" and ratio.ratio < 1 and is_new(ratio)
    ]
    found.sort(key=lambda pair: pair[0].ratio)
    cells = (
        [
            result.set,
            plain_shape(result),
            kind_name(kind_of(ratio)),
            engine_time(result, kind_of(ratio)),
            versus_time(result, ratio),
            as_ratio(ratio),
        ]
        for ratio, result in found
    )
    yield from table(("set", "shape", "precision", ENGINE, "fastest peer", "as fast"), cells)


def skipped(run: Saved) -> Iterator[str]:
    """Why something is missing, and in how many shapes of which sets."""
    places: dict[tuple[str, str, str], dict[str, int]] = {}
    for result in run.results:
        for skip in result.skipped:
            name = f"{skip.engine} {skip.variant}".rstrip()
            counts = places.setdefault((name, skip.dtype, skip.reason), {})
            counts[result.set] = counts.get(result.set, 0) + 1
    cells = ([*key, ", ".join(f"{name} ({count})" for name, count in found.items())] for key, found in places.items())
    yield from table(("engine", "precision", "reason", "sets (shapes)"), cells)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    lines = [row_line(row) for row in rows]
    if not lines:
        yield "None."
        return
    yield row_line(header)
    yield "|" + "---|" * len(header)
    yield from lines


def row_line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|").replace("\n", " ") for cell in cells) + " |"


def folded(title: str, lines: Iterable[str]) -> Iterator[str]:
    yield from ("", "<details>", f"<summary>{title}</summary>", "", *lines, "", "</details>")


def images(figures: Iterable[Path]) -> Iterator[str]:
    for path in figures:
        yield from (f"![{path.stem.replace('-', ' ')}]({path.parent.name}/{path.name})", "")


def sections(run: Saved, spreads: Sequence[Spread], figures: Sequence[Path]) -> dict[str, str]:
    lines = {
        "machine": machine(run),
        "peaks": peaks(run),
        "means": geometric_means(run),
        "figures": images(path for path in figures if not path.name.startswith(RATIOS)),
        "spread": spread(spreads),
        "published": published(run),
        "losses": losses(run),
        "skipped": skipped(run),
        "tables": tables(run, figures),
    }
    return {name: "\n".join(of_section) + "\n" for name, of_section in lines.items()}


def filled(page: str, texts: Mapping[str, str]) -> str:
    """The page with every section written anew. Raises ``ValueError`` where it lacks one."""
    for name, text in texts.items():
        begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
        before, _, rest = page.partition(f"{begin}\n")
        _, found, after = rest.partition(end)
        if not found or page.count(begin) > 1 or page.count(end) > 1:
            raise ValueError(f"expected {begin} and then {end}, once each")
        page = f"{before}{begin}\n{text}{end}{after}"
    return page


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.report", description="Write what was measured into a page.")
    parser.add_argument("results", type=Path, metavar="RESULTS.json", help="from python -m bench --json")
    parser.add_argument("--latency", type=Path, metavar="LATENCY.json", help="from python -m bench.latency")
    parser.add_argument("--page", type=Path, metavar="PAGE.md", default=PAGE, help=f"default: {PAGE}")
    arguments = parser.parse_args()
    spreads = latency.read(arguments.latency) if arguments.latency else []
    figures = sorted(arguments.page.with_suffix("").glob("*.svg"))
    texts = sections(saved.read(arguments.results), spreads, figures)
    arguments.page.write_text(filled(arguments.page.read_text(), texts))


if __name__ == "__main__":
    main()
