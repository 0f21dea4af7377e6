"""Reshape: which of the old axes, or parts of them, make up each new one."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

from gated_c.errors import UnsupportedError
from gated_c.loaders.onnx.call import Call
from gated_c.loaders.onnx.values import SIGNAL, Rows, Value

#: A factor of the number of elements: ``"N"``, ``"T"``, or so many features.
Atom: TypeAlias = str | int


def reshaped(call: Call, value: Value, target: list[Any]) -> Value:
    """The value in another shape, -1 being whatever remains. Steps are left alone as long as possible."""
    groups = _grouped(_atoms(value), target, call.network.sizes)
    if groups is None or not all(_is_pure(group) for group in groups):
        if value.kind != SIGNAL or value.axis_of("T") is None:
            raise UnsupportedError(f"shape {_shown(target)} mixes rows, or its sizes are not those of the input")
        return reshaped(call, call.unrolled(value), target)
    rows = tuple(_rows(group, call.network.sizes) for group in groups)
    shape = [math.prod(atom for atom in group if isinstance(atom, int)) for group in groups]
    if not value.array.flags.c_contiguous:
        call.network.spend(value.array.size * value.array.itemsize)
    return Value(value.kind, value.array.reshape(shape), rows)


def _atoms(value: Value) -> list[Atom]:
    """Rows one by one, neighbouring features together."""
    atoms: list[Atom] = []
    for rows, size in zip(value.rows, value.array.shape, strict=True):
        if rows:
            atoms += rows
        elif atoms and isinstance(atoms[-1], int):
            atoms[-1] *= size
        else:
            atoms.append(size)
    return [atom for atom in atoms if atom != 1]


def _rows(group: list[Atom], known: dict[str, int]) -> str:
    """Those of a new axis, without a batch or a step that is the only one and merges with the other."""
    rows = [atom for atom in group if isinstance(atom, str)]
    return "".join([name for name in rows if known.get(name) != 1] or rows[:1]) if len(rows) > 1 else "".join(rows)


def _is_pure(group: list[Atom]) -> bool:
    """Rows or features, not both."""
    return len({type(atom) for atom in group}) <= 1


def _grouped(atoms: list[Atom], target: list[Any], known: dict[str, int]) -> list[list[Atom]] | None:
    """The atoms of every new axis, taken from the left up to the -1, then from the right."""
    rest = next((n for n, size in enumerate(target) if not isinstance(size, Rows) and size == -1), None)
    if rest is None:
        groups = _taken(atoms, target, known)
        return groups if groups is not None and not atoms else None
    left = _taken(atoms, target[:rest], known)
    atoms.reverse()
    right = _taken(atoms, target[:rest:-1], known)
    if left is None or right is None:
        return None
    return [*left, atoms[::-1], *(group[::-1] for group in right[::-1])]


def _taken(atoms: list[Atom], sizes: list[Any], known: dict[str, int]) -> list[list[Atom]] | None:
    groups = []
    for size in sizes:
        group = _take(atoms, size, known)
        if group is None:
            return None
        groups.append(group)
    return groups


def _take(atoms: list[Atom], size: Any, known: dict[str, int]) -> list[Atom] | None:
    """Remove from the front what makes up this size; of a number of features perhaps a part."""
    group: list[Atom] = []
    product: Any = 1
    while product != size or (size == 1 and not group and _is_row_of_one(atoms, known)):
        if not atoms:
            return None
        atom = atoms.pop(0)
        if not group and _is_unknown_row(atom, known) and not isinstance(size, Rows):
            return [atom]  # exporters write the size that they saw even where they declare none
        part = None if isinstance(atom, str) else _part(atom, size, product)
        if part is not None and isinstance(atom, int):
            atoms.insert(0, atom // part)
            atom = part
        group.append(atom)
        product = product * (Rows.of(atom, known) if isinstance(atom, str) else atom)
    return group


def _is_row_of_one(atoms: list[Atom], known: dict[str, int]) -> bool:
    return bool(atoms) and isinstance(atoms[0], str) and known.get(atoms[0]) == 1


def _is_unknown_row(atom: Atom, known: dict[str, int]) -> bool:
    return isinstance(atom, str) and atom not in known


def _part(atom: int, size: Any, product: Any) -> int | None:
    """How many of these features are needed, if less than all."""
    whole, there = (one.size if isinstance(one, Rows) else one for one in (size, product))
    if not whole or not there or whole % there:
        return None
    needed = int(whole // there)
    return needed if 0 < needed < atom and atom % needed == 0 else None


def _shown(target: list[Any]) -> str:
    return str([int(size) if not isinstance(size, Rows) else size.axes for size in target])
