"""Calls on several threads: the bits of one thread, however the work is split, and no harm to or from other threads."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from conftest import CELLS, random_spec, random_state, same_bits, state_of

import gated_c as gc
from gated_c import _core
from gated_c import layers as L
from gated_c.spec import Activation
from tests.build_core import ROOT, build_part, compiler
from tests.chains import floats

THREADS = [2, 3]
PATIENCE = 60  # seconds, after which a process has hung

SHAPES = {
    "plain": {},
    "two_layers": {"num_layers": 2},
    "three_layers": {"num_layers": 3},
    "bidirectional": {"bidirectional": True},
    "two_bidirectional": {"num_layers": 2, "bidirectional": True},
    "reverse": {"reverse": True},
}


def equal(a, b):
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, tuple):
        return len(a) == len(b) and all(equal(x, y) for x, y in zip(a, b, strict=True))
    return same_bits(a, b)


def assert_same_for_all(model, x, *args, threads=THREADS, **options):
    expected = model(x, *args, threads=1, **options)
    for count in threads:
        assert equal(model(x, *args, threads=count, **options), expected), count
    assert equal(model(x, *args, **options), expected)


@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("cell", CELLS)
def test_any_number_of_threads_gives_the_bits_of_one(cell, shape, batch):
    rng = np.random.default_rng(batch)
    activations = (Activation.of("softsign"),) * (1 + ("bidirectional" in shape)) if cell == "rnn" else ()
    for hidden_size, steps in ((70, 11), (9, 19), (33, 1)):
        spec = random_spec(rng, cell, 6, hidden_size, activations=activations, **SHAPES[shape])
        state = state_of(spec, *random_state(rng, spec, batch))
        assert_same_for_all(gc.Model([spec]), floats(rng, steps, batch, 6), state)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("cell", ["lstm", "gru_reset_before"])
def test_ragged_rows_resets_and_traces_have_the_bits_of_one_thread(cell, shape):
    rng = np.random.default_rng(5)
    steps, batch = 12, 6
    for proj_size in (0, 21) if cell == "lstm" else (0,):
        spec = random_spec(rng, cell, 5, 40, proj_size=proj_size, **SHAPES[shape])
        model, x = gc.Model([spec]), floats(rng, steps, batch, 5)
        initial = state_of(spec, *random_state(rng, spec, batch))
        options = {"reset": rng.random((steps, batch)) < 0.1, "initial": initial, "trace": ("c", "gates")}
        if cell != "lstm":
            options["trace"] = ("gates",)
        assert_same_for_all(model, x, **options)
        assert_same_for_all(model, x, lengths=[12, 0, 7, 7, 11, 1], **options)
        assert_same_for_all(model, x, mask=rng.random((steps, batch)) < 0.6, **options)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("options", [{"dtype": "bfloat16"}, {"dtype": "int8"}, {"dtype": "int8", "inputs": "float32"}])
def test_narrow_weights_have_the_bits_of_one_thread(options, shape):
    rng = np.random.default_rng(6)
    for cell, batch in (("lstm", 1), ("gru", 5), ("gru_reset_before", 2), ("lstm", 12)):
        spec = random_spec(rng, cell, 20, 70, **SHAPES[shape])
        assert_same_for_all(gc.Model([spec], **options), floats(rng, 9, batch, 20))


def test_chains_have_the_bits_of_one_thread():
    rng = np.random.default_rng(7)
    model = gc.Model(
        [
            L.Conv(floats(rng, 12, 3, 8), floats(rng, 12)),
            random_spec(rng, "lstm", 12, 48),
            L.LayerNorm(48),
            random_spec(rng, "gru", 48, 20, num_layers=2, bidirectional=True),
            L.Dense(floats(rng, 7, 40)),
        ]
    )
    assert_same_for_all(model, floats(rng, 200, 3, 8), lengths=[200, 11, 170])
    assert_same_for_all(model, floats(rng, 30, 1, 8), threads=[2, 9])


def test_packed_sequences_have_the_bits_of_one_thread():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(8)
    spec = random_spec(rng, "lstm", 5, 40, num_layers=2)
    x = torch.nn.utils.rnn.pack_padded_sequence(torch.from_numpy(floats(rng, 20, 4, 5)), [20, 9, 9, 1])
    model = gc.Model([spec])
    y, state = model(x, threads=1)
    for count in THREADS:
        other, final = model(x, threads=count)
        assert same_bits(other.data.numpy(), y.data.numpy())
        assert all(same_bits(a.numpy(), b.numpy()) for a, b in zip(final, state, strict=True))


@pytest.mark.parametrize(("steps", "batch"), [(0, 3), (3, 0), (1, 1)])
def test_empty_sequences_are_nothing_for_many_threads(steps, batch):
    rng = np.random.default_rng(9)
    for options in SHAPES.values():
        assert_same_for_all(gc.Model([random_spec(rng, "lstm", 4, 40, **options)]), floats(rng, steps, batch, 4))


def test_subnormals_are_flushed_on_every_thread():
    rng = np.random.default_rng(10)
    spec = random_spec(rng, "lstm", 4, 64)
    x = np.full((50, 2, 4), 1e-39, np.float32)
    state = state_of(spec, *(part * np.float32(1e-38) for part in random_state(rng, spec, 2)))
    for flush in (False, True):
        assert_same_for_all(gc.Model([spec], flush_subnormals=flush), x, state)


def model_of(rng, hidden_size=64, **options):
    return gc.Model([random_spec(rng, "lstm", 8, hidden_size, **options)])


def test_a_model_says_how_many_threads_its_calls_have():
    rng = np.random.default_rng(11)
    spec = random_spec(rng, "lstm", 8, 64)
    assert gc.Model([spec]).threads is None
    model = gc.Model([spec], threads=2)
    assert model.threads == 2
    assert model.to("bfloat16").threads == 2
    with pytest.raises(AttributeError):
        model.threads = 3


@pytest.mark.parametrize("threads", [0, -1])
def test_fewer_threads_than_one_are_refused(threads):
    model = model_of(np.random.default_rng(12))
    for call in (lambda: gc.Model(model.layers, threads=threads), lambda: model(np.zeros((1, 1, 8)), threads=threads)):
        with pytest.raises(ValueError, match=rf"^threads: expected 1 or more, or None, got {threads}$"):
            call()


@pytest.mark.parametrize("threads", ["2", 2.0, True])
def test_threads_are_an_integer(threads):
    model = model_of(np.random.default_rng(13))
    with pytest.raises(TypeError, match=r"^threads: expected an integer or None, got "):
        model(np.zeros((1, 1, 8)), threads=threads)


def test_many_callers_share_a_model():
    rng = np.random.default_rng(14)
    model, x = model_of(rng, num_layers=2), floats(rng, 40, 2, 8)
    expected = model(x, threads=1)
    for threads in (2, None):
        with ThreadPoolExecutor(6) as pool:
            assert all(pool.map(lambda _, n=threads: equal(model(x, threads=n), expected), range(24)))


# other processes


def run(code, **environment):
    """What a new Python prints."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "GOMP_"))}
    options = {"capture_output": True, "text": True, "timeout": PATIENCE, "cwd": ROOT}
    done = subprocess.run([sys.executable, "-c", PREAMBLE + code], env={**inherited, **environment}, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


PREAMBLE = """
import os, sys
sys.path[:0] = ["tests", "."]
import numpy as np
import gated_c as gc
from gated_c.spec import LayerSpec
rng = np.random.default_rng(0)
def weights(C, H):
    shapes = {"weight_ih_l0": (4 * H, C), "weight_hh_l0": (4 * H, H), "bias_ih_l0": (4 * H,), "bias_hh_l0": (4 * H,)}
    return {name: rng.uniform(-0.1, 0.1, shape).astype(np.float32) for name, shape in shapes.items()}
model = gc.Model([LayerSpec("lstm", 8, 128, weights=weights(8, 128))])
x = rng.standard_normal((200, 2, 8)).astype(np.float32)
alone = model(x, threads=1)[0]
def same(threads=2):
    return np.array_equal(model(x, threads=threads)[0], alone)
def loaded():
    return any("omp" in os.path.basename(line.split()[-1]) for line in open("/proc/self/maps") if "/" in line)
"""


@pytest.mark.skipif(_core.openmp() is None, reason="needs OpenMP")
def test_openmp_is_loaded_by_the_first_call_that_wants_it():
    assert run("print(loaded()); same(1); print(loaded()); same(2); print(loaded())").split() == [
        "False",
        "False",
        "True",
    ]


def test_without_openmp_calls_run_on_one_thread(tmp_path):
    if compiler("gcc") is None:
        pytest.skip("needs gcc")
    source, library = tmp_path / "deny.c", tmp_path / "deny.so"
    source.write_text(DENY)
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", source, "-o", library, "-ldl"], check=True)
    code = "info = gc.cpu_info(); print(same(), info.openmp, info.threads, loaded())"
    assert run(code, LD_PRELOAD=str(library)) == "True None 1 False"


#: A library that denies the process those of OpenMP.
DENY = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <string.h>
void *dlopen(const char *name, int mode)
{
    static void *(*real)(const char *, int);
    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "dlopen");
    return name && strstr(name, "omp") ? NULL : real(name, mode);
}
"""


@pytest.mark.parametrize("variable", [{"OMP_THREAD_LIMIT": "1"}, {"OMP_DYNAMIC": "true"}, {"OMP_NUM_THREADS": "1"}])
def test_fewer_threads_than_asked_for_do(variable):
    assert run("print(same(), same(4), same(None))", **variable) == "True True True"


def test_openmps_own_number_bounds_ours():
    assert run("print(gc.cpu_info().threads)", OMP_NUM_THREADS="1") == "1"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs affinity masks")
def test_a_process_on_one_cpu_gets_one_thread_but_may_have_more():
    pinned = (
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); print(gc.cpu_info().threads, same(None), same(2))"
    )
    assert run(pinned) == "1 True True"


def test_a_fork_runs_on_one_thread_and_does_not_hang():
    fork = """
import warnings; warnings.simplefilter("ignore")
assert same(2)
child = os.fork()
if child == 0:
    os._exit(0 if same(2) and same(None) and gc.cpu_info().threads == 1 else 1)
print(os.waitpid(child, 0)[1], same(2))
"""
    assert run(fork) == "0 True"


def test_a_fork_does_not_load_openmp():
    fork = """
child = os.fork()
if child == 0:
    os._exit(0 if gc.cpu_info().openmp is None and same(2) and not loaded() else 1)
print(os.waitpid(child, 0)[1], same(2))
"""
    assert run(fork) == "0 True"


TORCH = """
a, b = torch.randn(300, 300), torch.randn(300, 300)
before, product = torch.get_num_threads(), a @ b
for _ in range(5):
    assert same(2) and torch.equal(a @ b, product)
print(torch.get_num_threads() == before)
"""


def test_torch_before_and_after_works_as_ever():
    pytest.importorskip("torch")
    assert run("import torch\n" + TORCH) == "True"
    assert run("assert same(2)\nimport torch\n" + TORCH) == "True"


def test_scikit_learn_works_as_ever():
    pytest.importorskip("sklearn")
    code = """
from sklearn.cluster import KMeans
points = rng.random((2000, 4))
for _ in range(3):
    assert same(2) and len(KMeans(3, n_init=1).fit(points).cluster_centers_) == 3
print(True)
"""
    assert run(code) == "True"


# the team itself


def build_team(cc, folder, link=()):
    return build_part(cc, "tests/c/team.c", ["team", "cpus"], folder, link=link, flags=["-fopenmp"])


@pytest.fixture(scope="module")
def team(tmp_path_factory):
    cc = compiler("gcc")
    if cc is None or _core.openmp() is None or gc.cpu_info().threads < 2:
        pytest.skip("needs gcc, OpenMP and two CPUs")
    return build_team(cc, tmp_path_factory.mktemp("team"))


@pytest.mark.parametrize("part", ["meets", "nested", "breaks_up", "told", "waits", "mode"])
def test_a_team_of_threads(team, part):
    done = subprocess.run([team, part], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_a_static_program_runs_on_one_thread(tmp_path):
    cc = compiler("gcc")
    if cc is None:
        pytest.skip("needs gcc")
    try:
        program = build_team(cc, tmp_path, link=["-static"])
    except subprocess.CalledProcessError:
        pytest.skip("needs static libraries")
    done = subprocess.run([program, "alone"], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (done.returncode, done.stdout) == (0, "")
