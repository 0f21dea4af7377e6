"""Where the figures come from: every report starts with it."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import numpy as np

import gated_c
from bench import peers


def describe() -> dict[str, str]:
    """CPU, instruction set, versions and load, as name and text."""
    info = gated_c.cpu_info()
    versions = {name: module.VERSION for name, module in peers.installed().items()}
    return {
        "cpu": cpu_model(),
        "cpus allowed": str(len(os.sched_getaffinity(0))),
        "isa": f"{info.chosen} (built: {', '.join(isa.name for isa in info.isas)})",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}, Python {platform.python_version()}",
        "gated_c": gated_c.__version__,
        "numpy": np.__version__,
        **{name: versions.get(name, "not installed") for name in peers.NAMES},
        "load average": " ".join(f"{load:.2f}" for load in os.getloadavg()),
    }


def cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def is_busy() -> bool:
    return os.getloadavg()[0] > 0.5
