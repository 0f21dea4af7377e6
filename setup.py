"""The compiled half: one static library per kernel table with its own instruction set flags, one for the rest of the
core, and the Cython extension over them. Everything else is in pyproject.toml."""

import os
import platform
from pathlib import Path

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup

MACHINE = platform.machine().lower()
INCLUDE = ["gated_c/include"]

# Explicit fma only, so that every compiler rounds alike; -O3 turns the lane loops of kernels/vec.h into instructions.
FLAGS = ["-std=c11", "-O3", "-g0", "-ffp-contract=off", "-fno-math-errno", "-fvisibility=hidden", "-Wall", "-Wextra"]
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-shared-libsan"]
if os.environ.get("GATED_C_SANITIZE"):  # for Clang: GCC takes three minutes to compile this
    FLAGS += ["-O1", "-g1", *SANITIZE]
    LINK = SANITIZE
else:
    LINK = []

AVX2 = ["-mavx2", "-mfma"]
AVX512 = [*AVX2, "-mavx512f", "-mavx512vl", "-mavx512bw", "-mavx512dq"]


def isa_flags(machine):
    """Rows of src/isa.def for a machine: kernel table -> flags of its unit."""
    if machine in ("x86_64", "amd64"):
        return {"sse2": [], "avx2": AVX2, "avx512_half": AVX512, "avx512": AVX512}
    if machine in ("aarch64", "arm64"):
        return {"neon": []}
    return {"portable": []}


CORE = sorted(str(path) for path in Path("src").glob("*.c"))
HEADERS = sorted(str(path) for pattern in ("*.h", "*.def") for path in Path("src").rglob(pattern))
HEADERS += [f"{INCLUDE[0]}/gated_c.h"]


def library(name, sources, flags):
    return (name, {"sources": sources, "cflags": FLAGS + flags, "include_dirs": INCLUDE, "obj_deps": {"": HEADERS}})


setup(
    libraries=[
        library("gated_core", CORE, []),
        *(library(f"gated_{isa}", [f"src/isa/{isa}.c"], flags) for isa, flags in isa_flags(MACHINE).items()),
    ],
    ext_modules=cythonize(
        [
            Extension(
                "gated_c._core",
                ["gated_c/_core.pyx"],
                include_dirs=[*INCLUDE, numpy.get_include()],
                # The unused-parameter and similar warnings of generated code are not ours to mend.
                extra_compile_args=["-O2", "-g0", "-fvisibility=hidden"],
                extra_link_args=LINK,
                define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_25_API_VERSION")],
                depends=[*CORE, *HEADERS],
            )
        ],
        compiler_directives={"language_level": "3", "binding": False},
    ),
)
