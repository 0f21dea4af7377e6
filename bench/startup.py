"""What do installing and importing the package cost?"""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib.metadata import files
from io import BytesIO
from pathlib import Path

import gated_c
from bench import peers
from bench.goals import ENGINE, Result
from bench.measure import Effort, Timing

#: What a peer's users import, and the distribution that they install.
IMPORTS = {
    "torch": "torch",
    "onnxruntime": "onnxruntime",
    "openvino": "openvino",
    "litert": "ai_edge_litert.interpreter",
}
DISTRIBUTIONS = {"torch": "torch", "onnxruntime": "onnxruntime", "openvino": "openvino", "litert": "ai-edge-litert"}

#: What a wheel holds of the package's folder.
SHIPPED = {".py", ".pyi", ".pxd", ".h", ".so", ".typed"}


def results(quick: bool, effort: Effort) -> Iterator[Result]:
    limit = {"limit": 1.0}
    times = import_times(rounds=3 if quick else 15)
    yield Result("import, beyond NumPy", "", "ms", times | {"limit": exactly(60)}, limit)

    wheel = {ENGINE: exactly(zipped_size(shipped_files()) / 1e6), "limit": exactly(2)}
    yield Result("wheel, as the zip of what it holds", "", "MB", wheel, limit)

    sizes = {ENGINE: sum(path.stat().st_size for path in shipped_files())}
    sizes |= {name: installed_size(DISTRIBUTIONS[name]) for name in peers.installed()}
    yield Result("installed", "", "MB", {name: exactly(size / 1e6) for name, size in sizes.items()}, {})


def exactly(value: float) -> Timing:
    return Timing(value, value, value)


def import_times(rounds: int) -> dict[str, Timing]:
    """Milliseconds in a fresh interpreter that has NumPy already, after a first round that warms the disk cache."""
    modules = {ENGINE: "gated_c"} | {name: IMPORTS[name] for name in peers.installed()}
    samples: dict[str, list[float]] = {name: [] for name in modules}
    for _ in range(rounds + 1):
        for name, module in modules.items():
            samples[name].append(import_ms(module))
    return {name: Timing.of(values[1:]) for name, values in samples.items()}


def import_ms(module: str) -> float:
    script = f"import numpy, time; start = time.perf_counter(); import {module}; print(time.perf_counter() - start)"
    output = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    return float(output) * 1e3


def shipped_files() -> list[Path]:
    folder = Path(gated_c.__file__).parent
    return [path for path in sorted(folder.rglob("*")) if path.suffix in SHIPPED]


def zipped_size(paths: list[Path]) -> int:
    archive = BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as wheel:
        for path in paths:
            wheel.write(path, path.relative_to(Path(gated_c.__file__).parent))
    return len(archive.getvalue())


def installed_size(distribution: str) -> int:
    return sum(path.size or 0 for path in files(distribution) or [])
