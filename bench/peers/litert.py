"""LiteRT: the cell written out in operations that its XNNPACK delegate fuses, the state in resource variables.

That is its fastest form for a step: the LSTM operator of the format is slower, and there is none for a GRU. The model
file is put together with the schema that the package ships.
"""

from __future__ import annotations

import re
from importlib.metadata import version

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from bench.case import Case
from bench.measure import Runner
from gated_c.spec import Array

VERSION = version("ai-edge-litert")


def runners(case: Case) -> dict[str, Runner]:
    return {"litert": Steps(case)} if case.seq_len == 1 else {}


class Steps:
    """One invocation per step; the interpreter carries the state."""

    def __init__(self, case: Case) -> None:
        self.interpreter = Interpreter(model_content=step_model(case), num_threads=1)
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


def step_model(case: Case) -> bytes:
    """A model file whose main graph is one step and whose second graph, run once, zeroes the state."""
    model = Model()
    state_shape = (case.batch, case.hidden_size)

    zeroing = Graph(model)
    for name in case.states:
        zeroing.add("AssignVariable", [zeroing.variable(name), zeroing.constant(np.zeros(state_shape, np.float32))])

    step = Graph(model)
    x = step.tensor((case.batch, case.input_size))
    step.add("CallOnce", [], initSubgraphIndex=1)
    variables = [step.variable(name) for name in case.states]
    before = [step.add("ReadVariable", [variable], state_shape) for variable in variables]
    after = (lstm if case.cell == "lstm" else gru)(step, case, x, *before)
    for variable, tensor in zip(variables, after, strict=True):
        step.add("AssignVariable", [variable, tensor])
    return model.serialize([step.finish([x], [after[0]]), zeroing.finish([], [])])


def lstm(graph: Graph, case: Case, x: int, h: int, c: int) -> list[int]:
    w, r, b_w, b_r = case.weights().values()
    shape = (case.batch, case.hidden_size)
    gates = graph.linear(graph.concatenate(x, h, case), np.concatenate([w, r], axis=1), b_w + b_r, case.batch)
    i, f, g, o = graph.split(gates, 4, shape)
    i, f, o = (graph.add("Logistic", [gate], shape) for gate in (i, f, o))
    g = graph.add("Tanh", [g], shape)
    c = graph.add("Add", [graph.add("Mul", [f, c], shape), graph.add("Mul", [i, g], shape)], shape)
    return [graph.add("Mul", [o, graph.add("Tanh", [c], shape)], shape), c]


def gru(graph: Graph, case: Case, x: int, h: int) -> list[int]:
    w, r, b_w, b_r = case.weights().values()
    shape = (case.batch, case.hidden_size)
    rz, n = slice(2 * case.hidden_size), slice(2 * case.hidden_size, None)
    both = np.concatenate([w[rz], r[rz]], axis=1)
    gates = graph.linear(graph.concatenate(x, h, case), both, (b_w + b_r)[rz], case.batch)
    reset, z = graph.split(graph.add("Logistic", [gates], (case.batch, 2 * case.hidden_size)), 2, shape)
    h_n = graph.add("Mul", [reset, graph.linear(h, r[n], b_r[n], case.batch)], shape)
    new = graph.add("Tanh", [graph.add("Add", [graph.linear(x, w[n], b_w[n], case.batch), h_n], shape)], shape)
    kept = graph.add("Mul", [z, graph.add("Sub", [h, new], shape)], shape)
    return [graph.add("Add", [new, kept], shape)]


class Model:
    """The tables that the graphs of a file share: constants, and the operators used."""

    def __init__(self) -> None:
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

    def concatenate(self, x: int, h: int, case: Case) -> int:
        return self.add("Concatenation", [x, h], (case.batch, case.input_size + case.hidden_size), axis=1)

    def linear(self, x: int, weights: Array, bias: Array, batch: int) -> int:
        return self.add("FullyConnected", [x, self.constant(weights), self.constant(bias)], (batch, len(weights)))

    def split(self, x: int, parts: int, shape: tuple[int, ...]) -> list[int]:
        axis = self.tensor((), schema.TensorType.INT32, self.model.buffer(np.array(1, np.int32)))
        outputs = [self.tensor(shape) for _ in range(parts)]
        self.node("Split", [axis, x], outputs, numSplits=parts)
        return outputs

    def finish(self, inputs: list[int], outputs: list[int]) -> schema.SubGraphT:
        return schema.SubGraphT(tensors=self.tensors, inputs=inputs, outputs=outputs, operators=self.nodes)
