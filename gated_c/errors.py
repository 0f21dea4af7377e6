"""The two exceptions of the package beyond ``ValueError`` and ``TypeError``."""

from __future__ import annotations


class FormatError(ValueError):
    """A file is broken, truncated, altered or not what its name says. The message names the file and the place."""


class UnsupportedError(NotImplementedError):
    """A file or module uses a real feature that this package does not run. The message names it and what to do."""
