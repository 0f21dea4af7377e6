"""Small ONNX models made by hand, and what ONNX Runtime computes from them."""

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

import gated_c as gc
from gated_c.loaders.onnx.file import read_network
from gated_c.tolerance import tolerance

#: The IR version that came with an opset; runtimes refuse newer ones than they know.
IR_VERSION = 8

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def floats(rng, *shape):
    return rng.uniform(-0.5, 0.5, shape).astype(np.float32)


def node(op, inputs, outputs, name="", **attributes):
    """A node; names of inputs and outputs are separated by spaces, ``_`` is an omitted one."""
    names = [["" if name == "_" else name for name in names.split()] for names in (inputs, outputs)]
    return helper.make_node(op, *names, name=name, **attributes)


def info(name, shape, dtype=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, dtype, shape)


def model(nodes, inputs, outputs, constants, opset=17, **options):
    """``inputs``: name -> shape, of strings and numbers, or a ValueInfo; ``constants``: name -> array."""
    infos = [info(name, shape) if isinstance(shape, list) else shape for name, shape in inputs.items()]
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(
        nodes, "test", infos, [onnx.ValueInfoProto(name=name) for name in outputs.split()], initializers
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=IR_VERSION, **options)


def save(path, *args, **options):
    onnx.save(model(*args, **options), path)
    return path


def weights(rng, op, input_size, hidden_size, directions=1, bias=True, suffix=""):
    """W, R and B of a recurrent node, by name."""
    rows = GATES[op] * hidden_size
    arrays = {"W": floats(rng, directions, rows, input_size), "R": floats(rng, directions, rows, hidden_size)}
    if bias:
        arrays["B"] = floats(rng, directions, 2 * rows)
    return {name + suffix: array for name, array in arrays.items()}


def runtime(path):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def assert_computes(path, x, layers=None, **others):
    """The network's first output is ONNX Runtime's, up to axes of size 1 and to the order of steps and rows."""
    layers = read_network(path) if layers is None else layers
    network = gc.Model(layers)
    expected = runtime(path).run(None, {"x": x, **others})[0]
    y, state = network(x)
    assert y.size == expected.size
    close = np.abs(np.asarray(y, float).reshape(expected.shape) - expected).max(initial=0)
    assert close <= tolerance(layers, x, y), close
    return layers, y, state
