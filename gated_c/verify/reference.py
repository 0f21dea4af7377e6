"""What a framework has to tell about a file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy.typing as npt

from gated_c.arrays import Array
from gated_c.errors import UnsupportedError
from gated_c.layers import Layer


@dataclass(frozen=True)
class Stage:
    """A place in a network where the framework tells what comes out.

    ``chain`` are the engine's layers up to there, ``added`` those since the stage before; ``given`` and ``result`` the
    framework's values in front of ``added`` and behind, in the engine's shapes.
    """

    name: str
    chain: Sequence[Layer]
    added: Sequence[Layer]
    given: npt.NDArray[Any]
    result: Array


class Reference(Protocol):
    """A file as its framework reads it."""

    version: str  #: name and version of the framework
    lead: Sequence[int | None]  #: the first two axes of x, ``None`` where any size will do

    def stages(self, layers: Sequence[Layer], x: npt.NDArray[Any], lengths: Any) -> Iterator[Stage]:
        """Run the network, and tell what comes out behind the engine's ``layers``, as far as it has that in one
        place."""


@contextmanager
def blaming(framework: str) -> Iterator[None]:
    """Whatever a framework raises about a file, as an ``UnsupportedError`` that says who says so."""
    try:
        yield
    except (UnsupportedError, ImportError, MemoryError, OSError):
        raise
    except Exception as error:
        raise UnsupportedError(f"{framework} does not run it: {error}") from error
