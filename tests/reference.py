"""The equations, in float64 NumPy: the oracle of every numeric test and the definition of what the kernels compute.

Gate order and names are PyTorch's: https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTM.html (GRU, RNN alike).
"""

import numpy as np


def sigmoid(x):
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, e) / (1 + e)


def split(pre, gates):
    return np.split(pre, gates, axis=-1)


# A cell: input product wx, recurrent product rh (each with its own bias), state -> new state (h, c).


def lstm(wx, rh, h, c):
    i, f, g, o = split(wx + rh, 4)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def gru(wx, rh, h, c):
    r, z, n = split(wx, 3)
    rh_r, rh_z, rh_n = split(rh, 3)
    z = sigmoid(z + rh_z)
    n = np.tanh(n + sigmoid(r + rh_r) * rh_n)
    return (1 - z) * n + z * h, c


def rnn_tanh(wx, rh, h, c):
    return np.tanh(wx + rh), c


def rnn_relu(wx, rh, h, c):
    return np.maximum(wx + rh, 0), c


CELLS = {"lstm": lstm, "gru": gru, "rnn_tanh": rnn_tanh, "rnn_relu": rnn_relu}


def scan(spec, suffix, x, h, c, live, reverse):
    """One direction of one layer: x [T,N,C], h [N,P or H], c [N,H], live [T,N] -> y [T,N,P or H], h, c."""
    w = {name: np.asarray(value, np.float64) for name, value in spec.weights.items()}
    zero = np.zeros(1)
    y = np.zeros((*x.shape[:2], h.shape[-1]))
    for t in range(len(x))[:: -1 if reverse else 1]:
        wx = x[t] @ w["weight_ih" + suffix].T + w.get("bias_ih" + suffix, zero)
        rh = h @ w["weight_hh" + suffix].T + w.get("bias_hh" + suffix, zero)
        new_h, new_c = CELLS[spec.cell](wx, rh, h, c)
        if "weight_hr" + suffix in w:
            new_h = new_h @ w["weight_hr" + suffix].T
        h = np.where(live[t][:, None], new_h, h)
        c = np.where(live[t][:, None], new_c, c)
        y[t] = np.where(live[t][:, None], new_h, 0)
    return y, h, c


def forward(spec, x, h=None, c=None, live=None):
    """A whole module, time-major: x [T,N,C] -> y [T,N,D*H], h [L*D,N,P or H], c [L*D,N,H]."""
    seq_len, batch = x.shape[:2]
    stack = spec.num_layers * spec.num_directions
    h = np.zeros((stack, batch, spec.h_size)) if h is None else np.array(h, np.float64)
    c = np.zeros((stack, batch, spec.hidden_size)) if c is None else np.array(c, np.float64)
    live = np.ones((seq_len, batch), bool) if live is None else live
    y = x.astype(np.float64)
    for layer in range(spec.num_layers):
        outputs = []
        for d, direction in enumerate(("", "_reverse")[: spec.num_directions]):
            at = layer * spec.num_directions + d
            out, h[at], c[at] = scan(spec, f"_l{layer}{direction}", y, h[at], c[at], live, d == 1)
            outputs.append(out)
        y = np.concatenate(outputs, -1)
    return y, h, c
