"""What the tests of writers share: layers with drawn options, and the engine's word on what they do."""

import numpy as np
from conftest import random_spec
from hypothesis import strategies as st

import gated_c as gc
from gated_c.spec import ACTIVATIONS
from gated_c.tolerance import tolerance

T, N = 7, 3


@st.composite
def layers(draw, cells, functions=(), **options):
    """A LayerSpec; ``functions`` draws one direction's activations of a cell, ``options`` are strategies of others."""
    cell = draw(st.sampled_from(cells))
    bidirectional = draw(st.booleans())
    chosen = {name: draw(option) for name, option in options.items()}
    if functions and cell in ACTIVATIONS and (cell == "rnn" or draw(st.booleans())):
        per_direction = [draw(functions(cell)) for _ in range(1 + bidirectional)]
        chosen["activations"] = tuple(function for direction in per_direction for function in direction)
    return random_spec(
        np.random.default_rng(draw(st.integers(0, 2**32 - 1))),
        cell,
        draw(st.integers(1, 5)),
        draw(st.integers(1, 6)),
        num_layers=draw(st.integers(1, 3)),
        bidirectional=bidirectional,
        bias=draw(st.booleans()),
        **chosen,
    )


def random_input(layer):
    """[T,N,C], or [N,T,C] if batch_first."""
    lead = (N, T) if layer.batch_first else (T, N)
    return np.random.default_rng(1).standard_normal((*lead, layer.input_size), np.float32)


def assert_close(layer, x, actual, state=()):
    """``actual`` is what the engine gives for x from the state, up to the rounding of both."""
    y, _ = gc.Model([layer])(x, state or None)
    assert actual.shape == y.shape
    np.testing.assert_allclose(actual, y, rtol=0, atol=tolerance([layer], x, y))
