"""Train the network of co2.py and write co2.gated: ``python examples/co2_train.py``, about half a minute.

Needs torch and statsmodels.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from co2 import FIRST_HELD_OUT, HERE, HIDDEN, SCALE, bridge, features, load_co2, windows
from torch import nn
from training import make_reproducible, minimise

import gated_c as gc

EPOCHS = 60
BATCH = 64
NOISE = 0.1


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(2, 32, bidirectional=True)
        self.dense = nn.Linear(64, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y, _ = self.lstm(x)
        return self.dense(y)[..., 0]


def tensors(ppm: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """x [T, N, 2] and targets [GAP, N], NaN where a week is missing, of every window of a series."""
    window = windows(ppm)
    targets = (window - bridge(window))[HIDDEN] / SCALE
    return torch.from_numpy(features(window)), torch.from_numpy(targets)


def mean_square(y: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return (y[HIDDEN] - targets)[~targets.isnan()].square().mean()


def losses(model: Network, x: torch.Tensor, targets: torch.Tensor) -> Iterator[torch.Tensor]:
    for _ in range(EPOCHS):
        for rows in torch.randperm(x.shape[1]).split(BATCH):
            noisy = x[:, rows] + NOISE * torch.randn(len(x), len(rows), 2)
            yield mean_square(model(noisy), targets[:, rows])


def main() -> None:
    make_reproducible()
    weeks, ppm = load_co2()
    x, targets = tensors(ppm[weeks < FIRST_HELD_OUT])
    model = Network()
    minimise(model, losses(model, x, targets), steps=EPOCHS * -(-x.shape[1] // BATCH), max_norm=1.0)

    x, targets = tensors(ppm[weeks >= FIRST_HELD_OUT])
    with torch.inference_mode():
        error = torch.sqrt(mean_square(model(x), targets)) * SCALE
    print(f"RMSE of the held-out gaps: {error:.2f} ppm")
    gc.from_torch(model).save(HERE / "co2.gated")


if __name__ == "__main__":
    main()
