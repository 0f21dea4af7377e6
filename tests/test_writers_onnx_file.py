"""ONNX files: what ONNX Runtime makes of them, and what the operators do not do."""

import re

import numpy as np
import pytest
import reference
from conftest import parts, random_spec, random_state, same_bits, state_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from writer_cases import assert_close, layers, random_input

import gated_c as gc
from gated_c.spec import ACTIVATIONS, Activation
from gated_c.tolerance import tolerance
from gated_c.writers import onnx_file, write

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

SETTINGS = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

CELLS = ["gru", "gru_reset_before", "lstm", "rnn", "rnn_relu", "rnn_tanh"]

#: With parameters that are no defaults; those of a state that stays bounded.
FUNCTIONS = [
    Activation.of("sigmoid"),
    Activation.of("tanh"),
    Activation.of("affine", 0.4, 0.1),
    Activation.of("hard_sigmoid", 0.3, 0.4),
    Activation.of("leaky_relu", 0.2),
    Activation.of("scaled_tanh", 0.7, 0.9),
    Activation.of("elu", 0.6),
    Activation.of("softsign"),
]
GATES = [Activation.of("sigmoid"), Activation.of("hard_sigmoid", 0.3, 0.4)]


def functions(cell):
    """f of the gates, then g and h."""
    others = [st.sampled_from(FUNCTIONS)] * (ACTIVATIONS[cell] - 1)
    return st.tuples(st.sampled_from(FUNCTIONS if cell == "rnn" else GATES), *others)


def spec(cell="lstm", **options):
    return random_spec(np.random.default_rng(0), cell, 3, 4, **options)


def session(path):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # it warns that initial states can be given
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options)


def run(path, inputs):
    """Outputs by name."""
    runtime = session(path)
    return dict(zip((output.name for output in runtime.get_outputs()), runtime.run(None, inputs), strict=True))


@SETTINGS
@given(layer=layers(CELLS, functions, batch_first=st.booleans()))
def test_onnx_runtime_agrees(tmp_path, layer):
    write([layer], tmp_path / "m.onnx")
    x = random_input(layer)
    assert_close(layer, x, run(tmp_path / "m.onnx", {"X": x})["Y"])


@pytest.mark.parametrize("options", [{}, {"num_layers": 2}, {"batch_first": True}])
def test_outputs_come_in_the_order_of_the_operator(tmp_path, options):
    write([spec(**options)], tmp_path / "m.onnx")
    names = [output.name for output in session(tmp_path / "m.onnx").get_outputs()]
    assert names[:3] == (["Y", "Y_h_0", "Y_c_0"] if "num_layers" in options else ["Y", "Y_h", "Y_c"])


@SETTINGS
@given(layer=layers(CELLS, functions, batch_first=st.booleans()))
def test_there_and_back_gives_the_same_bits(tmp_path, layer):
    write([layer], tmp_path / "m.onnx")
    x = random_input(layer)
    assert same_bits(gc.load(tmp_path / "m.onnx")(x)[0], gc.Model([layer])(x)[0])


@pytest.mark.parametrize(
    "options",
    [{"peepholes": True}, {"input_forget": True}, {"clip": 0.3}, {"reverse": True}, {"clip": 0.3, "peepholes": True}],
)
def test_options_come_back_with_the_same_bits(tmp_path, options):
    layer = spec(**options)
    write([layer], tmp_path / "m.onnx")
    x = random_input(layer)
    assert same_bits(gc.load(tmp_path / "m.onnx")(x)[0], gc.Model([layer])(x)[0])


def test_states_come_back_as_those_of_the_nodes(tmp_path):
    layer = spec(num_layers=2)
    write([layer], tmp_path / "m.onnx")
    x = random_input(layer)
    h, c = random_state(np.random.default_rng(2), layer, x.shape[1])
    y, (new_h, new_c) = gc.Model([layer])(x, (h, c))
    again, states = gc.load(tmp_path / "m.onnx")(x, tuple(zip(np.split(h, 2), np.split(c, 2), strict=True)))
    assert same_bits(again, y)
    assert same_bits(np.concatenate([h for h, _ in states]), new_h)
    assert same_bits(np.concatenate([c for _, c in states]), new_c)


@pytest.mark.parametrize("options", [{"peepholes": True}, {"input_forget": True}, {"peepholes": True, "bias": False}])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_options_of_an_lstm_agree(tmp_path, options, bidirectional):
    layer = spec(bidirectional=bidirectional, **options)
    write([layer], tmp_path / "m.onnx")
    x = random_input(layer)
    assert_close(layer, x, run(tmp_path / "m.onnx", {"X": x})["Y"])


@pytest.mark.parametrize("cell", ["gru", "gru_reset_before", "lstm", "rnn_tanh"])
def test_a_reverse_layer_agrees(tmp_path, cell):
    layer = spec(cell, reverse=True)
    write([layer], tmp_path / "m.onnx")
    x = random_input(layer)
    assert_close(layer, x, run(tmp_path / "m.onnx", {"X": x})["Y"])


@pytest.mark.parametrize("cell", ["gru", "gru_reset_before", "rnn"])
def test_clip_agrees(tmp_path, cell):
    layer = spec(cell, clip=0.3, activations=(Activation.of("sigmoid"), Activation.of("tanh"))[-ACTIVATIONS[cell] :])
    write([layer], tmp_path / "m.onnx")
    x = random_input(layer)
    assert_close(layer, x, run(tmp_path / "m.onnx", {"X": x})["Y"])


def test_clip_of_an_lstm_is_that_of_the_specification(tmp_path):
    """ONNX Runtime leaves c alone before the output, so it is no judge of the sum; the attribute is what we check."""
    write([spec(clip=0.3)], tmp_path / "m.onnx")
    (node,) = (node for node in onnx.load(tmp_path / "m.onnx").graph.node if node.op_type == "LSTM")
    assert {a.name: a.f for a in node.attribute}["clip"] == np.float32(0.3)


@pytest.mark.parametrize("name", sorted(onnx_file._FUNCTIONS))
def test_every_function_agrees(tmp_path, name):
    layer = spec("rnn", activations=(Activation.of(name),))
    write([layer], tmp_path / "m.onnx")
    x = random_input(layer)
    assert_close(layer, x, run(tmp_path / "m.onnx", {"X": x})["Y"])


def test_linear_is_affine_that_keeps_negative_zeros(tmp_path):
    layer = spec("rnn", activations=(Activation.of("linear"),))
    write([layer], tmp_path / "m.onnx")
    (node,) = (node for node in onnx.load(tmp_path / "m.onnx").graph.node if node.op_type == "RNN")
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    assert attributes["activations"] == [b"Affine"]
    assert attributes["activation_alpha"] == [1.0]
    assert np.signbit(attributes["activation_beta"]).all()
    x = random_input(layer)
    assert_close(layer, x, run(tmp_path / "m.onnx", {"X": x})["Y"])


@pytest.mark.parametrize("cell", ["gru", "lstm"])
@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}])
def test_states_go_in_and_come_out(tmp_path, cell, options):
    layer = spec(cell, **options)
    write([layer], tmp_path / "m.onnx")
    x = random_input(layer)
    h, c = random_state(np.random.default_rng(2), layer, x.shape[1])
    numbers = [""] if layer.num_layers == 1 else ["_0", "_1"]
    states = {"h": np.split(h, layer.num_layers), "c": np.split(c, layer.num_layers)}
    inputs = {
        f"initial_{name}{number}": part
        for name in ("hc" if layer.has_c else "h")
        for number, part in zip(numbers, states[name], strict=True)
    }
    outputs = run(tmp_path / "m.onnx", {"X": x, **inputs})
    y, expected = gc.Model([layer])(x, state_of(layer, h, c))
    np.testing.assert_allclose(outputs["Y"], y, rtol=0, atol=tolerance([layer], x, y))
    for name, part in zip("hc", parts(expected), strict=False):
        actual = np.concatenate([outputs[f"Y_{name}{number}"] for number in numbers])
        np.testing.assert_allclose(actual, part, rtol=0, atol=tolerance([layer], x, part))


def test_layers_in_a_row_are_nodes_in_a_row(tmp_path):
    chain = [spec("lstm", batch_first=True, bidirectional=True), random_spec(np.random.default_rng(1), "gru", 8, 5)]
    write(chain, tmp_path / "m.onnx")
    x = random_input(chain[0])
    expected, _ = reference.chain(chain, x.swapaxes(0, 1))
    actual = run(tmp_path / "m.onnx", {"X": x})["Y"].swapaxes(0, 1)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance(chain, x, expected))


def test_file_is_of_the_opset_and_version_it_says(tmp_path):
    write([spec()], tmp_path / "m.onnx")
    model = onnx.load(tmp_path / "m.onnx")
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 14)]
    assert model.ir_version == 7
    onnx.checker.check_model(model, full_check=True)


@pytest.mark.parametrize(
    ("names", "nodes"),
    [(("enc", "dec"), ["enc_l0", "enc_l1", "dec"]), (("", ""), ["lstm_0_l0", "lstm_0_l1", "lstm_1"])],
)
def test_nodes_have_the_names_of_the_layers(tmp_path, names, nodes):
    second = random_spec(np.random.default_rng(1), "lstm", 4, 5, name=names[1])
    write([spec(num_layers=2, name=names[0]), second], tmp_path / "m.onnx")
    assert [layer.name for layer in gc.inspect(tmp_path / "m.onnx")] == nodes


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (spec(proj_size=2), "lstm: proj_size 2: "),
        (spec(clip=0.5, clip_output=False, name="a.b"), "a.b: clip 0.5 of the gates only: "),
        (spec("rnn", activations=(Activation.of("gelu"),)), "rnn: activation gelu: "),
    ],
)
def test_what_onnx_does_not_do_is_refused_by_name(tmp_path, layer, message):
    with pytest.raises(gc.UnsupportedError, match=re.escape(message)):
        write([layer], tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


def test_weights_beyond_a_protobuf_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_file, "_MOST_BYTES", 100)
    with pytest.raises(gc.UnsupportedError, match="2 GiB"):
        write([spec()], tmp_path / "m.onnx")


def test_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(ImportError, match=r'pip install "gated_c\[onnx-files\]"'):
        write([spec()], tmp_path / "m.onnx")
