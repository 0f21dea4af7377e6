"""Keras: a network after each of its layers, or one recurrent layer of it by itself."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gated_c.arrays import Array
from gated_c.errors import UnsupportedError
from gated_c.layers import Layer, Split, Unmask
from gated_c.spec import LayerSpec
from gated_c.verify.reference import Stage, blaming


class KerasReference:
    """A ``.keras`` or ``.h5`` file, read in safe mode, or one of weights with the JSON of its network in ``config``.

    ``alone`` says that the engine has loaded a recurrent layer by its name, not the network. Raises ``ImportError``
    without Keras, ``UnsupportedError`` for what it does not read.
    """

    def __init__(self, path: str | os.PathLike[str], config: str | os.PathLike[str] | None, alone: bool) -> None:
        try:
            import keras
        except ImportError as error:
            raise ImportError(
                "this file is verified with Keras and a backend of it: "
                "pip install keras torch && export KERAS_BACKEND=torch"
            ) from error
        self.version = f"Keras {keras.__version__} on {keras.backend.backend()}"
        with blaming(self.version):
            self._network = _read(path, config)
        self._alone = alone
        self.lead: Sequence[int | None] = (None, None) if alone else self._network.inputs[0].shape[:2]

    def stages(self, layers: Sequence[Layer], x: npt.NDArray[Any], lengths: Any) -> Iterator[Stage]:
        live = None if lengths is None else np.arange(x.shape[1]) < np.asarray(lengths)[:, None]
        if self._alone:
            (layer,) = layers
            assert isinstance(layer, LayerSpec)
            yield Stage(layer.name, layers, layers, x, self._run_alone(layer, x, live))
            return
        places = [(_count_up_to(layers, layer.name), layer) for layer in self._network.layers]
        places = [(count, layer) for count, layer in places if count]
        results = self._run([layer for _, layer in places], x, live)
        start, given = 0, x
        for (stop, layer), result in zip(places, results, strict=True):
            yield Stage(layer.name, _unmasked(layers[:stop], result), layers[start:stop], given, result)
            start, given = stop, result

    def _run(self, layers: Sequence[Any], x: npt.NDArray[Any], live: Any) -> list[Array]:
        """What each layer gives of x. A network that makes its own mask takes no other: x then has what it masks."""
        import keras

        outputs = {str(n): _without_states(layer) for n, layer in enumerate(layers)}
        network = keras.Model(self._network.inputs[0], outputs)
        network.supports_masking = True  # or it warns that nothing follows to which it could hand the mask
        own_mask = next(filter(lambda value: value is not None, map(_masked_value, self._network.layers)), None)
        if live is not None and own_mask is not None:
            x = np.where(live.reshape(*live.shape, *[1] * (x.ndim - 2)), x, x.dtype.type(own_mask))
            live = None
        with blaming(self.version):
            results = network(x, mask=_tensor(live))
        return [_array(results[name]) for name in outputs]

    def _run_alone(self, spec: LayerSpec, x: Array, live: Any) -> Array:
        """A layer as the engine has it by itself: sequences in order of time, 0 at steps that do not count."""
        layer = self._network
        for name in spec.name.split("."):
            if not hasattr(layer, "get_layer"):
                raise UnsupportedError(f"{spec.name}: a cell of a stack is only verified with the whole network")
            layer = layer.get_layer(name)
        config = _of_sequences(layer.get_config())
        with blaming(self.version):
            alone = type(layer).from_config(config)
            alone.build(x.shape)
            alone.set_weights(layer.get_weights())
            y = _array(alone(x, mask=_tensor(live)))
        y = y[:, ::-1] if config.get("go_backwards") else y
        return y if live is None else np.where(live[..., None], y, np.float32(0))


def _read(path: str | os.PathLike[str], config: str | os.PathLike[str] | None) -> Any:
    import keras

    if config is None:
        return keras.models.load_model(path, compile=False, safe_mode=True)
    network = keras.models.model_from_json(Path(config).read_text())
    network.load_weights(path)
    return network


def _count_up_to(layers: Sequence[Layer], name: str) -> int:
    """How many of the engine's layers there are up to the last of a Keras layer; 0 if none is of it."""
    return max((n for n, layer in enumerate(layers, 1) if f"{layer.name}.".startswith(f"{name}.")), default=0)


def _masked_value(layer: Any) -> float | None:
    """Which steps a layer masks: those of this value or id."""
    if hasattr(layer, "mask_value"):
        return float(layer.mask_value)
    return 0 if getattr(layer, "mask_zero", False) else None


def _unmasked(layers: Sequence[Layer], result: Array) -> list[Layer]:
    """Keras has values at masked steps as well."""
    if result.ndim < 3 or isinstance(layers[-1], Unmask | Split):
        return list(layers)
    return [*layers, Unmask(layers[-1].output_size)]


def _of_sequences(config: dict[str, Any]) -> dict[str, Any]:
    """A layer's options, changed to give whole sequences in both directions and nothing else."""
    changes = {"return_sequences": True, "return_state": False}
    if "layer" not in config:
        return config | changes
    for direction in ("layer", "backward_layer"):
        config[direction]["config"] |= changes
    return config | {"merge_mode": "concat"}


def _without_states(layer: Any) -> Any:
    """The output, both directions' of a Bidirectional that does not merge them."""
    from keras.layers import Bidirectional

    if not isinstance(layer.output, list | tuple):
        return layer.output
    if isinstance(layer, Bidirectional) and layer.merge_mode is None:
        return list(layer.output[:2])
    return layer.output[0]


def _tensor(array: Any) -> Any:
    from keras import ops

    return None if array is None else ops.convert_to_tensor(array)


def _array(result: Any) -> Array:
    """Several beside each other."""
    from keras import ops

    parts = result if isinstance(result, list | tuple) else [result]
    return np.concatenate([np.asarray(ops.convert_to_numpy(part), np.float32) for part in parts], -1)
