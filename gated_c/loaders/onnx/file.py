"""ONNX files: https://onnx.ai/onnx/repo-docs/IR.html. The network in one, or its recurrent nodes by themselves."""

from __future__ import annotations

import mmap
import os
import warnings
from typing import Any

from gated_c.errors import FormatError, UnsupportedError
from gated_c.layers import Layer
from gated_c.loaders.names import shown
from gated_c.loaders.onnx.chain import read_alone, read_chain
from gated_c.loaders.onnx.graph import Graph
from gated_c.loaders.onnx.tensors import Tensors
from gated_c.loaders.onnx.wire import skeleton
from gated_c.spec import LayerSpec

#: Readings of the attribute ``clip``: the specification's, and ONNX Runtime's, which leaves out an LSTM's output.
CLIPS = ("spec", "ort")

_FIRST_OPSET = 7
_MAX_NODES = 100_000
_MOST_SHOWN = 8


def read_network(path: str | os.PathLike[str], *, clip: str = "spec") -> list[Layer]:
    """The layers from the network's input to its output, if there is only one path.

    Other inputs are initial states or lengths, other outputs final states: arguments and results of every `Model`. The
    axes of steps and of rows of y are in the order of x's, whatever the graph does to them at the end. ``clip``:
    ``"spec"`` or ``"ort"``. Raises ``FormatError`` for a broken file, ``UnsupportedError`` for what is no chain of
    layers, naming the node and those that `read_recurrent` can read.
    """
    graph = _open(path, clip)
    try:
        return read_chain(graph, clip)
    except UnsupportedError as error:
        raise UnsupportedError(f"{error}{_alternatives(graph)}") from None
    except ValueError as error:
        raise FormatError(str(error)) from None


def read_recurrent(path: str | os.PathLike[str], *, clip: str = "spec") -> list[LayerSpec]:
    """Every LSTM, GRU and RNN node alone, by its name or, without one, its first output's.

    ``batch_first`` is the node's layout. Those that cannot be read are left out with a ``UserWarning``, as long as
    others can. Raises as `read_network` does.
    """
    graph = _open(path, clip)
    layers: list[LayerSpec] = []
    errors: list[FormatError | UnsupportedError] = []
    for name, at in graph.recurrent().items():
        try:
            layers.append(read_alone(graph, at, name, clip))
        except (ValueError, UnsupportedError) as error:
            kind = UnsupportedError if isinstance(error, UnsupportedError) else FormatError
            errors.append(kind(str(error)))  # without the traceback, which holds what was read
    if errors and not layers:
        raise errors[0]
    for problem in errors:
        warnings.warn(str(problem), UserWarning, stacklevel=2)
    return layers


def _open(path: str | os.PathLike[str], clip: str) -> Graph:
    if clip not in CLIPS:
        raise ValueError(f"clip: expected 'spec' or 'ort', got {clip!r}")
    path = os.fspath(path)
    with open(path, "rb") as file:
        if not os.fstat(file.fileno()).st_size:
            raise FormatError("an empty file")
        data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    model = _parsed(skeleton(data))
    opsets = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    if not opsets or not model.graph.node:
        raise FormatError("no ONNX model: no opset, or no nodes")
    if max(opsets) < _FIRST_OPSET:
        raise UnsupportedError(f"opset {max(opsets)}; expected {_FIRST_OPSET} or newer")
    if len(model.graph.node) > _MAX_NODES:
        raise UnsupportedError(f"{len(model.graph.node)} nodes; expected at most {_MAX_NODES}")
    return Graph(model.graph, Tensors(data, os.path.dirname(path) or "."), max(opsets))


def _parsed(model: bytes) -> Any:
    try:
        import onnx
    except ImportError:
        raise ImportError('ONNX files need the onnx package: pip install "gated_c[onnx-files]"') from None
    try:
        return onnx.ModelProto.FromString(model)
    except Exception as error:  # protobuf's DecodeError, which has no public place in the onnx package
        raise FormatError(f"no ONNX model: {shown(str(error))}") from None


def _alternatives(graph: Graph) -> str:
    """What a user can do about a network that is no chain."""
    names = [shown(name) for name in graph.recurrent()]
    if not names:
        return ""
    others = f" (or {', '.join(names[1:_MOST_SHOWN])}{', ...' * (len(names) > _MOST_SHOWN)})" if names[1:] else ""
    return f"; prefix='{names[0]}'{others} loads the recurrent layer alone"
