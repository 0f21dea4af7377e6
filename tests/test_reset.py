"""Reset masks: the bits of splitting every row's sequence where a new one begins."""

from itertools import pairwise

import numpy as np
import pytest
from conftest import CELLS, EXACT, TORCH_CELLS, parts, random_spec, random_state, same_bits, state_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import gated_c as gc
from gated_c import layers as L
from gated_c.spec import Activation
from tests import reference
from tests.chains import OF_SEQUENCES, floats
from tests.test_layers import error

torch = pytest.importorskip("torch")

OPTIONS = {
    "plain": {},
    "stacked": {"num_layers": 3},
    "bidirectional": {"num_layers": 2, "bidirectional": True},
    "reverse": {"reverse": True},
}


def with_initial_state(rng, spec):
    """The same module with a learned initial state."""
    learned = {name: rng.uniform(-1, 1, shape).astype(np.float32) for name, shape in spec.initial_shapes().items()}
    return gc.LayerSpec(**{**spec.__dict__, "weights": {**spec.weights, **learned}})


def learned_state(spec, batch):
    h, c = (part.astype(np.float32) for part in reference.initial_state(spec, batch))
    return state_of(spec, h, c)


def split_row(model, x, states, initials, live, reset):
    """One row of a model, x [T,1,C], a call for each piece: y and its states, one for each recurrent layer."""
    cuts = [0, *(t for t in range(1, len(x)) if reset[t]), len(x)]
    outputs, results = [], []
    for a, b in pairwise(cuts):
        begin = [
            piece_state(spec, own, initial, fresh=(a > 0 or reset[:1].any(), b < len(x)))
            for spec, own, initial in zip(model.recurrent, states, initials, strict=True)
        ]
        y, final = model(x[a:b], begin[0] if len(begin) == 1 else tuple(begin), mask=live[a:b])
        outputs.append(y)
        results.append([final] if len(begin) == 1 else final)
    finals = [
        piece_state(spec, last, first, fresh=(False, True))
        for spec, first, last in zip(model.recurrent, results[0], results[-1], strict=True)
    ]
    return np.concatenate(outputs), finals


def piece_state(spec, state, other, fresh):
    """Of a state and another the forward and the reverse directions, from the other where ``fresh`` says so."""
    directions = [bool(d) or spec.reverse for _ in range(spec.num_layers) for d in range(spec.num_directions)]
    chosen = np.array([fresh[d] for d in directions])[:, None, None]
    merged = [np.where(chosen, b, a) for a, b in zip(parts(state), parts(other), strict=True)]
    return tuple(merged) if spec.has_c else merged[0]


def row_of(state, n):
    return tuple(part[:, [n]] for part in state) if isinstance(state, tuple) else state[:, [n]]


def assert_splits(model, x, states, initials, reset, live, *, given_initial, lengths=None, split_with=None):
    """The call with resets has the bits of the pieces; ``split_with`` is a model on another instruction set."""

    def whole(of_layers):
        return of_layers[0] if len(of_layers) == 1 else tuple(of_layers)

    ragged = {"lengths": lengths} if lengths is not None else {"mask": live}
    initial = {"initial": whole(initials)} if given_initial else {}
    y, final = model(x, whole(states), reset=reset, **ragged, **initial)
    finals = [final] if len(states) == 1 else final
    for n in range(x.shape[1]):
        own, others = [row_of(state, n) for state in states], [row_of(state, n) for state in initials]
        expected_y, expected = split_row(split_with or model, x[:, [n]], own, others, live[:, [n]], reset[:, n])
        assert same_bits(y[:, [n]], expected_y)
        for got, wanted in zip(finals, expected, strict=True):
            for a, b in zip(parts(row_of(got, n)), parts(wanted), strict=True):
                assert same_bits(a, b)


@given(
    cell=st.sampled_from(CELLS),
    sizes=st.sampled_from([(1, 1), (3, 8), (2, 16), (5, 33), (64, 64), (60, 100)]),
    option=st.sampled_from(sorted(OPTIONS)),
    projected=st.booleans(),
    learned=st.booleans(),
    given_initial=st.booleans(),
    batch=st.integers(0, 9),
    seq_len=st.sampled_from([0, 1, 2, 7, 40, 70]),
    ragged=st.sampled_from(["no", "lengths", "mask"]),
    density=st.sampled_from([0, 0.05, 0.5, 1]),
    isa=st.sampled_from(EXACT),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_has_the_bits_of_a_call_for_each_piece(
    cell, sizes, option, projected, learned, given_initial, batch, seq_len, ragged, density, isa, seed
):
    rng = np.random.default_rng(seed)
    options = dict(OPTIONS[option])
    if cell == "rnn":
        options["activations"] = (Activation.of("softsign"),) * (2 if "bidirectional" in options else 1)
    if projected and cell == "lstm" and sizes[1] > 1:
        options["proj_size"] = (sizes[1] + 1) // 2
    spec = random_spec(rng, cell, *sizes, gain=1.5, **options)
    spec = with_initial_state(rng, spec) if learned else spec
    x = rng.standard_normal((seq_len, batch, sizes[0])).astype(np.float32)
    reset = rng.random((seq_len, batch)) < density
    lengths = rng.integers(0, seq_len + 1, batch) if ragged == "lengths" else None
    live = np.ones((seq_len, batch), bool)
    if ragged != "no":
        live = rng.random((seq_len, batch)) < 0.6 if lengths is None else np.arange(seq_len)[:, None] < lengths
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GATED_C_ISA", isa)
        model = gc.Model([spec])
        patch.setenv("GATED_C_ISA", EXACT[0])
        split_with = gc.Model([spec])
    state = state_of(spec, *random_state(rng, spec, batch))
    initial = state_of(spec, *random_state(rng, spec, batch)) if given_initial else learned_state(spec, batch)
    assert_splits(
        model,
        x,
        [state],
        [initial],
        reset,
        live,
        given_initial=given_initial,
        lengths=lengths,
        split_with=split_with,
    )


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("option", sorted(OPTIONS))
def test_computes_the_equations_with_the_state_returned(cell, option):
    rng = np.random.default_rng(0)
    options = dict(OPTIONS[option])
    if cell == "rnn":
        options["activations"] = (Activation.of("tanh"),) * (2 if "bidirectional" in options else 1)
    spec = with_initial_state(rng, random_spec(rng, cell, 4, 9, **options))
    x = rng.standard_normal((20, 5, 4)).astype(np.float32)
    reset, live = rng.random((2, 20, 5)) < np.array([0.2, 0.8])[:, None, None]
    h, c = random_state(rng, spec, 5)
    y, state = gc.Model([spec])(x, state_of(spec, h, c), mask=live, reset=reset)
    expected_y, *expected = reference.forward(spec, x, h, c, live, reset)
    assert error(y, expected_y) < 1e-6
    for part, wanted in zip(parts(state), expected, strict=False):
        assert error(part, wanted) < 1e-6


@pytest.mark.parametrize("cell", TORCH_CELLS)
def test_agrees_with_pytorch_split_by_hand(cell):
    kinds = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "rnn_tanh": torch.nn.RNN}
    module = kinds[cell](3, 12, 2) if cell in kinds else torch.nn.RNN(3, 12, 2, nonlinearity="relu")
    module.requires_grad_(False)
    x = torch.randn(30, 2, 3, generator=torch.Generator().manual_seed(0))
    reset = np.zeros((30, 2), bool)
    reset[[4, 5, 17], 0] = reset[[9, 29], 1] = True
    y, state = gc.from_torch(module)(x, reset=reset)
    for n, cuts in enumerate([[0, 4, 5, 17, 30], [0, 9, 29, 30]]):
        pieces = [module(x[a:b, n : n + 1]) for a, b in pairwise(cuts)]
        assert error(y[:, [n]], torch.cat([piece for piece, _ in pieces]).numpy()) < 1e-6
        for part, wanted in zip(parts(state), parts(pieces[-1][1]), strict=True):
            assert error(part[:, [n]], wanted.numpy()) < 1e-6


@pytest.mark.parametrize("masked", ["zero", "repeat", "repeat_initial"])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_cuts_every_layer_of_a_chain(masked, bidirectional, seed):
    rng = np.random.default_rng(seed)
    size = 4
    conv = L.Conv(floats(rng, 6, 3, size), floats(rng, 6), Activation.of("tanh"), dilation=2)
    first = random_spec(rng, "lstm", 6, 9, bidirectional=bidirectional, masked=masked)
    between = [L.LayerNorm(first.output_size), L.Conv(floats(rng, 5, 2, first.output_size)), L.Masking(5, 0.25)]
    second = with_initial_state(rng, random_spec(rng, "gru", 5, 7, masked=masked))
    model = gc.Model([OF_SEQUENCES["masking"](rng, size), conv, first, *between, second, L.Softmax(7)])
    batch, seq_len = 3, (150, 9)[seed % 2]
    x = rng.standard_normal((seq_len, batch, size)).astype(np.float32)
    x[rng.random((seq_len, batch)) < 0.2] = 0.25
    reset, live = rng.random((2, seq_len, batch)) < np.array([0.15, 0.8])[:, None, None]
    specs = (first, second)
    states = [state_of(spec, *random_state(rng, spec, batch)) for spec in specs]
    initials = [learned_state(spec, batch) for spec in specs]
    if seed % 3 == 0:
        initials = [state_of(spec, *random_state(rng, spec, batch)) for spec in specs]
    assert_splits(model, x, states, initials, reset, live, given_initial=seed % 3 == 0)


@pytest.mark.parametrize("masked", ["repeat", "repeat_initial"])
@pytest.mark.parametrize("options", [{}, {"reverse": True}, {"bidirectional": True, "num_layers": 2}])
@pytest.mark.parametrize("given_initial", [False, True])
def test_repeats_no_output_of_another_sequence(masked, options, given_initial):
    rng = np.random.default_rng(6)
    spec = with_initial_state(rng, random_spec(rng, "lstm", 4, 6, masked=masked, **options))
    model = gc.Model([spec, L.Unmask(spec.output_size)])
    x = rng.standard_normal((150, 3, 4)).astype(np.float32)
    reset, live = rng.random((2, 150, 3)) < np.array([0.15, 0.4])[:, None, None]
    state, initial = state_of(spec, *random_state(rng, spec, 3)), learned_state(spec, 3)
    if given_initial:
        initial = state_of(spec, *random_state(rng, spec, 3))
    assert_splits(model, x, [state], [initial], reset, live, given_initial=given_initial)


def test_cuts_what_an_embedding_masks():
    rng = np.random.default_rng(0)
    spec = random_spec(rng, "gru", 6, 8, masked="repeat")
    model = gc.Model([L.Embedding(floats(rng, 5, 6), mask_zero=True), spec])
    ids = rng.integers(0, 5, (40, 3))
    reset = rng.random((40, 3)) < 0.1
    h, _ = random_state(rng, spec, 3)
    zeros, live = np.zeros_like(h), np.ones((40, 3), bool)
    assert_splits(model, ids, [h], [zeros], reset, live, given_initial=False)


def test_cuts_a_sequence_however_it_is_cut_into_calls():
    rng = np.random.default_rng(1)
    spec = with_initial_state(rng, random_spec(rng, "lstm", 3, 20, num_layers=2))
    model = gc.Model([L.Conv(floats(rng, 3, 1, 3)), spec, L.Dense(floats(rng, 2, 20))])
    x = rng.standard_normal((60, 4, 3)).astype(np.float32)
    reset, live = rng.random((2, 60, 4)) < np.array([0.1, 0.5])[:, None, None]
    y, state = model(x, reset=reset, mask=live)
    outputs, carried = [], None
    for a in range(0, 60, 5):
        piece, carried = model(x[a : a + 5], carried, reset=reset[a : a + 5], mask=live[a : a + 5])
        outputs.append(piece)
    assert same_bits(np.concatenate(outputs), y)
    assert all(same_bits(a, b) for a, b in zip(carried, state, strict=True))


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("batch_first", [False, True])
def test_the_initial_state_is_of_the_batch_or_of_one_row_for_all(cell, batch_first):
    rng = np.random.default_rng(2)
    spec = random_spec(rng, cell, 3, 5, num_layers=2, batch_first=batch_first)
    model = gc.Model([spec])
    x = rng.standard_normal((4, 6, 3)).astype(np.float32)
    reset = rng.random((4, 6)) < 0.3
    batch = 4 if batch_first else 6
    row = [rng.standard_normal((2, 5)).astype(np.float32) for _ in range(2)]
    repeated = [np.repeat(part[:, None], batch, 1) for part in row]
    y, state = model(x, reset=reset, initial=state_of(spec, *row))
    again, again_state = model(x, state_of(spec, *repeated), reset=reset, initial=state_of(spec, *repeated))
    assert same_bits(y, again)
    assert all(same_bits(a, b) for a, b in zip(parts(state), parts(again_state), strict=True))
    one, one_state = model(x[0], reset=reset[0], initial=state_of(spec, *row))
    batched = x[:1].swapaxes(0, 1) if not batch_first else x[:1]
    flags = reset[:1].T if not batch_first else reset[:1]
    wanted, wanted_state = model(batched, reset=flags, initial=state_of(spec, *row))
    assert same_bits(one, wanted[:, 0] if not batch_first else wanted[0])
    assert all(same_bits(a, b[:, 0]) for a, b in zip(parts(one_state), parts(wanted_state), strict=True))


def test_the_initial_state_of_one_row_may_be_lists():
    rng = np.random.default_rng(0)
    model = gc.Model([random_spec(rng, "lstm", 3, 4), random_spec(rng, "gru", 4, 5)])
    x = rng.standard_normal((6, 2, 3), np.float32)
    initial = ([[[0.5] * 4], [[0.25] * 4]], [[1.0] * 5])
    arrays = (tuple(np.array(part, np.float32) for part in initial[0]), np.array(initial[1], np.float32))
    assert same_bits(model(x, initial=initial)[0], model(x, initial=arrays)[0])


def test_a_sequence_starts_from_the_initial_state_that_is_given():
    rng = np.random.default_rng(3)
    spec = random_spec(rng, "gru", 3, 5)
    model = gc.Model([spec])
    x, h = rng.standard_normal((7, 2, 3)).astype(np.float32), random_state(rng, spec, 2)[0]
    assert same_bits(model(x, initial=h)[0], model(x, h)[0])
    assert not same_bits(model(x, initial=h)[0], model(x)[0])
    kept = h.copy()
    model(x, initial=h, reset=np.ones((7, 2), bool))
    assert same_bits(h, kept)


def test_flags_may_be_strided_and_are_read_where_they_are():
    rng = np.random.default_rng(4)
    model = gc.Model([random_spec(rng, "gru", 3, 5)])
    x = rng.standard_normal((12, 4, 3)).astype(np.float32)
    wide = rng.random((8, 36)) < 0.2
    flags = wide[::2, ::-3].T
    assert same_bits(model(x, reset=flags)[0], model(x, reset=np.ascontiguousarray(flags))[0])


def test_wrong_resets_are_refused():
    rng = np.random.default_rng(5)
    gru = random_spec(rng, "gru", 3, 5)
    model = gc.Model([gru])
    x, flags = np.zeros((6, 2, 3), np.float32), np.zeros((6, 2), bool)
    with pytest.raises(ValueError, match=r"reset: expected \(6, 2\), got \(2, 6\)"):
        model(x, reset=flags.T)
    with pytest.raises(TypeError, match="reset: expected bool, got int64"):
        model(x, reset=flags.astype(int))
    with pytest.raises(ValueError, match=r"initial: h0: expected \(1, 5\), got \(1, 4\)"):
        model(x, reset=flags, initial=np.zeros((1, 4)))
    with pytest.raises(ValueError, match=r"initial: h0: expected \(1, 2, 5\), got \(1, 3, 5\)"):
        model(x, reset=flags, initial=np.zeros((1, 3, 5)))
    with pytest.raises(TypeError, match=r"initial: state: expected \(h, c\)"):
        gc.Model([random_spec(rng, "lstm", 3, 5)])(x, initial=np.zeros((1, 5)))
    packed = torch.nn.utils.rnn.pack_sequence([torch.zeros(2, 3)])
    with pytest.raises(ValueError, match="reset, initial, trace, out: expected None with a PackedSequence"):
        model(packed, reset=flags)


@pytest.mark.parametrize(
    ("layers", "name"),
    [
        ([L.Pool(5, "last", name="pooling")], "pooling"),
        ([L.Flip(5), L.Dense(np.zeros((1, 5), np.float32))], "Flip"),
        ([L.Reshape(6, 5, 3, 10)], "Reshape"),
        ([L.Pool(5, "mean"), L.Repeat(5, 3)], "Pool"),
    ],
)
def test_a_layer_that_looks_across_all_steps_takes_none(layers, name):
    model = gc.Model([random_spec(np.random.default_rng(0), "gru", 3, 5), *layers])
    x = np.zeros((6, 2, 3), np.float32)
    with pytest.raises(gc.UnsupportedError, match=f"reset: {name} makes one result of the steps before and after"):
        model(x, reset=np.zeros((6, 2), bool))
    y = np.empty(model.output_shape(x.shape), np.float32).reshape(-1, 2, model.output_size)
    with pytest.raises(ValueError, match="takes no resets"):  # the core by itself
        model._engine.run(x, y, model._engine.initial_state(2), reset=np.zeros((6, 2), bool))
