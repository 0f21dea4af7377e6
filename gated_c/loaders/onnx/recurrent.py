"""The operators LSTM, GRU and RNN: https://onnx.ai/onnx/operators/onnx__LSTM.html (GRU, RNN alike), opsets 7 to 22."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from gated_c.errors import FormatError, UnsupportedError
from gated_c.loaders.names import shown
from gated_c.loaders.onnx.tensors import AnyArray, own
from gated_c.loaders.onnx.values import Node
from gated_c.spec import DEFAULT_ACTIVATIONS, Activation, Array, LayerSpec


@dataclass(frozen=True)
class Kind:
    """One of the operators: where ONNX has the gates of our order, and its activations."""

    gates: tuple[int, ...]
    activations: tuple[str, ...]


#: Gates are i o f c of an LSTM and z r h of a GRU, here i f g o and r z n; peepholes i o f, here i f o.
KINDS = {
    "LSTM": Kind((0, 2, 3, 1), ("Sigmoid", "Tanh", "Tanh")),
    "GRU": Kind((1, 0, 2), ("Sigmoid", "Tanh")),
    "RNN": Kind((0,), ("Tanh",)),
}

#: ONNX's name in lower case -> ours, and its defaults of those parameters that it takes.
_FUNCTIONS: Mapping[str, tuple[str, tuple[float, ...]]] = {
    "relu": ("relu", ()),
    "tanh": ("tanh", ()),
    "sigmoid": ("sigmoid", ()),
    "affine": ("affine", (1.0, 0.0)),
    "leakyrelu": ("leaky_relu", (0.01,)),
    "thresholdedrelu": ("thresholded_relu", (1.0,)),
    "scaledtanh": ("scaled_tanh", (1.0, 1.0)),
    "hardsigmoid": ("hard_sigmoid", (0.2, 0.5)),
    "elu": ("elu", (1.0,)),
    "softsign": ("softsign", ()),
    "softplus": ("softplus", ()),
}

_PEEPHOLES = (0, 2, 1)

_DIRECTIONS = {"forward": 1, "reverse": 1, "bidirectional": 2}

#: Inputs by position. P, the peepholes, only of an LSTM.
X, W, R, B, SEQUENCE_LENS, INITIAL_H, INITIAL_C, P = range(8)


def recurrent_layer(node: Node, constant: Callable[[int], AnyArray | None], clip: str) -> LayerSpec:
    """The layer that a node is. ``constant`` gives an input that must not depend on x, or ``None``.

    Raises ``FormatError`` where attributes and weights do not fit together.
    """
    kind = KINDS[node.op]
    direction = node.text("direction", "forward").lower()
    if direction not in _DIRECTIONS:
        raise FormatError(f"direction: expected {', '.join(_DIRECTIONS)}, got {shown(direction)}")
    if node.integer("output_sequence", 1) != 1:
        raise UnsupportedError("output_sequence, of opsets before 7")
    weights = _weights(kind, [constant(at) for at in (W, R, B, P)], node, _DIRECTIONS[direction])
    activations = _activations(node, kind, _DIRECTIONS[direction])
    input_forget = node.op == "LSTM" and node.integer("input_forget", 0) != 0
    limit = node.number("clip", 0.0)
    cell = _cell(node, activations, limit)
    layer = LayerSpec(
        cell=cell,
        input_size=int(weights["weight_ih_l0"].shape[1]),
        hidden_size=int(weights["weight_hh_l0"].shape[1]),
        weights=weights,
        bidirectional=direction == "bidirectional",
        bias="bias_ih_l0" in weights,
        batch_first=node.integer("layout", 0) == 1,
        name=node.name,
        activations=_beyond_default(cell, activations),
        clip=limit,
        clip_output=clip == "spec",
        input_forget=input_forget,
        peepholes="weight_peephole_l0" in weights,
        reverse=direction == "reverse",
    )
    layer.validate()
    return layer


def _cell(node: Node, activations: tuple[Activation, ...], clip: float) -> str:
    if node.op == "RNN":
        names = {activation.name for activation in activations}
        return f"rnn_{names.pop()}" if names in ({"tanh"}, {"relu"}) and not clip else "rnn"
    if node.op == "GRU":
        return "gru" if node.integer("linear_before_reset", 0) else "gru_reset_before"
    return "lstm"


def _beyond_default(cell: str, activations: tuple[Activation, ...]) -> tuple[Activation, ...]:
    """Activations as `LayerSpec` has them: none where the cell implies them."""
    if cell in ("rnn_tanh", "rnn_relu"):
        return ()
    defaults = {
        "lstm": DEFAULT_ACTIVATIONS,
        "gru": DEFAULT_ACTIVATIONS[:2],
        "gru_reset_before": DEFAULT_ACTIVATIONS[:2],
    }
    default = defaults.get(cell, ())
    return () if default and activations in (default, default * 2) else activations


def _activations(node: Node, kind: Kind, directions: int) -> tuple[Activation, ...]:
    """Those of all directions. Parameters are listed for those functions alone that take any, in order."""
    names = node.texts("activations") or list(kind.activations * directions)
    if len(names) != len(kind.activations) * directions:
        raise FormatError(f"activations: expected {len(kind.activations) * directions}, got {len(names)}")
    parameters = (iter(node.numbers("activation_alpha")), iter(node.numbers("activation_beta")))
    return tuple(_activation(name, parameters) for name in names)


def _activation(name: str, parameters: tuple[Iterator[float], Iterator[float]]) -> Activation:
    if name.lower() not in _FUNCTIONS:
        raise UnsupportedError(f"activation {shown(name)}")
    ours, defaults = _FUNCTIONS[name.lower()]
    given = [next(values, default) for values, default in zip(parameters, defaults, strict=False)]
    return Activation.of(ours, *given)


def _weights(kind: Kind, arrays: list[AnyArray | None], node: Node, directions: int) -> dict[str, Array]:
    """W [D,G*H,C], R [D,G*H,H], B [D,2*G*H], P [D,3*H] under PyTorch's names and in its order of gates."""
    w, r, b, p = arrays
    if w is None or r is None:
        raise FormatError("W, R: expected both")
    if w.ndim != 3 or r.ndim != 3 or 0 in (*w.shape, *r.shape):
        raise FormatError(f"W, R: expected three dimensions of at least 1, got {w.shape} and {r.shape}")
    gates, hidden_size = len(kind.gates), node.integer("hidden_size", int(r.shape[2]))
    rows = gates * hidden_size
    shapes = {
        "W": (w, (directions, rows, w.shape[2])),
        "R": (r, (directions, rows, hidden_size)),
        "B": (b, (directions, 2 * rows)),
        "P": (p, (directions, 3 * hidden_size)),
    }
    for name, (array, shape) in shapes.items():
        if array is not None and array.shape != shape:
            raise FormatError(f"{name}: expected {shape}, got {array.shape}")
    weights = {}
    for d, suffix in zip(range(directions), ("_l0", "_l0_reverse"), strict=False):
        parts = {"weight_ih": w[d], "weight_hh": r[d]}
        if b is not None:
            parts |= {"bias_ih": b[d, :rows], "bias_hh": b[d, rows:]}
        weights.update({name + suffix: own(_reordered(part, kind.gates)) for name, part in parts.items()})
        if p is not None:
            weights["weight_peephole" + suffix] = own(_reordered(p[d], _PEEPHOLES))
    return weights


def _reordered(array: AnyArray, gates: tuple[int, ...]) -> AnyArray:
    """Blocks of rows in another order."""
    blocks = array.reshape(len(gates), -1, *array.shape[1:])
    return np.concatenate([blocks[gate] for gate in gates]) if len(gates) > 1 else array
