"""ONNX files as such: names, data beside the file, and what hostile ones may not do."""

import gc as garbage
import os
import re
import struct
import time
import tracemalloc

import numpy as np
import pytest

import gated_c as gc
from gated_c import FormatError, UnsupportedError
from gated_c.loaders.onnx import wire as onnx_wire
from gated_c.loaders.onnx.file import read_network, read_recurrent

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx import numpy_helper  # noqa: E402
from onnx_models import floats, info, model, node, save, weights  # noqa: E402

RNG = np.random.default_rng(5)
C, H = 3, 4


def gru(path, **options):
    cell = node("GRU", "x W R B", "Y h", "gru", hidden_size=H)
    return save(path, [cell], {"x": ["T", "N", C]}, "Y", weights(RNG, "GRU", C, H), **options)


def tall(path, nodes, constants, opset=17, inputs=None, outputs="Y"):
    return save(path, nodes, inputs or {"x": ["T", "N", C]}, outputs, weights(RNG, "GRU", C, H) | constants, opset)


def test_recurrent_nodes_go_by_their_name_or_their_output(tmp_path):
    nodes = [
        node("GRU", "x W R B", "a", "same"),
        node("GRU", "x W R B", "b", "same"),
        node("GRU", "x W R B", "_ c"),
        node("GRU", "x W R B", "d", layout=1, direction="reverse"),
    ]
    layers = read_recurrent(tall(tmp_path / "m.onnx", nodes, {}, outputs="a b c d"))
    assert [layer.name for layer in layers] == ["same", "b", "c", "d"]
    assert [layer.batch_first for layer in layers] == [False, False, False, True]
    assert layers[3].reverse


def test_recurrent_nodes_of_a_network_that_is_no_chain_load_alone(tmp_path):
    nodes = [
        node("GRU", "x W R B _ h0", "Y", "first"),
        node("Squeeze", "Y one", "s"),
        node("Unique", "s", "u"),
        node("GRU", "u U V", "Z", "second"),
    ]
    more = weights(RNG, "GRU", H, H, bias=False)
    path = tall(
        tmp_path / "m.onnx",
        nodes,
        {"U": more["W"], "V": more["R"], "one": np.array([1]), "h0": np.ones((1, 1, H), np.float32)},
        outputs="Z",
    )
    first, second = read_recurrent(path)
    assert (first.input_size, second.input_size, second.bias) == (C, H, False)
    with pytest.raises(UnsupportedError, match=re.escape("prefix='first' (or second) loads")):
        read_network(path)
    assert gc.load(path, prefix="second").input_size == H


def test_a_node_that_cannot_be_read_is_left_out_with_a_warning(tmp_path):
    nodes = [node("GRU", "x W R B", "Y", "good"), node("GRU", "Y W R z", "Z", "bad")]
    path = tall(tmp_path / "m.onnx", nodes, {}, inputs={"x": ["T", "N", C], "z": [1, 24]}, outputs="Z")
    with pytest.warns(UserWarning, match="GRU 'bad': input 3 depends on an input"):
        (layer,) = read_recurrent(path)
    assert layer.name == "good"


def test_load_and_inspect_open_onnx_files(tmp_path):
    path = gru(tmp_path / "m.onnx")
    assert [layer.name for layer in gc.inspect(path)] == ["gru"]
    assert gc.load(path).input_size == C
    with pytest.raises(ValueError, match="clip"):
        gc.load(path, clip="both")


def test_the_weights_outlive_the_file(tmp_path):
    path = gru(tmp_path / "m.onnx")
    (layer,) = read_network(path)
    before = {name: weight.copy() for name, weight in layer.weights.items()}
    path.write_bytes(b"")
    for name, weight in layer.weights.items():
        np.testing.assert_array_equal(weight, before[name])


@pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="shows what is mapped")
def test_the_file_is_unmapped_as_soon_as_it_is_read(tmp_path):
    """Without waiting for the garbage collector: packing needs the memory."""
    path = gru(tmp_path / "m.onnx")
    garbage.disable()
    try:
        layers = read_network(path)
        with open("/proc/self/maps") as maps:
            assert str(path) not in maps.read()
    finally:
        garbage.enable()
    assert layers


@pytest.mark.parametrize("field", ["raw_data", "typed"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_tensors_in_either_form(tmp_path, field, dtype):
    arrays = {name: array.astype(dtype) for name, array in weights(RNG, "GRU", C, H).items()}
    proto = model([node("GRU", "x W R B", "Y", "gru")], {"x": ["T", "N", C]}, "Y", {})
    for name, array in arrays.items():
        kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
        values = array.tobytes() if field == "raw_data" else array.ravel()
        proto.graph.initializer.append(onnx.helper.make_tensor(name, kind, array.shape, values, field == "raw_data"))
    onnx.save(proto, tmp_path / "m.onnx")
    (layer,) = read_network(tmp_path / "m.onnx")
    z, r, n = np.split(arrays["R"][0].astype(np.float32), 3)
    np.testing.assert_array_equal(layer.weights["weight_hh_l0"], np.concatenate([r, z, n]))


def test_a_skeleton_has_everything_but_the_data(tmp_path):
    """Also of constants in nodes; of documentation and subgraphs nothing."""
    constant = onnx.helper.make_node("Constant", [], ["R"], value=numpy_helper.from_array(np.zeros((1, 3, 1), "f4")))
    graph = model([constant, node("GRU", "x W R", "Y")], {"x": ["T", "N", 1]}, "Y", {"W": np.ones((1, 3, 1), "f4")})
    graph.doc_string = graph.graph.doc_string = "long" * 1000
    content = graph.SerializeToString()
    again = onnx.ModelProto.FromString(onnx_wire.skeleton(memoryview(content)))
    for tensor, original in (
        (again.graph.initializer[0], graph.graph.initializer[0]),
        (again.graph.node[0].attribute[0].t, constant.attribute[0].t),
    ):
        offset, length = onnx_wire.located(tensor.raw_data)
        assert content[offset : offset + length] == original.raw_data
        tensor.raw_data = original.raw_data
    for name in ("doc_string", "producer_name"):
        graph.ClearField(name)
    for name in ("doc_string", "name"):
        graph.graph.ClearField(name)
    assert again == graph


class TestExternalData:
    """Tensors in other files, which must be in the model's folder."""

    def save(self, path, location="weights.bin", **entries):
        proto = model(
            [node("GRU", "x W R", "Y", "gru")], {"x": ["T", "N", C]}, "Y", weights(RNG, "GRU", C, H, bias=False)
        )
        offset = 0
        content = b""
        for tensor in proto.graph.initializer:
            described = {"location": location, "offset": offset, "length": len(tensor.raw_data)} | entries
            content += tensor.raw_data + bytes(8)
            offset = len(content)
            tensor.ClearField("raw_data")
            tensor.data_location = onnx.TensorProto.EXTERNAL
            for key, value in described.items():
                if value is not None:
                    tensor.external_data.add(key=key, value=str(value))
        onnx.save(proto, path)
        return content

    def test_is_read(self, tmp_path):
        content = self.save(tmp_path / "m.onnx")
        (tmp_path / "weights.bin").write_bytes(content)
        expected = onnx.load(tmp_path / "m.onnx").graph.initializer[1].raw_data
        (layer,) = read_network(tmp_path / "m.onnx")
        z, r, n = np.split(np.frombuffer(expected, "<f4").reshape(3 * H, H), 3)
        np.testing.assert_array_equal(layer.weights["weight_hh_l0"], np.concatenate([r, z, n]))

    def test_may_be_in_a_folder_below(self, tmp_path):
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "w").write_bytes(self.save(tmp_path / "m.onnx", "data/w"))
        assert len(read_network(tmp_path / "m.onnx")) == 1

    @pytest.mark.parametrize("location", ["../secret", "/etc/hostname", "a/../../secret", "", "."])
    def test_elsewhere_is_refused(self, tmp_path, location):
        (tmp_path / "secret").write_bytes(bytes(1000))
        (tmp_path / "models").mkdir()
        self.save(tmp_path / "models" / "m.onnx", location)
        with pytest.raises(FormatError, match=r"not inside the model's folder|expected a regular file"):
            read_network(tmp_path / "models" / "m.onnx")

    def test_by_a_link_out_of_the_folder_is_refused(self, tmp_path):
        (tmp_path / "models").mkdir()
        (tmp_path / "secret").write_bytes(self.save(tmp_path / "models" / "m.onnx"))
        (tmp_path / "models" / "weights.bin").symlink_to(tmp_path / "secret")
        with pytest.raises(FormatError, match=r"'weights\.bin' is not inside the model's folder"):
            read_network(tmp_path / "models" / "m.onnx")

    def test_in_a_pipe_is_refused(self, tmp_path):
        self.save(tmp_path / "m.onnx")
        os.mkfifo(tmp_path / "weights.bin")
        with pytest.raises(FormatError, match=r"data 'weights\.bin': expected a regular file"):
            read_network(tmp_path / "m.onnx")

    @pytest.mark.parametrize(
        ("entries", "message"),
        [
            ({"offset": 2**40}, "expected external data of"),
            ({"length": 4}, "expected the elements of shape"),
            ({"length": 2**62}, "expected external data of"),
            ({"offset": -1}, "expected a size, got '-1'"),
            ({"offset": "9" * 5000}, "expected a size"),
            ({"length": None}, "expected the elements of shape"),
        ],
    )
    def test_of_another_size_is_refused(self, tmp_path, entries, message):
        (tmp_path / "weights.bin").write_bytes(self.save(tmp_path / "m.onnx", **entries))
        with pytest.raises(FormatError, match=message):
            read_network(tmp_path / "m.onnx")

    def test_that_is_missing_is_named(self, tmp_path):
        self.save(tmp_path / "m.onnx")
        with pytest.raises(FormatError, match=r"'weights\.bin': No such file"):
            read_network(tmp_path / "m.onnx")


def wide(*sizes):
    return np.array(sizes, np.int64)


#: What a hostile graph may ask for: nodes, constants, the error. Nothing of this size may be made.
ABSURD = {
    "constant of shape": (
        [node("ConstantOfShape", "shape", "W2"), node("GRU", "x W2 R B", "Y")],
        {"shape": wide(1, 12, 2**38)},
        "larger than the file",
    ),
    "expand": (
        [node("Expand", "W", "W2"), node("GRU", "x W2 R B", "Y")],
        {},
        "shape",
    ),
    "expanded features": (
        [node("Expand", "x shape", "x2"), node("GRU", "x2 W R B", "Y")],
        {"shape": wide(2**38, 1, 1, C)},
        "larger than the file",
    ),
    "expanded numbers": (
        [node("Expand", "one shape", "c"), node("Add", "x c", "x2"), node("GRU", "x2 W R B", "Y")],
        {"one": np.float32(1), "shape": wide(2**38, 1, C)},
        "larger than the file",
    ),
    "expanded axes": (
        [node("Expand", "one shape", "axes"), node("Squeeze", "x axes", "x2"), node("GRU", "x2 W R B", "Y")],
        {"one": np.int64(1), "shape": wide(2**38)},
        "larger than the file",
    ),
    "tile": (
        [node("Tile", "W times", "W2"), node("GRU", "x W2 R B", "Y")],
        {"times": wide(1, 1, 2**36)},
        "larger than the file",
    ),
    "joined again and again": (
        [
            *(node("Concat", f"W{n} W{n}", f"W{n + 1}", axis=2) for n in range(40)),
            node("GRU", "x W40 R B", "Y"),
        ],
        {"W0": floats(RNG, 1, 12, 64)},
        "larger than the file",
    ),
    "products of sizes": (
        [
            node("Shape", "x", "s0"),
            *(node("Mul", f"s{n} s{n}", f"s{n + 1}") for n in range(70)),
            node("Reshape", "x s70", "x2"),
            node("GRU", "x2 W R B", "Y"),
        ],
        {},
        "sizes beyond all bounds|arithmetic|shape",
    ),
    "gathered": (
        [node("Gather", "big many", "W2"), node("GRU", "x W2 R B", "Y")],
        {"big": floats(RNG, 1, 2**14), "many": np.zeros(2**14, np.int64)},
        "larger than the file",
    ),
    "features repeated": (
        [node("Tile", "x times", "x2"), node("GRU", "x2 W R B", "Y")],
        {"times": wide(1, 1, 2**38)},
        "larger than the file",
    ),
    "range": (
        [node("Range", "zero big one", "r"), node("Reshape", "x r", "x2"), node("GRU", "x2 W R B", "Y")],
        {"zero": np.int64(0), "one": np.int64(1), "big": np.int64(2**40)},
        "larger than the file",
    ),
    "many dimensions": (
        [node("Unsqueeze", "x axes", "x2"), node("GRU", "x2 W R B", "Y")],
        {"axes": np.arange(1000)},
        "1003 dimensions",
    ),
    "float axes": (
        [node("Squeeze", "x axes", "x2"), node("GRU", "x2 W R B", "Y")],
        {"axes": np.array([0.5])},
        "Squeeze 'x2'",
    ),
}


@pytest.mark.parametrize("kind", sorted(ABSURD))
def test_absurd_sizes_are_refused_without_being_made(tmp_path, kind):
    nodes, constants, message = ABSURD[kind]
    path = tall(tmp_path / "m.onnx", nodes, constants)
    assert_refused(path, message)


def assert_refused(path, message):
    """Without much memory or time."""
    read_one(path)
    tracemalloc.start()
    start = time.perf_counter()
    try:
        with pytest.raises((FormatError, UnsupportedError), match=message):
            read_network(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20 * path.stat().st_size + 8 * 2**20
    assert time.perf_counter() - start < 5


def read_one(path):
    """Imports cost memory too."""
    sound = path.with_name("sound.onnx")
    read_network(gru(sound))


def test_one_weight_shared_by_many_nodes_is_not_copied_for_each(tmp_path):
    nodes = [node("GRU", f"x{n} W R B", f"y{n}", layout=0) for n in range(300)]
    squeezes = [node("Squeeze", f"y{n} one", f"x{n + 1}") for n in range(300)]
    constants = {"W": floats(RNG, 1, 3 * 64, 64), "R": floats(RNG, 1, 3 * 64, 64), "one": wide(1)}
    constants["B"] = floats(RNG, 1, 6 * 64)
    both = [one for pair in zip(nodes, squeezes, strict=True) for one in pair]
    path = save(tmp_path / "m.onnx", both, {"x0": ["T", "N", 64]}, "x300", constants)
    assert_refused(path, "larger than the file")


def test_an_input_of_absurd_size_is_refused(tmp_path):
    path = tall(tmp_path / "m.onnx", [node("GRU", "x W R B", "Y")], {}, inputs={"x": ["T", "N", 2**40]})
    assert_refused(path, "larger than the file")


def test_steps_of_absurd_number_are_refused(tmp_path):
    nodes = [node("GRU", "x W R B", "Y"), node("Reshape", "Y shape", "Z")]
    path = tall(tmp_path / "m.onnx", nodes, {"shape": wide(1, -1)}, inputs={"x": [2**40, 1, C]}, outputs="Z")
    assert_refused(path, "larger than the file|mixes rows")


def test_a_size_divided_by_zero_is_a_format_error(tmp_path):
    nodes = [node("Shape", "x", "s"), node("Div", "s zero", "d", "nought"), node("GRU", "x W R", "Y", hidden_size=4)]
    nodes.append(node("Reshape", "Y d", "out"))
    constants = weights(RNG, "GRU", 3, 4, bias=False) | {"zero": np.int64(0)}
    path = save(tmp_path / "m.onnx", nodes, {"x": [2, "N", 3]}, "out", constants)
    with pytest.raises(FormatError, match="Div 'nought': integer division or modulo by zero"):
        read_network(path)


def test_weights_in_pieces_are_given_up_as_soon_as_they_are_used(tmp_path):
    """PyTorch's exporters cut W and R and join them again."""
    nodes, constants = [], {"one": np.ones(1, np.int64)}
    for n in range(8):
        constants |= weights(RNG, "GRU", 256, 256, bias=False, suffix=f"{n}_")
        for name in (f"W{n}", f"R{n}"):
            nodes += [node("Split", f"{name}_", f"{name}a {name}b", axis=1)]
            nodes += [node("Concat", f"{name}a {name}b", name, axis=1)]
        nodes += [node("GRU", f"x{n} W{n} R{n}", f"Y{n}", hidden_size=256), node("Squeeze", f"Y{n} one", f"x{n + 1}")]
    path = save(tmp_path / "m.onnx", nodes, {"x0": ["T", "N", 256]}, "x8", constants)
    tracemalloc.start()
    read_network(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.5 * sum(array.nbytes for array in constants.values())


@pytest.mark.parametrize("op", ["MatMul", "Gemm"])
def test_weights_are_copied_once(tmp_path, op):
    nodes = [node("GRU", "x W R", "Y h", hidden_size=128), node("Squeeze", "h zero", "v"), node(op, "v big", "out")]
    big = floats(RNG, 128, 2**14)
    constants = weights(RNG, "GRU", 3, 128, bias=False) | {"zero": np.zeros(1, np.int64), "big": big}
    path = save(tmp_path / "m.onnx", nodes, {"x": ["T", "N", 3]}, "out", constants)
    tracemalloc.start()
    read_network(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.5 * big.nbytes


def test_cycles_are_format_errors(tmp_path):
    nodes = [node("Add", "x b", "a"), node("Add", "a c", "b", "loop"), node("GRU", "b W R B", "Y")]
    path = tall(tmp_path / "m.onnx", nodes, {"c": floats(RNG, 1)})
    with pytest.raises(FormatError, match="needs its own output"):
        read_network(path)
    assert read_recurrent(path)[0].name == "Y"


def test_a_node_that_needs_itself_is_a_format_error(tmp_path):
    path = tall(tmp_path / "m.onnx", [node("GRU", "Y W R B", "Y", "gru")], {})
    with pytest.raises(FormatError, match="node 'gru' needs its own output"):
        read_network(path)


def test_missing_inputs_are_format_errors(tmp_path):
    with pytest.raises(FormatError, match="'nowhere' is made by nothing"):
        read_network(tall(tmp_path / "m.onnx", [node("GRU", "x nowhere R B", "Y", "gru")], {}))
    with pytest.raises(FormatError, match="'missing' is made by nothing"):
        read_network(tall(tmp_path / "m.onnx", [node("GRU", "x W R B", "Y")], {}, outputs="Y missing"))


def test_outputs_made_twice_are_format_errors(tmp_path):
    nodes = [node("GRU", "x W R B", "Y"), node("Identity", "x", "Y")]
    with pytest.raises(FormatError, match="'Y' is made more than once"):
        read_network(tall(tmp_path / "m.onnx", nodes, {}))


def test_a_long_chain_needs_no_recursion(tmp_path):
    nodes = [node("Identity", f"x{n or ''}", f"x{n + 1}") for n in range(5000)]
    path = tall(tmp_path / "m.onnx", [*nodes, node("GRU", "x5000 W R B", "Y")], {})
    assert len(read_network(path)) == 1


@pytest.mark.parametrize("opset", [6, 1])
def test_old_opsets_are_unsupported(tmp_path, opset):
    with pytest.raises(UnsupportedError, match=f"opset {opset}; expected 7 or newer"):
        read_network(gru(tmp_path / "m.onnx", opset=opset))


def test_sparse_tensors_are_unsupported(tmp_path):
    proto = model([node("GRU", "x W R", "Y", "gru")], {"x": ["T", "N", C]}, "Y", weights(RNG, "GRU", C, H, bias=False))
    dense = next(tensor for tensor in proto.graph.initializer if tensor.name == "R")
    proto.graph.initializer.remove(dense)
    values = numpy_helper.from_array(np.ones(1, np.float32), "R")
    indices = numpy_helper.from_array(np.zeros(1, np.int64), "at")
    proto.graph.sparse_initializer.append(onnx.helper.make_sparse_tensor(values, indices, [1, 3 * H, H]))
    onnx.save(proto, tmp_path / "m.onnx")
    with pytest.raises(UnsupportedError, match="sparse tensor 'R'"):
        read_network(tmp_path / "m.onnx")


def test_other_types_of_data_are_unsupported(tmp_path):
    proto = model([node("GRU", "x W R", "Y", "gru")], {"x": ["T", "N", C]}, "Y", weights(RNG, "GRU", C, H, bias=False))
    proto.graph.initializer[0].data_type = onnx.TensorProto.FLOAT8E4M3FN
    onnx.save(proto, tmp_path / "m.onnx")
    with pytest.raises(UnsupportedError, match="tensor 'W': data type 17"):
        read_network(tmp_path / "m.onnx")


def tensor_with(tmp_path, **fields):
    proto = model([node("GRU", "x W R", "Y", "gru")], {"x": ["T", "N", C]}, "Y", weights(RNG, "GRU", C, H, bias=False))
    tensor = proto.graph.initializer[0]
    for name, value in fields.items():
        if isinstance(value, list):
            tensor.ClearField(name)
            getattr(tensor, name).extend(value)
        else:
            setattr(tensor, name, value)
    onnx.save(proto, tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


@pytest.mark.parametrize(
    "fields",
    [
        {"dims": [1, 12, 4]},
        {"dims": [2**40, 2**40]},
        {"dims": [-1, 12, -3]},
        {"dims": [1] * 100_000},
        {"raw_data": b"abc"},
        {"raw_data": b""},
    ],
)
def test_tensors_of_another_size_than_they_say_are_format_errors(tmp_path, fields):
    with pytest.raises(FormatError, match="tensor 'W': expected "):
        read_network(tensor_with(tmp_path, **fields))


CONTENTS = {
    "empty": b"",
    "zeros": bytes(100),
    "text": b"not a model, but text of some length",
    "field without end": b"\x3a\xff\xff\xff\xff\x0f",
    "number without end": b"\x08" + b"\xff" * 20,
    "group": b"\x3b",
    "no graph": b"\x08\x08",
    "graph of nothing": b"\x3a\x00",
}


@pytest.mark.parametrize("kind", sorted(CONTENTS))
def test_what_is_no_model_is_a_format_error(tmp_path, kind):
    (tmp_path / "m.onnx").write_bytes(CONTENTS[kind])
    with pytest.raises(FormatError):
        read_network(tmp_path / "m.onnx")


def test_truncated_files_are_format_errors(tmp_path):
    content = gru(tmp_path / "m.onnx").read_bytes()
    for size in [*range(1, 80), *range(80, len(content), 41)]:
        (tmp_path / "m.onnx").write_bytes(content[:size])
        with pytest.raises(FormatError):
            read_network(tmp_path / "m.onnx")


def test_damaged_files_raise_the_documented_errors_or_load(tmp_path):
    """Whatever byte is changed."""
    content = bytearray(gru(tmp_path / "m.onnx").read_bytes())
    rng = np.random.default_rng(0)
    for _ in range(400):
        damaged = bytearray(content)
        for at in rng.integers(0, len(content), rng.integers(1, 4)):
            damaged[at] = rng.integers(256)
        (tmp_path / "m.onnx").write_bytes(damaged)
        try:
            layers = read_network(tmp_path / "m.onnx")
        except (FormatError, UnsupportedError):
            continue
        assert isinstance(layers[-1], gc.LayerSpec)


def test_many_empty_messages_are_refused(tmp_path):
    """Each would cost fifty times its bytes."""
    graph = b"\x0a\x00" * 200_000
    (tmp_path / "m.onnx").write_bytes(b"\x3a" + onnx_wire._varint(len(graph)) + graph)
    assert_refused(tmp_path / "m.onnx", "more parts than a model of this size has")


def test_a_pointer_cannot_be_forged(tmp_path):
    """Raw data of 16 bytes is data, whatever it says."""
    forged = struct.pack("<QQ", 0, 2**60)
    cell = node("RNN", "x W R", "Y", "rnn")
    constants = {"W": np.frombuffer(forged, "<f4").reshape(1, 4, 1), "R": np.ones((1, 4, 4), np.float32)}
    (layer,) = read_network(save(tmp_path / "m.onnx", [cell], {"x": ["T", "N", 1]}, "Y", constants))
    assert layer.weights["weight_ih_l0"].tobytes() == forged


def test_without_the_onnx_package_the_error_says_what_to_install(tmp_path, monkeypatch):
    import sys

    path = gru(tmp_path / "m.onnx")
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=re.escape('pip install "gated_c[onnx-files]"')):
        read_network(path)


def test_names_from_the_file_are_clipped_and_printable(tmp_path):
    path = tall(tmp_path / "m.onnx", [node("GRU", "x W R B", "a"), node("Bad\x1b[31m", "a", "Y", "n" * 5000)], {})
    with pytest.raises(UnsupportedError) as raised:
        read_network(path)
    assert "\x1b" not in str(raised.value)
    assert len(str(raised.value)) < 500


def test_inputs_with_a_default_are_constants(tmp_path):
    """In older files initializers are inputs as well."""
    arrays = weights(RNG, "GRU", C, H)
    inputs = {"x": ["T", "N", C]} | {name: list(array.shape) for name, array in arrays.items()}
    path = save(tmp_path / "m.onnx", [node("GRU", "x W R B", "Y", "gru")], inputs, "Y", arrays)
    assert len(read_network(path)) == 1


def test_an_input_without_declared_features_takes_those_of_the_weights(tmp_path):
    inputs = {"x": info("x", ["T", "N", "C"])}
    assert read_network(tall(tmp_path / "m.onnx", [node("GRU", "x W R B", "Y")], {}, inputs=inputs))[0].input_size == C
