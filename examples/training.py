"""What the training scripts share."""

from __future__ import annotations

from collections.abc import Iterable
from math import inf

import torch
from torch import nn


def make_reproducible() -> None:
    """The same torch on the same CPU then trains the same weights."""
    torch.manual_seed(0)
    torch.set_num_threads(1)


def minimise(model: nn.Module, losses: Iterable[torch.Tensor], steps: int, max_norm: float = inf) -> None:
    """A step of AdamW for each loss, computed with the weights of then, over one cycle of the learning rate."""
    optimizer = torch.optim.AdamW(model.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-2, total_steps=steps)
    for loss in losses:
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), max_norm)
        optimizer.step()
        schedule.step()
