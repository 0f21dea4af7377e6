"""A pickle machine that runs no code.

It knows the instructions of the pickle language and a table of names to which the caller gives a meaning. Every other
class or function in a file becomes an inert `Object`: nothing is imported, nothing called. Work and memory are
linear in the number of instructions, which the caller bounds.
"""

from __future__ import annotations

import mmap
import pickletools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import IO, Any, cast

from gated_c.errors import FormatError
from gated_c.loaders.names import MAX_NAME, shown

_NO_ATTRIBUTES: Mapping[Any, Any] = MappingProxyType({})

Calls = Mapping[str, Callable[..., Any]]


@dataclass(frozen=True, slots=True)
class Global:
    """The name of a class or function, ``module.name``."""

    name: str


class Object(dict[Any, Any]):
    """What is known of an instance of some class: its items, if it was a mapping or a list, and its attributes."""

    __slots__ = ("attributes", "class_name")
    __hash__ = object.__hash__  # type: ignore[assignment]
    __eq__ = object.__eq__
    __ne__ = object.__ne__

    def __init__(self, class_name: str) -> None:
        super().__init__()
        self.class_name = class_name
        self.attributes = _NO_ATTRIBUTES


def load(
    stream: IO[bytes] | mmap.mmap,
    *,
    place: str,
    max_instructions: int,
    calls: Calls = _NO_ATTRIBUTES,
    persistent_load: Callable[[Any], Any] | None = None,
) -> Any:
    """Run one pickle from ``stream`` and stop just behind it.

    ``calls`` says what a call of ``module.name`` returns. Keys of dictionaries arrive as strings, integers included;
    other keys are lost. Anything wrong is a ``FormatError`` with the byte; ``place`` is the part of the file.
    """
    machine = _Machine(max_instructions, calls, persistent_load)
    try:
        for opcode, argument, position in pickletools.genops(cast("IO[bytes]", stream)):
            machine.position = position
            machine.run(opcode.name, argument)
        return machine.stack.pop()
    except Exception as error:  # a hostile pickle fails in any way it likes
        why = f"{type(error).__name__}: {shown(str(error), 200)}"
        raise FormatError(f"{place}: broken pickle at or after byte {machine.position}: {why}") from None


class _Machine:
    """The stack, the stacks below the marks, and the memo of one pickle."""

    def __init__(self, budget: int, calls: Calls, persistent_load: Callable[[Any], Any] | None) -> None:
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.position: int | None = 0
        self.budget = self.max_memo = budget
        self.calls = calls
        self.persistent_load = persistent_load

    def run(self, name: str, argument: Any) -> None:
        if name not in _INSTRUCTIONS:
            raise ValueError(f"instruction {name}, which torch.save does not write")
        self.spend(1)
        _INSTRUCTIONS[name](self, argument)

    def spend(self, instructions: int) -> None:
        self.budget -= instructions
        if self.budget < 0:
            raise ValueError("too many instructions for a file of this size")

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def mark(self, _: Any) -> None:
        self.below.append(self.stack)
        self.stack = []

    def pop_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.below.pop()
        return items

    def pop(self, _: Any) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self.discard(None)

    def discard(self, _: Any) -> None:
        self.pop_mark()

    def put(self, index: int) -> None:
        if not 0 <= index < self.max_memo:
            raise ValueError("memo index out of range")
        self.memo[index] = self.stack[-1]

    def get(self, index: int) -> None:
        if index not in self.memo:
            raise ValueError("memo index was never set")
        self.push(self.memo[index])

    def make_tuple(self, length: int) -> None:
        items = [self.stack.pop() for _ in range(length)]
        self.push(tuple(reversed(items)))

    def extend(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, Object):
            target.update((str(n), item) for n, item in enumerate(items, len(target)))
        else:
            target.extend(items)

    def set_items(self, items: list[Any]) -> None:
        _set_items(self.stack[-1], zip(items[::2], items[1::2], strict=True))

    def make_dict(self, _: Any) -> None:
        items = self.pop_mark()
        self.push({})
        self.set_items(items)

    def make_global(self, module: Any, name: Any) -> None:
        if not (isinstance(module, str) and isinstance(name, str)) or len(module) + len(name) > MAX_NAME:
            raise ValueError("not the name of a class or function")
        self.push(Global(f"{module}.{name}"))

    def stack_global(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.make_global(module, name)

    def call(self, _: Any) -> None:
        args, function = self.stack.pop(), self.stack.pop()
        if not isinstance(args, tuple):
            raise TypeError("arguments that are no tuple")
        self.spend(len(args))
        name = function.name if isinstance(function, Global) else ""
        if name in self.calls:
            self.push(self.calls[name](*args))
            return
        self.push(Object(name))
        if name == "collections.OrderedDict" and args and isinstance(args[0], list):  # as Python 2 wrote them
            self.spend(len(args[0]))
            _set_items(self.stack[-1], args[0])

    def call_with_keywords(self, _: Any) -> None:
        self.stack.pop()
        self.call(None)

    def build(self, _: Any) -> None:
        state = self.stack.pop()
        if isinstance(state, tuple) and len(state) == 2:  # attributes, and those in __slots__
            state = state[0]
        if isinstance(self.stack[-1], Object) and isinstance(state, dict):
            self.stack[-1].attributes = state

    def persistent(self, _: Any) -> None:
        if self.persistent_load is None:
            raise ValueError("a persistent id where none belongs")
        self.push(self.persistent_load(self.stack.pop()))


def _set_items(target: Any, items: Iterable[Any]) -> None:
    """Only strings and small integers stay keys: hashing anything else can take forever or overflow the C stack."""
    if not isinstance(target, dict):
        raise ValueError("items of something that is not a dictionary")
    for key, value in items:
        if isinstance(key, int) and -(2**63) <= key < 2**63:
            key = str(key)
        target[key if isinstance(key, str) else object()] = value


_INSTRUCTIONS: dict[str, Callable[[_Machine, Any], None]] = {
    **dict.fromkeys(("PROTO", "FRAME", "STOP"), lambda m, _: None),
    **dict.fromkeys(("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4"), _Machine.push),
    **dict.fromkeys(("FLOAT", "BINFLOAT"), _Machine.push),
    **dict.fromkeys(("STRING", "BINSTRING", "SHORT_BINSTRING"), _Machine.push),
    **dict.fromkeys(("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"), _Machine.push),
    **dict.fromkeys(("SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8"), _Machine.push),
    "NONE": lambda m, _: m.push(None),
    "NEWTRUE": lambda m, _: m.push(True),
    "NEWFALSE": lambda m, _: m.push(False),
    "EMPTY_TUPLE": lambda m, _: m.push(()),
    "EMPTY_LIST": lambda m, _: m.push([]),
    "EMPTY_SET": lambda m, _: m.push([]),
    "EMPTY_DICT": lambda m, _: m.push({}),
    "TUPLE1": lambda m, _: m.make_tuple(1),
    "TUPLE2": lambda m, _: m.make_tuple(2),
    "TUPLE3": lambda m, _: m.make_tuple(3),
    "TUPLE": lambda m, _: m.push(tuple(m.pop_mark())),
    "FROZENSET": lambda m, _: m.push(tuple(m.pop_mark())),
    "LIST": lambda m, _: m.push(m.pop_mark()),
    "DICT": _Machine.make_dict,
    "APPEND": lambda m, _: m.extend([m.stack.pop()]),
    "APPENDS": lambda m, _: m.extend(m.pop_mark()),
    "ADDITEMS": lambda m, _: m.extend(m.pop_mark()),
    "SETITEM": lambda m, _: m.set_items([m.stack.pop(), m.stack.pop()][::-1]),
    "SETITEMS": lambda m, _: m.set_items(m.pop_mark()),
    "MARK": _Machine.mark,
    "POP": _Machine.pop,
    "POP_MARK": _Machine.discard,
    "DUP": lambda m, _: m.push(m.stack[-1]),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _Machine.put),
    "MEMOIZE": lambda m, _: m.put(len(m.memo)),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _Machine.get),
    "GLOBAL": lambda m, name: m.make_global(*name.split(" ", 1)),
    "STACK_GLOBAL": _Machine.stack_global,
    "REDUCE": _Machine.call,
    "NEWOBJ": _Machine.call,
    "NEWOBJ_EX": _Machine.call_with_keywords,
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.persistent,
}
