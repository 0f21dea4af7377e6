import dataclasses
import subprocess
import threading

import numpy as np
import pytest

import gated_c as gc
from gated_c.spec import GATES, LayerSpec
from tests.build_core import ROOT, build, compiler

#: Instruction sets of this machine, and those under the promise of equal bits.
USABLE = [isa.name for isa in gc.cpu_info().isas if isa.usable]
EXACT = [isa.name for isa in gc.cpu_info().isas if isa.usable and isa.exact]

#: Around every vector width, and beyond one block of the widest.
SIZES = [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 24, 31, 32, 33, 40, 47, 48, 49, 65, 80]


CELLS = sorted(GATES)

#: Those that PyTorch has.
TORCH_CELLS = ["gru", "lstm", "rnn_relu", "rnn_tanh"]


@pytest.fixture(params=USABLE)
def isa(request, monkeypatch):
    """Every instruction set this CPU has, forced for the models made in the test."""
    monkeypatch.setenv("GATED_C_ISA", request.param)
    return request.param


@pytest.fixture(scope="session")
def library_build(tmp_path_factory):
    """The folder that `make` builds the C library into."""
    if compiler("make") is None or compiler("cc") is None:
        pytest.skip("needs make and cc")
    build = tmp_path_factory.mktemp("build")
    subprocess.run(["make", "-s", "-j2", "-C", ROOT, f"BUILD={build}", "CFLAGS=-Werror"], check=True)
    return build


def random_spec(rng, cell, input_size, hidden_size, *, gain=1.0, **options):
    """A module with PyTorch's initial distribution, uniform in +-gain / sqrt(H), and any options of LayerSpec."""
    empty = LayerSpec(cell, input_size, hidden_size, weights={}, **options)
    bound = gain / np.sqrt(hidden_size)
    weights = {
        name: rng.uniform(-bound, bound, shape).astype(np.float32) for name, shape in empty.expected_shapes().items()
    }
    return dataclasses.replace(empty, weights=weights)


def random_state(rng, spec, batch):
    """(h, c), each [L*D, N, size] float32."""
    stack = spec.num_layers * spec.num_directions
    h = rng.uniform(-1, 1, (stack, batch, spec.h_size)).astype(np.float32)
    c = rng.uniform(-1, 1, (stack, batch, spec.hidden_size)).astype(np.float32)
    return h, c


def state_of(spec, h, c):
    """A state in the form the model takes."""
    return (h, c) if spec.has_c else h


def parts(state):
    """The arrays of a state."""
    return state if isinstance(state, tuple) else (state,)


def same_bits(a, b):
    """Equal as bit patterns, so that NaN equals itself and 0 differs from -0."""
    return a.shape == b.shape and np.array_equal(
        np.ascontiguousarray(a).view(np.uint32), np.ascontiguousarray(b).view(np.uint32)
    )


@pytest.fixture(scope="session")
def program(tmp_path_factory):
    """A C program that opens and runs .gated files: tests/c/gated_file.c."""
    cc = compiler("gcc") or compiler("clang")
    if cc is None:
        pytest.skip("needs a C compiler")
    return build(cc, "tests/c/gated_file.c", tmp_path_factory.mktemp("program"))


def told_to_threads(call):
    """What three threads in the same ``call`` are told, until one is."""
    told = []

    def work():
        for _ in range(5000):
            if told:
                return
            try:
                call()
            except RuntimeError as error:
                told.append(str(error))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return set(told)
