"""RTNeural's JSON: a Keras Sequential with its weights in it, ``in_shape`` and for each layer ``type``, ``shape``,
``weights`` and ``activation`` (RTNeural, python/model_utils.py and RTNeural/model_loader.h).

The weights are laid out as Keras has them, so each layer is handed to Keras's loader as what it was. RTNeural takes no
activations for recurrent layers, whatever the file says: an LSTM's and a GRU's are the usual ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gated_c.errors import FormatError, UnsupportedError
from gated_c.layers import Layer, Unmask
from gated_c.loaders.audio.numbers import float32_array, is_size
from gated_c.loaders.keras.config import KerasLayer
from gated_c.loaders.keras.layers import read_chain
from gated_c.loaders.keras.recurrent import Dialect
from gated_c.loaders.keras.weights import Arrays, weight_names
from gated_c.loaders.names import shown

_CLASSES = {
    "dense": "Dense",
    "time-distributed-dense": "Dense",
    "conv1d": "Conv1D",
    "gru": "GRU",
    "lstm": "LSTM",
    "batchnorm": "BatchNormalization",
    "activation": "Activation",
}

_ACTIVATIONS = ("tanh", "relu", "sigmoid", "softmax", "elu")


def read(content: Mapping[str, Any]) -> list[Layer]:
    """Step by step, [N,T,C] to [N,T,F]. Raises ``FormatError``, ``UnsupportedError``."""
    entries, shape = content.get("layers"), content.get("in_shape")
    if not isinstance(entries, list) or not entries:
        raise FormatError("layers: expected a list of them")
    features = _features(shape, "in_shape")
    path, arrays = [], {}
    for index, entry in enumerate(entries):
        layer = _layer(entry, index)
        path.append(layer)
        arrays[layer.path] = entry.get("weights", [])
    path.insert(0, KerasLayer("InputLayer", {}, name="input", input_shape=[None, None, features]))
    chain = read_chain(path, _Weights(arrays), Dialect(keras=3, masked="repeat"))
    layers = [layer for layer in chain if not isinstance(layer, Unmask)]  # there are no masks
    if layers and layers[0].input_size != features:
        raise FormatError(f"in_shape: expected {layers[0].input_size} features, as the first layer, got {features}")
    return layers


def _features(shape: Any, where: str) -> int:
    if not isinstance(shape, list) or not shape or not is_size(shape[-1]):
        raise FormatError(f"{where}: expected a list that ends with the number of features, got {shown(repr(shape))}")
    return int(shape[-1])


def _layer(entry: Any, index: int) -> KerasLayer:
    if not isinstance(entry, dict) or not isinstance(entry.get("type"), str):
        raise FormatError(f"layers[{index}]: expected an object with a type")
    kind = entry["type"]
    name = f"layers[{index}] ({shown(kind)})"
    if kind not in _CLASSES:
        raise UnsupportedError(f"{name}: expected one of {', '.join(_CLASSES)}")
    path = f"layers/{index}"
    config: dict[str, Any] = {"units": _features(entry.get("shape"), f"{name}: shape")}
    if kind in ("gru", "lstm"):
        config |= {"return_sequences": True, "reset_after": True}
    else:
        config["activation"] = _activation(entry, name)
    if kind == "conv1d":
        config |= {"padding": "causal", "dilation_rate": entry.get("dilation", 1), "groups": entry.get("groups", 1)}
    if kind == "batchnorm":
        config |= {"epsilon": entry.get("epsilon", 1e-3)}
    return KerasLayer(_CLASSES[kind], config, name=name, path=path)


def _activation(entry: Mapping[str, Any], name: str) -> str:
    value = entry.get("activation") or "linear"
    if value != "linear" and value not in _ACTIVATIONS:
        raise UnsupportedError(f"{name}: activation {shown(str(value))}; only {', '.join(_ACTIVATIONS)}")
    return str(value)


class _Weights:
    """The lists of a file, by the path of their layer."""

    def __init__(self, lists: Mapping[str, Any]) -> None:
        self._lists = lists

    def read(self, owner: KerasLayer) -> Arrays:
        names = [name.rstrip("*") for name in weight_names(owner)]
        lists = self._lists[owner.path.removesuffix("/cell")]
        if not isinstance(lists, list) or len(lists) != len(names):
            got = len(lists) if isinstance(lists, list) else type(lists).__name__
            raise FormatError(f"{owner.name}: weights: expected {', '.join(names) or 'none'}, got {got} arrays")
        arrays = {
            name: float32_array(values, f"{owner.name}: {name}") for name, values in zip(names, lists, strict=True)
        }
        units = owner.config["units"]
        if owner.class_name in ("Dense", "Conv1D") and arrays["kernel"].shape[-1] != units:
            raise FormatError(f"{owner.name}: kernel: expected {units} columns, got {arrays['kernel'].shape}")
        return arrays
