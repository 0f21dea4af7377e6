"""ONNX Runtime: a graph before and behind each of its recurrent nodes, or one of these by itself."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from gated_c.arrays import Array
from gated_c.errors import UnsupportedError
from gated_c.layers import Layer
from gated_c.spec import LayerSpec
from gated_c.verify.reference import Stage, blaming

_RECURRENT = ("LSTM", "GRU", "RNN")
_DTYPES: dict[str, type[np.generic]] = {
    "tensor(float)": np.float32,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
}

#: Inputs of these nodes by position.
_X, _SEQUENCE_LENS, _INITIAL_H, _INITIAL_C = 0, 4, 5, 6


class OnnxReference:
    """A model file. ``alone`` is the node that the engine has loaded by its name, if it is not the whole graph.

    ONNX Runtime does not clip c before the output; the engine does not in this comparison either. Raises
    ``ImportError`` without ONNX Runtime, ``UnsupportedError`` for what it does not run.
    """

    def __init__(self, path: str | os.PathLike[str], alone: str = "") -> None:
        try:
            import onnx
            import onnxruntime
        except ImportError as error:
            raise ImportError("this file is verified with ONNX Runtime: pip install onnx onnxruntime") from error
        self.version = f"ONNX Runtime {onnxruntime.__version__}"
        with blaming(self.version):
            model = onnx.load(path)
        if alone:
            _keep_only(model.graph, alone)
        self._nodes = {_name(node): node for node in model.graph.node if node.op_type in _RECURRENT}
        for name, node in self._nodes.items():
            node.output[0] = node.output[0] or f"{name}_Y"
        shown = {tensor for node in self._nodes.values() for tensor in (node.input[_X], node.output[0])}
        shown -= {value.name for value in (*model.graph.input, *model.graph.output)}
        model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(tensor) for tensor in sorted(shown))
        with blaming(self.version):
            self._session = _session(model.SerializeToString())
        sizes = self._session.get_inputs()[0].shape[:2]
        self.lead: Sequence[int | None] = [size if isinstance(size, int) else None for size in sizes]

    def stages(self, layers: Sequence[Layer], x: npt.NDArray[Any], lengths: Any) -> Iterator[Stage]:
        layers = [replace(layer, clip_output=False) if isinstance(layer, LayerSpec) else layer for layer in layers]
        batch_first = next(layer.batch_first for layer in layers if isinstance(layer, LayerSpec))
        values = self._run(x, lengths, batch_first)
        start, given = 0, x
        for stop, result in self._places(layers, values, batch_first):
            if stop > start:
                yield Stage(_label(layers[stop - 1]), layers[:stop], layers[start:stop], given, result)
                start, given = stop, result

    def _run(self, x: npt.NDArray[Any], lengths: Any, batch_first: bool) -> dict[str, Array]:
        """All values that are shown, by name. Initial states are 0."""
        first, *others = self._session.get_inputs()
        seq_len, batch = x.shape[:2][:: -1 if batch_first else 1]
        if lengths is not None and not any(_is_lengths(value) for value in others):
            raise UnsupportedError("lengths: the graph has no input for them")
        live = np.full(batch, seq_len) if lengths is None else np.asarray(lengths)
        feeds = {first.name: x.astype(_dtype(first))}
        for value in others:
            shape = [size if isinstance(size, int) else batch for size in value.shape]
            feeds[value.name] = (live if _is_lengths(value) else np.zeros(shape)).astype(_dtype(value))
        names = [value.name for value in self._session.get_outputs()]
        with blaming(self.version):
            return dict(zip(names, self._session.run(names, feeds), strict=True)) | {first.name: x}

    def _places(
        self, layers: Sequence[Layer], values: dict[str, Array], batch_first: bool
    ) -> Iterator[tuple[int, Array]]:
        """How many layers come before each place, and the value there, in order."""
        for index, layer in enumerate(layers):
            node = self._nodes.get(layer.name) if isinstance(layer, LayerSpec) else None
            if node is None or not isinstance(layer, LayerSpec):
                continue
            by_row = any(attribute.name == "layout" and attribute.i for attribute in node.attribute)
            yield index, _swapped(values[node.input[_X]], by_row != batch_first)
            y = values[node.output[0]]
            y = y if by_row else y.transpose(0, 2, 1, 3)
            if y.shape[2] == layer.num_directions:
                yield index + 1, _swapped(y.reshape(*y.shape[:2], -1), by_row != batch_first)
        if not isinstance(layers[-1], LayerSpec):
            yield len(layers), values[self._session.get_outputs()[0].name]


def _session(content: bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _is_lengths(value: Any) -> bool:
    return len(value.shape) == 1 and np.issubdtype(_dtype(value), np.integer)


def _dtype(value: Any) -> type[np.generic]:
    if value.type not in _DTYPES:
        raise UnsupportedError(f"{value.name}: an input of {value.type}")
    return _DTYPES[value.type]


def _name(node: Any) -> str:
    """As the engine names its layer."""
    return str(node.name or next(filter(None, node.output), ""))


def _label(layer: Layer) -> str:
    return layer.name or type(layer).__name__


def _swapped(array: Array, swap: bool) -> Array:
    return array.swapaxes(0, 1) if swap else array


def _keep_only(graph: Any, name: str) -> None:
    """Cut a graph down to one recurrent node of a new input x and of zero states, and what its weights come from."""
    from onnx import TensorProto, helper

    (node,) = (node for node in graph.node if _name(node) == name)
    inputs = dict.fromkeys((_SEQUENCE_LENS, _INITIAL_H, _INITIAL_C), "") | {_X: "gated_c_x"}
    kept = [inputs.get(at, tensor) for at, tensor in enumerate(node.input)]
    del node.input[:]
    node.input.extend(kept)
    needed, nodes = set(kept), [node]
    for other in reversed(graph.node):
        if other is not node and needed & set(other.output):
            needed |= set(other.input)
            nodes.insert(0, other)
    del graph.node[:], graph.input[:], graph.output[:]
    graph.node.extend(nodes)
    graph.input.append(helper.make_tensor_value_info("gated_c_x", TensorProto.FLOAT, [None, None, None]))
