"""Other people's extensions: `cimport gated_c`, and the handles of Python's objects."""

import ctypes
import gc as collector
import os
import shutil
import subprocess
import sys
import weakref

import numpy as np
import pytest
from conftest import random_spec, same_bits

import gated_c as gc
from tests.build_core import ROOT, compiler

EXAMPLE = "cython_forecast"

#: In a process of its own, to which the example is the first to bring the library.
FORECAST = """
import sys
from cython_forecast import forecast
import numpy as np
import gated_c as gc
model = gc.load(sys.argv[1])
np.save(sys.argv[3], forecast(model, np.load(sys.argv[2]), 30))
"""


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """A folder with the example, built, and an environment in which Python runs this gated_c."""
    pytest.importorskip("Cython")
    pytest.importorskip("setuptools")
    if compiler("cc") is None:
        pytest.skip("needs a C compiler")
    folder = tmp_path_factory.mktemp("example") / EXAMPLE
    shutil.copytree(ROOT / "examples" / EXAMPLE, folder)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CFLAGS": "-O0"}  # ten seconds less
    build = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    subprocess.run(build, cwd=folder, env=environment, check=True)
    return folder, environment


def test_an_extension_of_ones_own_gives_the_bits_of_python(example, tmp_path):
    folder, environment = example
    path = ROOT / "examples" / "sunspots.gated"
    past = np.random.default_rng(0).uniform(0, 2, (6, 40)).astype(np.float32)
    np.save(tmp_path / "past.npy", past)
    command = [sys.executable, "-c", FORECAST, path, tmp_path / "past.npy", tmp_path / "future.npy"]
    subprocess.run(command, cwd=folder, env=environment, check=True)

    stream = gc.load(path).stream(6)
    y = stream.run(past.T[:, :, None])[-1].copy()
    expected = np.empty((6, 30), np.float32)
    for step in range(30):
        expected[:, step] = y[:, 0]
        stream.step(y, y)
    assert same_bits(np.load(tmp_path / "future.npy"), expected)


def pointer(handle, name):
    """What a capsule holds, as C reads it."""
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    return get(handle, name)


@pytest.fixture
def model():
    return gc.Model([random_spec(np.random.default_rng(0), "lstm", 3, 5)])


@pytest.fixture
def library():
    """The very library the package runs on: loading it again gives the same one."""
    library = ctypes.CDLL(gc.get_library())
    library.gated_stream_state.restype = ctypes.POINTER(ctypes.c_float)
    library.gated_stream_state.argtypes = library.gated_model_bytes.argtypes = [ctypes.c_void_p]
    library.gated_model_bytes.restype = ctypes.c_size_t
    return library


def test_the_handle_of_a_model_is_the_model(model, library):
    assert library.gated_model_bytes(pointer(model.handle, b"gated_c.gated_model")) == model.packed_bytes
    assert pointer(model.handle, b"gated_c.gated_model") == pointer(model.handle, b"gated_c.gated_model")


def test_the_handle_of_a_stream_shares_its_state(model, library):
    stream = model.stream()
    stream.step(np.ones((1, 3), np.float32))
    state = library.gated_stream_state(pointer(stream.handle, b"gated_c.gated_stream"))
    assert same_bits(np.ctypeslib.as_array(state, (5,)), stream.state[0].ravel())


def test_the_handle_of_a_pool_shares_its_members(model, library):
    pool = model.pool(3)
    library.gated_pool_has.argtypes = [ctypes.c_void_p, ctypes.c_int64]
    assert library.gated_pool_has(pointer(pool.handle, b"gated_c.gated_pool"), pool.open()) == 1


@pytest.mark.parametrize("kind", ["model", "stream"])
def test_a_handle_has_a_name_that_is_checked(model, kind):
    handle = (model if kind == "model" else model.stream()).handle
    with pytest.raises(ValueError, match="incorrect name"):
        pointer(handle, b"gated_c.gated_" + (b"stream" if kind == "model" else b"model"))


def test_a_handle_keeps_what_it_points_to_alive(model):
    stream = model.stream()
    gone = weakref.ref(stream)
    handle = stream.handle
    del stream
    collector.collect()
    assert gone() is not None
    del handle
    collector.collect()
    assert gone() is None
