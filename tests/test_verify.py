"""The engine beside the frameworks that wrote a file: agreement is seen, and so is any difference."""

import dataclasses
import os
import sys
import warnings

import numpy as np
import pytest
from conftest import random_spec

import gated_c as gc
from gated_c.verify import open_reference, random_input, verify
from gated_c.writers import write

torch = pytest.importorskip("torch")
torch.set_num_threads(1)

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras on torch

LENGTHS = np.array([16, 0, 5])


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def keras():
    os.environ.setdefault("KERAS_BACKEND", "torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the backend, while it is imported
        keras = pytest.importorskip("keras")
    keras.utils.set_random_seed(0)
    return keras


def spec(cell="lstm", **options):
    return random_spec(np.random.default_rng(0), cell, 3, 4, **options)


def findings(path, prefix=None, lengths=None, config=None):
    options = {} if config is None else {"config": config}
    model = gc.load(path, prefix=prefix, **options)
    reference = open_reference(path, prefix, config)
    return verify(model, reference, random_input(model, reference.lead), lengths)


def names(found):
    return [finding.layer for finding in found]


def altered(model):
    """The same chain, but for the recurrent weights of its last recurrent layer."""
    layers = list(model.layers)
    at = max(n for n, layer in enumerate(layers) if isinstance(layer, gc.LayerSpec))
    weights = {name: weight.copy() for name, weight in layers[at].weights.items()}
    weights["weight_hh_l0"] += 0.05
    layers[at] = dataclasses.replace(layers[at], weights=weights)
    return gc.Model(layers)


def assert_agrees_and_would_not_otherwise(path, layers, lengths=None):
    found = findings(path, lengths=lengths)
    assert names(found) == layers
    assert all(finding.is_fine for finding in found)
    model, reference = altered(gc.load(path)), open_reference(path)
    found = verify(model, reference, random_input(model, reference.lead), lengths)
    assert not all(finding.is_fine for finding in found)


# PyTorch


@pytest.mark.parametrize("lengths", [None, LENGTHS])
@pytest.mark.parametrize("batch_first", [False, True])
def test_every_layer_of_a_torch_stack_is_compared(tmp_path, batch_first, lengths):
    torch.save(torch.nn.LSTM(3, 4, 3, bidirectional=True, batch_first=batch_first), tmp_path / "m.pt")
    found = findings(tmp_path / "m.pt", lengths=lengths)
    assert names(found) == ["lstm layer 0", "lstm layer 1", "lstm layer 2"]
    assert all(finding.is_fine for finding in found)


def test_a_difference_from_torch_is_seen(tmp_path):
    torch.save(torch.nn.GRU(3, 4).state_dict(), tmp_path / "m.pt")
    assert_agrees_and_would_not_otherwise(tmp_path / "m.pt", ["gru"])


def test_a_difference_in_a_later_layer_leaves_the_earlier_one_alone(tmp_path):
    torch.save(torch.nn.GRU(3, 4, 2).state_dict(), tmp_path / "m.pt")
    model, reference = gc.load(tmp_path / "m.pt"), open_reference(tmp_path / "m.pt")
    model.layers[0].weights["weight_hh_l1"][0, 0] += 0.01
    found = verify(model, reference, random_input(model, reference.lead))
    assert [finding.is_fine for finding in found] == [True, False]


@pytest.mark.parametrize(
    ("content", "prefix", "layer"),
    [
        (lambda: torch.nn.DataParallel(torch.nn.Sequential(torch.nn.RNNCell(3, 4))).state_dict(), None, "0"),
        (lambda: {"epoch": 3, "model": torch.nn.ModuleDict({"enc": torch.nn.GRU(3, 4)}).state_dict()}, "enc", "enc"),
        (lambda: torch.nn.ModuleDict({"a": torch.nn.GRU(3, 4), "b": torch.nn.LSTM(3, 4)}), "b", "b"),
        (lambda: torch.nn.LSTM(3, 4, proj_size=2).double().state_dict(), None, "lstm"),
    ],
)
@pytest.mark.filterwarnings("ignore:LSTM with projections")
def test_modules_are_found_where_the_loader_finds_them(tmp_path, content, prefix, layer):
    torch.save(content(), tmp_path / "m.pt")
    (finding,) = findings(tmp_path / "m.pt", prefix)
    assert finding.layer == layer
    assert finding.is_fine


def test_safetensors_are_compared_with_torch(tmp_path):
    write([spec("gru", num_layers=2, bidirectional=True)], tmp_path / "m.safetensors")
    found = findings(tmp_path / "m.safetensors")
    assert len(found) == 2
    assert all(finding.is_fine for finding in found)


class Custom(torch.nn.LSTM):
    """A class that PyTorch's safe reader does not know."""


def test_what_torch_does_not_read_safely_is_refused(tmp_path):
    torch.save(torch.nn.Sequential(Custom(3, 4)), tmp_path / "m.pt")
    with pytest.raises(gc.UnsupportedError, match=r"PyTorch .* does not run it: Weights only load failed"):
        open_reference(tmp_path / "m.pt")


# Keras


@pytest.fixture(scope="module")
def text_network(keras, tmp_path_factory):
    """The path of a network with every kind of step on the way."""
    layers = keras.layers
    network = keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            layers.Embedding(20, 6, mask_zero=True, name="words"),
            layers.Bidirectional(layers.LSTM(5, return_sequences=True), merge_mode="ave", name="both"),
            layers.Dropout(0.3),
            layers.GRU(7, return_sequences=True, go_backwards=True, reset_after=False, name="back"),
            layers.LayerNormalization(name="norm"),
            layers.LSTM(4, name="last"),
            layers.Dense(3, activation="softmax", name="labels"),
        ]
    )
    path = tmp_path_factory.mktemp("keras") / "m.keras"
    network.save(path)
    return path


@pytest.mark.parametrize("lengths", [None, LENGTHS])
def test_every_layer_of_a_keras_network_is_compared(text_network, lengths):
    assert_agrees_and_would_not_otherwise(text_network, ["both", "back", "norm", "last", "labels"], lengths)


@pytest.mark.parametrize("layer", ["both", "back", "last"])
@pytest.mark.parametrize("lengths", [None, LENGTHS])
def test_one_layer_of_a_keras_network_is_compared_by_itself(text_network, layer, lengths):
    (finding,) = findings(text_network, layer, lengths)
    assert finding.layer == layer
    assert finding.is_fine


def test_a_keras_network_of_one_layer_is_compared(keras, tmp_path):
    cells = [keras.layers.LSTMCell(4), keras.layers.GRUCell(5)]
    network = keras.Sequential([keras.Input((None, 3)), keras.layers.RNN(cells, return_sequences=True, name="stack")])
    network.save(tmp_path / "m.keras")
    assert_agrees_and_would_not_otherwise(tmp_path / "m.keras", ["stack"], LENGTHS)


def test_many_layers_are_compared_in_order(keras, tmp_path):
    dense = [keras.layers.Dense(4, activation="tanh", name=f"dense{n}") for n in range(11)]
    gru = keras.layers.GRU(4, return_sequences=True, name="gru")
    keras.Sequential([keras.Input((None, 3)), gru, *dense]).save(tmp_path / "m.keras")
    found = findings(tmp_path / "m.keras")
    assert names(found) == ["gru", *(f"dense{n}" for n in range(11))]
    assert all(finding.is_fine for finding in found)


def test_both_outputs_of_an_unmerged_bidirectional_are_compared(keras, tmp_path):
    inputs = keras.Input((None, 3))
    both = keras.layers.Bidirectional(keras.layers.GRU(4, return_sequences=True), merge_mode=None, name="both")
    keras.Model(inputs, both(inputs)).save(tmp_path / "m.keras")
    assert_agrees_and_would_not_otherwise(tmp_path / "m.keras", ["both"])


def test_weights_are_compared_with_the_network_that_is_given(keras, tmp_path):
    write([spec(bidirectional=True)], tmp_path / "m.weights.h5")
    (finding,) = findings(tmp_path / "m.weights.h5", config=tmp_path / "m.json")
    assert finding.layer == "bidirectional"
    assert finding.is_fine


def test_random_input_keeps_to_fixed_sizes(keras, tmp_path):
    network = keras.Sequential([keras.Input((5, 3), batch_size=2), keras.layers.GRU(4)])
    network.save(tmp_path / "m.keras")
    reference = open_reference(tmp_path / "m.keras")
    assert random_input(gc.load(tmp_path / "m.keras"), reference.lead).shape == (2, 5, 3)


# ONNX Runtime


@pytest.fixture
def exported(tmp_path):
    """A network of LSTM, plain layers and a GRU as torch exports it."""
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.words = torch.nn.Embedding(20, 5)
            self.lstm = torch.nn.LSTM(5, 6, 2, batch_first=True, bidirectional=True)
            self.norm = torch.nn.LayerNorm(12)
            self.gru = torch.nn.GRU(12, 4, batch_first=True)
            self.labels = torch.nn.Linear(4, 3)

        def forward(self, x):
            y = torch.relu(self.norm(self.lstm(self.words(x))[0]))
            return torch.softmax(self.labels(self.gru(y)[0]), -1)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, about its older exporter
        ids = torch.zeros(3, 16, dtype=torch.int64)
        axes = {"x": {0: "batch", 1: "steps"}}
        path = tmp_path / "m.onnx"
        torch.onnx.export(Network().eval(), (ids,), path, dynamo=False, input_names=["x"], dynamic_axes=axes)
    return path


def test_every_recurrent_node_is_compared_before_and_behind(exported):
    found = findings(exported)
    assert names(found) == ["/lstm/LSTM", "/lstm/LSTM_1", "/Relu", "/gru/GRU", "/Softmax"]
    assert all(finding.is_fine for finding in found)
    model, reference = altered(gc.load(exported)), open_reference(exported)
    found = verify(model, reference, random_input(model, reference.lead))
    assert [finding.is_fine for finding in found[:4]] == [True, True, True, False]


def test_one_node_is_compared_by_itself(exported):
    (finding,) = findings(exported, "/lstm/LSTM_1")
    assert finding.layer == "/lstm/LSTM_1"
    assert finding.is_fine


def test_a_graph_without_lengths_takes_none(exported):
    with pytest.raises(gc.UnsupportedError, match="lengths: the graph has no input for them"):
        findings(exported, lengths=LENGTHS)


def test_lengths_go_to_the_input_for_them(tmp_path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    write([spec(bidirectional=True)], tmp_path / "m.onnx")
    model = onnx.load(tmp_path / "m.onnx")
    (node,) = (node for node in model.graph.node if node.op_type == "LSTM")
    node.input[4] = "lengths"
    model.graph.input.append(onnx.helper.make_tensor_value_info("lengths", onnx.TensorProto.INT32, ["batch"]))
    onnx.save(model, tmp_path / "ragged.onnx")
    (finding,) = findings(tmp_path / "ragged.onnx", lengths=LENGTHS)
    assert finding.is_fine


def test_clip_is_compared_as_onnx_runtime_reads_it(tmp_path):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    write([spec(clip=0.3)], tmp_path / "m.onnx")
    assert_agrees_and_would_not_otherwise(tmp_path / "m.onnx", ["lstm"])


# what is missing


@pytest.mark.parametrize(
    ("name", "module", "message"),
    [
        ("m.safetensors", "torch", r'verified with PyTorch: pip install "gated_c\[torch\]"'),
        ("m.weights.h5", "keras", "verified with Keras and a backend of it: pip install keras torch"),
        ("m.onnx", "onnxruntime", "verified with ONNX Runtime: pip install onnx onnxruntime"),
    ],
)
def test_a_missing_framework_is_named(tmp_path, monkeypatch, name, module, message):
    pytest.importorskip(module)
    write([spec()], tmp_path / name)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=message):
        open_reference(tmp_path / name, config=tmp_path / "m.json")


def test_special_values_are_equal_to_themselves_only(tmp_path):
    """NaN where the framework has it is no difference; NaN in its place is an infinite one."""
    torch.save(torch.nn.GRU(3, 4).state_dict(), tmp_path / "m.pt")
    model, reference = gc.load(tmp_path / "m.pt"), open_reference(tmp_path / "m.pt")
    x = random_input(model, reference.lead)
    x[3, 0, 0] = np.nan
    (finding,) = verify(model, reference, x)
    assert finding.is_fine
    model.layers[0].weights["weight_ih_l0"][0, 0] = np.nan
    (finding,) = verify(model, reference, x)
    assert finding.error == np.inf
