"""What is computed while a graph is read: the numbers that ONNX Runtime gets."""

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from gated_c.loaders.onnx.chain import Reading
from gated_c.loaders.onnx.file import _open

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx_models import floats, node, runtime, save  # noqa: E402

SETTINGS = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

RNG = np.random.default_rng(2)
A = floats(RNG, 3, 4, 5)
POSITIVE = np.abs(A) + np.float32(0.5)
INTEGERS = RNG.integers(-9, 10, (3, 4))


def integers(*values):
    return np.array(values, np.int64)


def check(path, nodes, constants, opset=17):
    """The output ``out``, by both; other nodes may come before the last."""
    save(path, nodes, {}, "out", constants, opset)
    graph = _open(path, "spec")
    reading = Reading(graph, "spec")
    for at in graph.order(["out"]):
        reading.run(graph.node(at))
    ours = reading.value("out").array
    (expected,) = runtime(path).run(None, {})
    assert ours.shape == expected.shape
    np.testing.assert_allclose(ours.astype(expected.dtype), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("op", "inputs"),
    [
        *((op, [A, POSITIVE]) for op in ("Add", "Sub", "Mul", "Div", "Greater", "Less", "Equal")),
        *((op, [INTEGERS, integers(3, -2, 5, -4)]) for op in ("Add", "Sub", "Mul", "Div", "Equal")),
        *((op, [A]) for op in ("Neg", "Abs", "Exp", "Tanh", "Floor", "Ceil")),
        *((op, [POSITIVE]) for op in ("Sqrt", "Log", "Reciprocal")),
        *((op, [A > 0, A < 0.2]) for op in ("And", "Or")),
        ("Not", [A > 0]),
        ("Pow", [POSITIVE, np.float32(2.5)]),
        ("Where", [A > 0, A, np.float32(0)]),
        ("MatMul", [A[0], POSITIVE[0].T.copy()]),
        ("Transpose", [A]),
        ("Shape", [A]),
        ("Size", [A]),
        ("Flatten", [A]),
        ("Identity", [A]),
        ("Expand", [A, integers(2, 3, 4, 5)]),
        ("Expand", [A[:, :1], integers(4, 1)]),
        ("Tile", [A, integers(2, 1, 3)]),
        ("Range", [np.int64(7), np.int64(-4), np.int64(-3)]),
        ("Gather", [A, np.array([[0, -1], [2, 1]])]),
        ("Unsqueeze", [A, integers(0, -1)]),
        ("Squeeze", [A[:1, :, :1]]),
        ("ReduceSum", [A, integers(0, 2)]),
    ],
)
def test_operators(tmp_path, op, inputs):
    names = [f"i{n}" for n in range(len(inputs))]
    check(tmp_path / "m.onnx", [node(op, " ".join(names), "out")], dict(zip(names, inputs, strict=True)))


@pytest.mark.parametrize(
    ("op", "attributes"),
    [
        *((f"Reduce{op}", {"axes": [0, 2], "keepdims": 0}) for op in ("Mean", "Max", "Min", "Prod", "L2", "SumSquare")),
        ("ReduceMean", {}),
        ("Transpose", {"perm": [1, 2, 0]}),
        ("Flatten", {"axis": 2}),
        ("Flatten", {"axis": -1}),
        ("Cast", {"to": 7}),
        ("Cast", {"to": 11}),
    ],
)
def test_attributes(tmp_path, op, attributes):
    check(tmp_path / "m.onnx", [node(op, "a", "out", **attributes)], {"a": A * 9})


ENDS = st.sampled_from([-(2**63) + 1, -(2**31), -9, -6, -5, -2, -1, 0, 1, 3, 4, 5, 6, 2**31 - 1, 2**63 - 1])


@SETTINGS
@given(start=ENDS, end=ENDS, step=st.sampled_from([-3, -1, 1, 2, 2**31 - 1]), axis=st.integers(-3, 2))
def test_slices(tmp_path, start, end, step, axis):
    """However far beyond the ends. Backwards, ONNX Runtime takes an end of the largest integer for the first element,
    which the specification does not."""
    assume(step > 0 or end < 2**31 - 1)
    constants = {"a": A, "start": integers(start), "end": integers(end), "axis": integers(axis), "step": integers(step)}
    check(tmp_path / "m.onnx", [node("Slice", "a start end axis step", "out")], constants)


@SETTINGS
@given(axis=st.integers(-3, 2), index=st.lists(st.integers(-3, 2), max_size=3), scalar=st.booleans())
def test_gathers(tmp_path, axis, index, scalar):
    indices = np.int64(index[0]) if scalar and index else integers(*index)
    check(tmp_path / "m.onnx", [node("Gather", "a i", "out", axis=axis)], {"a": A, "i": indices})


@pytest.mark.parametrize("target", [(60,), (-1,), (0, -1), (5, 0, -1), (0, 0, 0), (2, 3, 2, 5), (3, 1, 20), (1, -1, 1)])
def test_reshapes(tmp_path, target):
    check(tmp_path / "m.onnx", [node("Reshape", "a shape", "out")], {"a": A, "shape": integers(*target)})


@pytest.mark.parametrize("sizes", [None, (1, 3), (4, 0)])
def test_splits(tmp_path, sizes):
    constants = {"a": A} if sizes is None else {"a": A, "sizes": integers(*sizes)}
    split = node("Split", " ".join(constants), "first second", axis=1)
    check(tmp_path / "m.onnx", [split, node("Concat", "second first", "out", axis=1)], constants)


@pytest.mark.parametrize(
    "attribute",
    [{"value_float": 1.5}, {"value_int": 7}, {"value_floats": [1.0, 2.5]}, {"value_ints": [3, 4]}],
)
def test_constants_in_nodes(tmp_path, attribute):
    check(tmp_path / "m.onnx", [node("Constant", "", "out", **attribute)], {})


def test_weight_norm(tmp_path):
    """g * v / |v|, as PyTorch's exporter leaves it."""
    nodes = [
        node("ReduceL2", "v", "norm", axes=[1], keepdims=1),
        node("Div", "v norm", "unit"),
        node("Mul", "unit g", "out"),
    ]
    check(tmp_path / "m.onnx", nodes, {"v": A[0], "g": POSITIVE[0, :, :1]})
