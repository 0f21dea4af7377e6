"""What a saved run says about the machine it ran on."""

from __future__ import annotations

import platform

import gated_c
from bench.machine import cpu_model


def pytest_benchmark_generate_machine_info() -> dict[str, str]:
    """What a comparison warns of where it differs."""
    return {
        "cpu": cpu_model(),
        "isa": gated_c.cpu_info().chosen,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }
