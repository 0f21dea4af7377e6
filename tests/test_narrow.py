"""The grids that narrow weights are rounded to."""

import pickle
from fractions import Fraction

import numpy as np
import pytest
from conftest import same_bits
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gated_c.narrow import Bfloat16, Int8, NarrowWeights, narrowed

LARGEST, SMALLEST = np.finfo(np.float32).max, np.finfo(np.float32).tiny

BITS = st.integers(0, 2**32 - 1)
SHAPES = st.tuples(st.integers(1, 4), st.integers(1, 6))

#: Rows as they are, and those of subnormal and enormous numbers, zeros, and what is not finite.
SPECIAL = st.sampled_from([0.0, -0.0, 1e-45, -1e-40, SMALLEST, 1.5e-36, LARGEST, -LARGEST, np.inf, -np.inf, np.nan])
USUAL = st.floats(-4, 4, width=32)
ANY = st.floats(width=32)
MATRICES = st.one_of(*(arrays(np.float32, SHAPES, elements=of) for of in (USUAL, ANY, st.one_of(SPECIAL, USUAL))))


def floats(*bits):
    return np.array(bits, np.uint32).view(np.float32)


@given(arrays(np.uint32, st.integers(1, 20), elements=BITS))
def test_bfloat16_is_the_nearest_with_ties_to_even(bits):
    weight = bits.view(np.float32)
    rounded = Bfloat16.of(weight).expanded()
    assert np.array_equal(np.isnan(rounded), np.isnan(weight))
    for value, got in zip(weight[~np.isnan(weight)], rounded[~np.isnan(weight)], strict=True):
        lower = int(value.view(np.uint32)) & 0xFFFF0000
        even, odd = sorted(floats(lower, lower + 0x10000), key=lambda one: one.view(np.uint32) >> 16 & 1)
        if np.isfinite((even, odd)).all():
            off_even, off_odd = (abs(Fraction(float(one)) - Fraction(float(value))) for one in (even, odd))
            assert got == (even if off_even <= off_odd else odd)
        else:
            assert got in (even, odd)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (0x3F808000, 0x3F80),  # a tie, to even
        (0x3F818000, 0x3F82),
        (0x3F808001, 0x3F81),
        (0x80000001, 0x8000),  # the smallest subnormal
        (0x7F7FFFFF, 0x7F80),  # the largest number is nearer to infinity
        (0xFF800000, 0xFF80),
        (0x7F800001, 0x7FC0),  # a NaN whose upper half would be infinity
        (0xFFFFFFFF, 0xFFFF),
    ],
)
def test_bfloat16_of_special_numbers(given, expected):
    assert Bfloat16.of(floats(given)).bits == expected


@given(MATRICES)
def test_rounding_twice_changes_nothing(weight):
    for kind in (Bfloat16, Int8):
        once = kind.of(weight)
        twice = kind.of(once.expanded())
        assert same_bits(twice.expanded(), once.expanded())
        assert (once.shape, once.dtype, once.expanded().dtype) == (weight.shape, np.float32, np.float32)


@given(MATRICES)
def test_int8_rounds_each_row_by_its_largest(weight):
    stored = Int8.of(weight)
    assert not (stored.scale.view(np.uint32)[np.isfinite(stored.scale)] & 0xFF).any()  # 16 bits of significand
    for row, q, scale in zip(weight.tolist(), stored.q.tolist(), stored.scale.tolist(), strict=True):
        if not np.isfinite(row).all():
            assert np.isnan(scale)
            assert not any(q)
            continue
        largest = max(Fraction(abs(value)) for value in row)
        if largest < Fraction(float(SMALLEST)) * 127 * (1 - Fraction(1, 2**15)):
            assert scale == 0
            assert not any(q)
            continue
        step = Fraction(scale) / 2**15
        assert max(map(abs, q)) == 127
        if Fraction(scale) * 127 >= largest:
            assert (Fraction(scale) - step) * 127 < largest  # no smaller one of 16 bits would do
        else:
            assert (Fraction(scale) + step) * 127 > Fraction(float(LARGEST))  # the next one is beyond float32
        for value, integer in zip(row, q, strict=True):
            quotient = Fraction(float(np.float32(value) / np.float32(scale)))
            assert integer == min(max(round(quotient), -127), 127)


@given(MATRICES)
def test_int8_products_are_exact(weight):
    stored = Int8.of(weight)
    for q, scale, values in zip(stored.q.tolist(), stored.scale.tolist(), stored.expanded().tolist(), strict=True):
        if np.isfinite(scale):
            assert [Fraction(value) for value in values] == [integer * Fraction(scale) for integer in q]
        else:
            assert np.isnan(values).all()


def test_a_matrix_without_columns_is_zeros():
    stored = Int8.of(np.zeros((3, 0), np.float32))
    assert (stored.shape, stored.scale.tolist()) == ((3, 0), [0, 0, 0])


WEIGHTS = {name: np.float32([[0.3, 1], [0, 2]]) for name in ("weight_ih_l0", "weight_hh_l10_reverse", "bias_ih_l0")}
DTYPES = {"weight_ih": "bfloat16", "weight_hh": "int8"}


def test_weights_are_kept_as_they_are_asked_for():
    weights = narrowed(WEIGHTS, DTYPES)
    assert [type(weight) for weight in weights.stored.values()] == [Bfloat16, Int8, np.ndarray]
    assert (list(weights), len(weights)) == (list(WEIGHTS), 3)
    assert same_bits(weights["weight_ih_l0"], Bfloat16.of(WEIGHTS["weight_ih_l0"]).expanded())
    assert weights["bias_ih_l0"] is WEIGHTS["bias_ih_l0"]
    assert narrowed(weights, DTYPES) is weights


def test_weights_that_are_asked_for_in_float32_keep_their_numbers():
    weights = narrowed(WEIGHTS, DTYPES)
    wide = narrowed(weights, {})
    assert isinstance(wide, dict)
    assert all(same_bits(wide[name], weights[name]) for name in WEIGHTS)
    assert narrowed(WEIGHTS, {}) is WEIGHTS


def test_weights_are_pickled_as_they_are_kept():
    weights = NarrowWeights({"w": Int8.of(np.ones((100, 100), np.float32))})
    pickled = pickle.dumps(weights)
    assert len(pickled) < 11_000
    assert same_bits(pickle.loads(pickled)["w"], weights["w"])
