"""The compiled half: the core as a shared library in gated_c/lib/, and the Cython extension over it. Everything else is
in pyproject.toml."""

import os
import re
import subprocess
from pathlib import Path

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.modified import newer_group

INCLUDE = "gated_c/include"
HEADERS = [f"{INCLUDE}/gated_c.h", *(str(path) for pattern in ("*.h", "*.def") for path in Path("src").rglob(pattern))]
ABI = re.findall(r"#define GATED_ABI_VERSION (\d+)", Path(HEADERS[0]).read_text())[0]
SONAME = f"libgated_c.so.{ABI}"

FLAGS = {name: flags for name, *flags in map(str.split, Path("src/isa.flags").read_text().splitlines()) if name != "#"}
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-shared-libsan"]
if os.environ.get("GATED_C_SANITIZE"):  # for Clang: GCC takes three minutes to compile this
    FLAGS["compile"] += ["-O1", "-g1", *SANITIZE]
    FLAGS["link"] += SANITIZE
    LINK = SANITIZE
else:
    FLAGS["compile"] += ["-g0"]
    LINK = []


class BuildExt(build_ext):
    """Builds CORE as a plain shared library, and what comes after it against it."""

    def get_ext_filename(self, fullname):
        *folders, name = fullname.split(".")  # setuptools asks with and without the folders
        return os.path.join(*folders, SONAME) if name == "libgated_c" else super().get_ext_filename(fullname)

    def build_extensions(self):
        self.parallel = None  # the library comes first
        super().build_extensions()

    def build_extension(self, ext):
        if ext is CORE:
            self.build_core(self.get_ext_fullpath(CORE.name))
        else:
            ext.extra_objects = [self.get_ext_fullpath(CORE.name)]
            super().build_extension(ext)

    def build_core(self, library):
        """One object per source, each with its own flags: of the kernel tables those for this compiler's machine."""
        preprocess = [*self.compiler.compiler, "-E", "-P", "-x", "c", "src/isa.def"]
        rows = subprocess.run(preprocess, capture_output=True, text=True, check=True).stdout
        tables = re.findall(r"ISA\((\w+)", rows)
        objects = [self.compile_unit(source, []) for source in sorted(Path("src").glob("*.c"))]
        objects += [self.compile_unit(Path(f"src/isa/{table}.c"), FLAGS[table]) for table in tables]
        self.compiler.link_shared_object(objects, library, extra_postargs=[*FLAGS["link"], f"-Wl,-soname,{SONAME}"])

    def compile_unit(self, source, flags):
        output = Path(self.build_temp, source).with_suffix(".o")
        if self.force or newer_group([str(source), *HEADERS, *CORE.depends], str(output)):
            self.compiler.compile(
                [str(source)], self.build_temp, include_dirs=[INCLUDE], extra_postargs=[*FLAGS["compile"], *flags]
            )
        return str(output)

    def copy_extensions_to_source(self):
        self.mkpath("gated_c/lib")
        super().copy_extensions_to_source()


SOURCES = sorted(str(path) for path in Path("src").rglob("*.c"))
CORE = Extension("gated_c.lib.libgated_c", SOURCES, depends=["src/isa.flags", "setup.py"])

setup(
    cmdclass={"build_ext": BuildExt},
    ext_modules=[
        CORE,
        *cythonize(
            [
                Extension(
                    "gated_c._core",
                    ["gated_c/_core.pyx"],
                    include_dirs=[INCLUDE, numpy.get_include()],
                    # The unused-parameter and similar warnings of generated code are not ours to mend.
                    extra_compile_args=["-O2", "-g0", "-fvisibility=hidden", "-fno-plt"],
                    extra_link_args=["-Wl,--enable-new-dtags,-rpath,$ORIGIN/lib", *LINK],
                    define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_25_API_VERSION")],
                    depends=HEADERS,
                )
            ],
            compiler_directives={"language_level": "3", "binding": False, "freethreading_compatible": True},
        ),
    ],
)
