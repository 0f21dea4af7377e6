"""How long a model's calls take, and those of the same network in PyTorch."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from gated_c.arrays import Array
from gated_c.model import Model
from gated_c.writers.torch_module import torch_module

WARM_UP_SECONDS = 0.1
SECONDS = 0.5
MOST_CALLS = 100_000


@dataclass(frozen=True)
class Timing:
    """Microseconds per call: the median, and what 99 % of the calls stay under."""

    p50: float
    p99: float
    calls: int


def measure(call: Callable[[], object]) -> Timing:
    """Time call after call for half a second, with the clock's own time taken off."""
    _sample(call, WARM_UP_SECONDS)
    times = _sample(call, SECONDS)
    p50, p99 = (np.percentile(times, (50, 99)) - _clock_cost()) / 1000
    return Timing(float(p50), float(p99), len(times))


def _clock_cost() -> float:
    """Nanoseconds between two readings of the clock with nothing between them."""
    clock = time.perf_counter_ns
    return float(np.median([-clock() + clock() for _ in range(1000)]))


def _sample(call: Callable[[], object], seconds: float) -> list[int]:
    """Nanoseconds of every call."""
    clock = time.perf_counter_ns
    end = clock() + int(seconds * 1e9)
    times: list[int] = []
    while len(times) < MOST_CALLS:
        start = clock()
        call()
        stop = clock()
        times.append(stop - start)
        if stop > end:
            break
    return times


def time_model(model: Model, x: Array) -> dict[str, Timing]:
    """Timings of a ``sequence`` x [T,N,C] ([N,T,C] if ``batch_first``) on one thread and, one direction only, of a
    ``step`` of it."""
    timings = {"sequence": measure(partial(model, x, threads=1))}
    if model.streamable:
        first = _first_step(model, x)
        timings["step"] = measure(partial(model.stream(len(first)).step, first))
    return timings


def time_torch(model: Model, x: Array) -> dict[str, Timing]:
    """:func:`time_model` of the same network in PyTorch, on one thread. ``RuntimeError`` if the results differ."""
    import torch

    torch.set_num_threads(1)
    module = torch_module(model.recurrent[0])
    tensor = torch.from_numpy(x)
    with torch.inference_mode():
        _compare(model(x)[0], module(tensor)[0].numpy())
        timings = {"sequence": measure(partial(module, tensor))}
        if model.streamable:
            first = torch.from_numpy(_first_step(model, x)).unsqueeze(1 if model.batch_first else 0)
            timings["step"] = measure(_torch_step(module, first))
    return timings


def _torch_step(module: Any, x: Any) -> Callable[[], None]:
    """A call that advances the module by one step and keeps its state, as a stream does."""
    state = None

    def step() -> None:
        nonlocal state
        _, state = module(x, state)

    return step


def _first_step(model: Model, x: Array) -> Array:
    return np.ascontiguousarray(x[:, 0] if model.batch_first else x[0])


def _compare(ours: Array, theirs: Array) -> None:
    if not np.allclose(ours, theirs, rtol=1e-4, atol=1e-5, equal_nan=True):
        raise RuntimeError(f"outputs differ from PyTorch's by up to {np.nanmax(np.abs(ours - theirs)):.2g}")
