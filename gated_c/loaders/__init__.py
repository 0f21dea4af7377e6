"""From files to `LayerSpec`, one module per origin."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from gated_c.errors import FormatError, UnsupportedError
from gated_c.loaders.file_kind import file_kind
from gated_c.spec import LayerSpec

if TYPE_CHECKING:
    from gated_c.loaders.state_dict import Found

_MAX_LISTED = 20


def read_layers(path: str | os.PathLike[str]) -> list[LayerSpec]:
    """Every recurrent module in a file; ``name`` is the prefix that `load_layers` takes, empty for the root.

    Raises ``FormatError`` for a broken file, ``UnsupportedError`` for a sound one that cannot be run, ``OSError`` for
    one that cannot be opened.
    """
    with _naming(path):
        kind = file_kind(path)
        if kind == "gated":
            return _read_native(path)
        found = _find(kind, path)
        return [module.read(name) for name, module in zip(_names(found), found, strict=True)]


def load_layers(
    path: str | os.PathLike[str],
    prefix: str | None = None,
    batch_first: bool | None = None,
    nonlinearity: str | None = None,
) -> list[LayerSpec]:
    """The one recurrent module of a file, or of several the one at ``prefix``; all layers of a ``.gated`` file.

    ``batch_first`` and ``nonlinearity`` (``"tanh"`` or ``"relu"``, of a plain RNN) overrule the file; ``None`` keeps
    what it says, PyTorch's defaults where it says nothing. Raises as `read_layers` does, and ``ValueError`` with all
    names and shapes where ``prefix`` fits none or several.
    """
    if nonlinearity not in (None, "tanh", "relu"):
        raise ValueError(f"nonlinearity: expected 'tanh' or 'relu', got {nonlinearity!r}")
    with _naming(path):
        kind = file_kind(path)
        if kind == "gated":
            layers = _read_native(path)
        else:
            found = _find(kind, path)
    if kind == "gated":
        return [_overruled(layer, batch_first, nonlinearity) for layer in _with_name(prefix, layers, path)]
    name, module = _with_prefix(prefix, found, path)
    with _naming(path):
        return [module.read(name, batch_first, nonlinearity)]


@contextmanager
def _naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Name the file in front of what is wrong with it."""
    try:
        yield
    except UnsupportedError as error:
        raise UnsupportedError(f"{os.fspath(path)}: {error}") from error
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{os.fspath(path)}: {error}") from error


def _read_native(path: str | os.PathLike[str]) -> list[LayerSpec]:
    from gated_c.loaders import native

    return native.read(path)


def _find(kind: str, path: str | os.PathLike[str]) -> list[Found]:
    if kind == "safetensors":
        from gated_c.loaders.safetensors_file import find_in_safetensors

        return find_in_safetensors(path)
    from gated_c.loaders.torch_file import find_in_stream, find_in_zip

    return find_in_zip(path) if kind == "zip" else find_in_stream(path)


def _names(found: Sequence[Found]) -> list[str]:
    """The shortest name of each module that tells it from the others."""
    counts = Counter(module.stripped for module in found)
    return [module.stripped if counts[module.stripped] == 1 else module.path for module in found]


def _with_prefix(prefix: str | None, found: Sequence[Found], path: str | os.PathLike[str]) -> tuple[str, Found]:
    choices = list(zip(_names(found), found, strict=True))
    fitting = [
        (name, module)
        for name, module in choices
        if prefix is None or prefix.rstrip(".") in (name, module.stripped, module.prefix, module.path)
    ]
    if len(fitting) != 1:
        listed = [f"{name!r}: {module.describe()}" for name, module in fitting or choices]
        raise ValueError(_expected_one_of(listed, prefix, path))
    return fitting[0]


def _with_name(prefix: str | None, layers: list[LayerSpec], path: str | os.PathLike[str]) -> list[LayerSpec]:
    chosen = [layer for layer in layers if prefix in (None, layer.name)]
    if not chosen:
        raise ValueError(_expected_one_of([repr(layer.name) for layer in layers], prefix, path))
    return chosen


def _expected_one_of(listed: Sequence[str], prefix: str | None, path: str | os.PathLike[str]) -> str:
    if not listed:
        return f"{os.fspath(path)}: no weights of an LSTM, GRU or RNN in it"
    more = [f"and {len(listed) - _MAX_LISTED} more"] if len(listed) > _MAX_LISTED else []
    lines = [f"prefix: expected one of the following, got {prefix!r}", *listed[:_MAX_LISTED], *more]
    return f"{os.fspath(path)}: " + "\n  ".join(lines)


def _overruled(layer: LayerSpec, batch_first: bool | None, nonlinearity: str | None) -> LayerSpec:
    is_rnn = layer.cell in ("rnn_tanh", "rnn_relu")
    return replace(
        layer,
        batch_first=layer.batch_first if batch_first is None else batch_first,
        cell=f"rnn_{nonlinearity}" if nonlinearity and is_rnn else layer.cell,
    )
