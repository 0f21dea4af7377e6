"""GCC, Clang and NEON compute the same bits, and none of them warns."""

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from conftest import EXACT
from gated_models import gated_models, input_of

from tests.build_core import ALLOCATION, ROOT, build, compile_unit, compiler, core_objects


def hashes(executable, *, isa=None, runner=()):
    environment = {**os.environ, **({"GATED_C_ISA": isa} if isa else {})}
    done = subprocess.run([*runner, executable], env=environment, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 5 * (8 * 6 * 8 + 7 * 6)
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
    objects = core_objects(cc)
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


@pytest.mark.skipif("avx512" not in EXACT, reason="needs AVX-512")
def test_avx512_computes_the_same_bits_without_vnni(expected, tmp_path):
    cc, core = compiler("gcc"), Path(shutil.copytree(ROOT / "src", tmp_path / "src"))
    rows = (core / "isa.def").read_text().splitlines(keepends=True)
    (core / "isa.def").write_text("".join(row for row in rows if "vnni" not in row))
    names = {path.stem for path in core.glob("*.c")}
    objects = [path for path in core_objects(cc) if path.stem not in names and "vnni" not in path.stem]
    for source in [*core.glob("*.c"), ROOT / "tests" / "c" / "bits.c"]:
        objects.append(tmp_path / f"{source.stem}.o")
        compile_unit(cc, source, objects[-1], ["-Wno-unused-function"])
    subprocess.run([cc, *objects, "-o", tmp_path / "bits"], check=True)
    assert hashes(tmp_path / "bits", isa="avx512") == expected


@pytest.fixture(scope="module")
def on_both(tmp_path_factory):
    """Builds a program for this machine and for aarch64; returns how to run either."""
    cc, cross, emulator = compiler("gcc"), compiler("aarch64-linux-gnu-gcc"), compiler("qemu-aarch64")
    if cc is None or cross is None or emulator is None:
        pytest.skip("needs gcc, gcc-aarch64-linux-gnu and qemu-user")
    here, there = tmp_path_factory.mktemp("here"), tmp_path_factory.mktemp("there")

    def build_both(program, link=()):
        native = build(cc, f"tests/c/{program}.c", here, link=link)
        return [native], [emulator, build(cross, f"tests/c/{program}.c", there, link=["-static", "-lm", *link])]

    return build_both


def test_neon_computes_the_bits_of_x86(expected, on_both):
    _, (emulator, executable) = on_both("bits")
    assert hashes(executable, runner=[emulator]) == expected


def outputs(commands, *args, **options):
    return [
        subprocess.run([*command, *args], capture_output=True, check=True, **options).stdout for command in commands
    ]


def test_pools_on_neon_do_what_they_do_on_x86(on_both):
    here, there = outputs(on_both("soak"), "20", "1000", "1")
    assert here == there


def test_threads_on_neon_share_a_model(on_both):
    assert outputs(on_both("threads", ["-pthread"])) == [b"", b""]


def test_steps_on_neon_allocate_nothing(on_both):
    assert outputs(on_both("allocation", ALLOCATION))[1].endswith(b" 0 during\n")


def test_neon_makes_the_bits_of_x86_from_a_file(on_both, tmp_path):
    programs = on_both("gated_file")
    for name, model in gated_models().items():
        if model.arithmetic == "bfloat16":
            continue  # the bits of x86's own instruction
        model.save(tmp_path / name)
        x = np.ascontiguousarray(input_of(model, 3, 2)).tobytes()
        args = ["stream" if model.streamable else "run", tmp_path / name, str(len(x) // (8 * model.input_size)), "2"]
        here, there = outputs(programs, *args, input=x)
        assert here == there, name
