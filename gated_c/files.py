"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: str | bytes | os.PathLike[str]) -> Iterator[Path]:
    """An empty file to fill beside ``path``, which takes its place and its mode at the end. Any exception removes it.

    A link stays a link: what it points to is replaced. A directory at ``path``, or none for it to be in, is an
    ``OSError`` from the start. Each names ``path``, not the temporary file.
    """
    named = os.fsdecode(path)
    target = Path(os.path.realpath(named))
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), named)
    if target.exists() and not target.is_file():
        raise OSError(errno.EINVAL, "expected a regular file", named)
    temporary = target.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        temporary.touch(exist_ok=False)
        yield temporary
        if target.exists():
            shutil.copymode(target, temporary)
        os.replace(temporary, target)
    except OSError as error:
        if error.errno is not None and error.filename in (None, os.fspath(temporary)):
            raise OSError(error.errno, error.strerror, named) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)
