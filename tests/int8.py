"""What GATED_INT8 means, in NumPy: how weights and activations are rounded and what becomes of their products."""

import numpy as np

from gated_c.narrow import Int8

MOST = np.float32(127)
SMALLEST = np.finfo(np.float32).tiny

#: Activations whose results are in 0..1, and those in -1..1.
FRACTIONS = {"sigmoid", "hard_sigmoid"}
BOUNDED = {*FRACTIONS, "tanh", "softsign", "hard_tanh"}

PRODUCTS = ("weight_ih", "weight_hh", "weight_hr")


def is_bounded(activation):
    return activation.name in BOUNDED or (activation.name == "scaled_tanh" and abs(activation.alpha) <= 1)


def cell_limit(spec):
    """What abs(h) of a cell, before a projection, cannot exceed; 0 if nothing is known."""
    if spec.cell.startswith("rnn_"):
        return float(spec.cell == "rnn_tanh")
    f, *others = spec.activations_of(0)
    if spec.cell.startswith("gru"):
        return float(f.name in FRACTIONS and is_bounded(others[0]))
    return float(is_bounded(f) and is_bounded((f, *others)[-1]))


def limits(spec):
    """By the name of a weight, what is known of the magnitudes that it is multiplied with."""
    h = spec.h_limit[0] if any(spec.h_limit) else 0 if spec.proj_size else cell_limit(spec)
    return {"weight_ih": 0, "weight_hh": h, "weight_hr": cell_limit(spec)}


def rounded(v, limit=0):
    """Rows v [..., K] as integers and their float32 scale [..., 1]. A row that is not finite has a scale of NaN."""
    v = np.asarray(v, np.float32)
    largest = np.abs(v).max(-1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        scale = (np.full_like(largest, limit) if limit else largest) / MOST
        inverse = np.where(scale < SMALLEST, np.float32(0), np.float32(1) / scale)
        q = np.rint(np.clip(v * inverse, -MOST, MOST))
    finite = np.isfinite(largest)
    return np.where(finite, q, 0).astype(np.int64), np.where(finite, scale, np.float32(np.nan))


class Matrix:
    """A weight [rows, K] of which ``v @ weight.T`` is what the integers give, without further rounding."""

    __array_ufunc__ = None  # so that NumPy leaves the operator to us

    def __init__(self, weight, limit):
        self.int8, self.limit, self.shape, self.T = Int8.of(weight), limit, weight.shape, self

    def __rmatmul__(self, v):
        q, scale = rounded(v, self.limit)
        return (q @ self.int8.q.T.astype(np.int64)) * scale.astype(np.float64) * self.int8.scale


def matrices(spec):
    """For tests/reference.py, of a spec of one layer and direction: its int8 weights by name and value."""
    of = limits(spec)
    return lambda name, weight: Matrix(weight.astype(np.float32), of[name]) if name in of else weight


def fma(a, b, c):
    """Rounded once: a * b has 48 bits, and what a long double drops of the sum is too little to matter."""
    return (a.astype(np.longdouble) * b + c).astype(np.float32)


def added(acc, v, weight, limit=0):
    """The float32 pre-activations acc [..., rows] and the product of v [..., K] with a weight, in the order of the
    definition."""
    int8 = Int8.of(weight)
    q, scale = rounded(v, limit)
    sums = (q @ int8.q.T.astype(np.int64)).astype(np.float32)
    return fma(sums * scale, int8.scale, acc)
