"""Weights of Keras 3, ``.weights.h5``, and beside them in ``.json`` the network they belong to: a ``Sequential`` that
``keras.models.model_from_json`` makes and whose ``load_weights`` takes the file.

Paths follow ``keras.src.saving.saving_lib``: classes in snake case, numbered from the second of a kind on,
``layers/lstm_1/cell/vars/0`` (kernel), ``1`` (recurrent kernel), ``2`` (bias).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from gated_c.files import replacing
from gated_c.spec import FUNCTIONS, Array, LayerSpec
from gated_c.writers.expressing import functions_of, refuse_unless_empty, reordered

ENDING = ".weights.h5"

_CLASSES = {
    "lstm": ("LSTM", "ifgo"),
    "gru": ("GRU", "zrn"),
    "gru_reset_before": ("GRU", "zrn"),
    "rnn_tanh": ("SimpleRNN", ""),
    "rnn_relu": ("SimpleRNN", ""),
    "rnn": ("SimpleRNN", ""),
}

_SNAKE = {"LSTM": "lstm", "GRU": "gru", "SimpleRNN": "simple_rnn"}

#: Activations that Keras calls as we do, where it fixes alpha and beta to other values than our defaults.
_FIXED = {"leaky_relu": (0.2, 0.0)}

_NOT_IN_KERAS = frozenset({"affine", "thresholded_relu", "scaled_tanh", "gelu_tanh"})


def write(layers: Sequence[LayerSpec], path: str) -> None:
    """Write recurrent layers as ``path`` and the network as the ``.json`` beside it. ``UnsupportedError`` names what
    Keras's layers do not do, ``ImportError`` the package that is missing."""
    try:
        import h5py
    except ImportError as error:
        raise ImportError('Keras files need h5py: pip install "gated_c[keras-files]"') from error
    refuse_unless_empty(layers, _refusals)
    stacked = [(layer, k) for layer in layers for k in range(layer.num_layers)]
    names = _numbered([_kind(layer) for layer, _ in stacked])
    configs = [_layer_config(layer, name) for (layer, _), name in zip(stacked, names, strict=True)]
    network_path = path[: -len(ENDING)] + ".json"
    with replacing(network_path) as network, replacing(path) as weights:
        network.write_text(json.dumps(_sequential(layers[0].input_size, configs)))
        with h5py.File(weights, "w") as file:
            file.create_group("vars").attrs["name"] = "sequential"
            for (layer, k), name in zip(stacked, names, strict=True):
                _write_layer(file.create_group(f"layers/{name}"), name, layer, k)


def _refusals(layer: LayerSpec) -> Iterator[str]:
    if layer.proj_size:
        yield f"proj_size {layer.proj_size}: Keras has no projection"
    if layer.clip:
        yield f"clip {layer.clip:g}: Keras does not clip"
    if layer.input_forget:
        yield "input_forget: Keras does not couple gates"
    if layer.peepholes:
        yield "peepholes: Keras has none"
    if layer.has_initial_state:
        yield "a learned initial state: Keras's layers start from zeros"
    if layer.reverse:
        yield "reverse: Keras's go_backwards gives the outputs in the order of processing"
    for direction in range(layer.num_directions):
        functions = functions_of(layer, direction)
        for name, alpha, beta in functions:
            if name in _NOT_IN_KERAS:
                yield f"activation {name}: Keras has no such function"
            elif (np.float32(alpha), np.float32(beta)) != tuple(map(np.float32, _FIXED.get(name, FUNCTIONS[name]))):
                yield f"activation {name} with {alpha:g}, {beta:g}: Keras fixes {_FIXED.get(name, FUNCTIONS[name])}"
        if len(set(functions[1:])) > 1:
            yield f"activations {functions[1].name} and {functions[2].name}: Keras has one for candidate and output"


def _kind(layer: LayerSpec) -> str:
    return "bidirectional" if layer.bidirectional else _SNAKE[_CLASSES[layer.cell][0]]


def _numbered(names: Sequence[str]) -> list[str]:
    """``lstm``, ``lstm_1``, ``lstm_2``."""
    seen: Counter[str] = Counter()
    numbered = []
    for name in names:
        numbered.append(f"{name}_{seen[name]}" if seen[name] else name)
        seen[name] += 1
    return numbered


def _write_layer(group: Any, name: str, layer: LayerSpec, k: int) -> None:
    """Stacked layer number k."""
    group.create_group("vars").attrs["name"] = name
    if not layer.bidirectional:
        _write_cell(group, layer, f"_l{k}")
        return
    kind = _SNAKE[_CLASSES[layer.cell][0]]
    for direction, suffix in (("forward", f"_l{k}"), ("backward", f"_l{k}_reverse")):
        part = group.create_group(f"{direction}_layer")
        part.create_group("vars").attrs["name"] = f"{direction}_{kind}"
        _write_cell(part, layer, suffix)


def _write_cell(group: Any, layer: LayerSpec, suffix: str) -> None:
    class_name, order = _CLASSES[layer.cell]
    variables = group.create_group("cell/vars")
    variables.attrs["name"] = f"{_SNAKE[class_name]}_cell"
    arrays = [np.transpose(reordered(layer, layer.weights[w + suffix], order)) for w in ("weight_ih", "weight_hh")]
    if layer.bias:
        arrays.append(_bias(layer, suffix, order))
    for index, array in enumerate(arrays):
        variables[str(index)] = array


def _bias(layer: LayerSpec, suffix: str, order: str) -> Array:
    """The sum, as the engine adds them too; both, [2, 3H], of a GRU that resets after the product."""
    both = [reordered(layer, layer.weights[b + suffix], order) for b in ("bias_ih", "bias_hh")]
    if layer.cell == "gru":
        return np.stack(both)
    with np.errstate(over="ignore", invalid="ignore"):
        return both[0] + both[1]


def _sequential(input_size: int, layers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    source = {"batch_shape": [None, None, input_size], "dtype": "float32", "name": "input_layer"}
    everything = [_object("keras.layers", "InputLayer", source), *layers]
    return _object("keras", "Sequential", {"name": "sequential", "layers": everything})


def _layer_config(layer: LayerSpec, name: str) -> dict[str, Any]:
    if not layer.bidirectional:
        return _cell_config(layer, 0, name)
    kind = _SNAKE[_CLASSES[layer.cell][0]]
    directions = {
        "layer": _cell_config(layer, 0, f"forward_{kind}"),
        "backward_layer": _cell_config(layer, 1, f"backward_{kind}"),
    }
    return _object("keras.layers", "Bidirectional", {"name": name, "merge_mode": "concat", **directions})


def _cell_config(layer: LayerSpec, direction: int, name: str) -> dict[str, Any]:
    class_name, _ = _CLASSES[layer.cell]
    functions = functions_of(layer, direction)
    config: dict[str, Any] = {
        "name": name,
        "units": layer.hidden_size,
        "use_bias": layer.bias,
        "return_sequences": True,
        "go_backwards": direction == 1,
        "zero_output_for_mask": layer.masked == "zero",
        "activation": functions[-1].name,
    }
    if class_name != "SimpleRNN":
        config["recurrent_activation"] = functions[0].name
    if class_name == "GRU":
        config["reset_after"] = layer.cell == "gru"
    return _object("keras.layers", class_name, config)


def _object(module: str, class_name: str, config: Mapping[str, Any]) -> dict[str, Any]:
    return {"module": module, "class_name": class_name, "config": dict(config), "registered_name": None}
