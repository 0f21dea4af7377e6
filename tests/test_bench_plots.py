"""Figures of made-up results show those numbers, and are the same bytes each time."""

from xml.etree import ElementTree

import pytest

from bench import latency, saved, series
from bench.case import Case
from tests import made_up_results
from tests.made_up_results import RESULTS, published, result, step, time

plots = pytest.importorskip("bench.plots", reason="needs matplotlib", exc_type=ImportError)


def test_results_are_read_as_they_were_written(tmp_path):
    found = saved.read(made_up_results.write(tmp_path / "results.json"))
    assert list(found.results) == RESULTS
    assert found.about == made_up_results.ABOUT


@pytest.mark.parametrize("content", ['{"format": 0}', "{}", "[]"])
def test_another_format_is_an_error(content, tmp_path):
    (tmp_path / "results.json").write_text(content)
    with pytest.raises(ValueError, match=r"results\.json: expected results of format 1, got (0|none)$"):
        saved.read(tmp_path / "results.json")


def test_ratios_are_those_to_peers_of_the_same_precision():
    alone, together, narrow = series.ratios([step(16)])
    assert (alone.set, alone.precision, alone.threads) == ("step", "float32", 1)
    assert alone.rows[0].peers == {"torch": 2, "litert": 3}
    assert alone.rows[0].best == "torch"
    assert together.rows[0].peers == pytest.approx({"torch": 0.75, "litert": 4.5})
    assert (narrow.precision, narrow.rows[0].peers) == ("int8", {"litert": 2})


def test_shapes_without_a_peer_have_no_ratio():
    assert list(series.ratios([published(256)])) == []


def test_a_sweep_takes_the_square_layers_of_plain_sets():
    ragged = result("ragged", 32, [time(1)], seq_len=128)
    assert list(series.sweep([*RESULTS, ragged], "lstm", 1, steps=False)) == [16, 64]
    assert list(series.sweep(RESULTS, "lstm", 1, steps=True)) == [16, 64]
    assert series.sweep(RESULTS, "gru", 1, steps=True) == {}


@pytest.mark.parametrize("case", [{"input_size": 1}, {"num_layers": 2}, {"bidirectional": True}])
def test_other_layers_are_not_square(case):
    assert not series.is_square(result("step", 16, [], case=case))


def test_latencies_are_those_of_one_thread_in_one_precision():
    steps, _ = series.latencies(RESULTS, "float32")
    assert steps.title == "LSTM, one step"
    assert {curve.label: curve.values for curve in steps.curves} == {
        "gated_c": [1, 4],
        "roofline": [0.8, 3.2],
        "litert": [3, 12],
        "torch": [2, 8],
    }
    assert [curve.role for curve in steps.curves] == ["engine", "bound", "peer", "peer"]


def test_latencies_in_a_sequence_take_the_best_way_of_a_peer():
    _, sequence = series.latencies(RESULTS, "float32")
    assert sequence.title == "LSTM, in a sequence"
    assert {curve.label: curve.values for curve in sequence.curves} == {"gated_c": [2, 9], "torch": [3, 8]}


def test_other_inputs_are_a_curve_of_their_own():
    (steps,) = series.latencies(RESULTS, "int8")
    values = {curve.label: curve.values for curve in steps.curves}
    assert values == {"gated_c": [0.5, 2], "gated_c inputs float32": [0.25, 1], "litert": [1, 4]}


def test_nothing_is_drawn_of_one_size():
    assert series.latencies([step(16)], "float32") == []
    assert series.speedups([step(16)]) == []


def test_speedups_are_of_two_threads_over_one():
    (panel,) = series.speedups(RESULTS)
    assert (panel.title, [curve.label for curve in panel.curves]) == ("LSTM, float32", ["one step"])
    assert panel.curves[0].values == pytest.approx([1.5, 1.5])


def test_published_times_stand_beside_the_engine_at_its_best():
    (beside,) = series.published(RESULTS)
    assert (beside.set, beside.names) == ("deepbench", ["gated_c, float32", "gated_c, int8", "Titan Xp"])
    assert beside.bars[0].times == {"gated_c, float32": 20, "gated_c, int8": 10, "Titan Xp": 30}


def test_a_spread_counts_every_step_and_is_read_as_written(tmp_path):
    spread = latency.spread(Case("gru", 2, 3), steps=100)
    assert sum(spread.counts) == 100
    assert len(spread.edges) == len(spread.counts) + 1
    assert spread.edges[0] <= spread.percentiles["p50"] <= spread.percentiles["max"] < spread.edges[-1]
    latency.write({}, [spread], tmp_path / "latency.json")
    assert latency.read(tmp_path / "latency.json") == [spread]


SPREAD = latency.Spread("GRU H=64", 12, [500, 600, 700], [10, 2], {"p50": 510, "p99": 600, "p99.9": 640, "max": 650})


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    return plots.write(RESULTS, [SPREAD, SPREAD], tmp_path_factory.mktemp("plots"))


def test_figures_are_svg_of_the_same_bytes_each_time(drawn, tmp_path):
    assert [path.name for path in drawn] == [
        "ratios-step-float32-1-thread.svg",
        "ratios-step-float32-2-threads.svg",
        "ratios-step-int8-1-thread.svg",
        "ratios-sequence-float32-1-thread.svg",
        "size-float32.svg",
        "size-int8.svg",
        "spread.svg",
        "threads.svg",
        "published-deepbench.svg",
    ]
    for path, again in zip(drawn, plots.write(RESULTS, [SPREAD, SPREAD], tmp_path), strict=True):
        assert path.read_bytes() == again.read_bytes()
        assert ElementTree.parse(path).getroot().tag.endswith("svg")
        assert "<dc:date>" not in path.read_text()


def test_figures_name_what_they_show(drawn):
    texts = {path.stem: path.read_text() for path in drawn}
    assert "0.750x torch" in texts["ratios-step-float32-2-threads"]
    assert "Titan Xp" in texts["published-deepbench"]
    assert "roofline" in texts["size-float32"]
    assert "p99.9 0.640" in texts["spread"]


def test_a_peer_looks_the_same_in_every_figure():
    styles = plots.styles_of(["torch", "litert", "torch"])
    assert styles == plots.styles_of(["litert", "torch"])
    assert styles["torch"] != styles["litert"]


def test_the_command_draws_a_file(tmp_path, monkeypatch, capsys):
    path = made_up_results.write(tmp_path / "results.json", RESULTS[-1:])
    monkeypatch.setattr("sys.argv", ["plots", str(path), "--out", str(tmp_path / "plots")])
    plots.main()
    assert capsys.readouterr().out == f"{tmp_path / 'plots' / 'published-deepbench.svg'}\n"
    assert (tmp_path / "plots" / "published-deepbench.svg").exists()
