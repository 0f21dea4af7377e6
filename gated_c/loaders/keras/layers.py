"""A path of Keras layers to a chain: one function for each kind of layer.

Which layers hand a mask on and which drop it is Keras's ``supports_masking``; that of Keras 2 and 3 is the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from gated_c.errors import FormatError, UnsupportedError
from gated_c.layers import (
    LINEAR,
    Affine,
    Conv,
    Dense,
    Embedding,
    Flip,
    Layer,
    LayerNorm,
    Masking,
    Merge,
    Repeat,
    Reshape,
    Split,
)
from gated_c.loaders.keras import activations as keras_activations
from gated_c.loaders.keras.activations import SOFTMAXES, activation, layer_activation, number
from gated_c.loaders.keras.chain import Chain
from gated_c.loaders.keras.config import RECURRENT, KerasLayer, path_through
from gated_c.loaders.keras.operations import maximum, mean, slice_of
from gated_c.loaders.keras.recurrent import Dialect, read_recurrent_layer
from gated_c.loaders.keras.weights import Arrays, Weights, transpose
from gated_c.loaders.names import shown
from gated_c.spec import Activation, Array

Builder: TypeAlias = Callable[[Chain, KerasLayer], None]


def read_chain(path: Sequence[KerasLayer], weights: Weights, dialect: Dialect) -> list[Layer]:
    """The layers of a path through a network. Raises ``FormatError``, ``UnsupportedError``."""
    chain = Chain(weights, dialect)
    if path:
        chain.begin(path[0])
    for layer in path:
        _add(chain, layer)
    return chain.ended()


def _add(chain: Chain, layer: KerasLayer) -> None:
    where = shown(layer.name)
    if layer.mask_from not in ("", chain.mask_from):
        raise UnsupportedError(f"{where}: called with a mask of {shown(layer.mask_from)}")
    build = BUILDERS.get(layer.class_name)
    if build is None:
        raise UnsupportedError(f"{where}: a layer of class {shown(layer.class_name)}")
    try:
        build(chain, layer)
    except (FormatError, UnsupportedError) as error:
        raise type(error)(str(error) if str(error).startswith(where) else f"{where}: {error}") from None


def _nothing(chain: Chain, layer: KerasLayer) -> None:
    """Inert at inference."""


def _recurrent(chain: Chain, layer: KerasLayer) -> None:
    read = read_recurrent_layer(layer, chain.weights, chain.dialect)
    name, size = layer.name, read.output_size
    if read.go_backwards:
        chain.append(Flip(read.specs[0].input_size, name=name))
    for spec in read.specs:
        chain.append(spec)
    if not read.return_sequences:
        chain.unmask(name)  # what counts is the last step processed, which may repeat the one before
        chain.pool(name, "final" if read.bidirectional else "last", size if read.bidirectional else 0)
    elif read.go_backwards:
        chain.append(Flip(chain.width(), steps=False, name=name))  # its mask, unlike its steps, stays in order of time
    if read.merge_mode is None:
        chain.unmask(name)
        chain.append(Split(2 * size, name=name))
    elif read.merge_mode != "concat":
        chain.append(Merge(size, read.merge_mode, name=name))


def _time_distributed(chain: Chain, layer: KerasLayer) -> None:
    """The same at every step, which those layers do anyway that work on features: vectors, as they see it."""
    was_vector, chain.is_vector = chain.is_vector, True
    for inner in path_through(layer.part("layer")):
        if inner.class_name not in _POINTWISE:
            raise UnsupportedError(f"TimeDistributed of a {shown(inner.class_name)}")
        _add(chain, inner)
    chain.is_vector = was_vector


def _masking(chain: Chain, layer: KerasLayer) -> None:
    if chain.mask_from:
        chain.unmask(layer.name)  # Keras forgets the earlier mask
    chain.append(Masking(chain.width(), number(layer.config, "mask_value", 0.0), name=layer.name))
    chain.mask_from = layer.name


def _embedding(chain: Chain, layer: KerasLayer) -> None:
    table = chain.arrays(layer, embeddings=2)["embeddings"]
    mask_zero = layer.option("mask_zero", False)
    if chain.layers:
        raise UnsupportedError("ids that were computed")
    if not chain.is_vector and chain.size is not None:
        raise UnsupportedError("Embedding of ids of three dimensions")
    chain.steps, chain.is_vector = chain.size, False
    chain.append(Embedding(_float32(table), mask_zero, name=layer.name))
    chain.mask_from = layer.name if mask_zero else ""


def _dense(chain: Chain, layer: KerasLayer) -> None:
    arrays = chain.arrays(layer, kernel=2)
    one = activation(layer.config.get("activation"), chain.dialect.keras)
    fused = LINEAR if one.name in SOFTMAXES else one
    kernel = arrays["kernel"]
    weight = transpose(kernel, np.empty(kernel.shape[::-1], np.float32))
    chain.append(Dense(weight, _optional(arrays, "bias"), fused, name=layer.name))
    if fused != one:
        chain.activate(layer.name, one)


def _conv(chain: Chain, layer: KerasLayer) -> None:
    """Causal, or of one tap; it looks at masked steps too, and drops the mask."""
    arrays = chain.arrays(layer, kernel=3)
    taps = arrays["kernel"].shape[0]
    for option, expected in (("strides", 1), ("groups", 1), ("data_format", "channels_last")):
        value = layer.config.get(option, expected)
        if value not in (expected, [expected], (expected,)):
            raise UnsupportedError(f"Conv1D with {option}={shown(str(value))}; only {expected}")
    if taps > 1 and layer.config.get("padding") != "causal":
        raise UnsupportedError(f"Conv1D with padding={shown(repr(layer.config.get('padding')))}; only 'causal'")
    one = activation(layer.config.get("activation"), chain.dialect.keras)
    fused = LINEAR if one.name in SOFTMAXES else one
    weight = _float32(arrays["kernel"].transpose(2, 0, 1))
    dilation = layer.size("dilation_rate") if "dilation_rate" in layer.config else 1
    chain.append(Conv(weight, _optional(arrays, "bias"), fused, dilation, name=layer.name))
    if fused != one:
        chain.activate(layer.name, one)
    chain.unmask(layer.name)


def _activation(chain: Chain, layer: KerasLayer) -> None:
    chain.activate(layer.name, layer_activation(layer.class_name, layer.config, chain.dialect.keras))


def _layer_norm(chain: Chain, layer: KerasLayer) -> None:
    _only_last_axis(chain, layer)
    if layer.option("rms_scaling", False):
        raise UnsupportedError("LayerNormalization with rms_scaling")
    arrays = chain.arrays(layer, gamma=1, beta=1)
    size = len(next(iter(arrays.values()), ())) or chain.width()
    epsilon = number(layer.config, "epsilon", 1e-3)
    chain.append(LayerNorm(size, _optional(arrays, "gamma"), _optional(arrays, "beta"), epsilon, name=layer.name))


def _batch_norm(chain: Chain, layer: KerasLayer) -> None:
    _only_last_axis(chain, layer)
    arrays = chain.arrays(layer, moving_mean=1, moving_variance=1, gamma=1, beta=1)
    wide = {name: array.astype(float) for name, array in arrays.items()}
    if len({array.shape for array in wide.values()}) > 1:
        raise FormatError(
            f"expected weights of one shape, got {', '.join(str(array.shape) for array in wide.values())}"
        )
    deviation = np.sqrt(wide["moving_variance"] + number(layer.config, "epsilon", 1e-3))
    _affine(chain, layer, wide.get("gamma", 1.0) / deviation, wide["moving_mean"], wide.get("beta", 0.0))


def _normalization(chain: Chain, layer: KerasLayer) -> None:
    if layer.config.get("axis", -1) not in (None, [], ()):
        _only_last_axis(chain, layer)
    arrays = chain.weights.read(layer)
    mean = _numbers(arrays.get("mean", layer.config.get("mean")), "mean")
    variance = _numbers(arrays.get("variance", layer.config.get("variance")), "variance")
    deviation = np.maximum(np.sqrt(variance), 1e-7)  # keras.config.epsilon()
    if layer.option("invert", False):
        _affine(chain, layer, deviation, np.zeros(1), mean)
    else:
        _affine(chain, layer, 1 / deviation, mean, np.zeros(1))


def _rescaling(chain: Chain, layer: KerasLayer) -> None:
    scale = _numbers(layer.config.get("scale", 1.0), "scale")
    _affine(chain, layer, scale, np.zeros(1), _numbers(layer.config.get("offset", 0.0), "offset"))


def _affine(chain: Chain, layer: KerasLayer, scale: Any, mean: Any, shift: Any) -> None:
    """(x - mean) * scale + shift, folded in float64; the same for all features without an array of them."""
    scale, shift = np.broadcast_arrays(scale, shift - mean * scale)
    if scale.size == 1:
        chain.activate(layer.name, Activation.of("affine", float(scale.flat[0]), float(shift.flat[0])))
    elif scale.ndim == 1:
        chain.append(Affine(_float32(scale), _float32(shift), name=layer.name))
    else:
        raise UnsupportedError(f"{layer.class_name} of other axes than the last")


def _average(chain: Chain, layer: KerasLayer) -> None:
    _plain_pooling(layer)
    chain.pool(layer.name, "mean")


def _maximum(chain: Chain, layer: KerasLayer) -> None:
    _plain_pooling(layer)
    chain.unmask(layer.name)
    chain.pool(layer.name, "max")


def _plain_pooling(layer: KerasLayer) -> None:
    if layer.option("keepdims", False) or layer.config.get("data_format", "channels_last") != "channels_last":
        raise UnsupportedError(f"{layer.class_name} with keepdims or channels first")


def _flatten(chain: Chain, layer: KerasLayer) -> None:
    if layer.config.get("data_format", "channels_last") != "channels_last":
        raise UnsupportedError("Flatten with channels first")
    if not chain.is_vector:
        _reshape_to(chain, layer, [chain.length() * chain.width()])


def _reshape(chain: Chain, layer: KerasLayer) -> None:
    target = layer.config.get("target_shape")
    if not isinstance(target, list | tuple) or any(type(size) is not int for size in target) or target.count(-1) > 1:
        raise FormatError(f"target_shape: expected sizes, got {shown(repr(target))}")
    known = abs(math.prod(target))
    total = max(chain.length(), 1) * chain.width()
    if known == 0 or total % known:
        raise FormatError(f"target_shape: expected {total} numbers, got {shown(repr(target))}")
    _reshape_to(chain, layer, [total // known if size == -1 else size for size in target])


def _reshape_to(chain: Chain, layer: KerasLayer, target: list[int]) -> None:
    if not 1 <= len(target) <= 2:
        raise UnsupportedError(f"Reshape to {len(target)} dimensions; only to steps and features, or features")
    steps = target[0] if len(target) == 2 else 0
    chain.append(Reshape(chain.length(), chain.width(), steps, target[-1], name=layer.name))
    chain.is_vector, chain.steps, chain.mask_from = not steps, steps or None, ""


def _repeat(chain: Chain, layer: KerasLayer) -> None:
    steps = layer.size("n")
    chain.append(Repeat(chain.width(), steps, name=layer.name))
    chain.is_vector, chain.steps = False, steps


def _only_last_axis(chain: Chain, layer: KerasLayer) -> None:
    axis = layer.config.get("axis", -1)
    last = 1 if chain.is_vector else 2
    if axis not in (-1, last, [-1], [last], (-1,), (last,)):
        raise UnsupportedError(f"{layer.class_name} over axis {shown(str(axis))}; only the last one")


def _numbers(value: Any, name: str) -> npt.NDArray[np.float64]:
    if isinstance(value, dict):  # a serialised array
        value = value.get("config", {}).get("value") if isinstance(value.get("config"), dict) else value.get("value")
    try:
        if value is not None:
            return np.atleast_1d(np.squeeze(np.asarray(value, float)))
    except (TypeError, ValueError, OverflowError):
        pass
    raise FormatError(f"{name}: expected numbers, got {shown(repr(value))}")


def _float32(array: npt.NDArray[Any]) -> Array:
    """An array of its own, which does not keep the file mapped."""
    with np.errstate(over="ignore", under="ignore"):
        return np.array(array, np.float32, order="C")


def _optional(arrays: Arrays, name: str) -> Array | None:
    return _float32(arrays[name]) if name in arrays else None


#: Layers that work on the features of one step, or not at all.
_POINTWISE: dict[str, Builder] = {
    "InputLayer": _nothing,
    "Dense": _dense,
    "LayerNormalization": _layer_norm,
    "BatchNormalization": _batch_norm,
    "Rescaling": _rescaling,
    **dict.fromkeys(
        ("Dropout", "SpatialDropout1D", "AlphaDropout", "GaussianDropout", "GaussianNoise", "ActivityRegularization"),
        _nothing,
    ),
    "Identity": _nothing,
    **dict.fromkeys(keras_activations.LAYERS, _activation),
}

BUILDERS: dict[str, Builder] = {
    **_POINTWISE,
    **dict.fromkeys(RECURRENT, _recurrent),
    "TimeDistributed": _time_distributed,
    "Masking": _masking,
    "Embedding": _embedding,
    "Conv1D": _conv,
    "Normalization": _normalization,
    "GlobalAveragePooling1D": _average,
    "GlobalAvgPool1D": _average,
    "GlobalMaxPooling1D": _maximum,
    "GlobalMaxPool1D": _maximum,
    "Flatten": _flatten,
    "Reshape": _reshape,
    "RepeatVector": _repeat,
    **dict.fromkeys(("GetItem", "tf.__operators__.getitem"), slice_of),
    **dict.fromkeys(("Mean", "tf.math.reduce_mean"), mean),
    **dict.fromkeys(("Max", "tf.math.reduce_max"), maximum),
}
