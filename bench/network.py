"""Whole networks, loaded from the file that their framework wrote: one sequence through a tagger and a classifier."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

import gated_c
from bench import engine, peers
from bench.case import Case
from bench.contest import Options, Task, Watch, contest
from bench.measure import Entrant
from bench.oracle import FLOAT32_TOLERANCE
from bench.table import Result
from gated_c.spec import Array
from tests.reference import chain

STEPS = 100

#: (input_size, hidden_size) of a recurrent layer with a dense one behind it.
SIZES = [(8, 32), (64, 64), (64, 256)]


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


class NetworkOracle:
    """The float64 answer of a chain of layers, time-major, as the shape [batch, ...] that networks give."""

    def __init__(self, model: gated_c.Model, x: Any) -> None:
        expected, _ = chain(model.layers, x.swapaxes(0, 1))  # type: ignore[no-untyped-call]
        self.inputs = [x]
        self.expected = [expected.swapaxes(0, 1) if model.gives == "sequence" else expected[0]]

    def tolerance(self, dtype: str) -> float:
        return FLOAT32_TOLERANCE


def tasks(options: Options) -> Iterator[Task]:
    modules = peers.installed()
    if "torch" in modules and "onnxruntime" in modules:
        for cell in ("lstm", "gru"):
            for sizes in SIZES[1:2] if options.quick else SIZES:
                case = Case(cell, *sizes, seq_len=STEPS)
                yield Task("network", f"ONNX, {case}", partial(from_onnx, case, options))
    if "keras" in modules:
        yield Task("network", "Keras", partial(from_keras, options))


def from_onnx(case: Case, options: Options, watch: Watch) -> list[Result]:
    """A recurrent layer and a dense one, exported by PyTorch."""
    import onnxruntime
    import torch

    torch.manual_seed(0)
    module = tagger(case).eval()
    x = torch.randn(1, STEPS, case.input_size)
    with TemporaryDirectory() as folder:
        path = Path(folder, "network.onnx")
        torch.onnx.export(module, (x,), os.fspath(path), dynamo=False, input_names=["x"], opset_version=17)
        model, content = gated_c.load(path), path.read_bytes()
    array = x.numpy()

    def in_onnxruntime(threads: int) -> Call:
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads, settings.inter_op_num_threads = threads, 1
        session = onnxruntime.InferenceSession(content, settings, providers=["CPUExecutionProvider"])
        return Call(lambda: session.run(None, {"x": array})[0])

    def in_torch(threads: int) -> Call:
        @torch.inference_mode()
        def call() -> Any:
            torch.set_num_threads(threads)
            return module(x)

        return Call(call)

    starts = {"onnxruntime": in_onnxruntime, "torch": in_torch}
    return [compare(f"{case.cell.upper()} {case.input_size}-{case.hidden_size}-10 T={STEPS}, from ONNX",
                    case, model, array, starts, options, watch)]  # fmt: skip


def compare(
    shape: str,
    case: Case,
    model: gated_c.Model,
    x: Any,
    starts: Mapping[str, Callable[[int], Call]],
    options: Options,
    watch: Watch,
) -> Result:
    """µs per call."""
    several = {} if engine.why_not(engine.FLOAT32, 2) else {"threads"}
    entrants = [
        engine.entrant(partial(Call, partial(first, model, x, dict.fromkeys(several, count))), engine.FLOAT32, count)
        for count in (options.threads if several else [1])
    ]
    for name, start in starts.items():
        peer, _, variant = name.partition(" ")
        entrants += [Entrant(peer, partial(start, count), variant=variant, threads=count) for count in options.threads]
    oracle = NetworkOracle(model, x)
    options = replace(options, peaks={})  # the bound of a layer is not that of a network
    result = contest("network", case, entrants, options, watch, "µs per call", 1, oracle=oracle)
    return replace(result, shape=shape)


def first(model: gated_c.Model, x: Any, arguments: dict[str, Any]) -> Any:
    return model(x, **arguments)[0]


def tagger(case: Case) -> Any:
    """A class for each step, from PyTorch."""
    import torch

    class Tagger(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            kind = torch.nn.LSTM if case.cell == "lstm" else torch.nn.GRU
            self.recurrent = kind(case.input_size, case.hidden_size, batch_first=True)
            self.dense = torch.nn.Linear(case.hidden_size, 10)

        def forward(self, x: Any) -> Any:
            return torch.softmax(self.dense(self.recurrent(x)[0]), -1)

    return Tagger()


def from_keras(options: Options, watch: Watch) -> list[Result]:
    """A text classifier, one text at a time."""
    import keras
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    keras.utils.set_random_seed(0)
    network = keras.Sequential(
        [
            keras.layers.Input((STEPS,)),
            keras.layers.Embedding(1000, 32, mask_zero=True),
            keras.layers.Bidirectional(keras.layers.LSTM(64)),
            keras.layers.Dense(4, activation="softmax"),
        ]
    )
    ids = np.random.default_rng(0).integers(1, 1000, (1, STEPS))
    ids[:, STEPS // 2 :] = 0
    with TemporaryDirectory() as folder:
        path = Path(folder, "network.keras")
        network.save(path)
        model = gated_c.load(path)
    compiled, tensor = tf.function(network), tf.constant(ids)
    starts: dict[str, Callable[[int], Call]] = {
        "keras predict": lambda threads: Call(partial(network.predict, ids, verbose=0)),
        "keras predict_on_batch": lambda threads: Call(partial(network.predict_on_batch, ids)),
        "keras": lambda threads: Call(lambda: compiled(tensor)),
    }
    shape = f"BiLSTM 32-64-4 T={STEPS}, from Keras"
    options = replace(options, threads=(1,))
    return [compare(shape, Case("lstm", 32, 64, 1, STEPS, bidirectional=True), model, ids, starts, options, watch)]
