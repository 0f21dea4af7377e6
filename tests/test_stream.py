"""Live sequences: what a stream takes, keeps and refuses. Equal bits are tested in test_bits.py."""

import numpy as np
import pytest
from conftest import TORCH_CELLS, parts, random_spec, random_state, same_bits, state_of, told_to_threads

import gated_c as gc

C, H, N = 4, 10, 3


def make(cell="lstm", hidden_size=H, **options):
    return gc.Model([random_spec(np.random.default_rng(0), cell, C, hidden_size, **options)])


@pytest.fixture
def stream():
    return make().stream(N)


@pytest.fixture
def x():
    return np.random.default_rng(1).standard_normal((N, C)).astype(np.float32)


def test_step_returns_the_stream_s_own_buffer(stream, x):
    first = stream.step(x)
    value = first.copy()
    second = stream.step(x)
    assert second is first
    assert not np.array_equal(second, value)


def test_step_fills_the_caller_s_buffer(stream, x):
    out = np.empty((N, H), np.float32)
    assert stream.step(x, out) is out
    other = make().stream(N)
    assert same_bits(other.step(x, out=np.empty_like(out)), out)


def test_output_may_be_fed_back():
    model = gc.Model([random_spec(np.random.default_rng(0), "gru", H, H)])
    stream, copies = model.stream(N), model.stream(N)
    y = stream.step(np.ones((N, H), np.float32))
    z = copies.step(np.ones((N, H), np.float32)).copy()
    for _ in range(5):
        y = stream.step(y, y)
        z = copies.step(z).copy()
        assert same_bits(y, z)


@pytest.mark.parametrize("convert", [lambda x: x.astype(np.float64), lambda x: x.tolist(), np.asfortranarray])
def test_other_dtypes_and_layouts_are_converted(stream, x, convert):
    assert same_bits(stream.step(convert(x)).copy(), make().stream(N).step(x))


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        (np.zeros((N, C + 1), np.float32), ValueError, r"x: expected \(3, 4\), got \(3, 5\)"),
        (np.zeros(C, np.float32), ValueError, r"x: expected \(3, 4\), got \(4,\)"),
        (np.zeros((N, C), complex), TypeError, "x: expected real numbers, got complex128"),
        (None, TypeError, "x: expected real numbers, got object"),
    ],
)
def test_wrong_input_changes_nothing(stream, x, bad, error, message):
    stream.step(x)
    before = stream.state
    with pytest.raises(error, match=message):
        stream.step(bad)
    assert all(same_bits(a, b) for a, b in zip(stream.state, before, strict=True))


@pytest.mark.parametrize(
    ("out", "error", "message"),
    [
        (np.empty((N, H + 1), np.float32), ValueError, r"out: expected \(3, 10\), got \(3, 11\)"),
        (np.empty((N, H)), TypeError, "out: expected float32, got float64"),
        (np.broadcast_to(np.float32(0), (N, H)), ValueError, "out: expected a writeable C-contiguous array"),
        ([], TypeError, "out: expected a numpy array, got list"),
    ],
)
def test_wrong_out_changes_nothing(stream, x, out, error, message):
    before = stream.state
    with pytest.raises(error, match=message):
        stream.step(x, out)
    assert all(same_bits(a, b) for a, b in zip(stream.state, before, strict=True))


@pytest.mark.parametrize("cell", TORCH_CELLS)
@pytest.mark.parametrize("steps", [1, 2])
def test_state_is_a_copy_that_can_be_set_again(cell, steps, x):
    stream = make(cell, num_layers=2).stream(N)
    for _ in range(steps):
        stream.step(x)
    saved = stream.state
    expected = [stream.step(x).copy() for _ in range(3)]
    stream.state = saved
    assert all(same_bits(stream.step(x), y) for y in expected)
    assert parts(saved)[0].shape == (2, N, H)


def test_state_of_a_projection_has_two_widths(x):
    stream = make(proj_size=3).stream(N)
    stream.step(x)
    h, c = stream.state
    assert (h.shape, c.shape) == ((1, N, 3), (1, N, H))


def test_wrong_state_changes_nothing(stream, x):
    stream.step(x)
    before = stream.state
    with pytest.raises(ValueError, match=r"c0: expected \(1, 3, 10\), got \(1, 2, 10\)"):
        stream.state = (before[0], before[1][:, :2])
    assert all(same_bits(a, b) for a, b in zip(stream.state, before, strict=True))


def test_reset_is_a_new_stream(stream, x):
    first = stream.step(x).copy()
    stream.step(x)
    stream.reset()
    assert same_bits(stream.step(x), first)


@pytest.mark.parametrize("rows", [1, [1], np.array([False, True, False]), slice(1, 2), [-2]])
def test_reset_of_some_rows_leaves_the_others(stream, x, rows):
    first = stream.step(x).copy()
    second = stream.step(x).copy()
    stream.state = make().stream(N).state
    stream.step(x)
    stream.reset(rows)
    y = stream.step(x)
    assert same_bits(y[1], first[1])
    assert same_bits(y[[0, 2]], second[[0, 2]])


def test_reset_of_a_row_out_of_range_is_an_index_error(stream):
    with pytest.raises(IndexError):
        stream.reset(N)


def test_reset_takes_rows_not_units(stream):
    with pytest.raises(ValueError, match=r"rows: expected .* got \(3, 10\)"):
        stream.reset(np.ones((N, H), bool))


def test_run_into_out_and_batch_first():
    model = make(batch_first=True)
    x = np.random.default_rng(1).standard_normal((N, 50, C)).astype(np.float32)
    out = np.empty((N, 50, H), np.float32)
    assert model.stream(N).run(x, out) is out
    assert same_bits(out, model(x)[0])


def test_run_of_more_steps_than_the_scratch_holds():
    model = make("gru", num_layers=2)
    x = np.random.default_rng(1).standard_normal((9000, 1, C)).astype(np.float32)
    stream = model.stream()
    y = stream.run(x)
    expected, h = model(x)
    assert same_bits(y, expected)
    assert same_bits(stream.state, h)


def test_run_of_no_steps(stream):
    assert stream.run(np.empty((0, N, C), np.float32)).shape == (0, N, H)


@pytest.mark.parametrize("bad", [np.zeros((5, N + 1, C)), np.zeros((N, C)), np.zeros((5, N, C + 1))])
def test_run_of_a_wrong_shape(stream, bad):
    with pytest.raises(ValueError, match=r"x: expected \(T, 3, 4\), got"):
        stream.run(bad)


def test_bidirectional_models_say_why_they_cannot_stream():
    with pytest.raises(ValueError, match=r"bidirectional .* reverse direction starts at the end"):
        make(bidirectional=True).stream()


@pytest.mark.parametrize("batch", [0, -1, 2**40])
def test_a_stream_has_at_least_one_row(batch):
    with pytest.raises(ValueError, match=f"batch: expected 1 to 2147483647, got {batch}"):
        make().stream(batch)


def test_a_stream_has_whole_rows():
    with pytest.raises(TypeError):
        make().stream(1.5)


@pytest.mark.parametrize("wrong", [None, np.zeros(5, np.float32), np.zeros(2 * N * H), np.zeros(10**6, np.float32)])
def test_the_engine_behind_a_stream_takes_no_state_of_another_size(stream, wrong):
    for method in (stream._read_state, stream._write_state):
        with pytest.raises((TypeError, ValueError)):
            method(wrong)


def test_the_model_may_go_while_its_stream_lives(x):
    stream = make().stream(N)
    assert np.isfinite(stream.step(x)).all()


def test_two_threads_in_one_stream_are_told():
    stream = make(hidden_size=1024).stream()
    x = np.zeros((1, C), np.float32)
    told = told_to_threads(lambda: stream.step(x))
    assert told == {"stream: in use by another thread; a stream belongs to one thread at a time"}


def test_states_round_trip_between_a_stream_and_a_sequence_call(x):
    model = make("lstm")
    rng = np.random.default_rng(3)
    h, c = random_state(rng, model.layers[0], N)
    stream = model.stream(N)
    stream.state = state_of(model.layers[0], h, c)
    y, state = model(x[None], (h, c))
    assert same_bits(stream.step(x), y[0])
    assert all(same_bits(a, b) for a, b in zip(stream.state, state, strict=True))
