"""Builds C programs over the core with any compiler, as setup.py does it: one unit per kernel table, each with its own
flags."""

import runpy
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

ROOT = Path(__file__).parent.parent
FLAGS = ["-std=c11", "-O3", "-ffp-contract=off", "-fno-math-errno", f"-I{ROOT}/gated_c/include", f"-I{ROOT}/src"]
WARNINGS = ["-Wall", "-Wextra", "-Werror"]
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-O1", "-g1"]


def isa_flags(target=None):
    """setup.py's table of flags, for this machine or a target triplet."""
    build_tools = {name: mock.MagicMock() for name in ("setuptools", "Cython", "Cython.Build")}
    with mock.patch.dict(sys.modules, build_tools):  # none of which a test environment needs to have
        settings = runpy.run_path(str(ROOT / "setup.py"))
    return settings["isa_flags"](target.split("-")[0] if target else settings["MACHINE"])


def compiler(name):
    """Path of a compiler, or None."""
    return shutil.which(name)


def compile_unit(cc, source, output, flags=()):
    subprocess.run([cc, *FLAGS, *WARNINGS, *flags, "-c", source, "-o", output], check=True)


@cache
def _objects(cc, units):
    """Object files of (source, flags), compiled once in a test run, and the folder that keeps them alive."""
    folder = TemporaryDirectory()
    outputs = [Path(folder.name) / f"{source.stem}.o" for source, _ in units]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda unit, output: compile_unit(cc, unit[0], output, unit[1]), units, outputs))
    return outputs, folder


def core_objects(cc, target, *, sanitize=(), without=()):
    """Object files of the core; ``sanitize`` are flags of all of it but the kernels, which take minutes with them,
    ``without`` the names of files to leave out."""
    sources = [path for path in sorted((ROOT / "src").glob("*.c")) if path.stem not in without]
    kernels = tuple((ROOT / "src" / "isa" / f"{isa}.c", tuple(flags)) for isa, flags in isa_flags(target).items())
    core = tuple((source, tuple(sanitize)) for source in sources)
    return [*_objects(cc, core)[0], *_objects(cc, kernels)[0]]


def build(cc, program, folder, *, target=None, link=(), sanitize=(), without=()):
    """Compile a C ``program``, a path below the root, into ``folder`` with the core; returns the executable."""
    objects = core_objects(cc, target, sanitize=sanitize, without=without)
    own = Path(folder) / f"{Path(program).stem}.o"
    compile_unit(cc, ROOT / program, own, sanitize)
    executable = own.with_suffix("")
    subprocess.run([cc, *sanitize, own, *objects, "-o", executable, *link], check=True)
    return executable


def build_fuzzer(folder):
    """The fuzz target of .gated files, by Clang's libFuzzer."""
    flags = [f"{SANITIZE[0]},fuzzer", *SANITIZE[1:]]
    return build("clang", "tests/c/fuzz_gated_file.c", folder, sanitize=flags, without=["crc32"])
