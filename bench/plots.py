"""What do the figures look like? ``python -m bench.plots results.json --latency latency.json --out docs/benchmarks``.

SVG, the same bytes for the same numbers. Markers, dashes and hatches repeat what colours say, for readers without them.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from bench import latency, saved, series
from bench.latency import Spread
from bench.series import DTYPES, Beside, Curve, Panel, Ratios, figure_file, ratios_file
from bench.table import ENGINE, Result, counted, number

#: Text stays text, and the names of parts depend on the drawing alone.
SVG = {
    "svg.fonttype": "none",
    "svg.hashsalt": ENGINE,
    "font.sans-serif": ["DejaVu Sans", "Verdana"],
    "font.size": 9,
    "axes.axisbelow": True,
    "hatch.linewidth": 0.6,
}
METADATA = {"Date": None, "Creator": None}

#: What an axis spans from here on is many decades.
MANY = 300

#: Inches.
WIDTH, ROW, MARGIN = 8.0, 0.24, 1.3

#: Of the distance between two rows.
BAR = 0.75


@dataclass(frozen=True)
class Style:
    color: str
    marker: str
    dash: Any
    hatch: str


#: This engine, this engine with other inputs or arithmetic, the roofline.
OURS, OTHERWISE, BOUND = Style("#000000", "o", "-", ""), Style("#000000", "s", "--", ""), Style("#666666", "", ":", "")

#: Where the names of percentiles stand, as shares of the height, so that none covers another.
HEIGHTS = (0.93, 0.82, 0.71, 0.6)

#: Okabe and Ito's colours.
STYLES = (
    Style("#d55e00", "s", "--", "////"),
    Style("#0072b2", "^", "-.", "xxxx"),
    Style("#009e73", "D", (0, (6, 2)), "...."),
    Style("#cc79a7", "v", (0, (4, 1, 1, 1, 1, 1)), "\\\\\\\\"),
    Style("#e69f00", "P", (0, (2, 2)), "++++"),
    Style("#56b4e9", "X", (0, (8, 2, 2, 2)), "oooo"),
)

Styles = Mapping[str, Style]


def styles_of(names: Iterable[str]) -> Styles:
    """The same look for a name in every figure of a file."""
    return {name: STYLES[place % len(STYLES)] for place, name in enumerate(sorted(set(names)))}


def figures(results: Sequence[Result], spreads: Sequence[Spread]) -> Iterator[tuple[str, Figure]]:
    """File name and drawing of everything that there are numbers for."""
    peers = styles_of(time.engine for result in results for time in result.times if time.role == "peer")
    for ratios in series.ratios(results):
        yield ratios_file(ratios.set, ratios.precision, ratios.threads), draw_ratios(ratios, peers)
    for dtype in DTYPES:
        if panels := series.latencies(results, dtype):
            yield figure_file("size", dtype), draw_latencies(panels, dtype, peers)
    if spreads:
        yield figure_file("spread"), draw_spreads(spreads)
    if panels := series.speedups(results):
        yield figure_file("threads"), draw_speedups(panels)
    for beside in series.published(results):
        yield figure_file("published", beside.set), draw_published(beside)


def draw_ratios(ratios: Ratios, peers: Styles) -> Figure:
    """A bar from 1 to the fastest peer of each shape, a marker for each of the others."""
    figure, axes = rows_of_bars([row.shape for row in ratios.rows])
    for place, row in enumerate(ratios.rows):
        best = row.peers[row.best]
        look = {"color": "0.8"} if best >= 1 else {"color": "white", "hatch": "////"}
        axes.barh(place, best - 1, BAR, left=1, edgecolor="0.4", linewidth=0.5, **look)
        axes.text(
            1.01, place, f"{number(best)}x {row.best}", transform=axes.get_yaxis_transform(), va="center", fontsize=8
        )
    for name, style in peers.items():
        points = [(row.peers[name], place) for place, row in enumerate(ratios.rows) if name in row.peers]
        if points:
            faces = [style.color if ratios.rows[place].best == name else "white" for _, place in points]
            x, y = zip(*points, strict=True)
            axes.scatter(x, y, s=26, marker=style.marker, c=faces, edgecolors=style.color, label=name, zorder=3)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xscale("log")
    in_plain_numbers(axes.xaxis)
    axes.set_xlabel(f"{ENGINE} is so many times as fast; filled: the fastest peer, hatched: where that is faster")
    axes.set_title(f"{ratios.set}: {ratios.precision}, {counted(ratios.threads, 'thread')}")
    figure.legend(loc="outside lower center", ncols=5, frameon=False)
    return figure


def draw_latencies(panels: Sequence[Panel], dtype: str, peers: Styles) -> Figure:
    """Both axes logarithmic: the same distance is the same ratio everywhere."""
    figure, grid = grid_of(panels)
    for axes, panel in zip(grid, panels, strict=True):
        for curve in panel.curves:
            draw_curve(axes, curve, style_of(curve, peers))
        over_sizes(axes, panel)
        axes.set_yscale("log")
        in_plain_numbers(axes.yaxis)
        axes.set_ylabel("µs a step")
    figure.suptitle(f"{dtype}, one thread, input as wide as the state")
    legend(figure, grid)
    return figure


def style_of(curve: Curve, peers: Styles) -> Style:
    if curve.role == "engine":
        return OURS if curve.label == ENGINE else OTHERWISE
    return BOUND if curve.role == "bound" else peers[curve.label]


def draw_speedups(panels: Sequence[Panel]) -> Figure:
    styles = styles_of(curve.label for panel in panels for curve in panel.curves)
    figure, grid = grid_of(panels)
    for axes, panel in zip(grid, panels, strict=True):
        for curve in panel.curves:
            draw_curve(axes, curve, styles[curve.label])
        over_sizes(axes, panel)
        axes.axhline(1, color="black", linewidth=0.8)
        axes.axhline(2, color=BOUND.color, linestyle=BOUND.dash)
        axes.set_ylim(0, 2.2)
        axes.set_ylabel("times as fast")
    figure.suptitle("Two threads against one")
    legend(figure, grid)
    return figure


def draw_spreads(spreads: Sequence[Spread]) -> Figure:
    """Both axes logarithmic, so that one late step of a million shows."""
    figure, grid = grid_of(spreads, sharex=True, sharey=True)
    for axes, spread in zip(grid, spreads, strict=True):
        axes.stairs(spread.counts, [edge / 1e3 for edge in spread.edges], fill=True, color="0.75", edgecolor="0.4")
        for (name, nanoseconds), height in zip(spread.percentiles.items(), HEIGHTS, strict=True):
            mark(axes, nanoseconds / 1e3, f"{name} {number(nanoseconds / 1e3)}", height, left=name == "max")
        axes.set(xscale="log", yscale="log", title=spread.shape, xlabel="µs of a step", ylabel="steps")
        axes.set_ylim(bottom=0.5)
        axes.yaxis.set_minor_locator(NullLocator())
        in_plain_numbers(axes.xaxis)
    figure.suptitle(f"{spreads[0].steps:,} single steps, one after another, float32")
    return figure


def mark(axes: Axes, x: float, text: str, height: float, left: bool) -> None:
    """A line with its name beside it, at so much of the height."""
    axes.axvline(x, color="black", linewidth=0.8, linestyle="--")
    box = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
    place = {"ha": "right" if left else "left", "transform": axes.get_xaxis_transform()}
    axes.text(x * (0.9 if left else 1.1), height, text, fontsize=8, bbox=box, **place)


def draw_published(beside: Beside) -> Figure:
    """A bar for each column, one beneath the other."""
    bars, names = beside.bars, beside.names
    ours = [name for name in names if name.startswith(ENGINE)]
    looks = {name: (f"{0.15 + 0.7 * place / len(ours):.2f}", "") for place, name in enumerate(ours)}
    looks |= {name: ("white", style.hatch) for name, style in styles_of(set(names) - set(ours)).items()}
    figure, axes = rows_of_bars([row.shape for row in bars], lines=len(names))
    for place, name in enumerate(names):
        color, hatch = looks[name]
        points = [(row.times[name], at) for at, row in enumerate(bars) if name in row.times]
        widths = [width for width, _ in points]
        places = [at + BAR * ((place + 0.5) / len(names) - 0.5) for _, at in points]
        look = {"color": color, "hatch": hatch, "edgecolor": "black", "linewidth": 0.5}
        drawn = axes.barh(places, widths, BAR / len(names), label=name, **look)
        axes.bar_label(drawn, [f" {number(width)}" for width in widths], fontsize=7)
    axes.set_xscale("log")
    axes.margins(x=0.1)
    in_plain_numbers(axes.xaxis)
    axes.set_xlabel(f"{bars[0].unit}, at the best number of threads")
    axes.set_title(f"{beside.set}: beside published times")
    figure.legend(loc="outside lower center", ncols=4, frameon=False)
    return figure


def rows_of_bars(names: Sequence[str], lines: float = 1) -> tuple[Figure, Axes]:
    """A row for each name, from the top down, tall enough for so many lines."""
    height = ROW * len(names) * max(1, 0.55 * lines)
    figure = Figure(figsize=(WIDTH, MARGIN + height), layout="constrained")
    axes = figure.subplots()
    axes.set_yticks(range(len(names)), names, family="monospace", fontsize=8)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(axis="x", color="0.9")
    return figure, axes


def grid_of(panels: Sequence[Any], **share: bool) -> tuple[Figure, list[Axes]]:
    """Two in a row."""
    rows, columns = -(-len(panels) // 2), min(2, len(panels))
    figure = Figure(figsize=(WIDTH, MARGIN + 2.4 * rows), layout="constrained")
    grid = list(figure.subplots(rows, columns, squeeze=False, **share).flat)
    for unused in grid[len(panels) :]:
        unused.remove()
    return figure, grid[: len(panels)]


def draw_curve(axes: Axes, curve: Curve, style: Style) -> None:
    axes.plot(
        curve.sizes,
        curve.values,
        color=style.color,
        linestyle=style.dash,
        marker=style.marker,
        markersize=4.5,
        markerfacecolor=style.color if style is OURS else "white",
        linewidth=2 if style is OURS else 1.2,
        label=curve.label,
    )


def over_sizes(axes: Axes, panel: Panel) -> None:
    sizes = sorted({size for curve in panel.curves for size in curve.sizes})
    axes.set_xscale("log")
    axes.set_xticks(sizes, [str(size) for size in sizes], fontsize=7, rotation=45)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.grid(color="0.9")
    axes.set(xlabel="H", title=panel.title)


def in_plain_numbers(axis: Axis) -> None:
    """0.5 1 2 5 10 and not 10⁰; over many decades 1 10 100. For a logarithmic axis with everything drawn."""
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < MANY * low else (1,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())


def legend(figure: Figure, grid: Iterable[Axes]) -> None:
    """One for all panels."""
    found: dict[str, Any] = {}
    for axes in grid:
        for line, label in zip(*axes.get_legend_handles_labels(), strict=True):
            found.setdefault(label, line)
    figure.legend(found.values(), found.keys(), loc="outside lower center", ncols=5, frameon=False)


def write(results: Sequence[Result], spreads: Sequence[Spread], folder: Path) -> list[Path]:
    """Every figure into the folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    with rc_context(SVG):
        for name, figure in figures(results, spreads):
            figure.savefig(folder / name, format="svg", metadata=METADATA)
            paths.append(folder / name)
    return paths


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.plots", description="Draw what was measured.")
    parser.add_argument("results", type=Path, metavar="RESULTS.json", help="from python -m bench --json")
    parser.add_argument("--latency", type=Path, metavar="LATENCY.json", help="from python -m bench.latency")
    parser.add_argument("--out", type=Path, metavar="DIR", default=Path("plots"), help="for the SVG (default: plots)")
    arguments = parser.parse_args()
    spreads = latency.read(arguments.latency) if arguments.latency else []
    for path in write(saved.read(arguments.results).results, spreads, arguments.out):
        print(path)


if __name__ == "__main__":
    main()
