"""Plain operators and glue around recurrent nodes, computed by ONNX Runtime and by the layers that they become."""

import numpy as np
import pytest

import gated_c as gc
from gated_c import UnsupportedError
from gated_c import layers as L
from gated_c.loaders.onnx.file import read_network
from gated_c.tolerance import tolerance

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx_models import assert_computes, floats, info, node, runtime, save, weights  # noqa: E402

RNG = np.random.default_rng(3)
T, N, C, H = 5, 3, 4, 6

X = (2 * floats(RNG, T, N, C)).astype(np.float32)
IDS = RNG.integers(0, 9, (N, T))


def integers(*values):
    return np.array(values, np.int64)


def kinds(layers):
    """Names of layers without a recurrent one; of a Dense or Elementwise its activation too."""
    names = []
    for layer in layers:
        name = "RNN" if isinstance(layer, gc.LayerSpec) else type(layer).__name__
        function = getattr(layer, "activation", L.LINEAR).name
        names.append(name if function == "linear" else f"{name}:{function}")
    return names


def after(path, nodes, constants=None, opset=17, directions=1, shape=("T", "N", C), outputs="out"):
    """A GRU with ``y`` [T,N,D*H] and ``h`` [D,N,H], and what follows it."""
    start = [
        node("GRU", "x W R B", "Y h", "gru", hidden_size=H, **direction(directions)),
        node("Transpose", "Y", "Yt", perm=[0, 2, 1, 3]),
        node("Reshape", "Yt y_shape", "y"),
    ]
    arrays = weights(RNG, "GRU", C, H, directions) | {"y_shape": integers(0, 0, -1)} | (constants or {})
    return save(path, [*start, *nodes], {"x": list(shape)}, outputs, arrays, opset)


def assert_computes_in_the_order_of_x(path, x, **others):
    """The graph's own output is time-major although x is not."""
    layers = read_network(path)
    y, _ = gc.Model(layers)(x)
    expected = runtime(path).run(None, {"x": x, **others})[0].swapaxes(0, 1)
    np.testing.assert_allclose(y, expected, rtol=0, atol=tolerance(layers, x, y))
    return layers


def direction(directions):
    return {"direction": "bidirectional"} if directions == 2 else {}


#: Operators of one input: attributes, opset, and the layers that follow the recurrent one.
UNARY = {
    "Relu": ({}, 17, ["Elementwise:relu"]),
    "Sigmoid": ({}, 17, ["Elementwise:sigmoid"]),
    "Tanh": ({}, 17, ["Elementwise:tanh"]),
    "Softplus": ({}, 17, ["Elementwise:softplus"]),
    "Softsign": ({}, 17, ["Elementwise:softsign"]),
    "Exp": ({}, 17, ["Elementwise:exponential"]),
    "Mish": ({}, 18, ["Elementwise:mish"]),
    "HardSwish": ({}, 17, ["Elementwise:hard_silu"]),
    "HardSigmoid": ({"alpha": 0.3}, 17, ["Elementwise:hard_sigmoid"]),
    "LeakyRelu": ({"alpha": 0.3}, 17, ["Elementwise:leaky_relu"]),
    "ThresholdedRelu": ({"alpha": 0.1}, 17, ["Elementwise:thresholded_relu"]),
    "Elu": ({"alpha": 0.3}, 17, ["Elementwise:elu"]),
    "Celu": ({"alpha": 0.3}, 17, ["Elementwise:celu"]),
    "Selu": ({}, 17, ["Elementwise:selu"]),
    "Gelu": ({"approximate": "tanh"}, 20, ["Elementwise:gelu_tanh"]),
    "Shrink": ({"lambd": 0.1, "bias": 0.1}, 17, ["Elementwise:soft_shrink"]),
    "Neg": ({}, 17, ["Affine"]),
    "Identity": ({}, 17, []),
    "Dropout": ({}, 17, []),
    "Softmax": ({}, 17, ["Softmax"]),
    "LogSoftmax": ({"axis": 2}, 12, ["Softmax"]),
    "Cast": ({"to": 1}, 17, []),
}


@pytest.mark.parametrize("op", sorted(UNARY))
def test_operators_of_one_input(tmp_path, op):
    attributes, opset, expected = UNARY[op]
    path = after(tmp_path / "m.onnx", [node(op, "y", "out", **attributes)], opset=opset)
    layers, *_ = assert_computes(path, X)
    assert kinds(layers) == ["RNN", *expected]


W8, B8 = floats(RNG, H, 8), floats(RNG, 8)
PER_FEATURE = {name: floats(RNG, H) + 1 for name in ("scale", "shift", "mean", "var")}


@pytest.mark.parametrize(
    ("nodes", "constants", "expected"),
    [
        ([node("MatMul", "y w", "out")], {"w": W8}, ["Dense"]),
        ([node("MatMul", "y w", "a"), node("Add", "b a", "out")], {"w": W8, "b": B8}, ["Dense"]),
        (
            [node("MatMul", "y w", "a"), node("Add", "a b", "c"), node("Relu", "c", "out")],
            {"w": W8, "b": B8},
            ["Dense:relu"],
        ),
        (
            [node("MatMul", "y w", "a"), node("Relu", "a", "c"), node("Add", "c b", "out")],
            {"w": W8, "b": B8},
            ["Dense:relu", "Affine"],
        ),
        ([node("Mul", "y scale", "out")], PER_FEATURE, ["Affine"]),
        ([node("Div", "y scale", "out")], PER_FEATURE, ["Affine"]),
        ([node("Sub", "scale y", "out")], PER_FEATURE, ["Affine"]),
        ([node("Sub", "y scale", "a"), node("Mul", "two a", "out")], PER_FEATURE | {"two": np.float32(2)}, None),
        ([node("LayerNormalization", "y scale shift", "out", epsilon=1e-3)], PER_FEATURE, ["LayerNorm"]),
        ([node("LayerNormalization", "y scale", "out")], PER_FEATURE, ["LayerNorm"]),
        ([node("Clip", "y low high", "out")], {"low": np.float32(0), "high": np.float32(6)}, ["Elementwise:relu6"]),
        ([node("Clip", "y low", "out")], {"low": np.float32(0)}, ["Elementwise:relu"]),
        ([node("PRelu", "y slope", "out")], {"slope": np.float32([0.2])}, ["Elementwise:leaky_relu"]),
        ([node("Sigmoid", "y", "a"), node("Mul", "y a", "out")], {}, ["Elementwise:silu"]),
        ([node("Softplus", "y", "a"), node("Tanh", "a", "b"), node("Mul", "b y", "out")], {}, ["Elementwise:mish"]),
    ],
)
def test_operators_with_constants(tmp_path, nodes, constants, expected):
    layers, *_ = assert_computes(after(tmp_path / "m.onnx", nodes, constants), X)
    assert expected is None or kinds(layers) == ["RNN", *expected]


def test_gelu_in_parts(tmp_path):
    """As exporters wrote it before opset 20, with the half first or last."""
    erf = [node("Div", "y root", "a"), node("Erf", "a", "b"), node("Add", "b one", "c")]
    numbers = {"root": np.float32(np.sqrt(2)), "one": np.float32(1), "half": np.float32(0.5)}
    for end in (
        [node("Mul", "y c", "d"), node("Mul", "d half", "out")],
        [node("Mul", "y half", "d"), node("Mul", "d c", "out")],
    ):
        layers, *_ = assert_computes(after(tmp_path / "m.onnx", [*erf, *end], numbers), X)
        assert kinds(layers) == ["RNN", "Elementwise:gelu"]


@pytest.mark.parametrize(
    "cube", [[node("Pow", "y three", "cube")], [node("Mul", "y y", "square"), node("Mul", "y square", "cube")]]
)
def test_approximate_gelu_in_parts(tmp_path, cube):
    """As PyTorch's exporters and tf2onnx write it."""
    nodes = [
        *cube,
        node("Mul", "cube k", "a"),
        node("Add", "y a", "b"),
        node("Mul", "b root", "c"),
        node("Tanh", "c", "d"),
        node("Add", "d one", "e"),
        node("Mul", "y e", "f"),
        node("Mul", "f half", "out"),
    ]
    values = {"three": 3, "k": 0.044715, "root": np.sqrt(2 / np.pi), "one": 1, "half": 0.5}
    numbers = {name: np.float32(value) for name, value in values.items()}
    layers, *_ = assert_computes(after(tmp_path / "m.onnx", nodes, numbers), X)
    assert kinds(layers) == ["RNN", "Elementwise:gelu_tanh"]


def test_an_activation_in_parts_after_a_scale(tmp_path):
    nodes = [node("Mul", "y half", "a"), node("Sigmoid", "a", "b"), node("Mul", "a b", "out")]
    layers, *_ = assert_computes(after(tmp_path / "m.onnx", nodes, {"half": np.float32(0.5)}), X)
    assert kinds(layers) == ["RNN", "Affine", "Elementwise:silu"]


def test_hard_swish_in_parts(tmp_path):
    nodes = [node("Add", "y three", "a"), node("Clip", "a zero six", "b"), node("Mul", "y b", "c")]
    numbers = {"three": np.float32(3), "zero": np.float32(0), "six": np.float32(6)}
    path = after(tmp_path / "m.onnx", [*nodes, node("Div", "c six", "out")], numbers)
    layers, *_ = assert_computes(path, X)
    assert kinds(layers) == ["RNN", "Elementwise:hard_silu"]


@pytest.mark.parametrize("square", [node("Pow", "d two", "e"), node("Mul", "d d", "e")])
def test_layer_norm_in_parts(tmp_path, square):
    """As PyTorch's exporter writes it before opset 17."""
    nodes = [
        node("ReduceMean", "y", "m", axes=[-1]),
        node("Sub", "y m", "d"),
        square,
        node("ReduceMean", "e", "v", axes=[-1]),
        node("Add", "v eps", "f"),
        node("Sqrt", "f", "g"),
        node("Div", "d g", "h1"),
        node("Mul", "h1 scale", "i"),
        node("Add", "i shift", "out"),
    ]
    numbers = PER_FEATURE | {"two": np.float32(2), "eps": np.float32(1e-3)}
    layers, *_ = assert_computes(after(tmp_path / "m.onnx", nodes, numbers, opset=16), X)
    assert kinds(layers) == ["RNN", "LayerNorm"]
    assert layers[1].epsilon == pytest.approx(1e-3)


def test_layer_norm_in_parts_of_one_direction(tmp_path):
    nodes = [
        node("Gather", "h last", "s", axis=0),
        node("ReduceMean", "s", "m", axes=[-1]),
        node("Sub", "s m", "d"),
        node("Mul", "d d", "e"),
        node("ReduceMean", "e", "v", axes=[-1]),
        node("Add", "v eps", "f"),
        node("Sqrt", "f", "g"),
        node("Div", "d g", "out"),
    ]
    numbers = {"last": np.int64(-1), "eps": np.float32(1e-3)}
    layers, *_ = assert_computes(after(tmp_path / "m.onnx", nodes, numbers, opset=16, directions=2), X)
    assert kinds(layers) == ["RNN", "Pool", "Slice", "LayerNorm"]


#: A LayerNorm as tf2onnx writes it: BatchNormalization of one channel for every step.
NORM_OF_ROWS = [
    node("Reshape", "y rows", "r"),
    node("Shape", "y", "s"),
    node("Slice", "s zero two zero", "lead"),
    node("ReduceProd", "lead", "count", keepdims=1),
    node("Expand", "one count", "ones"),
    node("Expand", "nought count", "noughts"),
    node("ReduceMean", "r", "m", axes=[0, 2, 3], keepdims=1),
    node("Sub", "r m", "d"),
    node("ReduceSumSquare", "d", "sum", axes=[0, 2, 3], keepdims=0),
    node("Squeeze", "m axes", "mean"),
    node("Shape", "r", "rs"),
    node("Gather", "rs axes", "sizes"),
    node("ReduceProd", "sizes", "size", keepdims=0),
    node("Cast", "size", "divisor", to=1),
    node("Div", "sum divisor", "variance"),
    node("BatchNormalization", "r ones noughts mean variance", "n", "norm", epsilon=1e-3),
    node("Reshape", "n s", "out"),
]


def norm_of_rows(path, scale):
    numbers = {"rows": integers(1, -1, H, 1), "zero": integers(0), "two": integers(2), "axes": integers(0, 2, 3)}
    numbers |= {"one": np.full(1, scale, np.float32), "nought": np.zeros(1, np.float32)}
    return after(path, NORM_OF_ROWS, numbers, opset=15)


def test_layer_norm_as_a_normalization_of_rows(tmp_path):
    layers, *_ = assert_computes(norm_of_rows(tmp_path / "m.onnx", 1), X)
    assert kinds(layers) == ["RNN", "LayerNorm"]
    assert layers[1].epsilon == pytest.approx(1e-3)


def test_a_normalization_of_rows_with_a_scale_of_each_is_unsupported(tmp_path):
    with pytest.raises(UnsupportedError, match="BatchNormalization 'norm': scale and B of every step"):
        read_network(norm_of_rows(tmp_path / "m.onnx", 2))


def test_part_of_a_pattern_alone_is_unsupported(tmp_path):
    path = after(tmp_path / "m.onnx", [node("Erf", "y", "out", "parted")])
    with pytest.raises(UnsupportedError, match="erf of 'parted' is not supported on its own; prefix='gru' loads"):
        read_network(path)


def test_batch_normalization_of_an_axis_of_features(tmp_path):
    nodes = [
        node("Transpose", "y", "a", perm=[1, 2, 0]),
        node("BatchNormalization", "a scale shift mean var", "b", epsilon=1e-3),
        node("Transpose", "b", "out", perm=[2, 0, 1]),
    ]
    layers, *_ = assert_computes(after(tmp_path / "m.onnx", nodes, PER_FEATURE), X)
    assert kinds(layers) == ["RNN", "Affine"]


@pytest.mark.parametrize("options", [{}, {"transB": 1}, {"alpha": 0.5, "beta": 2.0}])
@pytest.mark.parametrize("bias", [None, B8, B8[None], np.float32(0.5)])
def test_gemm(tmp_path, options, bias):
    constants = {"w": W8.T if "transB" in options else W8, "last": np.int64(-1)}
    constants |= {} if bias is None else {"b": bias}
    nodes = [
        node("Gather", "y last", "v", axis=0),
        node("Gemm", "v w" if bias is None else "v w b", "out", **options),
    ]
    layers, *_ = assert_computes(after(tmp_path / "m.onnx", nodes, constants), X)
    assert kinds(layers) == ["RNN", "Pool", "Dense"]


#: Ways to one vector per row: nodes, opset, the kind of Pool.
POOLS = {
    "gather": ([node("Gather", "y minus_one", "out", axis=0)], "last"),
    "gather the first": ([node("Gather", "y zero", "out", axis=0)], "first"),
    "gather with an axis": ([node("Gather", "y minus_ones", "a", axis=0), node("Squeeze", "a zeros", "out")], "last"),
    "slice": ([node("Slice", "y minus_ones end zeros", "a"), node("Squeeze", "a zeros", "out")], "last"),
    "mean": ([node("ReduceMean", "y", "out", axes=[0], keepdims=0)], "mean"),
    "mean and squeeze": ([node("ReduceMean", "y", "a", axes=[-3]), node("Squeeze", "a zeros", "out")], "mean"),
    "max": ([node("ReduceMax", "y", "out", axes=[0], keepdims=0)], "max"),
    "global": (
        [
            node("Transpose", "y", "a", perm=[1, 2, 0]),
            node("GlobalAveragePool", "a", "b"),
            node("Flatten", "b", "out"),
        ],
        "mean",
    ),
    "final": ([node("Transpose", "h", "a", perm=[1, 0, 2]), node("Reshape", "a rows", "out")], "final"),
}


@pytest.mark.parametrize("way", sorted(POOLS))
@pytest.mark.parametrize("directions", [1, 2])
def test_pools(tmp_path, way, directions):
    nodes, kind = POOLS[way]
    constants = {"minus_one": np.int64(-1), "zero": np.int64(0), "minus_ones": integers(-1), "zeros": integers(0)}
    constants |= {"end": integers(2**63 - 1), "rows": integers(-1, directions * H)}
    layers, y, _ = assert_computes(after(tmp_path / "m.onnx", nodes, constants, directions=directions), X)
    assert layers[-1].kind == kind
    assert y.shape == (N, directions * H)


@pytest.mark.parametrize(("op", "kind"), [("MaxPool", "max"), ("AveragePool", "mean")])
def test_a_pool_with_a_window_of_all_steps(tmp_path, op, kind):
    nodes = [node("Transpose", "y", "a", perm=[1, 2, 0]), node(op, "a", "b", "pool", kernel_shape=[T])]
    path = after(tmp_path / "m.onnx", [*nodes, node("Flatten", "b", "out")], shape=(T, "N", C))
    layers, *_ = assert_computes(path, X)
    assert layers[-1].kind == kind


@pytest.mark.parametrize("options", [{"kernel_shape": [2]}, {"kernel_shape": [T], "pads": [1, 1]}])
def test_a_pool_with_another_window_is_unsupported(tmp_path, options):
    nodes = [node("Transpose", "y", "a", perm=[1, 2, 0]), node("MaxPool", "a", "out", "pool", **options)]
    with pytest.raises(UnsupportedError, match="MaxPool 'pool': with a window other than the whole sequence"):
        read_network(after(tmp_path / "m.onnx", nodes, shape=(T, "N", C)))


def test_the_last_step_forwards_and_the_first_backwards_are_the_final_ones(tmp_path):
    """As Keras's Bidirectional comes out of tf2onnx: a slice of each direction's half."""
    constants = {"last": np.int64(-1), "first": np.int64(0), "middle": integers(H), "end": integers(2 * H)}
    constants |= {"zero": integers(0), "axis": integers(2)}
    nodes = [
        node("Slice", "y zero middle axis", "forwards"),
        node("Slice", "y middle end axis", "backwards"),
        node("Gather", "forwards last", "f", axis=0),
        node("Gather", "backwards first", "b", axis=0),
        node("Concat", "f b", "out", axis=1),
    ]
    layers, *_ = assert_computes(after(tmp_path / "m.onnx", nodes, constants, directions=2), X)
    assert kinds(layers) == ["RNN", "Pool"]
    assert (layers[1].kind, layers[1].reverse_size) == ("final", H)


@pytest.mark.parametrize(("op", "mode"), [("Add", "sum"), ("Mul", "mul")])
def test_the_final_outputs_of_both_directions_merged(tmp_path, op, mode):
    nodes = [
        node("Split", "y", "forwards backwards", axis=2),
        node("Gather", "forwards last", "f", axis=0),
        node("Gather", "backwards first", "b", axis=0),
        node(op, "f b", "out"),
    ]
    constants = {"last": np.int64(-1), "first": np.int64(0)}
    layers, *_ = assert_computes(after(tmp_path / "m.onnx", nodes, constants, directions=2), X)
    assert kinds(layers) == ["RNN", "Pool", "Merge"]
    assert layers[2].mode == mode


@pytest.mark.parametrize(("op", "mode"), [("Add", "sum"), ("Mul", "mul")])
def test_both_directions_merged(tmp_path, op, mode):
    nodes = [node("Split", "y", "f b", axis=2), node(op, "f b", "out")]
    layers, *_ = assert_computes(after(tmp_path / "m.onnx", nodes, directions=2), X)
    assert kinds(layers) == ["RNN", "Merge"]
    assert layers[1].mode == mode


@pytest.mark.parametrize("states", [False, True])
def test_a_forward_and_a_backward_node_are_one_layer(tmp_path, states):
    forward, backward = (weights(RNG, "LSTM", C, H, suffix=suffix) for suffix in "fb")
    nodes = [
        node("LSTM", "x Wf Rf Bf", "Yf hf", "forward", hidden_size=H),
        node("LSTM", "x Wb Rb Bb", "Yb hb", "backward", hidden_size=H, direction="reverse"),
        node("Concat", "hf hb", "a", axis=2) if states else node("Concat", "Yf Yb", "a", axis=3),
        node("Squeeze", "a axis", "out"),
    ]
    constants = {**forward, **backward, "axis": integers(0 if states else 1)}
    path = save(tmp_path / "m.onnx", nodes, {"x": ["T", "N", C]}, "out", constants)
    layers, *_ = assert_computes(path, X)
    assert kinds(layers) == ["RNN", "Pool"] if states else ["RNN"]
    assert layers[0].bidirectional


def test_features_in_parts(tmp_path):
    constants = {"sizes": integers(2, 4), "w": floats(RNG, 4, 2)}
    nodes = [node("Split", "y sizes", "a b", axis=-1), node("Tanh", "b", "c"), node("MatMul", "c w", "out")]
    layers, *_ = assert_computes(after(tmp_path / "m.onnx", nodes, constants), X)
    assert kinds(layers) == ["RNN", "Elementwise:tanh", "Slice", "Dense"]


def test_an_embedding_of_ids_with_the_batch_first(tmp_path):
    constants = weights(RNG, "LSTM", 3, H, 2) | {"table": floats(RNG, 9, 3), "axis": integers(1)}
    nodes = [
        node("Cast", "x", "i", to=6),
        node("Gather", "table i", "e", "embedding"),
        node("Transpose", "e", "t", perm=[1, 0, 2]),
        node("LSTM", "t W R B", "Y", "lstm", hidden_size=H, direction="bidirectional"),
        node("Transpose", "Y", "Yt", perm=[2, 0, 1, 3]),
        node("Reshape", "Yt shape", "out"),
    ]
    inputs = {"x": info("x", ["N", "T"], onnx.TensorProto.INT64)}
    path = save(tmp_path / "m.onnx", nodes, inputs, "out", constants | {"shape": integers(0, 0, 2 * H)})
    layers, *_ = assert_computes(path, IDS)
    assert kinds(layers) == ["Embedding", "RNN"]
    assert [layer.name for layer in layers] == ["embedding", "lstm"]
    assert layers[1].batch_first


def test_a_causal_convolution(tmp_path):
    """Zeros before the first step, by the node's pads or a Pad."""
    kernel = floats(RNG, 7, C, 3)
    ends = [
        node("Transpose", "c", "t", perm=[2, 0, 1]),
        node("GRU", "t W R B", "Y", "gru", hidden_size=H),
        node("Squeeze", "Y one", "out"),
    ]
    constants = weights(RNG, "GRU", 7, H) | {"k": kernel, "kb": floats(RNG, 7), "one": integers(1)}
    constants["pads"] = integers(0, 0, 4, 0, 0, 0)
    for nodes in (
        [node("Transpose", "x", "a", perm=[0, 2, 1]), node("Conv", "a k kb", "c", pads=[4, 0], dilations=[2])],
        [
            node("Transpose", "x", "a", perm=[0, 2, 1]),
            node("Pad", "a pads", "b"),
            node("Conv", "b k kb", "c", dilations=[2]),
        ],
    ):
        path = save(tmp_path / "m.onnx", [*nodes, *ends], {"x": ["N", "T", C]}, "out", constants)
        layers = assert_computes_in_the_order_of_x(path, X.swapaxes(0, 1))
        assert kinds(layers) == ["Conv", "RNN"]


def test_what_is_wrong_after_a_causal_convolution_is_named(tmp_path):
    """Not the Pad, which fits as soon as the axes are right."""
    constants = weights(RNG, "GRU", 7, H) | {"k": floats(RNG, 7, C, 3), "pads": integers(0, 2, 0, 0, 0, 0)}
    nodes = [
        node("Pad", "x pads", "p", "pad"),
        node("Transpose", "p", "a", perm=[0, 2, 1]),
        node("Conv", "a k", "c", "conv"),
        node("Transpose", "c", "t", perm=[2, 0, 1]),
        node("GRU", "t W R B", "Y", "gru", hidden_size=H),
        node("ArgMax", "Y", "out", "choice"),
    ]
    path = save(tmp_path / "m.onnx", nodes, {"x": ["N", "T", C]}, "out", constants)
    with pytest.raises(UnsupportedError, match="ArgMax 'choice': not supported"):
        read_network(path)


def test_a_convolution_that_looks_ahead_is_unsupported(tmp_path):
    constants = weights(RNG, "GRU", 7, H) | {"k": floats(RNG, 7, C, 3)}
    nodes = [
        node("Transpose", "x", "a", perm=[0, 2, 1]),
        node("Conv", "a k", "c", "conv", pads=[1, 1]),
        node("Transpose", "c", "t", perm=[2, 0, 1]),
        node("GRU", "t W R B", "Y", "gru", hidden_size=H),
    ]
    path = save(tmp_path / "m.onnx", nodes, {"x": ["N", "T", C]}, "Y", constants)
    with pytest.raises(UnsupportedError, match=r"Conv 'conv': that looks ahead or loses steps.*prefix='gru'"):
        read_network(path)


def test_a_flattened_sequence_of_fixed_length(tmp_path):
    """[N,T,F] to [N,T*F] and on."""
    constants = weights(RNG, "GRU", C, H) | {"w": floats(RNG, T * H, 2), "one": integers(1)}
    nodes = [
        node("Transpose", "x", "t", perm=[1, 0, 2]),
        node("GRU", "t W R B", "Y", "gru", hidden_size=H),
        node("Squeeze", "Y one", "s"),
        node("Transpose", "s", "b", perm=[1, 0, 2]),
        node("Flatten", "b", "f"),
        node("Gemm", "f w", "out"),
    ]
    path = save(tmp_path / "m.onnx", nodes, {"x": ["N", T, C]}, "out", constants)
    layers, y, _ = assert_computes(path, X.swapaxes(0, 1).copy())
    assert kinds(layers) == ["RNN", "Reshape", "Dense"]
    assert y.shape == (N, 2)


def test_a_vector_becomes_a_sequence(tmp_path):
    """Reshaped, or repeated as a decoder's input is."""
    constants = weights(RNG, "GRU", 2, H) | {"w": floats(RNG, C, 8), "one": integers(1)}
    end = [node("GRU", "t W R B", "Y", "gru", hidden_size=H), node("Squeeze", "Y one", "out")]
    for nodes, more, expected in (
        (
            [node("Gemm", "x w", "g"), node("Reshape", "g shape", "r"), node("Transpose", "r", "t", perm=[1, 0, 2])],
            {"shape": integers(-1, 4, 2)},
            ["Dense", "Reshape", "RNN"],
        ),
        (
            [node("Gemm", "x w2", "g"), node("Unsqueeze", "g zero", "r"), node("Tile", "r times", "t")],
            {"w2": floats(RNG, C, 2), "zero": integers(0), "times": integers(4, 1, 1)},
            ["Dense", "Repeat", "RNN"],
        ),
    ):
        path = save(tmp_path / "m.onnx", [*nodes, *end], {"x": ["N", C]}, "out", constants | more)
        layers = assert_computes_in_the_order_of_x(path, X[0])
        assert kinds(layers) == expected


def test_a_single_feature_loses_its_axis(tmp_path):
    nodes = [node("MatMul", "y w", "a"), node("Squeeze", "a last", "out")]
    path = after(tmp_path / "m.onnx", nodes, {"w": floats(RNG, H, 1), "last": integers(-1)})
    layers, y, _ = assert_computes(path, X)
    assert kinds(layers) == ["RNN", "Dense", "Squeeze"]
    assert y.shape == (T, N)


def test_a_dense_layer_over_rows_and_steps_in_one_axis(tmp_path):
    """As tf2onnx writes TensorFlow's Tensordot, by the sizes of x, and Keras's TimeDistributed, by fixed ones."""
    constants = weights(RNG, "GRU", C, H) | {"w": W8, "one": integers(1), "flat": integers(-1, H)}
    constants |= {"axes": integers(0, 1), "eight": integers(8), "fixed": integers(-1, T, 8)}
    start = [
        node("Transpose", "x", "t", perm=[1, 0, 2]),
        node("GRU", "t W R B", "Y", "gru", hidden_size=H),
        node("Squeeze", "Y one", "s"),
        node("Transpose", "s", "y", perm=[1, 0, 2]),
        node("Reshape", "y flat", "rows"),
        node("MatMul", "rows w", "product"),
    ]
    sizes = [
        node("Shape", "y", "all"),
        node("Gather", "all axes", "some"),
        node("Concat", "some eight", "shape", axis=0),
    ]
    for steps, end in (
        ("T", [*sizes, node("Reshape", "product shape", "out")]),
        (T, [node("Reshape", "product fixed", "out")]),
    ):
        path = save(tmp_path / "m.onnx", [*start, *end], {"x": ["N", steps, C]}, "out", constants)
        layers, y, _ = assert_computes(path, X.swapaxes(0, 1).copy())
        assert kinds(layers) == ["RNN", "Dense"]
        assert y.shape == (N, T, 8)


def test_a_sequence_without_a_batch(tmp_path):
    constants = weights(RNG, "GRU", C, H) | {"one": integers(1), "both": integers(1, 2)}
    nodes = [
        node("Unsqueeze", "x one", "u"),
        node("GRU", "u W R B", "Y", "gru", hidden_size=H),
        node("Squeeze", "Y both", "out"),
    ]
    _, y, _ = assert_computes(save(tmp_path / "m.onnx", nodes, {"x": ["T", C]}, "out", constants), X[:, 0].copy())
    assert y.shape == (T, H)


def test_the_only_row_may_change_its_place_by_a_reshape(tmp_path):
    """As in PyTorch's tutorials: x.view(len(x), 1, -1)."""
    constants = weights(RNG, "GRU", C, H) | {"there": integers(-1, 1, C), "back": integers(1, -1, H)}
    nodes = [
        node("Reshape", "x there", "t"),
        node("GRU", "t W R B", "Y", "gru", hidden_size=H),
        node("Reshape", "Y back", "out"),
    ]
    assert_computes(save(tmp_path / "m.onnx", nodes, {"x": [1, "T", C]}, "out", constants), X[None, :, 0].copy())


def test_a_series_without_an_axis_of_features_has_one(tmp_path):
    constants = weights(RNG, "GRU", 1, H) | {"one": integers(1), "last": integers(-1)}
    nodes = [
        node("Unsqueeze", "x last", "u"),
        node("Transpose", "u", "t", perm=[1, 0, 2]),
        node("GRU", "t W R B", "Y", "gru", hidden_size=H),
        node("Squeeze", "Y one", "out"),
    ]
    path = save(tmp_path / "m.onnx", nodes, {"x": ["N", "T"]}, "out", constants)
    y, _ = gc.Model(read_network(path))(X[..., 0].T[..., None])
    (expected,) = runtime(path).run(None, {"x": X[..., 0].T.copy()})
    np.testing.assert_allclose(y.swapaxes(0, 1), expected, atol=1e-6)


def test_time_back_to_front(tmp_path):
    constants = weights(RNG, "GRU", C, H) | {"start": integers(-1), "end": integers(-(2**63) + 1), "zero": integers(0)}
    nodes = [
        node("Slice", "x start end zero start", "r"),
        node("GRU", "r W R B", "Y", "gru", hidden_size=H),
    ]
    layers, *_ = assert_computes(save(tmp_path / "m.onnx", nodes, {"x": ["T", "N", C]}, "Y", constants), X)
    assert kinds(layers) == ["Flip", "RNN"]


@pytest.mark.parametrize("opset", [7, 10, 11, 13, 18, 22])
def test_glue_of_every_opset(tmp_path, opset):
    """Axes, starts and their kind are attributes in older opsets and inputs in newer ones."""
    constants = weights(RNG, "GRU", C, H) | {"zero": integers(0), "one": integers(1), "minus": integers(-1)}
    constants |= {"end": integers(2**31 - 1), "two": integers(2), "w": W8, "six": np.float32(6), "nil": np.float32(0)}
    nodes = [
        node("Slice", "x", "a", starts=[0], ends=[C], axes=[2]) if opset < 10 else node("Slice", "x zero end two", "a"),
        node("GRU", "a W R B", "Y", "gru", hidden_size=H),
        node("Squeeze", "Y", "s", axes=[1]) if opset < 13 else node("Squeeze", "Y one", "s"),
        node("ReduceMean", "s", "m", axes=[0]) if opset < 18 else node("ReduceMean", "s zero", "m"),
        node("Unsqueeze", "m", "u", axes=[0]) if opset < 13 else node("Unsqueeze", "m zero", "u"),
        node("Clip", "u", "c", min=0.0, max=6.0) if opset < 11 else node("Clip", "u nil six", "c"),
        node("Reshape", "c shape", "r"),
        node("Gemm", "r w b8", "g"),
        node("Softmax", "g", "out"),
    ]
    constants |= {"shape": integers(-1, H), "b8": B8}
    path = save(tmp_path / "m.onnx", nodes, {"x": ["T", "N", C]}, "out", constants, opset)
    layers, *_ = assert_computes(path, X)
    assert kinds(layers) == ["RNN", "Pool", "Elementwise:relu6", "Dense", "Softmax"]


def test_weights_through_glue(tmp_path):
    """Transposed, sliced, joined, cast and computed before they reach the node."""
    rng = np.random.default_rng(0)
    direct = weights(rng, "LSTM", C, H)
    constants = {
        "kernel": np.ascontiguousarray(direct["W"][0].T),
        "R_double": direct["R"].astype(np.float64),
        "b1": direct["B"][0, : 4 * H] - 1,
        "b2": direct["B"][:, 4 * H :],
        "zero": integers(0),
        "one": np.float32(1),
        "b_shape": integers(1, -1),
    }
    nodes = [
        node("Identity", "kernel", "k0"),
        node("Transpose", "k0", "k1"),
        node("Unsqueeze", "k1 zero", "W"),
        node("Cast", "R_double", "R", to=1),
        node("Add", "b1 one", "b3"),
        node("Reshape", "b3 b_shape", "b4"),
        node("Concat", "b4 b2", "B", axis=1),
        node("LSTM", "x W R B", "Y", "lstm", hidden_size=H),
    ]
    path = save(tmp_path / "m.onnx", nodes, {"x": ["T", "N", C]}, "Y", constants)
    (layer,), *_ = assert_computes(path, X)
    plain = save(tmp_path / "p.onnx", [node("LSTM", "x W R B", "Y", hidden_size=H)], {"x": ["T", "N", C]}, "Y", direct)
    (expected,) = read_network(plain)
    for name, weight in layer.weights.items():
        np.testing.assert_allclose(weight, expected.weights[name], atol=1e-7)


def test_initial_zeros_of_any_batch_vanish(tmp_path):
    """As exporters make them, of the batch of x or of the one they saw."""
    constants = weights(RNG, "GRU", C, H) | {"one": integers(1), "zero": np.float32(0), "h": integers(H)}
    constants |= {"batch": np.int64(1), "baked": np.zeros((1, 2, H), np.float32)}
    shape = [
        node("Shape", "x", "s"),
        node("Gather", "s batch", "n", axis=0),
        node("Unsqueeze", "n axis0", "n1"),
        node("Concat", "one n1 h", "shape", axis=0),
    ]
    constants["axis0"] = integers(0)
    value = onnx.helper.make_tensor("value", onnx.TensorProto.FLOAT, [1], [0.0])
    for start, state in (
        ([*shape, node("Expand", "zero shape", "h0")], "h0"),
        ([*shape, node("ConstantOfShape", "shape", "h0", value=value)], "h0"),
        ([], "baked"),
    ):
        nodes = [*start, node("GRU", f"x W R B _ {state}", "Y", "gru", hidden_size=H)]
        path = save(tmp_path / "m.onnx", nodes, {"x": ["T", "N", C]}, "Y", constants)
        assert_computes(path, X[:, :2])
        y, _ = gc.Model(read_network(path))(X)
        assert y.shape == (T, N, H)


def test_states_and_lengths_are_arguments(tmp_path):
    """Of a stack as PyTorch writes it: slices of the inputs, a Concat of the outputs."""
    constants = weights(RNG, "LSTM", C, H, suffix="0") | weights(RNG, "LSTM", H, H, suffix="1")
    constants |= {f"{n}": integers(n) for n in range(3)}
    nodes = [
        node("Slice", "h 0 1 0", "h0"),
        node("Slice", "h 1 2 0", "h1"),
        node("Slice", "c 0 1 0", "c0"),
        node("Slice", "c 1 2 0", "c1"),
        node("LSTM", "x W0 R0 B0 lens h0 c0", "Y0 hn0 cn0", "first", hidden_size=H),
        node("Squeeze", "Y0 1", "y0"),
        node("LSTM", "y0 W1 R1 B1 lens h1 c1", "Y1 hn1 cn1", "second", hidden_size=H),
        node("Squeeze", "Y1 1", "y"),
        node("Concat", "hn0 hn1", "hn", axis=0),
        node("Concat", "cn0 cn1", "cn", axis=0),
    ]
    inputs = {"x": ["T", "N", C], "h": [2, "N", H], "c": [2, "N", H]}
    inputs["lens"] = info("lens", ["N"], onnx.TensorProto.INT32)
    path = save(tmp_path / "m.onnx", nodes, inputs, "y hn cn", constants)
    h, c = floats(RNG, 2, N, H), floats(RNG, 2, N, H)
    lengths = np.array([5, 1, 3], np.int32)
    layers = read_network(path)
    y, state = gc.Model(layers)(X, tuple(zip(np.split(h, 2), np.split(c, 2), strict=True)), lengths=lengths)
    expected = runtime(path).run(None, {"x": X, "h": h, "c": c, "lens": lengths})
    np.testing.assert_allclose(y, expected[0], atol=1e-6)
    np.testing.assert_allclose(np.concatenate([h for h, _ in state]), expected[1], atol=1e-6)
    np.testing.assert_allclose(np.concatenate([c for _, c in state]), expected[2], atol=1e-6)


def test_layers_after_lengths_see_every_step(tmp_path):
    """What a graph does to the zeros beyond a length is done, too; without an input for lengths they are ours alone."""
    constants = weights(RNG, "GRU", C, H) | {"w": W8, "b": B8, "one": integers(1)}
    for end, outputs in (
        ([node("MatMul", "s w", "a"), node("Add", "a b", "out")], "out"),
        ([node("ReduceMax", "s", "out", axes=[0], keepdims=0)], "out"),
        ([node("Tanh", "h", "out")], "out"),
    ):
        nodes = [node("GRU", "x W R B lens", "Y h", "gru", hidden_size=H), node("Squeeze", "Y one", "s"), *end]
        inputs = {"x": ["T", "N", C], "lens": info("lens", ["N"], onnx.TensorProto.INT32)}
        path = save(tmp_path / "m.onnx", nodes, inputs, outputs, constants)
        lengths = np.array([5, 1, 3], np.int32)
        y, _ = gc.Model(read_network(path))(X, lengths=lengths)
        (expected,) = runtime(path).run(None, {"x": X, "lens": lengths})
        np.testing.assert_allclose(y, expected.reshape(y.shape), atol=1e-6)


def test_lengths_of_some_layers_only_are_unsupported(tmp_path):
    """Before; after, what is left is 0, and all steps are run."""
    constants = weights(RNG, "GRU", C, H, suffix="0") | weights(RNG, "GRU", H, H, suffix="1") | {"one": integers(1)}
    inputs = {"x": ["T", "N", C], "lens": info("lens", ["N"], onnx.TensorProto.INT32)}
    first, second = "x W0 R0 B0", "s W1 R1 B1"
    for with_lengths, is_supported in (((first, second + " lens"), False), ((first + " lens", second), True)):
        nodes = [
            node("GRU", with_lengths[0], "Y0", "first", hidden_size=H),
            node("Squeeze", "Y0 one", "s"),
            node("GRU", with_lengths[1], "Y1", "second", hidden_size=H),
        ]
        path = save(tmp_path / "m.onnx", nodes, inputs, "Y1", constants)
        if not is_supported:
            with pytest.raises(UnsupportedError, match="GRU 'second': sequence_lens after steps that are others"):
                read_network(path)
            continue
        lengths = np.array([5, 1, 3], np.int32)
        y, _ = gc.Model(read_network(path))(X, lengths=lengths)
        (expected,) = runtime(path).run(None, {"x": X, "lens": lengths})
        np.testing.assert_allclose(y, expected[:, 0], atol=1e-6)


@pytest.mark.parametrize("layout", [0, 1])
def test_initial_states_that_are_the_same_for_all_rows_are_weights(tmp_path, layout):
    """Of any batch, or of the one the exporter saw."""
    h, c = RNG.random((2, 1, 1, H), np.float32)
    baked = np.repeat(c, N, 1 - layout)
    shape = integers(N, 1, 1) if layout else integers(1, N, 1)
    nodes = [
        node("Expand", "h shape", "h0"),
        node("LSTM", "x W R B _ h0 baked", "Y", "lstm", hidden_size=H, **({"layout": 1} if layout else {})),
    ]
    constants = weights(RNG, "LSTM", C, H) | {"h": h, "baked": baked, "shape": shape}
    x = {"x": ["N", "T", C] if layout else ["T", "N", C]}
    path = save(tmp_path / "m.onnx", nodes, x, "Y", constants)
    (layer,) = read_network(path)
    np.testing.assert_array_equal(layer.weights["initial_h_l0"], h[0, 0])
    np.testing.assert_array_equal(layer.weights["initial_c_l0"], c[0, 0])
    if layout == 0:  # the only one that ONNX Runtime has
        assert_computes(path, X)


def test_lengths_that_are_all_of_x_vanish(tmp_path):
    """As tf2onnx writes them."""
    constants = weights(RNG, "GRU", C, H) | {"zero": integers(0), "one": integers(1)}
    nodes = [
        node("Shape", "x", "s"),
        node("Gather", "s zero", "t", axis=0),
        node("Gather", "s one", "n", axis=0),
        node("Expand", "t n", "l64"),
        node("Cast", "l64", "lens", to=6),
        node("GRU", "x W R B lens", "Y", "gru", hidden_size=H),
    ]
    assert_computes(save(tmp_path / "m.onnx", nodes, {"x": ["T", "N", C]}, "Y", constants), X)


def test_sequences_reversed_in_full_are_flipped(tmp_path):
    """As tf2onnx writes go_backwards."""
    nodes = [
        node("Shape", "x", "s"),
        node("Gather", "s zero", "t", axis=0),
        node("Gather", "s one", "n", axis=0),
        node("Expand", "t n", "lens"),
        node("ReverseSequence", "x lens", "reversed", time_axis=0, batch_axis=1),
    ]
    constants = {"zero": integers(0), "one": integers(1)}
    layers, *_ = assert_computes(gru_with(tmp_path, "reversed W R B", nodes, **constants), X)
    assert kinds(layers) == ["Flip", "RNN"]


def test_sequences_reversed_in_part_are_unsupported(tmp_path):
    nodes = [node("ReverseSequence", "x lens", "reversed", "part")]
    path = gru_with(tmp_path, "reversed W R B", nodes, lens=integers(1, 2, 3))
    with pytest.raises(UnsupportedError, match="ReverseSequence 'part': other than all steps"):
        read_network(path)


def gru_with(tmp_path, inputs, more_nodes=(), more_inputs=None, **constants):
    nodes = [*more_nodes, node("GRU", inputs, "Y h", "gru", hidden_size=H)]
    graph_inputs = {"x": ["T", "N", C]} | (more_inputs or {})
    return save(tmp_path / "m.onnx", nodes, graph_inputs, "Y", weights(RNG, "GRU", C, H) | constants)


@pytest.mark.parametrize(
    ("inputs", "constants", "message"),
    [
        ("x W R B _ h0", {"h0": RNG.random((1, N, H), np.float32)}, "initial_h that differs between rows of the batch"),
        ("x W R B lens", {"lens": np.array([1, 2, 3], np.int32)}, "sequence_lens that are neither an input nor"),
    ],
)
def test_states_and_lengths_that_the_model_fixes_are_unsupported(tmp_path, inputs, constants, message):
    with pytest.raises(UnsupportedError, match=f"GRU 'gru': {message}"):
        read_network(gru_with(tmp_path, inputs, **constants))


BRANCHES = {
    "residual": ([node("MatMul", "y w", "a"), node("Add", "a y", "out", "skip")], "Add 'skip': a branch"),
    "attention": (
        [node("MatMul", "y w", "a"), node("Softmax", "a", "b", axis=0), node("Mul", "b y", "out", "weighted")],
        "Softmax '.*': works on an axis of steps|a branch",
    ),
    "two outputs": ([node("Tanh", "y", "out"), node("Relu", "y", "other")], "a branch: 2 outputs"),
    "unknown": ([node("Softmax", "y", "a"), node("ArgMax", "a", "out", "choice")], "ArgMax 'choice': not supported"),
    "other domain": ([node("Gelu", "y", "out", "mine", domain="com.mine")], "com.mine.Gelu 'mine': not supported"),
    "some steps": ([node("Slice", "y one two zeros", "out", "middle")], "Slice 'middle': steps other than"),
    "loop": ([node("Loop", "_ _ y", "out", "looped")], "Loop 'looped': not supported"),
    "rounded": ([node("Cast", "y", "a", "rounded", to=7), node("Relu", "a", "out")], "cast to integers of 'rounded'"),
    "second result": ([node("Dropout", "y", "a out", "drop")], "output 'out' of Dropout 'drop'"),
    "squeezed time": ([node("Squeeze", "y zeros", "out", "sq")], "Squeeze 'sq': axis 0, whose size is not in the file"),
    "weights of steps": ([node("Mul", "y steps", "out", "each")], "Mul 'each': a constant that is not one number for"),
    "slopes": ([node("PRelu", "y slopes", "out", "prelu")], "PRelu 'prelu': a slope for each feature"),
    "condition": (
        [node("Shape", "x", "s"), node("Less", "two s", "a", "more"), node("Where", "a y y", "out")],
        "Less 'more': arithmetic on a size that the file does not say",
    ),
    "features reversed": ([node("Gather", "y back", "a", axis=2), node("Softmax", "a", "out")], "in another order"),
}


@pytest.mark.parametrize("kind", sorted(BRANCHES))
def test_what_is_no_chain_is_named_with_what_can_be_loaded(tmp_path, kind):
    nodes, message = BRANCHES[kind]
    constants = {"w": floats(RNG, H, H), "one": integers(1), "two": integers(2), "zeros": integers(0)}
    constants |= {"steps": floats(RNG, T, 1, 1), "back": np.arange(H)[::-1].copy(), "slopes": floats(RNG, H)}
    path = after(tmp_path / "m.onnx", nodes, constants, outputs="out other" if kind == "two outputs" else "out")
    with pytest.raises(UnsupportedError, match=message) as raised:
        read_network(path)
    assert str(raised.value).endswith("; prefix='gru' loads the recurrent layer alone")


def test_a_second_input_is_a_branch(tmp_path):
    path = gru_with(tmp_path, "xz W R B", [node("Concat", "x z", "xz", axis=2)], {"z": ["T", "N", C]})
    with pytest.raises(UnsupportedError, match="a branch: expected one input for the recurrent layers, got 'x' and"):
        read_network(path)


def test_the_cell_state_is_no_part_of_a_chain(tmp_path):
    nodes = [node("LSTM", "x W R B", "Y h c", "lstm", hidden_size=H), node("Tanh", "c", "out")]
    path = save(tmp_path / "m.onnx", nodes, {"x": ["T", "N", C]}, "out", weights(RNG, "LSTM", C, H))
    with pytest.raises(UnsupportedError, match="c of 'lstm' is not supported on its own"):
        read_network(path)


def test_a_state_from_another_input_by_arithmetic_is_unsupported(tmp_path):
    path = gru_with(tmp_path, "x W R B _ h0", [node("Tanh", "z", "h0", "act")], {"z": [1, "N", H]})
    with pytest.raises(UnsupportedError, match="Tanh 'act': a second input of the network"):
        read_network(path)


def test_an_initial_state_from_x_is_a_branch(tmp_path):
    nodes = [
        node("ReduceMean", "x", "m", axes=[0]),
        node("MatMul", "m w", "h0"),
    ]
    path = gru_with(tmp_path, "x W R B _ h0", nodes, w=floats(RNG, C, H))
    with pytest.raises(UnsupportedError, match="GRU 'gru': a branch: initial_h depends on x"):
        read_network(path)


def test_a_loop_without_recurrent_nodes_is_named(tmp_path):
    path = save(tmp_path / "m.onnx", [node("Scan", "x", "out", "scanned")], {"x": ["T", "N", C]}, "out", {})
    with pytest.raises(UnsupportedError, match="Scan 'scanned': control flow is not supported, and there is no LSTM"):
        read_network(path)
