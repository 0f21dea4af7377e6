"""From a file or a live module to a Model."""

from __future__ import annotations

import os
from typing import Any

from gated_c.model import Model
from gated_c.spec import LayerSpec


def load(
    path: str | os.PathLike[str],
    *,
    prefix: str | None = None,
    batch_first: bool | None = None,
    nonlinearity: str | None = None,
) -> Model:
    """The recurrent network in a file: ``.pt``, ``.pth``, ``.safetensors`` or ``.gated``.

    ``prefix`` picks one module where the file holds several (``"encoder.lstm"``). A state_dict says neither
    ``batch_first`` nor a plain RNN's ``nonlinearity`` (``"tanh"`` or ``"relu"``); ``None`` takes what the file says,
    else PyTorch's defaults, ``False`` and ``"tanh"``.

    Raises ``FileNotFoundError``; :class:`FormatError` for a broken file; :class:`UnsupportedError` for a feature that
    is not run, such as quantised weights; ``ValueError`` if ``prefix`` is missing, unknown or needed.
    """
    from gated_c.loaders import load_layers

    return Model(load_layers(path, prefix=prefix, batch_first=batch_first, nonlinearity=nonlinearity))


def inspect(path: str | os.PathLike[str]) -> list[LayerSpec]:
    """Every recurrent module in a file, with its sizes; ``name`` is what ``load`` takes as ``prefix``.

    A ``UserWarning`` tells of each one that cannot be used, and why. Raises as :func:`load` does.
    """
    from gated_c.loaders import read_layers

    return read_layers(path)


def from_torch(module: Any) -> Model:
    """A live ``torch.nn.LSTM``, ``GRU``, ``RNN`` or one of the three Cells. Weights of any float type and device become
    float32; dropout is left out, as in ``eval()``. Raises :class:`UnsupportedError` for another module."""
    from gated_c.loaders.torch_module import from_module

    return Model(from_module(module))
