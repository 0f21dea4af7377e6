"""Train the LSTM of co2.py: ``python examples/co2_train.py``, about half a minute. Needs torch and statsmodels.

Writes co2.pt, the state_dict, and co2_dense.npz, the read-out as NumPy arrays.
"""

from __future__ import annotations

import numpy as np
import torch
from co2 import FIRST_HELD_OUT, HERE, HIDDEN, SCALE, bridge, features, load_co2, windows
from torch import nn

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
        return self.dense(y[HIDDEN])[..., 0]


def tensors(ppm: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """x [T, N, 2] and targets [GAP, N], NaN where a week is missing, of every window of a series."""
    window = windows(ppm)
    targets = (window - bridge(window))[HIDDEN] / SCALE
    return torch.from_numpy(features(window)), torch.from_numpy(targets)


def mean_square(filled: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return (filled - targets)[~targets.isnan()].square().mean()


def train(x: torch.Tensor, targets: torch.Tensor) -> Network:
    model = Network()
    optimizer = torch.optim.AdamW(model.parameters())
    steps = EPOCHS * -(-x.shape[1] // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-2, total_steps=steps)
    for _ in range(EPOCHS):
        for rows in torch.randperm(x.shape[1]).split(BATCH):
            noisy = x[:, rows] + NOISE * torch.randn(len(x), len(rows), 2)
            loss = mean_square(model(noisy), targets[:, rows])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
    return model


def main() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    weeks, ppm = load_co2()
    model = train(*tensors(ppm[weeks < FIRST_HELD_OUT]))
    x, targets = tensors(ppm[weeks >= FIRST_HELD_OUT])
    with torch.inference_mode():
        error = torch.sqrt(mean_square(model(x), targets)) * SCALE
    print(f"RMSE of the held-out gaps: {error:.2f} ppm")

    torch.save(model.state_dict(), HERE / "co2.pt")
    np.savez(HERE / "co2_dense.npz", weight=model.dense.weight.detach(), bias=model.dense.bias.detach())


if __name__ == "__main__":
    main()
