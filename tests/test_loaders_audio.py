"""JSON of audio plug-ins: RTNeural's, made from Keras as its own script does, and the Neural Amp Modeler's."""

import json

import numpy as np
import pytest
import torch
from keras_models import assert_runs_like, keras, network

import gated_c as gc

RTNEURAL_TYPES = {
    "Dense": "dense",
    "TimeDistributed": "time-distributed-dense",
    "Conv1D": "conv1d",
    "GRU": "gru",
    "LSTM": "lstm",
}


def rtneural_json(model):
    """As RTNeural's python/model_utils.py writes it."""
    layers = []
    for layer in model.layers:
        described = {
            "type": RTNEURAL_TYPES.get(type(layer).__name__, "activation"),
            "activation": getattr(getattr(layer, "activation", None), "__name__", ""),
            "shape": [None, None, layer.output.shape[-1]],
            "weights": [weight.value.detach().tolist() for weight in layer.weights],
        }
        if type(layer).__name__ == "Conv1D":
            described |= {"kernel_size": list(layer.kernel_size), "dilation": list(layer.dilation_rate)}
        layers.append(described)
    return {"in_shape": [None, None, 2], "layers": layers}


def written(tmp_path, content, name="network.json"):
    path = tmp_path / name
    path.write_text(json.dumps(content, indent=4))
    return path


def rtneural_networks():
    layers = keras.layers
    return {
        "gru": [layers.GRU(5, return_sequences=True, reset_after=True), layers.Dense(1)],
        "lstm": [layers.LSTM(6, return_sequences=True), layers.Dense(3, activation="tanh"), layers.Dense(1)],
        "conv": [
            layers.Conv1D(4, 3, padding="causal", dilation_rate=2, activation="relu"),
            layers.TimeDistributed(layers.Dense(3)),
            layers.Activation("sigmoid"),
            layers.GRU(2, return_sequences=True),
        ],
    }


@pytest.mark.parametrize("name", ["gru", "lstm", "conv"])
def test_rtneural_networks_have_the_bits_of_the_keras_network_they_come_from(name, tmp_path):
    model = network(*rtneural_networks()[name], shape=(None, 2))
    loaded = gc.load(written(tmp_path, rtneural_json(model)))
    x = np.random.default_rng(1).standard_normal((3, 20, 2), np.float32)
    expected, _ = gc.from_keras(model)(x)
    actual, _ = loaded(x)
    np.testing.assert_array_equal(actual, expected)
    assert_runs_like(loaded, model, x)
    stream = loaded.stream(3)
    for t in range(20):
        np.testing.assert_array_equal(stream.step(x[:, t]), expected[:, t])


def nam_json(hidden_size=4, num_layers=2, **more):
    """As the trainer exports an LSTM, its starting state not zero; and the network itself."""
    torch.manual_seed(0)
    lstm = torch.nn.LSTM(1, hidden_size, num_layers, batch_first=True)
    head = torch.nn.Linear(hidden_size, 1)
    h, c = torch.rand(2, num_layers, hidden_size)
    weights = []
    with torch.no_grad():
        for k in range(num_layers):
            w, r = getattr(lstm, f"weight_ih_l{k}"), getattr(lstm, f"weight_hh_l{k}")
            bias = getattr(lstm, f"bias_ih_l{k}") + getattr(lstm, f"bias_hh_l{k}")
            for part in (torch.cat([w, r], 1), bias, h[k], c[k]):
                weights += part.flatten().tolist()
        for part in (head.weight, head.bias):
            weights += part.flatten().tolist()

    def run(x):
        with torch.no_grad():
            return head(lstm(torch.from_numpy(x), (h[:, None], c[:, None]))[0]).numpy()

    config = {"input_size": 1, "hidden_size": hidden_size, "num_layers": num_layers}
    content = {"version": "0.5.4", "architecture": "LSTM", "config": config, "weights": weights, "sample_rate": 48000}
    return content | more, run


@pytest.mark.parametrize("num_layers", [1, 2])
def test_a_nam_file_gives_the_samples_of_its_network_from_its_own_starting_state(num_layers, tmp_path):
    content, run = nam_json(num_layers=num_layers)
    model = gc.load(written(tmp_path, content, "amp.nam"))
    x = np.random.default_rng(1).standard_normal((1, 50, 1), np.float32)
    expected = run(x)[0]
    y, _ = model(x[0])
    np.testing.assert_allclose(y, expected, atol=2e-6)
    stream = model.stream()
    for _ in range(2):
        samples = np.stack([stream.step(x[:, t])[0].copy() for t in range(50)])
        np.testing.assert_array_equal(samples, y)
        stream.reset()


def test_inspect_lists_their_recurrent_layers(tmp_path):
    content, _ = nam_json()
    (lstm,) = gc.inspect(written(tmp_path, content, "amp.nam"))
    assert (lstm.name, lstm.cell, lstm.num_layers, lstm.hidden_size) == ("lstm", "lstm", 2, 4)


def changed_nam(**changes):
    content, _ = nam_json()
    return content | changes


def changed_rtneural(index, **changes):
    content = rtneural_json(network(*rtneural_networks()["gru"], shape=(None, 2)))
    content["layers"][index] |= changes
    return content


def with_weight(value):
    content, _ = nam_json()
    return content | {"weights": [value, *content["weights"][1:]]}


def changed_in_shape(shape):
    return changed_rtneural(0) | {"in_shape": shape}


def dense():
    return {"type": "dense", "shape": [1], "weights": [[[1.0]], [0.0]]}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: changed_nam(weights=[1.0] * 7), "weights: expected .* numbers, got 7"),
        (lambda: changed_nam(weights={}), "weights: expected .* numbers, got dict"),
        (lambda: changed_nam(weights=["1"] * len(nam_json()[0]["weights"])), "numbers alone"),
        (lambda: changed_nam(config=3), "config: expected an object"),
        (lambda: changed_nam(config={"input_size": 1, "hidden_size": 10**9, "num_layers": 1}), "weights: expected"),
        (lambda: changed_nam(config={"input_size": 1, "hidden_size": 10**3000, "num_layers": 1}), "hidden_size"),
        (lambda: changed_nam(config={"input_size": 1, "hidden_size": -4, "num_layers": 1}), "hidden_size"),
        (lambda: changed_nam(config={"input_size": 1, "hidden_size": 4, "num_layers": 10**9}), "weights: expected"),
        (lambda: changed_nam(weights=[[1.0]] * len(nam_json()[0]["weights"])), "got lists"),
        (lambda: with_weight(10**400), "numbers alone"),
        (lambda: with_weight(True), "numbers alone"),
        (lambda: with_weight(1e300), "within float32's range"),
        (list, "not a JSON object"),
        (lambda: changed_rtneural(0, weights=[]), "weights: expected kernel, recurrent_kernel, bias, got 0"),
        (lambda: changed_rtneural(0, weights=[[1], [[2], [3, 4]], [5]]), "equal lengths"),
        (lambda: changed_rtneural(1, weights=[[["1"]], [None]]), "numbers alone"),
        (lambda: changed_rtneural(1, weights=[[[10**400]], [0]]), "numbers alone"),
        (lambda: changed_rtneural(0, shape=[10**4000]), "number of features"),
        (lambda: changed_rtneural(0, shape=[None, None, 7]), "kernel: expected"),
        (lambda: changed_rtneural(1, shape=[None, None, 7]), "expected 7 columns"),
        (lambda: changed_rtneural(1, shape=None), "number of features"),
        (lambda: changed_rtneural(1, type=3), "expected an object with a type"),
        (lambda: {"in_shape": [2], "layers": 3}, "layers: expected a list"),
        (lambda: {"in_shape": 3, "layers": [{"type": "dense", "shape": [1], "weights": []}]}, "in_shape: expected"),
        (lambda: changed_in_shape([None, None, 3]), "in_shape: expected 2 features"),
        (lambda: {"in_shape": [1], "layers": [dense()]}, "at least one LSTM, GRU or RNN"),
    ],
)
def test_broken_files_say_what_is_wrong(make, message, tmp_path):
    path = written(tmp_path, make())
    with pytest.raises(gc.FormatError, match=message) as caught:
        gc.load(path)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: changed_nam(architecture="WaveNet"), "architecture WaveNet; only LSTM"),
        (lambda: changed_rtneural(1, type="conv2d"), r"layers\[1\] \(conv2d\)"),
        (lambda: changed_rtneural(1, activation="prelu"), "activation prelu"),
        (lambda: {"neither": "nor"}, "neither of RTNeural"),
    ],
)
def test_what_is_not_run_is_named(make, message, tmp_path):
    with pytest.raises(gc.UnsupportedError, match=message):
        gc.load(written(tmp_path, make()))


@pytest.mark.parametrize(
    "text",
    [
        "{",
        '{"architecture": "LSTM", "config"',
        '{"a": NaN}',
        '{"a": ' + "1" * 5000 + "}",
        '{"a": ' + "[" * 100_000,
        '{"\xff',
    ],
)
def test_what_is_no_json_is_an_error(text, tmp_path):
    (tmp_path / "amp.nam").write_text(text, encoding="latin-1")
    with pytest.raises(gc.FormatError):
        gc.load(tmp_path / "amp.nam")


def test_a_file_larger_than_any_network_is_not_read(tmp_path):
    with open(tmp_path / "amp.nam", "wb") as file:
        file.write(b'{"a": "')
        file.truncate(65 << 20)
    with pytest.raises(gc.FormatError, match="at most 64 MiB"):
        gc.load(tmp_path / "amp.nam")
