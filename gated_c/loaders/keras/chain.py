"""A chain while it is built from Keras's layers."""

from __future__ import annotations

from dataclasses import dataclass, field

from gated_c.errors import FormatError, UnsupportedError
from gated_c.layers import LINEAR, Elementwise, Layer, Pool, Softmax, Split, Unmask
from gated_c.loaders.keras.activations import SOFTMAXES
from gated_c.loaders.keras.config import KerasLayer
from gated_c.loaders.keras.recurrent import Dialect
from gated_c.loaders.keras.weights import Arrays, Weights
from gated_c.loaders.names import shown
from gated_c.spec import Activation


@dataclass
class Chain:
    """What has been built, and what comes out of it: ``steps`` of ``size`` features each, ``None`` where unknown; ids
    have no features, a vector no steps."""

    weights: Weights
    dialect: Dialect
    layers: list[Layer] = field(default_factory=list)
    is_vector: bool = False
    steps: int | None = None
    size: int | None = None
    mask_from: str = ""

    def begin(self, first: KerasLayer) -> None:
        """Start with what goes in, [N,T,C], ids [N,T] or a vector [N,C]."""
        shape = first.input_shape
        if shape is None:
            return
        if not 2 <= len(shape) <= 3:
            raise UnsupportedError(f"{shown(first.name)}: an input of {len(shape)} dimensions; expected 2 or 3")
        self.size = shape[-1]
        self.is_vector = len(shape) == 2
        self.steps = None if self.is_vector else shape[1]

    def append(self, layer: Layer) -> None:
        self.layers.append(layer)
        self.size = layer.output_size

    def width(self) -> int:
        """Features, where a layer needs to know them and has no weights that tell."""
        if self.size is None or self.size < 1:
            raise FormatError("the config does not say how many features it has; give it an Input layer")
        return self.size

    def length(self) -> int:
        """Steps, 0 for a vector."""
        if self.is_vector:
            return 0
        if self.steps is None or self.steps < 1:
            raise UnsupportedError("needs a fixed number of steps; give the network an Input(shape=(steps, features))")
        return self.steps

    def arrays(self, layer: KerasLayer, **ndims: int) -> Arrays:
        """A layer's weights, those named of that many dimensions."""
        arrays = self.weights.read(layer)
        for name, ndim in ndims.items():
            if name in arrays and (arrays[name].ndim != ndim or 0 in arrays[name].shape):
                raise FormatError(f"{name}: expected {ndim} dimensions, got {arrays[name].shape}")
        return arrays

    def unmask(self, name: str) -> None:
        """From here on no mask, as behind a Keras layer that does not support masking."""
        if not self.is_vector and not (self.layers and isinstance(self.layers[-1], Unmask)):
            self.append(Unmask(self.width(), name=name))
        self.mask_from = ""

    def pool(self, name: str, kind: str, reverse_size: int = 0) -> None:
        self.append(Pool(self.width(), kind, reverse_size, name=name))
        self.is_vector, self.steps, self.mask_from = True, None, ""

    def activate(self, name: str, one: Activation) -> None:
        """An activation as a layer of its own."""
        if one.name in SOFTMAXES:
            self.append(Softmax(self.width(), log=one.name == "log_softmax", name=name))
        elif one != LINEAR:
            self.append(Elementwise(self.width(), one, name=name))

    def ended(self) -> list[Layer]:
        """All layers. Keras has values at masked steps too, so a mask must not reach the end."""
        if self.layers and not self.is_vector and not isinstance(self.layers[-1], Split):
            self.unmask(self.layers[-1].name)
        return self.layers
