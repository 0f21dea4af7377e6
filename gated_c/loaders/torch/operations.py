"""PyTorch's functions and Tensor methods by name, as far as a path may go through them.

One handler serves ``torch.relu``, ``torch.nn.functional.relu``, ``Tensor.relu`` and ``nn.ReLU``, which calls one.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn import functional
from torch.nn.utils import rnn

from gated_c.arrays import Array
from gated_c.errors import UnsupportedError
from gated_c.layers import Affine
from gated_c.loaders.torch import joins as joins
from gated_c.loaders.torch import layers as layers
from gated_c.loaders.torch import views as views
from gated_c.loaders.torch.activations import ACTIVATIONS
from gated_c.loaders.torch.flow import Flow
from gated_c.loaders.torch.layers import Unknown, Zeros


class Maximum(NamedTuple):
    """What ``max(dim)`` gives."""

    values: Flow
    indices: Unknown


def same(x: Flow, *args: Any, **kwargs: Any) -> Flow:
    return x


def _to(x: Flow, *args: Any, **kwargs: Any) -> Flow:
    """Devices do not matter; x may be made float32, or integers if it is ids."""
    for dtype in (*args, *kwargs.values()):
        if not isinstance(dtype, torch.dtype) or dtype == torch.float32:
            continue
        if dtype not in (torch.int32, torch.int64) or x.layers:
            raise UnsupportedError(f"{dtype}; expected torch.float32")
        x = replace(x, as_integers=True)
    return x


def _dropout(x: Flow, p: float = 0.5, training: bool = True, train: bool = True) -> Flow:
    """Those of ``torch.nn`` say that this is no training; ``train`` is what ``torch.dropout`` calls it."""
    if p and training and train:
        raise UnsupportedError("drops at inference too; expected training=self.training")
    return x


# Arithmetic with constants


def _add(a: Any, b: Any) -> Flow:
    if isinstance(a, Flow) and isinstance(b, Flow):
        return joins.merge(a, b, "sum")
    x, constant = (a, b) if isinstance(a, Flow) else (b, a)
    return _affine(x, 1.0, _constant(x, constant))


def _sub(a: Any, b: Any) -> Flow:
    if isinstance(a, Flow):
        return _affine(a, 1.0, -_constant(a, b))
    return _affine(b, -1.0, _constant(b, a))


def _mul(a: Any, b: Any) -> Flow:
    if isinstance(a, Flow) and isinstance(b, Flow):
        return joins.merge(a, b, "mul")
    x, constant = (a, b) if isinstance(a, Flow) else (b, a)
    return _affine(x, _constant(x, constant), 0.0)


def _div(a: Any, b: Any) -> Flow:
    if not (isinstance(a, Flow) and isinstance(b, int | float | torch.Tensor)):
        raise UnsupportedError("expected a path / a number or a constant tensor")
    return _affine(a, _constant(a, 1 / b), 0.0)


def _affine(x: Flow, scale: float | Array, shift: float | Array) -> Flow:
    if isinstance(scale, float) and isinstance(shift, float):
        return layers.scale(x, scale, shift)
    scale, shift = (np.array(array, np.float32) for array in np.broadcast_arrays(scale, shift))
    return x.then_at(x.axes.index(("F",)), Affine(scale=scale, shift=shift))


def _constant(x: Flow, value: Any) -> float | Array:
    """A number, or one for each feature."""
    if isinstance(value, int | float):
        return float(value)
    if isinstance(value, Flow):
        raise UnsupportedError(joins.BRANCH)
    if not isinstance(value, torch.Tensor):
        raise UnsupportedError("arithmetic with what is neither a number nor a constant tensor")
    if value.numel() == 1 and value.dim() <= len(x.axes):
        return float(value.detach())
    axes = x.axes[len(x.axes) - value.dim() :]
    if value.dim() > len(x.axes) or any(n != 1 and axis != ("F",) for n, axis in zip(value.shape, axes, strict=True)):
        raise UnsupportedError(f"arithmetic with {tuple(value.shape)}; expected a number for each feature of {x}")
    return layers.array(value.flatten())


def _matmul(a: Any, b: Any) -> Flow:
    if not (isinstance(a, Flow) and isinstance(b, torch.Tensor) and b.dim() == 2):
        raise UnsupportedError("expected a path @ a constant matrix")
    return layers.linear(a, b.t())


def _max(x: Flow, dim: int, keepdim: bool = False) -> Maximum:
    return Maximum(layers.reduce(x, "max", dim, keepdim), Unknown())


def _adaptive_max_pool(x: Flow, output_size: Any, return_indices: bool = False) -> Any:
    pooled = layers.adaptive_pool(x, "max", output_size)
    return (pooled, Unknown()) if return_indices else pooled


def _activation(name: str) -> Callable[..., Flow]:
    def activate(x: Flow, *args: Any, **kwargs: Any) -> Flow:
        return layers.activate(x, bound(ACTIVATIONS[name], *args, **kwargs)())

    return activate


def bound(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Callable[[], Any]:
    """A call, once its arguments are sure to fit."""
    try:
        inspect.signature(function).bind(*args, **kwargs)
    except TypeError as error:
        raise UnsupportedError(f"arguments: {error}") from None
    return partial(function, *args, **kwargs)


OPERATIONS: dict[str, Callable[..., Any]] = {
    **{name: _activation(name) for name in ACTIVATIONS},
    **dict.fromkeys(("add", "iadd"), _add),
    **dict.fromkeys(("sub", "subtract", "isub"), _sub),
    **dict.fromkeys(("mul", "multiply", "imul"), _mul),
    **dict.fromkeys(("div", "divide", "true_divide", "truediv", "itruediv"), _div),
    **dict.fromkeys(("neg", "negative"), lambda x: _affine(x, -1.0, 0.0)),
    "rsub": lambda a, b: _sub(b, a),
    "matmul": _matmul,
    "linear": layers.linear,
    "embedding": layers.embedding,
    "layer_norm": layers.layer_norm,
    "conv1d": layers.conv1d,
    "pad": layers.pad,
    "softmax": layers.softmax,
    "log_softmax": layers.log_softmax,
    "flip": layers.flip,
    "mean": lambda x, dim, keepdim=False: layers.reduce(x, "mean", dim, keepdim),
    "sum": lambda x, dim, keepdim=False: layers.reduce(x, "sum", dim, keepdim),
    "amax": lambda x, dim, keepdim=False: layers.reduce(x, "max", dim, keepdim),
    "max": _max,
    "adaptive_avg_pool1d": lambda x, output_size: layers.adaptive_pool(x, "mean", output_size),
    "adaptive_max_pool1d": _adaptive_max_pool,
    **dict.fromkeys(("cat", "concat", "concatenate"), joins.cat),
    "pack_padded_sequence": layers.pack,
    "pad_packed_sequence": layers.unpack,
    **dict.fromkeys(("transpose", "swapaxes", "swapdims"), views.transpose),
    "t": lambda x: views.transpose(x, 0, 1),
    "permute": views.permute,
    "squeeze": views.squeeze,
    "unsqueeze": views.unsqueeze,
    "flatten": views.flatten,
    "unflatten": views.unflatten,
    **dict.fromkeys(("reshape", "view"), views.reshape),
    "expand": views.expand,
    "repeat": views.repeat,
    "getitem": views.getitem,
    "select": views.select,
    "narrow": lambda x, dim, start, length: views.narrow(x, dim, slice(start, start + length)),
    "split": views.split,
    "chunk": views.chunk,
    "size": lambda x, dim=None: x.shape if dim is None else x.shape[x.index(dim)],
    **dict.fromkeys(("dim", "ndimension"), lambda x: len(x.axes)),
    **dict.fromkeys(("new_zeros", "zeros_like"), lambda x, *args, **kwargs: Zeros()),
    "to": _to,
    **dict.fromkeys(("long", "int"), lambda x: _to(x, torch.int64)),
    **dict.fromkeys(("contiguous", "clone", "detach", "float", "cpu", "cuda", "type_as"), same),
    **dict.fromkeys(("dropout", "dropout1d", "alpha_dropout", "feature_alpha_dropout"), _dropout),
}

#: Those that can join parts of one layer's features.
JOINING = frozenset(
    name for name, handler in OPERATIONS.items() if handler in (_add, _sub, _mul, _div, _matmul, joins.cat)
)

ATTRIBUTES: dict[str, Callable[[Flow], Any]] = {
    "shape": lambda x: x.shape,
    "ndim": lambda x: len(x.axes),
    "data": same,
    "T": lambda x: views.permute(x, *range(len(x.axes))[::-1]),
    "mT": lambda x: views.transpose(x, -1, -2),
    **dict.fromkeys(("device", "dtype", "is_cuda"), lambda x: Unknown()),
}

#: Those that say something about a tensor without reading it.
QUERIES = frozenset(
    {"size", "dim", "ndimension", "new_zeros", "zeros_like", *(ATTRIBUTES.keys() - {"data", "T", "mT"})}
)

_NAMESPACES = (functional, torch, torch.special, operator, rnn)

#: torch's own functions, those that write in place too -> their names.
FUNCTIONS = {
    getattr(namespace, found): name
    for namespace in _NAMESPACES
    for name in OPERATIONS
    for found in (name, f"{name}_")
    if hasattr(namespace, found)
}
