"""Names that come from files."""

from __future__ import annotations

#: Longer names are passed over: a hostile file can share one among many modules, no honest one comes near this.
MAX_NAME = 1000


def shown(text: str, length: int = 80) -> str:
    """A text from a file as a message may show it: without control characters and lone surrogates, clipped."""
    clipped = text if len(text) <= length else text[:length] + "..."
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in clipped)
