"""Recurrent modules in what a pickle holds: state_dicts and whole modules, anywhere in a checkpoint."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, TypeAlias, TypeGuard

from gated_c.errors import FormatError
from gated_c.loaders.state_dict import Found, StoredTensor, find_modules, join
from gated_c.loaders.torch_pickle import Object

_RECURRENT = frozenset(f"torch.nn.modules.rnn.{name}{cell}" for name in ("LSTM", "GRU", "RNN") for cell in ("", "Cell"))

# A hostile file can share one long name among many modules; no honest one comes near these.
_MAX_NAME = 1000
_MAX_MODULES = 10_000

#: Linked, so that the names of a deep or wide tree cost nothing until one is wanted.
Path: TypeAlias = "tuple[Path, str] | None"


def find_in_tree(root: Any) -> list[Found]:
    """Every recurrent module reachable from ``root``, outer ones first; what is reached twice counts once."""
    found: list[Found] = []
    seen: set[int] = set()
    queue: deque[tuple[Path, Path, Any]] = deque([(None, None, root)])
    while queue:
        container, prefix, value = queue.popleft()
        if not isinstance(value, (dict, list, tuple)) or id(value) in seen:
            continue
        seen.add(id(value))
        if _is_module(value):
            found += _placed(_in_module(value), container, prefix)
            children = _items(value.attributes["_modules"])
            queue.extend((container, (prefix, name), child) for name, child in children)
        else:
            found += _placed(_in_state_dict(value), container, prefix)
            queue.extend(((container, key), None, child) for key, child in _items(value))
        if len(found) > _MAX_MODULES:
            raise FormatError(f"more than {_MAX_MODULES} recurrent modules")
    return found


def _is_module(value: Any) -> TypeGuard[Object]:
    attributes = value.attributes if isinstance(value, Object) else {}
    return all(isinstance(attributes.get(name), dict) for name in ("_parameters", "_modules"))


def _in_module(module: Object) -> list[Found]:
    """The module itself, if it is recurrent."""
    attributes = module.attributes
    name = module.class_name.rpartition(".")[2]
    if ".quantiz" in module.class_name and f"torch.nn.modules.rnn.{name}" in _RECURRENT:
        return [Found("", {}, refusal=f"a {module.class_name}; load the float model that it was made from")]
    found = _in_state_dict(attributes["_parameters"])
    if module.class_name not in _RECURRENT:
        refusal = f"a {module.class_name}, not known to compute what torch.nn does; if it does, save its state_dict"
        return [replace(one, refusal=refusal) for one in found]
    is_relu = attributes.get("mode") == "RNN_RELU" or attributes.get("nonlinearity") == "relu"
    return [
        replace(one, batch_first=attributes.get("batch_first") is True, nonlinearity="relu" if is_relu else "tanh")
        for one in found
    ]


def _in_state_dict(value: Any) -> list[Found]:
    if not isinstance(value, dict):
        return []
    weights = ((key, child) for key, child in _items(value) if isinstance(child, (StoredTensor, Object)))
    return find_modules({key: child for key, child in weights if len(key) <= _MAX_NAME})


def _items(value: Any) -> Iterator[tuple[str, Any]]:
    """What is inside a container, by key, index or attribute."""
    if isinstance(value, dict):
        yield from ((key, child) for key, child in value.items() if isinstance(key, str))
    else:
        yield from ((str(index), child) for index, child in enumerate(value))
    if isinstance(value, Object):
        yield from ((key, child) for key, child in value.attributes.items() if isinstance(key, str))


def _placed(found: list[Found], container: Path, prefix: Path) -> Iterator[Found]:
    for module in found:
        placed = replace(module, container=_dotted(container), prefix=join(_dotted(prefix), module.prefix))
        if len(placed.path) <= _MAX_NAME:
            yield placed


def _dotted(path: Path) -> str:
    parts: list[str] = []
    while path is not None and len(parts) <= _MAX_NAME:
        path, part = path
        parts.append(part)
    return join(*reversed(parts))
