"""PyTorch: ``nn.LSTM`` and ``nn.GRU``, their Cells for a single step, and packed sequences for ragged batches."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from bench.case import Case
from bench.measure import Runner
from gated_c.spec import Array

VERSION = torch.__version__

torch.set_num_threads(1)


def runners(case: Case) -> dict[str, Runner]:
    if case.resets is not None:
        return {"torch split": Split(case), "torch steps": Steps(case)}
    if case.lengths:
        return {"torch packed": Packed(case), "torch layer": PackedLayer(case)}
    if case.seq_len == 1:
        return {"torch": Layer(case), "torch cell": Cell(case)}
    return {"torch": Layer(case)}


class Layer:
    """The layer called on [T, N, C]."""

    x: Any  # a Tensor, or a PackedSequence

    def __init__(self, case: Case) -> None:
        self.case = case
        self.module = getattr(torch.nn, case.cell.upper())(case.input_size, case.hidden_size)
        self.module.load_state_dict({name: torch.from_numpy(w) for name, w in case.weights().items()})
        zeros = [torch.zeros(1, case.batch, case.hidden_size) for _ in case.states]
        self.state = tuple(zeros) if case.cell == "lstm" else zeros[0]

    def write(self, x: Array) -> None:
        self.x = torch.from_numpy(x)

    @torch.inference_mode()
    def run(self, times: int) -> None:
        module, x, state = self.module, self.x, self.state
        for _ in range(times):
            y, state = module(x, state)
        self.y, self.state = y, state

    def read(self) -> Array:
        return self.y.numpy()  # type: ignore[no-any-return]


class Split(Layer):
    """A call for each piece, the rows that begin anew with zeros."""

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        self.cuts = case.cuts()

    @torch.inference_mode()
    def run(self, times: int) -> None:
        module, x, state = self.module, self.x, self.state
        for _ in range(times):
            outputs = []
            for first, last, rows in self.cuts:
                for part in state if isinstance(state, tuple) else (state,):
                    part[:, rows] = 0
                y, state = module(x[first:last], state)
                outputs.append(y)
        self.y, self.state = torch.cat(outputs), state


class Steps(Split):
    """A call for each step, the state multiplied by 0 or 1."""

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        self.keep = 1 - torch.from_numpy(case.reset()).float()[:, None, :, None]

    @torch.inference_mode()
    def run(self, times: int) -> None:
        module, x, state, keep = self.module, self.x, self.state, self.keep
        for _ in range(times):
            outputs = []
            for t in range(len(x)):
                state = tuple(part * keep[t] for part in state) if isinstance(state, tuple) else state * keep[t]
                y, state = module(x[t : t + 1], state)
                outputs.append(y)
        self.y, self.state = torch.cat(outputs), state


class Cell:
    """``LSTMCell`` or ``GRUCell`` called on [N, C]."""

    def __init__(self, case: Case) -> None:
        self.module = getattr(torch.nn, case.cell.upper() + "Cell")(case.input_size, case.hidden_size)
        weights = {name.removesuffix("_l0"): torch.from_numpy(w) for name, w in case.weights().items()}
        self.module.load_state_dict(weights)
        zeros = [torch.zeros(case.batch, case.hidden_size) for _ in case.states]
        self.state = tuple(zeros) if case.cell == "lstm" else zeros[0]

    def write(self, x: Array) -> None:
        self.x = torch.from_numpy(x[0])

    @torch.inference_mode()
    def run(self, times: int) -> None:
        module, x, state = self.module, self.x, self.state
        for _ in range(times):
            state = module(x, state)
        self.state = state

    def read(self) -> Array:
        h = self.state[0] if isinstance(self.state, tuple) else self.state
        return h.numpy()[None]


class Packed(Layer):
    """From a padded batch to a padded batch: pack, run the layer, unpack."""

    @torch.inference_mode()
    def run(self, times: int) -> None:
        module, x, state = self.module, self.x, self.state
        lengths, seq_len = torch.tensor(self.case.lengths), self.case.seq_len
        for _ in range(times):
            packed, state = module(pack_padded_sequence(x, lengths, enforce_sorted=False), state)
            y, _ = pad_packed_sequence(packed, total_length=seq_len)
        self.y, self.state = y, state


class PackedLayer(Layer):
    """The layer alone, on a sequence packed beforehand."""

    y: PackedSequence

    def write(self, x: Array) -> None:
        self.x = pack_padded_sequence(torch.from_numpy(x), torch.tensor(self.case.lengths), enforce_sorted=False)

    def read(self) -> Array:
        return pad_packed_sequence(self.y, total_length=self.case.seq_len)[0].numpy()
