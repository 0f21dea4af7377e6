"""The least time that this machine needs for a shape, from what its cores can do at most.

A time step has to read every weight that it uses and to multiply and add with each of them once per row: the longer of
the two counts. A sequence can do the input product of many steps at once, which leaves the reads of the recurrent
weights and all multiply-adds. A step of a cell is never shorter than its chain of dependences from h to the next h.
All weights are read forth and back, so that a part of them is still in a nearer cache, as far as it goes.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from statistics import median
from threading import Barrier
from time import perf_counter_ns
from typing import Any

import numpy as np
import numpy.typing as npt

import gated_c
from bench.case import Case
from bench.engine import Precision
from bench.machine import cpu_flags

#: Compiler flags, bytes of a vector, and chains enough to hide the latency of a multiply-add.
PROBES = {
    "avx512": (["-mavx512f", "-mfma"], 64, 24),
    "avx2": (["-mavx2", "-mfma"], 32, 12),
    "neon": ([], 16, 24),
    "sse2": ([], 16, 12),
    "portable": ([], 16, 12),
}

#: Compiler flags for what not every CPU with AVX-512 has, by the name that the system gives it.
DOT_FLAGS = {"avx512_vnni": "-mavx512vnni", "avx512_bf16": "-mavx512bf16"}

BYTES = {"float32": 4, "bfloat16": 2, "int8": 1}

#: Cells by the length of their chain, in chains of two activations.
CHAINS = {"lstm": 1.0, "gru": 1.0, "rnn_tanh": 0.5, "rnn_relu": 0.0}

#: A sample of a probe is at least this long.
SAMPLE_NS = 1_000_000
SAMPLES = 5


@dataclass(frozen=True)
class Peaks:
    """What so many threads can do together: 10⁹ multiply-adds a second by type, [bytes, GB/s] of reads of so many
    bytes, shared out among the threads, and nanoseconds of the shortest step."""

    threads: int
    gmacs: dict[str, float]
    bandwidth: list[tuple[int, float]]
    chain_ns: float

    def read_us(self, size: float) -> float:
        """To read so many bytes, again and again."""
        sizes, rates = zip(*self.bandwidth, strict=True)
        return size / 1e3 / float(np.interp(np.log2(max(size, 1)), np.log2(sizes), rates))

    def macs_us(self, macs: float, dtype: str) -> float:
        """To multiply and add so often; in float32 where the CPU has nothing narrower."""
        return macs / 1e3 / self.gmacs.get(dtype, self.gmacs["float32"])


def step_us(case: Case, precision: Precision, peaks: Peaks) -> float:
    """The bound of a time step, in microseconds."""
    rows = sum(case.lengths) / case.seq_len if case.lengths else case.batch
    recurrent = "bfloat16" if "arithmetic" in precision.options else "int8" if precision.dtype == "int8" else "float32"
    given = precision.options.get("inputs", recurrent)
    inputs_size = case.input_macs * BYTES[precision.options.get("inputs", precision.dtype)]
    recurrent_size = case.recurrent_macs * BYTES[precision.dtype]
    inputs_us = peaks.macs_us(rows * case.input_macs, given)
    recurrent_us = peaks.macs_us(rows * case.recurrent_macs, recurrent)
    chain_us = CHAINS[case.cell] * peaks.chain_ns / 1e3
    if case.seq_len == 1:
        return max(peaks.read_us(inputs_size + recurrent_size), inputs_us + recurrent_us, chain_us)
    stacks = case.num_layers * case.num_directions
    return inputs_us + max(stacks * peaks.read_us(recurrent_size / stacks), recurrent_us, chain_us)


@cache
def probe() -> ctypes.CDLL:
    """``probe.c`` compiled for the ISA that the engine uses here, and what this CPU has beyond it."""
    chosen = gated_c.cpu_info().chosen
    flags, vector_bytes, chains = PROBES[chosen]
    if chosen == "avx512":
        flags = flags + [flag for name, flag in DOT_FLAGS.items() if name in cpu_flags()]
    macros = [f"-DVECTOR_BYTES={vector_bytes}", f"-DCHAINS={chains}"]
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder, "probe.so")
        source = Path(__file__).with_name("probe.c")
        subprocess.run(["cc", "-O3", *flags, *macros, "-shared", "-fPIC", "-o", library, source], check=True)
        loaded = ctypes.CDLL(str(library))
    loaded.probe_read.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t]
    for name in ("probe_float32", "probe_bfloat16", "probe_int8", "probe_chain"):
        loaded[name].argtypes = [ctypes.c_size_t]
        loaded[name].restype = ctypes.c_size_t
    return loaded


def measure_peaks(threads: int, sizes: list[int] | None = None) -> Peaks:
    """Takes about a second. Raises ``OSError`` or ``CalledProcessError`` without a C compiler called cc."""
    sizes = sizes or [size for power in range(14, 28) for size in (2**power, 3 * 2 ** (power - 1))]
    gmacs = {}
    for dtype in BYTES:
        run = getattr(probe(), f"probe_{dtype}")
        macs = run(1) * PROBES[gated_c.cpu_info().chosen][2]
        if macs:
            gmacs[dtype] = macs * together(threads, [run] * threads)
    data = [in_huge_pages(max(sizes) // threads) for _ in range(threads)]
    bandwidth = []
    for size in sizes:
        reads = [partial(probe().probe_read, part.ctypes.data, size // threads) for part in data]
        bandwidth.append((size, size / threads * together(threads, reads)))
    return Peaks(threads, gmacs, bandwidth, 1 / together(1, [probe().probe_chain]))


def together(threads: int, runs: Sequence[Callable[[int], Any]]) -> float:
    """How many times a nanosecond so many threads, each on a CPU of its own, together call each one's function."""
    calls = 1
    while elapsed_ns(runs[0], calls) < SAMPLE_NS:
        calls *= 2
    barrier, cpus = Barrier(threads), sorted(os.sched_getaffinity(0))

    def rate(number: int) -> float:
        os.sched_setaffinity(0, {cpus[-1 - number]})  # of this thread alone
        run, times = runs[number], []
        for _ in range(SAMPLES):
            barrier.wait()
            times.append(elapsed_ns(run, calls))
        return calls / median(times)

    with ThreadPoolExecutor(threads) as pool:
        return sum(pool.map(rate, range(threads)))


def elapsed_ns(run: Callable[[int], Any], calls: int) -> int:
    start = perf_counter_ns()
    run(calls)
    return perf_counter_ns() - start


def in_huge_pages(size: int) -> npt.NDArray[np.uint8]:
    """So many bytes of ones, which the kernel may keep in huge pages as it may the engine's weights."""
    memory = mmap.mmap(-1, max(size, mmap.PAGESIZE))
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    data = np.frombuffer(memory, np.uint8, size)
    data[:] = 1
    return data
