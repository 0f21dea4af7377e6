"""The promise of equal bits: a row's result depends on the model, its input and its initial state, and on nothing else.

Every way of computing the same row is compared, bit for bit, with the row run alone on the first exact instruction set.
tests/test_compilers.py adds the compilers and NEON.
"""

import numpy as np
import pytest
from conftest import EXACT, TORCH_CELLS, parts, random_spec, random_state, same_bits, state_of

import gated_c as gc
from gated_c.spec import Activation

SEQ_LEN, BATCH = 75, 11

#: Sizes that take different kernels: one padded block, a narrow table, several blocks, input products computed ahead.
SHAPES = [(1, 1), (3, 8), (1, 20), (17, 16), (5, 33), (40, 40), (64, 64), (60, 100), (130, 129)]

OPTIONS = {
    "plain": {},
    "stacked": {"num_layers": 3},
    "projected": {"proj_size": 7, "num_layers": 2},
    "bidirectional": {"num_layers": 2, "bidirectional": True},
    "without bias": {"bias": False},
}

ACTIVE = (Activation.of("hard_sigmoid"), Activation.of("softplus"), Activation.of("gelu"))

#: Beyond PyTorch's cells.
GENERAL = {
    "lstm": {"activations": ACTIVE, "clip": 0.9, "peepholes": True},
    "gru": {"activations": ACTIVE[:2], "num_layers": 2},
    "gru_reset_before": {"num_layers": 2},
    "rnn": {"activations": (Activation.of("mish"),)},
}


#: What models are narrowed to: x beside h in other kernels, and in a format of its own.
NARROW = {
    "int8": {"dtype": "int8"},
    "int8-float32": {"dtype": "int8", "inputs": "float32"},
    "int8-bfloat16": {"dtype": "int8", "inputs": "bfloat16"},
}


class Rows:
    """A model's results for each row run alone, and the inputs to run it in other ways."""

    def __init__(self, spec, rng, options):
        self.spec, self.options = spec, options
        self.x = rng.standard_normal((SEQ_LEN, BATCH, spec.input_size)).astype(np.float32)
        self.x[10:14, 2] *= 1e-40  # subnormals
        self.x[20, 3] = 1e30  # saturation
        self.h, self.c = random_state(rng, spec, BATCH)
        self.model = gc.Model([spec], **options)
        self.y, self.state = self.alone(self.model)

    def initial(self, rows=slice(None)):
        return state_of(self.spec, self.h[:, rows], self.c[:, rows])

    def alone(self, model, seq_len=SEQ_LEN):
        results = [model(self.x[:seq_len, [n]], self.initial([n])) for n in range(BATCH)]
        y = np.concatenate([y for y, _ in results], 1)
        states = zip(*(parts(state) for _, state in results), strict=True)
        return y, tuple(np.concatenate(part, 1) for part in states)

    def expect(self, y, state):
        assert same_bits(y, self.y)
        for part, expected in zip(parts(state), self.state, strict=True):
            assert same_bits(part, expected)


def narrow_cases(inputs):
    for cell in TORCH_CELLS:
        for shape in [(5, 33), (64, 64)] if inputs else [(1, 1), (3, 8), (1, 20), (5, 33), (64, 64), (60, 100)]:
            yield cell, shape, {}
    for cell, options in GENERAL.items():
        yield cell, (60, 100), options
    for name in ("projected", "bidirectional"):
        yield "lstm", (60, 100), OPTIONS[name]


def cases():
    for cell, options in GENERAL.items():
        for shape in [(3, 8), (5, 33), (64, 64), (60, 100)]:
            yield pytest.param((cell, shape, options, {}), id=f"{cell}-{shape[0]}x{shape[1]}-general")
    for cell in TORCH_CELLS:
        for name, options in OPTIONS.items():
            if "proj_size" in options and cell != "lstm":
                continue
            for shape in SHAPES if name == "plain" else [(3, 8), (40, 40), (60, 100)]:
                yield pytest.param((cell, shape, options, {}), id=f"{cell}-{shape[0]}x{shape[1]}-{name}")
    for name, narrow in NARROW.items():
        for cell, shape, options in narrow_cases("inputs" in narrow):
            yield pytest.param((cell, shape, options, narrow), id=f"{cell}-{shape[0]}x{shape[1]}-{name}-{len(options)}")


@pytest.fixture(params=cases(), scope="module")
def rows(request):
    cell, (input_size, hidden_size), options, narrow = request.param
    rng = np.random.default_rng(hidden_size)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GATED_C_ISA", EXACT[0])
        return Rows(random_spec(rng, cell, input_size, hidden_size, gain=1.5, **options), rng, narrow)


@pytest.fixture(params=EXACT)
def model(request, rows, monkeypatch):
    monkeypatch.setenv("GATED_C_ISA", request.param)
    model = gc.Model([rows.spec], **rows.options)
    assert model.isa == request.param
    return model


def test_alone_on_every_isa(rows, model):
    rows.expect(*rows.alone(model))


def test_in_a_batch_of_any_size_at_any_position(rows, model):
    rows.expect(*model(rows.x, rows.initial()))
    for batch in (2, 3, 4, 5, 6, 7, 8, 9):
        some = np.arange(BATCH)[::-1][:batch]
        y, state = model(rows.x[:, some], rows.initial(some))
        assert same_bits(y, rows.y[:, some])
        assert all(same_bits(a, b[:, some]) for a, b in zip(parts(state), rows.state, strict=True))


def test_beside_rows_of_any_length(rows, model):
    rng = np.random.default_rng(1)
    for row in (0, 4, BATCH - 1):
        lengths = rng.integers(0, SEQ_LEN + 1, BATCH)
        lengths[row] = SEQ_LEN
        y, state = model(rows.x, rows.initial(), lengths=lengths)
        assert same_bits(y[:, row], rows.y[:, row])
        assert all(same_bits(a[:, row], b[:, row]) for a, b in zip(parts(state), rows.state, strict=True))


def test_with_masked_steps_between_its_own(rows, model):
    rng = np.random.default_rng(2)
    live = np.sort(rng.permutation(3 * SEQ_LEN)[:SEQ_LEN])
    x = rng.standard_normal((3 * SEQ_LEN, BATCH, rows.spec.input_size)).astype(np.float32)
    mask = np.zeros(x.shape[:2], bool)
    x[live], mask[live] = rows.x, True
    y, state = model(x, rows.initial(), mask=mask)
    rows.expect(y[live], state)


def test_batch_first_and_strided_input(rows, model):
    wide = np.zeros((BATCH, SEQ_LEN, rows.spec.input_size + 3), np.float32)
    wide[..., : rows.spec.input_size] = rows.x.swapaxes(0, 1)
    y, state = model(wide[..., : rows.spec.input_size].swapaxes(0, 1), rows.initial())
    rows.expect(y, state)


@pytest.mark.parametrize("narrow", [{}, *NARROW.values()])
def test_ragged_rows_whose_input_products_are_computed_ahead_together(narrow):
    # Weights over 8 MiB: up to eight rows and 128 steps at once.
    rng = np.random.default_rng(0)
    model = gc.Model([random_spec(rng, "lstm", 600, 512)], **narrow)
    x = rng.standard_normal((140, 8, 600)).astype(np.float32)
    lengths = [140, 3, 77, 140, 0, 33, 139, 50]
    y, _ = model(x, lengths=lengths)
    for n, length in enumerate(lengths):
        assert same_bits(y[:length, n], model(x[:length, [n]])[0][:, 0])


def test_cut_into_calls_of_any_length(rows, model):
    if rows.spec.bidirectional:
        pytest.skip("a reverse direction cannot be cut")
    for pieces in ([1] * SEQ_LEN, [7] * 11, [32, 33, 10], [74, 1]):
        state, outputs, at = rows.initial(), [], 0
        for piece in pieces:
            y, state = model(rows.x[at : at + piece], state)
            outputs.append(y)
            at += piece
        rows.expect(np.concatenate(outputs), state)


def test_step_by_step_and_run_in_a_stream(rows, model):
    if rows.spec.bidirectional:
        pytest.skip("a stream has no reverse direction")
    stream = model.stream(BATCH)
    stream.state = rows.initial()
    steps = [stream.step(x).copy() for x in rows.x]
    rows.expect(np.stack(steps), stream.state)
    stream.state = rows.initial()
    pieces = [stream.run(rows.x[:5]), stream.step(rows.x[5]).copy()[None], stream.run(rows.x[6:])]
    rows.expect(np.concatenate(pieces), stream.state)
