"""Each example runs, is as good as it says, and gives PyTorch's numbers."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gated_c as gc
from gated_c.tolerance import tolerance

EXAMPLES = Path(__file__).parents[1] / "examples"
DATA_FROM = {"digits": "sklearn", "sunspots": "statsmodels", "co2": "statsmodels"}
NETWORKS = [*DATA_FROM, "denoise"]

#: Whether this machine runs an instruction set under the promise of equal bits.
IS_EXACT = any(isa.exact for isa in gc.cpu_info().isas if isa.name == gc.cpu_info().chosen)

Run = Callable[[str], str]


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(EXAMPLES)


def load(name: str) -> Any:
    """The module of an example."""
    if name in DATA_FROM:
        pytest.importorskip(DATA_FROM[name])
    return import_module(name)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run an example: what it prints."""

    def run(name: str) -> str:
        load(name).main()
        return capsys.readouterr().out

    return run


def number(before: str, text: str) -> float:
    """The number after a piece of text that is there once."""
    (found,) = re.findall(re.escape(before) + r" *([\d.]+)", text)
    return float(found)


def test_digits_are_read_right(run: Run) -> None:
    printed = run("digits")
    assert number("right:", printed) > 95.5
    assert "µs per step" in printed


def test_sunspots_are_forecast_better_than_by_the_baselines(run: Run) -> None:
    printed = run("sunspots")
    network = number("one year ahead:", printed)
    assert network < 17
    assert network < number("autoregression:", printed)
    assert network < number("as the year before:", printed)
    fed_back = number("fed back:", printed)
    assert fed_back < 26
    assert fed_back < number("as 11 years before:", printed)
    assert "µs per step" in printed


def test_co2_gaps_are_filled_better_than_by_the_baselines(run: Run) -> None:
    printed = run("co2")
    network = number("network:", printed)
    assert network < 0.53
    assert network < number("straight line:", printed)
    assert network < number("as the year before:", printed)
    assert "µs per step" in printed


def test_noise_is_taken_out_better_than_by_the_best_fixed_filter(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["denoise.py"])
    printed = run("denoise")
    rows = [tuple(map(float, row)) for row in re.findall(r"^ +(-?[\d.]+) +([\d.]+) +([\d.]+)$", printed, re.MULTILINE)]
    assert len(rows) == 3
    for (noisy, network, rival), at_least in zip(rows, [9.0, 12.3, 15.2], strict=True):
        assert network > max(at_least, rival, noisy)
    assert "µs per step" in printed


def test_the_denoiser_flushes_what_fades_in_silence() -> None:
    assert gc.load(EXAMPLES / "denoise.gated").flush_subnormals


def test_an_amplifier_gives_the_same_samples_from_either_file_however_they_are_cut(run: Run) -> None:
    printed = run("amp")
    assert number("error to signal:", printed) < 1
    assert printed.count("the same samples") == 3
    assert "OTHER" not in printed
    assert "µs per sample" in printed


@pytest.mark.skipif(not IS_EXACT, reason="needs an instruction set whose bits are those of the figures")
def test_the_readme_says_what_narrow_weights_cost_the_examples(run: Run) -> None:
    for name in DATA_FROM:
        load(name)
    assert run("narrow") in (EXAMPLES / "README.md").read_text()


@pytest.mark.skipif(not IS_EXACT, reason="needs an instruction set whose bits are those of the figures")
def test_the_readme_shows_the_comparison_that_is_printed() -> None:
    x, _ = load("digits").held_out()
    model = gc.load(EXAMPLES / "digits.gated")
    assert str(gc.compare(model, model.to("int8"), x)) in (EXAMPLES.parent / "README.md").read_text()


@pytest.mark.parametrize("file", ["amp.nam", "amp.json"])
def test_an_amplifier_gives_the_samples_of_torch(file: str) -> None:
    torch = pytest.importorskip("torch")
    model = gc.load(EXAMPLES / file)
    lstm, dense = model.layers[0], model.layers[-1]
    weights = lstm.weights
    initial = [weights.get(f"initial_{part}_l0", np.zeros(lstm.hidden_size, np.float32)) for part in "hc"]
    network = import_module("amp_train").Network()
    network.lstm.load_state_dict({name: torch.tensor(weights[name]) for name in network.lstm.state_dict()})
    network.dense.load_state_dict({"weight": torch.tensor(dense.weight), "bias": torch.tensor(dense.bias)})

    x = import_module("tones").tones(np.random.default_rng(4), 1, 10_000, 48000)[0][:, None]
    with torch.inference_mode():
        outputs, _ = network.lstm(torch.tensor(x), tuple(torch.tensor(part)[None] for part in initial))
        expected = network.dense(outputs).numpy()
    y, _ = model(x)
    assert np.abs(y - expected).max() < tolerance(model.layers, x, expected)


def inputs(name: str, example: Any) -> Any:
    """All the data of an example as its network sees it."""
    if name == "digits":
        return example.load_images()[0]
    if name == "sunspots":
        return example.load_sunspots()[1][:, None, None] / example.SCALE
    if name == "denoise":
        return example.windows(example.tones(np.random.default_rng(4), 10, example.RATE, example.RATE)).copy()
    return example.features(example.windows(example.load_co2()[1]))


@pytest.mark.parametrize("name", NETWORKS)
def test_the_engine_gives_the_numbers_of_torch(name: str) -> None:
    torch = pytest.importorskip("torch")
    x = inputs(name, load(name))
    model = gc.load(EXAMPLES / f"{name}.gated")
    network = import_module(f"{name}_train").Network()
    weights = {f"{layer.name}.{key}": weight for layer in model.layers for key, weight in layer.weights.items()}
    network.load_state_dict({key: torch.from_numpy(weight.copy()) for key, weight in weights.items()})
    with torch.inference_mode():
        expected = network(torch.from_numpy(x)).numpy()
    y, _ = model(x)
    assert np.abs(y - expected).max() < tolerance(model.layers, x, expected)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_file_holds_the_layers_of_the_network(name: str) -> None:
    pytest.importorskip("torch")
    load(name)
    saved = gc.load(EXAMPLES / f"{name}.gated")
    network = gc.from_torch(import_module(f"{name}_train").Network())
    assert [repr(layer) for layer in network.layers] == [repr(layer) for layer in saved.layers]


@pytest.mark.parametrize("name", DATA_FROM)
def test_a_missing_package_is_named_with_its_pip_line(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setitem(sys.modules, f"{DATA_FROM[name]}.datasets", None)
    monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(SystemExit, match=r'pip install -e "\.\[examples\]"'):
        import_module(name)
