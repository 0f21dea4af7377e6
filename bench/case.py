"""One layer at one size: what the engine and every peer are given, and what they must answer."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from gated_c import LayerSpec
from gated_c.spec import GATES, Array


@dataclass(frozen=True)
class Case:
    """A layer and the shape of one call: x is [T, N, C], y is [T, N, H]. T = 1 is one step of N streams."""

    cell: str
    input_size: int
    hidden_size: int
    batch: int = 1
    seq_len: int = 1
    lengths: tuple[int, ...] | None = field(default=None, repr=False)
    resets: tuple[tuple[int, int], ...] | None = field(default=None, repr=False)  # step and row of each

    def __str__(self) -> str:
        sizes = f"{self.cell.upper():4} I={self.input_size:<4} H={self.hidden_size:<4}"
        batch = f" B={self.batch:<3}" if self.batch > 1 else ""
        time = f" T={self.seq_len}" if self.seq_len > 1 else ""
        return (sizes + batch + time).rstrip()

    @property
    def states(self) -> tuple[str, ...]:
        return ("h", "c") if self.cell == "lstm" else ("h",)

    @property
    def input_macs(self) -> int:
        """Multiply-adds of one row and step in the input projection; also its number of weights."""
        return GATES[self.cell] * self.hidden_size * self.input_size

    @property
    def recurrent_macs(self) -> int:
        """Multiply-adds of one row and step in the recurrent product; also its number of weights."""
        return GATES[self.cell] * self.hidden_size * self.hidden_size

    def weights(self) -> dict[str, Array]:
        """The same random weights at every call, by PyTorch's names and in its gate order."""
        rng = np.random.default_rng(0)
        rows, bound = GATES[self.cell] * self.hidden_size, self.hidden_size**-0.5
        shapes = {
            "weight_ih_l0": (rows, self.input_size),
            "weight_hh_l0": (rows, self.hidden_size),
            "bias_ih_l0": (rows,),
            "bias_hh_l0": (rows,),
        }
        return {name: rng.uniform(-bound, bound, shape).astype(np.float32) for name, shape in shapes.items()}

    def spec(self) -> LayerSpec:
        return LayerSpec(self.cell, self.input_size, self.hidden_size, self.weights())

    def weights_in(self, gate_order: tuple[int, ...]) -> list[Array]:
        """W, R and the two biases with the gates of a peer, whose first gate is PyTorch's ``gate_order[0]``."""
        rows = np.arange(len(gate_order) * self.hidden_size).reshape(len(gate_order), -1)
        return [weights[rows[list(gate_order)].ravel()] for weights in self.weights().values()]

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
