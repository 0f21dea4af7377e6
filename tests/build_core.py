"""Builds C programs over the core with any compiler, as setup.py does it: one unit per kernel table, each with its own
flags."""

import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parent.parent
INCLUDE = ["-I", ROOT / "gated_c" / "include", "-I", ROOT / "src"]
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-O1", "-g1"]

#: So that every allocation of the core comes by tests/c/allocation.c.
ALLOCATION = [f"-Wl,--wrap={name}" for name in ("malloc", "calloc", "aligned_alloc", "free")]


def flags():
    """The rows of src/isa.flags: flags by name."""
    rows = [line.split() for line in (ROOT / "src" / "isa.flags").read_text().splitlines()]
    return {name: own for name, *own in rows if name != "#"}


def tables(cc):
    """The kernel tables for the machine that a compiler builds for."""
    preprocess = [cc, "-E", "-P", "-x", "c", ROOT / "src" / "isa.def"]
    return re.findall(r"ISA\((\w+)", subprocess.run(preprocess, capture_output=True, text=True, check=True).stdout)


def compiler(name):
    """Path of a compiler, or None."""
    return shutil.which(name)


def compile_unit(cc, source, output, own=()):
    subprocess.run([cc, *flags()["compile"], *own, "-Werror", *INCLUDE, "-c", source, "-o", output], check=True)


@cache
def _objects(cc, units):
    """Object files of (source, flags), compiled once in a test run, and the folder that keeps them alive."""
    folder = TemporaryDirectory()
    outputs = [Path(folder.name) / f"{source.stem}.o" for source, _ in units]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda unit, output: compile_unit(cc, unit[0], output, unit[1]), units, outputs))
    return outputs, folder


def core_objects(cc, *, sanitize=(), kernels=(), without=()):
    """Object files of the core; ``sanitize`` are flags of all of it but the kernels, which take minutes with those of
    UBSan, ``kernels`` flags of these, ``without`` the names of files to leave out."""
    sources = [path for path in sorted((ROOT / "src").glob("*.c")) if path.stem not in without]
    units = tuple((ROOT / "src" / "isa" / f"{table}.c", (*flags()[table], *kernels)) for table in tables(cc))
    core = tuple((source, tuple(sanitize)) for source in sources)
    return [*_objects(cc, core)[0], *_objects(cc, units)[0]]


def link_program(cc, program, objects, folder, *, link=(), sanitize=()):
    """Compile a C ``program``, a path below the root, into ``folder`` with these objects; returns the executable."""
    own = Path(folder) / f"{Path(program).stem}.o"
    compile_unit(cc, ROOT / program, own, sanitize)
    executable = own.with_suffix("")
    subprocess.run([cc, *sanitize, own, *objects, "-o", executable, *link], check=True)
    return executable


def build(cc, program, folder, *, link=(), sanitize=(), kernels=(), without=()):
    """A program with all of the core."""
    objects = core_objects(cc, sanitize=sanitize, kernels=kernels, without=without)
    return link_program(cc, program, objects, folder, link=link, sanitize=sanitize)


def build_part(cc, program, parts, folder, *, link=(), flags=()):
    """A program with the files of the core of these names, which need no others."""
    objects, _ = _objects(cc, tuple((ROOT / "src" / f"{name}.c", tuple(flags)) for name in parts))
    return link_program(cc, program, objects, folder, link=link, sanitize=flags)


def build_fuzzer(folder):
    """The fuzz target of .gated files, by Clang's libFuzzer."""
    flags = [f"{SANITIZE[0]},fuzzer", *SANITIZE[1:]]
    return build("clang", "tests/c/fuzz_gated_file.c", folder, sanitize=flags, without=["crc32"])
