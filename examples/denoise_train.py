"""Train the network of denoise.py and write denoise.gated: ``python examples/denoise_train.py``, about a minute.

Needs torch.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from denoise import HERE, HOP, LATE, RATE, SECONDS, WINDOW, report, windows
from tones import tones, with_noise
from torch import nn
from training import make_reproducible, minimise

import gated_c as gc

HIDDEN = 32
MELODIES = 400
STEPS = 4000
BATCH = 64
SAMPLES = 100 * HOP
WARM_UP = 12
LOUDNESS = 0.3
LEAST = 1e-5


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(WINDOW, HIDDEN)
        self.dense = nn.Linear(HIDDEN, HOP)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y, _ = self.lstm(x)
        return self.dense(y)


def losses(model: Network, melodies: np.ndarray) -> Iterator[torch.Tensor]:
    """Of excerpts of the melodies [N, T], louder or quieter, in -5 to 20 dB of noise: the mean error in decibels."""
    rng = np.random.default_rng(0)
    for _ in range(STEPS):
        rows = rng.integers(0, len(melodies), (BATCH, 1))
        columns = rng.integers(0, melodies.shape[1] - SAMPLES, (BATCH, 1)) + np.arange(SAMPLES)
        clean = melodies[rows, columns] * np.exp(LOUDNESS * rng.standard_normal((BATCH, 1), np.float32))
        noisy = with_noise(rng, clean, rng.uniform(-5, 20, BATCH))
        truth = windows(clean)[WARM_UP:, :, -LATE - HOP : -LATE]
        error = model(torch.from_numpy(windows(noisy).copy()))[WARM_UP:] - torch.from_numpy(truth.copy())
        yield torch.log(error.square().mean((0, 2)) + LEAST).mean()


def main() -> None:
    make_reproducible()
    melodies = tones(np.random.default_rng(1), MELODIES, SECONDS * RATE, RATE)
    network = Network()
    minimise(network, losses(network, melodies), STEPS, max_norm=1.0)
    model = gc.Model(gc.from_torch(network).layers, flush_subnormals=True)
    report(model)
    model.save(HERE / "denoise.gated")


if __name__ == "__main__":
    main()
