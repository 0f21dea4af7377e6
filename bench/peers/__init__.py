"""The other engines, each at its best settings. One module per peer, with these names:

``VERSION``: the installed version; in some ``MOST_THREADS``, the most that it is run with, and ``PINNED``, whether one
thread is.
``ways(case, dtype)``: how this peer can run the case in a precision, by variant: a function from a number of threads to
a runner, or the reason why it cannot.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cache, partial
from importlib import import_module
from types import ModuleType

from bench.case import Case
from bench.measure import Entrant, Runner

NAMES = ("torch", "onnxruntime", "openvino", "litert", "keras")

Ways = dict[str, Callable[[int], Runner] | str]


@cache
def installed() -> dict[str, ModuleType]:
    """The modules of the peers that can be imported here."""
    modules = {}
    for name in NAMES:
        with suppress(ImportError), silence():
            modules[name] = import_module(f"{__name__}.{name}")
    return modules


@contextmanager
def silence() -> Iterator[None]:
    """Nothing of what libraries say on stderr, from C++ as well."""
    before, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)
        os.close(nothing)


def entrants(case: Case, dtypes: Iterable[str], threads: Sequence[int]) -> Iterator[Entrant]:
    """Everything that can run the case beside the engine, and what cannot."""
    for name, peer in installed().items():
        for dtype in dtypes:
            for variant, way in peer.ways(case, dtype).items():
                most = getattr(peer, "MOST_THREADS", max(threads))
                for entrant in each_count(name, variant, dtype, way, [count for count in threads if count <= most]):
                    yield replace(entrant, pinned=getattr(peer, "PINNED", True))


def each_count(
    name: str, variant: str, dtype: str, way: Callable[[int], Runner] | str, threads: Iterable[int]
) -> Iterator[Entrant]:
    """An entrant for each number of threads; only one that says why there is none."""
    if isinstance(way, str):
        yield Entrant(name, way, variant=variant, dtype=dtype)
        return
    for count in threads:
        yield Entrant(name, partial(way, count), variant=variant, dtype=dtype, threads=count)
