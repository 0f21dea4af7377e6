"""Which instruction sets this build has, which this CPU can run, which one runs."""

from __future__ import annotations

from dataclasses import dataclass

from gated_c import _core


@dataclass(frozen=True)
class Isa:
    """One instruction set of the build."""

    name: str
    lanes: int  #: float32 values in its widest vector
    usable: bool  #: this CPU has it
    exact: bool  #: it has FMA, so its results have the bits of every other exact one


@dataclass(frozen=True)
class CpuInfo:
    """``isas`` slowest first; ``chosen`` is the name of the one new models use."""

    isas: tuple[Isa, ...]
    chosen: str


def cpu_info() -> CpuInfo:
    """What is built, usable and chosen. The environment variable ``GATED_C_ISA`` forces one by name; ``RuntimeError``
    if the build or the CPU does not have it."""
    return CpuInfo(tuple(Isa(*row) for row in _core.list_isas()), _core.chosen_isa())
