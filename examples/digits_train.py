"""Train the network of digits.py and write digits.gated: ``python examples/digits_train.py``, about ten seconds.

Needs torch and scikit-learn.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from digits import HELD_OUT, HERE, load_images
from torch import nn
from training import make_reproducible, minimise

import gated_c as gc

EPOCHS = 60
BATCH = 64
NOISE = 0.2


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(8, 64, batch_first=True)
        self.dense = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        _, h = self.gru(x)
        return self.dense(h[-1])


def losses(model: Network, x: torch.Tensor, labels: torch.Tensor) -> Iterator[torch.Tensor]:
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(x)).split(BATCH):
            noisy = x[rows] + NOISE * torch.randn(len(rows), 8, 8)
            yield nn.functional.cross_entropy(model(noisy), labels[rows])


def main() -> None:
    make_reproducible()
    images, labels = map(torch.from_numpy, load_images())
    x, targets = images[:-HELD_OUT], labels[:-HELD_OUT]
    model = Network()
    minimise(model, losses(model, x, targets), steps=EPOCHS * -(-len(x) // BATCH))

    with torch.inference_mode():
        guesses = model(images[-HELD_OUT:]).argmax(dim=1)
    print(f"{(guesses == labels[-HELD_OUT:]).float().mean():.1%} of the held-out images are right")
    gc.from_torch(model).save(HERE / "digits.gated")


if __name__ == "__main__":
    main()
