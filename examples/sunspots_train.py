"""Train the LSTM of sunspots.py: ``python examples/sunspots_train.py``, a few seconds. Needs torch and statsmodels.

Writes sunspots.pt, the state_dict, and sunspots_dense.npz, the read-out as NumPy arrays.
"""

from __future__ import annotations

import numpy as np
import torch
from sunspots import FIRST_HELD_OUT, HERE, SCALE, load_sunspots
from torch import nn

STEPS = 300
BATCH = 16
NOISE = 0.1
LOUDNESS = 0.3
WARM_UP = 5


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(1, 16)
        self.dense = nn.Linear(16, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y, _ = self.lstm(x)
        return self.dense(y)


def train(x: torch.Tensor) -> Network:
    """Learn the next value of x [T] from those before, on copies of it: louder or quieter, with noise on the input."""
    model = Network()
    optimizer = torch.optim.AdamW(model.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-2, total_steps=STEPS)
    for _ in range(STEPS):
        copies = x[:, None, None] * torch.exp(LOUDNESS * torch.randn(1, BATCH, 1))
        forecasts = model(copies[:-1] + NOISE * torch.randn(len(x) - 1, BATCH, 1))
        loss = nn.functional.mse_loss(forecasts[WARM_UP:], copies[1 + WARM_UP :])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return model


def main() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    years, counts = load_sunspots()
    x = torch.from_numpy(counts / SCALE)
    held_out = int(np.sum(years >= FIRST_HELD_OUT))
    model = train(x[:-held_out])
    with torch.inference_mode():
        forecasts = model(x[:-1, None, None])[:, 0, 0]
    error = torch.sqrt(nn.functional.mse_loss(forecasts[-held_out:], x[-held_out:])) * SCALE
    print(f"RMSE of the held-out years, one year ahead: {error:.1f}")

    torch.save(model.state_dict(), HERE / "sunspots.pt")
    np.savez(HERE / "sunspots_dense.npz", weight=model.dense.weight.detach(), bias=model.dense.bias.detach())


if __name__ == "__main__":
    main()
