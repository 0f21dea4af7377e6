"""Which instruction sets this build has, which this CPU can run, which one runs; and how many threads."""

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
    """``isas`` slowest first; ``chosen`` is the name of the one new models use. ``threads`` is how many a call has at
    most that does not say: cores this thread may run on, within the CPU quota of its cgroup and ``OMP_NUM_THREADS``; 1
    in a process forked from one that had this package. ``openmp`` names the library they come from, or is ``None``
    where there is none: then all calls run on one thread."""

    isas: tuple[Isa, ...]
    chosen: str
    threads: int
    openmp: str | None


def cpu_info() -> CpuInfo:
    """What is built, usable and chosen. The environment variable ``GATED_C_ISA`` forces one by name; ``RuntimeError``
    if the build or the CPU does not have it. Loads OpenMP's library, as the first call that wants threads does."""
    isas = tuple(Isa(*row) for row in _core.list_isas())
    return CpuInfo(isas, _core.chosen_isa(), _core.usable_threads(), _core.openmp())
