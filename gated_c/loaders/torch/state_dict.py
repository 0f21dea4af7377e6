"""Recurrent modules in a flat ``{name: tensor}``, whatever file it came from.

Names are grouped by the prefix of the enclosing module. Nothing is read before a module is chosen.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import dropwhile
from typing import Any

from gated_c.arrays import Array
from gated_c.errors import FormatError, UnsupportedError
from gated_c.loaders.names import MAX_NAME, shown
from gated_c.spec import LayerSpec

_PREFIX = r"(?:(?P<prefix>.+)\.)?"
_WEIGHT = r"(?P<weight>(?:weight_(?:ih|hh|hr)|bias_(?:ih|hh))(?:_l\d{1,6}(?:_reverse)?)?)"

_PLAIN = re.compile(_PREFIX + _WEIGHT, re.ASCII | re.DOTALL)

_QUANTISED = "part of a quantised module; load the float model that it was made from"
_PARAMETRISED = (
    "part of a parametrised weight (weight_norm, spectral_norm, pruning); make it plain before saving, "
    "with torch.nn.utils.parametrize.remove_parametrizations, remove_weight_norm or prune.remove"
)
_REFUSED = {
    re.compile(_PREFIX + _WEIGHT + r"_(?:g|v|u|orig|mask)", re.ASCII | re.DOTALL): _PARAMETRISED,
    re.compile(_PREFIX + r"parametrizations\." + _WEIGHT + r"\..+", re.ASCII | re.DOTALL): _PARAMETRISED,
    re.compile(_PREFIX + r"_all_weight_values\.\d+\.param", re.ASCII | re.DOTALL): _QUANTISED,
    re.compile(_PREFIX + r"_packed_weight_(?:ih|hh)", re.ASCII | re.DOTALL): _QUANTISED,
}

#: The weights of ``nn.LSTMCell`` and its kin, which have one layer and do not say so.
_CELL_WEIGHTS = frozenset({"weight_ih", "weight_hh", "bias_ih", "bias_hh"})


class StoredTensor:
    """A tensor in a file: its shape now, its values on demand."""

    shape: tuple[int, ...]

    def read(self) -> Array:
        """The values as a float32 array of its own, C-contiguous. Raises ``FormatError``, ``UnsupportedError``."""
        raise NotImplementedError


@dataclass(frozen=True)
class Found:
    """A recurrent module found in a file, not yet read.

    ``container`` is the path to the state_dict or module inside a checkpoint, ``prefix`` the path inside that.
    ``refusal``, when not empty, says why the module cannot be run.
    """

    prefix: str
    tensors: Mapping[str, StoredTensor] = field(repr=False)
    container: str = ""
    batch_first: bool = False
    nonlinearity: str = "tanh"
    refusal: str = ""

    @property
    def path(self) -> str:
        """The whole path: container and prefix."""
        return join(self.container, self.prefix)

    @property
    def stripped(self) -> str:
        """``prefix`` without what DataParallel (``module.``) and torch.compile (``_orig_mod.``) put in."""
        parts = [part for part in self.prefix.split(".") if part != "_orig_mod"]
        return ".".join(dropwhile(lambda part: part == "module", parts))

    def describe(self) -> str:
        """Cell and sizes as far as shapes tell them, ``lstm, 5 to 9``, or the refusal, for a list to choose from."""
        shapes = [self.tensors[name].shape for name in ("weight_ih_l0", "weight_hh_l0") if name in self.tensors]
        if self.refusal or [len(shape) for shape in shapes] != [2, 2]:
            return self.refusal or f"{len(self.tensors)} weights"
        (rows, input_size), (_, h_size) = shapes
        gates = 4 if "weight_hr_l0" in self.tensors else rows // max(1, h_size)
        cell = {4: "lstm", 3: "gru", 1: f"rnn_{self.nonlinearity}"}.get(gates, "unknown")
        return f"{cell}, {input_size} to {h_size * (1 + ('weight_ih_l0_reverse' in self.tensors))}"

    def read(self, name: str, batch_first: bool | None = None, nonlinearity: str | None = None) -> LayerSpec:
        """Read the weights; ``None`` keeps what the file says. Raises ``FormatError`` and ``UnsupportedError``."""
        where = f"{shown(name)}: " if name else ""
        if self.refusal:
            raise UnsupportedError(where + self.refusal)
        weights = {key: _read(tensor, where + key) for key, tensor in self.tensors.items()}
        try:
            layer = LayerSpec.from_weights(
                weights,
                batch_first=self.batch_first if batch_first is None else batch_first,
                nonlinearity=self.nonlinearity if nonlinearity is None else nonlinearity,
            )
        except ValueError as error:
            raise FormatError(f"{where}{error}") from None
        return replace(layer, name=name)


def find_modules(tensors: Mapping[str, Any]) -> list[Found]:
    """The recurrent modules of a state_dict, in its order. Values other than ``StoredTensor`` only matter by name, and
    names longer than ``MAX_NAME`` not at all."""
    groups: dict[str, dict[str, StoredTensor]] = {}
    refusals: dict[str, str] = {}
    for key, tensor in tensors.items():
        if len(key) > MAX_NAME:
            continue
        if (plain := _PLAIN.fullmatch(key)) and isinstance(tensor, StoredTensor):
            groups.setdefault(plain["prefix"] or "", {})[plain["weight"]] = tensor
        for pattern, reason in _REFUSED.items():
            if refused := pattern.fullmatch(key):
                prefix = refused["prefix"] or ""
                groups.setdefault(prefix, {})
                refusals.setdefault(prefix, f"'{shown(key)}' is {reason}")
    return [
        Found(prefix, _canonical(group), refusal=refusals.get(prefix, ""))
        for prefix, group in groups.items()
        if prefix in refusals or _looks_recurrent(group)
    ]


def join(*parts: str) -> str:
    """Parts of a path with dots between them; empty ones vanish."""
    return ".".join(part for part in parts if part)


def _looks_recurrent(group: Mapping[str, StoredTensor]) -> bool:
    is_cell = "weight_ih" in group and "weight_hh" in group
    return is_cell or "weight_ih_l0" in group or "weight_hh_l0" in group


def _canonical(group: dict[str, StoredTensor]) -> dict[str, StoredTensor]:
    if group.keys() <= _CELL_WEIGHTS:
        return {f"{name}_l0": tensor for name, tensor in group.items()}
    return group


def _read(tensor: StoredTensor, place: str) -> Array:
    try:
        return tensor.read()
    except UnsupportedError as error:
        raise UnsupportedError(f"{place}: {error}") from None
    except FormatError as error:
        raise FormatError(f"{place}: {error}") from None
