from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from bench import engine, native, peers, pool
from bench.case import Case
from bench.compare import compare
from bench.goals import summary, write_csv, write_json
from bench.measure import Effort, check

CASES = [
    Case("lstm", 1, 8),
    Case("gru", 3, 5, batch=2),
    Case("lstm", 3, 5, batch=2, seq_len=4),
    Case("gru", 3, 5, batch=2, seq_len=4, lengths=(4, 1)),
    Case("lstm", 3, 5, batch=2, seq_len=4, resets=((0, 1), (2, 0), (2, 1))),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_engine_passes_the_check_made_before_timing(case: Case) -> None:
    check({"gated_c": engine.runner(case)}, case)


@pytest.mark.parametrize("streams", [3, 20])
def test_pools_and_what_stands_beside_them_pass_the_check(streams: int) -> None:
    case = Case("lstm", 4, 5, batch=3)
    check({"gated_c": pool.Pool(case, streams), **pool.onnxruntime_runners(case, streams)}, case)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_splitting_at_resets_passes_it_too(cell: str) -> None:
    case = Case(cell, 3, 5, batch=2, seq_len=4, resets=((0, 1), (2, 0), (2, 1)))
    check({"split": engine.Split(case)}, case)


@pytest.mark.skipif(not shutil.which("cc"), reason="a step in C needs a C compiler")
def test_steps_in_c_are_timed_for_every_size() -> None:
    times = native.c_steps(1)
    assert {cell for cell, _ in times} == {"lstm", "gru"}
    assert all(0 < microseconds < 1e3 for microseconds in times.values())


def test_a_wrong_engine_is_not_timed() -> None:
    case = CASES[0]
    wrong = engine.runner(case)
    wrong.read = lambda: np.ones((1, 1, 8), np.float32)  # type: ignore[method-assign]
    with pytest.raises(AssertionError, match="wrong, LSTM I=1"):
        check({"wrong": wrong}, case)


@pytest.mark.skipif(not shutil.which("cc"), reason="the probe of the machine needs a C compiler")
def test_a_shape_is_timed_and_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(peers, "NAMES", ())
    goals = {"roofline": 1e9, "torch": 1.0}
    result = compare("one step", CASES[0], goals, Effort(seconds=0.001, least_rounds=2, most_rounds=2))

    assert result.times["gated_c"].median > 0
    assert set(result.missed) == {"roofline"}
    assert "missed: roofline" in result.line()
    assert "in 0 of 1, torch 1.00x not measured" in summary([result])
    write_csv([result], tmp_path / "table.csv")
    assert len((tmp_path / "table.csv").read_text().splitlines()) == 3
    write_json({"cpu": "any"}, [result], tmp_path / "table.json")
    assert json.loads((tmp_path / "table.json").read_text())["results"][0]["shape"] == "LSTM I=1    H=8"
