"""The programs in C and C++ of examples/: they give the bits of Python, and say what is wrong with their input."""

import io
import os
import select
import struct
import subprocess
import sys
import wave
from importlib import import_module

import numpy as np
import pytest

import gated_c as gc
from tests.build_core import ROOT, SANITIZE, compiler

EXAMPLES = ROOT / "examples"
DENOISER = EXAMPLES / "denoise.gated"
RATE = 8000


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)


@pytest.fixture(scope="session")
def programs(library_build):
    """The folder of `make examples`."""
    if compiler("c++") is None:
        pytest.skip("needs c++")
    flags = ["CFLAGS=-Werror", "CXXFLAGS=-Werror", f"BUILD={library_build}"]
    subprocess.run(["make", "-s", "-C", ROOT, "examples", *flags], check=True)
    return library_build


@pytest.fixture
def denoise(programs):
    """Run the denoiser on bytes."""
    return lambda data, model=DENOISER: run(programs / "denoise", data, model)


def run(program, data, *arguments):
    return subprocess.run([program, *arguments], input=data, capture_output=True, timeout=30)


def complaint(result, name="denoise"):
    """What a program that failed says."""
    assert result.returncode == 1
    text = result.stderr.decode()
    assert text.startswith(f"{name}: ")
    assert text.count("\n") == 1
    return text


def noise(samples):
    """16-bit samples, some of them the loudest."""
    values = np.random.default_rng(0).normal(0, 3000, samples)
    values[::7] *= 100
    return np.clip(values, -32768, 32767).astype("<i2")


def wav(samples, **options):
    """A plain file, written by Python."""
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(options.get("channels", 1))
        writer.setsampwidth(options.get("width", 2))
        writer.setframerate(options.get("rate", RATE))
        writer.writeframes(samples.tobytes())
    return file.getvalue()


def chunk(name, content):
    """A chunk as a file has it: padded to an even length."""
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def riff(*chunks):
    content = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(content)) + content


def form(tag=1, channels=1, rate=RATE, bits=16):
    align = channels * bits // 8
    return struct.pack("<HHIIHH", tag, channels, rate, rate * align, align, bits)


EXTENSIBLE = form(tag=0xFFFE) + struct.pack("<HHIH", 22, 16, 4, 1) + bytes.fromhex("000000001000800000aa00389b71")
FORMAT = chunk(b"fmt ", form())


def denoised(samples):
    """The WAV that denoise.py makes of 16-bit samples."""
    example = import_module("denoise")
    y = example.denoise(gc.load(DENOISER), samples[None] / np.float32(32768))[0]
    return wav(np.clip(np.rint(y * np.float32(32768)), -32768, 32767).astype("<i2"))


@pytest.mark.parametrize("length", [0, 1, 15, 16, 17, 239, 240, 241, 255, 256, 257, 512, 5000])
def test_the_denoiser_writes_the_bytes_of_python(denoise, length):
    samples = noise(length)
    result = denoise(wav(samples))
    assert (result.returncode, result.stderr) == (0, b"")
    assert result.stdout == denoised(samples)


def test_both_denoisers_make_the_same_of_the_noisy_file_of_the_readme(denoise, tmp_path):
    noisy, clean = tmp_path / "noisy.wav", tmp_path / "clean.wav"
    subprocess.run([sys.executable, EXAMPLES / "tones.py", noisy], check=True)
    subprocess.run([sys.executable, EXAMPLES / "denoise.py", noisy, clean], check=True, env=with_package())
    assert denoise(noisy.read_bytes()).stdout == clean.read_bytes()


def with_package():
    """An environment in which Python runs this gated_c."""
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def test_the_denoiser_writes_as_it_reads(programs):
    data, late = wav(noise(1024)), 16
    command = [programs / "denoise", DENOISER]
    with subprocess.Popen(command, bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
        program.stdin.write(data[: 44 + 2 * 512])
        got = b""
        while len(got) < 44 + 2 * (512 - late) and select.select([program.stdout], [], [], 10)[0]:
            got += program.stdout.read(4096)
        program.stdin.write(data[44 + 2 * 512 :])
        program.stdin.close()
        assert len(got) == 44 + 2 * (512 - late)
        assert got + program.stdout.read() == denoised(noise(1024))


@pytest.mark.parametrize(
    "chunks",
    [
        [chunk(b"JUNK", b"x" * 27), FORMAT, chunk(b"LIST", b"y" * 5000), chunk(b"fact", bytes(4))],
        [chunk(b"fmt ", form() + bytes(2))],
        [chunk(b"fmt ", form() + bytes(101))],
        [chunk(b"fmt ", EXTENSIBLE)],
    ],
    ids=["other chunks", "18 bytes", "117 bytes", "extensible"],
)
def test_the_denoiser_reads_what_other_programs_write(denoise, chunks):
    samples = noise(300)
    data = riff(*chunks, chunk(b"data", samples.tobytes()), chunk(b"LIST", b"not sound"))
    result = denoise(data)
    assert (result.returncode, result.stderr) == (0, b"")
    assert result.stdout == denoised(samples)


def test_a_length_that_was_unknown_ends_with_the_file(denoise):
    samples = noise(300)
    unknown = b"\xff\xff\xff\xff"
    result = denoise(b"RIFF" + unknown + b"WAVE" + FORMAT + b"data" + unknown + samples.tobytes())
    assert (result.returncode, result.stderr) == (0, b"")
    expected = bytearray(denoised(samples))
    expected[4:8] = expected[40:44] = unknown
    assert result.stdout == expected


def test_of_a_file_that_is_cut_short_the_rest_is_there(denoise):
    samples = noise(1000)
    result = denoise(wav(samples)[: 44 + 2 * 700 + 1])
    assert "cut short" in complaint(result)
    assert result.stdout[44:] == denoised(samples[:700])[44:]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a WAV file"),
        (b"RIFF", "not a WAV file"),
        (b"OggS" + bytes(100), "not a WAV file"),
        (b"RIFX" + wav(noise(8))[4:], "not a WAV file"),
        (wav(noise(8))[:40], "ends before its samples"),
        (riff(FORMAT), "ends before its samples"),
        (riff(FORMAT, chunk(b"JUNK", b"")[:4] + b"\xff\xff\xff\xff"), "ends before its samples"),
        (riff(chunk(b"data", bytes(8)), FORMAT), "samples come before their format"),
        (riff(chunk(b"fmt ", form()[:14]), chunk(b"data", bytes(8))), "broken format"),
        (riff(chunk(b"fmt ", form(tag=3, bits=32)), chunk(b"data", bytes(8))), "got format 3, 1 channels, 32 bits"),
        (riff(chunk(b"fmt ", form(tag=0xFFFE)), chunk(b"data", bytes(8))), "got format 0, 1 channels, 16 bits"),
        (wav(noise(8), channels=2), "expected mono PCM of 16 bits, got format 1, 2 channels, 16 bits"),
        (wav(noise(9), width=3), "got format 1, 1 channels, 24 bits"),
        (wav(noise(8), rate=44100), "expected 8000 samples a second, got 44100"),
    ],
)
def test_the_denoiser_says_what_is_wrong_with_its_input(denoise, data, message):
    result = denoise(data)
    assert message in complaint(result)
    assert result.stdout == b""


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("none.gated", "none.gated: No such file or directory"),
        (EXAMPLES / "README.md", "not a .gated file"),
        (EXAMPLES / "digits.gated", "expected a network that takes windows of 64 samples and gives 16"),
        (EXAMPLES / "co2.gated", "expected a network"),
    ],
)
def test_the_denoiser_says_what_is_wrong_with_its_network(denoise, model, message):
    assert message in complaint(denoise(wav(noise(8)), model))


def test_the_denoiser_says_that_it_cannot_write(programs):
    with open("/dev/full", "wb") as full:
        result = subprocess.run(
            [programs / "denoise", DENOISER], input=wav(noise(300)), stdout=full, stderr=subprocess.PIPE
        )
    assert complaint(result) == "denoise: output: No space left on device\n"


@pytest.mark.parametrize("program", ["denoise", "two_threads"])
def test_without_a_network_a_program_says_how_it_is_used(programs, program):
    result = run(programs / program, b"")
    assert result.returncode == 2
    assert result.stderr.decode().startswith(f"usage: {program} MODEL <")


def test_no_input_whatever_breaks_the_reader_of_wav_files(programs, tmp_path):
    if compiler("clang") is None:
        pytest.skip("needs clang")
    sources = [EXAMPLES / "c" / "denoise.c", EXAMPLES / "c" / "wav.c", programs / "libgated_c.a"]
    program = tmp_path / "denoise"
    subprocess.run(["clang", *SANITIZE, f"-I{gc.get_include()}", *sources, "-lm", "-o", program], check=True)
    rng = np.random.default_rng(0)
    whole = riff(chunk(b"JUNK", b"abc"), chunk(b"fmt ", EXTENSIBLE), chunk(b"data", noise(20).tobytes()))
    inputs = [whole[:length] for length in range(0, len(whole), 3)]
    for _ in range(100):
        damaged = np.frombuffer(whole, np.uint8).copy()
        damaged[rng.integers(0, len(whole) - 40, 2)] = rng.choice([0, 1, 127, 128, 255], 2)
        inputs.append(damaged.tobytes())
    for data in inputs:
        result = run(program, data, DENOISER)
        assert result.returncode == 0 or complaint(result), data


def text(sequences):
    """Sequences [T, C] as lines."""
    return "".join(" ".join(f"{value:.9g}" for value in sequence.ravel()) + "\n" for sequence in sequences)


def scored(model, sequences):
    """What two_threads.py prints."""
    example = import_module("two_threads")
    scores = [example.score(gc.load(model), sequence) for sequence in sequences]
    return text(scores)


@pytest.mark.parametrize("count", [0, 1, 2, 31, 100])
@pytest.mark.parametrize("name", ["digits", "sunspots"])
def test_two_threads_print_the_numbers_of_python(programs, name, count):
    rng = np.random.default_rng(count)
    model = EXAMPLES / f"{name}.gated"
    features = gc.load(model).input_size
    sequences = [rng.random((rng.integers(1, 30), features), np.float32) for _ in range(count)]
    result = run(programs / "two_threads", text(sequences).encode(), model)
    assert (result.returncode, result.stderr) == (0, b"")
    assert result.stdout.decode() == scored(model, sequences)


def test_both_two_threads_make_the_same_of_the_digits(programs):
    data = pytest.importorskip("sklearn.datasets").load_digits().data / 16
    file = io.BytesIO()
    np.savetxt(file, data, "%g")
    model = EXAMPLES / "digits.gated"
    command = [sys.executable, EXAMPLES / "two_threads.py", model]
    expected = subprocess.run(command, input=file.getvalue(), env=with_package(), capture_output=True, check=True)
    assert expected.stdout.count(b"\n") == len(data)
    assert run(programs / "two_threads", file.getvalue(), model).stdout == expected.stdout


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"1 2 3\n", "line 1: expected steps of 8 numbers, got: 1 2 3"),
        (b"1 2 3 4 5 6 7 8\n\n", "line 2: expected steps of 8 numbers"),
        (b"1 2 3 4 5 6 7 x\n", "got: 1 2 3 4 5 6 7 x"),
        (bytes(1000), "expected steps of 8 numbers"),
    ],
)
def test_two_threads_say_what_is_wrong_with_their_input(programs, data, message):
    result = run(programs / "two_threads", data, EXAMPLES / "digits.gated")
    assert message in complaint(result, "two_threads")
    assert result.stdout == b""


@pytest.mark.parametrize(
    ("model", "message"), [("none.gated", "cannot be opened"), (EXAMPLES / "co2.gated", "step by step")]
)
def test_two_threads_say_what_is_wrong_with_their_network(programs, model, message):
    assert message in complaint(run(programs / "two_threads", b"", model), "two_threads")
