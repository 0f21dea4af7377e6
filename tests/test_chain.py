"""Chains of layers: against the equations, and the same bits however a sequence is cut up."""

import numpy as np
import pytest
import reference
from chains import ANYWHERE, OF_SEQUENCES, floats, random_layers, size_after
from conftest import parts, random_spec, same_bits
from hypothesis import given, settings
from hypothesis import strategies as st

import gated_c as gc
from gated_c import layers as L

KINDS = st.sampled_from(sorted(ANYWHERE))
SEQUENCE_KINDS = st.sampled_from(sorted([*ANYWHERE, *OF_SEQUENCES]))
TABLE = ANYWHERE | OF_SEQUENCES

#: Of values of magnitude about 1 after a handful of layers, each with sums of up to 50 products: 5 layers x 50 x 2^-24
#: is 1.5e-5, and activations such as exponential stretch it.
CLOSE = {"rtol": 2e-4, "atol": 2e-4}


def masked_input(rng, steps, batch, size):
    """x [T,N,C] of which Masking(value=0.25) takes some steps for padding."""
    x = floats(rng, steps, batch, size)
    x[rng.random((steps, batch)) < 0.3] = 0.25
    return x


def check_against_reference(layers, x, **ragged):
    model = gc.Model(layers)
    y, state = model(x, **ragged)
    live = ragged.get("mask")
    if "lengths" in ragged:
        live = np.arange(len(x))[:, None] < ragged["lengths"]
    expected, states = reference.chain(layers, x, live=live)
    if model.gives == "vector":
        expected = expected[0]
    finite = np.abs(expected) < 1e3  # exponentials of exponentials are beyond any tolerance
    np.testing.assert_allclose(np.where(finite, y, 0), np.where(finite, expected, 0), **CLOSE)
    for ours, theirs in zip(parts(state), [p for s in states for p in parts(s)], strict=True):
        np.testing.assert_allclose(ours, theirs, **CLOSE)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    before=st.lists(SEQUENCE_KINDS, max_size=2),
    after=st.lists(SEQUENCE_KINDS, max_size=2),
    pool=st.sampled_from([None, *L.POOLS]),
    end=st.lists(KINDS, max_size=2),
    bidirectional=st.booleans(),
    masked=st.sampled_from(["zero", "repeat", "repeat_initial"]),
    ragged=st.sampled_from(["no", "lengths", "mask"]),
)
def test_every_chain_computes_the_equations(seed, before, after, pool, end, bidirectional, masked, ragged):
    rng = np.random.default_rng(seed)
    steps, batch, size = int(rng.integers(1, 30)), int(rng.integers(1, 9)), int(rng.integers(1, 9))
    layers = random_layers(rng, before, TABLE, size)
    cell = str(rng.choice(["gru", "rnn_tanh", "gru_reset_before"]))
    hidden = int(rng.integers(2, 20))
    layers.append(random_spec(rng, cell, size_after(layers, size), hidden, bidirectional=bidirectional, masked=masked))
    layers += random_layers(rng, after, TABLE, layers[-1].output_size)
    if pool:
        reverse = int(rng.integers(0, layers[-1].output_size)) if pool == "final" else 0
        layers.append(L.Pool(layers[-1].output_size, pool, reverse))
    layers += random_layers(rng, end, ANYWHERE, layers[-1].output_size)
    given_steps = {}
    if ragged == "lengths":
        given_steps["lengths"] = rng.integers(0, steps + 1, batch)
    elif ragged == "mask":
        given_steps["mask"] = rng.random((steps, batch)) < 0.7
    check_against_reference(layers, masked_input(rng, steps, batch, size), **given_steps)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    before=st.lists(SEQUENCE_KINDS, max_size=2),
    after=st.lists(SEQUENCE_KINDS, max_size=2),
    pool=st.sampled_from([None, *L.POOLS]),
    end=st.lists(KINDS, max_size=2),
)
def test_a_stream_gives_the_bits_of_whole_sequences(seed, before, after, pool, end):
    rng = np.random.default_rng(seed)
    steps, batch, size = int(rng.integers(1, 200)), int(rng.integers(1, 4)), int(rng.integers(1, 9))
    layers = random_layers(rng, before, TABLE, size)
    for cell in ("gru", "lstm"):
        hidden = int(rng.integers(1, 40))
        layers.append(random_spec(rng, cell, size_after(layers, size), hidden, masked="repeat"))
    layers += [*random_layers(rng, after, TABLE, layers[-1].output_size)]
    layers.append(L.Unmask(layers[-1].output_size))
    if pool:
        layers.append(L.Pool(layers[-1].output_size, pool))
    layers += random_layers(rng, end, ANYWHERE, layers[-1].output_size)
    x = masked_input(rng, steps, batch, size)
    model = gc.Model(layers)
    y, state = model(x)
    stream = model.stream(batch)
    stepped = np.stack([stream.step(x_t).copy() for x_t in x])
    assert same_bits(stepped[-1] if pool else stepped, y)
    for (h, *c), (ours, *ours_c) in zip(map(parts, state), map(parts, stream.state), strict=True):
        assert same_bits(h, ours)
        assert all(same_bits(a, b) for a, b in zip(c, ours_c, strict=True))
    stream.reset()
    cut = int(rng.integers(0, steps + 1))
    run = np.concatenate([stream.run(x[:cut]), stream.run(x[cut:])])
    assert same_bits(run, stepped)


def small_chain(rng, **options):
    gru = random_spec(rng, "gru", 3, 8, **options)
    return [gru, L.Pool(8, "mean"), L.Dense(floats(rng, 2, 8))]


def test_rows_of_a_chain_do_not_depend_on_the_batch_around_them():
    rng = np.random.default_rng(0)
    model = gc.Model([L.LayerNorm(3), *small_chain(rng)])
    x = floats(rng, 150, 9, 3)
    lengths = rng.integers(0, 151, 9)
    y, _ = model(x, lengths=lengths)
    for n in range(9):
        assert same_bits(model(x[:, n : n + 1], lengths=lengths[n : n + 1])[0], y[n : n + 1])
        assert same_bits(model(x[: lengths[n], n])[0], y[n])


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint8])
def test_an_embedding_takes_ids(dtype):
    rng = np.random.default_rng(1)
    table = L.Embedding(floats(rng, 10, 3), mask_zero=True)
    layers = [table, *small_chain(rng, batch_first=True)]
    ids = rng.integers(0, 10, (4, 20)).astype(dtype)
    y, _ = gc.Model(layers)(ids)
    expected, _ = reference.chain(layers, ids.T)
    np.testing.assert_allclose(y, expected[0], **CLOSE)
    assert same_bits(gc.Model(layers)(ids[1])[0], y[1])


def test_a_stream_takes_ids():
    rng = np.random.default_rng(2)
    model = gc.Model([L.Embedding(floats(rng, 10, 3), mask_zero=True), *small_chain(rng)])
    ids = rng.integers(0, 10, (20, 4))
    stream = model.stream(4)
    for ids_t in ids:
        y = stream.step(ids_t)
    assert same_bits(y, model(ids)[0])
    stream.reset()
    assert same_bits(stream.run(ids)[-1], y)


@pytest.mark.parametrize("wrong", [-1, 10, 2**40])
def test_an_id_beyond_the_embedding_is_an_index_error_and_changes_nothing(wrong):
    rng = np.random.default_rng(3)
    model = gc.Model([L.Embedding(floats(rng, 10, 3)), random_spec(rng, "gru", 3, 8)])
    ids = np.zeros((5, 2), np.int64)
    ids[3, 1] = wrong
    with pytest.raises(IndexError, match=rf"x: expected ids of 0 to 9, got {wrong} at \(3, 1\)"):
        model(ids)
    stream = model.stream(2)
    stream.step(ids[0])
    before = stream.state
    with pytest.raises(IndexError):
        stream.step(ids[3])
    assert same_bits(stream.state, before)


def test_ids_are_integers():
    model = gc.Model([L.Embedding(np.ones((4, 3), np.float32)), random_spec(np.random.default_rng(0), "gru", 3, 8)])
    with pytest.raises(TypeError, match="x: expected integer ids, got float64"):
        model(np.zeros((5, 2)))


@pytest.mark.parametrize("batch_first", [False, True])
def test_a_vector_can_become_a_sequence_again(batch_first):
    """An autoencoder: the last step of an encoder, repeated, through a decoder."""
    rng = np.random.default_rng(4)
    layers = [
        random_spec(rng, "lstm", 3, 8, batch_first=batch_first),
        L.Pool(8, "last"),
        L.Repeat(8, 7),
        random_spec(rng, "lstm", 8, 5, batch_first=batch_first),
        L.Dense(floats(rng, 3, 5)),
    ]
    x = floats(rng, 12, 4, 3)
    expected, states = reference.chain(layers, x)
    y, state = gc.Model(layers)(x.swapaxes(0, 1) if batch_first else x)
    assert y.shape == ((4, 7, 3) if batch_first else (7, 4, 3))
    np.testing.assert_allclose(y.swapaxes(0, 1) if batch_first else y, expected, **CLOSE)
    for ours, theirs in zip(state, states, strict=True):
        np.testing.assert_allclose(ours[1], theirs[1], **CLOSE)
    zeros = tuple((np.zeros_like(h), np.zeros_like(c)) for h, c in state)
    again, _ = gc.Model(layers)(x.swapaxes(0, 1) if batch_first else x, zeros)
    assert same_bits(again, y)


def test_reshapes_keep_the_order_of_a_row():
    rng = np.random.default_rng(5)
    layers = [
        L.Reshape(0, 12, 4, 3),
        random_spec(rng, "gru", 3, 6),
        L.Reshape(4, 6, 2, 12),
        random_spec(rng, "gru", 12, 5, bidirectional=True),
        L.Reshape(2, 10, 0, 20),
        L.Dense(floats(rng, 2, 20)),
    ]
    x = floats(rng, 3, 12)
    expected, _ = reference.chain(layers, x[None])
    np.testing.assert_allclose(gc.Model(layers)(x)[0], expected[0], **CLOSE)
    np.testing.assert_allclose(gc.Model(layers)(x[1])[0], expected[0, 1], **CLOSE)


def test_a_reshape_of_other_sequences_is_an_error():
    rng = np.random.default_rng(6)
    model = gc.Model([random_spec(rng, "gru", 3, 6), L.Reshape(4, 6, 0, 24, name="flatten")])
    with pytest.raises(ValueError, match="flatten: expected sequences of 4 steps, got 5"):
        model(floats(rng, 5, 2, 3))


@pytest.mark.parametrize("ragged", [False, True])
def test_flips_read_the_sequence_backwards(ragged):
    """Keras's go_backwards: y in the order of processing."""
    rng = np.random.default_rng(7)
    layers = [
        L.Dense(floats(rng, 3, 3)),
        L.Flip(3),
        random_spec(rng, "lstm", 3, 6, masked="repeat"),
        L.Flip(6, steps=False),
        L.Masking(6, 0.0),
        random_spec(rng, "gru", 6, 4),
    ]
    mask = {"mask": rng.random((11, 3)) < 0.6} if ragged else {}
    x = floats(rng, 11, 3, 3)
    y, _ = gc.Model(layers)(x, **mask)
    expected, _ = reference.chain(layers, x, live=mask.get("mask"))
    np.testing.assert_allclose(y, expected, **CLOSE)


@pytest.mark.parametrize("mode", L.MERGES)
def test_directions_can_be_merged(mode):
    rng = np.random.default_rng(8)
    layers = [random_spec(rng, "gru", 3, 9, bidirectional=True), L.Merge(9, mode)]
    check_against_reference(layers, floats(rng, 6, 2, 3), lengths=np.array([6, 3]))


def test_a_split_gives_both_directions():
    rng = np.random.default_rng(9)
    gru = random_spec(rng, "gru", 3, 9, bidirectional=True)
    x = floats(rng, 6, 2, 3)
    whole, _ = gc.Model([gru])(x)
    (forward, backward), _ = gc.Model([gru, L.Split(18)])(x)
    assert same_bits(forward, whole[..., :9])
    assert same_bits(backward, whole[..., 9:])


def test_a_squeeze_drops_the_axis_of_features():
    rng = np.random.default_rng(10)
    layers = [random_spec(rng, "gru", 3, 9), L.Dense(floats(rng, 1, 9))]
    x = floats(rng, 6, 2, 3)
    whole, _ = gc.Model(layers)(x)
    model = gc.Model([*layers, L.Squeeze()])
    out = np.empty((6, 2), np.float32)
    assert model(x, out=out)[0] is out
    assert same_bits(out, whole[..., 0])
    stream = model.stream(2)
    assert same_bits(np.stack([stream.step(x_t).copy() for x_t in x]), out)
    assert same_bits(stream.step(x[0], np.empty(2, np.float32)), stream.step(x[0])) is False
    stream.reset()
    assert same_bits(stream.run(x), out)


def test_resetting_rows_forgets_what_pools_and_convolutions_saw():
    rng = np.random.default_rng(11)
    model = gc.Model([L.Conv(floats(rng, 3, 4, 3)), *small_chain(rng)])
    x = floats(rng, 10, 2, 3)
    stream = model.stream(2)
    for x_t in x:
        stream.step(x_t)
    stream.reset(rows=[1])
    y = np.stack([stream.step(x_t).copy() for x_t in x])[-1]
    assert same_bits(y[1], model(x)[0][1])
    assert same_bits(y[0], model(np.concatenate([x, x]))[0][0])


def test_assigning_a_state_starts_pools_anew():
    rng = np.random.default_rng(12)
    model = gc.Model(small_chain(rng))
    x = floats(rng, 10, 2, 3)
    _, state = model(x)
    stream = model.stream(2)
    stream.run(x[:4])
    stream.state = state
    assert same_bits(stream.run(x)[-1], model(x, state)[0])


def test_rows_without_steps_pool_to_zero():
    rng = np.random.default_rng(13)
    for kind in L.POOLS:
        model = gc.Model([random_spec(rng, "gru", 3, 8), L.Pool(8, kind)])
        assert not model(floats(rng, 4, 2, 3), lengths=[0, 4])[0][0].any()


def test_padding_never_reaches_a_result():
    rng = np.random.default_rng(14)
    model = gc.Model([L.LayerNorm(3), *small_chain(rng)])
    x = floats(rng, 9, 2, 3)
    x[5:, 0] = np.nan
    y, state = model(x, lengths=[5, 9])
    assert np.isfinite(y).all()
    assert np.isfinite(state).all()


def test_log_softmax_is_exact_where_probabilities_vanish():
    rng = np.random.default_rng(15)
    gru = random_spec(rng, "gru", 3, 8)
    layers = [gru, L.Affine(np.full(8, 200, np.float32), np.zeros(8, np.float32)), L.Softmax(8, log=True)]
    x = floats(rng, 4, 2, 3)
    expected, _ = reference.chain(layers, x)
    np.testing.assert_allclose(gc.Model(layers)(x)[0], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (lambda gru: [L.Dense(np.ones((3, 3), np.float32))], "expected at least one LSTM"),
        (lambda gru: [gru, L.Pool(8, "last"), gru], "expected a sequence, got a vector from Pool"),
        (lambda gru: [gru, L.Dense(np.ones((3, 7), np.float32), name="head")], "head: input_size: expected 8, got 7"),
        (lambda gru: [gru, L.Embedding(np.ones((3, 8), np.float32))], "expected a ids, got a sequence"),
        (lambda gru: [gru, L.Flip(8)], "expected a layer behind it"),
        (lambda gru: [gru, L.Repeat(8, 3)], "expected a vector, got a sequence"),
        (lambda gru: [gru, L.Split(8), L.Unmask(8)], "got a result from Split"),
    ],
)
def test_chains_that_do_not_fit_are_refused(layers, message):
    gru = random_spec(np.random.default_rng(0), "gru", 3, 8)
    with pytest.raises(ValueError, match=message):
        gc.Model(layers(gru))


def test_one_layer_is_not_a_chain():
    with pytest.raises(TypeError, match="expected a list of layers, got one LayerSpec"):
        gc.Model(random_spec(np.random.default_rng(0), "gru", 3, 8))


def test_steps_that_count_only_after_a_flip_of_the_mask_are_computed():
    rng = np.random.default_rng(16)
    layers = [L.Dense(floats(rng, 4, 3)), L.Flip(4, steps=False), random_spec(rng, "gru", 4, 8)]
    check_against_reference(layers, floats(rng, 9, 4, 3), lengths=np.array([3, 9, 0, 5]))


@pytest.mark.parametrize("masked", ["zero", "repeat", "repeat_initial"])
@pytest.mark.parametrize("pooled", [False, True])
def test_streams_and_sequences_agree_on_steps_that_do_not_count(masked, pooled):
    rng = np.random.default_rng(17)
    layers = [L.Masking(3, 0.25), random_spec(rng, "gru", 3, 8, masked=masked)]
    layers += [L.Pool(8, "max"), L.Dense(floats(rng, 2, 8))] if pooled else [L.LayerNorm(8), L.Unmask(8)]
    model = gc.Model(layers)
    x = masked_input(rng, 20, 5, 3)
    x[[0, -1], :3] = 0.25
    h = floats(rng, 1, 5, 8)
    stream = model.stream(5)
    stream.state = h
    stepped = np.stack([stream.step(x_t).copy() for x_t in x])
    assert same_bits(stepped[-1] if pooled else stepped, model(x, h)[0])


def test_a_stream_gives_zero_at_steps_that_do_not_count():
    rng = np.random.default_rng(18)
    model = gc.Model([L.Masking(3, 0.25), random_spec(rng, "gru", 3, 8, masked="repeat"), L.LayerNorm(8)])
    x = masked_input(rng, 20, 5, 3)
    y, _ = model(x)
    stream = model.stream(5)
    assert same_bits(np.stack([stream.step(x_t).copy() for x_t in x]), y)
    assert not y[(x == 0.25).all(-1)].any()


def test_scratch_beyond_counting_is_a_memory_error():
    rng = np.random.default_rng(19)
    gru = random_spec(rng, "gru", 1, 1)
    far = gc.Model([L.Dense(floats(rng, 2048, 1)), L.Conv(floats(rng, 1, 2, 2048), dilation=2**24), gru])
    with pytest.raises(MemoryError):
        far.stream(2**31 - 1)
    wide = gc.Model([L.Dense(floats(rng, 8192, 1)), L.Flip(8192), random_spec(rng, "gru", 8192, 1), L.Pool(1, "last")])
    with pytest.raises(MemoryError):
        wide(np.broadcast_to(np.zeros(1, np.float32), (2**31 - 1, 2**22, 1)))


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (L.Repeat(8, 2**31), "steps: expected 1 to 16777216, got 2147483648"),
        (L.Reshape(2**62, 4, 2**62, 4), "steps: expected 0 to 16777216"),
        (L.Conv(np.ones((1, 3, 2), np.float32), dilation=2**24), "all taps within 16777216 steps, got 16777216"),
        (L.Softmax(2**31), "sizes: expected 1 to 16777216, got 2147483648"),
    ],
)
def test_sizes_beyond_those_of_the_core_are_refused(layer, message):
    with pytest.raises(ValueError, match=message):
        layer.validate()


def test_an_activation_that_nobody_knows_is_a_value_error():
    with pytest.raises(ValueError, match=r"activation: expected one of sigmoid, .*, got 'foo'"):
        gc.spec.Activation.of("foo")
