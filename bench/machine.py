"""Where the figures come from: every report starts with it."""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path

import numpy as np

import gated_c
from bench import peers

#: What of the CPU's flags decides which kernels an engine has.
FLAGS = ("avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "avx512_fp16", "amx_int8", "amx_bf16",
         "asimd", "asimddp", "i8mm", "bf16", "sve", "sve2")  # fmt: skip


def describe() -> dict[str, str]:
    """CPU, instruction set, versions and load, as name and text."""
    info = gated_c.cpu_info()
    versions = {name: module.VERSION for name, module in peers.installed().items()}
    return {
        "cpu": cpu_model(),
        "cpus allowed": str(len(os.sched_getaffinity(0))),
        "flags": " ".join(flag for flag in FLAGS if flag in cpu_flags()),
        "isa": f"{info.chosen} (built: {', '.join(isa.name for isa in info.isas)})",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}, Python {platform.python_version()}",
        "gated_c": gated_c.__version__,
        "numpy": np.__version__,
        **{name: versions.get(name, "not installed") for name in peers.NAMES},
        "load average": " ".join(f"{load:.2f}" for load in os.getloadavg()),
    }


def cpu_model() -> str:
    """Its name, and the family and model that tell apart what clouds call the same."""
    said = cpu_lines()
    name = said.get("model name", platform.machine())
    return f"{name}, family {said['cpu family']}, model {said['model']}" if "cpu family" in said else name


def cpu_flags() -> frozenset[str]:
    said = cpu_lines()
    return frozenset((said.get("flags") or said.get("Features") or "").split())


@cache
def cpu_lines() -> dict[str, str]:
    """What the system says of its first CPU."""
    lines = (line.split(":", 1) for line in Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines())
    return {name.strip(): text.strip() for name, text in lines}


def is_busy() -> bool:
    return os.getloadavg()[0] > 0.5
