"""The operators LSTM, GRU and RNN: against the onnx package's own cases, ONNX Runtime and the equations."""

import warnings
from importlib import import_module

import numpy as np
import pytest
import reference
from conftest import parts, same_bits
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import gated_c as gc
from gated_c import FormatError, UnsupportedError
from gated_c.loaders.onnx.file import read_network, read_recurrent
from gated_c.spec import Activation
from gated_c.tolerance import tolerance

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx import numpy_helper  # noqa: E402
from onnx_models import floats, info, model, node, runtime, save, weights  # noqa: E402

SETTINGS = settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)

OPERATORS = ["GRU", "LSTM", "RNN"]
FUNCTIONS_OF = {"LSTM": 3, "GRU": 2, "RNN": 1}

#: Those that a state stays bounded with, and how many parameters they take.
FUNCTIONS = [
    ("Sigmoid", 0),
    ("Tanh", 0),
    ("Softsign", 0),
    ("HardSigmoid", 2),
    ("ScaledTanh", 2),
    ("Elu", 1),
    ("LeakyRelu", 1),
    ("ThresholdedRelu", 1),
    ("Affine", 2),
]


def backend_cases():
    """The node test cases of the onnx package for the three operators."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = import_module("onnx.backend.test.case.node")
        for op in OPERATORS:
            import_module(f"onnx.backend.test.case.node.{op.lower()}")
    return {case.name: case for case in cases._NodeTestCases if case.model.graph.node[0].op_type in OPERATORS}


CASES = backend_cases()


def test_the_onnx_package_has_cases_of_all_operators():
    assert {case.model.graph.node[0].op_type for case in CASES.values()} == set(OPERATORS)


@pytest.mark.parametrize("name", sorted(CASES))
def test_the_cases_of_the_onnx_package_pass(tmp_path, name):
    """Their weights are inputs, and constants in every real file; states and lengths are arguments of a Model."""
    case = CASES[name]
    ((arrays, expected),) = case.data_sets
    graph = case.model.graph
    given = {one.name: np.asarray(array) for one, array in zip(graph.input, arrays, strict=True)}
    (op,) = graph.node
    roles = dict(zip(("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P"), op.input, strict=False))
    constants = [roles[role] for role in ("W", "R", "B", "P") if roles.get(role)]
    graph.initializer.extend(numpy_helper.from_array(given[one], one) for one in constants)
    for one in [one for one in graph.input if one.name in constants]:
        graph.input.remove(one)
    onnx.save(case.model, tmp_path / "m.onnx")

    (layer,) = [layer for layer in read_network(tmp_path / "m.onnx") if isinstance(layer, gc.LayerSpec)]
    states = [given[roles[role]] for role in ("initial_h", "initial_c") if roles.get(role)]
    states = [state.swapaxes(0, 1) for state in states] if layer.batch_first else states
    state = None if not states else tuple(states) if layer.has_c else states[0]
    y, state = gc.Model([layer])(given["X"], state, lengths=given.get(roles.get("sequence_lens", "")))

    results = dict(zip([name for name in op.output if name], expected, strict=True))
    outputs = dict(zip(("Y", "Y_h", "Y_c"), op.output, strict=False))
    axes = (0, 1, 2, 3) if layer.batch_first else (0, 2, 1, 3)
    for role, ours in zip(("Y_h", "Y_c"), parts(state), strict=False):
        if outputs.get(role):
            theirs = np.asarray(results[outputs[role]])
            theirs = theirs.swapaxes(0, 1) if layer.batch_first else theirs
            np.testing.assert_allclose(ours, theirs, atol=tolerance([layer], given["X"], y))
    if outputs.get("Y"):
        theirs = np.asarray(results[outputs["Y"]]).transpose(axes)
        np.testing.assert_allclose(y, theirs.reshape(y.shape), atol=tolerance([layer], given["X"], y))


@st.composite
def nodes(draw, clips=(0.0,)):
    """Attributes and inputs of a node, and whether they are given; layout 0, which ONNX Runtime has alone."""
    op = draw(st.sampled_from(OPERATORS))
    direction = draw(st.sampled_from(["forward", "reverse", "bidirectional"]))
    directions = 2 if direction == "bidirectional" else 1
    case = {
        "op": op,
        "directions": directions,
        "input_size": draw(st.integers(1, 9)),
        "hidden_size": draw(st.integers(1, 9)),
        "seq_len": draw(st.integers(1, 6)),
        "batch": draw(st.integers(1, 4)),
        "opset": draw(st.sampled_from([7, 13, 14, 21, 22])),
        "bias": draw(st.booleans()),
        "lengths": draw(st.booleans()),
        "initial_h": draw(st.booleans()),
        "initial_c": draw(st.booleans()) and op == "LSTM",
        "peepholes": draw(st.booleans()) and op == "LSTM",
        "seed": draw(st.integers(0, 2**32 - 1)),
    }
    attributes = {"hidden_size": case["hidden_size"]}
    if direction != "forward" or draw(st.booleans()):
        attributes["direction"] = direction
    if op == "GRU":
        attributes["linear_before_reset"] = draw(st.integers(0, 1))
    if op == "LSTM":
        attributes["input_forget"] = draw(st.integers(0, 1))
    clip = draw(st.sampled_from(clips))
    if clip:
        attributes["clip"] = clip
    if draw(st.booleans()):
        count = FUNCTIONS_OF[op] * directions
        chosen = draw(st.lists(st.sampled_from(FUNCTIONS), min_size=count, max_size=count))
        names, numbers = zip(*chosen, strict=True)
        attributes["activations"] = names
        for key, least in (("activation_alpha", 1), ("activation_beta", 2)):
            wanted = sum(number >= least for number in numbers)
            if wanted:
                attributes[key] = [draw(st.sampled_from([0.125, 0.25, 0.5])) for _ in range(wanted)]
    return case | {"attributes": attributes}


def build(path, case, **changes):
    """The node alone in a model. Returns what to feed to a runtime."""
    case = case | changes
    rng = np.random.default_rng(case["seed"])
    op, size, directions = case["op"], case["hidden_size"], case["directions"]
    constants = weights(rng, op, case["input_size"], size, directions, case["bias"])
    if case["peepholes"]:
        constants["P"] = floats(rng, directions, 3 * size)
    feeds = {"x": 2 * floats(rng, case["seq_len"], case["batch"], case["input_size"])}
    if case["lengths"]:
        feeds["lens"] = rng.integers(1, case["seq_len"] + 1, case["batch"]).astype(np.int32)
    for name in ("initial_h", "initial_c"):
        if case[name]:
            feeds[name] = floats(rng, directions, case["batch"], size)
    order = ["x", "W", "R", "B", "lens", "initial_h", "initial_c", "P"][: 8 if op == "LSTM" else 6]
    names = [name if name in constants or name in feeds else "_" for name in order]
    inputs = {name: list(array.shape) for name, array in feeds.items()}
    inputs["x"] = ["T", "N", case["input_size"]]
    if "lens" in feeds:
        inputs["lens"] = info("lens", ["N"], onnx.TensorProto.INT32)
    outputs = "Y Y_h Y_c" if op == "LSTM" else "Y Y_h"
    recurrent = node(op, " ".join(names), outputs, "cell", **case["attributes"])
    save(path, [recurrent], inputs, outputs, constants, case["opset"])
    return feeds


def state_in(layer, feeds):
    h = feeds.get("initial_h")
    c = feeds.get("initial_c")
    if h is None and c is None:
        return None
    like = h if h is not None else c
    h, c = (np.zeros_like(like) if part is None else part for part in (h, c))
    return (h, c) if layer.has_c else h


def check_against_runtime(path, feeds, clip):
    (layer,) = read_network(path, clip=clip)
    y, state = gc.Model([layer])(feeds["x"], state_in(layer, feeds), lengths=feeds.get("lens"))
    theirs = runtime(path).run(None, feeds)
    limit = tolerance([layer], feeds["x"], max((y, *parts(state)), key=lambda part: np.abs(part).max()))
    np.testing.assert_allclose(y, theirs[0].transpose(0, 2, 1, 3).reshape(y.shape), rtol=0, atol=limit)
    for ours, expected in zip(parts(state), theirs[1:], strict=True):
        np.testing.assert_allclose(ours, expected, rtol=0, atol=limit)


@SETTINGS
@given(case=nodes())
def test_onnx_runtime_agrees(tmp_path, case):
    check_against_runtime(tmp_path / "m.onnx", build(tmp_path / "m.onnx", case), "spec")


@SETTINGS
@given(case=nodes(clips=(0.25, 1.0)))
def test_onnx_runtime_agrees_with_its_own_reading_of_clip(tmp_path, case):
    check_against_runtime(tmp_path / "m.onnx", build(tmp_path / "m.onnx", case), "ort")


def test_the_specification_clips_c_before_the_output_which_onnx_runtime_does_not(tmp_path):
    attributes = {"hidden_size": 4, "clip": 0.25}
    case = {"op": "LSTM", "directions": 1, "input_size": 3, "hidden_size": 4, "seq_len": 30, "batch": 2, "opset": 14}
    case |= {"bias": True, "lengths": False, "initial_h": False, "initial_c": True, "peepholes": False, "seed": 1}
    feeds = build(tmp_path / "m.onnx", case | {"attributes": attributes})
    feeds["initial_c"] = np.full_like(feeds["initial_c"], 5)
    results = {}
    for clip in ("spec", "ort"):
        (layer,) = read_network(tmp_path / "m.onnx", clip=clip)
        results[clip], _ = gc.Model([layer])(feeds["x"], (np.zeros_like(feeds["initial_c"]), feeds["initial_c"]))
    largest = 1 / (1 + np.exp(-0.25)) * np.tanh(0.25)  # of sigmoid(o) * tanh(c), both clipped
    assert np.abs(results["spec"]).max() <= largest * (1 + 1e-6)
    assert np.abs(results["ort"]).max() > 1.5 * largest
    expected, *_ = reference.forward(
        read_network(tmp_path / "m.onnx")[0], feeds["x"], np.zeros((1, 2, 4)), feeds["initial_c"]
    )
    np.testing.assert_allclose(results["spec"], expected, atol=1e-6)


@pytest.mark.parametrize("op", OPERATORS)
def test_a_row_of_length_0_keeps_its_initial_state_which_onnx_runtime_drops(tmp_path, op):
    case = {"op": op, "directions": 1, "input_size": 3, "hidden_size": 4, "seq_len": 5, "batch": 2, "opset": 14}
    case |= {"bias": True, "lengths": True, "initial_h": True, "initial_c": op == "LSTM", "peepholes": False, "seed": 1}
    feeds = build(tmp_path / "m.onnx", case | {"attributes": {"hidden_size": 4}})
    feeds["lens"][:] = [0, 3]
    (layer,) = read_network(tmp_path / "m.onnx")
    _, state = gc.Model([layer])(feeds["x"], state_in(layer, feeds), lengths=feeds["lens"])
    for ours, given_, theirs in zip(
        parts(state),
        parts(state_in(layer, feeds)),
        runtime(tmp_path / "m.onnx").run(None, feeds)[1:],
        strict=True,
    ):
        np.testing.assert_array_equal(ours[:, 0], given_[:, 0])
        np.testing.assert_array_equal(theirs[:, 0], 0)
        np.testing.assert_allclose(ours[:, 1], theirs[:, 1], atol=1e-6)


@SETTINGS
@given(case=nodes(clips=(0.0, 0.5)))
def test_layout_1_is_the_same_with_the_batch_first(tmp_path, case):
    """ONNX Runtime has no layout 1."""
    feeds = build(tmp_path / "0.onnx", case)
    build(tmp_path / "1.onnx", case, opset=14, attributes=case["attributes"] | {"layout": 1})
    (first,), (second,) = read_network(tmp_path / "0.onnx"), read_network(tmp_path / "1.onnx")
    assert second.batch_first
    assert not first.batch_first
    state = state_in(first, feeds)
    y, states = gc.Model([first])(feeds["x"], state, lengths=feeds.get("lens"))
    again, states_again = gc.Model([second])(feeds["x"].swapaxes(0, 1), state, lengths=feeds.get("lens"))
    assert same_bits(again.swapaxes(0, 1), y)
    assert all(same_bits(a, b) for a, b in zip(parts(states), parts(states_again), strict=True))


@pytest.mark.parametrize("name", ["Sigmoid", "Tanh", "Relu", "Softsign", "Softplus", "Elu", "LeakyRelu", "HardSigmoid"])
def test_functions_have_the_defaults_of_the_operator(tmp_path, name):
    case = {"op": "RNN", "directions": 1, "input_size": 3, "hidden_size": 4, "seq_len": 3, "batch": 2, "opset": 14}
    case |= {"bias": True, "lengths": False, "initial_h": False, "initial_c": False, "peepholes": False, "seed": 1}
    feeds = build(tmp_path / "m.onnx", case | {"attributes": {"hidden_size": 4, "activations": [name]}})
    check_against_runtime(tmp_path / "m.onnx", feeds, "spec")


def layer_of(tmp_path, op="LSTM", constants=None, directions=1, **attributes):
    constants = weights(np.random.default_rng(0), op, 3, 4, directions) if constants is None else constants
    inputs = " ".join(["x", *(name if name in constants else "_" for name in ("W", "R", "B"))])
    cell = node(op, inputs, "Y", "cell", **attributes)
    (layer,) = read_recurrent(save(tmp_path / "m.onnx", [cell], {"x": ["T", "N", 3]}, "Y", constants))
    return layer


def test_parameters_go_to_those_functions_that_take_any_in_order(tmp_path):
    names = ["HardSigmoid", "Tanh", "Affine", "Sigmoid", "LeakyRelu", "ScaledTanh"]
    options = {"activation_alpha": [0.1, 0.2, 0.3], "activation_beta": [0.5, 0.6]}
    layer = layer_of(tmp_path, directions=2, direction="bidirectional", activations=names, hidden_size=4, **options)
    expected = [
        ("hard_sigmoid", 0.1, 0.5),
        ("tanh", 0.0, 0.0),
        ("affine", 0.2, 0.6),
        ("sigmoid", 0.0, 0.0),
        ("leaky_relu", 0.3, 0.0),
        ("scaled_tanh", 1.0, 1.0),
    ]
    assert [activation.name for activation in layer.activations] == [name for name, *_ in expected]
    np.testing.assert_allclose([activation[1:] for activation in layer.activations], [e[1:] for e in expected], 1e-7)


def test_hidden_size_may_be_left_to_the_weights(tmp_path):
    assert layer_of(tmp_path).hidden_size == 4


def test_the_usual_activations_are_those_of_the_plain_cell(tmp_path):
    assert layer_of(tmp_path, activations=["sigmoid", "tanh", "TANH"]).activations == ()
    assert layer_of(tmp_path, "RNN", activations=["Relu"]).cell == "rnn_relu"
    assert layer_of(tmp_path, "RNN", clip=1.0).activations == (Activation.of("tanh"),)


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"direction": "sideways"}, "direction: expected forward, reverse, bidirectional, got sideways"),
        ({"hidden_size": 5}, r"W: expected \(1, 20, 3\), got \(1, 16, 3\)"),
        ({"direction": "bidirectional"}, r"W: expected \(2, 16, 3\), got \(1, 16, 3\)"),
        ({"activations": ["Tanh"]}, "activations: expected 3, got 1"),
        ({"clip": -1.0}, "clip: expected a positive number"),
        ({"hidden_size": 4.0}, "attribute hidden_size: expected one of type 2, got type 1"),
    ],
)
def test_attributes_that_do_not_fit_are_format_errors(tmp_path, attributes, message):
    with pytest.raises(FormatError, match=message):
        layer_of(tmp_path, **attributes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"R": np.zeros((1, 16, 5), np.float32)}, r"R: expected \(1, 20, 5\)|W: expected \(1, 20, 3\)"),
        ({"B": np.zeros((1, 16), np.float32)}, r"B: expected \(1, 32\), got \(1, 16\)"),
        ({"W": np.zeros((16, 3), np.float32)}, r"expected three dimensions of at least 1, got \(16, 3\)"),
        ({"W": np.zeros((1, 0, 3), np.float32)}, "expected three dimensions of at least 1"),
    ],
)
def test_weights_of_the_wrong_shape_are_format_errors(tmp_path, change, message):
    with pytest.raises(FormatError, match=message):
        layer_of(tmp_path, constants=weights(np.random.default_rng(0), "LSTM", 3, 4) | change)


def test_an_unknown_activation_is_named(tmp_path):
    with pytest.raises(UnsupportedError, match="LSTM 'cell': activation Snake"):
        layer_of(tmp_path, activations=["Snake"] * 3)


def test_missing_weights_are_a_format_error(tmp_path):
    with pytest.raises(FormatError, match="W, R: expected both"):
        layer_of(tmp_path, constants={})


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_precisions_become_float32(tmp_path, dtype):
    arrays = {name: array.astype(dtype) for name, array in weights(np.random.default_rng(0), "GRU", 3, 4).items()}
    layer = layer_of(tmp_path, "GRU", arrays)
    assert all(weight.dtype == np.float32 for weight in layer.weights.values())
    z, r, n = np.split(arrays["W"][0].astype(np.float32), 3)
    np.testing.assert_array_equal(layer.weights["weight_ih_l0"], np.concatenate([r, z, n]))


def test_bfloat16_is_widened(tmp_path):
    arrays = weights(np.random.default_rng(0), "RNN", 3, 4, bias=False)
    graph = model([node("RNN", "x W R", "Y", "cell")], {"x": ["T", "N", 3]}, "Y", {})
    for name, array in arrays.items():
        bits = array.view(np.uint32) >> 16
        tensor = onnx.helper.make_tensor(
            name, onnx.TensorProto.BFLOAT16, array.shape, bits.astype("<u2").tobytes(), True
        )
        graph.graph.initializer.append(tensor)
    onnx.save(graph, tmp_path / "m.onnx")
    (layer,) = read_recurrent(tmp_path / "m.onnx")
    expected = arrays["W"][0].view(np.uint32) & 0xFFFF0000
    np.testing.assert_array_equal(layer.weights["weight_ih_l0"].view(np.uint32), expected)
