"""From a file or a live module to a Model."""

from __future__ import annotations

import errno
import os
from typing import Any

from gated_c.errors import FormatError, UnsupportedError
from gated_c.model import Model
from gated_c.spec import LayerSpec


def load(
    path: str | os.PathLike[str],
    *,
    prefix: str | None = None,
    batch_first: bool | None = None,
    nonlinearity: str | None = None,
    config: Any = None,
    backend: str | None = None,
    clip: str | None = None,
    flush_subnormals: bool | None = None,
    check: bool = False,
    pickle: str = "bytes",
) -> Model:
    """The network in a file: ``.pt``, ``.pth``, ``.safetensors``, ``.keras``, ``.h5``, ``.onnx``, ``.gated``,
    ``.nam`` of the Neural Amp Modeler or ``.json`` of RTNeural.

    Of most that is the whole network, a single path of layers; of a PyTorch file, which does not say
    how its modules connect, the one recurrent module. ``prefix`` picks one recurrent module alone (``"encoder.lstm"``).

    A state_dict says neither ``batch_first`` nor a plain RNN's ``nonlinearity`` (``"tanh"`` or ``"relu"``); ``None``
    takes what the file says, else PyTorch's defaults, ``False`` and ``"tanh"``. Keras's networks are ``batch_first``.

    ``config`` is that of the model for a Keras file of weights alone: a dictionary, JSON (``model.to_json()``), the
    path of a file of JSON, or a live model. ``backend`` is Keras's, where sequences begin with masked steps: there
    ``"tensorflow"`` and ``"torch"`` give 0 and ``"jax"`` and ``"numpy"`` the initial h; ``None`` takes what the file
    names, else TensorFlow. ``clip`` says what ONNX's attribute clips: ``"spec"`` (default) all inputs of activations,
    ``"ort"`` what ONNX Runtime clips.

    ``flush_subnormals`` is that of :class:`Model`; ``None`` takes what a ``.gated`` file says, else ``False``.

    ``check`` computes the vectors again that :meth:`Model.save` kept in a ``.gated`` file as ``golden``; a difference
    is a :class:`FormatError`, a file without them an :class:`UnsupportedError`.

    ``pickle`` says how the model is pickled, and so sent to another process: as ``"bytes"``, with its weights, or, of a
    ``.gated`` file, as its absolute ``"path"`` and checksum, so that all processes share what they map. Unpickling it
    raises ``FileNotFoundError`` if the file is gone, :class:`FormatError` if it is another one.

    Raises ``FileNotFoundError``; :class:`FormatError` for a broken file; :class:`UnsupportedError` for a feature that
    is not run, such as quantised weights or a branch; ``ValueError`` if ``prefix`` is missing, unknown or needed, and
    for an argument that the kind of file does not take.
    """
    from gated_c.loaders import load_file

    if pickle not in ("bytes", "path"):
        raise ValueError(f"pickle: expected 'bytes' or 'path', got {pickle!r}")
    file = load_file(
        path,
        prefix=prefix,
        batch_first=batch_first,
        nonlinearity=nonlinearity,
        config=config,
        backend=backend,
        clip=clip,
    )
    if pickle == "path" and not file.checksum:
        raise ValueError(f"{os.fspath(path)}: pickle: expected 'bytes' for this kind of file, got 'path'")
    options = file.options
    if flush_subnormals is not None:
        options = options._replace(flush_subnormals=bool(flush_subnormals))
    try:
        model = Model(file.layers, **options._asdict(), _packed=file.packed)
    except FormatError as error:
        raise FormatError(f"{os.fspath(path)}: {error}") from None
    if check:
        _refuse_check(path, prefix)
        # The vectors are in the file's own layout.
        layers = file.layers if batch_first is None else load_file(path, nonlinearity=nonlinearity).layers
        _check(path, model if batch_first is None else Model(layers, **options._asdict()))
    if pickle == "path":
        arguments = {
            "prefix": prefix,
            "batch_first": batch_first,
            "nonlinearity": nonlinearity,
            "flush_subnormals": options.flush_subnormals,
        }
        model._pickled = (_load_pickled, (os.path.abspath(os.fsdecode(path)), file.checksum, arguments))
    return model


def _load_pickled(path: str, checksum: str, arguments: dict[str, Any]) -> Model:
    try:
        model = load(path, **arguments, pickle="path")
    except FileNotFoundError:
        raise FileNotFoundError(errno.ENOENT, "a model was pickled as this path, and the file is gone", path) from None
    _, (_, found, _) = model.__reduce__()
    if found != checksum:
        raise FormatError(f"{path}: expected the file that a model was pickled from, {checksum}, got another, {found}")
    return model


def _refuse_check(path: str | os.PathLike[str], prefix: str | None) -> None:
    from gated_c import golden

    if prefix is not None:
        raise ValueError("check: expected False with a prefix: golden vectors are those of the whole model")
    if not golden.is_native(path):
        raise ValueError("check: only .gated files keep golden vectors")


def _check(path: str | os.PathLike[str], model: Model) -> None:
    from gated_c import golden

    try:
        golden.replay_file(path, model)
    except FormatError as error:
        raise FormatError(f"{os.fspath(path)}: {error}") from None
    except UnsupportedError as error:
        raise UnsupportedError(f"{os.fspath(path)}: {error}") from None


def inspect(path: str | os.PathLike[str], *, config: Any = None) -> list[LayerSpec]:
    """Every recurrent module in a file, with its sizes and the dtype of its weights; ``name`` is what ``load`` takes as
    ``prefix``. ``config`` as in :func:`load`, for a Keras file of weights alone.

    A ``UserWarning`` tells of each one that cannot be used, and why. Raises as :func:`load` does.
    """
    from gated_c.loaders import read_layers

    return read_layers(path, config)


def from_torch(module: Any) -> Model:
    """A live recurrent module of ``torch.nn``, or any module whose ``forward`` is one path through supported layers, as
    in ``eval()``. Weights of any float type and device become float32; arguments of ``forward`` with a default keep it.

    Raises :class:`UnsupportedError` that names what cannot be followed, where, and the recurrent modules inside.
    """
    from gated_c.loaders.torch.module import from_module

    return Model(from_module(module))


def from_keras(layer_or_model: Any, backend: str | None = None) -> Model:
    """A live Keras layer or model, of Keras 3 on any backend or of ``tf_keras``; it must be built. ``backend`` as in
    :func:`load`, by default the one that Keras runs on. Raises :class:`UnsupportedError` for what is not run."""
    from gated_c.loaders.keras.live import from_keras as layers_of

    return Model(layers_of(layer_or_model, backend))
