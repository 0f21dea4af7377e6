"""Forward passes of LSTM, GRU and RNN networks on a CPU, from the file their framework wrote."""

from importlib.metadata import version

from gated_c.cpu import CpuInfo, Isa, cpu_info
from gated_c.errors import FormatError, UnsupportedError
from gated_c.loading import from_torch, inspect, load
from gated_c.model import Model
from gated_c.spec import Activation, LayerSpec
from gated_c.stream import Stream

__version__ = version("gated_c")

__all__ = [
    "Activation",
    "CpuInfo",
    "FormatError",
    "Isa",
    "LayerSpec",
    "Model",
    "Stream",
    "UnsupportedError",
    "cpu_info",
    "from_torch",
    "inspect",
    "load",
]
