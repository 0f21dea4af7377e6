"""ONNX Runtime: the LSTM, GRU or RNN operators, called through IOBinding on preallocated buffers.

Weights are prepacked as by default. In int8 ``quantize_dynamic`` makes DynamicQuantizeLSTM of an LSTM, with a scale for
each row of the weights.
"""

from __future__ import annotations

import logging
from functools import cache, partial
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from bench.case import Case
from bench.peers import Ways
from gated_c.spec import Array

VERSION = ort.__version__

#: ONNX's gate order, as places in PyTorch's: i o f g, and z r n.
GATE_ORDER = {"lstm": (0, 3, 1, 2), "gru": (1, 0, 2), "rnn_tanh": (0,), "rnn_relu": (0,)}


def ways(case: Case, dtype: str) -> Ways:
    if case.resets is not None:
        return {}
    if dtype == "bfloat16":
        return {"": "its CPU kernels of LSTM, GRU and RNN are float32"}
    if dtype == "int8" and case.cell != "lstm":
        return {"": "it has an int8 operator for LSTM alone"}
    return {"": partial(Session, case, dtype)}


class Session:
    """Two bindings in turn: the state that one writes is the state that the other reads."""

    def __init__(self, case: Case, dtype: str, threads: int, session: ort.InferenceSession | None = None) -> None:
        self.session = session or inference_session(case, dtype, threads)
        self.x = np.zeros((case.seq_len, case.batch, case.input_size), np.float32)
        self.y = np.zeros((case.seq_len, case.batch, case.num_directions * case.hidden_size), np.float32)
        shape = (case.num_directions, case.batch, case.hidden_size)
        states = [{name: shared(np.zeros(shape, np.float32)) for name in state_names(case)} for _ in range(2)]
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
        return self.y


def inference_session(case: Case, dtype: str, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    graph = model(case).SerializeToString() if dtype == "float32" else quantized(case)
    return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def shared(array: Array) -> ort.OrtValue:
    """The array itself as an OrtValue: on the CPU nothing is copied."""
    return ort.OrtValue.ortvalue_from_numpy(array)


def state_names(case: Case) -> list[str]:
    return [f"{name}{layer}" for layer in range(case.num_layers) for name in case.states]


@cache
def quantized(case: Case) -> bytes:
    logging.disable(logging.WARNING)  # it advises to preprocess, which does nothing to these graphs
    with TemporaryDirectory() as folder:
        path = Path(folder, "quantized.onnx")
        quantize_dynamic(model(case), path, per_channel=True, weight_type=QuantType.QInt8)
        content = path.read_bytes()
    logging.disable(logging.NOTSET)
    if not any(node.op_type.startswith("DynamicQuantize") for node in onnx.load_from_string(content).graph.node):
        raise ValueError("quantize_dynamic has left the graph in float32")
    return content


def model(case: Case) -> onnx.ModelProto:
    """An operator for each layer, the initial and final states inputs and outputs of the graph; y is [T, N, D*H]."""
    shape = (case.num_directions, case.batch, case.hidden_size)
    x_shape = (case.seq_len, case.batch, case.input_size)
    y_shape = (*x_shape[:2], case.num_directions * case.hidden_size)
    nodes, weights, x = [], {"y_shape": np.array(y_shape)}, "x"
    if case.lengths:
        weights["lengths"] = np.array(case.lengths, np.int32)
    for layer, (w, r, b_w, b_r) in enumerate(case.weights_in(GATE_ORDER[case.cell])):
        weights |= {f"W{layer}": w, f"R{layer}": r, f"B{layer}": np.concatenate([b_w, b_r], 1)}
        nodes += layer_nodes(case, layer, x)
        x = f"y{layer}"
    nodes[-1].output[0] = "y"
    inputs = {"x": x_shape} | {f"{name}_0": shape for name in state_names(case)}
    outputs = {"y": y_shape} | {f"{name}_n": shape for name in state_names(case)}
    graph = helper.make_graph(
        nodes,
        case.cell,
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)


def layer_nodes(case: Case, layer: int, x: str) -> list[onnx.NodeProto]:
    """From x [T, N, C] to y [T, N, D*H]: the operator gives [T, D, N, H]."""
    names = [f"{name}{layer}" for name in case.states]
    options: dict[str, Any] = {"direction": "bidirectional"} if case.bidirectional else {}
    if case.cell == "gru":
        options["linear_before_reset"] = 1
    if case.cell == "rnn_relu":
        options["activations"] = ["Relu"] * case.num_directions
    operator = helper.make_node(
        case.cell.upper().split("_")[0],
        [x, f"W{layer}", f"R{layer}", f"B{layer}", "lengths" if case.lengths else "", *(f"{n}_0" for n in names)],
        [f"y{layer}_by_direction", *(f"{name}_n" for name in names)],
        hidden_size=case.hidden_size,
        **options,
    )
    if not case.bidirectional:
        squeeze = helper.make_node("Reshape", [f"y{layer}_by_direction", "y_shape"], [f"y{layer}"])
        return [operator, squeeze]
    transpose = helper.make_node("Transpose", [f"y{layer}_by_direction"], [f"y{layer}_by_row"], perm=[0, 2, 1, 3])
    return [operator, transpose, helper.make_node("Reshape", [f"y{layer}_by_row", "y_shape"], [f"y{layer}"])]
