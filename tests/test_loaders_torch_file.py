import tracemalloc
import warnings
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch
from loader_files import archive, assert_weights_of, load_one, rewrite_zip, state_dict, tensor, text, weights_of
from torch import nn

from gated_c import FormatError, UnsupportedError
from gated_c.loaders import load_layers, read_layers
from gated_c.loaders.torch import file as torch_file

FORMATS = {"zip": {}, "stream": {"_use_new_zipfile_serialization": False}}

MODULES = {
    "lstm": lambda: nn.LSTM(3, 4),
    "lstm with projection": lambda: nn.LSTM(3, 4, num_layers=2, proj_size=2, bidirectional=True),
    "gru without bias": lambda: nn.GRU(3, 4, bias=False),
    "deep rnn": lambda: nn.RNN(1, 1, num_layers=12),
    "lstm cell": lambda: nn.LSTMCell(3, 4),
    "gru cell": lambda: nn.GRUCell(3, 4, bias=False),
    "rnn cell": lambda: nn.RNNCell(3, 4),
}


@pytest.fixture(params=FORMATS)
def save(request):
    """torch.save in both of its formats."""
    return lambda value, path, **options: torch.save(value, path, **FORMATS[request.param], **options)


@pytest.mark.parametrize("make", MODULES.values(), ids=MODULES.keys())
def test_a_bare_state_dict(tmp_path, save, make):
    module = make()
    save(module.state_dict(), tmp_path / "a.pt")
    assert_weights_of(load_one(tmp_path / "a.pt"), module)


@pytest.mark.parametrize("protocol", [1, 2, 3, 4, 5])
def test_every_pickle_protocol_that_torch_can_read(tmp_path, save, protocol):
    lstm = nn.LSTM(3, 4)
    save({"model": lstm.state_dict(), "epoch": 3}, tmp_path / "a.pt", pickle_protocol=protocol)
    assert_weights_of(load_one(tmp_path / "a.pt"), lstm)


def test_a_checkpoint_full_of_other_things(tmp_path, save):
    model = nn.Sequential(nn.Embedding(9, 3), nn.LSTM(3, 4))
    moments = {n: {"step": 5, "exp_avg": torch.zeros_like(weight)} for n, weight in enumerate(model.parameters())}
    checkpoint = {
        "model": model.state_dict(),
        "optimizer": {"state": moments, "param_groups": [{"lr": 1e-3, "params": list(range(5))}]},
        "vocabulary": {f"word{n}": n for n in range(50)},
        "config": [1, 2.5, None, True, ("a", b"bytes"), {4, 5}, {(1, 2): "tuple key"}, 1 << 80, np.float64(3), 1j],
        "sizes": torch.Size([1, 2]),
        "device": torch.device("cpu"),
        "counts": torch.arange(5),
    }
    save(checkpoint, tmp_path / "a.pt")
    assert_weights_of(load_one(tmp_path / "a.pt", prefix="1"), model[1])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_floating_dtypes_become_float32(tmp_path, save, dtype):
    gru = nn.GRU(3, 4).to(dtype)
    save(gru.state_dict(), tmp_path / "a.pt")
    assert_weights_of(load_one(tmp_path / "a.pt"), gru)


def test_values_outside_the_ordinary_arrive_as_they_are(tmp_path, save):
    values = torch.tensor([[float("nan"), float("inf"), -float("inf"), -0.0, 1e-45, 3e38]])
    for dtype in (torch.float32, torch.bfloat16):
        save({"weight_ih_l0": values.to(dtype), "weight_hh_l0": torch.ones(1, 1)}, tmp_path / "a.pt")
        got = load_one(tmp_path / "a.pt").weights["weight_ih_l0"]
        np.testing.assert_array_equal(got.view(np.uint32), values.to(dtype).float().numpy().view(np.uint32))
    save(
        {"weight_ih_l0": torch.full((1, 1), 1e300, dtype=torch.float64), "weight_hh_l0": torch.ones(1, 1)},
        tmp_path / "a.pt",
    )
    assert load_one(tmp_path / "a.pt").weights["weight_ih_l0"] == np.inf


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_that_share_one_storage_or_are_strided(tmp_path, save, dtype):
    """As cuDNN flattens them into one buffer, and as transposed or sliced views."""
    flat = torch.randn(200).to(dtype)
    weights = {
        "weight_ih_l0": flat[:24].view(2, 12).t(),
        "weight_hh_l0": flat[10:82:2].view(12, 3),
        "bias_ih_l0": flat[100:136:3],
        "bias_hh_l0": flat[:1].expand(12),
    }
    save(weights, tmp_path / "a.pt")
    layer = load_one(tmp_path / "a.pt")
    for name, weight in weights.items():
        np.testing.assert_array_equal(layer.weights[name], weight.float().numpy())
        assert layer.weights[name].flags.c_contiguous


def test_parameters_and_tensors_with_attributes(tmp_path, save):
    gru = nn.GRU(2, 3)
    weights = dict(gru.named_parameters())
    weights["weight_hh_l0"].note = "kept by torch"
    save(weights, tmp_path / "a.pt")
    assert_weights_of(load_one(tmp_path / "a.pt"), gru)


def test_other_dtypes_matter_only_in_a_recurrent_weight(tmp_path, save):
    gru = nn.GRU(2, 3).state_dict()
    save({**gru, "steps": torch.arange(3), "mask": torch.ones(2, dtype=torch.bool)}, tmp_path / "a.pt")
    load_one(tmp_path / "a.pt")
    for dtype, name in ((torch.int64, "LongStorage"), (torch.complex64, "ComplexFloatStorage")):
        save({**gru, "weight_hh_l0": gru["weight_hh_l0"].to(dtype)}, tmp_path / "a.pt")
        with pytest.raises(UnsupportedError, match=rf"weight_hh_l0: a {name}; recurrent weights are float16"):
            load_layers(tmp_path / "a.pt")


def test_special_tensors_are_refused_by_name(tmp_path):
    gru = nn.GRU(2, 3).state_dict()
    make_special = {
        "sparse tensor": lambda weight: weight.to_sparse(),
        "quantised tensor": lambda weight: torch.quantize_per_tensor(weight, 0.1, 0, torch.qint8),
        "meta tensor": lambda weight: weight.to("meta"),
        "tensor of an unusual dtype": lambda weight: weight.to(torch.float8_e4m3fn),
        "tensor subclass": lambda weight: weight.as_subclass(Subclass),
        "lazily negated": torch._neg_view,
    }
    for kind, make in make_special.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.save({**gru, "weight_hh_l0": make(gru["weight_hh_l0"])}, tmp_path / "a.pt")
        with pytest.raises(UnsupportedError, match=f"weight_hh_l0: a {kind}.*; save it as a plain dense tensor"):
            load_layers(tmp_path / "a.pt")


class Subclass(torch.Tensor):
    pass


def test_a_big_endian_archive(tmp_path):
    lstm = nn.LSTM(3, 4)
    torch.save(lstm.state_dict(), tmp_path / "little.pt")

    def swap(name, content):
        if name.startswith("data/"):
            return np.frombuffer(content, "<f4").astype(">f4").tobytes()
        return b"big" if name == "byteorder" else content

    assert_weights_of(load_one(rewrite_zip(tmp_path / "little.pt", tmp_path / "big.pt", swap)), lstm)


def test_an_archive_without_byte_order_is_little_endian(tmp_path):
    lstm = nn.LSTM(3, 4)
    torch.save(lstm.state_dict(), tmp_path / "a.pt")
    drop = lambda name, content: None if name == "byteorder" else content  # noqa: E731
    assert_weights_of(load_one(rewrite_zip(tmp_path / "a.pt", tmp_path / "old.pt", drop)), lstm)


def test_an_unknown_byte_order_is_a_format_error(tmp_path):
    torch.save(nn.GRU(1, 1).state_dict(), tmp_path / "a.pt")
    change = lambda name, content: b"middle" if name == "byteorder" else content  # noqa: E731
    with pytest.raises(FormatError, match="byteorder: expected little or big"):
        load_layers(rewrite_zip(tmp_path / "a.pt", tmp_path / "b.pt", change))


def test_an_archive_that_was_zipped_again(tmp_path):
    lstm = nn.LSTM(30, 40)
    torch.save(lstm.state_dict(), tmp_path / "a.pt")
    deflated = rewrite_zip(tmp_path / "a.pt", tmp_path / "deflated.pt", compression=zipfile.ZIP_DEFLATED)
    assert_weights_of(load_one(deflated), lstm)
    with pytest.raises(UnsupportedError, match="a compressed zip member"):
        load_layers(rewrite_zip(tmp_path / "a.pt", tmp_path / "lzma.pt", compression=zipfile.ZIP_LZMA))


def test_an_altered_weight_is_noticed_in_an_archive(tmp_path):
    gru = nn.GRU(3, 4)
    torch.save(gru.state_dict(), tmp_path / "a.pt")
    content = bytearray((tmp_path / "a.pt").read_bytes())
    content[content.index(weights_of(gru)["weight_ih_l0"].tobytes()) + 5] ^= 1
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(FormatError, match=r"weight_ih_l0: data/0: contents do not match their size and checksum"):
        load_layers(tmp_path / "a.pt")


def test_an_archive_without_checksums(tmp_path):
    gru = nn.GRU(3, 4)
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(gru.state_dict(), tmp_path / "a.pt")
    finally:
        torch.serialization.set_crc32_options(True)
    assert_weights_of(load_one(tmp_path / "a.pt"), gru)


def test_zip_bombs_are_refused_unread(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("archive/data.pkl", bytes(10_000_000))
    with pytest.raises(FormatError, match="contents of more than 16 times the size of the file"):
        load_layers(tmp_path / "bomb.pt")


def test_a_tensor_must_lie_within_its_storage(tmp_path):
    good = tensor((1, 1), (1, 1))
    for bad in (tensor((4, 2), (1, 1)), tensor((1, 1), (1, 1), offset=4), tensor((4, 4), (2**40, 1))):
        path = archive(tmp_path / "a.pt", state_dict(weight_ih_l0=good, weight_hh_l0=bad), a=bytes(16))
        with pytest.raises(FormatError, match=r"weight_hh_l0: reaches element \d+ of a storage of 4"):
            load_layers(path)


def test_a_storage_must_be_as_long_as_it_says(tmp_path):
    weight = tensor((1, 1), (1, 1), numel=5)
    path = archive(tmp_path / "a.pt", state_dict(weight_ih_l0=weight, weight_hh_l0=weight), a=bytes(16))
    with pytest.raises(FormatError, match="storage 'a': expected at least 20 bytes, got 16"):
        load_layers(path)


def test_a_storage_must_exist(tmp_path):
    weight = tensor((1, 1), (1, 1), key="../../etc/passwd")
    path = archive(tmp_path / "a.pt", state_dict(weight_ih_l0=weight, weight_hh_l0=weight))
    with pytest.raises(FormatError, match=r"weight_ih_l0: 'data/../../etc/passwd' is not in the archive"):
        load_layers(path)


@pytest.mark.parametrize("sizes", [(-1, 1), (1, -1), (2**60, 1), (2**40, 2**40)])
def test_sizes_beyond_reason_are_a_format_error(tmp_path, sizes):
    bad = tensor(sizes, (0, 0))
    path = archive(tmp_path / "a.pt", state_dict(weight_ih_l0=bad, weight_hh_l0=bad), a=bytes(16))
    with pytest.raises(FormatError, match=r"data\.pkl: broken pickle at or after byte \d+"):
        load_layers(path)


def test_expanded_tensors_may_not_dwarf_the_file(tmp_path):
    for shape in ((2**20, 2**20), (4000, 10)):
        expanded = tensor(shape, (0, 0))
        path = archive(tmp_path / "a.pt", state_dict(weight_ih_l0=expanded, weight_hh_l0=expanded), a=bytes(16))
        with pytest.raises(FormatError, match="weight_ih_l0: tensors far larger than the file"):
            load_layers(path)


def test_many_overlapping_tensors_may_not_dwarf_the_file_either(tmp_path):
    whole, one = tensor((1, 10_000), (0, 1), numel=10_000), tensor((1, 1), (1, 1), numel=10_000)
    weights = {f"{n}.weight_{kind}_l0": whole if kind == "ih" else one for n in range(100) for kind in ("ih", "hh")}
    path = archive(tmp_path / "a.pt", state_dict(**weights), a=bytes(40_000))
    assert load_one(path, prefix="7").input_size == 10_000
    with pytest.warns(UserWarning, match="tensors far larger than the file"):
        assert sum(4 * layer.num_parameters for layer in read_layers(path)) < 16 * path.stat().st_size


def test_an_empty_weight_is_a_format_error(tmp_path):
    torch.save({"weight_ih_l0": torch.zeros(4, 0), "weight_hh_l0": torch.zeros(4, 1)}, tmp_path / "a.pt")
    with pytest.raises(FormatError, match=r"weight_ih_l0: expected a tensor with elements, got shape \(4, 0\)"):
        load_layers(tmp_path / "a.pt")


def test_torchscript_is_refused_with_what_to_do(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(nn.LSTM(2, 3)).save(tmp_path / "a.pt")
    with pytest.raises(UnsupportedError, match=r"a TorchScript archive; .*torch\.jit\.load\(path\)\.state_dict\(\)"):
        load_layers(tmp_path / "a.pt")


@pytest.mark.parametrize("member", ["models/model.json", "serialized_exported_program.json"])
def test_an_exported_program_is_refused_with_what_to_do(tmp_path, member):
    with zipfile.ZipFile(tmp_path / "a.pt2", "w") as file:
        file.writestr(f"a/{member}", "{}")
    with pytest.raises(UnsupportedError, match=r"a torch\.export archive; .*state_dict\(\)"):
        load_layers(tmp_path / "a.pt2")


@pytest.mark.parametrize("module", [nn.LSTM(2, 3), nn.LSTMCell(2, 3)])
@pytest.mark.parametrize("whole", [False, True])
def test_quantised_networks_are_refused_with_what_to_do(tmp_path, module, whole):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = torch.ao.quantization.quantize_dynamic(nn.Sequential(module), {type(module)})
        torch.save(model if whole else model.state_dict(), tmp_path / "a.pt")
    with pytest.raises(UnsupportedError, match=r"a\.pt: 0: .*quanti.*; load the float model"):
        load_layers(tmp_path / "a.pt")


def test_a_float_lstm_beside_quantised_layers_loads(tmp_path):
    model = nn.Sequential(nn.LSTM(2, 3), nn.Linear(3, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantised = torch.ao.quantization.quantize_dynamic(model, {nn.Linear})
        torch.save(quantised.state_dict(), tmp_path / "a.pt")
    assert_weights_of(load_one(tmp_path / "a.pt"), model[0])


def test_a_zip_of_something_else_is_a_format_error(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as file:
        file.writestr("readme.txt", "hello")
    with pytest.raises(FormatError, match=r"not one that torch\.save wrote: no data\.pkl in it"):
        load_layers(tmp_path / "a.pt")


def test_storage_views_of_the_oldest_streams(tmp_path):
    """PyTorch 0.x wrote views of storages as (key, offset, size); nothing writes them any more."""
    weight = torch.arange(6, dtype=torch.float32)
    weights = {"weight_ih_l0": weight.view(6, 1)[1:2], "weight_hh_l0": weight.view(6, 1)[4:5]}
    torch.save(weights, tmp_path / "a.pt", _use_new_zipfile_serialization=False)
    no_view, view = b"K\x06N", b"K\x06(" + text("key of the view") + b"K\x01K\x05t"
    content = (tmp_path / "a.pt").read_bytes()
    assert content.count(no_view) == 2
    (tmp_path / "a.pt").write_bytes(content.replace(no_view, view))
    layer = load_one(tmp_path / "a.pt")
    assert (layer.weights["weight_ih_l0"], layer.weights["weight_hh_l0"]) == (2, 5)


def test_ordered_dicts_of_python_2(tmp_path):
    """They were pickled as a list of pairs, their keys as byte strings."""
    weight = tensor((1, 1), (1, 1))
    names = (b"weight_ih_l0", b"weight_hh_l0")
    pairs = b"".join(b"](U" + bytes([len(name)]) + name + weight + b"e" for name in names)
    pickled = b"\x80\x02ccollections\nOrderedDict\n](" + pairs + b"e\x85R."
    layer = load_one(archive(tmp_path / "a.pt", pickled, a=np.float32([7]).tobytes() * 4))
    assert layer.weights["weight_hh_l0"] == 7


def test_a_large_archive_takes_no_more_memory_than_its_weights(tmp_path):
    lstm = nn.LSTM(256, 256, num_layers=2)
    torch.save(OrderedDict(lstm.state_dict()), tmp_path / "a.pt")
    size = sum(weight.nbytes for weight in weights_of(lstm).values())
    load_one(tmp_path / "a.pt")
    tracemalloc.start()
    layer = load_one(tmp_path / "a.pt")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert layer.num_parameters * 4 == size
    assert peak < 1.1 * size


LIST = b"](" + b"K\x01" * 100_000 + b"eq\x01"
V2 = b"ctorch._utils\n_rebuild_tensor_v2\n"


@pytest.mark.parametrize(
    ("start", "repeated"),
    [
        (LIST, b"h\x01Q0"),
        (LIST + tensor((1,), (1,)) + b"0", V2 + b"(h\x02K\x00h\x01h\x01\x89}tR0"),
        (LIST, b"ctorch._tensor\n_rebuild_from_type_v2\n(" + V2 + b"ctorch\nTensor\nh\x01NtR0"),
    ],
    ids=["persistent id", "shape", "arguments"],
)
def test_a_long_list_in_place_of_a_short_tuple_is_a_format_error(tmp_path, start, repeated):
    """Were it accepted, each use would copy it."""
    pickled = b"\x80\x02" + start + repeated * 10_000 + b"N."
    with pytest.raises(FormatError, match="broken pickle"):
        load_layers(archive(tmp_path / "a.pt", pickled))


def test_a_damaged_member_is_read_once(tmp_path, monkeypatch):
    gru = nn.GRU(1, 1).state_dict()
    torch.save([gru, gru.copy(), gru.copy(), nn.GRU(1, 1).state_dict()], tmp_path / "whole.pt")
    bad = rewrite_zip(tmp_path / "whole.pt", tmp_path / "a.pt")
    content = bad.read_bytes()
    weight = gru["weight_ih_l0"].numpy().tobytes()
    assert content.count(weight) == 1
    bad.write_bytes(content.replace(weight, bytes(len(weight))))
    checked, original = [], torch_file._Archive._checked

    def note(archive, name):
        checked.append(name)
        return original(archive, name)

    monkeypatch.setattr(torch_file._Archive, "_checked", note)
    with pytest.warns(UserWarning, match="contents do not match") as caught:
        assert [layer.name for layer in read_layers(bad)] == ["3"]
    assert len(caught) == 3
    assert checked.count("data/0") == 1
