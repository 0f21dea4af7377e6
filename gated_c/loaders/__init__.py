"""From files to layers, one module per origin."""

from __future__ import annotations

import os
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from gated_c.arrays import Array
from gated_c.errors import FormatError, UnsupportedError
from gated_c.layers import Layer, validate_chain
from gated_c.loaders.file_kind import file_kind
from gated_c.loaders.names import shown
from gated_c.options import DEFAULT, Options
from gated_c.spec import LayerSpec

if TYPE_CHECKING:
    from gated_c.loaders.torch.state_dict import Found

#: Beyond this a message says no more; that a hostile file can make it longer must not matter.
_MAX_MESSAGE = 4000


class Loaded(NamedTuple):
    """What a file comes to. Only our own format says more than its layers."""

    layers: list[Layer]
    options: Options = DEFAULT
    checksum: str = ""
    packed: Mapping[str, Array] | None = None  # all weights as the kernels read them, by instruction set


def read_layers(path: str | bytes | os.PathLike[str], config: Any = None) -> list[LayerSpec]:
    """Every recurrent module in a file; ``name`` is the prefix that `load_layers` takes, empty for the root. ``config``
    as there.

    A module that cannot be read is left out with a ``UserWarning``, as long as another can. Raises ``FormatError`` for
    a broken file, ``UnsupportedError`` for a sound one that cannot be run, ``OSError`` for one that cannot be opened.
    """
    path = os.fsdecode(path)
    with _naming(path):
        kind = file_kind(path)
    given = _checked_options(kind, path, config=config)
    if kind in _NETWORKS:
        return _read_recurrent(kind, path, given)
    with _naming(path):
        if kind == "gated":
            return _recurrent(_read_native(path).layers)
        layers, errors = _read_all(_find(kind, path))
        if errors and not layers:
            raise errors[0]
    for error in errors:
        warnings.warn(_named(path, error), UserWarning, stacklevel=3)
    return layers


def load_layers(path: str | bytes | os.PathLike[str], *args: Any, **options: Any) -> list[Layer]:
    """The layers of `load_file`."""
    return load_file(path, *args, **options).layers


def load_file(
    path: str | bytes | os.PathLike[str],
    prefix: str | None = None,
    batch_first: bool | None = None,
    nonlinearity: str | None = None,
    **options: Any,
) -> Loaded:
    """The layers in a file, and what else it says: of Keras, ONNX and our own format the whole network, else its one
    recurrent module. With a ``prefix`` the recurrent module of that name alone.

    ``batch_first`` and ``nonlinearity`` (``"tanh"`` or ``"relu"``, of a plain RNN) overrule the file; ``None`` keeps
    what it says, PyTorch's defaults where it says nothing. ``options`` are those of `_OPTIONS` that the kind of file
    takes, ``None`` for its default. Raises as `read_layers` does, and ``ValueError`` with all names and sizes where
    ``prefix`` fits none or several, and for an argument that this kind of file does not take.
    """
    if nonlinearity not in (None, "tanh", "relu"):
        raise ValueError(f"nonlinearity: expected 'tanh' or 'relu', got {nonlinearity!r}")
    if not isinstance(prefix, str | None):
        raise TypeError(f"prefix: expected a str or None, got {type(prefix).__name__}")
    path = os.fsdecode(path)
    with _naming(path):
        kind = file_kind(path)
    given = _checked_options(kind, path, nonlinearity=nonlinearity, **options)
    if kind in _NETWORKS:
        found = Loaded(_read_network(kind, path, given) if prefix is None else [*_read_recurrent(kind, path, given)])
    elif kind == "gated":
        with _naming(path):
            found = _read_native(path)
    else:
        with _naming(path):
            modules = _find(kind, path)
        name, module = _module_at(prefix, modules, path)
        with _naming(path):
            return Loaded([module.read(name, batch_first, nonlinearity)])
    if prefix is not None:
        found = Loaded([*_layers_at(prefix, _recurrent(found.layers), path)], found.options, found.checksum)
    return found._replace(layers=[_overruled(layer, batch_first, nonlinearity) for layer in found.layers])


#: Kinds of files that hold whole networks, by the loader that reads them.
_NETWORKS = {"keras": "keras.file", "hdf5": "keras.file", "onnx": "onnx.file", "json": "audio.file"}

#: Which arguments of `load_layers` a kind of file takes.
_OPTIONS = {
    "keras": {"backend"},
    "hdf5": {"config", "backend"},
    "onnx": {"clip"},
    "gated": {"nonlinearity"},
    "json": set(),
}


def _checked_options(kind: str, path: str, **options: Any) -> dict[str, Any]:
    """Those that are given, of the kinds that this file takes."""
    given = {name: value for name, value in options.items() if value is not None}
    for name in given.keys() - _OPTIONS.get(kind, {"nonlinearity"}):
        raise ValueError(f"{path}: {name}: expected None for this kind of file, got {given[name]!r}")
    return given


def _read_network(kind: str, path: str, options: Mapping[str, Any]) -> list[Layer]:
    loader = import_module(f"gated_c.loaders.{_NETWORKS[kind]}")
    with _naming(path, broken=RecursionError):
        layers: list[Layer] = loader.read_network(path, **options)
    with _naming(path):
        validate_chain(layers)
    return layers


def _read_recurrent(kind: str, path: str, options: Mapping[str, Any]) -> list[LayerSpec]:
    loader = import_module(f"gated_c.loaders.{_NETWORKS[kind]}")
    with _naming(path, broken=RecursionError):
        layers: list[LayerSpec] = loader.read_recurrent(path, **options)
        return layers


@contextmanager
def _naming(path: str, broken: type[Exception] = ValueError) -> Iterator[None]:
    """Name the file in front of what is wrong with it, and let it be the file's fault what is ``broken``."""
    try:
        yield
    except UnsupportedError as error:
        raise UnsupportedError(_named(path, error)) from error
    except (FormatError, broken, RecursionError) as error:
        raise FormatError(_named(path, error)) from error


def _named(path: str, error: Exception) -> str:
    return f"{path}: {shown(str(error), _MAX_MESSAGE)}"


def _read_native(path: str) -> Loaded:
    from gated_c.loaders import native

    return native.read_file(path)


def _find(kind: str, path: str) -> list[Found]:
    if kind == "safetensors":
        from gated_c.loaders.safetensors_file import find_in_safetensors

        return find_in_safetensors(path)
    from gated_c.loaders.torch.file import find_in_stream, find_in_zip

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


def _recurrent(layers: Sequence[Layer]) -> list[LayerSpec]:
    return [layer for layer in layers if isinstance(layer, LayerSpec)]


def _layers_at(prefix: str, layers: Sequence[LayerSpec], path: str) -> list[LayerSpec]:
    """The layer of that name, or those of a stack of cells under it."""
    stack = [layer for layer in layers if re.fullmatch(re.escape(prefix) + r"\.\d+", layer.name)]
    if stack:
        return stack
    described = [_described(one.name, f"{one.cell}, {one.input_size} to {one.output_size}") for one in layers]
    return [layers[_choose(prefix, [{layer.name} for layer in layers], described, path)]]


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


def _overruled(layer: Layer, batch_first: bool | None, nonlinearity: str | None) -> Layer:
    if not isinstance(layer, LayerSpec):
        return layer
    is_rnn = layer.cell in ("rnn_tanh", "rnn_relu")
    return replace(
        layer,
        batch_first=layer.batch_first if batch_first is None else batch_first,
        cell=f"rnn_{nonlinearity}" if nonlinearity and is_rnn else layer.cell,
    )
