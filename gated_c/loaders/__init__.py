"""From files to `LayerSpec`, one module per origin."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from gated_c.errors import FormatError, UnsupportedError
from gated_c.loaders.file_kind import file_kind
from gated_c.loaders.names import shown
from gated_c.spec import LayerSpec

if TYPE_CHECKING:
    from gated_c.loaders.state_dict import Found

#: Beyond this a message says no more; that a hostile file can make it longer must not matter.
_MAX_MESSAGE = 4000


def read_layers(path: str | bytes | os.PathLike[str]) -> list[LayerSpec]:
    """Every recurrent module in a file; ``name`` is the prefix that `load_layers` takes, empty for the root.

    A module that cannot be read is left out with a ``UserWarning``, as long as another can. Raises ``FormatError`` for
    a broken file, ``UnsupportedError`` for a sound one that cannot be run, ``OSError`` for one that cannot be opened.
    """
    path = os.fsdecode(path)
    with _naming(path):
        kind = file_kind(path)
        if kind == "gated":
            return _read_native(path)
        layers, errors = _read_all(_find(kind, path))
        if errors and not layers:
            raise errors[0]
    for error in errors:
        warnings.warn(_named(path, error), UserWarning, stacklevel=3)
    return layers


def load_layers(
    path: str | bytes | os.PathLike[str],
    prefix: str | None = None,
    batch_first: bool | None = None,
    nonlinearity: str | None = None,
) -> list[LayerSpec]:
    """The one recurrent module of a file, or of several the one at ``prefix``.

    ``batch_first`` and ``nonlinearity`` (``"tanh"`` or ``"relu"``, of a plain RNN) overrule the file; ``None`` keeps
    what it says, PyTorch's defaults where it says nothing. Raises as `read_layers` does, and ``ValueError`` with all
    names and sizes where ``prefix`` fits none or several.
    """
    if nonlinearity not in (None, "tanh", "relu"):
        raise ValueError(f"nonlinearity: expected 'tanh' or 'relu', got {nonlinearity!r}")
    if not isinstance(prefix, str | None):
        raise TypeError(f"prefix: expected a str or None, got {type(prefix).__name__}")
    path = os.fsdecode(path)
    with _naming(path):
        kind = file_kind(path)
        if kind == "gated":
            layers = _read_native(path)
        else:
            found = _find(kind, path)
    if kind == "gated":
        return [_overruled(_layer_at(prefix, layers, path), batch_first, nonlinearity)]
    name, module = _module_at(prefix, found, path)
    with _naming(path):
        return [module.read(name, batch_first, nonlinearity)]


@contextmanager
def _naming(path: str) -> Iterator[None]:
    """Name the file in front of what is wrong with it."""
    try:
        yield
    except UnsupportedError as error:
        raise UnsupportedError(_named(path, error)) from error
    except (ValueError, RecursionError) as error:
        raise FormatError(_named(path, error)) from error


def _named(path: str, error: Exception) -> str:
    return f"{path}: {shown(str(error), _MAX_MESSAGE)}"


def _read_native(path: str) -> list[LayerSpec]:
    from gated_c.loaders import native

    return native.read(path)


def _find(kind: str, path: str) -> list[Found]:
    if kind == "safetensors":
        from gated_c.loaders.safetensors_file import find_in_safetensors

        return find_in_safetensors(path)
    from gated_c.loaders.torch_file import find_in_stream, find_in_zip

    return find_in_zip(path) if kind == "zip" else find_in_stream(path)


def _names(found: Sequence[Found]) -> list[str]:
    """The shortest name of each module that tells it from the others."""
    counts = Counter(module.stripped for module in found)
    return [module.stripped if counts[module.stripped] == 1 else module.path for module in found]


def _read_all(found: Sequence[Found]) -> tuple[list[LayerSpec], list[FormatError | UnsupportedError]]:
    """The modules that can be read, and what is wrong with the others."""
    layers: list[LayerSpec] = []
    errors: list[FormatError | UnsupportedError] = []
    for name, module in zip(_names(found), found, strict=True):
        try:
            layers.append(module.read(name))
        except (FormatError, UnsupportedError) as error:
            errors.append(type(error)(str(error)))  # without the traceback, which holds what was read
    return layers, errors


def _module_at(prefix: str | None, found: Sequence[Found], path: str) -> tuple[str, Found]:
    names = _names(found)
    accepted = [{name, one.stripped, one.prefix, one.path} for name, one in zip(names, found, strict=True)]
    described = [_described(name, one.describe()) for name, one in zip(names, found, strict=True)]
    chosen = _choose(prefix, accepted, described, path)
    return names[chosen], found[chosen]


def _layer_at(prefix: str | None, layers: Sequence[LayerSpec], path: str) -> LayerSpec:
    described = [_described(one.name, f"{one.cell}, {one.input_size} to {one.output_size}") for one in layers]
    return layers[_choose(prefix, [{layer.name} for layer in layers], described, path)]


def _described(name: str, what: str) -> str:
    return f"{shown(name) or repr(name)} ({what})"


def _choose(prefix: str | None, accepted: Sequence[set[str]], described: Sequence[str], path: str) -> int:
    """The index of the only one that goes by this prefix."""
    if not accepted:
        raise ValueError(f"{path}: no weights of an LSTM, GRU or RNN in it")
    fitting = [
        n for n, names in enumerate(accepted) if prefix is None or prefix in names or prefix.rstrip(".") in names
    ]
    if len(fitting) == 1:
        return fitting[0]
    listed = [described[n] for n in fitting] or described
    raise ValueError("\n  ".join([f"{path}: prefix: expected one of the following, got {prefix!r}", *listed]))


def _overruled(layer: LayerSpec, batch_first: bool | None, nonlinearity: str | None) -> LayerSpec:
    is_rnn = layer.cell in ("rnn_tanh", "rnn_relu")
    return replace(
        layer,
        batch_first=layer.batch_first if batch_first is None else batch_first,
        cell=f"rnn_{nonlinearity}" if nonlinearity and is_rnn else layer.cell,
    )
