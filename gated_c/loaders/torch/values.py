"""What the values of a traced graph are, as far as the path through it needs them.

A value is a tensor on the path (`Flow`), a size, a constant, a tuple of such, something of which only the kind matters
(`Unknown`), or a `Failure`, which is an error only where the path needs it.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import fx

from gated_c.errors import UnsupportedError
from gated_c.loaders.torch.flow import Flow
from gated_c.loaders.torch.joins import BRANCH
from gated_c.loaders.torch.layers import MODULES, Argument, Unknown, Zeros
from gated_c.loaders.torch.operations import ATTRIBUTES, FUNCTIONS, JOINING, OPERATIONS, QUERIES, bound

#: Methods after which zeros are zeros, and an argument is the same argument.
_KEEPING = frozenset(
    {"to", "cuda", "cpu", "float", "long", "int", "type_as", "detach", "contiguous", "clone", "requires_grad"}
    | {"unsqueeze", "squeeze", "expand", "repeat", "view", "getitem"}
)

#: Arguments that change no result.
_IGNORED = frozenset({"inplace", "_stacklevel"})

#: Methods that change a tensor, but none of its numbers or axes.
_HARMLESS = frozenset({"requires_grad_", "detach_"})

#: Python's ``+=`` and its like, which write in place as well.
IN_PLACE_OPERATORS = (
    *(operator.iadd, operator.isub, operator.imul, operator.itruediv),
    *(operator.ifloordiv, operator.imod, operator.ipow),
)


@dataclass(frozen=True)
class Failure:
    """A value that cannot be worked out."""

    error: UnsupportedError


class Values(dict[fx.Node, Any]):
    """The values of a graph's nodes, ``start`` that of the first argument."""

    def __init__(self, start: Flow) -> None:
        super().__init__()
        self.start = start
        self.constants: dict[str, torch.Tensor] = {}
        self._overwritten: dict[str, set[fx.Node]] = {}

    @property
    def progress(self) -> int:
        """How many were worked out before the first that could not be."""
        failed = (at for at, value in enumerate(self.values()) if isinstance(value, Failure))
        return next(failed, len(self))

    def known(self, node: fx.Node) -> Any:
        """A value that Python's own control flow asks for."""
        value = self[node]
        if isinstance(value, Failure):
            raise value.error
        return value

    def value(self, node: fx.Node, module: Any, name: str) -> Any:
        """The value of a new node, a call of ``module`` if that is given; its layers get this name."""
        if node.op == "placeholder":
            return Argument() if self else self.start
        if node.op == "get_attr":
            return self.constants.get(str(node.target), Unknown())
        self._check_overwritten(node)
        self._note_write(node)
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), self.__getitem__)
        found = list(leaves((args, kwargs)))
        if node.op == "output":
            return args[0]
        if failure := next((value for value in found if isinstance(value, Failure)), None):
            return failure
        if _takes_element(node, args) or not any(isinstance(value, Flow) for value in found):
            return _beside_the_path(node, args, kwargs, found)
        args, kwargs = fx.node.map_aggregate((args, kwargs), lambda value: _placed(value, name))
        if "input" in kwargs:
            args, kwargs = (kwargs["input"], *args), {key: kwargs[key] for key in kwargs if key != "input"}
        if module is not None:
            handler = next(handler for kind, handler in MODULES.items() if isinstance(module, kind))
            return bound(handler, module, *args, **kwargs)()
        return self._operation_value(node, args, kwargs)

    def _operation_value(self, node: fx.Node, args: Any, kwargs: Any) -> Any:
        name = operation(node)
        handler: Callable[..., Any] | None = OPERATIONS.get(name)
        if name in ATTRIBUTES and node.target is getattr:
            handler, args = ATTRIBUTES[name], args[:1]
        if handler is None:
            raise UnsupportedError("not supported")
        if name not in JOINING:
            _check_one_path(name, args, kwargs)
        kwargs = {key: value for key, value in kwargs.items() if value is not None and key not in _IGNORED}
        return bound(handler, *args, **kwargs)()

    def writes_into_constant(self, node: fx.Node) -> bool:
        """Whether it writes what only the data tells into a tensor with which Python computes by itself."""
        return any(isinstance(self[target], torch.Tensor) for target in _written(node))

    def _note_write(self, node: fx.Node) -> None:
        """After a write in place only its result is followed: all others may share its memory."""
        for target in _written(node):
            for memory in map(_memory_of, leaves(self[target])):
                self._overwritten[memory] = set(self)

    def _check_overwritten(self, node: fx.Node) -> None:
        if operation(node) in QUERIES:
            return
        for read in node.all_input_nodes:
            if any(read in self._overwritten.get(_memory_of(value), ()) for value in leaves(self[read])):
                raise UnsupportedError("reads what may have been written over in place")


def operation(node: fx.Node) -> str:
    """The name of a function, method or attribute, without the underscore of those that write in place."""
    if node.target is getattr:
        return str(node.args[1])
    if callable(node.target):
        return FUNCTIONS.get(node.target, getattr(node.target, "__name__", str(node.target)))
    return str(node.target).rstrip("_")


def leaves(value: Any) -> Iterator[Any]:
    """What is in tuples, lists and dictionaries."""
    if isinstance(value, dict):
        value = tuple(value.values())
    if isinstance(value, tuple | list):
        for part in value:
            yield from leaves(part)
    else:
        yield value


def _placed(value: Any, name: str) -> Any:
    return replace(value, place=name) if isinstance(value, Flow) else value


def _takes_element(node: fx.Node, args: Any) -> bool:
    return node.target in (operator.getitem, getattr) and isinstance(args[0], tuple | list | dict)


def _written(node: fx.Node) -> list[fx.Node]:
    """The tensors into which a call writes: ``out``, or the first if it works in place."""
    name = getattr(node.target, "__name__", str(node.target))
    if node.kwargs.get("out") is not None:
        return [value for value in leaves(node.kwargs["out"]) if isinstance(value, fx.Node)]
    in_place = name.endswith("_") and not name.endswith("__") and name not in _HARMLESS
    if in_place or node.kwargs.get("inplace") or node.target in IN_PLACE_OPERATORS or name == "__setitem__":
        first: list[fx.Node] = node.all_input_nodes[:1]
        return first
    return []


def _memory_of(value: Any) -> str:
    """Values of different names never share memory: a final state is a copy."""
    if isinstance(value, Flow):
        return "state" if value.is_state else "path"
    return "beside" if isinstance(value, Unknown) else ""


def _check_one_path(name: str, args: Any, kwargs: Any) -> None:
    x, *others = args or (None,)
    if not isinstance(x, Flow):
        raise UnsupportedError(f"expected a tensor on the path, got a {type(x).__name__}")
    if any(isinstance(value, Flow) for value in leaves((others, kwargs))):
        raise UnsupportedError(BRANCH)
    if x.packed and name != "pad_packed_sequence":
        raise UnsupportedError("expected a tensor, got a PackedSequence")


def _beside_the_path(node: fx.Node, args: Any, kwargs: Any, found: list[Any]) -> Any:
    """Sizes and constants are computed with; else only zeros and arguments are of use."""
    unknown = [value for value in found if isinstance(value, Unknown)]
    if node.target is torch.zeros:
        return Zeros()
    if unknown and not _takes_element(node, args):
        if operation(node) not in _KEEPING or not isinstance(unknown[0], Zeros | Argument):
            return Unknown()
        is_part = node.target is operator.getitem and type(args[1]) is int and isinstance(unknown[0], Argument)
        return Argument(args[1]) if is_part else unknown[0]
    try:
        if node.op == "call_method":
            return getattr(args[0], str(node.target))(*args[1:], **kwargs)
        return node.target(*args, **kwargs)  # type: ignore[operator, unused-ignore]
    except Exception:  # whatever sizes that only the data tells lead to
        return Unknown()
