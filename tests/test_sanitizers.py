"""The C programs under ThreadSanitizer, AddressSanitizer and UndefinedBehaviorSanitizer; .ci/sanitize runs Python under
the last two."""

import os
import subprocess

import numpy as np
import pytest
from conftest import EXACT
from gated_models import gated_models, input_of

from tests.build_core import ALLOCATION, SANITIZE, build, compiler

THREAD = ("-fsanitize=thread", "-O1", "-g1")
ADDRESS = ("-fsanitize=address", "-O1", "-g1")


def clang():
    path = compiler("clang")
    if path is None:
        pytest.skip("needs clang")
    return path


def run(program, *args, isa=None, environment=None, **options):
    """What it printed, and its errors; a finding is in both and ends it with another code than 0."""
    environment = {**os.environ, **({"GATED_C_ISA": isa} if isa else {}), **(environment or {})}
    return subprocess.run(
        [program, *map(str, args)], env=environment, capture_output=True, timeout=300, check=False, **options
    )


def expect_clean(done):
    assert (done.returncode, done.stderr) == (0, b""), (done.stdout[-2000:] + done.stderr[-8000:]).decode()


@pytest.fixture(scope="module")
def checked(tmp_path_factory):
    """Builds a program with all checks of memory and arithmetic, in the kernels with those of memory."""
    folder = tmp_path_factory.mktemp("checked")
    return lambda program, **options: build(
        clang(), f"tests/c/{program}.c", folder, sanitize=SANITIZE, kernels=ADDRESS, **options
    )


@pytest.fixture(scope="module")
def threads(tmp_path_factory):
    folder = tmp_path_factory.mktemp("threads")
    return build(clang(), "tests/c/threads.c", folder, sanitize=THREAD, kernels=THREAD, link=["-pthread"])


@pytest.mark.parametrize("isa", EXACT)
def test_threads_that_share_a_model_do_not_race(threads, isa):
    expect_clean(run(threads, isa=isa))


#: Of OpenMP's library, not built for the sanitizer, which does not see that a region begins after what is before it.
SUPPRESSIONS = "called_from_lib:libgomp.so\n"


def test_threads_of_one_call_do_not_race(threads, tmp_path):
    suppressions = tmp_path / "suppressions"
    suppressions.write_text(SUPPRESSIONS)
    expect_clean(run(threads, "teams", environment={"TSAN_OPTIONS": f"suppressions={suppressions}"}))


def test_threads_that_share_a_stream_are_seen_to_race(threads):
    assert b"WARNING: ThreadSanitizer: data race" in run(threads, "shared").stderr


@pytest.mark.parametrize("isa", EXACT)
def test_every_cell_stays_inside_its_memory(checked, isa):
    expect_clean(run(checked("bits"), isa=isa))


def test_pools_stay_inside_their_memory(checked):
    expect_clean(run(checked("soak"), 20, 2000, 1))


def test_wrong_arguments_are_errors_and_buffers_may_overlap_where_they_may(checked):
    expect_clean(run(checked("arguments")))


def test_steps_that_allocate_nothing_stay_inside_their_memory(checked):
    expect_clean(run(checked("allocation", link=ALLOCATION)))


def test_threads_stay_inside_their_memory(checked):
    expect_clean(run(checked("threads", link=["-pthread"])))


def test_models_of_every_kind_of_file_stay_inside_their_memory(checked, tmp_path):
    program = checked("gated_file")
    for name, model in gated_models().items():
        model.save(tmp_path / name, packed=len(name) % 2 == 0)
        x = np.ascontiguousarray(input_of(model, 3, 2))
        for use in ("run", "stream") if model.streamable else ("run",):
            expect_clean(run(program, use, tmp_path / name, len(x), 2, input=x.tobytes()))
