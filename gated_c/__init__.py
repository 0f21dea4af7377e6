"""Forward passes of LSTM, GRU and RNN networks on a CPU, from the file their framework wrote."""

try:
    from gated_c import _core  # noqa: F401
except ImportError as error:
    raise ImportError(
        "gated_c is not built here: in its checkout run `pip install -e .`, or start Python in another folder"
    ) from error

from gated_c.building import get_include, get_library
from gated_c.compare import compare
from gated_c.comparison import Comparison
from gated_c.cpu import CpuInfo, Isa, cpu_info
from gated_c.errors import FormatError, UnsupportedError
from gated_c.loading import from_keras, from_torch, inspect, load
from gated_c.model import Model
from gated_c.pool import Pool
from gated_c.snapshot import Snapshot
from gated_c.spec import Activation, LayerSpec
from gated_c.stream import Stream

__version__ = "0.1.0.dev0"

__all__ = [
    "Activation",
    "Comparison",
    "CpuInfo",
    "FormatError",
    "Isa",
    "LayerSpec",
    "Model",
    "Pool",
    "Snapshot",
    "Stream",
    "UnsupportedError",
    "compare",
    "cpu_info",
    "from_keras",
    "from_torch",
    "get_include",
    "get_library",
    "inspect",
    "load",
]
