"""Keras on TensorFlow: the layer in a model that takes and gives its states, compiled by ``tf.function`` and by XLA.

TensorFlow's number of threads is the process's, fixed before its first call.
"""

from __future__ import annotations

import os
from functools import partial

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

from bench.case import Case
from bench.peers import Ways
from gated_c.spec import Array

VERSION = f"{keras.__version__} on TensorFlow {tf.__version__}"

if keras.backend.backend() != "tensorflow":
    raise ImportError(f"expected Keras on TensorFlow, got {keras.backend.backend()}")

MOST_THREADS = 1

#: Keras's gate order, as places in PyTorch's: i f c o, and z r n.
GATE_ORDER = {"lstm": (0, 1, 2, 3), "gru": (1, 0, 2), "rnn_tanh": (0,), "rnn_relu": (0,)}


def ways(case: Case, dtype: str) -> Ways:
    if dtype != "float32" or case.lengths or case.resets is not None or case.num_layers * case.num_directions > 1:
        return {}
    return {"": partial(Function, case, False), "xla": partial(Function, case, True)}


class Function:
    """A compiled call on tensors [N, T, C]."""

    def __init__(self, case: Case, jit_compile: bool, threads: int) -> None:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        model = stateful_model(case)
        self.state = [tf.zeros((case.batch, case.hidden_size)) for _ in case.states]
        shapes = [(case.batch, case.seq_len, case.input_size), *(state.shape for state in self.state)]
        signature = [tf.TensorSpec(shape, tf.float32) for shape in shapes]
        function = tf.function(lambda *inputs: model(list(inputs)), jit_compile=jit_compile)
        self.call = function.get_concrete_function(*signature)

    def write(self, x: Array) -> None:
        self.x = tf.constant(np.ascontiguousarray(x.swapaxes(0, 1)))

    def run(self, times: int) -> None:
        call, x, state = self.call, self.x, self.state
        for _ in range(times):
            y, *state = call(x, *state)
        self.y, self.state = y.numpy(), state

    def read(self) -> Array:
        return self.y.swapaxes(0, 1)  # type: ignore[no-any-return]


def stateful_model(case: Case) -> keras.Model:
    """x [N, T, C] and states [N, H] to y [N, T, H] and the last states."""
    options: dict[str, object] = {"return_sequences": True, "return_state": True}
    if case.cell == "gru":
        layer = keras.layers.GRU(case.hidden_size, reset_after=True, **options)
    elif case.cell == "lstm":
        layer = keras.layers.LSTM(case.hidden_size, **options)
    else:
        layer = keras.layers.SimpleRNN(case.hidden_size, activation=case.cell[4:], **options)
    x = keras.Input((case.seq_len, case.input_size), case.batch)
    states = [keras.Input((case.hidden_size,), case.batch) for _ in case.states]
    outputs = layer(x, initial_state=states)
    w, r, b_w, b_r = (array[0] for array in case.weights_in(GATE_ORDER[case.cell])[0])
    layer.set_weights([w.T, r.T, np.stack([b_w, b_r]) if case.cell == "gru" else b_w + b_r])
    return keras.Model([x, *states], list(outputs))
