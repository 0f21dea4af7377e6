"""LiteRT: the cell written out in operations that its XNNPACK delegate fuses, the state in resource variables.

That is its fastest form for a step: the LSTM operator of the format is slower, and there is none for a GRU. In int8 the
weights are, a scale for each row, and the delegate rounds x and h as they come. The model file is put together with the
schema that the package ships.
"""

from __future__ import annotations

import re
from functools import partial
from importlib.metadata import version
from itertools import chain
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from bench.case import Case
from bench.peers import Ways
from gated_c.spec import Array

VERSION = version("ai-edge-litert")


def ways(case: Case, dtype: str) -> Ways:
    if case.seq_len > 1 or case.bidirectional or case.cell.startswith("rnn"):
        return {}
    if dtype == "bfloat16":
        return {"": "XNNPACK has no bfloat16 product that it takes here"}
    return {"": partial(Steps, case, dtype)}


class Steps:
    """One invocation per step; the interpreter carries the state."""

    def __init__(self, case: Case, dtype: str, threads: int) -> None:
        self.interpreter = Interpreter(model_content=step_model(case, dtype), num_threads=threads)
        self.interpreter.allocate_tensors()
        self.x = self.interpreter.get_input_details()[0]["index"]
        self.y = self.interpreter.get_output_details()[0]["index"]

    def write(self, x: Array) -> None:
        self.interpreter.set_tensor(self.x, x[0])

    def run(self, times: int) -> None:
        invoke = self.interpreter.invoke
        for _ in range(times):
            invoke()

    def read(self) -> Array:
        return self.interpreter.get_tensor(self.y)[None]  # type: ignore[no-any-return]


def step_model(case: Case, dtype: str) -> bytes:
    """A model file whose main graph is one step and whose second graph, run once, zeroes the state."""
    model = Model(dtype)
    state_shape = (case.batch, case.hidden_size)
    names = [[f"{name}{layer}" for name in case.states] for layer in range(case.num_layers)]

    zeroing = Graph(model)
    zeros = zeroing.constant(np.zeros(state_shape, np.float32))
    for name in chain.from_iterable(names):
        zeroing.add("AssignVariable", [zeroing.variable(name), zeros])

    step = Graph(model)
    x = y = step.tensor((case.batch, case.input_size))
    step.add("CallOnce", [], initSubgraphIndex=1)
    for of_layer, weights in zip(names, case.weights_in(tuple(range(4 if case.cell == "lstm" else 3))), strict=True):
        variables = [step.variable(name) for name in of_layer]
        before = [step.add("ReadVariable", [variable], state_shape) for variable in variables]
        after = (lstm if case.cell == "lstm" else gru)(step, state_shape, [array[0] for array in weights], y, *before)
        for variable, tensor in zip(variables, after, strict=True):
            step.add("AssignVariable", [variable, tensor])
        y = after[0]
    return model.serialize([step.finish([x], [y]), zeroing.finish([], [])])


def lstm(graph: Graph, shape: tuple[int, int], weights: list[Array], x: int, h: int, c: int) -> list[int]:
    w, r, b_w, b_r = weights
    gates = graph.linear(graph.concatenate(x, h), np.concatenate([w, r], axis=1), b_w + b_r, shape[0])
    i, f, g, o = graph.split(gates, 4, shape)
    i, f, o = (graph.add("Logistic", [gate], shape) for gate in (i, f, o))
    g = graph.add("Tanh", [g], shape)
    c = graph.add("Add", [graph.add("Mul", [f, c], shape), graph.add("Mul", [i, g], shape)], shape)
    return [graph.add("Mul", [o, graph.add("Tanh", [c], shape)], shape), c]


def gru(graph: Graph, shape: tuple[int, int], weights: list[Array], x: int, h: int) -> list[int]:
    w, r, b_w, b_r = weights
    batch, size = shape
    rz, n = slice(2 * size), slice(2 * size, None)
    both = np.concatenate([w[rz], r[rz]], axis=1)
    gates = graph.linear(graph.concatenate(x, h), both, (b_w + b_r)[rz], batch)
    reset, z = graph.split(graph.add("Logistic", [gates], (batch, 2 * size)), 2, shape)
    h_n = graph.add("Mul", [reset, graph.linear(h, r[n], b_r[n], batch)], shape)
    new = graph.add("Tanh", [graph.add("Add", [graph.linear(x, w[n], b_w[n], batch), h_n], shape)], shape)
    kept = graph.add("Mul", [z, graph.add("Sub", [h, new], shape)], shape)
    return [graph.add("Add", [new, kept], shape)]


class Model:
    """The tables that the graphs of a file share: constants, and the operators used."""

    def __init__(self, dtype: str) -> None:
        self.dtype = dtype
        self.buffers = [schema.BufferT()]
        self.operators: list[int] = []

    def buffer(self, array: Array) -> int:
        self.buffers.append(schema.BufferT(data=np.frombuffer(array.tobytes(), np.uint8)))
        return len(self.buffers) - 1

    def operator(self, name: str) -> int:
        """The place in the table of ``FullyConnected``, which the schema's list calls FULLY_CONNECTED."""
        code = getattr(schema.BuiltinOperator, re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).upper())
        if code not in self.operators:
            self.operators.append(code)
        return self.operators.index(code)

    def serialize(self, graphs: list[schema.SubGraphT]) -> bytes:
        codes = [schema.OperatorCodeT(deprecatedBuiltinCode=min(c, 127), builtinCode=c) for c in self.operators]
        builder = flatbuffers.Builder()
        file = schema.ModelT(version=3, operatorCodes=codes, subgraphs=graphs, buffers=self.buffers)
        builder.Finish(file.Pack(builder), b"TFL3")
        return bytes(builder.Output())


class Graph:
    """One graph of a model under construction; tensors are known by their numbers."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.tensors: list[schema.TensorT] = []
        self.nodes: list[schema.OperatorT] = []

    def tensor(self, shape: tuple[int, ...], kind: int = schema.TensorType.FLOAT32, buffer: int = 0) -> int:
        self.tensors.append(schema.TensorT(shape=list(shape), type=kind, buffer=buffer))
        return len(self.tensors) - 1

    def constant(self, array: Array) -> int:
        return self.tensor(array.shape, buffer=self.model.buffer(array))

    def add(self, name: str, inputs: list[int], *outputs: tuple[int, ...], **options: object) -> int:
        """Append an operation; returns the first of its outputs, which get the shapes given."""
        results = [self.tensor(shape) for shape in outputs]
        self.node(name, inputs, results, **options)
        return results[0] if results else -1

    def node(self, name: str, inputs: list[int], outputs: list[int], **options: object) -> None:
        node = schema.OperatorT(opcodeIndex=self.model.operator(name), inputs=inputs, outputs=outputs)
        options_type = getattr(schema, f"{name}OptionsT", None)
        if options_type:
            node.builtinOptionsType = getattr(schema.BuiltinOptions, f"{name}Options")
            node.builtinOptions = options_type(**options)
        self.nodes.append(node)

    def variable(self, name: str) -> int:
        handle = self.tensor((1,), schema.TensorType.RESOURCE)
        self.node("VarHandle", [], [handle], sharedName=name)
        return handle

    def concatenate(self, x: int, h: int) -> int:
        (batch, input_size), (_, hidden_size) = (self.tensors[place].shape for place in (x, h))
        return self.add("Concatenation", [x, h], (batch, input_size + hidden_size), axis=1)

    def linear(self, x: int, weights: Array, bias: Array, batch: int) -> int:
        constant = self.constant(weights) if self.model.dtype == "float32" else self.eight_bits(weights)
        return self.add("FullyConnected", [x, constant, self.constant(bias)], (batch, len(weights)))

    def eight_bits(self, weights: Array) -> int:
        """A constant of -127..127 with a scale for each row."""
        scales = np.abs(weights).max(1) / 127
        values: Any = np.rint(weights / scales[:, None]).astype(np.int8)
        place = self.tensor(weights.shape, schema.TensorType.INT8, self.model.buffer(values))
        zeros = np.zeros(len(scales), np.int64)
        quantization = schema.QuantizationParametersT(scale=scales, zeroPoint=zeros, quantizedDimension=0)
        self.tensors[place].quantization = quantization
        return place

    def split(self, x: int, parts: int, shape: tuple[int, ...]) -> list[int]:
        axis = self.tensor((), schema.TensorType.INT32, self.model.buffer(np.array(1, np.int32)))
        outputs = [self.tensor(shape) for _ in range(parts)]
        self.node("Split", [axis, x], outputs, numSplits=parts)
        return outputs

    def finish(self, inputs: list[int], outputs: list[int]) -> schema.SubGraphT:
        return schema.SubGraphT(tensors=self.tensors, inputs=inputs, outputs=outputs, operators=self.nodes)
