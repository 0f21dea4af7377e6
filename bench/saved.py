"""What does a file say that ``python -m bench --json`` wrote? Plots and reports start from it and measure nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from bench.table import FORMAT, Result, Skip, Time, Timing


@dataclass(frozen=True)
class Saved:
    """The machine and the run in ``about``, and everything measured."""

    about: Mapping[str, Any]
    results: tuple[Result, ...]


def read(path: Path) -> Saved:
    """Raises ``ValueError`` for a file that is not one of results, or of another format."""
    content = read_json(path)
    results = tuple(result_of(fields) for fields in content["results"])
    about = {name: value for name, value in content.items() if name not in ("format", "results", "means")}
    return Saved(about, results)


def read_json(path: Path) -> dict[str, Any]:
    content = json.loads(path.read_text())
    found = content.get("format") if isinstance(content, dict) else None
    if found != FORMAT:
        raise ValueError(f"{path}: expected results of format {FORMAT}, got {found or 'none'}")
    return content


def result_of(saved: Mapping[str, Any]) -> Result:
    """What ``Result.fields`` gave. Its ratios are computed again."""
    times = tuple(Time(timing=Timing(**only(Timing, time)), **only(Time, time)) for time in saved["times"])
    skipped = tuple(Skip(**skip) for skip in saved["skipped"])
    return Result(**only(Result, saved) | {"times": times, "skipped": skipped})


def only(kind: type, saved: Mapping[str, Any]) -> dict[str, Any]:
    names = {field.name for field in fields(kind)}
    return {name: value for name, value in saved.items() if name in names}


def sets(results: Iterable[Result]) -> dict[str, list[Result]]:
    """The results of each set, in the order of the file."""
    found: dict[str, list[Result]] = {}
    for result in results:
        found.setdefault(result.set, []).append(result)
    return found
