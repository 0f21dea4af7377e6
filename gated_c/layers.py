"""The layers around recurrent ones: what a loader hands over besides `LayerSpec`, and the rules of a chain of both.

Between layers run either a *sequence* [T,N,F], with steps that count and steps that do not (lengths, a mask), or a
*vector* [N,F], such as what a `Pool` leaves of a sequence. ``takes`` and ``gives`` say which of them a layer is for.
Sizes are features unless a name says steps. All arrays are float32.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, NamedTuple, TypeAlias

import numpy as np

from gated_c.arrays import Array
from gated_c.spec import FUNCTIONS, Activation, LayerSpec

LINEAR = Activation.of("linear")

#: What a Pool makes of the steps that count.
POOLS = ("last", "first", "mean", "max", "final")

#: No size, number of steps or reach of a convolution may be larger.
MOST = 2**24

#: How a Merge joins the two directions.
MERGES = ("sum", "mul", "ave")


class Core(NamedTuple):
    """A plain layer in the words of ``gated_layer`` in gated_c.h."""

    kind: str
    number: int = 0
    weight: Array | None = None
    bias: Array | None = None
    activation: Activation = LINEAR
    value: float = 0.0
    dilation: int = 1
    flag: bool = False


@dataclass(frozen=True, eq=False)
class PlainLayer:
    """What every layer here has. ``name`` is its place in the file or module it came from."""

    name: str = field(default="", kw_only=True)

    takes: ClassVar[str] = "any"
    gives: ClassVar[str] = "same"
    streamable: ClassVar[bool] = True
    divisible: ClassVar[bool] = True  # what it makes of a sequence is what it makes of its pieces, one after another
    stepwise: ClassVar[bool] = True  # what it makes of a step depends on that step only

    @property
    def input_size(self) -> int:
        size: int = getattr(self, "size")  # noqa: B009
        return size

    @property
    def output_size(self) -> int:
        return self.input_size

    @property
    def core(self) -> Core | None:
        """What the core is told; ``None`` if the layer is only about the form of the result."""
        raise NotImplementedError

    @property
    def weights(self) -> dict[str, Array]:
        """Field -> array, those that are there."""
        arrays = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: array for name, array in arrays.items() if isinstance(array, np.ndarray)}

    @property
    def num_parameters(self) -> int:
        return sum(int(array.size) for array in self.weights.values())

    def validate(self) -> None:
        """Raise one ``ValueError`` that lists everything wrong, with expected and got."""
        problems = [*self._dtype_problems(), *self._problems()]
        if problems:
            raise ValueError(f"{self.name or type(self).__name__}: " + "; ".join(problems))

    def _dtype_problems(self) -> Iterator[str]:
        for name, array in self.weights.items():
            if array.dtype != np.float32:
                yield f"{name}: expected float32, got {array.dtype}"

    def _problems(self) -> Iterator[str]:
        if not (1 <= self.input_size <= MOST and 1 <= self.output_size <= MOST):
            yield f"sizes: expected 1 to {MOST}, got {self.input_size} to {self.output_size}"


def _vector_problem(name: str, array: Array | None, size: int) -> Iterator[str]:
    if array is not None and array.shape != (size,):
        yield f"{name}: expected ({size},), got {array.shape}"


def _choice_problem(name: str, value: str, choices: Sequence[str]) -> Iterator[str]:
    if value not in choices:
        yield f"{name}: expected one of {', '.join(choices)}, got {value!r}"


@dataclass(frozen=True, eq=False)
class Embedding(PlainLayer):
    """Rows of ``weight`` [V, F] by integer ids 0..V-1; only the first of a chain. With ``mask_zero`` steps of id 0 do
    not count."""

    weight: Array = field(repr=False)
    mask_zero: bool = False

    takes: ClassVar[str] = "ids"
    gives: ClassVar[str] = "sequence"

    @property
    def input_size(self) -> int:
        return 1

    @property
    def output_size(self) -> int:
        return int(self.weight.shape[-1])

    @property
    def core(self) -> Core:
        return Core("embedding", number=len(self.weight), weight=self.weight, flag=self.mask_zero)

    def _problems(self) -> Iterator[str]:
        if self.weight.ndim != 2 or 0 in self.weight.shape:
            yield f"weight: expected two dimensions of at least 1, got {self.weight.shape}"


@dataclass(frozen=True, eq=False)
class Masking(PlainLayer):
    """Steps whose features all equal ``value`` do not count and become 0 (Keras)."""

    size: int
    value: float = 0.0

    takes: ClassVar[str] = "sequence"
    stepwise: ClassVar[bool] = False

    @property
    def core(self) -> Core:
        return Core("masking", value=self.value)


@dataclass(frozen=True, eq=False)
class Unmask(PlainLayer):
    """From here on every step counts, whatever it holds (Keras layers that do not support masking)."""

    size: int

    takes: ClassVar[str] = "sequence"
    stepwise: ClassVar[bool] = False

    @property
    def core(self) -> Core:
        return Core("unmask")


@dataclass(frozen=True, eq=False)
class Flip(PlainLayer):
    """The whole time axis back to front, as Keras's go_backwards reads it: the steps, and which of them count.

    ``steps=False`` turns around only the latter.
    """

    size: int
    steps: bool = True

    takes: ClassVar[str] = "sequence"
    streamable: ClassVar[bool] = False
    divisible: ClassVar[bool] = False
    stepwise: ClassVar[bool] = False

    @property
    def core(self) -> Core:
        return Core("flip" if self.steps else "flip_mask")


@dataclass(frozen=True, eq=False)
class Dense(PlainLayer):
    """activation(W x + b): ``weight`` [output, input], ``bias`` [output]."""

    weight: Array = field(repr=False)
    bias: Array | None = field(default=None, repr=False)
    activation: Activation = LINEAR

    @property
    def input_size(self) -> int:
        return int(self.weight.shape[-1])

    @property
    def output_size(self) -> int:
        return int(self.weight.shape[0])

    @property
    def core(self) -> Core:
        return Core("dense", weight=self.weight, bias=self.bias, activation=self.activation)

    def _problems(self) -> Iterator[str]:
        if self.weight.ndim != 2 or 0 in self.weight.shape:
            yield f"weight: expected two dimensions of at least 1, got {self.weight.shape}"
            return
        yield from _vector_problem("bias", self.bias, self.output_size)
        yield from _choice_problem("activation", self.activation.name, tuple(FUNCTIONS))


@dataclass(frozen=True, eq=False)
class Conv(PlainLayer):
    """Causal convolution over time: ``weight`` [output, K, input], its last tap on the step itself, the steps before
    the sequence being 0; taps ``dilation`` steps apart."""

    weight: Array = field(repr=False)
    bias: Array | None = field(default=None, repr=False)
    activation: Activation = LINEAR
    dilation: int = 1

    takes: ClassVar[str] = "sequence"
    stepwise: ClassVar[bool] = False

    @property
    def input_size(self) -> int:
        return int(self.weight.shape[-1])

    @property
    def output_size(self) -> int:
        return int(self.weight.shape[0])

    @property
    def core(self) -> Core:
        return Core(
            "conv",
            number=self.weight.shape[1],
            weight=self.weight,
            bias=self.bias,
            activation=self.activation,
            dilation=self.dilation,
        )

    def _problems(self) -> Iterator[str]:
        if self.weight.ndim != 3 or 0 in self.weight.shape:
            yield f"weight: expected three dimensions of at least 1, got {self.weight.shape}"
            return
        yield from _vector_problem("bias", self.bias, self.output_size)
        yield from _choice_problem("activation", self.activation.name, tuple(FUNCTIONS))
        if not (1 <= self.dilation <= MOST and (self.weight.shape[1] - 1) * self.dilation <= MOST):
            yield f"dilation: expected at least 1, and all taps within {MOST} steps, got {self.dilation}"


@dataclass(frozen=True, eq=False)
class Elementwise(PlainLayer):
    """An activation of every feature."""

    size: int
    activation: Activation

    @property
    def core(self) -> Core:
        return Core("elementwise", activation=self.activation)

    def _problems(self) -> Iterator[str]:
        yield from super()._problems()
        yield from _choice_problem("activation", self.activation.name, tuple(FUNCTIONS))


@dataclass(frozen=True, eq=False)
class Softmax(PlainLayer):
    """exp(x) / sum(exp(x)) over the features, or its logarithm."""

    size: int
    log: bool = False

    @property
    def core(self) -> Core:
        return Core("log_softmax" if self.log else "softmax")


@dataclass(frozen=True, eq=False)
class LayerNorm(PlainLayer):
    """(x - mean) / sqrt(variance + epsilon) over the features, times ``weight`` [F], plus ``bias`` [F]."""

    size: int
    weight: Array | None = field(default=None, repr=False)
    bias: Array | None = field(default=None, repr=False)
    epsilon: float = 1e-5

    @property
    def core(self) -> Core:
        return Core("layer_norm", weight=self.weight, bias=self.bias, value=self.epsilon)

    def _problems(self) -> Iterator[str]:
        yield from super()._problems()
        yield from _vector_problem("weight", self.weight, self.size)
        yield from _vector_problem("bias", self.bias, self.size)
        if not 0 <= self.epsilon < float("inf"):
            yield f"epsilon: expected a number of at least 0, got {self.epsilon}"


@dataclass(frozen=True, eq=False)
class Affine(PlainLayer):
    """scale * x + shift, each [F]: a BatchNorm at inference, for one."""

    scale: Array = field(repr=False)
    shift: Array = field(repr=False)

    @property
    def input_size(self) -> int:
        return int(self.scale.shape[0])

    @property
    def core(self) -> Core:
        return Core("scale", weight=self.scale, bias=self.shift)

    def _problems(self) -> Iterator[str]:
        if self.scale.ndim != 1 or not self.scale.size:
            yield f"scale: expected one dimension of at least 1, got {self.scale.shape}"
            return
        yield from _vector_problem("shift", self.shift, self.input_size)


@dataclass(frozen=True, eq=False)
class Merge(PlainLayer):
    """The first and second half of the features, both directions of a layer, to one of ``size``: ``sum``, ``mul``
    (product) or ``ave`` (mean)."""

    size: int
    mode: str

    @property
    def input_size(self) -> int:
        return 2 * self.size

    @property
    def output_size(self) -> int:
        return self.size

    @property
    def core(self) -> Core:
        return Core(f"merge_{self.mode}")

    def _problems(self) -> Iterator[str]:
        yield from super()._problems()
        yield from _choice_problem("mode", self.mode, MERGES)


@dataclass(frozen=True, eq=False)
class Split(PlainLayer):
    """The two halves of the features as two results (Keras's ``merge_mode=None``); only the last of a chain."""

    size: int

    gives: ClassVar[str] = "result"
    stepwise: ClassVar[bool] = False

    @property
    def core(self) -> Core | None:
        return None


@dataclass(frozen=True, eq=False)
class Slice(PlainLayer):
    """Features ``start`` to ``stop``, without that."""

    size: int
    start: int
    stop: int

    @property
    def input_size(self) -> int:
        return self.size

    @property
    def output_size(self) -> int:
        return self.stop - self.start

    @property
    def core(self) -> Core:
        return Core("slice", number=self.start)

    def _problems(self) -> Iterator[str]:
        if not 0 <= self.start < self.stop <= self.size:
            yield f"start, stop: expected 0 <= start < stop <= {self.size}, got {self.start}, {self.stop}"


@dataclass(frozen=True, eq=False)
class Pool(PlainLayer):
    """A sequence to a vector, from the steps that count: the ``last`` or ``first`` of them, their ``mean`` or ``max``,
    or what both directions ``final``ly hold: the last ``reverse_size`` features of the first step, the others of the
    last. A row without such steps gives 0.

    In a stream it pools the steps since the last reset, and comes out at every step.
    """

    size: int
    kind: str
    reverse_size: int = 0

    takes: ClassVar[str] = "sequence"
    gives: ClassVar[str] = "vector"
    divisible: ClassVar[bool] = False
    stepwise: ClassVar[bool] = False

    @property
    def core(self) -> Core:
        return Core(f"pool_{self.kind}", number=self.reverse_size)

    def _problems(self) -> Iterator[str]:
        yield from super()._problems()
        yield from _choice_problem("kind", self.kind, POOLS)
        if not 0 <= self.reverse_size <= (self.size if self.kind == "final" else 0):
            yield f"reverse_size: expected 0 or, of a final Pool, at most {self.size}, got {self.reverse_size}"


@dataclass(frozen=True, eq=False)
class Repeat(PlainLayer):
    """A vector to a sequence of ``steps`` times itself."""

    size: int
    steps: int

    takes: ClassVar[str] = "vector"
    gives: ClassVar[str] = "sequence"
    streamable: ClassVar[bool] = False
    divisible: ClassVar[bool] = False
    stepwise: ClassVar[bool] = False

    @property
    def core(self) -> Core:
        return Core("repeat", number=self.steps)

    def _problems(self) -> Iterator[str]:
        yield from super()._problems()
        if not 1 <= self.steps <= MOST:
            yield f"steps: expected 1 to {MOST}, got {self.steps}"


@dataclass(frozen=True, eq=False)
class Reshape(PlainLayer):
    """The numbers of a row, step after step, in another division: sequences of ``input_steps`` steps or a vector (0) to
    sequences of ``steps`` or a vector (0). Every step counts."""

    input_steps: int
    size: int
    steps: int
    new_size: int

    streamable: ClassVar[bool] = False
    divisible: ClassVar[bool] = False
    stepwise: ClassVar[bool] = False

    @property
    def input_size(self) -> int:
        return self.size

    @property
    def output_size(self) -> int:
        return self.new_size

    @property
    def core(self) -> Core:
        return Core("reshape", number=max(self.steps, 1))

    def _problems(self) -> Iterator[str]:
        yield from super()._problems()
        if not (0 <= self.input_steps <= MOST and 0 <= self.steps <= MOST):
            yield f"steps: expected 0 to {MOST}, got {self.input_steps} to {self.steps}"
        elif max(self.input_steps, 1) * self.size != max(self.steps, 1) * self.new_size:
            sizes = f"{self.input_steps} x {self.size}, {self.steps} x {self.new_size}"
            yield f"sizes: expected equal products, got {sizes}"


@dataclass(frozen=True, eq=False)
class Squeeze(PlainLayer):
    """The only feature without its axis; only the last of a chain."""

    size: int = 1

    gives: ClassVar[str] = "result"

    @property
    def core(self) -> Core | None:
        return None

    def _problems(self) -> Iterator[str]:
        if self.size != 1:
            yield f"size: expected 1, got {self.size}"


#: An element of a chain.
Layer: TypeAlias = LayerSpec | PlainLayer


def validate_chain(layers: Sequence[Any]) -> None:
    """Check every layer and that each takes what the one before gives. ``ValueError`` or ``TypeError`` names it."""
    for layer in layers:
        if not isinstance(layer, LayerSpec | PlainLayer):
            raise TypeError(f"layers: expected layers such as LayerSpec and Dense, got {type(layer).__name__}")
        layer.validate()
    recurrent = [layer for layer in layers if isinstance(layer, LayerSpec)]
    if not recurrent:
        raise ValueError("layers: expected at least one LSTM, GRU or RNN, got none")
    if len({layer.batch_first for layer in recurrent}) > 1:
        raise ValueError("layers: expected the same batch_first in all, got both")
    given = "vector" if first_takes(layers) == "vector" else "sequence"
    for before, layer in zip([None, *layers], layers, strict=False):
        _check_link(before, layer, given)
        given = gives(layer, given)
    ends = [layer for layer in layers if not isinstance(layer, Unmask) and getattr(layer, "steps", True)]
    if isinstance(ends[-1], Flip):
        raise ValueError(f"{ends[-1].name or 'Flip'}: expected a layer behind it that reads the steps")


def first_takes(layers: Sequence[Layer]) -> str:
    """What goes into the chain: ``ids``, ``sequence`` or ``vector``."""
    for layer in layers:
        takes = takes_of(layer)
        if takes != "any":
            return takes
    return "sequence"


def takes_of(layer: Layer) -> str:
    """``ids``, ``sequence``, ``vector`` or, if it makes no difference to the layer, ``any``."""
    if isinstance(layer, LayerSpec):
        return "sequence"
    if isinstance(layer, Reshape):
        return "sequence" if layer.input_steps else "vector"
    return layer.takes


def gives(layer: Layer, given: str) -> str:
    """``sequence``, ``vector`` or ``result``, which nothing takes, from a layer that was given one of the former."""
    if isinstance(layer, LayerSpec):
        return "sequence"
    if isinstance(layer, Reshape):
        return "sequence" if layer.steps else "vector"
    return given if layer.gives == "same" else layer.gives


def steps_after(layers: Sequence[Layer], steps: int) -> int:
    """How many steps come out of a chain into which ``steps`` go; a vector counts as one."""
    for layer in layers:
        if isinstance(layer, Reshape) and steps != max(layer.input_steps, 1):
            where = layer.name or "Reshape"
            raise ValueError(f"{where}: expected sequences of {layer.input_steps} steps, got {steps}")
        if isinstance(layer, Reshape | Repeat):
            steps = max(layer.steps, 1)
        elif isinstance(layer, Pool):
            steps = 1
    return steps


def _check_link(before: Layer | None, layer: Layer, given: str) -> None:
    where = layer.name or type(layer).__name__
    takes = takes_of(layer)
    if before is None:
        return
    if takes not in ("any", given) or given == "result":
        raise ValueError(f"{where}: expected a {takes}, got a {given} from {before.name or type(before).__name__}")
    if before.output_size != layer.input_size:
        raise ValueError(f"{where}: input_size: expected {before.output_size}, got {layer.input_size}")
