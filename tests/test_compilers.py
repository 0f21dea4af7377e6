"""GCC, Clang and NEON compute the same bits, and none of them warns."""

import os
import subprocess

import pytest
from conftest import EXACT

from tests.build_core import build, compiler, core_objects


def hashes(executable, *, isa=None, runner=()):
    environment = {**os.environ, **({"GATED_C_ISA": isa} if isa else {})}
    done = subprocess.run([*runner, executable], env=environment, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 8 * 6 * 8 + 7 * 6
    return lines


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """Of GCC on the first exact instruction set."""
    cc = compiler("gcc")
    if cc is None:
        pytest.skip("needs gcc")
    executable = build(cc, "tests/c/bits.c", tmp_path_factory.mktemp("gcc"))
    lines = hashes(executable, isa=EXACT[0])
    for isa in EXACT[1:]:
        assert hashes(executable, isa=isa) == lines
    return lines


@pytest.mark.parametrize("name", ["gcc", "clang"])
def test_no_kernel_calls_the_math_library(name):
    cc, nm = compiler(name), compiler("nm")
    if cc is None or nm is None:
        pytest.skip(f"needs {name} and nm")
    objects, _ = core_objects(cc)
    symbols = subprocess.run([nm, "-u", *objects], capture_output=True, text=True, check=True).stdout.split()
    # A lane loop that was not vectorised would call fmaf, lane by lane.
    assert not {"fmaf", "fma", "sqrtf", "sqrt", "expf", "tanhf"} & set(symbols)


def test_clang_computes_the_bits_of_gcc(expected, tmp_path):
    cc = compiler("clang")
    if cc is None:
        pytest.skip("needs clang")
    executable = build(cc, "tests/c/bits.c", tmp_path)
    for isa in EXACT:
        assert hashes(executable, isa=isa) == expected


def test_neon_computes_the_bits_of_x86(expected, tmp_path):
    cc, emulator = compiler("aarch64-linux-gnu-gcc"), compiler("qemu-aarch64")
    if cc is None or emulator is None:
        pytest.skip("needs gcc-aarch64-linux-gnu and qemu-user")
    executable = build(cc, "tests/c/bits.c", tmp_path, link=["-static", "-lm"])
    assert hashes(executable, runner=[emulator]) == expected
