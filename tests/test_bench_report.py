"""Tables are written from a results file, into the places that a page keeps for them."""

import re
from pathlib import Path

import pytest

from bench import report
from bench.latency import Spread
from bench.saved import Saved
from bench.table import Skip
from tests import made_up_results
from tests.made_up_results import ABOUT, RESULTS, published, result, step, time

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"


def saved(*results):
    return Saved(ABOUT, results)


def test_a_set_is_a_table_of_one_thread_and_what_else_was_timed():
    assert list(report.set_table([step(16)], "float32")) == [
        "| shape | gated_c, µs per step | fastest peer | faster | roofline | 2 threads |",
        "|---|---|---|---|---|---|",
        "| LSTM H=16 B=1 T=1 | 1.00 ±15% | torch 2.00 | 2.00x | 80% | 0.667 ±15%, 0.75x torch, 60% |",
    ]
    assert list(report.set_table([step(16)], "int8"))[::2] == [
        "| shape | gated_c, µs per step | fastest peer | faster | roofline | inputs float32 |",
        "| LSTM H=16 B=1 T=1 | 0.500 ±15% | litert 1.00 | 2.00x |  | 0.250 ±15%, 4.00x litert |",
    ]


def test_what_has_no_peer_stands_without():
    reference = result("pool", 64, [time(3), time(2.7, "dense batch", "reference")])
    assert list(report.set_table([reference], "float32"))[-1] == "| LSTM H=64 B=1 T=1 | 3.00 ±15% |  |  | 0.90x |"


def test_units_that_differ_stand_with_their_shapes():
    results = [result("startup", 1, [time(20)], unit="ms"), result("startup", 2, [time(3)], unit="MB")]
    header, _, first, _ = report.set_table(results, "float32")
    assert header == "| shape | gated_c | fastest peer | faster |"
    assert first == "| LSTM H=1 B=1 T=1, ms | 20.0 ±15% |  |  |"


def test_a_cell_is_empty_where_more_threads_gain_nothing():
    peers = [time(8, "torch", "peer"), time(9, "torch", "peer", threads=2)]
    other = result("step", 64, [time(4), time(5, threads=2), *peers])
    assert list(report.set_table([step(16), other], "float32"))[-1].endswith("| torch 8.00 | 2.00x |  |  |")


def test_what_was_disturbed_says_so():
    assert "T=1 (disturbed) |" in list(report.set_table([result("step", 16, [time(1)], cpu_share=0.8)], "float32"))[-1]


def test_means_are_over_the_shapes_of_a_set():
    lines = list(report.geometric_means(saved(step(16), step(64), published(256))))
    assert lines[0] == "| set | precision | fastest peer | litert | torch | roofline |"
    assert lines[2] == "| step | float32 | 2.00x (2) | 3.00x (2) | 2.00x (2) | 80% (2) |"
    assert lines[3] == "| step | float32, 2 threads | 0.75x (2) | 4.50x (2) | 0.75x (2) | 60% (2) |"
    assert not any("deepbench" in line for line in lines)


def test_losses_are_told_with_the_worst_first():
    assert list(report.losses(saved(*RESULTS)))[2:] == [
        "| step | LSTM H=16 B=1 T=1 | float32, 2 threads | 0.667 ±15% | torch 0.500 | 0.75x |",
        "| step | LSTM H=64 B=1 T=1 | float32, 2 threads | 2.67 ±15% | torch 2.00 | 0.75x |",
        "| sequence | LSTM H=64 B=1 T=128 | float32 | 9.00 ±15% | torch cell 8.00 | 0.89x |",
    ]


def test_no_losses_are_none():
    assert list(report.losses(saved(published(256)))) == ["None."]


def test_published_times_stand_beside_ours():
    assert list(report.published(saved(step(16), published(256)))) == [
        "| deepbench: µs per step | gated_c, float32 | gated_c, int8 | Titan Xp |",
        "|---|---|---|---|",
        "| LSTM H=256 B=1 T=50 | 20.0 | 10.0 | 30.0 |",
        "",
    ]


def test_what_was_skipped_is_counted_by_reason():
    odd = result(
        "sequence", 16, [time(1)], skipped=(Skip("openvino", "not installed"), Skip("jax", "a | b", dtype="int8"))
    )
    assert list(report.skipped(saved(step(16), step(64), odd)))[2:] == [
        "| openvino | float32 | not installed | step (2), sequence (1) |",
        r"| jax | int8 | a \| b | sequence (1) |",
    ]


def test_the_machine_and_the_options_are_told():
    lines = list(report.machine(saved()))
    assert "| cpu | Some CPU |" in lines
    assert "| threads | 1, 2 |" in lines


def test_percentiles_are_told_in_microseconds():
    spread = Spread("GRU  H=64", 10, [1, 2], [10], {"p50": 500.0, "p99": 600.0, "p99.9": 2000.0, "max": 123456.0})
    assert list(report.spread([spread]))[-1] == "| GRU H=64 | 0.500 | 0.600 | 2.00 | 123 |"


def test_narrow_formats_are_folded():
    lines = list(report.tables(saved(step(16)), []))
    assert lines.index("<details>") < lines.index("<summary>int8</summary>") < lines.index("</details>")
    assert "<details>" not in list(report.tables(saved(result("step", 16, [time(1)])), []))
    assert "<summary>bfloat16</summary>" not in lines


def test_peaks_are_told_by_threads():
    assert list(report.peaks(saved()))[::2] == [
        "| threads | float32, 10⁹/s | 16 KiB, GB/s | 4 MiB, GB/s |",
        "| 1 | 55.5 | 200 | 30.0 |",
    ]


def test_a_set_shows_its_figures_and_no_other():
    names = ("ratios-step-float32-1-thread", "ratios-step-deep-float32-1-thread", "threads")
    lines = list(report.tables(saved(step(16)), [Path("docs", "page", f"{name}.svg") for name in names]))
    shown = [line for line in lines if line.startswith("!")]
    assert shown == ["![ratios step float32 1 thread](page/ratios-step-float32-1-thread.svg)"]


def test_only_what_is_between_the_marks_is_replaced():
    page = "before\n<!-- begin a -->\nold\n<!-- end a -->\nafter\n<!-- begin b -->\n<!-- end b -->\n"
    filled = report.filled(page, {"a": "new\n", "b": r"\1" + "\n"})
    assert filled == page.replace("old", "new").replace("begin b -->\n", "begin b -->\n\\1\n")
    assert report.filled(filled, {"a": "new\n", "b": r"\1" + "\n"}) == filled


@pytest.mark.parametrize("page", ["", "<!-- begin a -->\n", "<!-- end a -->\n<!-- begin a -->\n"])
def test_a_page_without_the_marks_is_an_error(page):
    with pytest.raises(ValueError, match="expected <!-- begin a --> and then <!-- end a -->, once each"):
        report.filled(page, {"a": "new\n"})


def test_the_page_of_the_project_is_filled_by_the_command(tmp_path, monkeypatch):
    page = tmp_path / "benchmarks.md"
    page.write_text(PAGE.read_text())
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "threads.svg").touch()
    results = made_up_results.write(tmp_path / "results.json")
    monkeypatch.setattr("sys.argv", ["report", str(results), "--page", str(page)])
    report.main()
    assert "| step | LSTM H=16 B=1 T=1 | float32, 2 threads |" in page.read_text()
    assert "![threads](benchmarks/threads.svg)" in page.read_text()


def test_links_of_the_page_lead_somewhere():
    text = PAGE.read_text()
    headings = {
        re.sub(r"[^a-z0-9 ]", "", line.lstrip("# ").lower()).replace(" ", "-")
        for line in text.splitlines()
        if line[:1] == "#"
    }
    for link in re.findall(r"\]\(([^)]+)\)", text):
        if link.startswith("#"):
            assert link[1:] in headings
        elif not link.startswith("https://"):
            assert (PAGE.parent / link).exists(), link
