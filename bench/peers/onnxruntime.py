"""ONNX Runtime: the LSTM or GRU operator, called through IOBinding on preallocated buffers."""

from __future__ import annotations

from itertools import cycle, islice

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from bench.case import Case
from bench.measure import Runner
from gated_c.spec import Array

VERSION = ort.__version__

#: ONNX's gate order, as places in PyTorch's: i o f g, and z r n.
GATE_ORDER = {"lstm": (0, 3, 1, 2), "gru": (1, 0, 2)}


def runners(case: Case) -> dict[str, Runner]:
    return {"onnxruntime": Session(case)}


class Session:
    """Two bindings in turn: the state that one writes is the state that the other reads."""

    def __init__(self, case: Case, session: ort.InferenceSession | None = None) -> None:
        self.session = session or inference_session(case)
        self.x = np.zeros((case.seq_len, case.batch, case.input_size), np.float32)
        self.y = np.zeros((case.seq_len, 1, case.batch, case.hidden_size), np.float32)
        states = [
            {name: shared(np.zeros((1, case.batch, case.hidden_size), np.float32)) for name in case.states}
            for _ in range(2)
        ]
        self.turns = cycle([self.binding(*states), self.binding(*reversed(states))])

    def binding(self, before: dict[str, ort.OrtValue], after: dict[str, ort.OrtValue]) -> ort.IOBinding:
        binding = self.session.io_binding()
        binding.bind_ortvalue_input("x", shared(self.x))
        binding.bind_ortvalue_output("y", shared(self.y))
        for name in before:
            binding.bind_ortvalue_input(f"{name}_0", before[name])
            binding.bind_ortvalue_output(f"{name}_n", after[name])
        return binding

    def write(self, x: Array) -> None:
        self.x[:] = x

    def run(self, times: int) -> None:
        run = self.session.run_with_iobinding
        for binding in islice(self.turns, times):
            run(binding)

    def read(self) -> Array:
        return self.y[:, 0]


def inference_session(case: Case) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return ort.InferenceSession(graph(case), options, providers=["CPUExecutionProvider"])


def shared(array: Array) -> ort.OrtValue:
    """The array itself as an OrtValue: on the CPU nothing is copied."""
    return ort.OrtValue.ortvalue_from_numpy(array)


def graph(case: Case) -> bytes:
    """A serialized model of one node, its initial and final states inputs and outputs of the graph."""
    state_shape = (1, case.batch, case.hidden_size)
    weights = dict(zip(("W", "R", "B"), weights_of(case), strict=True))
    if case.lengths:
        weights["lengths"] = np.array(case.lengths, np.int32)
    node = helper.make_node(
        case.cell.upper(),
        ["x", "W", "R", "B", "lengths" if case.lengths else "", *(f"{name}_0" for name in case.states)],
        ["y", *(f"{name}_n" for name in case.states)],
        hidden_size=case.hidden_size,
    )
    if case.cell == "gru":
        node.attribute.append(helper.make_attribute("linear_before_reset", 1))
    inputs = {"x": (case.seq_len, case.batch, case.input_size)} | {f"{name}_0": state_shape for name in case.states}
    outputs = {"y": (case.seq_len, *state_shape)} | {f"{name}_n": state_shape for name in case.states}
    model = helper.make_graph(
        [node],
        case.cell,
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    opset = [helper.make_opsetid("", 14)]
    return helper.make_model(model, opset_imports=opset, ir_version=8).SerializeToString()  # type: ignore[no-any-return]


def weights_of(case: Case) -> tuple[Array, Array, Array]:
    """ONNX's W [1, G*H, C], R [1, G*H, H] and B [1, 2*G*H]."""
    w, r, b_w, b_r = case.weights_in(GATE_ORDER[case.cell])
    return w[None], r[None], np.concatenate([b_w, b_r])[None]
