"""What a model is told besides its layers, and the flags of gated_c.h that say so to the core and in files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from gated_c._core import FLAGS
from gated_c.layers import Layer
from gated_c.narrow import MATRICES, dtype_of, narrowed
from gated_c.spec import LayerSpec

DTYPES = ("float32", "bfloat16", "int8")

#: dtype -> what its arithmetic, and its products of inputs, can be; the first is the default.
_ARITHMETICS = {"bfloat16": ("float32", "bfloat16")}
_INPUTS = {"int8": ("int8", "float32", "bfloat16")}

#: What sets a flag.
_FLAGS: dict[str, dict[Any, int]] = {
    "flush_subnormals": {True: FLAGS["flush_subnormals"]},
    "dtype": {"bfloat16": FLAGS["bfloat16"], "int8": FLAGS["int8"]},
    "arithmetic": {"bfloat16": FLAGS["bfloat16_dot"]},
    "inputs": {"float32": FLAGS["inputs_float32"], "bfloat16": FLAGS["inputs_bfloat16"]},
}

ALL_FLAGS = sum(FLAGS.values())


class Options(NamedTuple):
    """Those of `Model`; a file keeps them."""

    flush_subnormals: bool = False
    dtype: str = "float32"
    arithmetic: str = "float32"
    inputs: str | None = None

    @classmethod
    def checked(cls, flush_subnormals: Any, dtype: Any, arithmetic: Any, inputs: Any) -> Options:
        """``ValueError`` for words that do not exist, or not with this dtype."""
        _check("dtype", dtype, DTYPES, "")
        _check("arithmetic", arithmetic, _ARITHMETICS.get(dtype, ("float32",)), f" with {dtype}")
        if dtype in _INPUTS and inputs is None:
            inputs = _INPUTS[dtype][0]
        _check("inputs", inputs, _INPUTS.get(dtype, (None,)), f" with {dtype}")
        return cls(bool(flush_subnormals), dtype, arithmetic, inputs)

    @classmethod
    def of_flags(cls, flags: int) -> Options:
        """What they say. ``ValueError`` for unknown ones, and for those that contradict each other."""
        said = {
            name: next((value for value, flag in values.items() if flags & flag), cls._field_defaults[name])
            for name, values in _FLAGS.items()
        }
        options = cls.checked(**said)
        if options.flags != flags:
            raise ValueError(f"flags: expected some of {ALL_FLAGS:#x} that go together, got {flags:#x}")
        return options

    @classmethod
    def of_layer(cls, layer: LayerSpec) -> Options:
        """In which its weights are as wide as it keeps them."""
        inputs = dtype_of(layer.weights, "weight_ih_l0") if layer.dtype in _INPUTS else None
        return cls(dtype=layer.dtype, inputs=inputs)

    @property
    def flags(self) -> int:
        return sum(values.get(getattr(self, name), 0) for name, values in _FLAGS.items())

    def narrow(self, layers: Sequence[Layer]) -> tuple[Layer, ...]:
        """The layers with the weights of recurrent ones rounded to what is asked for."""
        return tuple(self._narrowed(layer) if isinstance(layer, LayerSpec) else layer for layer in layers)

    def _narrowed(self, layer: LayerSpec) -> LayerSpec:
        dtypes = {} if self.dtype == "float32" else dict.fromkeys(MATRICES, self.dtype)
        if self.inputs is not None:
            dtypes["weight_ih"] = self.inputs
        weights = narrowed(layer.weights, dtypes)
        return layer if weights is layer.weights else replace(layer, weights=weights)

    def __str__(self) -> str:
        """``int8``, ``int8 with float32 inputs``, ``bfloat16 with bfloat16 arithmetic``."""
        inputs = f" with {self.inputs} inputs" if self.inputs not in (None, self.dtype) else ""
        return self.dtype + inputs + (f" with {self.arithmetic} arithmetic" if self.arithmetic != "float32" else "")


DEFAULT = Options()


def _check(name: str, value: Any, allowed: Sequence[str | None], where: str) -> None:
    if not isinstance(value, str | None) or value not in allowed:
        words = ", ".join(map(repr, allowed))
        raise ValueError(f"{name}: expected {'one of ' if len(allowed) > 1 else ''}{words}{where}, got {value!r}")
