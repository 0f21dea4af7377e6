"""What does a whole network cost, loaded from the file that its framework wrote?"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

import gated_c
from bench.goals import ENGINE, Result
from bench.measure import Effort, measure
from gated_c.spec import Array

STEPS = 100

#: Hidden sizes: (input_size, hidden_size) of a recurrent layer with a dense one behind it.
SIZES = [(8, 32), (64, 64), (64, 256)]
ONNX_GOALS = {
    32: {"onnxruntime": 1.5},
    64: {"onnxruntime": 1.4},
    256: {"onnxruntime": 1.1},
}
KERAS_GOALS = {"predict": 50.0, "predict_on_batch": 10.0}


class Call:
    """A function of no arguments as a runner."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self.call = call

    def write(self, x: Array) -> None:
        """The call has its input already."""

    def run(self, times: int) -> None:
        call = self.call
        for _ in range(times):
            call()

    def read(self) -> Array:
        return np.asarray(self.call())


def results(quick: bool, effort: Effort) -> Iterator[Result]:
    with TemporaryDirectory() as folder:
        for cell in ("lstm", "gru"):
            for size in SIZES[1:2] if quick else SIZES:
                yield from onnx_results(cell, *size, Path(folder, "network.onnx"), effort)
        yield from keras_results(Path(folder, "network.keras"), effort)


def compare(
    work: str, shape: str, calls: dict[str, Callable[[], Any]], goals: dict[str, float], effort: Effort
) -> Result:
    """Check that all give the same to 1e-4 of float32, then time them: µs per call."""
    runners = {name: Call(call) for name, call in calls.items()}
    expected = runners[ENGINE].read()
    for name, runner in runners.items():
        np.testing.assert_allclose(runner.read().reshape(expected.shape), expected, rtol=1e-4, atol=1e-5, err_msg=name)
    times, cpu_share = measure(runners, effort)
    return Result(work, shape, "µs per call", times, goals, cpu_share)


def onnx_results(cell: str, input_size: int, hidden_size: int, path: Path, effort: Effort) -> Iterator[Result]:
    """A recurrent layer and a dense one, exported by PyTorch: one sequence through the graph."""
    try:
        import onnxruntime
        import torch
    except ImportError:
        return
    torch.manual_seed(0)
    module = tagger(cell, input_size, hidden_size).eval()
    x = torch.randn(1, STEPS, input_size)
    torch.onnx.export(module, (x,), os.fspath(path), dynamo=False, input_names=["x"], opset_version=17)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])
    model, array = gated_c.load(path), x.numpy()
    calls: dict[str, Callable[[], Any]] = {
        ENGINE: lambda: model(array)[0],
        "onnxruntime": lambda: session.run(None, {"x": array})[0],
        "torch": lambda: module(x).numpy(),
    }
    shape = f"{cell.upper():4} I={input_size:<4} H={hidden_size:<4} T={STEPS}"
    with torch.inference_mode():
        yield compare("network from ONNX, batch 1", shape, calls, ONNX_GOALS[hidden_size], effort)


def tagger(cell: str, input_size: int, hidden_size: int) -> Any:
    """A class for each step, from PyTorch."""
    import torch

    class Tagger(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            kind = torch.nn.LSTM if cell == "lstm" else torch.nn.GRU
            self.recurrent = kind(input_size, hidden_size, batch_first=True)
            self.dense = torch.nn.Linear(hidden_size, 10)

        def forward(self, x: Any) -> Any:
            return torch.softmax(self.dense(self.recurrent(x)[0]), -1)

    return Tagger()


def keras_results(path: Path, effort: Effort) -> Iterator[Result]:
    """A text classifier, one text at a time."""
    os.environ.setdefault("KERAS_BACKEND", "torch")
    try:
        import keras
    except ImportError:
        return
    keras.utils.set_random_seed(0)
    network = keras.Sequential(
        [
            keras.layers.Input((STEPS,)),
            keras.layers.Embedding(1000, 32, mask_zero=True),
            keras.layers.Bidirectional(keras.layers.LSTM(64)),
            keras.layers.Dense(4, activation="softmax"),
        ]
    )
    network.save(path)
    ids = np.random.default_rng(0).integers(1, 1000, (1, STEPS))
    ids[:, STEPS // 2 :] = 0
    model = gated_c.load(path)
    calls: dict[str, Callable[[], Any]] = {
        ENGINE: lambda: model(ids)[0],
        "predict": partial(network.predict, ids, verbose=0),
        "predict_on_batch": partial(network.predict_on_batch, ids),
    }
    yield compare("network from Keras, batch 1", f"BiLSTM H=64 T={STEPS}", calls, KERAS_GOALS, effort)
