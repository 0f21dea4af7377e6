"""Every cell and option against the float64 equations and against torch."""

import numpy as np
import pytest
import reference
from conftest import CELLS, SIZES, TORCH_CELLS, parts, random_spec, random_state, state_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import gated_c as gc
from gated_c.spec import ACTIVATIONS, Activation
from gated_c.writers.torch_module import torch_module

torch = pytest.importorskip("torch")
torch.set_num_threads(1)

SETTINGS = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

#: What a layer promises at ordinary weights, whose pre-activations are sums of magnitude up to 8.
TOLERANCE = 1e-6

#: Half a unit in the last place of 1: the relative error of one rounding.
ROUNDING = 2.0**-24


def tolerance(spec, x, largest):
    """The promised error, or more where pre-activations are large. A sum of products that are together of magnitude M
    takes K roundings of partial sums; those are of random sign, so their errors add up to about M * 2^-24. Twice that,
    relative to the largest output, for each layer."""
    largest = max(1, float(largest))
    magnitude = 0.0
    for layer, suffix in spec.suffixes():
        inputs = np.abs(x).max((0, 1), initial=0) if layer == 0 else np.full(spec.output_size, largest)
        w = {name.removesuffix(suffix): np.abs(value) for name, value in spec.weights.items() if name.endswith(suffix)}
        sums = w["weight_ih"] @ inputs + w["weight_hh"].sum(1) * largest
        sums += w.get("bias_ih", 0) + w.get("bias_hh", 0)
        magnitude = max(magnitude, float(sums.max()))
    return max(TOLERANCE, 2 * magnitude * ROUNDING) * largest * spec.num_layers


#: Activations that keep a state from growing over time; each function alone is tested in test_activations.py.
BOUNDED = ["sigmoid", "tanh", "hard_sigmoid", "scaled_tanh", "softsign", "hard_tanh", "relu6"]
GATES = ["sigmoid", "hard_sigmoid"]


@st.composite
def options(draw, cell, directions):
    """What a cell does beyond PyTorch's."""
    chosen = {"reverse": directions == 1 and draw(st.booleans())}
    if cell not in ACTIVATIONS:
        return chosen
    if cell == "rnn" or draw(st.booleans()):
        chosen["activations"] = tuple(
            Activation.of(
                draw(st.sampled_from(GATES if which == 0 and cell != "rnn" else BOUNDED)),
                *draw(st.sampled_from([(None, None), (0.4, 0.25)])),
            )
            for _ in range(directions)
            for which in range(ACTIVATIONS[cell])
        )
    chosen["clip"] = draw(st.sampled_from([0.0, 0.0, 0.5]))
    if cell == "lstm":
        for option in ("clip_output", "input_forget", "peepholes"):
            chosen[option] = draw(st.booleans())
    return chosen


@st.composite
def cases(draw, cells=CELLS):
    cell = draw(st.sampled_from(cells))
    hidden_size = draw(st.sampled_from(SIZES))
    projection = draw(st.integers(0, hidden_size - 1)) if cell == "lstm" and draw(st.booleans()) else 0
    bidirectional = draw(st.booleans())
    extra = {} if cells is TORCH_CELLS else draw(options(cell, 2 if bidirectional else 1))
    return extra | {
        "cell": cell,
        "input_size": draw(st.sampled_from(SIZES)),
        "hidden_size": hidden_size,
        "proj_size": projection,
        "num_layers": draw(st.integers(1, 3)),
        "bidirectional": bidirectional,
        "bias": draw(st.booleans()),
        "batch_first": draw(st.booleans()),
        "seq_len": draw(st.sampled_from([0, 1, 2, 5, 33, 70])),
        "batch": draw(st.sampled_from([1, 2, 3, 7, 13])),
        "with_state": draw(st.booleans()),
        "seed": draw(st.integers(0, 2**32 - 1)),
    }


def setup(case):
    case = dict(case)
    rng = np.random.default_rng(case.pop("seed"))
    seq_len, batch, with_state = case.pop("seq_len"), case.pop("batch"), case.pop("with_state")
    spec = random_spec(rng, case.pop("cell"), case.pop("input_size"), case.pop("hidden_size"), **case)
    x = rng.standard_normal((seq_len, batch, spec.input_size)).astype(np.float32)
    h, c = random_state(rng, spec, batch) if with_state else (None, None)
    return spec, x, h, c


def run(spec, x, h, c, **options):
    """The model on time-major x, y time-major again."""
    model = gc.Model([spec])
    x = x.swapaxes(0, 1) if spec.batch_first else x
    y, state = model(x, None if h is None else state_of(spec, h, c), **options)
    return (y.swapaxes(0, 1) if spec.batch_first else y), state


def error(actual, expected):
    return float(np.max(np.abs(actual - expected), initial=0))


@SETTINGS
@given(case=cases())
def test_equals_the_float64_equations(isa, case):
    spec, x, h, c = setup(case)
    y, state = run(spec, x, h, c)
    expected_y, expected_h, expected_c = reference.forward(spec, x, h, c)
    assert error(y, expected_y) <= tolerance(spec, x, np.abs(expected_y).max(initial=0))
    for part, expected in zip(parts(state), (expected_h, expected_c), strict=False):
        assert error(part, expected) <= tolerance(spec, x, np.abs(expected).max())


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@SETTINGS
@given(case=cases(TORCH_CELLS))
def test_equals_torch(case):
    spec, x, h, c = setup({**case, "seq_len": max(case["seq_len"], 1)})
    y, state = run(spec, x, h, c)
    with torch.inference_mode():
        module, given_x = torch_module(spec), torch.from_numpy(x.swapaxes(0, 1) if spec.batch_first else x)
        initial = None if h is None else state_of(spec, torch.from_numpy(h), torch.from_numpy(c))
        expected_y, expected = module(given_x, initial)
    expected_y = expected_y.numpy().swapaxes(0, 1) if spec.batch_first else expected_y.numpy()
    assert error(y, expected_y) <= 2 * tolerance(spec, x, np.abs(expected_y).max())  # torch rounds as well
    for part, other in zip(parts(state), parts(expected), strict=True):
        assert part.shape == tuple(other.shape)
        assert error(part, other.numpy()) <= 2 * tolerance(spec, x, other.abs().max())


@SETTINGS
@given(case=cases(), data=st.data())
def test_masked_steps_change_nothing_but_their_zero_output(isa, case, data):
    spec, x, h, c = setup(case)
    rng = np.random.default_rng(case["seed"])
    mask = rng.random(x.shape[:2]) < data.draw(st.sampled_from([0.0, 0.2, 0.7, 1.0]))
    y, state = run(spec, x, h, c, mask=mask.T if spec.batch_first else mask)
    expected_y, expected_h, expected_c = reference.forward(spec, x, h, c, mask)
    assert error(y, expected_y) <= tolerance(spec, x, np.abs(expected_y).max(initial=0))
    assert not y[~mask].any()
    for part, expected in zip(parts(state), (expected_h, expected_c), strict=False):
        assert error(part, expected) <= tolerance(spec, x, np.abs(expected).max())


@SETTINGS
@given(case=cases(), data=st.data())
def test_lengths_equal_the_mask_that_says_the_same(case, data):
    spec, x, h, c = setup(case)
    seq_len, batch = x.shape[:2]
    lengths = data.draw(st.lists(st.integers(0, seq_len), min_size=batch, max_size=batch))
    mask = np.arange(seq_len)[:, None] < np.array(lengths)
    y, state = run(spec, x, h, c, lengths=lengths)
    other_y, other = run(spec, x, h, c, mask=mask.T if spec.batch_first else mask)
    assert np.array_equal(y, other_y)
    assert all(np.array_equal(a, b) for a, b in zip(parts(state), parts(other), strict=True))


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize("enforce_sorted", [True, False])
@pytest.mark.parametrize("cell", TORCH_CELLS)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_packed_sequence_comes_back_as_one_and_equals_torch(cell, bidirectional, enforce_sorted):
    rng = np.random.default_rng(5)
    spec = random_spec(rng, cell, 6, 17, num_layers=2, bidirectional=bidirectional)
    lengths = torch.tensor([9, 9, 4, 1] if enforce_sorted else [4, 9, 1, 9])
    x = torch.from_numpy(rng.standard_normal((9, 4, 6)).astype(np.float32))
    packed = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, enforce_sorted=enforce_sorted)
    h, c = (torch.from_numpy(part) for part in random_state(rng, spec, 4))
    module = torch_module(spec)
    y, state = gc.from_torch(module)(packed, state_of(spec, h, c))
    with torch.inference_mode():
        expected_y, expected = module(packed, state_of(spec, h, c))
    assert isinstance(y, torch.nn.utils.rnn.PackedSequence)
    assert torch.equal(y.batch_sizes, expected_y.batch_sizes)
    torch.testing.assert_close(y.data, expected_y.data, rtol=0, atol=4 * TOLERANCE)
    for part, other in zip(parts(state), parts(expected), strict=True):
        torch.testing.assert_close(part, other, rtol=0, atol=4 * TOLERANCE)
    padded, _ = torch.nn.utils.rnn.pad_packed_sequence(y)
    dense, _ = gc.from_torch(module)(x.numpy(), state_of(spec, h.numpy(), c.numpy()), lengths=lengths.numpy())
    assert np.array_equal(padded.numpy(), dense)


def test_packed_state_of_a_wrong_size_is_refused():
    rng = np.random.default_rng(5)
    model = gc.Model([random_spec(rng, "gru", 6, 10)])
    rows = [torch.ones(3, 6), torch.ones(5, 6)]
    packed = torch.nn.utils.rnn.pack_sequence(rows, enforce_sorted=False)
    for batch in (1, 3):
        with pytest.raises(ValueError, match=rf"h0: expected \(1, 2, 10\), got \(1, {batch}, 10\)"):
            model(packed, torch.zeros(1, batch, 10))
    with pytest.raises(ValueError, match="h0: expected"):
        model(packed, (torch.zeros(1, 2, 10), torch.zeros(1, 2, 10)))


def test_packed_indices_that_are_no_permutation_are_refused():
    rng = np.random.default_rng(5)
    model = gc.Model([random_spec(rng, "gru", 6, 10)])
    data, sizes = torch.zeros(50, 6), torch.tensor([50])
    for wrong in ([0], [0] * 50, list(range(51))):
        packed = torch.nn.utils.rnn.PackedSequence(data, sizes, torch.tensor(wrong), torch.tensor(wrong))
        with pytest.raises(ValueError, match="sorted_indices: expected each of the 50 rows once"):
            model(packed, torch.zeros(1, 50, 10))


def test_tensors_are_taken_with_their_gradient_left_behind():
    rng = np.random.default_rng(5)
    model = gc.Model([random_spec(rng, "gru", 6, 10)])
    x = torch.ones(4, 2, 6, requires_grad=True)
    h = torch.ones(1, 2, 10, requires_grad=True)
    assert np.array_equal(model(x, h)[0], model(np.ones((4, 2, 6)), np.ones((1, 2, 10)))[0])


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("cell", TORCH_CELLS)
def test_unbatched_input_is_one_row_without_its_axis(cell, batch_first):
    rng = np.random.default_rng(2)
    spec = random_spec(rng, cell, 3, 9, num_layers=2, bidirectional=True, batch_first=batch_first)
    x = rng.standard_normal((11, 3)).astype(np.float32)
    h, c = random_state(rng, spec, 1)
    model = gc.Model([spec])
    y, state = model(x, state_of(spec, h[:, 0], c[:, 0]), mask=np.arange(11) % 3 > 0)
    row, row_state = run(
        spec,
        x[:, None],
        h,
        c,
        mask=(np.arange(11) % 3 > 0)[(None if batch_first else slice(None)), ...].reshape(
            (1, 11) if batch_first else (11, 1)
        ),
    )
    assert y.shape == (11, 18)
    assert np.array_equal(y, row[:, 0])
    for part, other in zip(parts(state), parts(row_state), strict=True):
        assert part.shape == other[:, 0].shape
        assert np.array_equal(part, other[:, 0])


def test_rows_of_length_zero_keep_their_initial_state(isa):
    rng = np.random.default_rng(3)
    spec = random_spec(rng, "lstm", 4, 10, num_layers=2, bidirectional=True)
    x = rng.standard_normal((6, 3, 4)).astype(np.float32)
    h, c = random_state(rng, spec, 3)
    y, (h_n, c_n) = gc.Model([spec])(x, (h, c), lengths=[0, 6, 0])
    assert not y[:, [0, 2]].any()
    assert np.array_equal(h_n[:, [0, 2]], h[:, [0, 2]])
    assert np.array_equal(c_n[:, [0, 2]], c[:, [0, 2]])


def test_given_state_is_left_alone():
    rng = np.random.default_rng(4)
    spec = random_spec(rng, "lstm", 4, 10)
    h, c = random_state(rng, spec, 2)
    before = h.copy(), c.copy()
    gc.Model([spec])(np.ones((5, 2, 4), np.float32), (h, c))
    assert np.array_equal(h, before[0])
    assert np.array_equal(c, before[1])


@pytest.mark.parametrize("shape", [(0, 3, 4), (5, 0, 4), (0, 0, 4)])
@pytest.mark.parametrize("cell", TORCH_CELLS)
def test_empty_sequences_and_batches_are_results_of_that_shape(cell, shape):
    rng = np.random.default_rng(4)
    spec = random_spec(rng, cell, 4, 10, num_layers=2, bidirectional=True)
    h, c = random_state(rng, spec, shape[1])
    y, state = gc.Model([spec])(np.ones(shape, np.float32), state_of(spec, h, c))
    assert y.shape == (*shape[:2], 20)
    assert all(np.array_equal(a, b) for a, b in zip(parts(state), (h, c), strict=False))
