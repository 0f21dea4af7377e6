"""What the loader tests share: comparing with torch, rewriting archives, and pickles made by hand."""

import struct
import zipfile

import numpy as np

from gated_c.loaders import load_layers


def weights_of(module):
    """A recurrent torch module's weights as float32, Cells with the names of a one-layer stack."""
    state = {name: tensor.detach().float().numpy() for name, tensor in module.state_dict().items()}
    return {name if "_l" in name else f"{name}_l0": weight for name, weight in state.items()}


def assert_weights_of(layer, module):
    """Bit for bit, names, shapes and dtype included."""
    expected = weights_of(module)
    assert layer.weights.keys() == expected.keys()
    for name, weight in layer.weights.items():
        assert weight.dtype == np.float32
        assert weight.shape == expected[name].shape
        assert weight.tobytes() == expected[name].tobytes(), name


def load_one(path, **options):
    (layer,) = load_layers(path, **options)
    return layer


def rewrite_zip(source, target, change=lambda name, content: content, compression=zipfile.ZIP_STORED):
    """A copy of an archive; ``change`` gets each member's name inside the folder, and drops it by returning None."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", compression) as new:
        for name in old.namelist():
            content = change(name.partition("/")[2], old.read(name))
            if content is not None:
                new.writestr(name, content)
    return target


def archive(path, pickled, **members):
    """The smallest archive that torch.save could have written around a pickle; ``members`` are storages."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", pickled)
        for key, content in members.items():
            file.writestr(f"archive/data/{key}", content)
    return path


def text(value):
    """The instruction that pushes a string."""
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def integer(value):
    """The instruction that pushes an int64."""
    return b"\x8a\x08" + struct.pack("<q", value)


def integers(values):
    """The instructions that push a tuple of int64."""
    return b"(" + b"".join(map(integer, values)) + b"t"


def tensor(shape, strides, offset=0, numel=4, key="a"):
    """The instructions that rebuild a float32 tensor."""
    size = b"\x8a\x08" + struct.pack("<q", numel)
    persistent_id = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text(key) + text("cpu") + size + b"tQ"
    numbers = [
        b"(" + b"".join(b"\x8a\x08" + struct.pack("<q", n) for n in values) + b"t" for values in (shape, strides)
    ]
    start = b"\x8a\x08" + struct.pack("<q", offset)
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + persistent_id + start + b"".join(numbers) + b"\x89}tR"


def state_dict(**tensors):
    """A pickle of a dictionary of tensors."""
    return b"\x80\x02}(" + b"".join(text(name) + tensor for name, tensor in tensors.items()) + b"u."
