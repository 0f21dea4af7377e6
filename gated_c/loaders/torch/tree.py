"""Recurrent modules in what a pickle holds: state_dicts and whole modules, anywhere in a checkpoint."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, TypeAlias, TypeGuard

from gated_c.errors import FormatError
from gated_c.loaders.names import MAX_NAME, shown
from gated_c.loaders.torch.state_dict import Found, StoredTensor, find_modules, join
from gated_c.loaders.torch.unpickler import Object

_RECURRENT = frozenset(f"torch.nn.modules.rnn.{name}{cell}" for name in ("LSTM", "GRU", "RNN") for cell in ("", "Cell"))

_MAX_MODULES = 10_000

#: Linked, so that the names of a deep or wide tree cost nothing until one is wanted.
Path: TypeAlias = "tuple[Path, str] | None"


def find_in_tree(root: Any) -> list[Found]:
    """Every recurrent module reachable from ``root``, outer ones first; what is reached twice counts once."""
    found: list[Found] = []
    visit = _Visit()
    queue: deque[tuple[Path, Path, Any]] = deque([(None, None, root)])
    while queue:
        container, prefix, value = queue.popleft()
        if _is_module(value) and visit.is_new(value):
            parameters, modules = (visit.items(value.attributes[name]) for name in ("_parameters", "_modules"))
            found += _placed(_in_module(value, parameters), container, prefix)
            queue.extend((container, (prefix, name), child) for name, child in modules if visit.awaits(child))
        else:
            items = visit.items(value)
            found += _placed(_in_state_dict(items), container, prefix)
            queue.extend(((container, key), None, child) for key, child in items if visit.awaits(child))
        if len(found) > _MAX_MODULES:
            raise FormatError(f"more than {_MAX_MODULES} recurrent modules")
    return found


class _Visit:
    """What was expanded already. Objects can share their attributes, and modules their dictionaries: each is expanded
    once, or a small file could describe more than any memory holds."""

    def __init__(self) -> None:
        self.seen: set[int] = set()

    def awaits(self, value: Any) -> bool:
        """Whether this is a container, and not yet expanded."""
        return isinstance(value, (dict, list, tuple)) and id(value) not in self.seen

    def is_new(self, value: Any) -> bool:
        """`awaits`, the first time; from then on it counts as expanded."""
        awaited = self.awaits(value)
        self.seen.add(id(value))
        return awaited

    def items(self, value: Any) -> list[tuple[str, Any]]:
        """What is inside a container, by key, index or attribute; nothing the second time."""
        if not self.is_new(value):
            return []
        items: list[tuple[Any, Any]]
        items = list(value.items()) if isinstance(value, dict) else [(str(n), item) for n, item in enumerate(value)]
        if isinstance(value, Object) and self.is_new(value.attributes):
            items += value.attributes.items()
        return [(key, item) for key, item in items if isinstance(key, str)]


def _is_module(value: Any) -> TypeGuard[Object]:
    attributes = value.attributes if isinstance(value, Object) else {}
    return all(isinstance(attributes.get(name), dict) for name in ("_parameters", "_modules"))


def _in_module(module: Object, parameters: list[tuple[str, Any]]) -> list[Found]:
    """The module itself, if it is recurrent."""
    attributes = module.attributes
    name = module.class_name.rpartition(".")[2]
    if ".quantiz" in module.class_name and f"torch.nn.modules.rnn.{name}" in _RECURRENT:
        return [Found("", {}, refusal=f"a {shown(module.class_name)}; load the float model that it was made from")]
    found = _in_state_dict(parameters)
    if module.class_name not in _RECURRENT:
        class_name = shown(module.class_name)
        refusal = f"a {class_name}, not known to compute what torch.nn does; if it does, save its state_dict"
        return [replace(one, refusal=refusal) for one in found]
    is_relu = attributes.get("mode") == "RNN_RELU" or attributes.get("nonlinearity") == "relu"
    return [
        replace(one, batch_first=attributes.get("batch_first") is True, nonlinearity="relu" if is_relu else "tanh")
        for one in found
    ]


def _in_state_dict(items: list[tuple[str, Any]]) -> list[Found]:
    return find_modules({key: child for key, child in items if isinstance(child, (StoredTensor, Object))})


def _placed(found: list[Found], container: Path, prefix: Path) -> Iterator[Found]:
    for module in found:
        placed = replace(module, container=_dotted(container), prefix=join(_dotted(prefix), module.prefix))
        if len(placed.path) <= MAX_NAME:
            yield placed


def _dotted(path: Path) -> str:
    parts: list[str] = []
    while path is not None and len(parts) <= MAX_NAME:
        path, part = path
        parts.append(part)
    return join(*reversed(parts))
