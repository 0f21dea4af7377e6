"""Every format cut short at every byte, and with bytes changed at random: a result or a documented error."""

import contextlib
import random
import tracemalloc

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from gated_c import FormatError, UnsupportedError
from gated_c.loaders import load_layers, native, read_layers


def _save_without_checksums(model, path):
    """So that damage gets as far as the pickle and the tensors."""
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(model.state_dict(), path)
    finally:
        torch.serialization.set_crc32_options(True)


def _save_native(model, path):
    torch.save(model, path.with_suffix(".pt"))
    native.save(read_layers(path.with_suffix(".pt")), path)


pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # about modules that were left out

SAVERS = {
    "zip.pt": lambda model, path: torch.save(model.state_dict(), path),
    "unchecked.pt": _save_without_checksums,
    "protocol5.pt": lambda model, path: torch.save({"a": [model.state_dict(), {1}]}, path, pickle_protocol=5),
    "module.pt": lambda model, path: torch.save(model, path),
    "stream.pt": lambda model, path: torch.save(model.state_dict(), path, _use_new_zipfile_serialization=False),
    "plain.safetensors": lambda model, path: save_file(model.state_dict(), path),
    "native.gated": _save_native,
}


@pytest.fixture(params=SAVERS)
def path(request, tmp_path):
    model = nn.Sequential(nn.LSTM(1, 2, proj_size=1), nn.RNNCell(1, 1))
    SAVERS[request.param](model, tmp_path / request.param)
    assert len(read_layers(tmp_path / request.param)) == 2
    return tmp_path / request.param


@pytest.mark.parametrize("path", ["zip.pt", "stream.pt", "plain.safetensors", "native.gated"], indirect=True)
def test_a_file_cut_short_anywhere_is_a_format_error(path):
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(FormatError, match=path.name):
            load_layers(path)


def test_random_damage_ends_in_a_result_or_a_documented_error(path):
    rng = random.Random(path.name)
    whole = path.read_bytes()
    for _ in range(500):
        path.write_bytes(_damaged(whole, rng))
        with contextlib.suppress(FormatError, UnsupportedError):
            read_layers(path)


def test_random_damage_takes_little_memory(path):
    rng = random.Random(path.name + " again")
    whole = path.read_bytes()
    tracemalloc.start()
    for _ in range(60):
        path.write_bytes(_damaged(whole, rng))
        with contextlib.suppress(FormatError, UnsupportedError):
            read_layers(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000 + 16 * len(whole)


def _damaged(whole, rng):
    damaged = bytearray(whole)
    for _ in range(rng.choice((1, 1, 2, 8))):
        position, length = rng.randrange(len(whole)), rng.randrange(1, 9)
        kind = rng.randrange(4)
        if kind == 0:
            damaged[position] ^= 1 << rng.randrange(8)
        elif kind == 1:
            damaged[position] = rng.randrange(256)
        elif kind == 2:
            damaged[position : position + length] = rng.choice((b"\0", b"\x7f", b"\xff")) * length
        else:
            source = rng.randrange(len(whole))
            damaged[position : position + length] = whole[source : source + length]
    return bytes(damaged)
