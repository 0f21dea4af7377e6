"""Keras's recurrent layers to `LayerSpec`: their cells' gate order and weight shapes, and what surrounds the loop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from gated_c.errors import FormatError, UnsupportedError
from gated_c.loaders.keras.activations import activation
from gated_c.loaders.keras.config import KerasLayer
from gated_c.loaders.keras.weights import Arrays, Weights, cells, directions, transpose
from gated_c.loaders.names import shown
from gated_c.spec import DEFAULT_ACTIVATIONS, FUNCTIONS, Activation, Array, LayerSpec

#: Keras's gates in the canonical order: its LSTM has i f c o, as i f g o, its GRU z r h.
_GATES = {"lstm": (0, 1, 2, 3), "gru": (1, 0, 2), "gru_reset_before": (1, 0, 2), "rnn": (0,)}

#: y at masked steps, for each backend: where a sequence begins with such, some repeat 0 and some the initial h.
MASKED = {"tensorflow": "repeat", "torch": "repeat", "jax": "repeat_initial", "numpy": "repeat_initial"}


@dataclass(frozen=True)
class Dialect:
    """What a config leaves to the version and backend that it was written by: ``keras`` 2 or 3, and how ``masked``
    steps come out."""

    keras: int
    masked: str


@dataclass(frozen=True)
class Recurrent:
    """A recurrent layer: the specs of its cells, one above the other, and what it does with their sequence."""

    specs: list[LayerSpec]
    bidirectional: bool
    go_backwards: bool
    return_sequences: bool
    merge_mode: str | None

    @property
    def output_size(self) -> int:
        """Features of one direction."""
        return self.specs[-1].hidden_size

    def alone(self) -> list[LayerSpec]:
        """The specs without what surrounds them: y in order of time, 0 at masked steps."""
        if self.bidirectional and self.go_backwards:
            raise UnsupportedError(
                f"{shown(self.specs[0].name)}: alone, a Bidirectional whose first direction goes backwards"
            )
        return [replace(spec, reverse=self.go_backwards, masked="zero") for spec in self.specs]


def read_recurrent_layer(layer: KerasLayer, weights: Weights, dialect: Dialect) -> Recurrent:
    """Any of Keras's, with its weights. Raises ``FormatError``, ``UnsupportedError``."""
    sides = directions(layer) if layer.class_name == "Bidirectional" else (layer,)
    for side in sides:
        _refuse_unknown(side)
    backwards = [side.option("go_backwards", False) for side in sides]
    return_sequences = sides[0].option("return_sequences", False)
    if len(sides) == 2 and (
        backwards[0] == backwards[1] or sides[1].option("return_sequences", False) != return_sequences
    ):
        raise FormatError(f"{shown(layer.name)}: expected directions that differ in go_backwards alone")
    stacks = [cells(side) for side in sides]
    if len({len(stack) for stack in stacks}) > 1:
        raise UnsupportedError(f"{shown(layer.name)}: directions of another number of cells")
    masked = _masked(layer, sides[0], return_sequences, dialect)
    specs = []
    for level, level_cells in enumerate(zip(*stacks, strict=True)):
        read = [_Cell.read(cell, weights, dialect) for cell in level_cells]
        name = layer.name if len(stacks[0]) == 1 else f"{layer.name}.{level}"
        specs.append(_spec(name, read, stacked=level > 0, masked=masked))
    return Recurrent(specs, len(sides) == 2, backwards[0], return_sequences, _merge_mode(layer))


def _refuse_unknown(side: KerasLayer) -> None:
    """Options and classes beyond those that compute what is computed here."""
    where = shown(side.name)
    if side.class_name not in ("LSTM", "GRU", "SimpleRNN", "RNN", "CuDNNLSTM", "CuDNNGRU"):
        raise UnsupportedError(f"{where}: Bidirectional of a {shown(side.class_name)}")
    if side.option("time_major", False):
        raise UnsupportedError(f"{where}: time_major=True")
    for cell in cells(side):
        if cell.class_name not in _CELLS:
            raise UnsupportedError(f"{where}: a cell of class {shown(cell.class_name)}")


def _masked(layer: KerasLayer, side: KerasLayer, return_sequences: bool, dialect: Dialect) -> str:
    # Unrolled backwards, TensorFlow zeroes by a mask it forgot to turn around; its loop and ours do not.
    is_zero = return_sequences if layer.class_name == "Bidirectional" else side.option("zero_output_for_mask", False)
    if is_zero:
        return "zero"
    return "repeat" if side.option("unroll", False) else dialect.masked


def _merge_mode(layer: KerasLayer) -> str | None:
    if layer.class_name != "Bidirectional":
        return "concat"
    mode = layer.config.get("merge_mode", "concat")
    if mode is not None and mode not in ("concat", "sum", "mul", "ave"):
        raise FormatError(
            f"{shown(layer.name)}: merge_mode: expected concat, sum, mul, ave or null, got {shown(repr(mode))}"
        )
    return None if mode is None else str(mode)


def _spec(name: str, sides: Sequence[_Cell], stacked: bool, masked: str) -> LayerSpec:
    """One cell in one or two directions. A stacked one in two directions sees only its own direction's output."""
    first = sides[0]
    if any(side.sizes != first.sizes for side in sides):
        raise UnsupportedError(
            f"{shown(name)}: directions of different cells or sizes: {', '.join(map(str, sides))}; of a live layer "
            "each runs by itself: from_keras(layer.forward_layer), from_keras(layer.backward_layer)"
        )
    bias = any(side.bias for side in sides)
    weights: dict[str, Array] = {}
    for direction, side in enumerate(sides):
        suffix = "_l0" + "_reverse" * direction
        weights["weight_ih" + suffix] = (
            _beside(side.weight_ih, direction) if stacked and len(sides) == 2 else side.weight_ih
        )
        weights["weight_hh" + suffix] = side.weight_hh
        if bias:
            weights["bias_ih" + suffix], weights["bias_hh" + suffix] = side.bias or (_zeros(side), _zeros(side))
    cell, activations = _with_activations(first.cell, [side.activations for side in sides])
    return LayerSpec(
        cell,
        input_size=weights["weight_ih_l0"].shape[1],
        hidden_size=first.hidden_size,
        weights=weights,
        bidirectional=len(sides) == 2,
        bias=bias,
        batch_first=True,
        name=name,
        activations=activations,
        masked=masked,
    )


def _zeros(side: _Cell) -> Array:
    return np.zeros(len(side.weight_hh), np.float32)


def _beside(weight: Array, direction: int) -> Array:
    """The input weights of a cell that reads its own half of both directions' output."""
    zeros = np.zeros_like(weight)
    return np.concatenate([zeros, weight] if direction else [weight, zeros], axis=1)


def _with_activations(cell: str, sides: Sequence[tuple[Activation, ...]]) -> tuple[str, tuple[Activation, ...]]:
    """The plainest cell that has these activations, and those that it needs to be told."""
    flat = tuple(one for side in sides for one in side)
    names = {one.name for one in flat}
    if cell == "rnn" and names in ({"tanh"}, {"relu"}):
        return f"rnn_{flat[0].name}", ()
    if cell != "rnn" and all(side == DEFAULT_ACTIVATIONS[: len(side)] for side in sides):
        return cell, ()
    return cell, flat


@dataclass(frozen=True)
class _Cell:
    """One cell in one direction, in canonical order."""

    cell: str
    weight_ih: Array
    weight_hh: Array
    bias: tuple[Array, Array] | None
    activations: tuple[Activation, ...]

    @property
    def hidden_size(self) -> int:
        return int(self.weight_hh.shape[1])

    @property
    def sizes(self) -> tuple[str, int, int]:
        return self.cell, self.weight_ih.shape[1], self.hidden_size

    def __str__(self) -> str:
        return "{} of {} to {}".format(*self.sizes)

    @classmethod
    def read(cls, layer: KerasLayer, weights: Weights, dialect: Dialect) -> _Cell:
        units = layer.size("units")
        cell = _cell_name(layer)
        gates = _GATES[cell]
        arrays = weights.read(layer)
        _check(layer, "kernel", arrays, (None, len(gates) * units))
        _check(layer, "recurrent_kernel", arrays, (units, len(gates) * units))
        bias = arrays.get("bias")
        if bias is not None and bias.shape == (2 * len(gates) * units,) and cell in ("lstm", "gru"):
            arrays = _from_cudnn(arrays, len(gates))
        return cls(
            cell,
            _columns(arrays["kernel"], units, gates),
            _columns(arrays["recurrent_kernel"], units, gates),
            None if bias is None else _biases(layer, arrays, units, cell),
            _activations(layer, cell, dialect),
        )


#: Classes of cells, CuDNN's layers being their own.
_CELLS = {
    "LSTMCell": "lstm",
    "GRUCell": "gru",
    "SimpleRNNCell": "rnn",
    "CuDNNLSTM": "lstm",
    "CuDNNGRU": "gru",
}


def _cell_name(layer: KerasLayer) -> str:
    # Before Keras 2.1.3 there was no such option and no other GRU.
    is_before = layer.class_name == "GRUCell" and not layer.option("reset_after", False)
    return "gru_reset_before" if is_before else _CELLS[layer.class_name]


def _activations(layer: KerasLayer, cell: str, dialect: Dialect) -> tuple[Activation, ...]:
    """In ONNX's order: f g h of an LSTM, f g of a GRU, f."""
    gate, inner = layer.config.get("recurrent_activation", "sigmoid"), layer.config.get("activation", "tanh")
    values = {"lstm": (gate, inner, inner), "rnn": (inner,)}.get(cell, (gate, inner))
    try:
        activations = tuple(activation(value, dialect.keras) for value in values)
    except UnsupportedError as error:
        raise UnsupportedError(f"{shown(layer.name)}: {error}") from None
    for one in activations:
        if one.name not in FUNCTIONS:
            raise UnsupportedError(f"{shown(layer.name)}: activation {one.name} in a cell")
    return activations


def _check(layer: KerasLayer, name: str, arrays: Arrays, shape: tuple[int | None, ...]) -> None:
    got = arrays[name].shape
    if (
        len(got) != len(shape)
        or 0 in got
        or any(want not in (None, size) for want, size in zip(shape, got, strict=True))
    ):
        expected = str(shape).replace("None", "?")
        raise FormatError(f"{shown(layer.name)}: {name}: expected {expected}, got {got}")


def _columns(kernel: npt.NDArray[Any], units: int, gates: Sequence[int]) -> Array:
    """A kernel [C, G*H] as rows [G*H, C], gates in canonical order."""
    rows = np.empty(kernel.shape[::-1], np.float32)
    for n, gate in enumerate(gates):
        transpose(kernel[:, gate * units : (gate + 1) * units], rows[n * units : (n + 1) * units])
    return rows


def _biases(layer: KerasLayer, arrays: Arrays, units: int, cell: str) -> tuple[Array, Array]:
    """Input and recurrent bias: a GRU that resets after has both [2, 3H], other cells one [G*H]."""
    gates = _GATES[cell]
    rows = (2,) if cell == "gru" else ()
    _check(layer, "bias", arrays, (*rows, len(gates) * units))
    both = np.zeros((2, len(gates) * units), np.float32)
    both[: 2 if rows else 1] = arrays["bias"]
    ordered = np.concatenate([both[:, gate * units : (gate + 1) * units] for gate in gates], axis=1)
    return ordered[0].copy(), ordered[1].copy()


def _from_cudnn(arrays: Arrays, gates: int) -> Arrays:
    """CuDNN's layers have each gate's kernels transposed and a bias twice as long (hdf5_format.py of Keras 2)."""
    kernels = np.split(arrays["kernel"], gates, axis=1)
    recurrent = np.split(arrays["recurrent_kernel"], gates, axis=1)
    both = arrays["bias"].reshape(2, -1)
    return {
        "kernel": np.hstack([kernel.T.reshape(kernel.shape, order="F") for kernel in kernels]),
        "recurrent_kernel": np.hstack([kernel.T for kernel in recurrent]),
        "bias": both.sum(0) if gates == 4 else both,
    }
