"""Files of JSON: which of the two formats one is, and its network."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from gated_c.errors import FormatError, UnsupportedError
from gated_c.layers import Layer
from gated_c.loaders.audio import nam, rtneural
from gated_c.spec import LayerSpec

#: A plug-in's network takes microseconds a sample: a hundred times as much text is none.
_MOST_BYTES = 64 << 20


def read_network(path: str | os.PathLike[str]) -> list[Layer]:
    """The layers of a file. Raises ``FormatError``, ``UnsupportedError``, ``OSError``."""
    content = _read(path)
    if "architecture" in content and "config" in content:
        return nam.read(content)
    if "in_shape" in content or "layers" in content:
        return rtneural.read(content)
    raise UnsupportedError(
        "JSON, but neither of RTNeural (in_shape, layers) nor of the Neural Amp Modeler (architecture, weights)"
    )


def read_recurrent(path: str | os.PathLike[str]) -> list[LayerSpec]:
    """Its recurrent layers."""
    return [layer for layer in read_network(path) if isinstance(layer, LayerSpec)]


def _read(path: str | os.PathLike[str]) -> dict[str, Any]:
    size = os.path.getsize(path)
    if size > _MOST_BYTES:
        raise FormatError(f"expected at most {_MOST_BYTES >> 20} MiB of JSON, got {size >> 20}")
    try:
        content = json.loads(Path(path).read_bytes(), parse_constant=_refuse_constant)
    except ValueError as error:  # of syntax, encoding or an integer of thousands of digits
        raise FormatError(f"JSON: {error}") from None
    if not isinstance(content, dict):
        raise FormatError(f"expected a JSON object, got a {type(content).__name__}")
    return content


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number there")
