"""What live sequences keep, as a value: exact between streams, pools, files and processes; refused when damaged."""

import copy
import os
import pickle
import struct
import subprocess
import sys

import numpy as np
import pytest
from chains import floats
from conftest import EXACT, random_spec, same_bits

import gated_c as gc
from gated_c import layers as L

N, HEADER = 3, 32


def recurrent(rng):
    return [random_spec(rng, "lstm", 4, 9, proj_size=3, num_layers=2), random_spec(rng, "gru", 3, 20)]


def network(rng):
    """Keeps all that a row can: steps of a convolution, states, whether a step has counted, a mean so far."""
    return [
        L.Masking(4, 0.25),
        L.Conv(floats(rng, 5, 3, 4), floats(rng, 5), dilation=2),
        random_spec(rng, "lstm", 5, 9, masked="repeat"),
        L.Pool(9, "mean"),
    ]


def vector(rng):
    return [random_spec(rng, "rnn_tanh", 4, 7), L.Dense(floats(rng, 2, 7))]


LAYERS = [recurrent, network, vector]


def make(layers, seed=0):
    return gc.Model(layers(np.random.default_rng(seed)))


def inputs(seed=1, batch=N):
    return np.random.default_rng(seed).standard_normal((batch, 4)).astype(np.float32)


@pytest.fixture(params=LAYERS)
def model(request):
    return make(request.param)


@pytest.fixture
def stream(model):
    """After steps, of which the last did not count for row 1 where steps may not."""
    stream = model.stream(N)
    for seed in range(3):
        x = inputs(seed)
        x[1, :] = 0.25
        stream.step(x)
    return stream


@pytest.fixture
def snapshot(stream):
    return stream.snapshot()


def next_steps(stream):
    return [stream.step(inputs(seed)).copy() for seed in range(10, 14)]


def expect_next_steps(stream, expected):
    assert all(same_bits(y, z) for y, z in zip(next_steps(stream), expected, strict=True))


def test_a_stream_goes_on_from_its_snapshot(stream, snapshot):
    expected = next_steps(stream)
    stream.restore(snapshot)
    expect_next_steps(stream, expected)
    stream.reset()
    stream.restore(snapshot)
    expect_next_steps(stream, expected)


def test_a_snapshot_stays_what_it_was(stream, snapshot):
    before = snapshot.rows.copy()
    stream.step(inputs())
    assert np.array_equal(snapshot.rows, before)
    with pytest.raises(ValueError, match="read-only"):
        snapshot.rows[0] = 0


def test_equal_rows_are_equal_bytes(model, stream, snapshot):
    other = model.stream(N)
    other.restore(snapshot)
    assert np.array_equal(other.snapshot().rows, snapshot.rows)
    fresh = model.stream(2).snapshot().rows
    assert np.array_equal(fresh[0], fresh[1])


def test_the_rows_may_move_to_streams_and_pools_of_other_sizes(model, stream, snapshot):
    expected = next_steps(stream)
    pool = model.pool(10)
    ids = [pool.open() for _ in range(7)][::-2][:N]
    pool.restore(ids, snapshot)
    assert np.array_equal(pool.snapshot(ids).rows, snapshot.rows)
    for seed, y in zip(range(10, 14), expected, strict=True):
        assert same_bits(pool.step(ids, inputs(seed)), y)

    single = model.stream()
    single.restore(snapshot[1])
    for seed, y in zip(range(10, 14), expected, strict=True):
        assert same_bits(single.step(inputs(seed)[1:2]), y[1:2])
    back = model.stream(N)
    back.restore(pool.snapshot(ids))
    assert np.array_equal(back.snapshot().rows, stream.snapshot().rows)


def test_a_fork_goes_its_own_way(stream):
    fork, twin = stream.fork(), stream.fork()
    expected = next_steps(stream)
    expect_next_steps(fork, expected)
    expect_next_steps(twin, expected)


@pytest.mark.parametrize("clone", [copy.copy, copy.deepcopy, lambda stream: pickle.loads(pickle.dumps(stream))])
def test_a_stream_can_be_copied_and_pickled(stream, clone):
    other = clone(stream)
    assert other.batch == N
    expect_next_steps(other, next_steps(stream))


def test_a_pool_cannot_be_pickled(model):
    with pytest.raises(TypeError, match=r"pickle pool.snapshot\(ids\)"):
        pickle.dumps(model.pool(2))


def test_a_snapshot_is_pickled_without_the_model(snapshot):
    pickled = pickle.dumps(snapshot)
    assert len(pickled) < snapshot.rows.nbytes + 500
    assert np.array_equal(pickle.loads(pickled).rows, snapshot.rows)


OTHER_PROCESS = """
import pickle, sys
import numpy as np
import gated_c as gc
model_path, snapshot_path, x_path, y_path = sys.argv[1:]
stream = gc.load(model_path).stream(3)
stream.restore(gc.Snapshot.load(snapshot_path))
np.save(y_path, np.stack([stream.step(x).copy() for x in np.load(x_path)]))
stream.snapshot().save(snapshot_path)
"""


def test_between_processes_with_other_instruction_sets(model, stream, snapshot, tmp_path):
    paths = [tmp_path / name for name in ("m.gated", "s.npy", "x.npy", "y.npy")]
    x = np.stack([inputs(seed) for seed in range(10, 14)])
    model.save(paths[0])
    snapshot.save(paths[1])
    np.save(paths[2], x)
    environment = {**os.environ, "GATED_C_ISA": EXACT[0]}
    subprocess.run([sys.executable, "-c", OTHER_PROCESS, *paths], env=environment, check=True)
    assert same_bits(np.load(paths[3]), np.stack(next_steps(stream)))
    assert np.array_equal(gc.Snapshot.load(paths[1]).rows, stream.snapshot().rows)


def test_save_and_load(snapshot, tmp_path):
    path = tmp_path / "state"
    path.write_bytes(b"old")
    snapshot.save(path)
    assert np.array_equal(gc.Snapshot.load(path).rows, snapshot.rows)
    assert os.listdir(tmp_path) == ["state"]


def test_nobody_s_snapshot_can_be_saved_too(model, tmp_path):
    model.pool(1).snapshot([]).save(tmp_path / "none")
    assert gc.Snapshot.load(tmp_path / "none").rows.shape == (0, model.stream().snapshot().rows.shape[1])


def test_a_failed_save_leaves_the_file_before(snapshot, tmp_path, monkeypatch):
    path = tmp_path / "state"
    snapshot.save(path)
    before = path.read_bytes()

    def fail(file, *args, **kwargs):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", fail)
    with pytest.raises(OSError, match="No space left"):
        snapshot[:1].save(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["state"]


def test_rows_of_a_snapshot(snapshot):
    assert len(snapshot) == N
    assert [row.rows.tobytes() for row in snapshot] == [row.tobytes() for row in snapshot.rows]
    assert np.array_equal(snapshot[-1].rows, snapshot.rows[-1:])
    assert np.array_equal(snapshot[[2, 0]].rows, snapshot.rows[[2, 0]])
    assert np.array_equal(snapshot[1:].rows, snapshot.rows[1:])
    assert np.array_equal(snapshot[np.array([True, False, True])].rows, snapshot.rows[::2])
    assert repr(snapshot) == f"<gated_c.Snapshot of 3 rows, {snapshot.rows.nbytes} bytes>"
    for beyond in (N, (0, 3), (slice(None), slice(0, 40))):
        with pytest.raises(IndexError):
            snapshot[beyond]


def other_activation(rng):
    layers = recurrent(rng)
    return [*layers[:1], random_spec(rng, "gru", 3, 20, activations=(gc.Activation.of("sigmoid"),) * 2)]


def other_cell(rng):
    return [*recurrent(rng)[:1], random_spec(rng, "gru_reset_before", 3, 20)]


def other_size(rng):
    return [*recurrent(rng)[:1], random_spec(rng, "gru", 3, 21)]


@pytest.mark.parametrize("layers", [other_activation, other_cell, other_size, network, vector])
def test_a_snapshot_of_other_layers_changes_nothing(layers):
    stream, foreign = make(recurrent).stream(N), make(layers).stream(N).snapshot()
    stream.step(inputs())
    before = stream.snapshot().rows
    with pytest.raises(ValueError, match="snapshot: row 0: a snapshot of a model with other layers, sizes or options"):
        stream.restore(foreign)
    pool = make(recurrent).pool(N)
    with pytest.raises(ValueError, match="other layers"):
        pool.restore([pool.open() for _ in range(N)], foreign)
    assert np.array_equal(stream.snapshot().rows, before)


def test_a_snapshot_fits_a_model_with_other_weights(model, snapshot):
    layers = LAYERS[["lstm", "conv", "rnn"].index(kind_of(model))]
    other = make(layers, seed=9).stream(N)
    other.restore(snapshot)
    assert np.array_equal(other.snapshot().rows, snapshot.rows)


def kind_of(model):
    if isinstance(model.layers[0], L.Masking):
        return "conv"
    return "rnn" if len(model.recurrent) == 1 else "lstm"


@pytest.mark.parametrize("wrong", [None, b"", np.zeros((N, 40), np.uint8)])
def test_only_a_snapshot_can_be_restored(stream, wrong):
    with pytest.raises(TypeError, match="snapshot: expected a Snapshot, got"):
        stream.restore(wrong)


def test_a_snapshot_of_another_number_of_rows_changes_nothing(model, stream, snapshot):
    pool = model.pool(N)
    id = pool.open()
    for target, count in ((stream.restore, N), (lambda s: pool.restore(id, s), 1)):
        with pytest.raises(ValueError, match=f"snapshot: expected {count} rows, got 2"):
            target(snapshot[:2])
    assert np.array_equal(stream.snapshot().rows, snapshot.rows)


def test_every_changed_bit_is_noticed(snapshot):
    row = snapshot.rows[:1]
    for place in range(row.shape[1]):
        damaged = row.copy()
        damaged[0, place] ^= 1 << place % 8
        with pytest.raises(ValueError, match="row 0: the bytes are not a snapshot, or are damaged"):
            gc.Snapshot(damaged)


@pytest.mark.parametrize(
    "rows", [np.zeros((1, 0), np.uint8), np.zeros((2, 31), np.uint8), np.zeros((1, 32), np.uint8), b"abc", [[1.0]]]
)
def test_other_bytes_are_no_snapshot(rows):
    with pytest.raises(ValueError, match=r"row 0: the bytes are not a snapshot|rows: expected uint8 \(N, size\)"):
        gc.Snapshot(rows)


def checksum(covered):
    """As src/snapshot.c has it, of the structure and the payload."""
    value = 0xCBF29CE484222325
    for (word,) in struct.iter_unpack("<Q", covered):
        value = ((value ^ word) * 0x100000001B3) % 2**64
        value ^= value >> 32
    return value


def forged(row, place, value):
    """A row with another int64 in it, and the checksum to go with it."""
    payload = bytearray(row[HEADER:].tobytes())
    struct.pack_into("<q", payload, place, value)
    head = row[: HEADER - 8].tobytes()
    whole = head + struct.pack("<Q", checksum(head[16:] + bytes(payload))) + bytes(payload)
    return np.frombuffer(whole, np.uint8)[None]


@pytest.mark.parametrize("count", [-1, 2**63 - 1])
def test_a_count_that_no_pool_can_have_is_refused(count):
    stream = make(network).stream()
    stream.step(inputs(batch=1))
    row = stream.snapshot().rows[0]
    # h [9], c [9], the convolution's 4 steps of 4, whether a step has counted, the sum [9], and of how many steps.
    state, before, mean = 4 * 18, 4 * 16, 4 * 9
    for place in (state + before, state + before + 8 + mean):
        assert row[HEADER + place : HEADER + place + 8].view(np.int64)[0] == 1
        fits = gc.Snapshot(forged(row, place, 5))
        stream.restore(fits)
        with pytest.raises(ValueError, match="row 0: the bytes are not a snapshot, or are damaged"):
            stream.restore(gc.Snapshot(forged(row, place, count)))
        assert np.array_equal(stream.snapshot().rows, fits.rows)


def damaged_files(whole):
    yield "empty", b"", "not a .npy file"
    yield "truncated header", whole[:20], "not a .npy file"
    yield "truncated", whole[:-1], "truncated: header says"
    yield "changed", whole[:-9] + b"\xff" + whole[-8:], "row 2: .* damaged"
    yield "text", b"hello" * 100, "not a .npy file"
    yield "other type", whole.replace(b"|u1", b"|i1"), "rows: expected uint8"
    yield "objects", whole.replace(b"|u1", b"|O "), "object arrays|not a .npy file"
    yield "a row less", whole.replace(b"(3, ", b"(2, "), "no bytes behind the array"
    yield "more behind it", whole + b"\0", "no bytes behind the array"
    yield "huge", whole.replace(b"(3, ", b"(9999999999999, "), "not a .npy file|truncated"


@pytest.mark.parametrize("name", [name for name, _, _ in damaged_files(b"")])
def test_damaged_files_are_format_errors(name, snapshot, tmp_path):
    path = tmp_path / "state"
    snapshot.save(path)
    (content, message), *_ = [(c, m) for n, c, m in damaged_files(path.read_bytes()) if n == name]
    path.write_bytes(content)
    with pytest.raises(gc.FormatError, match=message) as error:
        gc.Snapshot.load(path)
    assert str(error.value).startswith(f"{path}: ")


def test_a_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        gc.Snapshot.load(tmp_path / "none")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(gc.FormatError, match="expected a regular file"):
        gc.Snapshot.load(tmp_path / "pipe")
