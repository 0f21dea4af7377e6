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
def core_objects(cc):
    """Object files of the core, compiled once in a test run, and the folder that keeps them alive."""
    folder = TemporaryDirectory()
    units = [(path, []) for path in sorted((ROOT / "src").glob("*.c"))]
    units += [(ROOT / "src" / "isa" / f"{table}.c", flags()[table]) for table in tables(cc)]
    outputs = [Path(folder.name) / f"{source.stem}.o" for source, _ in units]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda unit, output: compile_unit(cc, unit[0], output, unit[1]), units, outputs))
    return outputs, folder


def build(cc, program, folder, *, link=()):
    """Compile a C ``program``, a path below the root, into ``folder`` with the core; returns the executable."""
    objects, _ = core_objects(cc)
    own = Path(folder) / f"{Path(program).stem}.o"
    compile_unit(cc, ROOT / program, own)
    executable = own.with_suffix("")
    subprocess.run([cc, own, *objects, "-o", executable, *link], check=True)
    return executable
