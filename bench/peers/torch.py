"""PyTorch: ``nn.LSTM`` and ``nn.GRU``, their Cells for a single step, and packed sequences for ragged batches.

In bfloat16 the module, x and the state are; in int8 the module is converted by ``quantize_dynamic``.
"""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

import torch
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from bench.case import Case
from bench.peers import Ways
from gated_c.spec import Array

VERSION = torch.__version__


def ways(case: Case, dtype: str) -> Ways:
    if dtype == "int8" and case.cell.startswith("rnn"):
        return {"": "quantize_dynamic converts no nn.RNN"}
    if case.resets is not None:
        return {"split": partial(Split, case, dtype), "steps": partial(Steps, case, dtype)}
    if case.lengths:
        return {"packed": partial(Packed, case, dtype), "layer": partial(PackedLayer, case, dtype)}
    if case.seq_len == case.num_layers == case.num_directions == 1:
        return {"": partial(Layer, case, dtype), "cell": partial(Cell, case, dtype)}
    return {"": partial(Layer, case, dtype)}


def converted(module: Any, dtype: str) -> Any:
    if dtype == "bfloat16":
        return module.bfloat16()
    if dtype == "int8":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            quantize: Any = torch.ao.quantization.quantize_dynamic
            return quantize(torch.nn.Sequential(module), {type(module)})[0]
    return module


class Layer:
    """The module called on [T, N, C]."""

    x: Any  # a Tensor, or a PackedSequence

    def __init__(self, case: Case, dtype: str, threads: int) -> None:
        self.case, self.threads = case, threads
        self.type = torch.bfloat16 if dtype == "bfloat16" else torch.float32
        module = self.module_of(case)
        module.load_state_dict({name: torch.from_numpy(w) for name, w in self.weights().items()})
        self.module = converted(module.eval(), dtype)
        zeros = tuple(torch.zeros(self.state_shape(), dtype=self.type) for _ in case.states)
        self.state = zeros if case.cell == "lstm" else zeros[0]

    def module_of(self, case: Case) -> Any:
        sizes = (case.input_size, case.hidden_size, case.num_layers)
        if case.cell.startswith("rnn"):
            return torch.nn.RNN(*sizes, nonlinearity=case.cell[4:], bidirectional=case.bidirectional)
        return getattr(torch.nn, case.cell.upper())(*sizes, bidirectional=case.bidirectional)

    def weights(self) -> dict[str, Array]:
        return self.case.weights()

    def state_shape(self) -> tuple[int, ...]:
        return self.case.state_shape

    def write(self, x: Array) -> None:
        self.x = torch.from_numpy(x).to(self.type)

    @torch.inference_mode()
    def run(self, times: int) -> None:
        torch.set_num_threads(self.threads)
        self.call(times)

    def call(self, times: int) -> None:
        module, x, state = self.module, self.x, self.state
        for _ in range(times):
            y, state = module(x, state)
        self.y, self.state = y, state

    def read(self) -> Array:
        return self.y.float().numpy()  # type: ignore[no-any-return]


class Split(Layer):
    """A call for each piece, the rows that begin anew with zeros."""

    def __init__(self, case: Case, dtype: str, threads: int) -> None:
        super().__init__(case, dtype, threads)
        self.cuts = case.cuts()

    def call(self, times: int) -> None:
        module, x, state = self.module, self.x, self.state
        for _ in range(times):
            outputs = []
            for first, last, rows in self.cuts:
                for part in state if isinstance(state, tuple) else (state,):
                    part[:, rows] = 0
                y, state = module(x[first:last], state)
                outputs.append(y)
        self.y, self.state = torch.cat(outputs), state


class Steps(Layer):
    """A call for each step, the state multiplied by 0 or 1."""

    def __init__(self, case: Case, dtype: str, threads: int) -> None:
        super().__init__(case, dtype, threads)
        self.keep = 1 - torch.from_numpy(case.reset()).to(self.type)[:, None, :, None]

    def call(self, times: int) -> None:
        module, x, state, keep = self.module, self.x, self.state, self.keep
        for _ in range(times):
            outputs = []
            for t in range(len(x)):
                state = tuple(part * keep[t] for part in state) if isinstance(state, tuple) else state * keep[t]
                y, state = module(x[t : t + 1], state)
                outputs.append(y)
        self.y, self.state = torch.cat(outputs), state


class Cell(Layer):
    """``LSTMCell``, ``GRUCell`` or ``RNNCell`` called on [N, C]."""

    def module_of(self, case: Case) -> Any:
        sizes = (case.input_size, case.hidden_size)
        if case.cell.startswith("rnn"):
            return torch.nn.RNNCell(*sizes, nonlinearity=case.cell[4:])
        return getattr(torch.nn, case.cell.upper() + "Cell")(*sizes)

    def weights(self) -> dict[str, Array]:
        return {name.removesuffix("_l0"): weight for name, weight in self.case.weights().items()}

    def state_shape(self) -> tuple[int, ...]:
        return self.case.batch, self.case.hidden_size

    def write(self, x: Array) -> None:
        self.x = torch.from_numpy(x[0]).to(self.type)

    def call(self, times: int) -> None:
        module, x, state = self.module, self.x, self.state
        for _ in range(times):
            state = module(x, state)
        self.state = state

    def read(self) -> Array:
        h = self.state[0] if isinstance(self.state, tuple) else self.state
        return h.float().numpy()[None]


class Packed(Layer):
    """From a padded batch to a padded batch: pack, run the layer, unpack."""

    def call(self, times: int) -> None:
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
        lengths = torch.tensor(self.case.lengths)
        self.x = pack_padded_sequence(torch.from_numpy(x).to(self.type), lengths, enforce_sorted=False)

    def read(self) -> Array:
        return pad_packed_sequence(self.y, total_length=self.case.seq_len)[0].float().numpy()
