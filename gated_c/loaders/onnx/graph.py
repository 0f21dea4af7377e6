"""The graph of an ONNX model: which node makes what, and what it needs for that."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gated_c.errors import FormatError, UnsupportedError
from gated_c.loaders.names import shown
from gated_c.loaders.onnx.recurrent import KINDS
from gated_c.loaders.onnx.tensors import Tensors
from gated_c.loaders.onnx.values import Node

_CONTROL_FLOW = frozenset({"If", "Loop", "Scan"})


class Graph:
    """Nothing is computed or checked here but names."""

    def __init__(self, graph: Any, tensors: Tensors, opset: int) -> None:
        self.tensors = tensors
        self.opset = opset
        self.protos = list(graph.node)
        self.initializers = {tensor.name: tensor for tensor in graph.initializer}
        self.sparse = {sparse.values.name for sparse in graph.sparse_initializer}
        self.inputs = {info.name: info for info in graph.input if info.name not in self.initializers}
        self.outputs = [info.name for info in graph.output]
        self.makers: dict[str, int] = {}
        for at, node in enumerate(self.protos):
            for name in filter(None, node.output):
                if name in self.makers or name in self.initializers or name in self.inputs:
                    raise FormatError(f"'{shown(name)}' is made more than once")
                self.makers[name] = at

    def node(self, at: int) -> Node:
        return Node.of(self.protos[at], self.opset)

    def recurrent(self) -> dict[str, int]:
        """The recurrent nodes by a name that only one of them has, in the file's order."""
        found: dict[str, int] = {}
        for at, proto in enumerate(self.protos):
            if proto.op_type in KINDS and proto.domain in ("", "ai.onnx"):
                outputs = [name for name in proto.output if name]
                names = [name for name in (proto.name, *outputs, str(at)) if name and name not in found]
                found[names[0]] = at
        return found

    def order(self, names: Sequence[str], only_x: bool = False) -> list[int]:
        """The nodes that these tensors need, each after those that it needs; ``only_x``: of recurrent ones only X."""
        order: list[int] = []
        state: dict[int, bool] = {}
        stack = [(self.makers[name], False) for name in reversed(names) if name in self.makers]
        while stack:
            at, is_done = stack.pop()
            if is_done:
                state[at] = True
                order.append(at)
            elif at not in state:
                state[at] = False
                stack.append((at, True))
                needed = [self.makers[name] for name in self.needed(at, only_x) if name in self.makers]
                if any(state.get(other) is False for other in needed):
                    raise FormatError(f"node '{shown(self.protos[at].name)}' needs its own output")
                stack.extend((other, False) for other in needed if other not in state)
        return order

    def needed(self, at: int, only_x: bool = False) -> Sequence[str]:
        node = self.protos[at]
        names = node.input[:1] if only_x and node.op_type in KINDS else node.input
        return [name for name in names if name]

    def x(self) -> str:
        """The input that the recurrent nodes get their X from."""
        needed = [at for at in self.order(self.outputs) if self.protos[at].op_type in KINDS]
        if not needed:
            loops = [self.node(at) for at in self.order(self.outputs) if self.protos[at].op_type in _CONTROL_FLOW]
            where = f"{loops[0]}: control flow is not supported, and there is " if loops else ""
            raise UnsupportedError(f"{where}no LSTM, GRU or RNN node on the way to the outputs")
        names = [name for at in needed for name in self.needed(at, only_x=True)]
        before = self.order(names, only_x=True)
        names += [name for at in before for name in self.needed(at, only_x=True)]
        inputs = list(dict.fromkeys(name for name in names if name in self.inputs))
        if len(inputs) != 1:
            what = " and ".join(f"'{shown(name)}'" for name in inputs[:4]) or "none"
            raise UnsupportedError(f"a branch: expected one input for the recurrent layers, got {what}")
        return inputs[0]
