"""The least time that a core needs for the arithmetic and the weight reads of a case, measured in the same rounds.

At batch 1 a step reads all weights from the cache that holds them. A sequence can do the input projection of many
steps at once, which leaves the reads of the recurrent weights and the multiply-adds of the projection; it passes 100 %
where it keeps a part of the weights in a nearer cache. From two rows on it is multiply-adds alone. The chain of
dependences from h to the next h is not counted: that, not this bound, limits H <= 40.
"""

from __future__ import annotations

import ctypes
import mmap
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import numpy as np

import gated_c
from bench.case import Case
from gated_c.spec import Array

#: Compiler flags, bytes of a vector, and chains enough to hide the latency of a multiply-add.
PROBES = {
    "avx512": (["-mavx512f", "-mfma"], 64, 24),
    "avx2": (["-mavx2", "-mfma"], 32, 12),
    "neon": ([], 16, 24),
    "sse2": ([], 16, 12),
}

#: Floats are read in multiples of this: the probe's vectors per turn at the widest.
READ_STEP = 128


@cache
def probe() -> ctypes.CDLL:
    """``probe.c`` compiled for the ISA that the engine uses here."""
    flags, vector_bytes, chains = PROBES[gated_c.cpu_info().chosen]
    macros = [f"-DVECTOR_BYTES={vector_bytes}", f"-DCHAINS={chains}"]
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder, "probe.so")
        source = Path(__file__).with_name("probe.c")
        subprocess.run(["cc", "-O3", *flags, *macros, "-shared", "-fPIC", "-o", library, source], check=True)
        loaded = ctypes.CDLL(str(library))
    loaded.probe_step.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_size_t]
    return loaded


class Roofline:
    """One time step of a case at the speed of the machine. Only :meth:`run` means anything."""

    def __init__(self, case: Case) -> None:
        macs = case.input_macs + case.recurrent_macs
        if case.batch > 1:
            self.macs, reads = case.batch * macs, 0
        elif case.seq_len > 1:
            self.macs, reads = case.input_macs, case.recurrent_macs
        else:
            self.macs, reads = 0, macs
        self.reads = -(-reads // READ_STEP) * READ_STEP
        self.data = in_huge_pages(self.reads)
        self.step = probe().probe_step

    def write(self, x: Array) -> None:
        raise NotImplementedError

    def run(self, times: int) -> None:
        self.step(self.data.ctypes.data, self.reads, self.macs, times)

    def read(self) -> Array:
        raise NotImplementedError


def in_huge_pages(count: int) -> Array:
    """So many ones, which the kernel may keep in huge pages as it may the engine's weights."""
    memory = mmap.mmap(-1, max(4 * count, mmap.PAGESIZE))
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    data = np.frombuffer(memory, np.float32, count)
    data[:] = 1
    return data
