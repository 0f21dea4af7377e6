"""What a loader hands over: one recurrent module in PyTorch's names, order and shapes, checked as a whole.

Foreign conventions (other gate orders, transposed kernels, split biases) end in the loaders; nothing behind this module
knows them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import isfinite, prod
from typing import NamedTuple

import numpy as np

from gated_c.arrays import Array as Array
from gated_c.narrow import dtype_of, stored_of

#: The largest number of float32.
LARGEST = float(np.finfo(np.float32).max)

#: Rows of W and R per hidden unit. Canonical gate order: LSTM ``i f g o``, GRU ``r z n``.
#: ``gru`` resets after the recurrent product (PyTorch), ``gru_reset_before`` before it; ``rnn`` has any activation.
GATES = {"lstm": 4, "gru": 3, "gru_reset_before": 3, "rnn_tanh": 1, "rnn_relu": 1, "rnn": 1}

#: Activations of a direction, for cells that can have others than PyTorch's; ONNX's order: LSTM f g h, GRU f g, RNN f.
ACTIVATIONS = {"lstm": 3, "gru": 2, "gru_reset_before": 2, "rnn": 1}

#: What an activation may be: name -> defaults of alpha and beta. Definitions in gated_c.h.
FUNCTIONS = {
    "sigmoid": (0.0, 0.0),
    "tanh": (0.0, 0.0),
    "relu": (0.0, 0.0),
    "linear": (0.0, 0.0),
    "affine": (1.0, 0.0),
    "hard_sigmoid": (1 / 6, 0.5),
    "leaky_relu": (0.01, 0.0),
    "thresholded_relu": (1.0, 0.0),
    "scaled_tanh": (1.0, 1.0),
    "elu": (1.0, 0.0),
    "selu": (0.0, 0.0),
    "celu": (1.0, 0.0),
    "softsign": (0.0, 0.0),
    "softplus": (0.0, 0.0),
    "exponential": (0.0, 0.0),
    "silu": (0.0, 0.0),
    "hard_silu": (0.0, 0.0),
    "gelu": (0.0, 0.0),
    "gelu_tanh": (0.0, 0.0),
    "mish": (0.0, 0.0),
    "relu6": (0.0, 0.0),
    "hard_tanh": (0.0, 0.0),
    "log_sigmoid": (0.0, 0.0),
    "tanh_shrink": (0.0, 0.0),
    "soft_shrink": (0.5, 0.0),
    "hard_shrink": (0.5, 0.0),
    "squareplus": (4.0, 0.0),
}

#: y at steps that do not count: 0 or, as in Keras, the output before in the order of processing, which before the first
#: is 0 (TensorFlow, PyTorch as its backend) or the initial h (JAX, NumPy).
MASKED = ("zero", "repeat", "repeat_initial")

#: Cells whose state has a second part ``c``.
CELLS_WITH_C = frozenset({"lstm"})


class Activation(NamedTuple):
    """One of ``FUNCTIONS`` with its parameters."""

    name: str
    alpha: float
    beta: float

    @classmethod
    def of(cls, name: str, alpha: float | None = None, beta: float | None = None) -> Activation:
        """With the function's defaults where a parameter is ``None``. ``ValueError`` for an unknown name."""
        if name not in FUNCTIONS:
            raise ValueError(f"activation: expected one of {', '.join(FUNCTIONS)}, got {name!r}")
        default_alpha, default_beta = FUNCTIONS[name]
        return cls(
            name, default_alpha if alpha is None else float(alpha), default_beta if beta is None else float(beta)
        )


#: PyTorch's, and everybody's default: sigmoid gates, tanh candidate and output.
DEFAULT_ACTIVATIONS = (Activation.of("sigmoid"), Activation.of("tanh"), Activation.of("tanh"))

_LAYER_WEIGHT = re.compile(r"(weight_ih|weight_hh|weight_hr|bias_ih|bias_hh)_l(\d{1,6})(_reverse)?", re.ASCII)


@dataclass(frozen=True, eq=False)
class LayerSpec:
    """One recurrent module: ``num_layers`` stacked layers of one cell, in one or two directions.

    ``weights`` maps PyTorch's names (``weight_ih_l0``, ``weight_hh_l0_reverse``, ...) to float32 arrays: ``weight_ih``
    [G*H, C], ``weight_hh`` [G*H, P or H], ``bias_ih`` and ``bias_hh`` [G*H], ``weight_hr`` [P, H], and for an LSTM with
    peepholes ``weight_peephole`` [3*H] in the order i f o. A learned initial state is ``initial_h`` [P or H] and, of an
    LSTM, ``initial_c`` [H]; either may be missing, and is zeros then.
    ``name`` is the place in the file or module it came from, such as ``encoder.lstm``.

    Beyond PyTorch: ``activations`` of all directions in ONNX's order (``ACTIVATIONS`` says how many; none: defaults),
    ``clip`` (0: none) of the inputs of activations, ``clip_output`` whether that includes an LSTM's c before its
    output, ``input_forget`` (f = 1 - i), ``reverse`` (one direction, last step first, y in the order of time),
    ``masked`` (``MASKED``: what y is at a step that does not count; the state stays as it is).

    ``h_limit`` [L*D], in the order of the state, is for int8: a bound of abs(h) of each direction of each layer, beyond
    which h saturates, from :meth:`gated_c.Model.to`; 0, or all of it empty, for what follows from the cell.
    """

    cell: str
    input_size: int
    hidden_size: int
    weights: Mapping[str, Array] = field(repr=False)
    num_layers: int = 1
    bidirectional: bool = False
    proj_size: int = 0
    bias: bool = True
    batch_first: bool = False
    name: str = ""
    activations: tuple[Activation, ...] = ()
    clip: float = 0.0
    clip_output: bool = True
    input_forget: bool = False
    peepholes: bool = False
    reverse: bool = False
    masked: str = "zero"
    h_limit: tuple[float, ...] = ()

    @property
    def streamable(self) -> bool:
        """Whether it can run step by step: no direction starts at the end."""
        return not (self.bidirectional or self.reverse)

    @property
    def in_torch(self) -> bool:
        """Whether PyTorch has this module."""
        beyond = self.is_general or self.reverse or self.has_initial_state
        return self.cell in ("lstm", "gru", "rnn_tanh", "rnn_relu") and not beyond

    @property
    def dtype(self) -> str:
        """That its recurrent weights are kept in: ``bfloat16`` or ``int8`` in a narrow model, else ``float32``."""
        return dtype_of(self.weights, "weight_hh_l0")

    @property
    def has_initial_state(self) -> bool:
        """Whether a sequence starts from something learned rather than from zeros."""
        return any(name.startswith("initial_") for name in self.weights)

    @property
    def is_general(self) -> bool:
        """Whether it does anything that PyTorch's cell does not."""
        return bool(self.activations or self.clip or self.input_forget or self.peepholes)

    def activations_of(self, direction: int) -> tuple[Activation, ...]:
        """f, g, h of a direction, as many as the cell has."""
        count = ACTIVATIONS[self.cell]
        return self.activations[direction * count : (direction + 1) * count] or DEFAULT_ACTIVATIONS[:count]

    @property
    def num_directions(self) -> int:
        return 2 if self.bidirectional else 1

    @property
    def has_c(self) -> bool:
        """Whether the state is ``(h, c)`` rather than ``h``."""
        return self.cell in CELLS_WITH_C

    @property
    def h_size(self) -> int:
        """Width of h of one direction: the projected size, or hidden_size."""
        return self.proj_size or self.hidden_size

    @property
    def output_size(self) -> int:
        """Width of y: both directions side by side."""
        return self.h_size * self.num_directions

    @property
    def num_parameters(self) -> int:
        return sum(prod(weight.shape) for weight in stored_of(self.weights).values())

    def suffixes(self) -> Iterator[tuple[int, str]]:
        """``(layer, suffix)`` of every direction of every layer in the state's order: ``_l0``, ``_l0_reverse``."""
        for layer in range(self.num_layers):
            for direction in ("", "_reverse")[: self.num_directions]:
                yield layer, f"_l{layer}{direction}"

    def alone(self, index: int) -> LayerSpec:
        """Layer ``index`` of the stack, as a module of one layer."""
        suffixes = tuple(suffix for layer, suffix in self.suffixes() if layer == index)
        weights = {
            name.replace(f"_l{index}", "_l0"): weight
            for name, weight in self.weights.items()
            if name.endswith(suffixes)
        }
        input_size = self.input_size if index == 0 else self.output_size
        directions = slice(index * self.num_directions, (index + 1) * self.num_directions)
        return replace(self, num_layers=1, input_size=input_size, weights=weights, h_limit=self.h_limit[directions])

    def expected_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every weight that this module must have; no others but `initial_shapes`."""
        rows = GATES[self.cell] * self.hidden_size
        shapes: dict[str, tuple[int, ...]] = {}
        for layer, suffix in self.suffixes():
            shapes["weight_ih" + suffix] = (rows, self.input_size if layer == 0 else self.output_size)
            shapes["weight_hh" + suffix] = (rows, self.h_size)
            if self.bias:
                shapes["bias_ih" + suffix] = (rows,)
                shapes["bias_hh" + suffix] = (rows,)
            if self.proj_size:
                shapes["weight_hr" + suffix] = (self.proj_size, self.hidden_size)
            if self.peepholes:
                shapes["weight_peephole" + suffix] = (3 * self.hidden_size,)
        return shapes

    def initial_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every weight that it may have: those of a learned initial state."""
        shapes: dict[str, tuple[int, ...]] = {}
        for _, suffix in self.suffixes():
            shapes["initial_h" + suffix] = (self.h_size,)
            if self.has_c:
                shapes["initial_c" + suffix] = (self.hidden_size,)
        return shapes

    def validate(self) -> None:
        """Raise one ``ValueError`` that lists everything wrong with the sizes and weights, with expected and got."""
        problems = list(self._problems())
        if problems:
            where = f"{self.name}: " if self.name else ""
            raise ValueError(where + "; ".join(problems))

    def _problems(self) -> Iterator[str]:
        if self.cell not in GATES:
            yield f"cell: expected one of {', '.join(GATES)}, got {self.cell!r}"
            return
        for size, least in (("input_size", 1), ("hidden_size", 1), ("num_layers", 1), ("proj_size", 0)):
            if getattr(self, size) < least:
                yield f"{size}: expected at least {least}, got {getattr(self, size)}"
        if self.proj_size and self.cell != "lstm":
            yield f"proj_size: expected 0 for {self.cell}, got {self.proj_size}"
        if self.proj_size and self.proj_size >= self.hidden_size:
            yield f"proj_size: expected less than hidden_size {self.hidden_size}, got {self.proj_size}"
        yield from self._option_problems()
        if self.num_layers > len(self.weights):
            yield f"weights: expected those of {self.num_layers} layers, got {len(self.weights)} in all"
            return
        expected, optional, given = self.expected_shapes(), self.initial_shapes(), stored_of(self.weights)
        for name, shape in (expected | optional).items():
            if name not in given:
                if name in expected:
                    yield f"{name}: missing, expected {shape}"
            elif given[name].shape != shape:
                yield f"{name}: expected {shape}, got {given[name].shape}"
            elif given[name].dtype != np.float32:
                yield f"{name}: expected float32, got {given[name].dtype}"
        for name in given:
            if name not in expected and name not in optional:
                yield f"{name}: unexpected"

    def _option_problems(self) -> Iterator[str]:
        needed = ACTIVATIONS.get(self.cell, 0) * self.num_directions
        if len(self.activations) not in ({needed} if self.cell == "rnn" else {0, needed}):
            yield f"activations: expected {needed} for {self.cell}, got {len(self.activations)}"
        for activation in self.activations:
            if activation.name not in FUNCTIONS:
                yield f"activations: expected one of {', '.join(FUNCTIONS)}, got {activation.name!r}"
        if not (self.clip >= 0 and isfinite(self.clip)):
            yield f"clip: expected a positive number or 0 for none, got {self.clip}"
        if self.clip and self.cell not in ACTIVATIONS:
            yield f"clip: expected 0 for {self.cell}, got {self.clip}"
        for option in ("input_forget", "peepholes"):
            if getattr(self, option) and self.cell != "lstm":
                yield f"{option}: expected False for {self.cell}, got True"
        if self.masked not in MASKED:
            yield f"masked: expected one of {', '.join(MASKED)}, got {self.masked!r}"
        if len(self.h_limit) not in (0, self.num_layers * self.num_directions):
            yield f"h_limit: expected {self.num_layers * self.num_directions} or none, got {len(self.h_limit)}"
        if not all(0 <= limit <= LARGEST for limit in self.h_limit):
            yield f"h_limit: expected positive numbers of float32, or 0 for none, got {self.h_limit}"
        if self.reverse and self.bidirectional:
            yield "reverse: expected False for a bidirectional module, got True"

    @classmethod
    def from_weights(
        cls,
        weights: Mapping[str, Array],
        *,
        nonlinearity: str = "tanh",
        batch_first: bool = False,
        name: str = "",
    ) -> LayerSpec:
        """The module that a set of weights describes: cell and sizes follow from names and shapes.

        A state_dict says neither ``nonlinearity`` (of a plain RNN) nor ``batch_first``. Raises ``ValueError`` with
        everything that does not fit.
        """
        where = f"{name}: " if name else ""
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"{where}nonlinearity: expected 'tanh' or 'relu', got {nonlinearity!r}")
        for key in ("weight_ih_l0", "weight_hh_l0"):
            if key not in weights:
                raise ValueError(f"{where}{key}: missing")
            if weights[key].ndim != 2 or 0 in weights[key].shape:
                raise ValueError(f"{where}{key}: expected two dimensions of at least 1, got {weights[key].shape}")
        rows, h_size = weights["weight_hh_l0"].shape
        projection = weights.get("weight_hr_l0")
        if projection is not None and projection.ndim != 2:
            raise ValueError(f"{where}weight_hr_l0: expected two dimensions, got {projection.shape}")
        hidden_size = h_size if projection is None else int(projection.shape[1])
        gates = rows // max(hidden_size, 1)
        cell = {4: "lstm", 3: "gru", 1: f"rnn_{nonlinearity}"}.get(gates)
        if cell is None or rows != gates * hidden_size:
            raise ValueError(
                f"{where}weight_hh_l0: expected 4, 3 or 1 times {hidden_size} rows (LSTM, GRU, RNN), got {rows}"
            )
        parsed = [m for m in map(_LAYER_WEIGHT.fullmatch, weights) if m]
        num_layers = 1 + max(int(m[2]) for m in parsed)
        if num_layers > len(weights):
            raise ValueError(f"{where}expected weights of {num_layers} layers, got {len(weights)} arrays in all")
        spec = cls(
            cell=cell,
            input_size=int(weights["weight_ih_l0"].shape[1]),
            hidden_size=hidden_size,
            weights=weights,
            num_layers=num_layers,
            bidirectional=any(m[3] for m in parsed),
            proj_size=0 if projection is None else h_size,
            bias=any(m[1].startswith("bias") for m in parsed),
            batch_first=batch_first,
            name=name,
        )
        spec.validate()
        return spec
