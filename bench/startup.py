"""What installing and importing the package cost."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Iterator
from functools import partial
from importlib.metadata import files
from io import BytesIO
from pathlib import Path

import gated_c
from bench import peers
from bench.contest import Options, Task, Watch
from bench.table import ENGINE, Result, Time, Timing

#: What a peer's users import, and the distribution that they install.
IMPORTS = {
    "torch": ("torch", "torch"),
    "onnxruntime": ("onnxruntime", "onnxruntime"),
    "openvino": ("openvino", "openvino"),
    "litert": ("ai_edge_litert.interpreter", "ai-edge-litert"),
}

#: What a wheel holds of the package's folder.
SHIPPED = {".py", ".pyi", ".pxd", ".h", ".so", ".typed"}


def tasks(options: Options) -> Iterator[Task]:
    yield Task("startup", "import and size", partial(results, options))


def results(options: Options, watch: Watch) -> list[Result]:
    installed = [name for name in IMPORTS if name in peers.installed()]
    times = import_times(installed, rounds=3 if options.quick else 15)
    wheel = {ENGINE: Timing.exactly(zipped_size(shipped_files()) / 1e6)}
    sizes = {ENGINE: sum(path.stat().st_size for path in shipped_files())}
    sizes |= {name: installed_size(IMPORTS[name][1]) for name in installed}
    return [
        result("import, beyond NumPy", "ms", times),
        result("wheel, as the zip of what it holds", "MB", wheel),
        result("installed", "MB", {name: Timing.exactly(size / 1e6) for name, size in sizes.items()}),
    ]


def result(shape: str, unit: str, values: dict[str, Timing]) -> Result:
    roles = {ENGINE: "engine"}
    times = tuple(Time(name, value, roles.get(name, "peer")) for name, value in values.items())
    return Result("startup", shape, unit, times)


def import_times(names: list[str], rounds: int) -> dict[str, Timing]:
    """Milliseconds in a fresh interpreter that has NumPy already, after a first round that warms the disk cache."""
    modules = {ENGINE: "gated_c"} | {name: IMPORTS[name][0] for name in names}
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
