"""What a Model takes, refuses and says."""

import copy
import pickle
import threading

import numpy as np
import pytest
from conftest import parts, random_spec, same_bits

import gated_c as gc

T, N, C, H = 5, 3, 4, 10


def make(cell="lstm", **options):
    return gc.Model([random_spec(np.random.default_rng(0), cell, C, H, **options)])


@pytest.fixture
def model():
    return make()


@pytest.fixture
def x():
    return np.random.default_rng(1).standard_normal((T, N, C)).astype(np.float32)


def test_sizes_and_memory(model):
    assert (model.input_size, model.output_size, model.batch_first, model.bidirectional) == (C, H, False, False)
    assert model.num_parameters == 4 * H * (C + H + 2)
    assert model.packed_bytes >= 4 * 4 * H * (C + H + 1)
    assert model.isa == gc.cpu_info().chosen
    assert "lstm" in repr(model)
    assert make(bidirectional=True).output_size == 2 * H


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int32, np.bool_])
def test_other_real_dtypes_are_converted(model, x, dtype):
    given = x.astype(dtype)
    y, _ = model(given)
    assert same_bits(y, model(given.astype(np.float32))[0])


def test_lists_strides_byte_order_and_broadcasts_are_copied_right(model, x):
    y, _ = model(x)
    assert same_bits(model(x.tolist())[0], y)
    assert same_bits(model(np.asfortranarray(x))[0], y)
    assert same_bits(model(np.repeat(x, 2, -1)[..., ::2])[0], y)
    assert same_bits(model(x.astype(">f4"))[0], y)
    assert same_bits(model(x[::-1].copy()[::-1])[0], y)
    unaligned = np.frombuffer(b"\0" + x.tobytes(), np.uint8)[1:].view(np.float32).reshape(x.shape)
    assert same_bits(model(unaligned)[0], y)
    one = x[:, :1]
    assert same_bits(model(np.broadcast_to(one, x.shape))[0], np.repeat(model(one)[0], N, 1))


def test_read_only_input_is_used(model, x):
    x.flags.writeable = False
    model(x)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.zeros((T, N, C + 1)), r"x: expected \(T, N, 4\) or \(T, 4\), got \(5, 3, 5\)"),
        (np.zeros(C), r"x: expected .* got \(4,\)"),
        (np.zeros((1, T, N, C)), r"x: expected .* got \(1, 5, 3, 4\)"),
        (np.float32(1), r"x: expected .* got \(\)"),
    ],
)
def test_wrong_input_shape(model, bad, message):
    with pytest.raises(ValueError, match=message):
        model(bad)


@pytest.mark.parametrize("bad", [np.zeros((T, N, C), complex), np.full((T, N, C), "a"), None, {}])
def test_wrong_input_type(model, bad):
    with pytest.raises(TypeError, match="x: expected real numbers, got"):
        model(bad)


@pytest.mark.parametrize(
    ("state", "error", "message"),
    [
        (np.zeros((1, N, H)), TypeError, r"state: expected \(h, c\), got ndarray"),
        ((np.zeros((1, N, H)),), TypeError, r"state: expected \(h, c\), got tuple"),
        ((np.zeros((1, N, H - 1)), np.zeros((1, N, H))), ValueError, r"h0: expected \(1, 3, 10\), got \(1, 3, 9\)"),
        ((np.zeros((1, N, H)), np.zeros((2, N, H))), ValueError, r"c0: expected \(1, 3, 10\), got \(2, 3, 10\)"),
        ((np.zeros((1, N, H)), np.zeros((1, N, H), complex)), TypeError, "c0: expected real numbers, got complex128"),
    ],
)
def test_wrong_state(model, x, state, error, message):
    with pytest.raises(error, match=message):
        model(x, state)


def test_a_cell_without_c_takes_h_alone(x):
    model = make("gru")
    with pytest.raises(ValueError, match=r"h0: expected \(1, 3, 10\), got \(2, 1, 3, 10\)"):
        model(x, (np.zeros((1, N, H)), np.zeros((1, N, H))))
    model(x, np.zeros((1, N, H)))


@pytest.mark.parametrize(
    ("lengths", "error", "message"),
    [
        ([1, 2], ValueError, r"lengths: expected \(3,\), got \(2,\)"),
        ([1, -1, 2], ValueError, "lengths: expected 0 to 5, got -1 in row 1"),
        ([1, 2, T + 1], ValueError, "lengths: expected 0 to 5, got 6 in row 2"),
        ([1.0, 2.0, 3.0], TypeError, "lengths: expected integers, got float64"),
        ([1, np.nan, 3], TypeError, "lengths: expected integers, got float64"),
        (3, ValueError, r"lengths: expected \(3,\), got \(\)"),
        (
            np.array([2**63], np.uint64).repeat(3),
            ValueError,
            "lengths: expected 0 to 5, got 9223372036854775808 in row 0",
        ),
    ],
)
def test_wrong_lengths(model, x, lengths, error, message):
    with pytest.raises(error, match=message):
        model(x, lengths=lengths)


@pytest.mark.parametrize(
    ("mask", "error", "message"),
    [
        (np.ones((N, T), bool), ValueError, r"mask: expected \(5, 3\), got \(3, 5\)"),
        (np.ones((T, N)), TypeError, "mask: expected bool, got float64"),
        (np.ones(T, bool), ValueError, r"mask: expected \(5, 3\), got \(5,\)"),
    ],
)
def test_wrong_mask(model, x, mask, error, message):
    with pytest.raises(error, match=message):
        model(x, mask=mask)


def test_a_masked_array_is_refused_rather_than_unmasked(model, x):
    with pytest.raises(TypeError, match="x: expected a plain array, got a masked one"):
        model(np.ma.masked_array(x, x > 0))


def test_lengths_and_mask_exclude_each_other(model, x):
    with pytest.raises(ValueError, match="at most one"):
        model(x, lengths=[T] * N, mask=np.ones((T, N), bool))


def test_out_receives_y(model, x):
    y, _ = model(x)
    out = np.empty_like(y)
    assert model(x, out=out)[0] is out
    assert same_bits(out, y)


def test_out_is_zeroed_where_no_step_is_live(model, x):
    out = np.full((T, N, H), 7, np.float32)
    model(x, out=out, lengths=[0, 2, 5])
    assert not out[:, 0].any()
    assert not out[2:, 1].any()


@pytest.mark.parametrize(
    ("out", "error", "message"),
    [
        (np.empty((T, N, H + 1), np.float32), ValueError, r"out: expected \(5, 3, 10\), got \(5, 3, 11\)"),
        (np.empty((T, N, H)), TypeError, "out: expected float32, got float64"),
        ([[0]], TypeError, "out: expected a numpy array, got list"),
        (np.empty((T, N, 2 * H), np.float32)[..., ::2], ValueError, "out: expected a writeable C-contiguous array"),
        (np.broadcast_to(np.float32(0), (T, N, H)), ValueError, "out: expected a writeable C-contiguous array"),
    ],
)
def test_wrong_out(model, x, out, error, message):
    with pytest.raises(error, match=message):
        model(x, out=out)


def test_out_must_not_overlap_x():
    model = gc.Model([random_spec(np.random.default_rng(0), "lstm", H, H)])
    x = np.zeros((T, N, H), np.float32)
    with pytest.raises(ValueError, match="out: expected memory apart from x"):
        model(x, out=x)


def test_results_are_new_arrays(model, x):
    y, state = model(x)
    before = y.copy(), state[0].copy()
    model(x, state)
    assert same_bits(y, before[0])
    assert same_bits(state[0], before[1])


def test_nan_stays_in_its_row(model, x):
    clean, _ = model(x)
    x[2, 1, 0] = np.nan
    y, (h, c) = model(x)
    assert same_bits(y[:, [0, 2]], clean[:, [0, 2]])
    assert same_bits(y[:2, 1], clean[:2, 1])
    assert np.isnan(y[2:, 1]).all()
    assert np.isnan(h[:, 1]).all()
    assert np.isnan(c[:, 1]).all()


def test_a_model_pickles_and_copies(model, x):
    for other in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        assert same_bits(other(x)[0], model(x)[0])


def test_threads_share_one_model(model, x):
    expected, _ = model(x)
    wrong = []

    def work():
        for _ in range(200):
            if not same_bits(model(x)[0], expected):
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_model_has_a_recurrent_layer():
    with pytest.raises(ValueError, match="layers: expected at least one LSTM, GRU or RNN, got none"):
        gc.Model([])


def test_a_model_is_made_of_layers():
    with pytest.raises(TypeError, match="layers: expected layers such as LayerSpec and Dense, got NoneType"):
        gc.Model([None])


def test_a_long_ragged_batch_needs_no_memory_for_its_dead_steps():
    model = make("gru")
    x = np.zeros((4000, 2, C), np.float32)
    y, state = model(x, lengths=[4000, 1])
    assert not y[1:, 1].any()
    assert parts(state)[0].shape == (1, 2, H)
