"""What a ``.gated`` file says of its layers in the words of gated_c.h, for the reader in the core (src/words.c), which
knows nothing of the classes here.

A float32 is given by its bits, 8 hexadecimal digits: the same number whoever reads it, in any locale.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from gated_c.layers import LINEAR, Core, Layer, PlainLayer
from gated_c.spec import Activation, LayerSpec


def core_words(layers: Sequence[Layer]) -> list[dict[str, Any]]:
    """An object for each layer, but for those that are only about the form of the result."""
    return [words for index, layer in enumerate(layers) if (words := _words(index, layer))]


def _words(index: int, layer: Layer) -> dict[str, Any]:
    return _of_plain(index, layer) if isinstance(layer, PlainLayer) else _of_stack(layer)


def _sizes(layer: Layer) -> dict[str, int]:
    return {"input_size": int(layer.input_size), "output_size": int(layer.output_size)}


def _of_plain(index: int, layer: PlainLayer) -> dict[str, Any]:
    """What differs from the defaults of `Core`, and the names of its tensors."""
    core = layer.core
    if core is None:
        return {}
    words: dict[str, Any] = {"kind": core.kind, **_sizes(layer)}
    if core.number:
        words["count"] = int(core.number)
    words |= _tensors(index, layer, core)
    if core.activation != LINEAR:
        words["activation"] = _activation(core.activation)
    if core.value != 0:
        words["value"] = _bits(core.value)
    if core.dilation != 1:
        words["dilation"] = int(core.dilation)
    if core.flag:
        words["flag"] = True
    return words


def _tensors(index: int, layer: PlainLayer, core: Core) -> dict[str, str]:
    """Which of a layer's arrays are weight and bias; one array may be both."""
    fields, names = layer.weights, {}
    for word in ("weight", "bias"):
        array = getattr(core, word)
        if array is not None:
            field = next(field for field in fields if fields[field] is array)
            names[word] = f"{index}.{field}"
            del fields[field]
    return names


def _of_stack(spec: LayerSpec) -> dict[str, Any]:
    words: dict[str, Any] = {
        "kind": "stack",
        **_sizes(spec),
        "count": int(spec.num_layers),
        "cell": spec.cell,
        "hidden_size": int(spec.hidden_size),
        "proj_size": int(spec.proj_size),
        "num_directions": spec.num_directions,
        "reverse": bool(spec.reverse),
        "masked": spec.masked,
        "biases": bool(spec.bias),
        "peepholes": bool(spec.peepholes),
    }
    if spec.is_general:
        words |= {
            "activations": [_three(spec.activations_of(direction)) for direction in range(spec.num_directions)],
            "clip": _bits(spec.clip),
            "clip_output": bool(spec.clip_output),
            "input_forget": bool(spec.input_forget),
        }
    if spec.h_limit:
        words["h_limit"] = "".join(map(_bits, spec.h_limit))
    return words


def _three(activations: Sequence[Activation]) -> list[list[str]]:
    """f, g, h; a cell that has fewer does not look at the others."""
    return [_activation(activations[min(i, len(activations) - 1)]) for i in range(3)]


def _activation(activation: Activation) -> list[str]:
    return [str(activation.name), _bits(activation.alpha), _bits(activation.beta)]


def _bits(value: float) -> str:
    with np.errstate(over="ignore"):
        single = np.float32(value) if not math.isnan(value) else np.float32(math.nan)
    return struct.pack(">f", single).hex()
