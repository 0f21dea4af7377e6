"""Train the network of amp.py and write amp.nam and amp.json: ``python examples/amp_train.py``, about half a minute.

Needs torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from amp import HERE, RATE, SILENCE, amplify, error_to_signal, held_out
from tones import tones
from torch import nn
from training import make_reproducible, minimise

import gated_c as gc

HIDDEN = 16
STEPS = 600
BATCH = 64
SAMPLES = 768
WARM_UP = 256


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(1, HIDDEN)
        self.dense = nn.Linear(HIDDEN, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y, _ = self.lstm(x)
        return self.dense(y)


def losses(model: Network, x: torch.Tensor, y: torch.Tensor) -> Iterator[torch.Tensor]:
    """Of excerpts of x and y [N, T]."""
    for _ in range(STEPS):
        rows = torch.randint(len(x), (BATCH, 1))
        columns = torch.randint(x.shape[1] - SAMPLES, (BATCH, 1)) + torch.arange(SAMPLES)
        outputs = model(x[rows, columns].T[:, :, None])[:, :, 0]
        yield nn.functional.mse_loss(outputs[WARM_UP:], y[rows, columns].T[WARM_UP:])


def weights_of(model: Network) -> tuple[Any, ...]:
    """Weights as arrays: W [4H, 1], R [4H, H], the one bias [4H] of both files, and those of the dense layer."""
    with torch.no_grad():
        lstm, dense = model.lstm, model.dense
        tensors = (lstm.weight_ih_l0, lstm.weight_hh_l0, lstm.bias_ih_l0 + lstm.bias_hh_l0, dense.weight, dense.bias)
        return tuple(tensor.numpy() for tensor in tensors)


def rtneural(model: Network) -> dict[str, Any]:
    """As RTNeural's ``save_model`` writes a Keras network: kernels transposed, the gates in PyTorch's order."""
    w, r, b, dense_w, dense_b = weights_of(model)
    lstm = {"type": "lstm", "activation": "tanh", "shape": [None, None, HIDDEN]}
    dense = {"type": "dense", "activation": "", "shape": [None, None, 1]}
    return {
        "in_shape": [None, None, 1],
        "layers": [
            lstm | {"weights": [w.T.tolist(), r.T.tolist(), b.tolist()]},
            dense | {"weights": [dense_w.T.tolist(), dense_b.tolist()]},
        ],
    }


def nam(model: Network, h: Any, c: Any) -> dict[str, Any]:
    """As the Neural Amp Modeler's trainer exports an LSTM that starts from h and c [H]."""
    w, r, b, dense_w, dense_b = weights_of(model)
    weights = np.concatenate([np.hstack([w, r]).ravel(), b, h.ravel(), c.ravel(), dense_w.ravel(), dense_b])
    config = {"input_size": 1, "hidden_size": HIDDEN, "num_layers": 1}
    return {
        "version": "0.5.4",
        "architecture": "LSTM",
        "config": config,
        "weights": weights.tolist(),
        "sample_rate": RATE,
    }


def main() -> None:
    make_reproducible()
    x = tones(np.random.default_rng(1), 60, RATE, RATE)
    model = Network()
    minimise(model, losses(model, torch.from_numpy(x), torch.from_numpy(amplify(x))), STEPS, max_norm=1.0)

    (HERE / "amp.json").write_text(json.dumps(rtneural(model)) + "\n")
    _, (h, c) = gc.load(HERE / "amp.json")(np.zeros((1, SILENCE, 1), np.float32))
    (HERE / "amp.nam").write_text(json.dumps(nam(model, h, c)) + "\n")

    x, truth = held_out()
    with torch.inference_mode():
        y, _ = model.lstm(torch.from_numpy(x[:, None]), tuple(torch.from_numpy(part[:, 0]) for part in (h, c)))
        y = model.dense(y).numpy()[:, 0]
    print(f"error to signal of the held-out samples: {error_to_signal(y, truth):.2%}")


if __name__ == "__main__":
    main()
