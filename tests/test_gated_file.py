"""What the C library makes of ``.gated`` files: Python's bits from those that Python wrote, a status from any other."""

import json
import os
import resource
import struct
import subprocess
import zlib
from pathlib import Path

import numpy as np
import pytest
from conftest import EXACT, parts, random_spec, same_bits
from gated_models import gated_models, input_of, write_corpus
from safetensors.numpy import load_file, save_file

import gated_c as gc
from gated_c.layers import Dense, PlainLayer
from gated_c.spec import LayerSpec
from tests.build_core import SANITIZE, build, build_fuzzer, compiler

MODELS = gated_models()
STEPS, BATCH = 3, 2


@pytest.fixture(scope="module")
def checked(program, tmp_path_factory):
    """The same under Clang's sanitizers, if it is there."""
    if compiler("clang") is None:
        return program
    return build("clang", "tests/c/gated_file.c", tmp_path_factory.mktemp("checked"), sanitize=SANITIZE)


@pytest.fixture
def path(tmp_path):
    """A chain that uses each way of naming weights."""
    rng = np.random.default_rng(0)
    gru = random_spec(rng, "lstm", 2, 3, num_layers=2, bidirectional=True, proj_size=2, clip=0.5)
    dense = Dense(rng.uniform(-1, 1, (3, 4)).astype(np.float32), np.zeros(3, np.float32))
    gc.Model([gru, dense]).save(tmp_path / "m.gated")
    return tmp_path / "m.gated"


def run(program, *args, x=None, isa=None, **options):
    environment = {**os.environ, **({"GATED_C_ISA": isa} if isa else {})}
    data = b"" if x is None else np.ascontiguousarray(x).tobytes()
    return subprocess.run(
        [program, *map(str, args)], input=data, env=environment, capture_output=True, timeout=60, check=False, **options
    )


def floats(done):
    assert done.returncode == 0, done.stderr
    return np.frombuffer(done.stdout, np.float32)


def error(program, path):
    """What the library says of a file that it refuses."""
    done = run(program, "describe", path)
    assert (done.returncode, done.stdout) == (1, b""), done.stderr
    assert len(done.stderr) < 200, done.stderr  # a sentence, not a sanitizer's report
    return done.stderr.decode()


def flat(*arrays):
    """As the program writes them: time-major, states of all recurrent layers with all h before all c of each."""
    return np.concatenate([np.ascontiguousarray(array).ravel() for array in arrays])


def flat_state(model, state):
    stacks = state if len(model.recurrent) > 1 else (state,)
    return flat(*(part for stack in stacks for part in parts(stack)))


def whole(y):
    """The result of a Split before it is split."""
    return np.concatenate(y, -1) if isinstance(y, tuple) else y


def in_python(model, x):
    """y and the state, flat."""
    y, state = model(x[0] if model.takes == "vector" else x[..., 0] if model.takes == "ids" else x)
    return flat(whole(y), flat_state(model, state))


def test_no_kind_of_layer_is_forgotten():
    tested = {type(layer) for model in MODELS.values() for layer in model.layers}
    assert tested >= {LayerSpec, *PlainLayer.__subclasses__()}


@pytest.mark.parametrize("name", MODELS)
def test_sequences_have_the_bits_of_python(program, tmp_path, name):
    model = MODELS[name]
    model.save(tmp_path / "m.gated")
    x = input_of(model, STEPS, BATCH)
    assert same_bits(floats(run(program, "run", tmp_path / "m.gated", len(x), BATCH, x=x)), in_python(model, x))


@pytest.mark.parametrize("name", [name for name in MODELS if MODELS[name].streamable])
def test_streams_have_the_bits_of_python(program, tmp_path, name):
    model = MODELS[name]
    model.save(tmp_path / "m.gated")
    x = input_of(model, STEPS, BATCH)
    stream = model.stream(BATCH)
    steps = [flat(whole(stream.step(x_t[:, 0] if model.takes == "ids" else x_t))) for x_t in x]
    expected = flat(*steps, flat_state(model, stream.state))
    assert same_bits(floats(run(program, "stream", tmp_path / "m.gated", len(x), BATCH, x=x)), expected)


@pytest.mark.parametrize("isa", EXACT)
def test_every_instruction_set_has_the_same_bits(program, path, isa):
    model = gc.load(path)
    x = input_of(model, 20, 5)
    assert same_bits(floats(run(program, "run", path, 20, 5, x=x, isa=isa)), in_python(model, x))


@pytest.mark.parametrize("name", ["gru", "conv", "embedding", "layer_norm", "gru_general"])
def test_golden_vectors_are_left_alone(program, tmp_path, name):
    model = MODELS[name]
    x = input_of(model, STEPS, BATCH)
    model.save(tmp_path / "m.gated", golden=x[..., 0] if model.takes == "ids" else x)
    assert same_bits(floats(run(program, "run", tmp_path / "m.gated", STEPS, BATCH, x=x)), in_python(model, x))


@pytest.mark.parametrize("name", MODELS)
def test_a_model_describes_itself(program, tmp_path, name):
    model = MODELS[name]
    model.save(tmp_path / "m.gated")
    got = [int(word) for word in run(program, "describe", tmp_path / "m.gated").stdout.split()]
    ids = len(model.layers[0].weight) if model.takes == "ids" else 0
    vector = model.gives == "vector"
    assert got[:5] == [model.input_size, model.output_size, ids, vector, model.streamable]
    steps_in = {"repeat": 1, "reshape": 3, "reshape_to_vector": 3}.get(name, 0)
    steps_out = {"repeat": 4, "reshape": 6}.get(name, int(vector))
    assert got[5:] == [steps_in, steps_out]


@pytest.mark.parametrize("name", ["repeat", "reshape", "reshape_to_vector"])
def test_another_number_of_steps_than_a_model_takes_is_refused(program, tmp_path, name):
    MODELS[name].save(tmp_path / "m.gated")
    x = np.zeros((2, BATCH, MODELS[name].input_size), np.float32)
    done = run(program, "run", tmp_path / "m.gated", 2, BATCH, x=x)
    assert (done.returncode > 0, done.stdout) == (True, b"")


def test_a_file_saved_by_the_safetensors_library_is_read(program, path):
    x = input_of(gc.load(path), STEPS, BATCH)
    before = floats(run(program, "run", path, STEPS, BATCH, x=x))
    rewrite(path, lambda core: core)
    assert same_bits(floats(run(program, "run", path, STEPS, BATCH, x=x)), before)


def test_what_is_no_regular_file_is_refused_with_the_reason(checked, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    reasons = {"none": "No such file", ".": "Is a directory", "pipe": "Invalid argument"}
    for name, reason in reasons.items():
        assert reason in error(checked, tmp_path / name)
    assert "cannot be opened" in error(checked, "/dev/zero")


@pytest.mark.parametrize("content", [b"", b"\0" * 7, b"\0" * 8, b"\xff" * 100, struct.pack("<Q", 92) + b" " * 92])
def test_other_contents_are_a_broken_file(checked, tmp_path, content):
    (tmp_path / "m.gated").write_bytes(content)
    assert "broken" in error(checked, tmp_path / "m.gated")


def metadata_of(path):
    content = path.read_bytes()
    return json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]


def rewrite(path, change, tensors=None, **metadata):
    """The file with ``change`` for its core's words, or what it makes of them, and a checksum that fits."""
    tensors = load_file(path) if tensors is None else tensors
    metadata = metadata_of(path) | metadata
    core = change if isinstance(change, str) else change(json.loads(metadata["gated_core"]))
    core = core if isinstance(core, str) else json.dumps(core)
    crc = zlib.crc32((metadata["gated_layers"] + core + metadata["gated_flags"]).encode())
    for name in sorted(tensors):
        crc = zlib.crc32(tensors[name].tobytes(), crc)
    save_file(tensors, path, metadata | {"gated_core": core, "gated_crc32": f"{crc:08x}"})
    return path


def changed(index=0, **changes):
    """Of one layer's words; ``None`` leaves one out."""

    def change(core):
        words = {key: value for key, value in (core[index] | changes).items() if value is not None}
        return [*core[:index], words, *core[index + 1 :]]

    return change


def spelled(old, new):
    """Of the text."""
    return lambda core: json.dumps(core).replace(old, new, 1)


BROKEN = {
    "not JSON": "{",
    "nothing": "",
    "nesting": "[" * 100_000,
    "not a list": "3",
    "not objects": "[3]",
    "no layers": "[]",
    "a comma too many": spelled("}]", "},]"),
    "another comma too many": spelled("}]", ",}]"),
    "a comma too few": spelled('"count": 2, ', '"count": 2 '),
    "a tail": lambda core: json.dumps(core) + "[]",
    "a layer too few": lambda core: core[:1],
    "a layer too many": lambda core: [*core, core[1]],
    "layers in another order": lambda core: core[::-1],
    "no kind": changed(kind=None),
    "no cell": changed(cell=None),
    "no sizes": changed(hidden_size=None),
    "an unknown word": changed(color=3),
    "a word of another kind": changed(value="00000000"),
    "a stack's word elsewhere": changed(1, cell="lstm"),
    "a number that is a string": changed(hidden_size="3"),
    "a number that is a truth": changed(count=True),
    "a number with a fraction": changed(hidden_size=3.0),
    "a number with a 0 in front": spelled('"count": 2', '"count": 02'),
    "a number with an exponent": spelled('"count": 2', '"count": 2e0'),
    "a number with a sign": changed(hidden_size=-3),
    "a truth that is a number": changed(biases=1),
    "a size that does not fit": changed(hidden_size=4),
    "a size of 0": changed(input_size=0),
    "an enormous size": changed(hidden_size=10**4000),
    "a size beyond the core's": changed(1, input_size=2**24 + 1),
    "no layers in a stack": changed(count=0),
    "a layer in a stack too many": changed(count=3),
    "a billion layers in a stack": changed(count=10**9),
    "no direction": changed(num_directions=0),
    "three directions": changed(num_directions=3),
    "a weight too few": changed(proj_size=0),
    "a weight too many": changed(biases=False),
    "a weight that is not there": changed(peepholes=True),
    "activations of one direction": changed(activations=[[["tanh", "00000000", "00000000"]] * 3]),
    "activations of three directions": changed(activations=[[["tanh", "00000000", "00000000"]] * 3] * 3),
    "two activations": changed(activations=[[["tanh", "00000000", "00000000"]] * 2] * 2),
    "four activations": changed(activations=[[["tanh", "00000000", "00000000"]] * 4] * 2),
    "a float in decimal": changed(clip=0.5),
    "a float of 7 digits": changed(clip="3f00000"),
    "a float of 9 digits": changed(clip="03f000000"),
    "a float in capitals": changed(clip="3F000000"),
    "options without activations": changed(activations=None),
    "limits for too few layers": changed(h_limit="3f000000" * 3),
    "limits for too many layers": changed(h_limit="3f000000" * 5),
    "limits that are no numbers": changed(h_limit="3f00000g" * 4),
    "limits that are no string": changed(h_limit=0.5),
    "limits of another layer": changed(1, h_limit="3f000000" * 4),
    "a tensor of another shape": changed(1, weight="1.bias"),
    "a tensor twice": changed(1, weight="0.weight_hr_l1"),
    "a tensor that is not there": changed(1, weight="weight"),
    "a tensor for a layer that has none": changed(1, kind="softmax"),
}


@pytest.mark.parametrize("change", BROKEN.values(), ids=BROKEN.keys())
def test_words_without_sense_are_a_broken_file(checked, path, change):
    assert "broken" in error(checked, rewrite(path, change))
    with pytest.raises(gc.FormatError):
        gc.load(path)


def test_a_word_twice_is_a_broken_file(checked, path):
    assert "broken" in error(checked, rewrite(path, spelled('"count": 2', '"count": 2, "count": 2')))


def test_descriptions_beyond_ascii_are_a_broken_file(checked, path):
    layers = metadata_of(path)["gated_layers"].replace('"name": ""', '"name": "é"')
    assert "broken" in error(checked, rewrite(path, lambda core: core, gated_layers=layers))
    with pytest.raises(gc.FormatError):
        gc.load(path)


NEWER = {
    "kind": changed(kind="attention"),
    "cell": changed(cell="mamba"),
    "masked": changed(masked="mirror"),
    "activation": changed(1, activation=["snake", "00000000", "00000000"]),
}


@pytest.mark.parametrize("change", NEWER.values(), ids=NEWER.keys())
def test_what_a_newer_library_may_know_is_said_to_be_newer(checked, path, change):
    assert "newer" in error(checked, rewrite(path, change))


def test_a_newer_version_is_newer_whatever_else_it_holds(checked, path):
    tensors = load_file(path) | {"quantised": np.zeros(3, np.int8)}
    assert "newer" in error(checked, rewrite(path, "[]", tensors, gated_version="2"))


TENSORS = {
    "another type": lambda t: t | {"1.bias": t["1.bias"].view(np.int32)},
    "one too few": lambda t: {name: t[name] for name in t if name != "1.bias"},
    "one too many": lambda t: t | {"2.weight": t["1.weight"]},
    "another shape": lambda t: t | {"1.weight": t["1.weight"].T.copy()},
    "an axis more": lambda t: t | {"1.bias": t["1.bias"][None]},
    "many axes": lambda t: t | {"1.bias": t["1.bias"].reshape([1] * 20 + [3])},
    "an escape in a name": lambda t: t | {"golden.\n": t["1.bias"]},
}


@pytest.mark.parametrize("change", TENSORS.values(), ids=TENSORS.keys())
def test_tensors_that_do_not_fit_are_a_broken_file(checked, path, change):
    assert "broken" in error(checked, rewrite(path, lambda core: core, change(load_file(path))))


def test_one_tensor_cannot_be_many_weights(checked, tmp_path):
    path = tmp_path / "m.gated"
    MODELS["affine"].save(path)
    tensors = load_file(path)
    del tensors["0.shift"]
    assert "broken" in error(checked, rewrite(path, changed(bias="0.scale"), tensors))


def repack(path, change):
    """The file with ``change`` of its header's text."""
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    header = change(content[8:start].decode().rstrip()).encode()
    header += b" " * (-len(header) % 8)
    path.write_bytes(struct.pack("<Q", len(header)) + header + content[start:])
    return path


HEADERS = {
    "an offset that is not where the tensor before ends": lambda h: h.replace("[0, ", "[4, "),
    "an offset beyond the file": lambda h: h.replace("[0, ", "[0, 99"),
    "offsets that are strings": lambda h: h.replace("[0, ", '["0", '),
    "one offset": lambda h: h.replace("[0, ", "["),
    "three offsets": lambda h: h.replace("[0, ", "[0, 0, "),
    "a tensor without a type": lambda h: h.replace('"dtype": "F32", ', "", 1),
    "a tensor with a type twice": lambda h: h.replace('"dtype": "F32"', '"dtype": "F32", "dtype": "F32"', 1),
    "a tensor with more to it": lambda h: h.replace('"dtype": "F32"', '"dtype": "F32", "a": 3', 1),
    "an axis of 2^62": lambda h: h.replace('"shape": [', '"shape": [4611686018427387904, 4, ', 1),
    "a name twice": lambda h: h.replace("0.bias_hh_l0", "0.bias_ih_l0", 1),
    "metadata twice": lambda h: h.replace('"gated_core"', '"gated_crc32": "00000000", "gated_core"', 1),
    "metadata that are no strings": lambda h: h.replace('"gated_version": "1"', '"gated_version": 1', 1),
    "a version in bits": lambda h: h.replace('"gated_version": "1"', '"gated_version": "\\u0031"', 1),
    "no version": lambda h: h.replace('"gated_version": "1", ', "", 1),
    "a tail": lambda h: h + "{}",
    "an escape that is none": lambda h: h.replace("kind", "\\x6bind", 1),
    "half an escape": lambda h: h.replace("kind", "\\u00", 1),
    "letters beyond ASCII": lambda h: h.replace("kind", "kïnd", 1),
    "an escape beyond ASCII": lambda h: h.replace("kind", "k\\u00efnd", 1),
    "a control character": lambda h: h.replace('"gated_version"', '"a": "\n", "gated_version"', 1),
}


@pytest.mark.parametrize("change", HEADERS.values(), ids=HEADERS.keys())
def test_headers_without_sense_are_refused(checked, path, change):
    before = path.read_bytes()
    assert repack(path, change).read_bytes() != before
    assert error(checked, path)


def test_an_altered_weight_is_a_broken_file(checked, path):
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    assert "broken" in error(checked, path)


def test_more_behind_the_tensors_is_a_broken_file(checked, path):
    path.write_bytes(path.read_bytes() + bytes(4))
    assert "broken" in error(checked, path)


def put_in_front(path, size):
    """The file with that many bytes as a tensor before all others."""
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    header, body = json.loads(content[8:start]), bytes(size) + content[start:]
    metadata = header.pop("__metadata__")
    for entry in header.values():
        entry["data_offsets"] = [size + offset for offset in entry["data_offsets"]]
    header = {"golden.q": {"dtype": "I8", "shape": [size], "data_offsets": [0, size]}, **header}
    crc = zlib.crc32((metadata["gated_layers"] + metadata["gated_core"] + metadata["gated_flags"]).encode())
    for name in sorted(header):
        crc = zlib.crc32(body[slice(*header[name]["data_offsets"])], crc)
    text = json.dumps({"__metadata__": metadata | {"gated_crc32": f"{crc:08x}"}, **header}).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)


@pytest.mark.parametrize(("size", "is_read"), [(1, False), (2, False), (4, True)])
def test_numbers_that_are_not_aligned_are_a_broken_file(checked, tmp_path, size, is_read):
    MODELS["lstm_bfloat16"].save(tmp_path / "m.gated")
    put_in_front(tmp_path / "m.gated", size)
    assert (run(checked, "describe", tmp_path / "m.gated").returncode == 0) == is_read
    assert gc.load(tmp_path / "m.gated").dtype == "bfloat16"


def test_two_tensors_of_one_name_are_a_broken_file(checked, path):
    one = np.float32([1])
    rewrite(path, lambda core: core, load_file(path) | {"golden.x": one, "golden.y": one})
    repack(path, lambda header: header.replace("golden.y", "golden.x"))
    assert "broken" in error(checked, path)


def test_a_shape_whose_product_overflows_is_a_broken_file(checked, path):
    rewrite(path, lambda core: core, load_file(path) | {"golden.x": np.zeros(0, np.float32)})
    repack(path, lambda header: header.replace("[0]", str([64] * 11)))  # 2^66 is 0 in 64 bits
    assert "broken" in error(checked, path)


def test_tensors_that_are_not_aligned_are_a_broken_file(checked, path):
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    path.write_bytes(struct.pack("<Q", start - 8 + 1) + content[8:start] + b" " + content[start:])
    assert "broken" in error(checked, path)


def test_other_metadata_and_their_escapes_are_left_alone(checked, path):
    more = '"gated_version": "1", "\\ud83d\\ude00": "\\b\\f\\n\\r\\t\\/\\\\ é", '
    repack(path, lambda header: header.replace('"gated_version": "1", ', more))
    assert run(checked, "describe", path).returncode == 0


def test_escapes_in_the_words_mean_what_they_stand_for(checked, path):
    repack(path, lambda header: header.replace("kind", "k\\u0069nd").replace("lstm", "lst\\u006D"))
    assert run(checked, "describe", path).returncode == 0


def test_a_header_of_any_depth_and_length_takes_little_time(checked, tmp_path):
    for text in (b"[" * 10_000_000, b'{"a":' * 2_000_000, b'{"' + b"\\" * 10_000_000, b"9" * 10_000_000):
        header = text + b" " * (-len(text) % 8)
        (tmp_path / "m.gated").write_bytes(struct.pack("<Q", len(header)) + header)
        assert "broken" in error(checked, tmp_path / "m.gated")


def test_many_tensors_take_little_time(checked, tmp_path):
    header = ", ".join(
        f'"golden.{n}": {{"dtype": "F32", "shape": [], "data_offsets": [{4 * n}, {4 * n + 4}]}}' for n in range(100_000)
    )
    header = f"{{{header}}}".encode()
    header += b" " * (-len(header) % 8)
    (tmp_path / "m.gated").write_bytes(struct.pack("<Q", len(header)) + header + bytes(400_000))
    assert "broken" in error(checked, tmp_path / "m.gated")


def test_a_stack_cannot_be_larger_than_its_file(program, path):
    """Under a limit of address space that what it claims would break."""

    def limit():
        resource.setrlimit(resource.RLIMIT_AS, (256 << 20, 256 << 20))

    claims = changed(count=2**31 - 1, hidden_size=2**24, input_size=2**24)
    done = run(program, "describe", rewrite(path, claims), preexec_fn=limit)
    assert b"broken" in done.stderr


WRAPPED = [f"-Wl,--wrap={name}" for name in ("malloc", "calloc", "aligned_alloc")]


@pytest.mark.parametrize("name", ["gcc", "clang"])
def test_damage_at_every_byte_ends_in_a_status_and_takes_little_memory(tmp_path, name):
    """With Clang under its sanitizers."""
    cc = compiler(name)
    if cc is None:
        pytest.skip(f"needs {name}")
    sanitize = SANITIZE if name == "clang" else ()
    program = build(cc, "tests/c/damaged_file.c", tmp_path, link=WRAPPED, sanitize=sanitize)
    packed = ("projected", "embedding_of_mask", "embedding_int8")
    for model in (*packed, "lstm_general", "conv", "reshape", "lstm_bfloat16", "peepholes_int8_bfloat16"):
        MODELS[model].save(tmp_path / model, packed=model in packed)
        done = run(program, tmp_path / model)
        assert done.returncode == 0, (model, done.stdout, done.stderr)


def test_fuzzing_starts_from_models_that_are_read(tmp_path):
    if compiler("clang") is None:
        pytest.skip("needs clang")
    fuzzer = build_fuzzer(tmp_path)
    (tmp_path / "corpus").mkdir()
    write_corpus(tmp_path / "corpus")
    found = sorted(Path(__file__).parent.glob("c/found/*"))
    done = run(fuzzer, "-runs=0", tmp_path / "corpus", *found)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
