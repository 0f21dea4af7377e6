"""Tensors of PyTorch files: a window, given by offset, shape and strides, into a storage that is read when needed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gated_c.arrays import Array
from gated_c.errors import FormatError, UnsupportedError
from gated_c.loaders.names import shown
from gated_c.loaders.torch.state_dict import StoredTensor
from gated_c.loaders.torch.unpickler import Global

#: Bytes per element of every storage class of PyTorch.
ITEM_SIZES = {
    **dict.fromkeys(("BoolStorage", "ByteStorage", "CharStorage", "QInt8Storage", "QUInt8Storage"), 1),
    **dict.fromkeys(("QUInt4x2Storage", "QUInt2x4Storage", "UntypedStorage", "_UntypedStorage"), 1),
    **dict.fromkeys(("ShortStorage", "HalfStorage", "BFloat16Storage"), 2),
    **dict.fromkeys(("IntStorage", "FloatStorage", "QInt32Storage"), 4),
    **dict.fromkeys(("LongStorage", "DoubleStorage", "ComplexFloatStorage"), 8),
    "ComplexDoubleStorage": 16,
}

#: Those that weights come in, and how NumPy reads them; bfloat16 is the upper half of a float32.
_DTYPES = {"HalfStorage": "f2", "BFloat16Storage": "u2", "FloatStorage": "f4", "DoubleStorage": "f8"}

_MAX_SIZE = 2**48
_MAX_ARGS = 32


@dataclass
class Source:
    """The storages of one file. ``locate`` gives the bytes of one, ``budget`` bounds those of all weights read."""

    locate: Callable[[str], memoryview]
    byte_order: str
    budget: int

    def spend(self, size: int) -> None:
        self.budget -= size
        if self.budget < 0:
            raise FormatError("tensors far larger than the file that holds them")

    def storage(self, saved_id: Any) -> Storage:
        """The storage that a persistent id names. The older format may add a view: (key, offset, numel) within it."""
        if not isinstance(saved_id, tuple) or len(saved_id) not in (5, 6):
            raise ValueError("a persistent id that is no storage")
        name, kind, key, _device, numel, view = (*saved_id, None)[:6]
        _, offset, numel = view or (key, 0, numel)
        if name != "storage" or not isinstance(key, str) or not (_is_size(offset) and _is_size(numel)):
            raise ValueError("a persistent id that is no storage")
        return Storage(self, kind.name.rpartition(".")[2], key, numel, offset)


@dataclass(frozen=True, slots=True)
class Storage:
    """``numel`` elements from ``offset`` on of the storage ``key``."""

    source: Source
    kind: str
    key: str
    numel: int
    offset: int = 0


@dataclass(frozen=True, slots=True)
class TorchTensor(StoredTensor):
    """A strided window into a storage; ``offset`` and ``strides`` count elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def read(self) -> Array:
        kind = self.storage.kind
        if kind not in _DTYPES:
            raise UnsupportedError(f"a {shown(kind)}; recurrent weights are float16, bfloat16, float32 or float64")
        dtype = np.dtype(self.storage.source.byte_order + _DTYPES[kind])
        self.storage.source.spend(4 * math.prod(self.shape))
        window = self._window(dtype)
        if kind == "BFloat16Storage":
            return (window.astype(np.uint32, order="C") << 16).view(np.float32)
        with np.errstate(over="ignore", under="ignore"):
            return np.array(window, dtype=np.float32, order="C")

    def _window(self, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        """The elements where they lie in the file."""
        if 0 in self.shape:
            raise FormatError(f"expected a tensor with elements, got shape {self.shape}")
        last = self.offset + sum((size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True))
        if last >= self.storage.numel:
            raise FormatError(f"reaches element {last} of a storage of {self.storage.numel}")
        start = self.storage.offset * dtype.itemsize
        stop = start + self.storage.numel * dtype.itemsize
        data = self.storage.source.locate(self.storage.key)
        if stop > len(data):
            raise FormatError(f"storage '{shown(self.storage.key)}': expected at least {stop} bytes, got {len(data)}")
        window: npt.NDArray[Any] = np.ndarray(
            self.shape,
            dtype,
            buffer=data[start:stop],
            offset=self.offset * dtype.itemsize,
            strides=[stride * dtype.itemsize for stride in self.strides],
        )
        return window


@dataclass(frozen=True, slots=True)
class UnsupportedTensor(StoredTensor):
    """A tensor of a kind that no weight of a recurrent layer may have."""

    kind: str
    shape: tuple[int, ...] = ()

    def read(self) -> Array:
        raise UnsupportedError(f"a {self.kind}; save it as a plain dense tensor")


def _rebuild_tensor(storage: Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> TorchTensor:
    if not isinstance(storage, Storage):
        raise TypeError("a tensor without a storage")
    if not len(shape) == len(strides) <= 32:
        raise ValueError("a shape beyond all bounds, or with other strides")
    if not all(_is_size(n) for n in (offset, *shape, *strides)):
        raise ValueError("offset, shape or strides that are no sizes")
    if math.prod(shape) > _MAX_SIZE:
        raise ValueError("a shape beyond all bounds")
    return TorchTensor(storage, offset, tuple(shape), tuple(strides))


def _is_size(value: object) -> bool:
    return isinstance(value, int) and 0 <= value < _MAX_SIZE


def _rebuild_tensor_v2(
    storage: Storage,
    offset: int,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    requires_grad: object,
    hooks: object,
    metadata: object = None,
) -> StoredTensor:
    tensor = _rebuild_tensor(storage, offset, shape, strides)
    return UnsupportedTensor("lazily negated or conjugated tensor", tensor.shape) if metadata else tensor


def _rebuild_parameter(data: object, *_: object) -> object:
    return data


def _rebuild_from_type(function: Global, kind: Global, args: tuple[Any, ...], *_: object) -> object:
    if kind.name not in ("torch.Tensor", "torch.nn.parameter.Parameter", "torch.nn.parameter.Buffer"):
        return UnsupportedTensor(f"tensor subclass {shown(kind.name)}")
    if not isinstance(args, tuple) or len(args) > _MAX_ARGS:
        raise TypeError("arguments of no tensor")
    return _REBUILDS[function.name](*args)


def _unsupported(kind: str) -> Callable[..., UnsupportedTensor]:
    return lambda *_: UnsupportedTensor(kind)


#: What the functions that rebuild tensors return here.
_REBUILDS: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor_v2,
    "torch._utils._rebuild_tensor_v3": _unsupported("tensor of an unusual dtype"),
    "torch._utils._rebuild_parameter": _rebuild_parameter,
    "torch._utils._rebuild_parameter_with_state": _rebuild_parameter,
    "torch._utils._rebuild_qtensor": _unsupported("quantised tensor"),
    "torch._utils._rebuild_sparse_tensor": _unsupported("sparse tensor"),
    "torch._utils._rebuild_sparse_csr_tensor": _unsupported("sparse tensor"),
    "torch._utils._rebuild_nested_tensor": _unsupported("nested tensor"),
    "torch._utils._rebuild_meta_tensor_no_storage": _unsupported("meta tensor, which has no data"),
    "torch._utils._rebuild_wrapper_subclass": _unsupported("tensor subclass (DTensor or its like)"),
    "torch._utils._rebuild_device_tensor_from_numpy": _unsupported("tensor of another device (XLA or its like)"),
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": _unsupported("tensor of another device (XLA or its like)"),
}

CALLS: dict[str, Callable[..., Any]] = _REBUILDS | {
    "torch.tensor._rebuild_from_type": _rebuild_from_type,
    "torch._tensor._rebuild_from_type": _rebuild_from_type,
    "torch._tensor._rebuild_from_type_v2": _rebuild_from_type,
    "torch._dynamo.eval_frame.OptimizedModule": lambda module, *_: module,
}
