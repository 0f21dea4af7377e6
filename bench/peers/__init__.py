"""The other engines, each at its best on one thread in float32. One module per peer, with two names:

``VERSION``: the installed version.
``runners(case)``: the ways this peer can run the case, by the name of their column; empty where it cannot.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from bench.case import Case
from bench.measure import Runner

NAMES = ("torch", "onnxruntime", "openvino", "litert")


def installed() -> dict[str, ModuleType]:
    """The modules of the peers that can be imported here."""
    modules = {}
    for name in NAMES:
        try:
            modules[name] = import_module(f"{__name__}.{name}")
        except ImportError:
            continue
    return modules


def runners(case: Case) -> dict[str, Runner]:
    """Everything that can run the case beside the engine, by column name."""
    found: dict[str, Runner] = {}
    for peer in installed().values():
        found |= peer.runners(case)
    return found
