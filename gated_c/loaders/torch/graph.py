"""The one path through a PyTorch module as a chain of layers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from gated_c.errors import UnsupportedError
from gated_c.layers import Layer, Squeeze
from gated_c.loaders.torch.flow import Flow
from gated_c.loaders.torch.layers import Argument, CellState, Zeros
from gated_c.loaders.torch.tracer import PathTracer
from gated_c.loaders.torch.values import Failure, leaves
from gated_c.spec import LayerSpec

#: What the axes of x may be: of sequences, of ids or sequences of single numbers, of vectors. The layers tell which.
_INPUTS = ("NTF", "TNF", "NT", "TN", "NF")


def follow(module: Any) -> list[Layer]:
    """The layers of a module with one forward path. Raises ``UnsupportedError`` with what does not fit, and where."""
    furthest = -1
    for axes in _INPUTS:
        tracer = PathTracer(Flow(tuple((letter,) for letter in axes), width=None if "F" in axes else 1))
        try:
            return _layers_to(tracer.result_of(module), batch_first=axes[0] == "N")
        except UnsupportedError as error:
            if tracer.values.progress > furthest:
                furthest, reason = tracer.values.progress, error
    raise reason


def _layers_to(result: Any, batch_first: bool) -> list[Layer]:
    """The layers of the path to what ``forward`` returns: one tensor, and perhaps recurrent states after it."""
    returned = list(result.values()) if isinstance(result, dict) else result
    path, *others = returned if isinstance(returned, tuple | list) else [returned]
    for value in leaves((path, others)):
        if isinstance(value, Failure):
            raise value.error
    if not isinstance(path, Flow):
        raise UnsupportedError("forward returns something other than what layers make of x")
    if not all(_is_state(value, path) for value in leaves(others)):
        raise UnsupportedError("forward returns more than one tensor and recurrent states after it")
    layers = _as_result(replace(path, place=""), "NT" if batch_first else "TN").chain
    if not any(isinstance(layer, LayerSpec) for layer in layers):
        raise UnsupportedError("expected an LSTM, GRU or RNN on the path, got none")
    return [replace(layer, batch_first=batch_first) if isinstance(layer, LayerSpec) else layer for layer in layers]


def _is_state(value: Any, path: Flow) -> bool:
    """Whether it is part of the state that a Model of this path gives or takes."""
    if isinstance(value, Flow):
        return value.is_state and value.layers[:-1] == path.layers[: len(value.layers) - 1]
    return value is None or isinstance(value, CellState | Argument | Zeros)


def _as_result(path: Flow, order: str) -> Flow:
    """The end of the path in the axes that a Model gives; rows and steps may have been merged."""
    if path.packed:
        raise UnsupportedError("forward returns a PackedSequence; expected a padded one")
    if any(path.steps_added):
        raise UnsupportedError("forward returns steps that padding added")
    merged, apart = tuple(order), tuple((letter,) for letter in order)
    if path.size == 1 and path.axes in ((merged,), apart, (("N",),)):
        return path.then(Squeeze())
    if path.holds("N", "F") or path.axes == (merged, path.feature):
        return path
    try:
        return path.arranged(*order, "F")
    except UnsupportedError as error:
        raise UnsupportedError(f"forward returns other axes: {error}") from None
