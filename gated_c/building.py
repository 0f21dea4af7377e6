"""What a compiler needs to know to build on the C interface of this installation."""

from __future__ import annotations

from pathlib import Path

from gated_c import _core

ROOT = Path(__file__).parent


def get_include() -> str:
    """The folder of ``gated_c.h``, the C interface and its manual."""
    return str(ROOT / "include")


def get_library() -> str:
    """The shared library that this package runs on, to link to by its path.

    Its name ends with the version of its binary interface. A program finds it there by a run path, or has it already
    when it is an extension module that is imported after gated_c.
    """
    return str(ROOT / "lib" / f"libgated_c.so.{_core.abi_version()}")
