"""What the Keras tests share: Keras 3 on PyTorch, random networks, and comparing with it."""

import os
import warnings
from contextlib import contextmanager

import numpy as np

from gated_c.layers import Embedding
from gated_c.tolerance import tolerance

os.environ["KERAS_BACKEND"] = "torch"
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import keras
    import torch

torch.set_num_threads(1)


@contextmanager
def masks_may_end():
    """Without Keras's warning where a layer drops a mask."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Layer .* was passed an input with a mask")
        yield


def network(*layers, shape=(None, 3), dtype="float32", seed=0):
    """A Sequential with random weights."""
    with masks_may_end():
        return randomise(keras.Sequential([keras.Input(shape, dtype=dtype), *layers]), seed)


def functional(inputs, outputs, seed=0):
    return randomise(keras.Model(inputs, outputs), seed)


def randomise(model, seed=0):
    """Weights uniform in +-0.7, variances in 0.3 to 1: no bias is 0 and no gate saturates. Recurrent kernels are
    smaller, so that even with unbounded activations no rounding error grows from step to step."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        low, high = (0.3, 1.0) if "variance" in weight.path else (-0.7, 0.7)
        scale = 1 / weight.shape[0] if "recurrent_kernel" in weight.path else 1
        weight.assign(scale * rng.uniform(low, high, weight.shape))
    return model


def results_of(model, x, **options):
    """All of Keras's results for a batch, as arrays."""
    with masks_may_end(), torch.no_grad():
        results = model(x, **options)
    results = results if isinstance(results, list | tuple) else [results]
    return [result.detach().cpu().numpy() for result in results]


def assert_runs_like(model, keras_model, x):
    """The engine gives what Keras gives, its first result or, of a model that gives two, both."""
    x = x if isinstance(model.layers[0], Embedding) else x.astype(np.float32)
    y, _ = model(x)
    results = results_of(keras_model, x)
    pairs = zip(y, results, strict=False) if isinstance(y, tuple) else [(y, results[0])]
    for ours, theirs in pairs:
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance(model.layers, x, theirs))
