"""Weights packed in a file, and used where they are mapped."""

import json
import pickle
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from conftest import EXACT, parts, random_spec, same_bits
from gated_models import gated_models, input_of
from safetensors.numpy import load_file, save_file

import gated_c as gc
from gated_c._core import packing
from gated_c.cli import main
from gated_c.loaders.safetensors_file import open_safetensors
from gated_c.narrow import Bfloat16, Int8

MODELS = gated_models()


def make(hidden_size=40):
    return gc.Model([random_spec(np.random.default_rng(0), "lstm", 3, hidden_size, num_layers=2)])


@pytest.fixture
def path(tmp_path):
    make().save(tmp_path / "m.gated", packed=True)
    return tmp_path / "m.gated"


def is_mapped(model, path):
    """Whether the weights that the kernels read are a file's pages."""
    place = model._engine.packed.ctypes.data
    for line in Path("/proc/self/maps").read_text().splitlines():
        start, stop = (int(end, 16) for end in line.split()[0].split("-"))
        if start <= place < stop:
            return line.endswith(str(path))
    raise AssertionError("not in memory")


def results(model, x):
    """y and the state of whole sequences, and of steps where it can make them."""
    x = x[0] if model.takes == "vector" else x[..., 0] if model.takes == "ids" else x
    y, state = model(x)
    arrays = [*parts(y), *(part for stack in parts(state) for part in parts(stack))]
    if model.streamable and model.takes != "vector":
        stream = model.stream(x.shape[1])
        arrays += [np.array(part) for x_t in x for part in parts(stream.step(x_t))]
    return np.concatenate([np.ravel(array) for array in arrays])


@pytest.mark.parametrize("name", MODELS)
def test_every_layer_has_the_bits_of_weights_packed_here(name, tmp_path):
    model, x = MODELS[name], input_of(MODELS[name], 3, 2)
    if MODELS[name].batch_first:
        pytest.skip("takes x in another order")
    model.save(tmp_path / "m.gated", packed=True)
    mapped = gc.load(tmp_path / "m.gated")
    assert (is_mapped(mapped, tmp_path / "m.gated"), is_mapped(model, tmp_path / "m.gated")) == (True, False)
    assert mapped.packed_bytes == model.packed_bytes
    assert same_bits(results(mapped, x), results(model, x))


@pytest.mark.parametrize("forced", EXACT)
def test_only_the_instruction_set_it_is_packed_for_uses_it(forced, monkeypatch, path):
    x = input_of(make(), 3, 2)
    monkeypatch.setenv("GATED_C_ISA", forced)
    model = gc.load(path)
    assert (model.isa, is_mapped(model, path)) == (forced, forced == EXACT[-1])
    assert same_bits(results(model, x), results(make(), x))


def test_saving_again_writes_the_same_file(path, tmp_path):
    gc.load(path).save(tmp_path / "again.gated", packed=True)
    assert (tmp_path / "again.gated").read_bytes() == path.read_bytes()
    gc.load(path).save(tmp_path / "plain.gated")
    assert (tmp_path / "plain.gated").stat().st_size < 0.6 * path.stat().st_size


def test_a_stream_keeps_what_is_mapped_of_a_file_that_was_replaced(path):
    x = input_of(make(), 3, 2)
    expected, stream = results(make(), x), gc.load(path).stream(2)
    make(8).save(path, packed=True)
    steps = [stream.step(x_t).copy() for x_t in x]
    assert same_bits(np.ravel(steps), expected[: np.size(steps)])


def test_a_layer_alone_packs_its_own(path, tmp_path):
    spec = random_spec(np.random.default_rng(0), "gru", 3, 8, name="encoder")
    gc.Model([spec]).save(tmp_path / "m.gated", packed=True)
    assert not is_mapped(gc.load(tmp_path / "m.gated", prefix="encoder"), tmp_path / "m.gated")
    assert is_mapped(gc.load(tmp_path / "m.gated", batch_first=True), tmp_path / "m.gated")


def rewritten(path, change=lambda arrays, metadata: None):
    """With its arrays or metadata changed, and the checksum right again; the packed weights stay the first tensor."""
    tensors, metadata = open_safetensors(path)
    arrays = {name: np.array(tensor.view()) for name, tensor in tensors.items()}
    change(arrays, metadata)
    entries = ("gated_layers", "gated_core", "gated_flags", "gated_packing")
    crc = zlib.crc32("".join(metadata.get(entry, "") for entry in entries).encode())
    for name in sorted(arrays):
        crc = zlib.crc32(arrays[name].tobytes(), crc)
    metadata["gated_crc32"] = f"{crc:08x}"
    header, stop = {"__metadata__": metadata}, 0
    for name, array in arrays.items():
        start, stop = stop, stop + array.nbytes
        header[name] = {"dtype": "F32", "shape": array.shape, "data_offsets": [start, stop]}
    text = json.dumps(header).encode()
    text += b" " * (-(8 + len(text)) % 64)
    path.write_bytes(b"".join([len(text).to_bytes(8, "little"), text, *(array.tobytes() for array in arrays.values())]))
    return path


def test_another_packing_is_left_alone(path):
    def change(arrays, metadata):
        metadata["gated_packing"] = str(packing()[0] + 1)

    assert is_mapped(gc.load(rewritten(path)), path)
    model, x = gc.load(rewritten(path, change)), input_of(make(), 3, 2)
    assert not is_mapped(model, path)
    assert same_bits(results(model, x), results(make(), x))


def test_packed_weights_that_another_program_moved_are_left_alone(path):
    def change(arrays, metadata):
        packed = {name: arrays.pop(name) for name in list(arrays) if name.startswith("packed.")}
        arrays["golden.x"] = np.zeros(3, np.float32)
        arrays.update(packed)

    model, x = gc.load(rewritten(path, change)), input_of(make(), 3, 2)
    assert not is_mapped(model, path)
    assert same_bits(results(model, x), results(make(), x))


def test_a_copy_by_the_safetensors_library_is_read(path, tmp_path):
    x = input_of(make(), 3, 2)
    save_file(load_file(path), tmp_path / "copy.gated", open_safetensors(path)[1])
    assert same_bits(results(gc.load(tmp_path / "copy.gated"), x), results(make(), x))


def in_c(program, path, x):
    command = [program, "run", path, str(len(x)), str(x.shape[1])]
    return subprocess.run(command, input=x.tobytes(), capture_output=True, timeout=60, check=False)


@pytest.mark.parametrize("floats", [0, 1, -16, 16])
def test_another_number_of_packed_weights_is_broken(program, path, floats):
    def change(arrays, metadata):
        name = next(iter(arrays))
        arrays[name] = np.resize(arrays[name], arrays[name].size + floats if floats else 0)

    rewritten(path, change)
    with pytest.raises(gc.FormatError, match=r"m\.gated: packed weights: \d+ numbers are not those of these layers"):
        gc.load(path)
    assert b"broken" in in_c(program, path, np.zeros((1, 1, 3), np.float32)).stderr


def test_packed_weights_are_in_the_checksum(program, path):
    whole = bytearray(path.read_bytes())
    start = 8 + int.from_bytes(whole[:8], "little")
    whole[start + 77] ^= 1
    path.write_bytes(whole)
    with pytest.raises(gc.FormatError, match="altered"):
        gc.load(path)
    assert b"broken" in in_c(program, path, np.zeros((1, 1, 3), np.float32)).stderr


def test_other_weights_of_the_same_size_give_other_numbers_and_no_more(program, path):
    def change(arrays, metadata):
        arrays[next(iter(arrays))][:] = np.nan

    x = np.ones((3, 2, 3), np.float32)
    rewritten(path, change)
    assert np.isnan(gc.load(path)(x)[0]).all()
    assert np.isnan(np.frombuffer(in_c(program, path, x).stdout, np.float32)).all()


@pytest.mark.parametrize("name", ["gru", "conv", "embedding", "layer_norm", "projected", "gru_reset_before_both"])
def test_the_c_library_makes_the_same_bits_of_it(program, tmp_path, name):
    model, x = MODELS[name], input_of(MODELS[name], 3, 2)
    done = []
    for packed in (False, True):
        model.save(tmp_path / "m.gated", packed=packed)
        done.append(in_c(program, tmp_path / "m.gated", x))
        assert done[-1].returncode == 0
    assert done[0].stdout == done[1].stdout


def test_the_command_packs(path, tmp_path, capsys):
    make().save(tmp_path / "plain.gated")
    main(["convert", str(tmp_path / "plain.gated"), str(tmp_path / "packed.gated"), "--packed"])
    assert (tmp_path / "packed.gated").read_bytes() == path.read_bytes()
    with pytest.raises(SystemExit):
        main(["convert", str(path), str(tmp_path / "m.onnx"), "--packed"])
    assert "--packed goes with .gated files" in capsys.readouterr().err


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_narrow_weights_that_are_packed_are_expanded_only_when_asked_for(path, monkeypatch, dtype):
    expanded, of = [], {"bfloat16": Bfloat16, "int8": Int8}[dtype]
    whole = of.expanded
    monkeypatch.setattr(of, "expanded", lambda weight: expanded.append(1) or whole(weight))
    make().to(dtype).save(path, packed=True)
    expanded.clear()
    model = gc.load(path)
    assert (is_mapped(model, path), model.num_parameters, expanded) == (True, make().num_parameters, [])
    assert model.layers[0].weights["weight_hh_l0"].dtype == np.float32
    assert len(expanded) == 1
    assert same_bits(results(model, input_of(model, 3, 2)), results(make().to(dtype), input_of(model, 3, 2)))


#: Pages that a process shares with no other, in kB, before and after it has used a model.
PRIVATE = """
import pickle, sys
import numpy as np
import gated_c

def private():
    rows = [line.split() for line in open("/proc/self/smaps_rollup")]
    return sum(int(row[1]) for row in rows if row[0].startswith("Private"))

before = private()
model = pickle.loads(bytes.fromhex(sys.argv[1]))
model.stream().warm()
print(private() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux")
@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_processes_share_mapped_weights(tmp_path, dtype):
    model = make(400).to(dtype)  # 8 MB, or 2
    private = {}
    for packed in (False, True):
        model.save(tmp_path / "m.gated", packed=packed)
        here = gc.load(tmp_path / "m.gated", pickle="path")
        here.stream().warm()
        command = [sys.executable, "-c", PRIVATE, pickle.dumps(here).hex()]
        private[packed] = int(subprocess.run(command, capture_output=True, check=True).stdout) * 1024
    assert private[False] > model.packed_bytes
    assert private[True] < private[False] - 0.9 * model.packed_bytes
