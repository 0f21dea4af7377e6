"""The C library: what its header, its declarations for Cython and its symbols promise, and that programs can use it."""

import os
import re
import subprocess
from pathlib import Path

import pytest

import gated_c as gc
from gated_c import _core
from tests.build_core import ROOT, compiler

HEADER = ROOT / "gated_c" / "include" / "gated_c.h"
PROGRAM = ROOT / "tests" / "c" / "embed.c"
STRICT = ["-Wall", "-Wextra", "-pedantic", "-Werror"]


def tool(name):
    """Path of a program, or a skipped test."""
    path = compiler(name)
    if path is None:
        pytest.skip(f"needs {name}")
    return path


def output_of(*command, **options):
    return subprocess.run(command, capture_output=True, text=True, check=True, **options).stdout


def header():
    """gated_c.h in words: without comments, one space between."""
    return " ".join(re.sub(r"/\*.*?\*/", " ", HEADER.read_text(), flags=re.DOTALL).split())


def functions():
    """Name to declaration, of every public function."""
    declared = re.findall(r"GATED_API ([^;{}#]*?(\bgated_\w+)\([^;]*\));", header())
    return {name: declaration for declaration, name in declared}


def test_every_function_of_the_header_is_public():
    without = re.sub(r"GATED_API [^;]*;", "", header())
    assert len(functions()) >= 18
    assert not re.findall(r"\bgated_\w+\(", without)


DECLARATIONS = (ROOT / "gated_c" / "__init__.pxd").read_text()


@pytest.mark.parametrize("name", functions())
def test_cython_declares_every_function_as_the_header_does(name):
    assert f" {functions()[name].replace('(void)', '()')} " in " ".join(DECLARATIONS.split())


@pytest.mark.parametrize("name", sorted(re.findall(r"\} (gated_\w+);", header())))
def test_cython_declares_every_struct_and_enum_as_the_header_does(name):
    (body,) = re.findall(rf"typedef (?:struct|enum) {{ ([^}}]*) }} {name};", header())
    (declared,) = re.findall(rf"ctypedef (?:struct|enum) {name}:\n((?: {{8}}.*\n)+)", DECLARATIONS)
    assert set(re.findall(r"[A-Za-z_]\w*", declared)) == set(re.findall(r"[A-Za-z_]\w*", body))


@pytest.mark.parametrize("standard", ["c99", "c11", "c++11", "c++20"])
@pytest.mark.parametrize("family", ["gcc", "clang"])
def test_a_program_compiles_under_every_standard(family, standard, tmp_path):
    cc = tool({"gcc": "g++", "clang": "clang++"}[family] if "+" in standard else family)
    language = "c++" if "+" in standard else "c"
    include = f"-I{gc.get_include()}"
    subprocess.run(
        [cc, f"-std={standard}", *STRICT, include, "-x", language, "-c", PROGRAM, "-o", tmp_path / "o"], check=True
    )


def test_exactly_the_functions_of_the_header_are_exported():
    lines = output_of(tool("nm"), "-D", "--defined-only", gc.get_library()).splitlines()
    assert {line.split()[2].split("@")[0] for line in lines} == set(functions())


def dynamic(path, tag):
    """Entries of a shared object's dynamic section."""
    return re.findall(rf"\({tag}\).*\[(.*)\]", output_of(tool("readelf"), "-d", path))


def test_it_needs_libc_and_libm_only():
    needed = {name.split(".")[0] for name in dynamic(gc.get_library(), "NEEDED")}
    assert needed <= {"libc", "libm", "ld-linux-aarch64"}
    assert Path(gc.get_library()).stat().st_size < 1_200_000


def test_its_name_holds_the_version_of_the_header():
    (version,) = re.findall(r"#define GATED_ABI_VERSION (\d+)", HEADER.read_text())
    assert dynamic(gc.get_library(), "SONAME") == [f"libgated_c.so.{version}"] == [Path(gc.get_library()).name]
    assert _core.abi_version() == int(version)


def test_python_runs_on_the_library_it_names():
    assert f"libgated_c.so.{_core.abi_version()}" in dynamic(_core.__file__, "NEEDED")
    assert "$ORIGIN/lib" in dynamic(_core.__file__, "RUNPATH")[0].split(":")
    assert not re.findall(r" T gated_", output_of(tool("nm"), "-D", "--defined-only", _core.__file__))
    loaded = Path("/proc/self/maps").read_text()
    assert {path for path in loaded.split() if "libgated_c" in path} == {gc.get_library()}


def test_it_neither_prints_nor_ends_the_process():
    called = output_of(tool("nm"), "-D", "-u", gc.get_library()).split()
    stdio = r"\w*printf\w*|puts|putchar|perror|f(open|read|write|close|puts)|std(in|out|err)"
    assert not [
        name for name in called if re.fullmatch(rf"{stdio}|abort|_*exit|_*assert\w*|signal", name.split("@")[0])
    ]


@pytest.fixture(scope="module")
def installed(library_build, tmp_path_factory):
    """The folder of `make install`."""
    folder = tmp_path_factory.mktemp("installed")
    subprocess.run(["make", "-s", "-C", ROOT, "install", f"BUILD={library_build}", f"PREFIX={folder}"], check=True)
    return folder


@pytest.fixture(scope="module")
def moved(installed, tmp_path_factory):
    """The same under another name."""
    return installed.rename(tmp_path_factory.mktemp("moved") / "prefix")


def test_it_has_no_globals_besides_the_choice_of_the_instruction_set_and_what_calls_with_threads_share(moved):
    symbols = output_of(tool("objdump"), "-t", moved / "lib" / "libgated_c.a")
    writable = r" O \.(?:data|bss|tdata|tbss)(?:\.(?!rel\.ro)\S*)?\s+\S+ (?:\.hidden )?(\S+)"
    assert set(re.findall(writable, symbols)) == {"levels", "num_levels", "shared", "machine"}


def run(program, library_path=None):
    """Of tests/c/embed.c: what it prints."""
    environment = {**os.environ, **({"LD_LIBRARY_PATH": str(library_path)} if library_path else {})}
    return output_of(program, env=environment)


def pkg_config(prefix, *options):
    environment = {**os.environ, "PKG_CONFIG_PATH": str(prefix / "lib" / "pkgconfig")}
    return output_of(tool("pkg-config"), *options, "gated_c", env=environment).split()


@pytest.mark.parametrize("language", ["c", "c++"])
def test_a_program_runs_with_the_static_library(moved, tmp_path, language):
    cc = tool("g++" if language == "c++" else "cc")
    library = moved / "lib" / "libgated_c.a"
    subprocess.run(
        [cc, "-x", language, f"-I{moved}/include", PROGRAM, "-x", "none", library, "-o", tmp_path / "a"], check=True
    )
    assert run(tmp_path / "a") == "no error\n"


def test_a_program_runs_with_what_pkg_config_says(moved, tmp_path):
    flags = pkg_config(moved, "--cflags", "--libs")
    subprocess.run([tool("cc"), PROGRAM, *flags, "-o", tmp_path / "a"], check=True)
    assert dynamic(tmp_path / "a", "NEEDED")[0] == f"libgated_c.so.{_core.abi_version()}"
    assert run(tmp_path / "a", moved / "lib") == "no error\n"
    assert pkg_config(moved, "--modversion") == [gc.__version__]


CMAKE = """
cmake_minimum_required(VERSION 3.13)
project(embed C)
find_package(gated_c 0.1 REQUIRED)
add_executable(shared {program})
target_link_libraries(shared gated_c::gated_c)
add_executable(static {program})
target_link_libraries(static gated_c::static)
"""


def test_a_program_runs_with_what_cmake_finds(moved, tmp_path):
    cmake = tool("cmake")
    (tmp_path / "CMakeLists.txt").write_text(CMAKE.format(program=PROGRAM))
    output_of(cmake, "-S", tmp_path, "-B", tmp_path / "b", f"-DCMAKE_PREFIX_PATH={moved}")
    output_of(cmake, "--build", tmp_path / "b")
    assert run(tmp_path / "b" / "shared") == run(tmp_path / "b" / "static") == "no error\n"


def test_a_program_runs_with_the_library_of_the_package(tmp_path):
    library = Path(gc.get_library())
    command = [tool("cc"), f"-I{gc.get_include()}", PROGRAM, library, f"-Wl,-rpath,{library.parent}"]
    subprocess.run([*command, "-o", tmp_path / "a"], check=True)
    assert run(tmp_path / "a") == "no error\n"


def test_another_machine_needs_no_more_than_its_compiler(tmp_path):
    cc, emulator = tool("aarch64-linux-gnu-gcc"), tool("qemu-aarch64")
    build = tmp_path / "build"
    subprocess.run([tool("make"), "-s", "-C", ROOT, f"CC={cc}", f"BUILD={build}"], check=True)
    program = [cc, f"-I{gc.get_include()}", PROGRAM, build / "libgated_c.a", "-static", "-o", tmp_path / "a"]
    subprocess.run(program, check=True)
    assert output_of(emulator, tmp_path / "a") == "no error\n"
    assert "libc" in dynamic(build / "libgated_c.so", "NEEDED")[0]
