"""What kind of file this is: by what it contains, and by its name only where that says nothing."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from gated_c.errors import FormatError, UnsupportedError

_ZIP = b"PK\x03\x04"
_HDF5 = b"\x89HDF\r\n\x1a\n"
_GIT_LFS = b"version https://git-lfs"

#: The magic number that torch.save wrote first before 1.6, as pickle protocols 2 to 5, and 0 and 1, spell it.
_TORCH_STREAM = (b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", b"L119547037146038801333356L\n.")

_OF_TORCH = frozenset({".pt", ".pth", ".bin", ".ckpt"})
_UNSUPPORTED = frozenset({".npz", ".tflite"})
_OF_HDF5 = frozenset({".h5", ".hdf5"})
_OF_JSON = frozenset({".json", ".nam"})

_JSON = re.compile(rb"\s*\{\s*\"")  # safetensors can begin with a brace too, but has zeros behind it

_SUPPORTED = ".pt, .pth, .safetensors, .keras, .h5, .onnx, .gated, .nam and RTNeural's .json"


def file_kind(path: str | os.PathLike[str]) -> str:
    """``"zip"``, ``"stream"`` (both of torch.save), ``"safetensors"``, ``"keras"``, ``"hdf5"`` (both of Keras),
    ``"onnx"``, ``"gated"`` or ``"json"``.

    Raises ``UnsupportedError`` for other formats, ``FormatError`` for a file that is not what its name says.
    """
    mode = os.stat(path).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # opening a pipe can wait forever; a folder is an OSError below
        raise FormatError("expected a regular file")
    if stat.S_ISDIR(mode) and os.path.exists(os.path.join(os.fsdecode(path), "saved_model.pb")):
        raise UnsupportedError("a SavedModel folder of TensorFlow; save with model.save('network.keras') instead")
    with open(path, "rb") as file:
        head = file.read(64)
    suffix = Path(os.fsdecode(path)).suffix.lower()
    if head.startswith(_GIT_LFS):
        raise FormatError("a pointer left by Git LFS, not the file itself; fetch that with `git lfs pull`")
    if head.startswith(_HDF5):
        return "hdf5"
    if suffix in _UNSUPPORTED:
        raise UnsupportedError(f"{suffix} files are not supported; {_SUPPORTED} are")
    if head.startswith(_ZIP):
        return _kind_of_zip(path, suffix)
    if suffix == ".keras":
        raise FormatError("not a zip archive, or cut short")
    if suffix in _OF_HDF5:
        raise FormatError("not an HDF5 file, or cut short")
    if _JSON.match(head):
        return "json"
    if suffix in _OF_JSON:
        raise FormatError("not a JSON object, or cut short")
    if suffix == ".onnx":
        return "onnx"
    if any(magic in head for magic in _TORCH_STREAM):
        return "stream"
    if suffix == ".gated":
        return "gated"
    if head[8:9] == b"{" or suffix == ".safetensors":
        return _kind_of_safetensors(path)
    if suffix in _OF_TORCH:
        raise FormatError("neither of the two formats of torch.save, or cut short")
    raise UnsupportedError(f"an unknown kind of file; {_SUPPORTED} are supported")


def _kind_of_zip(path: str | os.PathLike[str], suffix: str) -> str:
    from gated_c.loaders.keras import archive

    return "keras" if suffix == ".keras" or archive.is_archive(path) else "zip"


def _kind_of_safetensors(path: str | os.PathLike[str]) -> str:
    from gated_c.loaders import native, safetensors_file

    _, metadata = safetensors_file.open_safetensors(path)
    return "gated" if native.is_native(metadata) else "safetensors"
