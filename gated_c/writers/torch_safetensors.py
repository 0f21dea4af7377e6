"""A state_dict of PyTorch, as safetensors: what ``torch.nn.LSTM``, ``GRU`` and ``RNN`` load.

Keys are those of the module itself for one layer, ``<name>.weight_ih_l0`` for several. A state_dict says neither
``batch_first`` nor the nonlinearity of an RNN, dropout apart; whoever makes the module has to know them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from gated_c.files import replacing
from gated_c.loaders.safetensors_file import write_safetensors
from gated_c.spec import LayerSpec
from gated_c.writers.expressing import distinct_names, names_of, refuse_unless_empty

#: The names of activations with which PyTorch has a cell.
_FUNCTIONS: dict[str, set[tuple[str, ...]]] = {
    "lstm": {("sigmoid", "tanh", "tanh")},
    "gru": {("sigmoid", "tanh")},
    "rnn_tanh": {("tanh",)},
    "rnn_relu": {("relu",)},
    "rnn": {("tanh",), ("relu",)},
}


def write(layers: Sequence[LayerSpec], path: str) -> None:
    """Write recurrent layers, bit for bit. ``UnsupportedError`` names what PyTorch's modules do not do."""
    refuse_unless_empty(layers, _refusals)
    prefixes = [""] if len(layers) == 1 else [f"{name}." for name in distinct_names(layers)]
    arrays = {
        prefix + name: np.ascontiguousarray(weight)
        for prefix, layer in zip(prefixes, layers, strict=True)
        for name, weight in layer.weights.items()
    }
    with replacing(path) as unfinished, open(unfinished, "wb") as file:
        write_safetensors(file, arrays, {"format": "pt"})


def _refusals(layer: LayerSpec) -> Iterator[str]:
    if layer.cell == "gru_reset_before":
        yield "a GRU that resets before its recurrent product: PyTorch's resets after it"
        return
    names = [names_of(layer, d) for d in range(layer.num_directions)]
    if len(set(names)) > 1 or names[0] not in _FUNCTIONS[layer.cell]:
        yield f"activations {', '.join(' '.join(one) for one in names)}: PyTorch has no module with these"
    if layer.clip:
        yield f"clip {layer.clip:g}: PyTorch does not clip"
    if layer.input_forget:
        yield "input_forget: PyTorch does not couple gates"
    if layer.peepholes:
        yield "peepholes: PyTorch has none"
    if layer.has_initial_state:
        yield "a learned initial state: PyTorch's modules start from zeros"
    if layer.reverse:
        yield "reverse: PyTorch has no reverse direction without a forward one"
