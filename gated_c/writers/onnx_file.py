"""ONNX: one LSTM, GRU or RNN node of opset 14 per stacked layer, https://onnx.ai/onnx/operators/onnx__LSTM.html.

Inputs are ``X`` [T,N,C], [N,T,C] if ``batch_first``, and the states ``initial_h`` and ``initial_c`` of every node
[D,N,H], which may be left out and are what is learned or 0 then; outputs ``Y`` and the states after the last step,
``Y_h`` and ``Y_c``. Those of several nodes are numbered: ``initial_h_0``. Every step of every row counts: there is no
input for lengths.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gated_c.errors import UnsupportedError
from gated_c.files import replacing
from gated_c.spec import Activation, Array, LayerSpec
from gated_c.writers.expressing import functions_of, refuse_unless_empty, reordered

if TYPE_CHECKING:
    import onnx

OPSET = 14
IR_VERSION = 7  # the one of that opset's time, which older runtimes read

_MOST_BYTES = 2**31 - 2**20  # protobuf's bound, some room for the graph

#: Operator, gates in its order, attributes.
_OPERATORS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "lstm": ("LSTM", "iofg", {}),
    "gru": ("GRU", "zrn", {"linear_before_reset": 1}),
    "gru_reset_before": ("GRU", "zrn", {"linear_before_reset": 0}),
    "rnn_tanh": ("RNN", "", {}),
    "rnn_relu": ("RNN", "", {}),
    "rnn": ("RNN", "", {}),
}

#: Our name to theirs, and which of alpha and beta it takes.
_FUNCTIONS = {
    "sigmoid": ("Sigmoid", ""),
    "tanh": ("Tanh", ""),
    "relu": ("Relu", ""),
    "affine": ("Affine", "ab"),
    "hard_sigmoid": ("HardSigmoid", "ab"),
    "leaky_relu": ("LeakyRelu", "a"),
    "thresholded_relu": ("ThresholdedRelu", "a"),
    "scaled_tanh": ("ScaledTanh", "ab"),
    "elu": ("Elu", "a"),
    "softsign": ("Softsign", ""),
    "softplus": ("Softplus", ""),
}

_DEFAULTS = {"LSTM": ("sigmoid", "tanh", "tanh"), "GRU": ("sigmoid", "tanh"), "RNN": ("tanh",)}


def write(layers: Sequence[LayerSpec], path: str) -> None:
    """Write recurrent layers. ``UnsupportedError`` names what the operators do not do, ``ImportError`` the package
    that is missing."""
    try:
        import onnx
    except ImportError as error:
        raise ImportError('ONNX files need the onnx package: pip install "gated_c[onnx-files]"') from error
    refuse_unless_empty(layers, _refusals)
    if sum(weight.nbytes for layer in layers for weight in layer.weights.values()) > _MOST_BYTES:
        raise UnsupportedError("more than 2 GiB of weights: an ONNX file holds no more")
    content = _Graph(layers).model().SerializeToString()
    onnx.checker.check_model(content)
    with replacing(path) as unfinished:
        unfinished.write_bytes(content)


def _refusals(layer: LayerSpec) -> Iterator[str]:
    for direction in range(layer.num_directions):
        for activation in functions_of(layer, direction):
            if activation.name not in _FUNCTIONS and activation.name != "linear":
                yield f"activation {activation.name}: ONNX has no such function"
    if layer.proj_size:
        yield f"proj_size {layer.proj_size}: ONNX has no projection"
    if layer.clip and layer.has_c and not layer.clip_output:
        yield f"clip {layer.clip:g} of the gates only: ONNX clips c before the output as well"


class _Graph:
    """A graph that grows node by node."""

    def __init__(self, layers: Sequence[LayerSpec]) -> None:
        self.layers = layers
        self.batch_first = layers[0].batch_first
        self.nodes: list[onnx.NodeProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def model(self) -> onnx.ModelProto:
        from onnx import helper

        self._add_layers()
        graph = helper.make_graph(self.nodes, "gated_c", self.inputs, self.outputs, self.initializers)
        opset = helper.make_opsetid("", OPSET)
        return helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION, producer_name="gated_c")

    def _add_layers(self) -> None:
        sizes = ["batch", "seq_len"] if self.batch_first else ["seq_len", "batch"]
        self._declare(self.inputs, "X", [*sizes, self.layers[0].input_size])
        self._declare(self.outputs, "Y", [*sizes, self.layers[-1].output_size])
        value = self._node("Transpose", ["X"], "X_time_major", perm=[1, 0, 2]) if self.batch_first else "X"
        self._add_state_shape(value)
        stacked = [(layer, k) for layer in self.layers for k in range(layer.num_layers)]
        for index, ((layer, k), name) in enumerate(zip(stacked, _node_names(self.layers), strict=True)):
            number = "" if len(stacked) == 1 else f"_{index}"
            value = self._add_layer(layer, k, value, name, number)
        if self.batch_first:
            self._node("Transpose", [value], "Y", perm=[1, 0, 2])
        else:
            self.nodes[-1].output[0] = "Y"

    def _add_state_shape(self, x: str) -> None:
        """[1, N, 1], to which states expand."""
        one = self._constant("one", np.array([1], np.int64))
        sizes = self._node("Shape", [x], "X_shape")
        batch = self._node("Gather", [sizes, one], "X_batch", axis=0)
        self._node("Concat", [one, batch, one], "state_shape", axis=0)

    def _add_layer(self, layer: LayerSpec, k: int, x: str, name: str, number: str) -> str:
        """Stacked layer number k, whose y [T,N,D*H] is the value returned."""
        operator, _, attributes = _OPERATORS[layer.cell]
        inputs = [x, *self._add_weights(layer, k, number), "", *self._add_states(layer, k, number)]
        if layer.peepholes:
            inputs.append(self._constant(f"P{number}", _peepholes(layer, k)))
        outputs = [f"Y_h{number}", f"Y_c{number}"][: 1 + layer.has_c]
        self._node(operator, inputs, f"Y_by_direction{number}", *outputs, **attributes, **_options(layer, operator))
        self.nodes[-1].name = name
        for output in outputs:
            self._declare(self.outputs, output, [layer.num_directions, "batch", layer.hidden_size])
        by_row = self._node("Transpose", [f"Y_by_direction{number}"], f"Y_by_row{number}", perm=[0, 2, 1, 3])
        shape = self._constant(f"Y_shape{number}", np.array([0, 0, layer.output_size], np.int64))
        return self._node("Reshape", [by_row, shape], f"Y_time_major{number}")

    def _add_weights(self, layer: LayerSpec, k: int, number: str) -> list[str]:
        order = _OPERATORS[layer.cell][1]
        suffixes = [suffix for layer_index, suffix in layer.suffixes() if layer_index == k]

        def stack(*names: str) -> Array:
            return np.stack(
                [np.concatenate([reordered(layer, layer.weights[n + s], order) for n in names]) for s in suffixes]
            )

        weights = {"W": stack("weight_ih"), "R": stack("weight_hh")}
        if layer.bias:
            weights["B"] = stack("bias_ih", "bias_hh")
        names = [self._constant(name + number, weight) for name, weight in weights.items()]
        return names if layer.bias else [*names, ""]

    def _add_states(self, layer: LayerSpec, k: int, number: str) -> list[str]:
        """Inputs of any batch, by default what is learned or 0."""
        states = []
        zeros = np.zeros(layer.hidden_size, np.float32)
        suffixes = [suffix for at, suffix in layer.suffixes() if at == k]
        for part in ("h", "c")[: 1 + layer.has_c]:
            name = f"initial_{part}{number}"
            self._declare(self.inputs, name, [layer.num_directions, f"{part}_batch{number}", layer.hidden_size])
            default = np.stack([layer.weights.get(f"initial_{part}{suffix}", zeros) for suffix in suffixes])
            self._constant(name, default[:, None])
            states.append(self._node("Expand", [name, "state_shape"], f"{name}_of_batch"))
        return states

    def _node(self, operator: str, inputs: list[str], *outputs: str, **attributes: Any) -> str:
        """Add a node; the name of its first output is its own."""
        from onnx import helper

        self.nodes.append(helper.make_node(operator, inputs, outputs, name=outputs[0], **attributes))
        return outputs[0]

    def _constant(self, name: str, array: np.ndarray[Any, Any]) -> str:
        from onnx import numpy_helper

        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    @staticmethod
    def _declare(values: list[onnx.ValueInfoProto], name: str, shape: list[Any]) -> None:
        from onnx import TensorProto, helper

        values.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))


def _node_names(layers: Sequence[LayerSpec]) -> list[str]:
    """Of every stacked layer, the place it has in the file it is from."""
    bases = [layer.name or layer.cell for layer in layers]
    if len(set(bases)) < len(bases):
        bases = [f"{base}_{index}" for index, base in enumerate(bases)]
    return [
        base if layer.num_layers == 1 else f"{base}_l{k}"
        for base, layer in zip(bases, layers, strict=True)
        for k in range(layer.num_layers)
    ]


def _peepholes(layer: LayerSpec, k: int) -> Array:
    """[D, 3*H] in the order i o f, from i f o."""
    ours = [np.split(layer.weights["weight_peephole" + suffix], 3) for at, suffix in layer.suffixes() if at == k]
    return np.stack([np.concatenate([i, o, f]) for i, f, o in ours])


def _options(layer: LayerSpec, operator: str) -> dict[str, Any]:
    """The attributes that are not at their defaults."""
    direction = "bidirectional" if layer.bidirectional else "reverse" if layer.reverse else "forward"
    options: dict[str, Any] = {"hidden_size": layer.hidden_size, "direction": direction}
    functions = [function for d in range(layer.num_directions) for function in functions_of(layer, d)]
    if tuple(function.name for function in functions) != _DEFAULTS[operator] * layer.num_directions:
        options |= _activations(functions)
    if layer.clip:
        options["clip"] = layer.clip
    if layer.input_forget:
        options["input_forget"] = 1
    return options


def _activations(functions: Sequence[Activation]) -> dict[str, Any]:
    """Names, and the parameters of those that take them, in the same order."""
    functions = [_without_linear(function) for function in functions]
    attributes: dict[str, Any] = {"activations": [_FUNCTIONS[function.name][0] for function in functions]}
    alphas = [function.alpha for function in functions if "a" in _FUNCTIONS[function.name][1]]
    betas = [function.beta for function in functions if "b" in _FUNCTIONS[function.name][1]]
    if alphas:
        attributes["activation_alpha"] = alphas
    if betas:
        attributes["activation_beta"] = betas
    return attributes


def _without_linear(function: Activation) -> Activation:
    """x as 1 x + -0, which keeps the sign of a zero."""
    return Activation.of("affine", 1.0, -0.0) if function.name == "linear" else function
