import json
import os
import re
import struct
import subprocess
import threading
from dataclasses import fields, replace

import numpy as np
import pytest
from chains import ANYWHERE, OF_SEQUENCES, random_layers
from conftest import CELLS, random_spec, same_bits
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

import gated_c as gc
from gated_c import FormatError, golden
from gated_c.layers import Conv, Elementwise, Pool, Repeat
from gated_c.loaders import load_layers, native, read_layers
from gated_c.loaders.safetensors_file import open_safetensors, write_safetensors
from gated_c.narrow import Int8, parts_of, stored_of
from gated_c.options import DEFAULT, Options
from gated_c.spec import Activation, LayerSpec

DESCRIBED = [field.name for field in fields(LayerSpec) if field.name != "weights"]


@pytest.fixture
def chain():
    rng = np.random.default_rng(1)
    lstm = random_spec(rng, "lstm", 2, 3, num_layers=2, bidirectional=True, proj_size=2, batch_first=True)
    decoder = random_spec(rng, "rnn_relu", 4, 2, bias=False, batch_first=True)
    return [replace(lstm, name="encoder.lstm"), replace(decoder, name="decoder")]


@pytest.fixture
def path(tmp_path, chain):
    native.save(chain, tmp_path / "m.gated")
    return tmp_path / "m.gated"


def assert_same(got, expected):
    for name in DESCRIBED:
        assert getattr(got, name) == getattr(expected, name)
    assert got.weights.keys() == expected.weights.keys()
    for name, weight in got.weights.items():
        assert same_bits(weight, expected.weights[name])


#: Cells that take options get them.
GENERAL = {
    "gru_reset_before": {"clip": 0.3},
    "rnn": {"activations": (Activation.of("elu", 0.1),)},
}


@st.composite
def specs(draw):
    cell = draw(st.sampled_from(CELLS))
    hidden_size = draw(st.integers(1, 9))
    proj_size = draw(st.integers(0, hidden_size - 1)) if cell == "lstm" else 0
    spec = random_spec(
        np.random.default_rng(draw(st.integers(0, 99))),
        cell,
        draw(st.integers(1, 9)),
        hidden_size,
        num_layers=draw(st.integers(1, 11)),
        bidirectional=cell != "rnn" and draw(st.booleans()),
        proj_size=proj_size,
        bias=draw(st.booleans()),
        batch_first=draw(st.booleans()),
        **GENERAL.get(cell, {}),
    )
    return replace(spec, name=draw(st.text(st.characters())))


@settings(max_examples=40, deadline=None)
@given(specs())
def test_a_round_trip_keeps_every_bit_and_field(tmp_path_factory, layer):
    path = tmp_path_factory.mktemp("native") / "m.gated"
    native.save([layer], path)
    (got,) = native.read(path)
    assert_same(got, layer)


VERSION_1 = rb"""{"__metadata__": {"gated_version": "1", "gated_layers": "[{\"cell\": \"gru\", \"input_size\": 1,
 \"hidden_size\": 1, \"num_layers\": 1, \"bidirectional\": false, \"proj_size\": 0, \"bias\": false,
 \"batch_first\": true, \"name\": \"gru\"}]", "gated_core": "[{\"kind\": \"stack\", \"input_size\": 1,
 \"output_size\": 1, \"count\": 1, \"cell\": \"gru\", \"hidden_size\": 1, \"proj_size\": 0, \"num_directions\": 1,
 \"reverse\": false, \"masked\": \"zero\", \"biases\": false, \"peepholes\": false}]", "gated_flags": "00000000",
 "gated_crc32": "b6350b12"},
 "0.weight_ih_l0": {"dtype": "F32", "shape": [3, 1], "data_offsets": [0, 12]},
 "0.weight_hh_l0": {"dtype": "F32", "shape": [3, 1], "data_offsets": [12, 24]}}""".replace(b"\n", b"")


def test_files_of_version_1_are_written_and_read_as_ever(tmp_path):
    weight_ih, weight_hh = np.float32([[1], [2], [3]]), np.float32([[-1], [0.5], [0]])
    header = VERSION_1 + b" " * 50
    whole = struct.pack("<Q", len(header)) + header + weight_ih.tobytes() + weight_hh.tobytes()
    (tmp_path / "old.gated").write_bytes(whole)
    (layer,) = load_layers(tmp_path / "old.gated")
    weights = {"weight_ih_l0": weight_ih, "weight_hh_l0": weight_hh}
    assert_same(layer, LayerSpec.from_weights(weights, batch_first=True, name="gru"))
    native.save([layer], tmp_path / "new.gated")
    assert (tmp_path / "new.gated").read_bytes() == whole


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 2**32 - 1), min_size=1))
def test_any_bit_pattern_survives(tmp_path_factory, bits):
    values = np.array([bits], np.uint32).view(np.float32)
    weights = {"weight_ih_l0": values, "weight_hh_l0": np.ones((1, 1), np.float32)}
    path = tmp_path_factory.mktemp("native") / "m.gated"
    native.save([LayerSpec.from_weights(weights)], path)
    assert same_bits(native.read(path)[0].weights["weight_ih_l0"], values)


def test_weights_are_read_only_views_of_the_file(path):
    for layer in native.read(path):
        for weight in layer.weights.values():
            assert not weight.flags.owndata
            assert not weight.flags.writeable
            assert weight.flags.aligned
            with pytest.raises(ValueError, match="read-only"):
                weight[...] = 0


def test_a_file_may_be_replaced_while_it_is_mapped(path, chain):
    before = native.read(path)
    native.save(chain[:1], path)
    assert len(native.read(path)) == 1
    path.unlink()
    for got, expected in zip(before, chain, strict=True):
        assert_same(got, expected)


def test_a_file_can_be_saved_over_itself(path, chain):
    native.save(native.read(path), path)
    for got, expected in zip(native.read(path), chain, strict=True):
        assert_same(got, expected)


def test_the_file_is_ordinary_safetensors(path, chain):
    tensors = load_file(path)
    assert set(tensors) == {f"{n}.{name}" for n, layer in enumerate(chain) for name in layer.weights}
    assert same_bits(tensors["1.weight_hh_l0"], chain[1].weights["weight_hh_l0"])


def test_a_prefix_picks_one_of_several(path, chain):
    assert [layer.name for layer in read_layers(path)] == ["encoder.lstm", "decoder"]
    for prefix in ("decoder", "decoder."):
        (decoder,) = load_layers(path, prefix=prefix)
        assert_same(decoder, chain[1])
    expected = r"m\.gated: prefix: .*, got 'encoder'\n  encoder\.lstm \(lstm, 2 to 4\)\n  decoder \(rnn_relu, 4 to 2\)"
    with pytest.raises(ValueError, match=expected):
        load_layers(path, prefix="encoder")


def test_without_a_prefix_it_is_the_whole_chain(path, chain):
    for got, expected in zip(load_layers(path), chain, strict=True):
        assert_same(got, expected)


def test_keywords_overrule_the_file(path):
    options = {"batch_first": False, "nonlinearity": "tanh"}
    (lstm,), (rnn,) = (load_layers(path, prefix=name, **options) for name in ("encoder.lstm", "decoder"))
    assert (lstm.cell, lstm.batch_first, rnn.cell) == ("lstm", False, "rnn_tanh")


def test_it_is_known_by_its_contents(path):
    path.rename(path.with_suffix(".bin"))
    assert [layer.name for layer in read_layers(path.with_suffix(".bin"))] == ["encoder.lstm", "decoder"]


def test_arrays_of_any_layout_are_saved(tmp_path, chain):
    strided = {name: np.asfortranarray(weight) for name, weight in chain[0].weights.items()}
    native.save([replace(chain[0], weights=strided)], tmp_path / "m.gated")
    assert_same(native.read(tmp_path / "m.gated")[0], chain[0])


def test_weights_that_do_not_fit_are_not_saved(tmp_path, chain):
    with pytest.raises(ValueError, match="hidden_size"):
        native.save([replace(chain[1], hidden_size=0)], tmp_path / "m.gated")
    assert not list(tmp_path.iterdir())


def test_a_failed_save_leaves_the_old_file_and_nothing_else(path, chain, monkeypatch):
    def fail(*_):
        raise OSError("disk full")

    before = path.read_bytes()
    for target in ("loaders.native.write_safetensors", "files.os.replace"):
        with monkeypatch.context() as patch:
            patch.setattr(f"gated_c.{target}", fail)
            with pytest.raises(OSError, match="disk full"):
                native.save(chain, path)
        assert path.read_bytes() == before
        assert os.listdir(path.parent) == [path.name]


def test_a_folder_that_does_not_exist_is_an_os_error(tmp_path, chain):
    target = str(tmp_path / "none" / "m.gated")
    with pytest.raises(FileNotFoundError) as caught:
        native.save(chain, target)
    assert caught.value.filename == target


def test_the_file_has_ordinary_permissions(path):
    (path.parent / "ordinary").write_bytes(b"")
    assert path.stat().st_mode == (path.parent / "ordinary").stat().st_mode


def test_a_file_that_is_replaced_keeps_its_permissions(path, chain):
    path.chmod(0o640)
    native.save(chain[:1], path)
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_pipe_or_device_is_not_replaced(tmp_path, chain):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="expected a regular file") as caught:
        native.save(chain, tmp_path / "pipe")
    assert caught.value.filename == str(tmp_path / "pipe")
    assert (tmp_path / "pipe").is_fifo()


def test_scalars_of_numpy_are_saved_as_plain_ones(tmp_path, chain):
    options = {"batch_first": np.True_, "bias": 1, "hidden_size": np.int64(3), "clip": np.float32(0.5)}
    activations = tuple(Activation(name, np.float32(0), 0) for name in ("sigmoid", "tanh", "tanh") * 2)
    lstm = replace(chain[0], **options, activations=activations)
    native.save([lstm], tmp_path / "m.gated")
    assert_same(native.read(tmp_path / "m.gated")[0], lstm)


def test_a_link_is_followed_and_stays(tmp_path, path, chain):
    link = tmp_path / "link.gated"
    link.symlink_to(path.name)
    native.save(chain[:1], link)
    assert link.is_symlink()
    assert len(native.read(path)) == 1


def test_threads_may_save_to_one_file(path, chain):
    threads = [threading.Thread(target=native.save, args=(chain, path)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(native.read(path)) == 2
    assert os.listdir(path.parent) == [path.name]


def rewrite(path, layers=None, core=None, **changes):
    """The same tensors under other metadata, with a checksum that fits new ``layers`` and ``core``."""
    tensors = load_file(path)
    header_size = struct.unpack("<Q", path.read_bytes()[:8])[0]
    metadata = json.loads(path.read_bytes()[8 : 8 + header_size])["__metadata__"]
    if layers is not None:
        metadata["gated_layers"] = (
            layers if isinstance(layers, str) else json.dumps(layers(json.loads(metadata["gated_layers"])))
        )
    if core is not None:
        metadata["gated_core"] = core
    if layers is not None or core is not None:
        metadata["gated_crc32"] = native._checksum(metadata, tensors)
    metadata |= changes
    save_file(tensors, path, {key: value for key, value in metadata.items() if value is not None})
    return path


@pytest.mark.parametrize("version", ["2", "0", "1.0", "", "one"])
def test_another_version_is_named(path, version):
    message = f"m.gated: format version {version!r}, this gated_c reads 1; a newer gated_c may read it"
    with pytest.raises(FormatError, match=re.escape(message)):
        load_layers(rewrite(path, gated_version=version))


def test_plain_safetensors_under_this_name_are_a_format_error(path):
    with pytest.raises(FormatError, match=r"not a \.gated one"):
        load_layers(rewrite(path, gated_version=None))


@pytest.mark.parametrize("entry", ["gated_layers", "gated_core", "gated_flags", "gated_crc32"])
def test_an_entry_that_is_missing_is_named(path, entry):
    with pytest.raises(FormatError, match=f"{entry}: missing"):
        load_layers(rewrite(path, **{entry: None}))


@pytest.mark.parametrize("core", ["[]", "3", "{", "[" * 100_000])
def test_both_descriptions_must_say_the_same(path, core):
    with pytest.raises(FormatError, match=r"m\.gated: "):
        load_layers(rewrite(path, core=core))


@pytest.mark.parametrize("checksum", ["", "00000000", "zzzzzzzz"])
def test_a_wrong_checksum_is_a_format_error(path, checksum):
    with pytest.raises(FormatError, match="the file was altered"):
        load_layers(rewrite(path, gated_crc32=checksum))


def test_an_altered_weight_is_noticed(path):
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(FormatError, match=r"m\.gated: contents do not match the checksum: the file was altered"):
        load_layers(path)


def test_tensors_of_another_dtype_are_a_format_error(path):
    tensors = {name: weight.view(np.int32) for name, weight in load_file(path).items()}
    save_file(tensors, path, {"gated_version": "1"})
    with pytest.raises(FormatError, match="expected F32, BF16 or I8, got I32"):
        load_layers(path)


def changed(**changes):
    return lambda layers: [{**layers[0], **changes}, *layers[1:]]


BAD_DESCRIPTIONS = {
    "not JSON": "{",
    "nesting": "[" * 100_000,
    "not a list": "3",
    "no layers": lambda layers: [],
    "a layer too few": lambda layers: layers[:1],
    "a layer too many": lambda layers: [*layers, layers[0]],
    "not an object": lambda layers: [1, 2],
    "a field missing": lambda layers: [{"cell": "lstm"}, layers[1]],
    "a field too many": changed(color="red"),
    "a number that is a string": changed(hidden_size="3"),
    "a number that is a truth": changed(num_layers=True),
    "a truth that is a number": changed(bidirectional=1),
    "an unknown cell": changed(cell="transformer"),
    "a size that does not fit": changed(hidden_size=4),
    "a negative size": changed(input_size=-1),
    "an enormous size": changed(hidden_size=10**4000),
    "limits for too few layers": changed(h_limit=[0.5]),
    "limits below 0": changed(h_limit=[-0.5] * 4),
    "limits beyond float32": changed(h_limit=[1e39] * 4),
    "limits that are no numbers": changed(h_limit=[float("nan")] * 4),
    "limits that are truths": changed(h_limit=[True] * 4),
    "a limit": changed(h_limit=0.5),
    "a billion layers": changed(num_layers=10**9),
    "10**4000 layers": changed(num_layers=10**4000),
    "minus a billion layers": changed(num_layers=-(10**9)),
}


@pytest.mark.parametrize("layers", BAD_DESCRIPTIONS.values(), ids=BAD_DESCRIPTIONS.keys())
def test_descriptions_without_sense_are_a_format_error(path, layers):
    with pytest.raises(FormatError, match=r"m\.gated: "):
        load_layers(rewrite(path, layers))


@pytest.mark.parametrize("number", [-1, 2**24 + 1, 2**31, 10**40])
@pytest.mark.parametrize(
    ("layer", "name"),
    [(Conv(np.ones((4, 2, 4), np.float32)), "dilation"), (Pool(4, "last"), "size"), (Repeat(4, 3), "steps")],
)
def test_numbers_beyond_the_core_are_a_format_error(tmp_path, layer, name, number):
    head = [Pool(4, "last")] if isinstance(layer, Repeat) else []
    native.save([random_spec(np.random.default_rng(1), "gru", 2, 4), *head, layer], tmp_path / "m.gated")
    path = rewrite(tmp_path / "m.gated", lambda layers: [*layers[:-1], {**layers[-1], name: number}])
    with pytest.raises(FormatError, match=rf"m\.gated: .*{name}"):
        load_layers(path)


def test_no_single_byte_can_change_unnoticed(tmp_path):
    """Every byte of a small file, three ways: an error, or what was saved."""
    rng = np.random.default_rng(2)
    saved = random_spec(rng, "gru", 1, 1)
    path = tmp_path / "m.gated"
    native.save([saved], path)
    whole = path.read_bytes()
    for position, byte in enumerate(whole):
        for flip in (1 << rng.integers(8), 0x20, 0xFF):
            path.write_bytes(whole[:position] + bytes([byte ^ flip]) + whole[position + 1 :])
            try:
                (layer,) = load_layers(path)
            except FormatError:
                continue
            assert_same(layer, saved)


def test_a_chain_comes_back_with_the_same_bits(tmp_path):
    rng = np.random.default_rng(0)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        kinds = [str(kind) for kind in rng.choice(sorted(ANYWHERE | OF_SEQUENCES), 4)]
        layers = random_layers(rng, kinds, ANYWHERE | OF_SEQUENCES, 3)
        layers += [random_spec(rng, "gru", layers[-1].output_size, 9), Pool(9, "final", 4)]
        layers += [*random_layers(rng, ["dense", "slice"], ANYWHERE, 9), Elementwise(3, Activation("elu", 0.3, 0.0))]
        model = gc.Model(layers)
        model.save(tmp_path / "chain.gated")
        x = rng.uniform(-1, 1, (5, 2, 3)).astype(np.float32)
        assert same_bits(gc.Model(native.read(tmp_path / "chain.gated"))(x)[0], model(x)[0])


NARROW = [
    Options(dtype="bfloat16"),
    Options(dtype="int8", inputs="int8"),
    Options(dtype="int8", inputs="float32"),
    Options(dtype="int8", inputs="bfloat16", flush_subnormals=True),
]


def tensors_of(path):
    tensors, _ = open_safetensors(path)
    return {name: (tensor.dtype, len(tensor.data)) for name, tensor in tensors.items()}


@pytest.mark.parametrize("options", NARROW, ids=str)
def test_narrow_weights_come_back_as_they_are_kept(tmp_path, chain, options):
    native.save(chain, tmp_path / "m.gated", options=options)
    loaded = native.read_file(tmp_path / "m.gated")
    assert loaded.options == options
    for got, expected in zip(loaded.layers, options.narrow(chain), strict=True):
        assert_same(got, expected)
        kinds, wanted = ([type(w) for w in stored_of(layer.weights).values()] for layer in (got, expected))
        assert sorted(map(str, kinds)) == sorted(map(str, wanted))
    native.save(loaded.layers, tmp_path / "again.gated", options=options)
    assert (tmp_path / "again.gated").read_bytes() == (tmp_path / "m.gated").read_bytes()


def test_narrow_weights_are_views_of_the_file(tmp_path, chain):
    for options in NARROW[:2]:
        native.save(chain, tmp_path / "m.gated", options=options)
        for layer in native.read(tmp_path / "m.gated"):
            for weight in layer.weights.stored.values():
                assert not any(part.flags.owndata or part.flags.writeable for part in parts_of(weight).values())


def test_tensors_are_as_narrow_as_their_weights(tmp_path):
    layer = random_spec(np.random.default_rng(0), "lstm", 7, 5, proj_size=3)
    native.save([layer], tmp_path / "m.gated", options=NARROW[0])
    assert tensors_of(tmp_path / "m.gated")["0.weight_hh_l0"] == ("BF16", 2 * 20 * 3)
    native.save([layer], tmp_path / "m.gated", options=NARROW[3])
    tensors = tensors_of(tmp_path / "m.gated")
    assert tensors["0.weight_ih_l0"] == ("BF16", 2 * 20 * 7)
    assert tensors["0.weight_hh_l0"] == ("I8", 20 * 3)
    assert tensors["0.weight_hr_l0.scale"] == ("F32", 4 * 3)
    assert tensors["0.bias_ih_l0"] == ("F32", 4 * 20)


@pytest.mark.parametrize(("options", "share"), [(NARROW[0], 0.5), (NARROW[1], 0.25)], ids=str)
def test_a_file_is_as_small_as_its_weights(tmp_path, options, share):
    layer = random_spec(np.random.default_rng(0), "gru", 256, 256)
    sizes = []
    for one in (DEFAULT, options):
        native.save([layer], tmp_path / "m.gated", options=one)
        sizes.append((tmp_path / "m.gated").stat().st_size)
    assert sizes[1] == pytest.approx(share * sizes[0], rel=0.05)


def test_a_layer_of_a_narrow_file_is_as_narrow(tmp_path, chain):
    gc.Model(chain, dtype="int8", inputs="float32").save(tmp_path / "m.gated")
    model = gc.load(tmp_path / "m.gated", prefix="decoder", batch_first=False)
    assert (model.dtype, model.inputs) == ("int8", "float32")


def test_golden_vectors_of_a_narrow_model_are_checked(tmp_path):
    rng = np.random.default_rng(0)
    model = gc.Model([random_spec(rng, "gru", 3, 8)], dtype="int8")
    x = rng.standard_normal((4, 2, 3))
    model.save(tmp_path / "m.gated", golden=x)
    gc.load(tmp_path / "m.gated", check=True)
    vectors = golden.record(model, x)
    vectors["golden.y"][0] += 1e-3
    model._write(tmp_path / "m.gated", vectors, packed=False)
    with pytest.raises(FormatError, match="golden"):
        gc.load(tmp_path / "m.gated", check=True)


@pytest.mark.parametrize("difference", [1e-4, 1.0])
def test_golden_vectors_allow_for_the_arithmetic_of_a_cpu(tmp_path, difference):
    rng = np.random.default_rng(0)
    model = gc.Model([random_spec(rng, "gru", 3, 8)], dtype="bfloat16", arithmetic="bfloat16")
    vectors = golden.record(model, rng.standard_normal((4, 2, 3)))
    vectors["golden.y"][0] += difference
    model._write(tmp_path / "m.gated", vectors, packed=False)
    if difference < 1e-3:
        gc.load(tmp_path / "m.gated", check=True)
    else:
        with pytest.raises(FormatError, match="golden"):
            gc.load(tmp_path / "m.gated", check=True)


def narrow_file(path, **changes):
    """Of a small int8 model, with other arrays in place of some; ``None`` leaves one out."""
    native.save([random_spec(np.random.default_rng(0), "gru", 2, 3)], path, options=NARROW[1])
    tensors, metadata = open_safetensors(path)
    arrays = {name: np.array(native._array(name, tensor)) for name, tensor in tensors.items()}
    arrays |= {f"0.{name.replace('__', '.')}": array for name, array in changes.items()}
    arrays = {name: array for name, array in arrays.items() if array is not None}
    metadata["gated_crc32"] = native._checksum(metadata, arrays)
    with open(path, "wb") as file:
        write_safetensors(file, arrays, metadata)


BAD_NARROW = {
    "no scale": {"weight_hh_l0__scale": None},
    "scales of another shape": {"weight_hh_l0__scale": np.ones((9, 1), np.float32)},
    "too few scales": {"weight_hh_l0__scale": np.ones(8, np.float32)},
    "narrow scales": {"weight_hh_l0__scale": np.ones(9, np.uint16)},
    "a scale too many": {"weight_ih_l0": np.ones((9, 2), np.float32)},
    "one axis": {"weight_hh_l0": np.ones(9, np.int8)},
    "three axes": {"weight_hh_l0": np.ones((9, 3, 1), np.int8)},
    "another shape": {"weight_hh_l0": np.ones((9, 4), np.int8)},
    "another shape of bfloat16": {"weight_hh_l0": np.ones((9, 4), np.uint16), "weight_hh_l0__scale": None},
    "a narrow bias": {"bias_hh_l0": np.ones(9, np.uint16)},
    "a bias in integers": {"bias_hh_l0": np.ones(9, np.int8), "bias_hh_l0__scale": np.ones(9, np.float32)},
}


@pytest.mark.parametrize("changes", BAD_NARROW.values(), ids=BAD_NARROW.keys())
def test_narrow_tensors_that_do_not_fit_are_a_format_error(tmp_path, program, changes):
    narrow_file(tmp_path / "m.gated", **changes)
    with pytest.raises(FormatError, match=r"m\.gated: "):
        load_layers(tmp_path / "m.gated")
    done = subprocess.run([program, "describe", tmp_path / "m.gated"], capture_output=True, check=False)
    assert b"broken" in done.stderr


ODD_NARROW = {
    "another type than the flags say": {"weight_ih_l0": np.full((9, 2), 0.3, np.float32), "weight_ih_l0__scale": None},
    "integers that are not rounded so": {"weight_hh_l0": np.full((9, 3), -128, np.int8)},
    "scales of any sign and size": {"weight_hh_l0__scale": np.float32([1 / 3, -2, 0, np.inf, 1e38, 1e-45, 1, 1, 1])},
    "scales that are not numbers": {"weight_hh_l0__scale": np.full(9, np.nan, np.float32)},
}


@pytest.mark.parametrize("changes", ODD_NARROW.values(), ids=ODD_NARROW.keys())
def test_other_numbers_than_ours_are_rounded_alike_everywhere(tmp_path, program, changes):
    narrow_file(tmp_path / "m.gated", **changes)
    model = gc.load(tmp_path / "m.gated")
    for name, weight in model.layers[0].weights.items():
        if name.startswith("weight"):
            assert same_bits(Int8.of(weight).expanded(), weight)
    x = np.random.default_rng(1).standard_normal((4, 2, 2)).astype(np.float32)
    command = [program, "stream", tmp_path / "m.gated", "4", "2"]
    done = subprocess.run(command, input=x.tobytes(), capture_output=True, check=True)
    y = np.frombuffer(done.stdout, np.float32)[: 4 * 2 * 3].reshape(4, 2, 3)
    np.testing.assert_array_equal(np.isnan(y), np.isnan(model(x)[0]))
