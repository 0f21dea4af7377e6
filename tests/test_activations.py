"""tanh and sigmoid, as the cells compute them, against float64."""

import numpy as np
import pytest
import reference
from conftest import EXACT, USABLE, same_bits

from gated_c._core import activate
from gated_c.spec import FUNCTIONS, Activation

MAX_ULP = 3

#: A step through all 2^32 bit patterns that visits every exponent thousands of times and every low-bit pattern.
STRIDE = 1021

EXACT_FUNCTIONS = {
    "sigmoid": lambda x: np.where(x >= 0, 1, np.exp(np.minimum(x, 0))) / (1 + np.exp(-np.abs(x))),
    "tanh": np.tanh,
}


@pytest.fixture(scope="module")
def sample():
    """4.2 million float32 values of every sign and exponent, subnormals included, and the busy range once more."""
    bits = np.arange(0, 2**32, STRIDE, np.uint64).astype(np.uint32)
    values = bits.view(np.float32)
    return np.concatenate([values[np.isfinite(values)], np.linspace(-110, 110, 1 << 20, dtype=np.float32)])


def ulp_error(actual, exact):
    """Distance in units of the last place of the exact result's float32 neighbourhood."""
    return np.abs(actual - exact) / np.spacing(np.abs(exact).astype(np.float32)).astype(np.float64)


@pytest.mark.parametrize("isa", USABLE)
@pytest.mark.parametrize("name", EXACT_FUNCTIONS)
def test_within_3_ulp_of_float64(name, isa, sample):
    exact = EXACT_FUNCTIONS[name](sample.astype(np.float64))
    error = ulp_error(activate(Activation.of(name), isa, sample), exact)
    worst = int(np.argmax(error))
    assert error[worst] <= MAX_ULP, f"{name}({sample[worst]!r})"


@pytest.mark.parametrize("isa", USABLE)
@pytest.mark.parametrize(
    ("name", "x", "expected"),
    [
        ("tanh", 0.0, 0.0),
        ("tanh", -0.0, -0.0),
        ("tanh", np.inf, 1.0),
        ("tanh", -np.inf, -1.0),
        ("tanh", 3.4e38, 1.0),
        ("tanh", 10.0, 1.0),
        ("tanh", 1e-45, 1e-45),
        ("tanh", -1e-39, -1e-39),
        ("tanh", np.nan, np.nan),
        ("sigmoid", 0.0, 0.5),
        ("sigmoid", -0.0, 0.5),
        ("sigmoid", np.inf, 1.0),
        ("sigmoid", -np.inf, 0.0),
        ("sigmoid", 3.4e38, 1.0),
        ("sigmoid", -3.4e38, 0.0),
        ("sigmoid", 20.0, 1.0),
        ("sigmoid", -103.0, 1e-45),
        ("sigmoid", np.nan, np.nan),
    ],
)
def test_special_values(isa, name, x, expected):
    # 17 copies, so that whole vectors and the tail are both used.
    actual = activate(Activation.of(name), isa, np.full(17, x, np.float32))
    assert np.array_equal(actual, np.full(17, expected, np.float32), equal_nan=True)
    assert np.array_equal(np.signbit(actual), np.full(17, np.signbit(np.float32(expected)))) or np.isnan(expected)


@pytest.mark.parametrize("isa", EXACT[1:])
@pytest.mark.parametrize("name", EXACT_FUNCTIONS)
def test_same_bits_on_every_exact_isa(name, isa, sample):
    assert same_bits(activate(Activation.of(name), isa, sample), activate(Activation.of(name), EXACT[0], sample))


@pytest.mark.parametrize("isa", USABLE)
def test_tanh_is_odd_and_both_are_monotonic_enough_to_stay_in_range(isa, sample):
    tanh = activate(Activation.of("tanh"), isa, sample)
    sigmoid = activate(Activation.of("sigmoid"), isa, sample)
    assert same_bits(activate(Activation.of("tanh"), isa, -sample), -tanh)
    assert np.abs(tanh).max() == 1
    assert sigmoid.min() == 0
    assert sigmoid.max() == 1


@pytest.mark.parametrize("isa", USABLE)
@pytest.mark.parametrize("count", range(35))
def test_every_array_length_is_filled_and_no_more(isa, count):
    x = np.linspace(-3, 3, count, dtype=np.float32)
    np.testing.assert_allclose(activate(Activation.of("tanh"), isa, x), np.tanh(x), rtol=4e-7)


#: Absolute error of a result of size 1, relative beyond: the cells' tolerance is 1e-6 for a whole layer.
TOLERANCE = 5e-7


@pytest.mark.parametrize("isa", USABLE)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_activation_equals_its_float64_definition(isa, name):
    x = np.concatenate([np.linspace(-60, 60, 20001), np.geomspace(1e-30, 1, 200), -np.geomspace(1e-30, 1, 200)])
    x = x.astype(np.float32)
    parameters = [(None, None)] + ([(0.3, 0.7)] if any(FUNCTIONS[name]) else [])
    for alpha, beta in parameters:
        activation = Activation.of(name, alpha, beta)
        expected = reference.ACTIVATIONS[name](x.astype(np.float64), *np.float32(activation[1:]).astype(np.float64))
        error = np.abs(activate(activation, isa, x) - expected) / np.maximum(1, np.abs(expected))
        worst = int(np.argmax(error))
        assert error[worst] <= TOLERANCE, f"{activation}({x[worst]!r})"


@pytest.mark.parametrize("isa", EXACT[1:])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_activation_has_the_same_bits_on_every_exact_isa(isa, name, sample):
    activation = Activation.of(name)
    ours, theirs = activate(activation, isa, sample), activate(activation, EXACT[0], sample)
    assert same_bits(ours[~np.isnan(ours)], theirs[~np.isnan(theirs)])
    assert np.array_equal(np.isnan(ours), np.isnan(theirs))


@pytest.mark.parametrize("isa", USABLE)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_nan_stays_nan(isa, name):
    assert np.isnan(activate(Activation.of(name), isa, np.full(17, np.nan, np.float32))).all()
