"""The equations, in float64 NumPy: the oracle of every numeric test and the definition of what the kernels compute.

Gate order and names are PyTorch's: https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTM.html (GRU, RNN alike).
"""

import math

import numpy as np


def sigmoid(x):
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, e) / (1 + e)


def split(pre, gates):
    return np.split(pre, gates, axis=-1)


# A cell: input product wx, recurrent product rh (each with its own bias), state -> new state (h, c), and its gates.
# The options are ONNX's: https://onnx.ai/onnx/operators/onnx__LSTM.html, onnx__GRU.html


ERF = np.vectorize(math.erf, otypes=[float])

ACTIVATIONS = {
    "sigmoid": lambda x, a, b: sigmoid(x),
    "tanh": lambda x, a, b: np.tanh(x),
    "relu": lambda x, a, b: np.maximum(x, 0),
    "linear": lambda x, a, b: x,
    "affine": lambda x, a, b: a * x + b,
    "hard_sigmoid": lambda x, a, b: np.clip(a * x + b, 0, 1),
    "leaky_relu": lambda x, a, b: np.where(x < 0, a * x, x),
    "thresholded_relu": lambda x, a, b: np.where(x > a, x, 0),
    "scaled_tanh": lambda x, a, b: a * np.tanh(b * x),
    "elu": lambda x, a, b: np.where(x < 0, a * np.expm1(np.minimum(x, 0)), x),
    "selu": lambda x, a, b: 1.0507009873554805 * np.where(x < 0, 1.6732632423543772 * np.expm1(np.minimum(x, 0)), x),
    "celu": lambda x, a, b: np.where(x < 0, a * np.expm1(np.minimum(x, 0) / a), x),
    "softsign": lambda x, a, b: x / (1 + np.abs(x)),
    "softplus": lambda x, a, b: np.logaddexp(x, 0),
    "exponential": lambda x, a, b: np.exp(x),
    "silu": lambda x, a, b: x * sigmoid(x),
    "hard_silu": lambda x, a, b: x * np.clip(x / 6 + 0.5, 0, 1),
    "gelu": lambda x, a, b: 0.5 * x * (1 + ERF(x / np.sqrt(2))),
    "gelu_tanh": lambda x, a, b: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    "mish": lambda x, a, b: x * np.tanh(np.logaddexp(x, 0)),
    "relu6": lambda x, a, b: np.clip(x, 0, 6),
    "hard_tanh": lambda x, a, b: np.clip(x, -1, 1),
    "log_sigmoid": lambda x, a, b: -np.logaddexp(-x, 0),
    "tanh_shrink": lambda x, a, b: x - np.tanh(x),
    "soft_shrink": lambda x, a, b: np.sign(x) * np.maximum(np.abs(x) - a, 0),
    "hard_shrink": lambda x, a, b: np.where(np.abs(x) > a, x, 0),
    "squareplus": lambda x, a, b: (x + np.sqrt(x * x + a)) / 2,
}


def act(spec, direction, which, x, clipped=True):
    """Activation f, g or h (which 0, 1, 2) of a direction, its input bounded by the cell's clip."""
    name, a, b = spec.activations_of(direction)[which]
    return ACTIVATIONS[name](np.clip(x, -spec.clip, spec.clip) if spec.clip and clipped else x, a, b)


def lstm(spec, d, wx, rh, h, c, w):
    i, f, g, o = split(wx + rh, 4)
    p_i, p_f, p_o = split(w["peephole"], 3)
    i = act(spec, d, 0, i + p_i * c)
    f = 1 - i if spec.input_forget else act(spec, d, 0, f + p_f * c)
    g = act(spec, d, 1, g)
    c = f * c + i * g
    o = act(spec, d, 0, o + p_o * c)
    return o * act(spec, d, 2, c, clipped=spec.clip_output), c, (i, f, g, o)


def gru(spec, d, wx, rh, h, c, w):
    r, z, n = split(wx, 3)
    rh_r, rh_z, rh_n = split(rh, 3)
    z = act(spec, d, 0, z + rh_z)
    r = act(spec, d, 0, r + rh_r)
    n = act(spec, d, 1, n + r * rh_n)
    return (1 - z) * n + z * h, c, (r, z, n)


def gru_reset_before(spec, d, wx, rh, h, c, w):
    r, z, n = split(wx, 3)
    rh_r, rh_z, _ = split(rh, 3)
    z = act(spec, d, 0, z + rh_z)
    r = act(spec, d, 0, r + rh_r)
    n = act(spec, d, 1, n + split((r * h) @ w["hh"].T + w["b_hh"], 3)[2])
    return (1 - z) * n + z * h, c, (r, z, n)


def rnn_tanh(spec, d, wx, rh, h, c, w):
    h = np.tanh(wx + rh)
    return h, c, (h,)


def rnn_relu(spec, d, wx, rh, h, c, w):
    h = np.maximum(wx + rh, 0)
    return h, c, (h,)


def rnn(spec, d, wx, rh, h, c, w):
    h = act(spec, d, 0, wx + rh)
    return h, c, (h,)


CELLS = {f.__name__: f for f in (lstm, gru, gru_reset_before, rnn_tanh, rnn_relu, rnn)}


def scan(spec, suffix, x, h, c, live, direction, reset, initial, matrix):
    """One direction of one layer: x [T,N,C], h [N,P or H], c [N,H], live and reset [T,N], initial (h, c)
    -> y [T,N,P or H], h, c, and the trace: c [T,N,H], gates [T,N,G,H]."""
    w = {name: np.asarray(value, np.float64) for name, value in spec.weights.items()}
    w = {name.removesuffix(suffix): value for name, value in w.items() if name.endswith(suffix)}
    w = {name: matrix(name, value) for name, value in w.items()}
    rows = w["weight_ih"].shape[0]
    inner = {
        "hh": w["weight_hh"],
        "b_hh": w.get("bias_hh", np.zeros(rows)),
        "peephole": w.get("weight_peephole", np.zeros(3 * c.shape[-1])),
    }
    y = np.zeros((*x.shape[:2], h.shape[-1]))
    all_c, all_gates = np.zeros((*x.shape[:2], c.shape[-1])), np.zeros((*x.shape[:2], rows // c.shape[-1], c.shape[-1]))
    backward = direction == 1 or spec.reverse
    for t in range(len(x))[:: -1 if backward else 1]:
        if not backward:
            h, c = (np.where(reset[t][:, None], start, part) for start, part in zip(initial, (h, c), strict=True))
        wx = x[t] @ w["weight_ih"].T + w.get("bias_ih", np.zeros(rows))
        rh = h @ inner["hh"].T + inner["b_hh"]
        new_h, new_c, gates = CELLS[spec.cell](spec, direction, wx, rh, h, c, inner)
        if "weight_hr" in w:
            new_h = new_h @ w["weight_hr"].T
        h = np.where(live[t][:, None], new_h, h)
        c = np.where(live[t][:, None], new_c, c)
        y[t] = np.where(live[t][:, None], new_h, 0)
        all_c[t] = np.where(live[t][:, None], new_c, 0)
        all_gates[t] = np.where(live[t][:, None, None], np.stack(gates, 1), 0)
        if backward and t > 0:
            h, c = (np.where(reset[t][:, None], start, part) for start, part in zip(initial, (h, c), strict=True))
    return y, h, c, (all_c, all_gates)


def initial_state(spec, batch):
    """h and c [L*D,N,size] from the weights: what is learned, or zeros."""
    parts = []
    for name, size in (("initial_h", spec.h_size), ("initial_c", spec.hidden_size)):
        rows = [spec.weights.get(name + suffix, np.zeros(size)) for _, suffix in spec.suffixes()]
        parts.append(np.repeat(np.stack(rows)[:, None].astype(np.float64), batch, 1))
    return tuple(parts)


def forward(
    spec, x, h=None, c=None, live=None, reset=None, initial=None, trace=None, matrix=lambda name, weight: weight
):
    """A whole module, time-major: x [T,N,C] -> y [T,N,D*H], h [L*D,N,P or H], c [L*D,N,H]. `initial` is (h, c); a dict
    `trace` gets c [L*D,T,N,H] and gates [L*D,T,N,G,H]; `matrix` makes of a weight's name and value what is multiplied."""
    seq_len, batch = x.shape[:2]
    initial = initial_state(spec, batch) if initial is None else initial
    h = np.array(initial[0] if h is None else h, np.float64)
    c = np.array(initial[1] if c is None else c, np.float64)
    live = np.ones((seq_len, batch), bool) if live is None else live
    reset = np.zeros((seq_len, batch), bool) if reset is None else reset
    y, traces = x.astype(np.float64), []
    for layer in range(spec.num_layers):
        outputs = []
        for d, direction in enumerate(("", "_reverse")[: spec.num_directions]):
            at = layer * spec.num_directions + d
            own = (initial[0][at], initial[1][at])
            out, h[at], c[at], shown = scan(spec, f"_l{layer}{direction}", y, h[at], c[at], live, d, reset, own, matrix)
            outputs.append(out)
            traces.append(shown)
        y = np.concatenate(outputs, -1)
    if trace is not None:
        trace["c"], trace["gates"] = (np.stack(part) for part in zip(*traces, strict=True))
    return y, h, c


# A chain of layers: see gated_c/layers.py for what each one means. `live` [T,N] says which steps count.


def flipped(layer, x, live):
    return x[::-1] if layer.steps else x, live[::-1]


def masked_by(layer, x, live):
    live = live & np.any(x != layer.value, -1)
    return np.where(live[..., None], x, 0), live


def pool(layer, x, live):
    """[T,N,F] to [1,N,F]; 0 for rows without live steps."""
    out = np.zeros((1, *x.shape[1:]))
    for n in range(x.shape[1]):
        steps = x[live[:, n], n]
        if len(steps):
            forward = x.shape[2] - layer.reverse_size
            out[0, n] = {
                "last": steps[-1],
                "first": steps[0],
                "mean": steps.mean(0),
                "max": steps.max(0),
                "final": np.concatenate([steps[-1][:forward], steps[0][forward:]]),
            }[layer.kind]
    return out


def convolve(layer, x):
    taps = layer.weight.shape[1]
    padded = np.concatenate([np.zeros(((taps - 1) * layer.dilation, *x.shape[1:])), x])
    y = sum(
        padded[k * layer.dilation : k * layer.dilation + len(x)] @ layer.weight[:, k].T.astype(float)
        for k in range(taps)
    )
    return ACTIVATIONS[layer.activation.name](y + (0 if layer.bias is None else layer.bias), *layer.activation[1:])


def layer_norm(layer, x):
    y = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + layer.epsilon)
    return y * (1 if layer.weight is None else layer.weight) + (0 if layer.bias is None else layer.bias)


def softmax(layer, x):
    x = x - x.max(-1, keepdims=True)
    log = x - np.log(np.exp(x).sum(-1, keepdims=True))
    return log if layer.log else np.exp(log)


def merge(layer, x):
    a, b = np.split(x, 2, axis=-1)
    return {"sum": a + b, "mul": a * b, "ave": (a + b) / 2}[layer.mode]


def reshape(layer, x):
    by_row = np.moveaxis(x, 0, 1).reshape(x.shape[1], max(layer.steps, 1), layer.new_size)
    return np.moveaxis(by_row, 0, 1)


def dense(layer, x):
    y = x @ layer.weight.T.astype(float) + (0 if layer.bias is None else layer.bias)
    return ACTIVATIONS[layer.activation.name](y, *layer.activation[1:])


PLAIN = {
    "Dense": dense,
    "Conv": convolve,
    "Elementwise": lambda layer, x: ACTIVATIONS[layer.activation.name](x, *layer.activation[1:]),
    "Softmax": softmax,
    "LayerNorm": layer_norm,
    "Affine": lambda layer, x: x * layer.scale + layer.shift,
    "Merge": merge,
    "Slice": lambda layer, x: x[..., layer.start : layer.stop],
    "Split": lambda layer, x: x,
    "Squeeze": lambda layer, x: x,
}


def fill_masked(spec, y, h0, live):
    """Keras's y at steps that do not count: the output before it in the order of processing; before the first, 0 or the
    initial h (`masked` says which)."""
    y = y.copy()
    for d in range(spec.num_directions):
        part = y[..., d * spec.h_size : (d + 1) * spec.h_size]
        backward = d == 1 or spec.reverse
        previous = h0[d] if spec.masked == "repeat_initial" else np.zeros_like(part[0])
        for t in range(len(y))[:: -1 if backward else 1]:
            part[t] = previous = np.where(live[t][:, None], part[t], previous)
    return y


def recurrent(spec, x, state, live):
    """One LayerSpec of a chain: y and its state, h or (h, c)."""
    stack = spec.num_layers * spec.num_directions
    h, c = (state if spec.has_c else (state, None)) if state is not None else (None, None)
    y, new_h, new_c = forward(spec, x, h, c, live)
    if spec.masked != "zero":
        last = np.zeros((stack, x.shape[1], spec.h_size)) if h is None else np.array(h, float)
        y = fill_masked(spec, y, last[-spec.num_directions :], live)
    return y, (new_h, new_c) if spec.has_c else new_h


def chain(layers, x, states=None, live=None):
    """A whole chain, time-major: x [T,N,C] or ids [T,N] (a vector [N,C] as [1,N,C]) -> y likewise, states of its
    recurrent layers in order. y of a sequence is 0 at steps that do not count."""
    live = np.ones(x.shape[:2], bool) if live is None else live
    states = list(states) if states is not None else [None] * len(layers)
    results = []
    for layer in layers:
        kind = type(layer).__name__
        if kind == "LayerSpec":
            x, state = recurrent(layer, x, states[len(results)], live)
            results.append(state)
        elif kind == "Embedding":
            live = live & (x != 0) if layer.mask_zero else live
            x = layer.weight[x].astype(float)
        elif kind == "Flip":
            x, live = flipped(layer, x, live)
        elif kind == "Masking":
            x, live = masked_by(layer, x, live)
        elif kind == "Pool":
            x, live = pool(layer, x, live), np.ones((1, x.shape[1]), bool)
        elif kind == "Repeat":
            x, live = np.repeat(x, layer.steps, 0), np.ones((layer.steps, x.shape[1]), bool)
        elif kind == "Reshape":
            x = reshape(layer, x)
            live = np.ones(x.shape[:2], bool)
        elif kind == "Unmask":
            live = np.ones_like(live)
        else:
            x = PLAIN[kind](layer, x)
    return np.where(live[..., None], x, 0), results
