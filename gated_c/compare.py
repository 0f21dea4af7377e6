"""Two models with the same layers on one input: how far the second is off, and where that comes from.

Both run whole, for y, and cut behind every recurrent layer, for its h: a layer of a stack, with the plain layers in
front of it, makes a model of its own and gives the bits that it gives within the network.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from gated_c import packed
from gated_c.arrays import Array, checked_lengths, differences
from gated_c.comparison import Comparison, Error, LayerComparison
from gated_c.layers import Layer, Split, Squeeze, Unmask
from gated_c.model import Mask, Model
from gated_c.spec import LayerSpec
from gated_c.state import flatten_state, unflatten_state

MOST_PARTS = 100  # of a drift


def compare(
    model: Model, narrow: Model, x: Any, *, state: Any = None, lengths: Any = None, mask: Any = None
) -> Comparison:
    """How far ``narrow`` is from ``model``, the reference, which has the same layers: of h of every recurrent layer and
    direction, over time, and of y. For models of bfloat16 or int8, but any two will do.

    ``x``, ``state``, ``lengths`` and ``mask`` are as a call takes them. Steps that do not count are left out, as are
    those that a ``Masking`` layer or an embedding takes out. The work is that of two calls of ``model`` and three of
    ``narrow``, and every h is in memory.

    Raises ``ValueError`` for other layers or sizes, with expected and got, or if no step counts; else as a call does.
    """
    _check_same(model, narrow)
    if packed.is_packed(x):
        raise TypeError("x: expected an array and lengths, got a PackedSequence")
    y, narrow_y = (_whole(one, x, state, lengths, mask) for one in (model, narrow))
    inputs, unbatched = model._time_major(x)
    steps = _Steps.of(model, inputs, lengths, mask, unbatched)
    if not steps.counts.any():
        raise ValueError("x: expected at least one step that counts, got none")
    layers: list[LayerComparison] = []
    given = narrow_given = inputs
    states = _states(model.recurrent, state, inputs.shape[1], unbatched)
    for stage, narrow_stage, initial in zip(_stages(model), _stages(narrow), states, strict=True):
        narrow_model = narrow_stage.model(narrow)
        h = _run(stage.model(model), given, steps, initial)
        narrow_h = _run(narrow_model, narrow_given, steps, initial)
        own_h = narrow_h if given is narrow_given else _run(narrow_model, given, steps, initial)
        steps = steps.behind(stage.plain, given)
        layers += _compare_layer(stage, h, narrow_h, own_h, steps.counts)
        given, narrow_given = h, narrow_h
    counts = steps.at_the_end(model, given)
    error, _ = _error(y[counts], narrow_y[counts])
    return Comparison(
        reference=str(model._options),
        narrow=str(narrow._options),
        layers=tuple(layers),
        output=error,
        rows=int(counts.sum()),
        argmax_changed=_changed(model, y, narrow_y, counts),
    )


class _Stage(NamedTuple):
    """A recurrent layer, alone and time-major, and the plain ones in front of it."""

    name: str
    plain: list[Layer]
    layer: LayerSpec

    def model(self, like: Model) -> Model:
        """It gives h at all steps, as the next layer is given it."""
        return _model([*self.plain, self.layer, Unmask(self.layer.output_size)], like)


@dataclass(frozen=True)
class _Steps:
    """Which steps [T,N] are live for the network, and those of them that count for us: not those that are live again
    behind a layer without masks."""

    live: Mask
    counts: Mask

    @classmethod
    def of(cls, model: Model, x: npt.NDArray[Any], lengths: Any, mask: Any, unbatched: bool) -> _Steps:
        """As the arguments of a call say, which were checked."""
        live = np.ones(x.shape[:2], np.bool_)
        if lengths is not None:
            live = np.arange(len(x))[:, None] < checked_lengths(lengths, len(x), x.shape[1])
        if mask is not None:
            live = model._checked_mask("mask", mask, len(x), x.shape[1], unbatched)
        return cls(live, live)

    def behind(self, plain: Sequence[Layer], x: npt.NDArray[Any]) -> _Steps:
        """Behind plain layers, given x [T,N,F], from where on there is a sequence."""
        if not plain:
            return self
        masking = [layer for layer in plain if not isinstance(layer, Unmask)]
        live, counts = _live_behind(plain, x, self.live), _live_behind(masking, x, self.counts)
        return _Steps(live, counts & self.counts.any(0))

    def at_the_end(self, model: Model, x: npt.NDArray[Any]) -> Mask:
        """Which steps of y [T,N] count, x being what the last recurrent layer gives; a vector is one step."""
        if model.gives == "vector":
            return self.counts.any(0).reshape(1, -1)
        last = max(index for index, layer in enumerate(model.layers) if isinstance(layer, LayerSpec))
        tail = [layer for layer in model.layers[last + 1 :] if not isinstance(layer, Split | Squeeze)]
        return self.behind(tail, x).counts


def _live_behind(plain: Sequence[Layer], x: npt.NDArray[Any], live: Mask) -> Mask:
    """By a recurrent layer that gives 1 at every live step."""
    if not plain:
        return live
    size = plain[-1].output_size
    shapes = LayerSpec("rnn_relu", size, 1, {}).expected_shapes()
    weights = {name: np.full(shape, name == "bias_ih_l0", np.float32) for name, shape in shapes.items()}
    ones = _run(Model([*plain, LayerSpec("rnn_relu", size, 1, weights)]), x, _Steps(live, live), None)
    behind: Mask = ones[..., 0] != 0
    return behind


def _stages(model: Model) -> Iterator[_Stage]:
    plain: list[Layer] = []
    for layer in model.layers:
        if not isinstance(layer, LayerSpec):
            plain.append(layer)
            continue
        for index in range(layer.num_layers):
            number = f" layer {index}" if layer.num_layers > 1 else ""
            yield _Stage((layer.name or layer.cell) + number, plain, replace(layer.alone(index), batch_first=False))
            plain = []


def _states(layers: Sequence[LayerSpec], state: Any, batch: int, unbatched: bool) -> Iterator[Any]:
    """The initial state of every stage."""
    flat = None if state is None else flatten_state(layers, state, batch, unbatched)
    states = None if flat is None else unflatten_state(layers, flat, batch, unbatched=False)
    for number, layer in enumerate(layers):
        own: Any = states[number] if len(layers) > 1 and states is not None else states
        for index in range(layer.num_layers):
            part = slice(index * layer.num_directions, (index + 1) * layer.num_directions)
            yield own if own is None else tuple(array[part] for array in own) if layer.has_c else own[part]


def _model(layers: Sequence[Layer], like: Model) -> Model:
    return Model(layers, **like._options._asdict())


def _whole(model: Model, x: Any, state: Any, lengths: Any, mask: Any) -> Array:
    """y as [T,N,F]."""
    out, y = model._output(None, *model._time_major(x))
    model(x, state, lengths=lengths, mask=mask, out=out)
    return y


def _run(model: Model, x: npt.NDArray[Any], steps: _Steps, state: Any) -> Array:
    """What a time-major model makes of x [T,N,F], ids as [T,N,1], a vector as [1,N,F]: a sequence."""
    given = {"sequence": x, "ids": x[..., 0], "vector": x[0]}[model.takes]
    y, _ = model(given, state, mask=None if steps.live.all() else steps.live)
    result: Array = y
    return result


def _compare_layer(stage: _Stage, h: Array, narrow_h: Array, own_h: Array, counts: Mask) -> Iterator[LayerComparison]:
    """Of every direction of h [T,N,D*H]."""
    size = stage.layer.h_size
    for index in range(stage.layer.num_directions):
        is_reverse = index == 1 or stage.layer.reverse
        parts = (array[counts][:, index * size : (index + 1) * size] for array in (h, narrow_h, own_h))
        reference, built_up, own = parts
        error, squares = _error(reference, built_up)
        drift, first_steps, growth = _drift(squares, _read_as(counts, is_reverse))
        direction = "reverse" if is_reverse else "forward"
        own_error, _ = _error(reference, own)
        yield LayerComparison(stage.name, direction, error, own_error, drift, first_steps, growth)


def _error(reference: Array, values: Array) -> tuple[Error, npt.NDArray[np.float64]]:
    """Of [M,F], and the squares of its differences."""
    apart = differences(reference, values)
    squares = np.square(apart)
    rms, whole = np.sqrt(squares.mean()), np.sqrt(np.square(reference, dtype=np.float64).mean())
    return Error(_ratio(rms, whole), float(apart.max())), squares


def _ratio(error: float, whole: float) -> float:
    """Of no error to nothing 0."""
    if error == 0:
        return 0.0
    return float(error / whole) if whole else inf


def _read_as(counts: Mask, is_reverse: bool) -> npt.NDArray[np.int64]:
    """As the how-manieth of its row, from 0, a direction reads each step that counts [M]."""
    order = counts[::-1] if is_reverse else counts
    ranks = np.cumsum(order, axis=0) - 1
    result: npt.NDArray[np.int64] = (ranks[::-1] if is_reverse else ranks)[counts]
    return result


def _drift(
    squares: npt.NDArray[np.float64], read_as: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64], float]:
    """rms of the differences by parts of the time, where each part starts, and their growth, from the squares [M,F] of
    steps that are read as [M]."""
    of_step = np.bincount(read_as, squares.sum(1))
    numbers = np.bincount(read_as) * squares.shape[1]
    steps = len(of_step)
    parts = min(steps, MOST_PARTS)
    starts = np.arange(parts) * steps // parts
    drift = np.sqrt(np.add.reduceat(of_step, starts) / np.add.reduceat(numbers, starts))
    tenth = -(-steps // 10)
    first, last = (np.sqrt(of_step[part].sum() / numbers[part].sum()) for part in (slice(tenth), slice(-tenth, None)))
    return drift, starts, 1.0 if first == last else _ratio(last, first)


def _changed(model: Model, y: Array, narrow_y: Array, counts: Mask) -> float | None:
    """The share of the steps that count whose largest feature is another, in any of two results."""
    results = 2 if isinstance(model.layers[-1], Split) else 1
    if y.shape[-1] == results:
        return None
    largest = (array[counts].reshape(-1, results, y.shape[-1] // results).argmax(-1) for array in (y, narrow_y))
    return float(np.not_equal(*largest).any(-1).mean())


def _check_same(model: Any, narrow: Any) -> None:
    """That both take and give the same, layer by layer; weights and functions may differ."""
    for name, value in (("model", model), ("narrow", narrow)):
        if not isinstance(value, Model):
            raise TypeError(f"{name}: expected a Model, got {type(value).__name__}")
    if len(model.layers) != len(narrow.layers):
        raise ValueError(f"narrow: expected {len(model.layers)} layers, got {len(narrow.layers)}")
    for index, layers in enumerate(zip(model.layers, narrow.layers, strict=True)):
        expected, got = map(_form, layers)
        if expected != got:
            raise ValueError(f"narrow: expected {expected} as layer {index}, got {got}")


def _form(layer: Layer) -> str:
    """Everything about a layer that shapes depend on, for a message."""
    if not isinstance(layer, LayerSpec):
        steps = [f"{name} {getattr(layer, name)}" for name in ("input_steps", "steps") if hasattr(layer, name)]
        return ", ".join([f"{type(layer).__name__} {layer.input_size} -> {layer.output_size}", *steps])
    options = {
        f"{layer.num_layers} layers": layer.num_layers > 1,
        "bidirectional": layer.bidirectional,
        "reverse": layer.reverse,
        f"proj_size {layer.proj_size}": layer.proj_size,
        "batch_first": layer.batch_first,
    }
    sizes = f"{layer.cell} {layer.input_size} -> {layer.hidden_size}"
    return ", ".join([sizes, *(option for option, is_on in options.items() if is_on)])
