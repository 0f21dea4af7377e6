"""Train the GRU of digits.py: ``python examples/digits_train.py``, about ten seconds. Needs torch and scikit-learn.

Writes digits.pt, the state_dict, and digits_dense.npz, the read-out as NumPy arrays.
"""

from __future__ import annotations

import numpy as np
import torch
from digits import HELD_OUT, HERE, load_images
from torch import nn

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


def train(x: torch.Tensor, labels: torch.Tensor) -> Network:
    model = Network()
    optimizer = torch.optim.AdamW(model.parameters())
    steps = EPOCHS * -(-len(x) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-2, total_steps=steps)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(x)).split(BATCH):
            noisy = x[rows] + NOISE * torch.randn(len(rows), 8, 8)
            loss = nn.functional.cross_entropy(model(noisy), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return model


def main() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    images, labels = map(torch.from_numpy, load_images())
    model = train(images[:-HELD_OUT], labels[:-HELD_OUT])
    with torch.inference_mode():
        guesses = model(images[-HELD_OUT:]).argmax(dim=1)
    print(f"{(guesses == labels[-HELD_OUT:]).float().mean():.1%} of the held-out images are right")

    torch.save(model.state_dict(), HERE / "digits.pt")
    np.savez(HERE / "digits_dense.npz", weight=model.dense.weight.detach(), bias=model.dense.bias.detach())


if __name__ == "__main__":
    main()
