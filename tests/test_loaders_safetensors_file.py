import json
import struct

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from loader_files import assert_weights_of, load_one
from safetensors.torch import save_file
from torch import nn

from gated_c import FormatError, UnsupportedError
from gated_c.loaders import load_layers, read_layers


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_floating_dtypes_become_float32(tmp_path, dtype):
    model = nn.ModuleDict({"a": nn.LSTM(3, 4, num_layers=2, proj_size=2), "b": nn.GRUCell(2, 3)}).to(dtype)
    save_file(model.state_dict(), tmp_path / "m.safetensors", metadata={"format": "pt"})
    for prefix in ("a", "b"):
        assert_weights_of(load_one(tmp_path / "m.safetensors", prefix=prefix), model[prefix])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 2**16 - 1), min_size=1))
def test_every_bfloat16_is_widened_as_torch_does(tmp_path_factory, bits):
    path = tmp_path_factory.mktemp("bf16") / "m.safetensors"
    values = torch.tensor(bits, dtype=torch.uint16).view(torch.bfloat16).reshape(1, -1)
    save_file({"weight_ih_l0": values, "weight_hh_l0": torch.ones(1, 1)}, path)
    got = load_one(path).weights["weight_ih_l0"]
    np.testing.assert_array_equal(got.view(np.uint32) >> 16, np.array([bits]))
    assert not (got.view(np.uint32) & 0xFFFF).any()


def test_the_weights_outlive_the_file(tmp_path):
    """They are copied: torch and others write into checkpoints that may be open elsewhere."""
    gru = nn.GRU(2, 3)
    save_file(gru.state_dict(), tmp_path / "m.safetensors")
    layer = load_one(tmp_path / "m.safetensors")
    (tmp_path / "m.safetensors").write_bytes(b"")
    assert_weights_of(layer, gru)


def test_other_dtypes_matter_only_in_a_recurrent_weight(tmp_path):
    gru = nn.GRU(2, 3).state_dict()
    save_file({**gru, "steps": torch.arange(3)}, tmp_path / "m.safetensors")
    load_one(tmp_path / "m.safetensors")
    save_file({**gru, "weight_hh_l0": gru["weight_hh_l0"].long()}, tmp_path / "m.safetensors")
    with pytest.raises(UnsupportedError, match="weight_hh_l0: dtype I64; recurrent weights are F16, BF16, F32 or F64"):
        load_layers(tmp_path / "m.safetensors")


def entry(start, stop, shape=(1,), dtype="F32", **more):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, stop], **more}


def write(path, header, data=bytes(8)):
    content = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(content)) + content + data)
    return path


BAD_HEADERS = {
    "hole": {"a": entry(4, 8)},
    "overlap": {"a": entry(0, 8, [2]), "b": entry(4, 8)},
    "beyond the end": {"a": entry(0, 16, [4])},
    "backwards": {"a": entry(8, 0, [2])},
    "negative": {"a": entry(-4, 4, [2])},
    "shape of another size": {"a": entry(0, 8, [3])},
    "shape that overflows": {"a": entry(0, 8, [2**63, 2**63])},
    "unknown dtype": {"a": entry(0, 8, [2], "Q32")},
    "no dtype": {"a": {"shape": [2], "data_offsets": [0, 8]}},
    "metadata that is no map of strings": {"a": entry(0, 8, [2]), "__metadata__": {"x": 1}},
    "a list": [1, 2],
    "deep nesting": b'{"a":' + b"[" * 100_000,
    "not JSON": b"{a: 1}",
    "not utf-8": b'{"\xff": 1}',
}


@pytest.mark.parametrize("header", BAD_HEADERS.values(), ids=BAD_HEADERS.keys())
def test_broken_headers_are_a_format_error(tmp_path, header):
    with pytest.raises(FormatError, match=r"m\.safetensors: safetensors header: "):
        read_layers(write(tmp_path / "m.safetensors", header))


def test_unknown_fields_are_passed_over(tmp_path):
    header = {"weight_ih_l0": entry(0, 4, (1, 1), note=1), "weight_hh_l0": entry(4, 8, (1, 1))}
    assert load_one(write(tmp_path / "m.safetensors", header)).cell == "rnn_tanh"


def test_data_may_start_at_any_byte(tmp_path):
    header = json.dumps({"weight_ih_l0": entry(0, 4, (1, 1)), "weight_hh_l0": entry(4, 8, (1, 1))}).encode()
    for padding in range(4):
        path = write(tmp_path / "m.safetensors", header + b" " * padding, np.float32([1, 2]).tobytes())
        assert load_one(path).weights["weight_hh_l0"].tolist() == [[2]]


@pytest.mark.parametrize("length", [140, 1_000_000])
def test_a_long_row_of_wrappers_takes_no_time(tmp_path, length):
    """Names of more than a thousand characters are passed over, as in .pt files."""
    start = "module." * length
    header = {start + "weight_ih_l0": entry(0, 4, (1, 1)), start + "weight_hh_l0": entry(4, 8, (1, 1))}
    path = write(tmp_path / "m.safetensors", header)
    assert [layer.name for layer in read_layers(path)] == ([""] if length < 1000 else [])


def test_names_and_dtypes_are_escaped_and_clipped_in_messages(tmp_path):
    names = ["\x1b[31m" + "n" * 200 + f"{n}" for n in range(2)]
    header = {name + ".weight_ih_l0": entry(4 * n, 4 * n + 4, (1, 1)) for n, name in enumerate(names)}
    with pytest.raises(ValueError, match=r"\n  \\x1b\[31mn{75}\.\.\. \(1 weights\)"):
        load_layers(write(tmp_path / "m.safetensors", header))
    with pytest.raises(FormatError, match=r": \\x1b\[31mn{75}\.\.\.: weight_hh_l0: missing"):
        read_layers(tmp_path / "m.safetensors")
    with pytest.raises(FormatError) as caught:
        read_layers(write(tmp_path / "m.safetensors", {"a": entry(0, 8, [2], "\x1b" * 1_000_000)}))
    assert len(str(caught.value)) < 2000
    assert "\x1b" not in str(caught.value)
