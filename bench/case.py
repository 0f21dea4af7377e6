"""One stack of layers at one size: what the engine and every peer are given, and what they must answer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from gated_c import LayerSpec
from gated_c.spec import GATES, Array

DTYPES = ("float32", "bfloat16", "int8")


@dataclass(frozen=True)
class Case:
    """Layers and the shape of one call: x is [T, N, C], y is [T, N, D*H]. T = 1 is one step of N streams."""

    cell: str
    input_size: int
    hidden_size: int
    batch: int = 1
    seq_len: int = 1
    num_layers: int = 1
    bidirectional: bool = False
    lengths: tuple[int, ...] | None = field(default=None, repr=False)
    resets: tuple[tuple[int, int], ...] | None = field(default=None, repr=False)  # step and row of each

    def __str__(self) -> str:
        sizes = f"{self.cell.upper()} I={self.input_size} H={self.hidden_size}"
        batch = f" B={self.batch}" if self.batch > 1 else ""
        time = f" T={self.seq_len}" if self.seq_len > 1 else ""
        layers = f" L={self.num_layers}" if self.num_layers > 1 else ""
        return sizes + batch + time + layers + " both directions" * self.bidirectional

    @property
    def num_directions(self) -> int:
        return 2 if self.bidirectional else 1

    @property
    def states(self) -> tuple[str, ...]:
        return ("h", "c") if self.cell == "lstm" else ("h",)

    @property
    def state_shape(self) -> tuple[int, int, int]:
        """[L*D, N, H]."""
        return self.num_layers * self.num_directions, self.batch, self.hidden_size

    def input_sizes(self) -> list[int]:
        """C of each layer."""
        return [self.input_size] + [self.num_directions * self.hidden_size] * (self.num_layers - 1)

    @property
    def input_macs(self) -> int:
        """Multiply-adds of one row and step in the input projections; also their number of weights."""
        return self.num_directions * GATES[self.cell] * self.hidden_size * sum(self.input_sizes())

    @property
    def recurrent_macs(self) -> int:
        """Multiply-adds of one row and step in the recurrent products; also their number of weights."""
        return self.num_layers * self.num_directions * GATES[self.cell] * self.hidden_size**2

    def suffixes(self) -> Iterator[tuple[int, str]]:
        """C and the end of the weights' names, of each layer and direction."""
        for layer, input_size in enumerate(self.input_sizes()):
            for direction in ("", "_reverse")[: self.num_directions]:
                yield input_size, f"_l{layer}{direction}"

    def weights(self) -> dict[str, Array]:
        """The same random weights at every call, by PyTorch's names and in its gate order."""
        rng = np.random.default_rng(0)
        rows, bound = GATES[self.cell] * self.hidden_size, self.hidden_size**-0.5
        weights = {}
        for input_size, suffix in self.suffixes():
            shapes: dict[str, tuple[int, ...]] = {
                "weight_ih": (rows, input_size),
                "weight_hh": (rows, self.hidden_size),
            }
            shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
            for name, shape in shapes.items():
                weights[name + suffix] = rng.uniform(-bound, bound, shape).astype(np.float32)
        return weights

    def spec(self) -> LayerSpec:
        weights, layers, bidirectional = self.weights(), self.num_layers, self.bidirectional
        return LayerSpec(self.cell, self.input_size, self.hidden_size, weights, layers, bidirectional)

    def weights_in(self, gate_order: tuple[int, ...]) -> list[list[Array]]:
        """Of each layer W [D, G*H, C], R [D, G*H, H] and the biases [D, G*H], with the gates of a peer, the first of
        which is PyTorch's ``gate_order[0]``."""
        rows = np.arange(len(gate_order) * self.hidden_size).reshape(len(gate_order), -1)
        order = rows[list(gate_order)].ravel()
        arrays = [array[order] for array in self.weights().values()]
        layers = np.arange(len(arrays)).reshape(self.num_layers, self.num_directions, 4)
        return [[np.stack([arrays[i] for i in places]) for places in layer.T] for layer in layers]

    def live(self) -> npt.NDArray[np.bool_] | None:
        """Which steps of x count, [T, N]; ``None`` is all of them."""
        return None if self.lengths is None else np.arange(self.seq_len)[:, None] < self.lengths

    def reset(self) -> npt.NDArray[np.bool_] | None:
        """With which steps of x a new sequence begins, [T, N]; ``None`` is none of them."""
        if self.resets is None:
            return None
        flags = np.zeros((self.seq_len, self.batch), bool)
        for t, n in self.resets:
            flags[t, n] = True
        return flags

    def cuts(self) -> list[tuple[int, int, list[int]]]:
        """Pieces ``(first, last, rows)`` of a sequence that is split wherever one of its ``rows`` begins anew."""
        starts = sorted({0, *(t for t, _ in self.resets or ())})
        rows = [[n for t, n in self.resets or () if t == start] for start in starts]
        return list(zip(starts, [*starts[1:], self.seq_len], rows, strict=True))

    def inputs(self, seed: int) -> Array:
        """Random x [T, N, C]."""
        shape = (self.seq_len, self.batch, self.input_size)
        return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)

    def fields(self) -> dict[str, object]:
        """What the JSON says of it."""
        names = ("cell", "input_size", "hidden_size", "num_layers", "bidirectional", "batch", "seq_len")
        return {name: getattr(self, name) for name in names}
