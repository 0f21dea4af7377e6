"""Train the network of sunspots.py and write sunspots.gated: ``python examples/sunspots_train.py``, a few seconds.

Needs torch and statsmodels.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from sunspots import FIRST_HELD_OUT, HERE, SCALE, load_sunspots
from torch import nn
from training import make_reproducible, minimise

import gated_c as gc

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


def losses(model: Network, x: torch.Tensor) -> Iterator[torch.Tensor]:
    """Of forecasts of the next value of x [T] in copies of it: louder or quieter, with noise on the input."""
    for _ in range(STEPS):
        copies = x[:, None, None] * torch.exp(LOUDNESS * torch.randn(1, BATCH, 1))
        forecasts = model(copies[:-1] + NOISE * torch.randn(len(x) - 1, BATCH, 1))
        yield nn.functional.mse_loss(forecasts[WARM_UP:], copies[1 + WARM_UP :])


def main() -> None:
    make_reproducible()
    years, counts = load_sunspots()
    x = torch.from_numpy(counts / SCALE)
    held_out = int(np.sum(years >= FIRST_HELD_OUT))
    model = Network()
    minimise(model, losses(model, x[:-held_out]), STEPS, max_norm=1.0)

    with torch.inference_mode():
        forecasts = model(x[:-1, None, None])[:, 0, 0]
    error = torch.sqrt(nn.functional.mse_loss(forecasts[-held_out:], x[-held_out:])) * SCALE
    print(f"RMSE of the held-out years, one year ahead: {error:.1f}")
    gc.from_torch(model).save(HERE / "sunspots.gated")


if __name__ == "__main__":
    main()
