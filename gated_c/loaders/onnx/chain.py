"""Following the one path through an ONNX graph, from its input x to its output, as a chain of layers.

Everything that does not depend on x is computed on the way. What does is a `Value`: rows of a batch, steps of time and
numbered features, which Transpose, Reshape and their kind move about, until an operator wants them as a layer takes
them. Which axis of x is time shows at the first recurrent node, so each possibility is tried.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from gated_c.errors import FormatError, UnsupportedError
from gated_c.layers import Flip, Layer, Pool, Repeat, Reshape, Squeeze, Unmask, validate_chain
from gated_c.loaders.names import shown
from gated_c.loaders.onnx import axes as onnx_axes
from gated_c.loaders.onnx import fold as onnx_fold
from gated_c.loaders.onnx import ops as onnx_ops
from gated_c.loaders.onnx.call import Call, Network, WrongOrder, distinct
from gated_c.loaders.onnx.graph import Graph
from gated_c.loaders.onnx.path import Mark, Source
from gated_c.loaders.onnx.patterns import fused
from gated_c.loaders.onnx.recurrent import INITIAL_C, INITIAL_H, KINDS, SEQUENCE_LENS, B, P, W, X, recurrent_layer
from gated_c.loaders.onnx.values import GIVEN, GIVEN_VALUE, SIGNAL, Node, Value, constant
from gated_c.spec import Array, LayerSpec

#: What the axes of x may be, by their number; "": features.
_FORMS: dict[int, tuple[tuple[str, ...], ...]] = {
    1: (("T",),),
    2: (("T", "N"), ("N", "T"), ("T", ""), ("N", "")),
    3: (("T", "N", ""), ("N", "T", "")),
}
_INTEGERS = (6, 7)  # of TensorProto.DataType


class Reading:
    """One attempt to read a network: the tensors computed so far, by name. Inputs are given by the caller."""

    def __init__(self, graph: Graph, clip: str) -> None:
        self.graph = graph
        self.network = Network(graph.tensors, clip)
        self.batch_first = False
        self.values: dict[str, Value] = dict.fromkeys(graph.inputs, GIVEN_VALUE)

    def layers(self, x: str, form: tuple[str, ...]) -> list[Layer]:
        """The chain from the input ``x``, whose axes are these, to the output."""
        self.batch_first = form[0] == "N"
        self.values[x] = self._input(self.graph.inputs[x], form)
        self._run_all([self.graph.node(at) for at in self.graph.order(self.graph.outputs)])
        outputs = [self.value(name) for name in self.graph.outputs if name]
        signals = [value for value in outputs if value.kind == SIGNAL]
        if not signals:
            raise UnsupportedError("no output depends on x")
        results = [value for value in signals if not self.network.path.is_state(value.array)] or signals[:1]
        if len(results) > 1:
            raise UnsupportedError(f"a branch: {len(results)} outputs besides states")
        return self._chain(self._end(results[0]))

    def value(self, name: str) -> Value:
        """A tensor by its name."""
        if name not in self.values:
            if name in self.graph.sparse:
                raise UnsupportedError(f"sparse tensor '{shown(name)}'")
            if name in self.graph.makers:
                raise UnsupportedError(f"output '{shown(name)}' of {self.graph.node(self.graph.makers[name])}")
            if name not in self.graph.initializers:
                raise FormatError(f"'{shown(name)}' is made by nothing")
            self.values[name] = constant(self.graph.tensors.array(self.graph.initializers[name]))
        return self.values[name]

    def _run_all(self, nodes: Sequence[Node]) -> None:
        """Compute their outputs, each of which is kept until its last use: weights in pieces are large."""
        uses = Counter(name for node in nodes for name in node.inputs)
        uses.update(self.graph.outputs)
        for node in nodes:
            self.run(node)
            uses.subtract(node.inputs)
            for name in node.inputs:
                if not uses[name]:
                    self.values.pop(name, None)

    def run(self, node: Node) -> None:
        """Compute a node's outputs."""
        call = self.call(node)
        with _place(node):
            results = self._results(call)
        results = (results,) if isinstance(results, Value) else results
        self.values.update({name: value for name, value in zip(node.outputs, results, strict=False) if name})

    def call(self, node: Node, names: Sequence[str] | None = None) -> Call:
        """A node with its inputs, or those of them that have these names."""
        inputs = [self.value(name) if name and (names is None or name in names) else None for name in node.inputs]
        return Call(node, inputs, self.network)

    def _results(self, call: Call) -> Value | Sequence[Value]:
        op = call.node.op
        kinds = {value.kind for value in call.inputs if value is not None}
        if op in KINDS:
            return self._recurrent(call)
        if SIGNAL in kinds:
            operator = onnx_ops.OPERATORS.get(op) or onnx_axes.OPERATORS.get(op)
        elif GIVEN in kinds:
            if op in onnx_axes.OPERATORS:
                return [GIVEN_VALUE] * len(call.node.outputs)
            operator = onnx_ops.OPERATORS.get(op)
        else:
            operator = onnx_fold.OPERATORS.get(op) or onnx_axes.OPERATORS.get(op)
        if operator is None:
            raise UnsupportedError("not supported" + (" in this place" if op in onnx_ops.OPERATORS else ""))
        return operator(call)

    def _recurrent(self, call: Call) -> Sequence[Value]:
        """Y [T,D,N,H], Y_h and Y_c [D,N,H]; with layout 1 the axis N comes first."""
        node, path = call.node, call.path
        layout = node.integer("layout", 0)
        x = self._steps_and_rows(call, layout)
        lengths = self._lengths(call)
        self.graph.tensors.release_pages()
        layer = recurrent_layer(node, call.taken, call.network.clip)
        weights = {**layer.weights, **self._initial_state(call, layer, 1 - layout)}
        layer = replace(layer, batch_first=self.batch_first, weights=weights)
        parent = call.features(x)
        if lengths and not _has_lengths(parent):
            raise UnsupportedError("sequence_lens after steps that are others, or were run without them")
        if not lengths:
            parent = path.unmasked(parent)
        directions, size = layer.num_directions, layer.hidden_size
        y = path.add(parent, layer, layer.output_size, masked=lengths)
        pool = Pool(y.size, "final", size if layer.bidirectional else y.size if layer.reverse else 0, name=node.name)
        h = path.add(y, pool, y.size, masked=False, is_state=True)
        c = path.add(y, Mark("c", node.name), y.size, masked=False, is_state=True)
        time, rows = x.rows[layout], x.rows[1 - layout]
        y_rows, y_shape = ((rows, time, "", ""), (1, 1, directions, size))
        state_rows, state_shape = ((rows, "", ""), (1, directions, size))
        if layout == 0:
            y_rows, y_shape = ((time, "", rows, ""), (1, directions, 1, size))
            state_rows, state_shape = (("", rows, ""), (directions, 1, size))
        states = (h, c)[: 2 if layer.has_c else 1]
        return [
            Value(SIGNAL, path.numbers(y).reshape(y_shape), y_rows),
            *(Value(SIGNAL, path.numbers(state).reshape(state_shape), state_rows) for state in states),
        ]

    def _steps_and_rows(self, call: Call, layout: int) -> Value:
        """X with an axis of steps and one of rows where the node wants them."""
        x = call.signal(X)
        if x.array.ndim != 3 or layout not in (0, 1):
            raise FormatError(f"X, layout: expected three dimensions and 0 or 1, got {x.array.ndim} and {layout}")
        if "N" in x.rows[layout] or "T" in x.rows[1 - layout]:
            raise WrongOrder("takes steps for rows of the batch, or the opposite")
        if not x.rows[layout] and x.has_time:
            raise UnsupportedError("takes features for steps")
        if x.array.shape[1 - layout] > 1:
            raise UnsupportedError("takes features for rows of the batch")
        return x if x.rows[layout] else call.sequence(x, layout)

    def _lengths(self, call: Call) -> bool:
        """Whether the sequences have lengths of their own; those of a constant must be the full one."""
        lengths = call.optional(SEQUENCE_LENS)
        if lengths is None or lengths.kind == GIVEN:
            return lengths is not None
        if not call.are_full(lengths):
            raise UnsupportedError(
                "sequence_lens that are neither an input nor the length of x; give `lengths` instead"
            )
        return False

    def _initial_state(self, call: Call, layer: LayerSpec, batch_axis: int) -> dict[str, Array]:
        """Constants that are not 0 as weights of the layer, which has one initial state for all rows."""
        learned: dict[str, Array] = {}
        for name, at in (("initial_h", INITIAL_H), ("initial_c", INITIAL_C)):
            value = call.optional(at)
            if value is None or value.kind == GIVEN:
                continue
            if value.kind == SIGNAL:
                raise UnsupportedError(f"a branch: {name} depends on x")
            numbers = distinct(value.array)
            if not np.any(numbers):
                continue
            if numbers.ndim != 3:
                raise FormatError(f"{name}: expected three dimensions, got {numbers.ndim}")
            rows = np.moveaxis(numbers, batch_axis, 0)
            if np.any(rows != rows[:1]):
                raise UnsupportedError(f"{name} that differs between rows of the batch; give `state` instead")
            directions = np.broadcast_to(rows[0], (layer.num_directions, layer.hidden_size))
            for direction, (_, suffix) in zip(directions, layer.suffixes(), strict=True):
                learned[name + suffix] = call.own(direction)
        return learned

    def _input(self, info: Any, form: tuple[str, ...]) -> Value:
        """x: one feature if it has no axis of them."""
        dims = info.type.tensor_type.shape.dim
        form = form + ("",) * (len(dims) - len(form))
        for rows, dim in zip(form, dims, strict=False):
            if rows and dim.dim_value > 0:
                self.network.sizes[rows] = dim.dim_value
        sizes = [1 if rows else self._features(dims, axis) for axis, rows in enumerate(form)]
        size = int(np.prod(np.array(sizes, object)))
        self.network.spend(8 * size)
        source = self.network.path.add(None, None, size)
        return Value(SIGNAL, self.network.path.numbers(source).reshape(sizes), form)

    def _features(self, dims: Any, axis: int) -> int:
        """As the file declares them, or else as the first recurrent node's W takes them."""
        if axis < len(dims) and dims[axis].dim_value > 0:
            return int(dims[axis].dim_value)
        first = self.graph.protos[min(self.graph.recurrent().values())]
        weight = self.graph.initializers.get(first.input[1] if len(first.input) > 1 else "")
        if weight is None or len(weight.dims) != 3 or weight.dims[2] < 1:
            raise UnsupportedError("an input whose number of features the file does not say")
        return int(weight.dims[2])

    def _end(self, value: Value) -> Source:
        """The source of y."""
        path = self.network.path
        wide = [axis for axis, size in enumerate(value.array.shape) if size > 1]
        if len(wide) == 2 and not value.has_time and not path.is_state(value.array):
            value = Call(Node("output", self.graph.outputs[0]), [value], self.network).sequence(value, wide[0])
        source = path.whole(value.array.ravel())
        if value.has_time and not isinstance(source.layer, LayerSpec):
            source = path.unmasked(source)
        if source.size == 1 and all(value.rows):
            source = path.append(source, Squeeze(name=self.graph.outputs[0]))
        return source

    def _chain(self, source: Source) -> list[Layer]:
        layers: list[Layer] = []
        at: Source | None = source
        while at is not None and at.layer is not None:
            if isinstance(at.layer, Mark):
                raise UnsupportedError(f"{at.layer.kind} of '{shown(at.layer.name)}' is not supported on its own")
            layers.append(at.layer)
            at = at.parent
        layers = fused(layers[::-1])
        if not any(isinstance(layer, LayerSpec) for layer in layers):
            raise UnsupportedError("no LSTM, GRU or RNN between x and the output")
        validate_chain(layers)
        return layers


def read_chain(graph: Graph, clip: str) -> list[Layer]:
    """The layers from x to the output. Raises ``UnsupportedError`` for a branch or an operator that is no layer."""
    x = graph.x()
    tensor_type = graph.inputs[x].type.tensor_type
    ndim = len(tensor_type.shape.dim) or (2 if tensor_type.elem_type in _INTEGERS else 3)
    errors: list[UnsupportedError | FormatError] = []
    for form in _FORMS.get(ndim, _FORMS[3]):
        try:
            return Reading(graph, clip).layers(x, form)
        except (UnsupportedError, FormatError) as error:
            errors.append(type(error)(str(error)))  # without the traceback, which holds what was read
    raise next((error for error in errors if not isinstance(error, WrongOrder)), errors[0])


def read_alone(graph: Graph, at: int, name: str, clip: str) -> LayerSpec:
    """A recurrent node by itself, whatever surrounds it; its initial states are for the caller to give."""
    node = graph.node(at)
    weights = [name for name in (*node.inputs[W : B + 1], *node.inputs[P:]) if name]
    reading = Reading(graph, clip)
    for other in graph.order(weights):
        reading.run(graph.node(other))
    with _place(node):
        return replace(recurrent_layer(node, reading.call(node, weights).taken, clip), name=name)


def _has_lengths(source: Source) -> bool:
    """Whether the lengths of x are those of this source, and of all recurrent layers before."""
    while source.parent is not None:
        if isinstance(source.layer, Flip | Repeat | Reshape | Unmask):
            return False
        if isinstance(source.layer, LayerSpec) and not source.masked:
            return False
        source = source.parent
    return True


@contextmanager
def _place(node: Node) -> Iterator[None]:
    """Name the node in front of what is wrong with it."""
    try:
        yield
    except (UnsupportedError, FormatError) as error:
        raise type(error)(f"{node}: {error}") from None
    except (ValueError, IndexError, TypeError, ArithmeticError) as error:
        raise FormatError(f"{node}: {error}") from None
