"""Traces: every c and gate of a call, which has the same bits as without."""

import numpy as np
import pytest
from conftest import CELLS, EXACT, parts, random_spec, random_state, same_bits, state_of

import gated_c as gc
from gated_c import layers as L
from gated_c.spec import GATES, Activation
from tests import reference
from tests.chains import floats
from tests.test_layers import error, tolerance

ACTIVE = (Activation.of("hard_sigmoid"), Activation.of("softsign"), Activation.of("tanh"))

OPTIONS = {
    "plain": {},
    "stacked": {"num_layers": 3},
    "bidirectional": {"num_layers": 2, "bidirectional": True},
    "reverse": {"reverse": True},
}

#: Beyond PyTorch's cells.
GENERAL = {
    "lstm": {"activations": ACTIVE, "clip": 0.9, "peepholes": True, "input_forget": True},
    "gru": {"activations": ACTIVE[:2]},
    "gru_reset_before": {"activations": ACTIVE[:2], "clip": 0.9},
    "rnn": {"activations": ACTIVE[1:2]},
}


def cases():
    for cell in CELLS:
        for option, options in OPTIONS.items():
            if cell == "rnn":
                options = options | {"activations": ACTIVE[1:2] * (1 + ("bidirectional" in options))}
            yield pytest.param(cell, options, id=f"{cell}-{option}")
    for cell, options in GENERAL.items():
        yield pytest.param(cell, options, id=f"{cell}-general")
    yield pytest.param("lstm", {"num_layers": 2, "proj_size": 3}, id="lstm-projected")


def names_of(spec):
    return ("c", "gates") if spec.has_c else ("gates",)


@pytest.mark.parametrize(("cell", "options"), list(cases()))
@pytest.mark.parametrize("hidden_size", [5, 16, 37])
def test_shows_the_gates_of_the_equations(isa, cell, options, hidden_size):
    rng = np.random.default_rng(hidden_size)
    spec = random_spec(rng, cell, 4, hidden_size, gain=2, **options)
    x = rng.standard_normal((9, 3, 4)).astype(np.float32)
    live, reset = rng.random((2, 9, 3)) < np.array([0.8, 0.2])[:, None, None]
    h, c = random_state(rng, spec, 3)
    _, _, trace = gc.Model([spec])(x, state_of(spec, h, c), mask=live, reset=reset, trace=names_of(spec))
    expected = {}
    reference.forward(spec, x, h, c, live, reset, trace=expected)
    assert list(trace) == list(names_of(spec))
    for name, array in trace.items():
        assert error(array, expected[name]) <= tolerance(spec, x, np.abs(expected[name]).max())
        assert not array[:, ~live].any()


@pytest.mark.parametrize(("cell", "options"), list(cases()))
@pytest.mark.parametrize("sizes", [(3, 16), (60, 100)])
def test_changes_no_bit_and_has_the_same_in_any_batch_on_any_isa(monkeypatch, cell, options, sizes):
    rng = np.random.default_rng(sizes[0])
    spec = random_spec(rng, cell, *sizes, gain=1.5, **options)
    x = rng.standard_normal((70, 7, sizes[0])).astype(np.float32)
    state = state_of(spec, *random_state(rng, spec, 7))
    lengths = np.array([70, 3, 0, 70, 41, 69, 64])
    first = None
    for name in EXACT:
        monkeypatch.setenv("GATED_C_ISA", name)
        model = gc.Model([spec])
        y, final, trace = model(x, state, lengths=lengths, trace=names_of(spec))
        plain_y, plain_final = model(x, state, lengths=lengths)
        assert same_bits(y, plain_y)
        assert all(same_bits(a, b) for a, b in zip(parts(final), parts(plain_final), strict=True))
        first = first or trace
        for part in names_of(spec):
            assert same_bits(trace[part], first[part])
        for n, length in enumerate(lengths):
            row = tuple(part[:, [n]] for part in parts(state))
            *_, alone = model(x[:length, [n]], row if spec.has_c else row[0], trace=names_of(spec))
            assert all(same_bits(trace[part][:, :length, [n]], alone[part]) for part in names_of(spec))


def test_c_and_h_of_the_last_step_are_the_state():
    rng = np.random.default_rng(0)
    spec = random_spec(rng, "lstm", 3, 20, num_layers=2)
    y, (h, c), trace = gc.Model([spec])(rng.standard_normal((5, 2, 3)), trace=("c", "gates"))
    assert same_bits(trace["c"][:, -1], c)
    assert error(trace["gates"][:, -1, :, 3] * np.tanh(c), h) < 1e-6
    assert same_bits(y[-1], h[-1])


@pytest.mark.parametrize("batch_first", [False, True])
def test_has_the_axes_of_the_input(batch_first):
    rng = np.random.default_rng(1)
    model = gc.Model([random_spec(rng, "lstm", 3, 6, bidirectional=True, batch_first=batch_first)])
    x = rng.standard_normal((4, 5, 3)).astype(np.float32)
    *_, trace = model(x, trace=["gates", "c"])
    assert trace["gates"].shape == (2, 4, 5, 4, 6)
    assert trace["c"].shape == (2, 4, 5, 6)
    one = x[0] if batch_first else x[:, 0]
    *_, alone = model(one, trace=("c",))
    assert list(alone) == ["c"]
    assert same_bits(alone["c"], trace["c"][:, 0] if batch_first else trace["c"][:, :, 0])


def test_shows_every_recurrent_layer_of_a_chain():
    """Also behind a pool, where there are other steps, and over more steps than go through the chain at once."""
    rng = np.random.default_rng(2)
    encoder, middle = random_spec(rng, "lstm", 6, 9, num_layers=2), random_spec(rng, "lstm", 9, 7)
    decoder = random_spec(rng, "lstm", 7, 5, bidirectional=True)
    dense = L.Dense(floats(rng, 6, 4))
    model = gc.Model([dense, encoder, L.Elementwise(9, ACTIVE[2]), middle, L.Pool(7, "last"), L.Repeat(7, 3), decoder])
    x = rng.standard_normal((300, 4, 4)).astype(np.float32)
    lengths = [300, 12, 0, 200]
    *_, traces = model(x, lengths=lengths, trace=("c", "gates"))
    assert [trace["gates"].shape for trace in traces] == [(2, 300, 4, 4, 9), (1, 300, 4, 4, 7), (2, 3, 4, 4, 5)]
    for n, length in enumerate(lengths):
        *_, alone = model(x[:length, [n]], trace=("c", "gates"))
        for trace, own in zip(traces, alone, strict=True):
            steps = length if trace["c"].shape[1] == 300 else 3
            for name in ("c", "gates"):
                assert same_bits(trace[name][:, :steps, [n]], own[name])
                assert not trace[name][:, steps:, n].any()


@pytest.mark.parametrize("seq_len", [0, 3])
@pytest.mark.parametrize("batch", [0, 2])
def test_of_nothing_is_empty(seq_len, batch):
    model = gc.Model([random_spec(np.random.default_rng(0), "gru", 3, 5)])
    *_, trace = model(np.zeros((seq_len, batch, 3), np.float32), trace=("gates",))
    assert trace["gates"].shape == (1, seq_len, batch, GATES["gru"], 5)
    *_, nothing = model(np.zeros((seq_len, batch, 3), np.float32), trace=())
    assert nothing == {}


def test_wrong_names_are_refused():
    model = gc.Model([random_spec(np.random.default_rng(0), "gru", 3, 5)])
    x = np.zeros((4, 2, 3), np.float32)
    with pytest.raises(ValueError, match="trace: expected some of c, gates, got 'h'"):
        model(x, trace=("h",))
    with pytest.raises(ValueError, match="trace: expected no c, got it for a layer: gru has none"):
        model(x, trace=("c",))
    with pytest.raises(TypeError, match="trace: expected a tuple of some of c, gates, got 'gates'"):
        model(x, trace="gates")
