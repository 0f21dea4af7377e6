from __future__ import annotations

import csv
import json
import os
import shutil
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from bench import __main__ as program
from bench import deepbench, engine, machine, native, peers, pool, ragged, resets, roofline
from bench.case import DTYPES, Case
from bench.contest import Options, Task, Watch, compare, contest
from bench.engine import PRECISIONS
from bench.isolate import run_isolated
from bench.measure import Effort, Entrant, start_all
from bench.oracle import Oracle, rounded
from bench.roofline import Peaks
from bench.sets import SETS
from bench.shapes import cases, shapes
from bench.table import Result, Skip, Time, Timing, means, summary, write_csv, write_json

CASES = [
    Case("lstm", 1, 8),
    Case("gru", 3, 5, batch=2),
    Case("rnn_relu", 3, 5, seq_len=4),
    Case("lstm", 3, 5, batch=2, seq_len=4),
    Case("gru", 3, 5, batch=2, seq_len=4, num_layers=2, bidirectional=True),
    Case("gru", 3, 5, batch=2, seq_len=4, lengths=(4, 1)),
    Case("lstm", 3, 5, batch=2, seq_len=4, resets=((0, 1), (2, 0), (2, 1))),
]

#: One sample of one call.
BRIEFLY = Effort(seconds=0.001, least_rounds=1, most_rounds=1)

needs_cc = pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler")


def checked(entrants: list[Entrant], case: Case) -> tuple[list[str], list[Skip]]:
    """The names of those that pass the check, and what does not."""
    started, skipped = start_all(entrants, Oracle(case))
    return [entrant.engine for entrant, _ in started], skipped


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No peers."""
    monkeypatch.setattr(peers, "installed", dict)


# What is checked before it is timed


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_engine_passes_the_check_made_before_timing(case: Case) -> None:
    entrants = list(engine.entrants(case, DTYPES, [1]))
    passed, skipped = checked(entrants, case)
    lacking = [precision for precision in PRECISIONS if engine.why_not(precision, 1)]
    assert len(passed) == len(PRECISIONS) - len(lacking), skipped


@pytest.mark.parametrize("case", [CASES[0], CASES[4]], ids=str)
@pytest.mark.parametrize("name", ["onnxruntime", "torch"])
def test_peers_pass_it_in_every_precision_that_they_have(name: str, case: Case) -> None:
    if name not in peers.installed():
        pytest.skip(f"needs {name}")
    peer = peers.installed()[name]
    ways = [(dtype, way) for dtype in DTYPES for way in peer.ways(case, dtype).values()]
    entrants = [Entrant(name, way if isinstance(way, str) else partial(way, 1), dtype=dtype) for dtype, way in ways]
    passed, skipped = checked(entrants, case)
    assert len(passed) == sum(callable(way) for _, way in ways), skipped


@pytest.mark.parametrize("streams", [3, 20])
def test_pools_and_what_stands_beside_them_pass_the_check(streams: int) -> None:
    case, options = Case("lstm", 4, 5, batch=3), Options(("float32",))
    entrants = [*pool.ours(case, streams, options), *pool.stacked(case, streams, options)]
    passed, skipped = checked(entrants, case)
    assert passed[:2] == ["gated_c", "dense batch"]
    assert not skipped


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_splitting_at_resets_passes_it_too(cell: str) -> None:
    case = Case(cell, 3, 5, batch=2, seq_len=4, resets=((0, 1), (2, 0), (2, 1)))
    assert checked([Entrant("split", partial(engine.Split, case, engine.FLOAT32, 1))], case) == (["split"], [])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("wrong", ["ones", "nan", "other weights", "state forgotten"])
def test_a_wrong_engine_is_left_out_with_its_error(wrong: str, dtype: str) -> None:
    case = Case("lstm", 8, 32, seq_len=8)
    runner = engine.runner(case)
    if wrong == "ones":
        runner.read = lambda: np.ones((8, 1, 32), np.float32)  # type: ignore[method-assign]
    elif wrong == "nan":
        runner.read = lambda: np.full((8, 1, 32), np.nan, np.float32)  # type: ignore[method-assign]
    elif wrong == "other weights":
        weights = {name: weight[::-1].copy() for name, weight in case.weights().items()}
        runner.model = type(runner.model)([type(case.spec())("lstm", 8, 32, weights)])  # type: ignore[attr-defined]
    else:
        run = runner.run
        runner.run = lambda times: (setattr(runner, "state", None), run(times))  # type: ignore[method-assign]
    passed, (skip,) = checked([Entrant("wrong", lambda: runner, dtype=dtype)], case)
    assert not passed
    assert "wrong by" in skip.reason


def test_what_rounding_may_cause_grows_with_narrower_formats() -> None:
    oracle = Oracle(CASES[3])
    float32, bfloat16, int8 = (oracle.tolerance(dtype) for dtype in DTYPES)
    assert float32 < bfloat16 < int8 < 0.1


def test_bfloat16_is_rounded_to_the_nearest_even() -> None:
    values = np.array([1, 1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20, -3.1415927], np.float32)
    assert rounded(values, "bfloat16").tolist() == [1, 1, 1 + 2**-6, 1 + 2**-7, -3.140625]


def test_an_engine_that_raises_is_a_line_of_the_result(alone: None) -> None:
    def broken() -> engine.Stream:
        raise RuntimeError("no such\n primitive")

    entrants = [*engine.entrants(CASES[0], ("float32",), [1]), Entrant("broken", broken)]
    result = contest("step", CASES[0], entrants, Options(effort=BRIEFLY), Watch())
    assert [time.engine for time in result.times] == ["gated_c"]
    assert result.skipped[0].reason == "RuntimeError: no such primitive"
    assert "without broken, float32, 1 thread: RuntimeError" in "\n".join(result.lines(result.skipped))


# Processes


def crashing(watch: Watch) -> list[Result]:
    if "torch, float32, 1" not in watch.crashed:
        watch.begins("torch, float32, 1")
        os._exit(3)
    return [Result("step", watch.crashed["torch, float32, 1"], "µs", ())]


def hanging(watch: Watch) -> list[Result]:
    if "torch, int8, 2" not in watch.crashed:
        watch.begins("torch, int8, 2")
        time.sleep(60)
    return [Result("step", watch.crashed["torch, int8, 2"], "µs", ())]


@pytest.mark.parametrize(("run", "said"), [(crashing, "process with code 3"), (hanging, "has not ended after")])
def test_a_shape_is_measured_again_without_what_took_its_process_down(run, said) -> None:  # type: ignore[no-untyped-def]
    (result,) = run_isolated(Task("step", "any", run), timeout=10)
    assert said in result.shape


def test_a_crashed_entrant_is_skipped(alone: None) -> None:
    watch = Watch(crashed={"gated_c, float32, 1": "has ended the process"})
    (result,) = compare("step", CASES[0], Options(("float32",), effort=BRIEFLY), watch)
    assert [(skip.engine, skip.reason) for skip in result.skipped] == [("gated_c", "has ended the process")]


def mistaken(watch: Watch) -> list[Result]:
    watch.begins("torch, float32, 1")
    raise KeyError("mistake")


def test_a_mistake_of_the_benchmark_is_not_blamed_on_an_engine() -> None:
    with pytest.raises(RuntimeError, match="KeyError: 'mistake'"):
        run_isolated(Task("step", "any", mistaken), timeout=60)


# Shapes


def test_a_row_of_shapes_is_every_combination() -> None:
    row = {"cell": "lstm|gru", "input": "=", "hidden": "8|16", "layers": "2", "directions": "2"}
    found = cases(row | {"batch": "1", "time": "4"})
    assert found == [Case(cell, size, size, 1, 4, 2, True) for cell in ("lstm", "gru") for size in (8, 16)]


def test_every_listed_set_has_quick_shapes_and_more() -> None:
    quick, full = shapes(quick=True), shapes()
    assert quick.keys() == full.keys() <= SETS.keys()
    assert all(set(map(str, quick[name])) < set(map(str, full[name])) for name in full)
    assert all(len(set(map(str, listed))) == len(listed) for listed in full.values())


def test_deepbench_lists_every_published_layer_and_no_more_steps_than_are_affordable() -> None:
    listed = shapes()["deepbench"]
    assert {(case.cell, case.hidden_size) for case in listed} >= deepbench.PUBLISHED_MS.keys()
    long = Case("gru", 1, 2816, seq_len=750)
    assert deepbench.affordable(long) == 25
    assert deepbench.name(long) == "GRU H=2816 T=750, 25 steps of it"
    assert [time.timing.median for time in deepbench.published(long)] == pytest.approx([237.07, 281.33], abs=0.01)


@pytest.mark.parametrize("run", [ragged.compare_ragged, resets.compare_resets])
def test_what_stands_beside_is_measured_too(run, alone: None) -> None:  # type: ignore[no-untyped-def]
    (result,) = run(Case("gru", 4, 5, 3, 20), Options(("float32",), effort=BRIEFLY), Watch())
    assert {"dense share", "no resets"} & {time.engine for time in result.times if time.role == "reference"}


# The roofline


FLAT = Peaks(1, {"float32": 1.0, "bfloat16": 2.0, "int8": 4.0}, [(1, 10.0), (2**40, 10.0)], chain_ns=20.0)


def bound(case: Case, index: int = 0) -> float:
    return roofline.step_us(case, PRECISIONS[index], FLAT)


def test_a_step_of_one_row_is_bound_by_its_reads_or_products() -> None:
    case = Case("lstm", 64, 64)
    macs = 4 * 64 * 128
    assert bound(case) == pytest.approx(macs / 1e3)
    fast = Peaks(1, {"float32": 1e3}, FLAT.bandwidth, 0.0)
    assert roofline.step_us(case, PRECISIONS[0], fast) == pytest.approx(4 * macs / 10 / 1e3)


def test_narrow_weights_and_products_have_lower_bounds() -> None:
    case = Case("gru", 64, 64, 1, 10)
    half = 3 * 64 * 64 / 1e3
    float32, bfloat16, dot, int8, mixed = (bound(case, index) for index in range(len(PRECISIONS)))
    assert float32 == bfloat16 == pytest.approx(2 * half)
    assert dot == pytest.approx(half)
    assert int8 == pytest.approx(half / 2)
    assert mixed == pytest.approx(half + half / 4)


def test_a_small_step_is_bound_by_its_chain_and_a_ragged_batch_by_its_live_rows() -> None:
    assert bound(Case("lstm", 1, 1, seq_len=2)) == pytest.approx(0.004 + 0.02)
    assert bound(Case("rnn_relu", 1, 1, seq_len=2)) == pytest.approx(0.002)
    full, half = Case("gru", 8, 64, 8, 4), Case("gru", 8, 64, 8, 4, lengths=(4, 0) * 4)
    assert bound(half) == pytest.approx(bound(full) / 2)


def test_reads_are_interpolated_between_measured_sizes() -> None:
    peaks = Peaks(1, {"float32": 1.0}, [(1024, 100.0), (4096, 50.0)], 0.0)
    assert [peaks.read_us(size) for size in (512, 2048, 8192)] == pytest.approx([0.00512, 2.048 / 75, 0.16384])


@needs_cc
def test_the_machine_is_probed() -> None:
    peaks = roofline.measure_peaks(1, [2**14, 2**16])
    assert peaks.gmacs["float32"] > 0.1
    assert all(rate > 0.1 for _, rate in peaks.bandwidth)
    assert 0.1 < peaks.chain_ns < 1e4


# Ratios, means and what is written


def took(engine: str, median: float, role: str = "peer", **said: object) -> Time:
    return Time(engine, Timing.exactly(median), role, **said)  # type: ignore[arg-type]


RESULT = Result(
    "step",
    "LSTM",
    "µs per step",
    (
        took("gated_c", 2.0, "engine"),
        took("gated_c", 1.0, "engine", threads=2),
        took("gated_c", 0.5, "engine", dtype="int8"),
        took("torch", 8.0),
        took("torch", 3.0, variant="cell", threads=2),
        took("onnxruntime", 4.0),
        took("onnxruntime", 0.25, dtype="int8"),
        took("roofline", 1.5, "bound"),
        took("Titan", 20.0, "published"),
    ),
    case=CASES[0].fields(),
)


def ratios_of(dtype: str, threads: int) -> dict[str, tuple[float, str]]:
    found = [ratio for ratio in RESULT.ratios if (ratio.dtype, ratio.threads) == (dtype, threads)]
    return {ratio.versus: (ratio.ratio, ratio.versus_name) for ratio in found}


def test_a_ratio_is_to_the_same_precision_at_the_best_number_of_threads_up_to_a_limit() -> None:
    one = {"torch": (4, "torch"), "best": (2, "onnxruntime"), "onnxruntime": (2, "onnxruntime")}
    assert ratios_of("float32", 1) == one | {"roofline": (0.75, "roofline"), "Titan": (10, "Titan")}
    two = {"torch": (3, "torch cell"), "best": (3, "torch cell"), "onnxruntime": (4, "onnxruntime")}
    assert ratios_of("float32", 2) == two | {"Titan": (20, "Titan")}
    assert ratios_of("int8", 2)["best"] == (0.5, "onnxruntime")


def test_means_are_geometric_and_over_the_shapes_that_have_the_ratio() -> None:
    times = (took("gated_c", 2.0, "engine"), took("torch", 1.0))
    slower = Result("step", "GRU", "µs per step", times, case=CASES[1].fields())
    found = {(mean.dtype, mean.threads, mean.versus): (mean.ratio, mean.shapes) for mean in means([RESULT, slower])}
    assert found["float32", 1, "torch"] == (pytest.approx((4 * 0.5) ** 0.5), 2)
    assert found["float32", 1, "onnxruntime"] == (pytest.approx(2), 1)
    assert "best 1.00x (2), torch 1.41x (2), onnxruntime 2.00x (1), roofline 75% (1)" in summary([RESULT, slower])


def test_what_has_no_rival_is_a_line_too() -> None:
    alone = Result("native", "what Python adds", "µs", (took("gated_c", 0.5, "engine"),))
    assert [line.split() for line in alone.lines()][-1] == ["float32", "1", "thread", "0.500", "±0%"]
    assert means([alone]) == []


def test_json_and_csv_have_the_fields_that_readme_lists(tmp_path: Path) -> None:
    write_json({"machine": {}, "options": {}, "peaks": []}, [RESULT], tmp_path / "table.json")
    content = json.loads((tmp_path / "table.json").read_text())
    (result,) = content["results"]
    readme = Path(machine.__file__).with_name("README.md").read_text()
    parts = [content, result, result["times"][0], result["ratios"][0], content["means"][0]]
    assert all(f"`{field}`" in readme for part in parts for field in part)
    assert content["format"] == 1
    assert len(result["times"]) == 9
    write_csv([RESULT], tmp_path / "table.csv")
    with (tmp_path / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert (rows[4]["engine"], rows[4]["variant"], rows[4]["threads"], rows[4]["median"]) == (
        "torch",
        "cell",
        "2",
        "3.0",
    )


# The program


@needs_cc
def test_the_program_measures_writes_and_sums_up(
    alone: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "table.json"
    monkeypatch.setattr("sys.argv", ["bench", "--quick", "--suite=deepbench", "--dtype=float32", "--threads=1",
                                     "--budget=0.001", f"--json={path}"])  # fmt: skip
    with pytest.raises(SystemExit, match="0"):
        program.main()
    output, content = capsys.readouterr().out, json.loads(path.read_text())
    assert [result["shape"] for result in content["results"]] == [
        "RNN_RELU H=32 T=672",
        "LSTM H=256 T=150",
        "GRU H=512 T=1",
    ]
    assert "GTX 1080 Ti, 2017" in output
    assert content["options"]["sets"] == ["deepbench"]
    assert content["peaks"][0]["threads"] == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--suite", "step,steps"], "got steps"),
        (["--dtype", "float16"], "expected some of float32, bfloat16, int8"),
        (["--threads", "0"], "expected numbers from 1"),
        (["--threads", "1,9999"], "expected at most"),
    ],
)
def test_a_wrong_argument_is_an_error_that_says_what_is_known(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        program.parse_arguments(arguments)
    assert said in capsys.readouterr().err


@needs_cc
def test_steps_in_c_are_timed_for_every_size() -> None:
    times = native.c_steps(1)
    assert {cell for cell, _ in times} == {"lstm", "gru"}
    assert all(0 < timing.median < 1e3 for timing in times.values())
