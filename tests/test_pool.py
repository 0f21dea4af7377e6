"""Streams that come and go: the bits of each are those of a stream of its own, whoever else ticks."""

import subprocess
import time

import numpy as np
import pytest
from chains import ANYWHERE, OF_SEQUENCES, floats, random_layers
from conftest import EXACT, TORCH_CELLS, random_spec, same_bits, told_to_threads

import gated_c as gc
from gated_c import layers as L
from tests.build_core import build, compiler

C, H, CAPACITY = 4, 10, 6
ACTIVE = (gc.Activation.of("hard_sigmoid"), gc.Activation.of("softplus"), gc.Activation.of("gelu"))


def make(cell="lstm", hidden_size=H, **options):
    return gc.Model([random_spec(np.random.default_rng(0), cell, C, hidden_size, **options)])


def inputs(count, seed=1, size=C):
    return np.random.default_rng(seed).standard_normal((count, size)).astype(np.float32)


def tagger(rng):
    """A network that keeps more than a recurrent state, and in which steps may not count."""
    middle = random_layers(rng, ["masking", "conv", "layer_norm"], OF_SEQUENCES | ANYWHERE, C)
    return gc.Model(
        [
            *middle,
            random_spec(rng, "lstm", 5, 9, proj_size=3, num_layers=2, masked="repeat"),
            random_spec(rng, "gru_reset_before", 3, 20),
            *random_layers(rng, ["unmask", "dense", "softmax"], OF_SEQUENCES | ANYWHERE, 20),
        ]
    )


def classifier(rng):
    """Of ids, to one number: what a pool over time has so far."""
    return gc.Model(
        [
            L.Embedding(floats(rng, 12, 5), mask_zero=True),
            random_spec(rng, "gru", 5, 17),
            L.Pool(17, "mean"),
            L.Dense(floats(rng, 1, 17)),
            L.Squeeze(),
        ]
    )


NETWORKS = {
    **{cell: lambda rng, cell=cell: gc.Model([random_spec(rng, cell, C, 33, num_layers=2)]) for cell in TORCH_CELLS},
    "general": lambda rng: gc.Model([random_spec(rng, "lstm", C, 20, peepholes=True, clip=0.9, activations=ACTIVE)]),
    "tagger": tagger,
    "classifier": classifier,
}


def ticks_of(model, rng, count):
    """Inputs of so many ticks of one row; every fourth does not count, where the model has such steps."""
    if model.takes == "ids":
        x = rng.integers(1, 12, (count, 1))
    else:
        x = rng.standard_normal((count, 1, C)).astype(np.float32)
    x[::4] = 0 if model.takes == "ids" else 0.25
    return x


@pytest.fixture
def pool():
    return make().pool(CAPACITY)


@pytest.fixture
def ids(pool):
    """Three members that have ticked."""
    ids = np.array([pool.open() for _ in range(3)])
    pool.step(ids, inputs(3, seed=0))
    return ids


def kept(pool):
    """Every member and all that it keeps."""
    return {int(id): pool.snapshot(id).rows.tobytes() for id in pool.ids}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("isa", EXACT)
def test_members_have_the_bits_of_streams_alone(name, isa, monkeypatch):
    steps, members = 24, 9
    monkeypatch.setenv("GATED_C_ISA", EXACT[0])
    model = NETWORKS[name](np.random.default_rng(3))
    rng = np.random.default_rng(4)
    x = [ticks_of(model, rng, steps) for _ in range(members)]
    alone = []
    for own in x:
        stream = model.stream()
        alone.append([stream.step(x_t).copy() for x_t in own])

    monkeypatch.setenv("GATED_C_ISA", isa)
    model = NETWORKS[name](np.random.default_rng(3))
    pool = model.pool(members + 5)
    ids = [pool.open() for _ in range(members)]
    done = [0] * members
    while min(done) < steps:
        ready = [m for m in range(members) if done[m] < steps]
        some = rng.permutation(ready)[: rng.integers(1, len(ready) + 1)]
        y = pool.step([ids[m] for m in some], np.concatenate([x[m][done[m]] for m in some]))
        for m, y_m in zip(some, y, strict=True):
            assert same_bits(np.array([y_m]), alone[m][done[m]])
            done[m] += 1


def test_a_soak_beside_streams_alone(tmp_path):
    cc = compiler("gcc") or compiler("clang")
    if cc is None:
        pytest.skip("needs a C compiler")
    executable = build(cc, "tests/c/soak.c", tmp_path)
    done = subprocess.run([executable, "300", "30000", "5"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("30000 ticks") == 3


def test_a_member_starts_where_a_stream_does_whoever_was_there_before(pool, ids):
    x = inputs(1)
    first = make().stream().step(x)
    pool.close(ids)
    for _ in range(CAPACITY):
        assert same_bits(pool.step([pool.open()], x), first)


def test_reset_is_a_new_member(pool, ids):
    x = inputs(3)
    other = make().stream(3)
    other.step(inputs(3, seed=0))
    other.reset([0, 2])
    pool.reset(ids[[0, 2]])
    assert same_bits(pool.step(ids, x), other.step(x))


def test_a_fork_goes_on_from_where_its_origin_is(pool, ids):
    x = inputs(3)
    forks = pool.fork([ids[1], ids[1], ids[0]])
    assert forks.dtype == np.int64
    assert len(pool) == 6
    y = pool.step(ids, x).copy()
    assert same_bits(pool.step(forks, x[[1, 1, 0]]), y[[1, 1, 0]])
    before = pool.snapshot(ids).rows
    pool.step(forks, inputs(3, seed=2))
    assert np.array_equal(pool.snapshot(ids).rows, before)


def test_a_fork_of_one_is_an_id(pool, ids):
    fork = pool.fork(ids[0])
    assert type(fork) is int
    assert fork in pool


@pytest.mark.parametrize(
    "convert", [list, tuple, np.asarray, lambda ids: np.array(ids, np.uint64), lambda ids: ids[::1]]
)
def test_ids_are_lists_or_arrays_of_integers(pool, ids, convert):
    expected = make().stream(3)
    expected.step(inputs(3, seed=0))
    assert same_bits(pool.step(convert(ids[::-1]), inputs(3)[::-1]), expected.step(inputs(3))[::-1])


@pytest.mark.parametrize("convert", [int, np.int64, np.array])
def test_a_single_id_has_no_axis_of_rows(pool, ids, convert):
    expected = pool.snapshot(ids)
    y = pool.step(ids, inputs(3)).copy()
    pool.restore(ids, expected)
    assert same_bits(pool.step(convert(ids[1]), inputs(3)[1]), y[1])
    pool.restore(ids, expected)
    out = np.empty(H, np.float32)
    assert pool.step(convert(ids[1]), inputs(3)[1].tolist(), out) is out
    assert same_bits(out, y[1])
    pool.reset(convert(ids[1]))
    pool.close(convert(ids[1]))
    assert ids[1] not in pool


def test_a_single_id_of_a_squeezed_model_gives_a_number():
    model = classifier(np.random.default_rng(0))
    pool = model.pool(2)
    id = pool.open()
    assert pool.step(id, 7).shape == ()
    assert same_bits(pool.step([id], [7]), model.stream().run(np.full((2, 1), 7))[-1])


def test_step_returns_the_pool_s_own_buffer(pool, ids):
    first = pool.step(ids, inputs(3))
    value = first.copy()
    assert pool.step(ids, inputs(3)) is first
    assert not np.array_equal(first, value)
    assert np.shares_memory(pool.step(ids[:2], inputs(2)), first)


def test_step_fills_the_caller_s_buffer(pool, ids):
    other, x = make().stream(3), inputs(3)
    other.step(inputs(3, seed=0))
    out = np.empty((3, H), np.float32)
    assert pool.step(ids, x, out) is out
    assert same_bits(other.step(x), out)


@pytest.mark.parametrize("last", [[], [L.Elementwise(C, gc.Activation.of("tanh"))]], ids=["stack", "chain"])
def test_output_may_be_fed_back(last):
    model = gc.Model([random_spec(np.random.default_rng(0), "gru", C, C), *last])
    pool, stream = model.pool(3), model.stream(3)
    ids = [pool.open() for _ in range(3)]
    y, z = pool.step(ids, inputs(3)), stream.step(inputs(3)).copy()
    for _ in range(5):
        y, z = pool.step(ids, y), stream.step(z).copy()
        assert same_bits(y, z)


def test_a_tick_of_nobody(pool, ids):
    assert pool.step([], np.empty((0, C), np.float32)).shape == (0, H)
    pool.close([])
    assert pool.fork([]).shape == (0,)
    assert len(pool.snapshot([])) == 0


STALE = r"ids: expected members that are open, got \d+ at 1"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda pool, ids: [ids[0], pool.stale, ids[1]], STALE),
        (lambda pool, ids: [ids[0], make().pool(3).open()], STALE),
        (lambda pool, ids: [ids[0], ids[0] + CAPACITY], STALE),
        (lambda pool, ids: [ids[0], -1], "got -1 at 1"),
        (lambda pool, ids: [0], "got 0 at 0"),
        (lambda pool, ids: np.array([2**64 - 1], np.uint64), "got -1 at 0"),
        (lambda pool, ids: [ids[2], ids[0], ids[2]], r"ids: expected each member once, got \d+ at 0 and 2"),
        (lambda pool, ids: np.resize(ids, 100), r"ids: expected each member once, got \d+ at 0 and 3"),
    ],
    ids=["closed", "other pool", "no row", "negative", "zero", "uint64", "repeated", "more than there are"],
)
def test_an_unknown_or_repeated_id_changes_nothing(pool, ids, wrong, message):
    class Known:
        stale = pool.open()

    pool.close(Known.stale)
    bad, before = wrong(Known, ids), kept(pool)
    for call in (pool.close, pool.reset, lambda ids: pool.step(ids, np.ones((len(ids), C), np.float32))):
        with pytest.raises(ValueError, match=message):
            call(bad)
    with pytest.raises(ValueError, match=message):
        pool.restore(bad, make().stream(len(bad)).snapshot())
    assert kept(pool) == before


def test_an_unknown_id_has_no_fork_and_no_snapshot(pool, ids):
    before = kept(pool)
    for call in (pool.fork, pool.snapshot):
        with pytest.raises(ValueError, match="expected members that are open, got 5 at 2"):
            call([ids[0], ids[0], 5])
    assert kept(pool) == before


def test_a_closed_id_stays_unknown_however_often_its_place_is_taken(pool):
    seen = set()
    for _ in range(1000):
        id = pool.open()
        assert id not in seen
        seen.add(id)
        pool.close(id)
        with pytest.raises(ValueError, match="got"):
            pool.close(id)
    assert not any(id in pool for id in seen)


def test_a_full_pool_says_so_and_changes_nothing(pool, ids):
    for _ in range(CAPACITY - 3):
        pool.open()
    before = kept(pool)
    for call, count in ((pool.open, 1), (lambda: pool.fork(ids[:2]), 2)):
        with pytest.raises(RuntimeError, match=f"pool: expected room for {count}, got 6 of 6 open"):
            call()
    assert kept(pool) == before
    pool.close(ids[0])
    assert pool.open() in pool


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        ([[1, 2, 3]], ValueError, r"ids: expected one or a list of them, got \(1, 3\)"),
        ([0.5, 1.0, 2.0], TypeError, "ids: expected integers, got float64"),
        ([True, False, True], TypeError, "ids: expected integers, got bool"),
        (["a", "b", "c"], TypeError, "ids: expected integers, got <U1"),
        (None, TypeError, "ids: expected integers, got object"),
    ],
)
def test_ids_of_another_type(pool, ids, bad, error, message):
    with pytest.raises(error, match=message):
        pool.step(bad, inputs(3))


@pytest.mark.parametrize(
    ("x", "out", "error", "message"),
    [
        (inputs(2), None, ValueError, r"x: expected \(3, 4\), got \(2, 4\)"),
        (inputs(3, size=5), None, ValueError, r"x: expected \(3, 4\), got \(3, 5\)"),
        (None, None, TypeError, "x: expected real numbers, got object"),
        (inputs(3), np.empty((2, H), np.float32), ValueError, r"out: expected \(3, 10\), got \(2, 10\)"),
        (inputs(3), np.empty((3, H)), TypeError, "out: expected float32, got float64"),
    ],
)
def test_wrong_arrays_change_nothing(pool, ids, x, out, error, message):
    before = kept(pool)
    with pytest.raises(error, match=message):
        pool.step(ids, x, out)
    assert kept(pool) == before


def test_an_id_beyond_the_embedding_changes_nothing():
    pool = classifier(np.random.default_rng(0)).pool(4)
    ids = [pool.open() for _ in range(3)]
    pool.step(ids, [1, 2, 3])
    before = kept(pool)
    for wrong in (12, -1, 2**40):
        with pytest.raises(IndexError, match="beyond its embedding"):
            pool.step(ids, [1, 2, wrong])
    assert kept(pool) == before


def test_idle_finds_the_forgotten():
    pool = make().pool(4)
    busy, forgotten, last = pool.open(), pool.open(), pool.open()
    assert pool.idle(10).tolist() == []
    assert sorted(pool.idle(0)) == sorted(pool.ids) == sorted([busy, forgotten, last])
    pool.close(last)
    until = time.monotonic() + 0.3
    while time.monotonic() < until:
        pool.step([busy], inputs(1))
        time.sleep(0.01)
    assert pool.idle(0.15).tolist() == [forgotten]
    assert pool.idle(np.inf).tolist() == []
    for wrong in (-1, np.nan):
        with pytest.raises(ValueError, match="seconds: expected 0 or more, got"):
            pool.idle(wrong)


def test_a_pool_knows_its_members(pool, ids):
    assert len(pool) == 3
    assert pool.capacity == CAPACITY
    assert ids[0] in pool
    assert int(ids[0]) in pool
    assert not any(other in pool for other in (None, "a", 1.5, -1, 2**70))
    assert repr(pool) == "<gated_c.Pool 3 of 6 open>"


@pytest.mark.parametrize("capacity", [0, -1, 2**40])
def test_a_pool_has_room_for_one_at_least(capacity):
    with pytest.raises(ValueError, match=f"capacity: expected 1 to 2147483647, got {capacity}"):
        make().pool(capacity)


def test_a_model_that_cannot_stream_has_no_pool():
    with pytest.raises(ValueError, match="reverse direction starts at the end"):
        make(bidirectional=True).pool(2)


def test_the_model_may_go_while_its_pool_lives():
    pool = make().pool(1)
    assert np.isfinite(pool.step(pool.open(), inputs(1)[0])).all()


def test_two_threads_in_one_pool_are_told():
    pool = make(hidden_size=1024).pool(2)
    id, x = pool.open(), inputs(1)

    def call():
        pool.step([id], x)
        pool.reset(id)

    assert told_to_threads(call) == {"pool: in use by another thread; a pool belongs to one thread at a time"}
