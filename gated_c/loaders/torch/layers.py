"""What PyTorch's functions and recurrent modules compute, as layers of a chain.

Most modules of ``torch.nn`` are a call of one function of ``torch.nn.functional``, and are followed as that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from gated_c.arrays import Array
from gated_c.errors import UnsupportedError
from gated_c.layers import (
    Affine,
    Conv,
    Dense,
    Elementwise,
    Embedding,
    Flip,
    Layer,
    LayerNorm,
    Merge,
    Softmax,
    Unmask,
)
from gated_c.loaders.torch.flow import Flow
from gated_c.loaders.torch.module import LiveTensor, read_recurrent
from gated_c.spec import Activation, LayerSpec


class Unknown:
    """A value that no layer may depend on."""


class Zeros(Unknown):
    """A tensor of zeros, in a shape of which only the data tells all."""


class Argument(Unknown):
    """What the caller passes to ``forward`` besides x: a state, or lengths; ``part`` of it if that is a tuple."""

    def __init__(self, part: int | None = None) -> None:
        self.part = part


class CellState(Unknown):
    """c of an LSTM: nothing may be computed from it."""


def array(tensor: Any) -> Array:
    """A copy in float32."""
    return LiveTensor(tensor, tuple(tensor.shape)).read()


def optional_array(tensor: Any) -> Array | None:
    return None if tensor is None else array(tensor)


# Activations and arithmetic


def activate(x: Flow, activation: Activation) -> Flow:
    return x.then(Elementwise(size=x.size or 0, activation=activation))


def scale(x: Flow, alpha: float, beta: float) -> Flow:
    """alpha * x + beta, for every feature the same."""
    return activate(x, Activation.of("affine", alpha, beta))


# Layers with weights


def linear(x: Flow, weight: Any, bias: Any = None) -> Flow:
    return x.then_at(-1, Dense(weight=array(weight), bias=optional_array(bias)))


def embedding(
    x: Flow,
    weight: Any,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Flow:
    """The other arguments matter to training only."""
    if max_norm is not None:
        raise UnsupportedError("max_norm, which changes the weights as they are read")
    if x.layers or x.axes not in ((("N",), ("T",)), (("T",), ("N",))):
        raise UnsupportedError(f"expected ids as the module is given them, [N, T] or [T, N], got {x}")
    y = x.then(Embedding(weight=array(weight)))
    return y.with_axes(*x.axes, y.feature)


def layer_norm(
    x: Flow, normalized_shape: Sequence[int], weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Flow:
    if len(normalized_shape) != 1:
        raise UnsupportedError(f"normalized_shape {tuple(normalized_shape)}; expected the features alone")
    (size,) = normalized_shape
    layer = LayerNorm(size=size, weight=optional_array(weight), bias=optional_array(bias), epsilon=eps)
    return x.then_at(-1, layer)


def conv1d(
    x: Flow, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> Flow:
    """Causal: as many zeros before the steps as the taps reach back. What it adds after them has to be cut off."""
    stride, dilation = _one(stride), _one(dilation)
    reach = (weight.shape[-1] - 1) * dilation
    if groups != 1 or stride != 1:
        raise UnsupportedError(f"groups {groups} and stride {stride}; expected 1 and 1")
    padding = {"valid": 0, "same": reach / 2}[padding] if isinstance(padding, str) else _one(padding)
    before, after = (added + padding for added in x.steps_added)
    if before != reach:
        raise UnsupportedError(f"not causal: expected {reach} zeros before the steps, got {before}")
    if not x.holds("N", "F", "T"):
        raise UnsupportedError(f"expected [N, F, T], got {x}")
    taps, bias = array(weight), optional_array(bias)
    pointwise = Dense(weight=taps[:, :, 0].copy(), bias=bias)
    layer = Conv(weight=taps.transpose(0, 2, 1).copy(), bias=bias, dilation=dilation) if reach else pointwise
    return replace(replace(x, steps_added=(0, 0)).then_at(1, layer), steps_added=(0, after))


def _one(value: Any) -> Any:
    return value[0] if isinstance(value, tuple | list) else value


def pad(x: Flow, pad: Sequence[int], mode: str = "constant", value: float = 0.0) -> Flow:
    """Zeros around the steps, for a convolution."""
    before, after, *others = pad
    if x.axes[-1] != ("T",) or any(others) or min(before, after) < 0 or value or mode != "constant":
        raise UnsupportedError(f"{mode} padding {tuple(pad)} of {x}; expected zeros around the last axis, the steps")
    return replace(x, steps_added=(x.steps_added[0] + before, x.steps_added[1] + after))


def batch_norm(module: Any, x: Flow) -> Flow:
    if module.running_mean is None:
        raise UnsupportedError("no running statistics; expected track_running_stats=True")
    mean, variance = (array(tensor).astype(np.float64) for tensor in (module.running_mean, module.running_var))
    weight, bias = optional_array(module.weight), optional_array(module.bias)
    scale = (1 if weight is None else weight) / np.sqrt(variance + module.eps)
    shift = (0 if bias is None else bias) - mean * scale
    return x.then_at(1, Affine(scale=scale.astype(np.float32), shift=shift.astype(np.float32)))


def recurrent(module: Any, x: Flow, hx: Any = None) -> tuple[Flow, Any]:
    _check_initial(hx)
    spec = read_recurrent(module, x.place)
    if not x.packed:
        x = x.arranged(*("NTF" if module.batch_first else "TNF"))
    y, h = x.after(spec)
    return y, (h, CellState()) if isinstance(module, nn.LSTM) else h


def _check_initial(hx: Any) -> None:
    """A state that the caller passes is our own ``state``; without one it is zeros."""
    for part in hx if isinstance(hx, tuple | list) else (hx,):
        is_zero = isinstance(part, torch.Tensor) and not part.any()
        if not (part is None or is_zero or isinstance(part, Zeros | Argument)):
            raise UnsupportedError("an initial state that is neither zeros nor an argument of forward")
    if isinstance(hx, tuple | list) and [getattr(part, "part", None) for part in hx] == [1, 0]:
        raise UnsupportedError("an initial state of which h and c are swapped")


def cell(module: Any, *args: Any, **kwargs: Any) -> Flow:
    raise UnsupportedError("steps that forward takes itself; expected an LSTM, GRU or RNN over the sequence")


def unsupported(module: Any, *args: Any, **kwargs: Any) -> Flow:
    raise UnsupportedError("not supported")


#: What is followed as a whole, subclasses included as far as they call the ``forward`` of these.
MODULES: dict[Any, Callable[..., Any]] = {
    nn.LSTM: recurrent,
    nn.GRU: recurrent,
    nn.RNN: recurrent,
    nn.LSTMCell: cell,
    nn.GRUCell: cell,
    nn.RNNCell: cell,
    nn.BatchNorm1d: batch_norm,
    nn.MultiheadAttention: unsupported,
    nn.TransformerEncoderLayer: unsupported,
    nn.TransformerDecoderLayer: unsupported,
}


# Layers without weights


def softmax(x: Flow, dim: int, log: bool = False) -> Flow:
    if x.axes[x.index(dim)] != x.feature:
        raise UnsupportedError(f"over axis {dim} of {x}; expected the features")
    return x.then_at(dim, Softmax(size=x.size or 0, log=log))


def log_softmax(x: Flow, dim: int) -> Flow:
    return softmax(x, dim, log=True)


def flip(x: Flow, *dims: Any) -> Flow:
    given = dims[0] if isinstance(dims[0], tuple | list) else dims
    if [x.axes[x.index(dim)] for dim in given] != [("T",)]:
        raise UnsupportedError(f"axes {tuple(given)} of {x}; expected the steps")
    return x.then(Flip(size=x.size or 0))


def reduce(x: Flow, kind: str, dim: Any, keepdim: bool = False) -> Flow:
    """The mean or maximum over the steps, or the mean or sum of both directions."""
    at = x.index(_one(dim))
    kept = ((),) if keepdim else ()
    if isinstance(dim, tuple | list) and len(dim) != 1:
        raise UnsupportedError(f"{kind} over axes {tuple(dim)} of {x}; expected one")
    if x.axes[at] == ("T",) and kind in ("mean", "max"):
        return x.pooled(at, kind, *kept)
    if x.axes[at] == ("D",) and x.parts == 2 and x.stack == 1 and x.size and kind in ("mean", "sum"):
        merge = Merge(size=x.size // 2, mode={"mean": "ave"}.get(kind, kind))
        return x.then(merge).replaced(at, *kept, parts=1)
    raise UnsupportedError(f"{kind} over axis {at} of {x}; expected the steps")


def adaptive_pool(x: Flow, kind: str, output_size: Any) -> Flow:
    if _one(output_size) != 1 or x.axes[-1] != ("T",):
        raise UnsupportedError(f"{x} to {_one(output_size)} steps; expected the steps as the last axis, to 1")
    return x.pooled(len(x.axes) - 1, kind, ())


# Sequences of different lengths


def pack(x: Flow, lengths: Any, batch_first: bool = False, enforce_sorted: bool = True) -> Flow:
    """``lengths`` are our own ``lengths``, which hold from x on: no layer before may look at a step behind."""
    if not isinstance(lengths, Argument):
        raise UnsupportedError("lengths that are no argument of forward")
    if x.lengths not in (None, lengths):
        raise UnsupportedError("other lengths than before")
    x = x.arranged(*("NTF" if batch_first else "TNF"))
    layers = _without_last_unmask(x.chain)
    return replace(x, layers=layers, width=x.size, cut=None, packed=True, lengths=lengths)


def _without_last_unmask(layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
    """What was unpacked and is packed again needs none."""
    for at in reversed(range(len(layers))):
        layer = layers[at]
        if isinstance(layer, Unmask):
            return layers[:at] + layers[at + 1 :]
        if isinstance(layer, LayerSpec) or not (layer.stepwise or isinstance(layer, Conv)):
            raise UnsupportedError(f"after {layer.name or 'a layer'}, which takes all steps; expected it after packing")
    return layers


def unpack(
    x: Flow, batch_first: bool = False, padding_value: float = 0.0, total_length: Any = None
) -> tuple[Flow, Argument]:
    """From here on the code computes with the zeros at steps that do not count, as with all others."""
    if padding_value:
        raise UnsupportedError(f"padding_value {padding_value}; expected 0")
    x = replace(x, packed=False).then(Unmask(size=x.size or 0))
    return x.with_axes(*((("N",), ("T",)) if batch_first else (("T",), ("N",))), x.feature), x.lengths
