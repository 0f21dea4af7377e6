"""What torch.onnx.export writes, by both exporters: the same numbers as the module's, and its order of axes."""

import io
import warnings

import numpy as np
import pytest

import gated_c as gc
from gated_c.loaders.onnx.file import read_network

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")

import torch  # noqa: E402
from torch import nn  # noqa: E402

torch.set_num_threads(1)

N, T, C, H = 3, 5, 4, 6


class Network(nn.Module):
    """A recurrent module, a way to one vector or a sequence, a head."""

    def __init__(self, kind, way, embedding=False, **options):
        super().__init__()
        self.embedding = nn.Embedding(9, C) if embedding else nn.Identity()
        self.rnn = kind(C, H, **options)
        width = H * (2 if options.get("bidirectional") else 1)
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 7), nn.GELU(), nn.Linear(7, 2), nn.Softmax(-1))
        self.way = way

    def forward(self, x):
        y, state = self.rnn(self.embedding(x))
        h = state[0] if isinstance(state, tuple) else state
        return self.head(self.way(y, h, self.rnn.batch_first))


WAYS = {
    "sequence": lambda y, h, batch_first: y,
    "last": lambda y, h, batch_first: y[:, -1] if batch_first else y[-1],
    "final": lambda y, h, batch_first: h[-1],
    "both final": lambda y, h, batch_first: torch.cat([h[-2], h[-1]], -1),
    "mean": lambda y, h, batch_first: y.mean(1 if batch_first else 0),
    "max": lambda y, h, batch_first: y.max(1 if batch_first else 0).values,
    "transposed": lambda y, h, batch_first: h[-2:].transpose(0, 1).reshape(h.shape[1], -1),
}


def exported(module, args, dynamo, **options):
    """The bytes of the file that one of the exporters writes."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of deprecation, and that the batch is fixed, which ours is not
        if dynamo:
            program = torch.onnx.export(module, args, dynamo=True, verbose=False, **options)
            return program.model_proto.SerializeToString()
        torch.onnx.export(module, args, buffer, dynamo=False, **options)
    return buffer.getvalue()


def check(path, module, x, dynamo, **options):
    module.eval()
    path.write_bytes(exported(module, (x,), dynamo, **options))
    layers = read_network(path)
    model = gc.Model(layers)
    for batch in (x, torch.cat([x, x], 0 if model.batch_first else 1)):  # whatever batch the exporter saw
        with torch.no_grad():
            expected = module(batch).numpy()
        y, _ = model(batch.numpy())
        assert y.shape == expected.shape
        np.testing.assert_allclose(y, expected, atol=2e-6)
    return layers


def inputs(batch_first, embedding=False):
    torch.manual_seed(0)
    shape = (N, T) if batch_first else (T, N)
    return torch.randint(0, 9, shape) if embedding else torch.randn(*shape, C)


@pytest.mark.parametrize("way", sorted(WAYS))
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("dynamic", [False, True])
def test_torchscript(tmp_path, way, batch_first, dynamic):
    both = way in ("both final", "transposed")
    kind = (nn.LSTM, nn.GRU, nn.RNN)[(sorted(WAYS).index(way) + batch_first) % 3]
    module = Network(kind, WAYS[way], batch_first=batch_first, bidirectional=both or way == "mean", num_layers=2)
    axes = {"x": {0: "a", 1: "b"}} if dynamic else None
    layers = check(tmp_path / "m.onnx", module, inputs(batch_first), False, input_names=["x"], dynamic_axes=axes)
    assert [layer.batch_first for layer in layers if isinstance(layer, gc.LayerSpec)] == [batch_first] * 2


@pytest.mark.parametrize("opset", [9, 12, 17, 20])
def test_torchscript_of_every_opset(tmp_path, opset):
    module = Network(nn.LSTM, WAYS["both final"], batch_first=True, bidirectional=True, embedding=True)
    layers = check(tmp_path / "m.onnx", module, inputs(True, True), False, opset_version=opset)
    names = [type(layer).__name__ for layer in layers]
    assert names == ["Embedding", "LayerSpec", "Pool", "LayerNorm", "Dense", "Dense", "Softmax"] or opset < 17


@pytest.mark.parametrize(
    ("kind", "way", "options", "dynamic"),
    [
        (nn.LSTM, "sequence", {"num_layers": 2}, False),
        (nn.LSTM, "last", {"batch_first": True, "embedding": True}, True),
        (nn.GRU, "both final", {"batch_first": True, "bidirectional": True}, True),
        (nn.GRU, "max", {}, True),
    ],
)
def test_dynamo(tmp_path, kind, way, options, dynamic):
    batch_first = options.get("batch_first", False)
    shapes = ({0: torch.export.Dim.AUTO, 1: torch.export.Dim.AUTO},) if dynamic else None
    module = Network(kind, WAYS[way], **options)
    layers = check(
        tmp_path / "m.onnx", module, inputs(batch_first, "embedding" in options), True, dynamic_shapes=shapes
    )
    recurrent = next(layer for layer in layers if isinstance(layer, gc.LayerSpec))
    assert recurrent.batch_first is batch_first


class WithStates(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(C, H, num_layers=2)

    def forward(self, x, h, c):
        return self.rnn(x, (h, c))


@pytest.mark.parametrize("dynamo", [False, True])
def test_states_are_arguments_and_results(tmp_path, dynamo):
    module, x = WithStates().eval(), inputs(False)
    h, c = torch.randn(2, 2, N, H)
    (tmp_path / "m.onnx").write_bytes(exported(module, (x, h, c), dynamo))
    model = gc.Model(read_network(tmp_path / "m.onnx"))
    y, states = model(x.numpy(), tuple((h[k : k + 1].numpy(), c[k : k + 1].numpy()) for k in range(2)))
    with torch.no_grad():
        expected, (h_n, c_n) = module(x, h, c)
    np.testing.assert_allclose(y, expected, atol=1e-6)
    np.testing.assert_allclose(np.concatenate([h for h, _ in states]), h_n, atol=1e-6)
    np.testing.assert_allclose(np.concatenate([c for _, c in states]), c_n, atol=1e-6)


class Stream(nn.Module):
    """One step of one sequence, as for a device: no axis is longer than 1 but that of features."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(C, H, batch_first=True)
        self.head = nn.Linear(H, 2)

    def forward(self, x):
        return self.head(self.rnn(x)[0].squeeze(1))


def test_a_network_of_one_step_takes_any_number(tmp_path):
    module, x = Stream().eval(), torch.randn(1, 1, C)
    (tmp_path / "m.onnx").write_bytes(exported(module, (x,), False))
    model = gc.Model(read_network(tmp_path / "m.onnx"))
    with torch.no_grad():
        np.testing.assert_allclose(model(x.numpy())[0], module(x), atol=1e-6)
    assert model(np.zeros((3, 5, C), np.float32))[0].shape == (3, 2)
