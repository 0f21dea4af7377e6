"""OpenVINO: the Cell operation for a single step, the Sequence operation for more, on preset tensors."""

from __future__ import annotations

from itertools import cycle, islice

import numpy as np
import openvino as ov
from openvino import opset15 as ops

from bench.case import Case
from bench.measure import Runner
from gated_c.spec import Array

VERSION = ov.__version__.split("-")[0]

#: OpenVINO's gate order, as places in PyTorch's: f i g o, and z r n.
GATE_ORDER = {"lstm": (1, 0, 2, 3), "gru": (1, 0, 2)}

ONE_THREAD = {
    "PERFORMANCE_HINT": "LATENCY",
    "NUM_STREAMS": 1,
    "INFERENCE_NUM_THREADS": 1,
    "INFERENCE_PRECISION_HINT": "f32",
}


def runners(case: Case) -> dict[str, Runner]:
    return {} if case.lengths else {"openvino": Requests(case)}


class Requests:
    """Two requests in turn: the state that one writes is the state that the other reads."""

    def __init__(self, case: Case) -> None:
        graph = cell_graph(case) if case.seq_len == 1 else sequence_graph(case)
        compiled = ov.Core().compile_model(graph, "CPU", ONE_THREAD)
        self.x = np.zeros(compiled.input(0).shape, np.float32)
        self.y = np.zeros(compiled.output(0).shape, np.float32)
        self.is_step = case.seq_len == 1
        shape = compiled.input(1).shape
        states = [[ov.Tensor(np.zeros(shape, np.float32)) for _ in case.states] for _ in range(2)]
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
        return y[None] if self.is_step else y[:, 0].swapaxes(0, 1)


def cell_graph(case: Case) -> ov.Model:
    """x [N, C] and states [N, H] to the next states: h is the output."""
    x = ops.parameter([case.batch, case.input_size], np.float32)
    states = [ops.parameter([case.batch, case.hidden_size], np.float32) for _ in case.states]
    weights = [ops.constant(array) for array in weights_of(case)]
    if case.cell == "lstm":
        node = ops.lstm_cell(x, *states, *weights, case.hidden_size)
    else:
        node = ops.gru_cell(x, *states, *weights, case.hidden_size, linear_before_reset=True)
    return ov.Model(node.outputs(), [x, *states])


def sequence_graph(case: Case) -> ov.Model:
    """x [N, T, C] and states [N, 1, H] to y [N, 1, T, H] and the last states."""
    x = ops.parameter([case.batch, case.seq_len, case.input_size], np.float32)
    states = [ops.parameter([case.batch, 1, case.hidden_size], np.float32) for _ in case.states]
    lengths = ops.constant(np.full(case.batch, case.seq_len, np.int32))
    weights = [ops.constant(array[None]) for array in weights_of(case)]
    if case.cell == "lstm":
        node = ops.lstm_sequence(x, *states, lengths, *weights, case.hidden_size, "forward")
    else:
        node = ops.gru_sequence(x, *states, lengths, *weights, case.hidden_size, "forward", linear_before_reset=True)
    return ov.Model(node.outputs(), [x, *states])


def weights_of(case: Case) -> tuple[Array, Array, Array]:
    """W [G*H, C], R [G*H, H] and B: the sum of the biases, but for the GRU's last gate, which keeps both."""
    w, r, b_w, b_r = case.weights_in(GATE_ORDER[case.cell])
    if case.cell == "lstm":
        return w, r, b_w + b_r
    last = slice(2 * case.hidden_size, None)
    return w, r, np.concatenate([(b_w + b_r)[: last.start], b_w[last], b_r[last]])
