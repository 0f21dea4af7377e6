"""What a Keras config says: the layers of a network, and the one path through them.

Both forms are read, that of Keras 3 (and 2.12 on), where tensors are ``__keras_tensor__`` objects with a
``keras_history``, and the older one, where they are ``[layer, node, tensor]``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from gated_c.errors import FormatError, UnsupportedError
from gated_c.loaders.names import shown

NETWORKS = frozenset({"Sequential", "Functional", "Model"})
RECURRENT = frozenset({"LSTM", "GRU", "SimpleRNN", "RNN", "Bidirectional", "CuDNNLSTM", "CuDNNGRU"})

#: Operations on one tensor, of Keras 3 and of TensorFlow in Keras 2, and what their calls say besides it.
OPERATIONS = {
    "GetItem": ("key",),
    "tf.__operators__.getitem": ("slice_spec",),
    "tf.math.reduce_mean": ("axis", "keepdims"),
    "tf.math.reduce_max": ("axis", "keepdims"),
}

_MODULES = ("keras", "tf_keras", "tensorflow")


@dataclass(frozen=True)
class KerasLayer:
    """A layer, or a cell inside one, as the config describes it.

    ``name`` is its place by the users' names, ``encoder.lstm``, ``path`` its place among the weights of a Keras 3 file,
    ``layers/sequential/layers/lstm``. ``trainable`` is false inside of what is frozen. ``mask_from`` names the layer
    whose mask a functional network hands it, ``arguments`` are what else it hands one of the ``OPERATIONS``.
    """

    class_name: str
    config: Mapping[str, Any] = field(repr=False)
    name: str = ""
    path: str = ""
    trainable: bool = True
    input_shape: Sequence[int | None] | None = None
    nodes: Sequence[Any] = field(default=(), repr=False)
    mask_from: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def parse(cls, entry: Any, parent: KerasLayer | None = None, path: str = "") -> KerasLayer:
        """From ``{"class_name": ..., "config": ...}``, one step below its parent."""
        if not isinstance(entry, Mapping) or not isinstance(entry.get("class_name"), str):
            raise FormatError("config: expected an object with a class_name for each layer")
        config = entry.get("config")
        if isinstance(config, list):  # a Sequential before Keras 2.2.3
            config = {"layers": config}
        if not isinstance(config, Mapping):
            raise FormatError(f"config: expected an object with the options of a {shown(entry['class_name'])}")
        name = str(entry.get("name") or config.get("name") or snake_case(entry["class_name"]))
        return cls(
            _class_name(entry),
            config,
            name=f"{parent.name}.{name}" if parent and parent.path else name,  # without the outermost's
            path=path,
            trainable=config.get("trainable", True) is not False and (parent is None or parent.trainable),
            input_shape=_input_shape(entry, config),
            nodes=entry.get("inbound_nodes") or (),
        )

    def option(self, name: str, default: Any) -> Any:
        """An option; one of another type than the default is a ``FormatError``."""
        value = self.config.get(name, default)
        if type(value) is not type(default):
            raise FormatError(
                f"{shown(self.name)}: {name}: expected a {type(default).__name__}, got {shown(repr(value))}"
            )
        return value

    def size(self, name: str) -> int:
        """An option that is a number of at least 1, or a tuple of one."""
        value = self.config.get(name)
        if isinstance(value, list | tuple) and len(value) == 1:
            value = value[0]
        if type(value) is not int or value < 1:
            raise FormatError(f"{shown(self.name)}: {name}: expected at least 1, got {shown(repr(value))}")
        return value

    def part(self, option: str, path: str | None = None) -> KerasLayer:
        """A layer that an option holds; it goes by the name of this one."""
        inner = KerasLayer.parse(self.config.get(option), self, f"{self.path}/{path or option}")
        return replace(inner, name=self.name)

    def parts(self, option: str, path: str) -> list[KerasLayer]:
        """The layers in a list, among the weights numbered by class."""
        entries = self.config.get(option)
        if not isinstance(entries, list | tuple):
            raise FormatError(f"{shown(self.name)}: {option}: expected a list of layers")
        parsed = []
        counts: Counter[str] = Counter()
        for entry in entries:
            part = KerasLayer.parse(entry, self)
            kind = snake_case(part.class_name)
            count = counts[kind]
            counts[kind] += 1
            unique = f"{kind}_{count}" if count else kind
            parsed.append(replace(part, path=f"{self.path}/{path}/{unique}".lstrip("/")))
        return parsed

    @property
    def is_network(self) -> bool:
        return self.class_name in NETWORKS and "layers" in self.config


def snake_case(class_name: str) -> str:
    """As keras.src.utils.naming does it."""
    name = re.sub(r"\W+", "", class_name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def recurrent_layers(layer: KerasLayer) -> Iterator[KerasLayer]:
    """All of them in a network, networks inside it included, whatever connects them."""
    if layer.is_network:
        for inner in layer.parts("layers", "layers"):
            yield from recurrent_layers(inner)
    elif layer.class_name in RECURRENT:
        yield layer


def path_through(network: KerasLayer) -> list[KerasLayer]:
    """The layers from input to output, in order, networks inside replaced by theirs. ``UnsupportedError`` names what
    stands at a branch."""
    if not network.is_network:
        return [network]
    path = [inner for layer in _path_in(network) for inner in path_through(layer)]
    if path and network.mask_from:
        path[0] = replace(path[0], mask_from=network.mask_from)
    return path


def _path_in(network: KerasLayer) -> list[KerasLayer]:
    layers = network.parts("layers", "layers")
    if network.class_name != "Sequential":
        layers = _functional_path(network, layers)
    if layers and layers[0].input_shape is None:
        shape = network.config.get("build_input_shape")
        layers[0] = replace(layers[0], input_shape=shape if isinstance(shape, list | tuple) else None)
    return layers


def _class_name(entry: Mapping[str, Any]) -> str:
    """With the package in front if it is the user's own class, which may compute anything; that of an operation in
    Keras 2 is its function's name."""
    registered = entry.get("registered_name")
    if isinstance(registered, str) and ">" in registered:
        return registered
    module = entry.get("module")
    if isinstance(module, str) and module.split(".")[0] not in _MODULES:
        return f"{module}.{entry['class_name']}"
    if entry["class_name"] in ("TFOpLambda", "SlicingOpLambda"):
        return f"tf.{entry['config'].get('function')}"
    return str(entry["class_name"])


def _input_shape(entry: Mapping[str, Any], config: Mapping[str, Any]) -> Sequence[int | None] | None:
    built = entry.get("build_config")
    for holder, key in ((config, "batch_shape"), (config, "batch_input_shape"), (built, "input_shape")):
        shape = holder.get(key) if isinstance(holder, Mapping) else None
        if isinstance(shape, list | tuple) and all(size is None or type(size) is int for size in shape):
            return shape
    return None


class _Tensor(NamedTuple):
    """What a layer puts out: at which of its calls, which of its outputs, and whether a ``keras_history`` says so."""

    layer: str
    node: int
    output: int
    by_history: bool


def _tensors(value: Any, by_history: bool = False) -> Iterator[_Tensor]:
    """All tensors in a part of a config."""
    if isinstance(value, Mapping):
        config = value.get("config")
        if value.get("class_name") == "__keras_tensor__" and isinstance(config, Mapping):
            yield from _tensors(config.get("keras_history"), by_history=True)
        else:
            yield from _tensors(list(value.values()))
    elif isinstance(value, list | tuple):
        if len(value) >= 3 and [type(part) for part in value[:3]] == [str, int, int]:
            layer, node, output, *value = value
            yield _Tensor(layer, node, output, by_history)
        for part in value:
            yield from _tensors(part)


class _Call(NamedTuple):
    """One call of a layer: the tensors it is given, its mask, and other arguments that are not None."""

    inputs: list[_Tensor]
    masks: list[_Tensor]
    arguments: dict[str, Any]


def _call(layer: KerasLayer, tensor: _Tensor) -> _Call:
    """The call of a layer that a tensor came out of."""
    node = tensor.node - _first_node(layer, tensor)
    if not (isinstance(layer.nodes, list | tuple) and 0 <= node < len(layer.nodes)):
        raise FormatError(f"{shown(layer.name)}: inbound_nodes: expected at least {node + 1}")
    call = layer.nodes[node]
    positional: Any = call
    keywords: dict[str, Any] = {}
    if isinstance(call, Mapping):
        positional, given = call.get("args"), call.get("kwargs")
        keywords = dict(given) if isinstance(given, Mapping) else {}
        if layer.class_name == "GetItem" and isinstance(positional, list | tuple) and len(positional) == 2:
            positional, keywords["key"] = positional
    elif isinstance(call, list | tuple):
        call = [call] if call and isinstance(call[0], str) else call  # an operation's only tensor
        for tensor in call:
            if isinstance(tensor, list | tuple) and len(tensor) == 4 and isinstance(tensor[3], Mapping):
                keywords |= tensor[3]
        positional = [tensor[:3] if isinstance(tensor, list | tuple) else tensor for tensor in call]
    masks = list(_tensors(keywords.pop("mask", None)))
    inputs = [*_tensors(positional), *_tensors(list(keywords.values()))]
    return _Call(inputs, masks, {name: value for name, value in keywords.items() if value is not None})


def _first_node(layer: KerasLayer, tensor: _Tensor) -> int:
    """The number that a layer's first call goes by: 1 where a network's building, which no config holds, counts as 0.

    It does for functional ones and, in Keras 2, for a Sequential that begins with an input; not in a ``keras_history``.
    """
    if tensor.by_history or not layer.is_network:
        return 0
    if layer.class_name != "Sequential":
        return 1
    is_keras_3 = any(isinstance(call, Mapping) for call in layer.nodes)
    first = layer.parts("layers", "layers")[:1]
    has_input = any(part.class_name == "InputLayer" or "batch_input_shape" in part.config for part in first)
    return int(has_input and not is_keras_3)


def _functional_path(network: KerasLayer, layers: Sequence[KerasLayer]) -> list[KerasLayer]:
    """Backwards from the output: each layer has one input."""
    by_name = {str(layer.config.get("name")): layer for layer in layers}
    at = _output(network, by_name)
    path: list[tuple[KerasLayer, _Tensor | None, list[_Tensor]]] = []
    seen: set[_Tensor] = set()
    while True:
        if at.layer not in by_name or at in seen:
            raise FormatError(f"config: no way from the output to the input beyond '{shown(at.layer)}'")
        seen.add(at)
        layer = by_name[at.layer]
        if layer.class_name == "InputLayer":
            path.append((layer, None, []))
            return _with_masks(path[::-1], by_name)
        call = _call(layer, at)
        _refuse_branch(layer, call, at)
        path.append((replace(layer, arguments=call.arguments), call.inputs[0], call.masks))
        at = call.inputs[0]


def _output(network: KerasLayer, by_name: Mapping[str, KerasLayer]) -> _Tensor:
    """The one output; states that a recurrent layer also returns are not counted."""
    outputs = list(_tensors(network.config.get("output_layers")))
    counted = [
        tensor for tensor in outputs if not (tensor.layer in by_name and _is_more(by_name[tensor.layer], tensor))
    ]
    if len(counted) != 1:
        names = ", ".join(shown(tensor.layer) for tensor in counted) or "none"
        raise UnsupportedError(f"{shown(network.name)}: expected one output, got {names}")
    return counted[0]


def _is_more(layer: KerasLayer, tensor: _Tensor) -> bool:
    """Whether it comes along with a layer's first output: states, the other direction of ``merge_mode=None``."""
    return layer.class_name in RECURRENT and tensor.output > 0


def _refuse_branch(layer: KerasLayer, call: _Call, at: _Tensor) -> None:
    where = shown(layer.name)
    if len(call.inputs) != 1:
        names = ", ".join(shown(tensor.layer) for tensor in call.inputs) or "nothing"
        raise UnsupportedError(f"{where}: a branch: {layer.class_name} of {names}; networks of a single path are run")
    if at.output:
        raise UnsupportedError(f"{where}: a branch: its output {at.output} goes on; networks of a single path are run")
    for name, value in call.arguments.items():
        if name not in OPERATIONS.get(layer.class_name, ()) and not (name == "training" and value is False):
            raise UnsupportedError(f"{where}: called with {shown(name)}={shown(repr(value))}")


def _with_masks(
    path: Sequence[tuple[KerasLayer, _Tensor | None, list[_Tensor]]], by_name: Mapping[str, KerasLayer]
) -> list[KerasLayer]:
    """Each layer with the name of the one whose mask it is handed; Keras 3 adds the operations that make it."""
    masking: dict[_Tensor | None, str] = {
        given: layer.name for layer, given, _ in path if given and layer.class_name in ("Masking", "Embedding")
    }
    layers = []
    for layer, _, masks in path:
        sources = [masking.get(_masked_tensor(mask, by_name), "a tensor of its own") for mask in masks]
        layers.append(replace(layer, mask_from=sources[0] if sources else ""))
    return layers


def _masked_tensor(mask: _Tensor, by_name: Mapping[str, KerasLayer]) -> _Tensor | None:
    """The tensor that a mask was made from by Keras's own operations; none if by others."""
    for operation in ("Any", "NotEqual"):  # the first only where it was made from features
        layer = by_name.get(mask.layer)
        if layer is None or layer.class_name not in ("NotEqual", operation):
            return None
        inputs = _call(layer, mask).inputs
        if len(inputs) != 1:
            return None
        if layer.class_name == "NotEqual":
            return inputs[0]
        mask = inputs[0]
    return None
