"""From layers to files, one module per format of another framework.

Of a chain they take recurrent layers only, and of these only what the format says exactly: the rest is refused by name.
But for Keras, what y is at steps that do not count (`LayerSpec.masked`) is not for a file to say and left out.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from gated_c.errors import UnsupportedError
from gated_c.layers import Layer, Unmask
from gated_c.loaders import native
from gated_c.spec import LayerSpec
from gated_c.writers import keras_weights, onnx_file, torch_safetensors

GATED = ".gated"

_WRITERS: dict[str, Callable[[Sequence[LayerSpec], str], None]] = {
    ".safetensors": torch_safetensors.write,
    ".weights.h5": keras_weights.write,
    ".onnx": onnx_file.write,
}


def write(layers: Sequence[Layer], path: str | os.PathLike[str]) -> None:
    """Write a chain in the format that the name of ``path`` ends with.

    ``.gated`` takes every chain. Recurrent layers also go to ``.safetensors`` (a state_dict of PyTorch),
    ``.weights.h5`` (Keras 3, the network's configuration beside it in ``.json``) and ``.onnx`` (opset 14), all in
    float32: of a narrow model the numbers that its weights were rounded to. A file appears whole or not at all.

    Raises ``UnsupportedError`` with everything that the format has no place for, ``ValueError`` for another ending,
    ``ImportError`` where a package is missing, ``OSError`` where nothing can be written.
    """
    path = os.fspath(path)
    ending = ending_of(path)
    for layer in layers:
        layer.validate()
    if ending == GATED:
        native.save(layers, path)
    else:
        _WRITERS[ending](_recurrent(layers, ending), path)


def ending_of(path: str | os.PathLike[str]) -> str:
    """Which format the name of a file to write stands for; ours if it has no ending. ``ValueError`` for another."""
    name = os.path.basename(os.fspath(path)).lower()
    for ending in (GATED, *_WRITERS):
        if name.endswith(ending):
            return ending
    suffix = os.path.splitext(name)[1]
    if suffix:
        raise ValueError(f"expected a name in {', '.join([GATED, *_WRITERS])}, got {suffix}")
    return GATED


def _recurrent(layers: Sequence[Layer], ending: str) -> list[LayerSpec]:
    """The recurrent layers, if there are no others. An `Unmask` is none: which steps count is for the caller to say."""
    layers = [layer for layer in layers if not isinstance(layer, Unmask)]
    recurrent = [layer for layer in layers if isinstance(layer, LayerSpec)]
    others = [layer for layer in layers if not isinstance(layer, LayerSpec)]
    if others:
        named = ", ".join(dict.fromkeys(f"{layer.name} ({type(layer).__name__})" for layer in others))
        prefixes = ", ".join(repr(layer.name) for layer in recurrent)
        raise UnsupportedError(
            f"{named}: only recurrent layers are written to {ending}; load one of them, with prefix {prefixes}"
        )
    return recurrent
