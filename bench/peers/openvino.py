"""OpenVINO: the Cell operation for a single step, the Sequence operation for more, on preset tensors.

In bfloat16 by its precision hint. In int8 with FakeQuantize around x, the initial h and the weights, which the plug-in
turns into oneDNN's int8 LSTM, with fixed scales.
"""

from __future__ import annotations

from functools import partial
from itertools import cycle, islice
from typing import Any

import numpy as np
import openvino as ov
from openvino import opset15 as ops

from bench.case import Case
from bench.oracle import CALLS
from bench.peers import Ways
from gated_c.spec import Array

VERSION = ov.__version__.split("-")[0]

#: It sees to the CPUs of its threads itself, which costs 2 µs a call where the caller is pinned, or it pins.
PINNED = False

#: OpenVINO's gate order, as places in PyTorch's: f i g o, and z r n.
GATE_ORDER = {"lstm": (1, 0, 2, 3), "gru": (1, 0, 2), "rnn_tanh": (0,), "rnn_relu": (0,)}


def ways(case: Case, dtype: str) -> Ways:
    if case.lengths or case.resets is not None:
        return {}
    if dtype == "int8" and case.cell != "lstm":
        return {"": "oneDNN has no int8 primitive for this GRU, nor for an RNN"}
    if dtype == "int8" and (case.num_layers > 1 or case.bidirectional):
        return {"": "its int8 LSTM takes one layer and direction"}
    return {"": partial(Requests, case, dtype)}


class Requests:
    """Two requests in turn: the state that one writes is the state that the other reads."""

    def __init__(self, case: Case, dtype: str, threads: int) -> None:
        self.is_step = case.seq_len == case.num_layers == case.num_directions == 1 and dtype != "int8"
        graph = cell_graph(case) if self.is_step else sequence_graph(case, dtype)
        options = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": threads,
            "ENABLE_CPU_PINNING": False,
            "INFERENCE_PRECISION_HINT": "bf16" if dtype == "bfloat16" else "f32",
        }
        compiled = ov.Core().compile_model(graph, "CPU", options)
        self.x = np.zeros(compiled.input(0).shape, np.float32)
        self.y = np.zeros(compiled.output(0).shape, np.float32)
        shape = compiled.input(1).shape
        count = len(compiled.inputs) - 1
        states = [[ov.Tensor(np.zeros(shape, np.float32)) for _ in range(count)] for _ in range(2)]
        self.turns = cycle([self.request(compiled, *states), self.request(compiled, *reversed(states))])

    def request(self, compiled: ov.CompiledModel, before: list[ov.Tensor], after: list[ov.Tensor]) -> ov.InferRequest:
        request = compiled.create_infer_request()
        inputs = [ov.Tensor(self.x, shared_memory=True), *before]
        outputs = after if self.is_step else [ov.Tensor(self.y, shared_memory=True), *after]
        for place, tensor in enumerate(inputs):
            request.set_input_tensor(place, tensor)
        for place, tensor in enumerate(outputs):
            request.set_output_tensor(place, tensor)
        return request

    def write(self, x: Array) -> None:
        self.x[:] = x[0] if self.is_step else x.swapaxes(0, 1)

    def run(self, times: int) -> None:
        for request in islice(self.turns, times):
            request.infer(share_outputs=True)
        self.last = request.get_output_tensor(0)

    def read(self) -> Array:
        y: Array = self.last.data
        return y[None] if self.is_step else y.swapaxes(0, 1)


def cell_graph(case: Case) -> ov.Model:
    """x [N, C] and states [N, H] to the next states: h is the output."""
    x = ops.parameter([case.batch, case.input_size], np.float32)
    states = [ops.parameter([case.batch, case.hidden_size], np.float32) for _ in case.states]
    weights = [ops.constant(array[0]) for array in layers_of(case)[0]]
    if case.cell == "lstm":
        node = ops.lstm_cell(x, *states, *weights, case.hidden_size)
    elif case.cell == "gru":
        node = ops.gru_cell(x, *states, *weights, case.hidden_size, linear_before_reset=True)
    else:
        node = ops.rnn_cell(x, *states, *weights, case.hidden_size, [case.cell[4:]])
    return ov.Model(node.outputs(), [x, *states])


def sequence_graph(case: Case, dtype: str) -> ov.Model:
    """x [N, T, C] and states [N, D, H] of each layer to y [N, T, D*H] and the last states."""
    x = y = ops.parameter([case.batch, case.seq_len, case.input_size], np.float32)
    lengths = ops.constant(np.full(case.batch, case.seq_len, np.int32))
    inputs, after = [x], []
    for arrays in layers_of(case):
        states = [ops.parameter([case.batch, case.num_directions, case.hidden_size], np.float32) for _ in case.states]
        inputs += states
        weights = [ops.constant(array) for array in arrays]
        h = states[0]
        if dtype == "int8":
            y, h, weights = quantized(case, y, h, arrays)
        node = sequence(case, y, [h, *states[1:]], lengths, weights)
        y = ops.reshape(ops.transpose(node.output(0), [0, 2, 1, 3]), [case.batch, case.seq_len, -1], False)
        after += node.outputs()[1:]
    return ov.Model([y.output(0), *after], inputs)


def sequence(case: Case, x: Any, states: list[Any], lengths: Any, weights: list[Any]) -> Any:
    size, direction = case.hidden_size, "bidirectional" if case.bidirectional else "forward"
    if case.cell == "lstm":
        return ops.lstm_sequence(x, *states, lengths, *weights, size, direction)
    if case.cell == "gru":
        return ops.gru_sequence(x, *states, lengths, *weights, size, direction, linear_before_reset=True)
    return ops.rnn_sequence(x, *states, lengths, *weights, size, direction, [case.cell[4:]])


def quantized(case: Case, x: Any, h: Any, arrays: list[Array]) -> tuple[Any, Any, list[Any]]:
    """x, h and the weights of a layer with FakeQuantize around them. oneDNN has one scale for x and h, and one for a
    row of W and R: x comes out divided by the largest, so that it fills the range of h, W multiplied by it."""
    w, r, b = arrays
    largest = largest_input(case)
    w = largest * w
    row = np.maximum(*(np.abs(array).max(2, keepdims=True) for array in (w, r)))
    weights = [fake_quantize(ops.constant(array), -row, row, -row, row, 255) for array in (w, r)]
    x = fake_quantize(x, -largest * 128 / 127, largest, -128 / 127, 1, 256)
    h = fake_quantize(h, -128 / 127, 1, -128 / 127, 1, 256)
    return x, h, [*weights, ops.constant(b)]


def fake_quantize(node: Any, low: Any, high: Any, low_out: Any, high_out: Any, levels: int) -> Any:
    bounds = [ops.constant(np.asarray(bound, np.float32)) for bound in (low, high, low_out, high_out)]
    return ops.fake_quantize(node, *bounds, levels)


def largest_input(case: Case) -> float:
    return max(float(np.abs(case.inputs(seed)).max()) for seed in range(CALLS))


def layers_of(case: Case) -> list[list[Array]]:
    """Of each layer W [D, G*H, C], R [D, G*H, H] and B: the sum of the biases, but for the GRU's last gate, which keeps
    both."""
    return [[w, r, biases(case, b_w, b_r)] for w, r, b_w, b_r in case.weights_in(GATE_ORDER[case.cell])]


def biases(case: Case, b_w: Array, b_r: Array) -> Array:
    if case.cell != "gru":
        return b_w + b_r
    last = slice(2 * case.hidden_size, None)
    return np.concatenate([(b_w + b_r)[:, : last.start], b_w[:, last], b_r[:, last]], 1)
