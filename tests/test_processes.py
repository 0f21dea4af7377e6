"""Models, streams and pools in other processes and in many threads: the same bits, and no hang."""

import multiprocessing
import pickle
import shutil
import subprocess
import sys
import sysconfig
import threading
import time
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
from conftest import random_spec, same_bits
from safetensors.numpy import save_file

import gated_c as gc
from gated_c.layers import Dense

STARTS = ["fork", "forkserver", "spawn"]
PATIENCE = 60  # seconds, after which a process has hung
STEPS, ROWS, C, H = 20, 3, 5, 24

#: A fork copies only the thread that calls it, of which Python warns since 3.12: that this is fine is tested here.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


def make(cell="gru", hidden_size=H, **options):
    rng = np.random.default_rng(0)
    dense = Dense(rng.uniform(-1, 1, (4, hidden_size)).astype(np.float32))
    return gc.Model([random_spec(rng, cell, C, hidden_size, **options), dense])


def inputs(steps=STEPS, rows=ROWS):
    return np.random.default_rng(1).standard_normal((steps, rows, C)).astype(np.float32)


def use(model, x):
    """y of whole sequences, of a stream, and of a pool whose members tick in turns."""
    stream, pool = model.stream(x.shape[1]), model.pool(x.shape[1])
    ids = np.array([pool.open() for _ in range(x.shape[1])])
    steps = [stream.step(x_t).copy() for x_t in x]
    ticks = [np.stack([pool.step(member, row).copy() for member, row in zip(ids, x_t, strict=True)]) for x_t in x]
    return np.stack([model(x)[0], np.stack(steps), np.stack(ticks)])


def expected_of(model, x):
    y = model(x)[0]
    return np.stack([y, y, y])


def step_on(stream, x):
    """The stream itself comes back, wherever it went on."""
    return np.stack([stream.step(x_t).copy() for x_t in x]), stream


def report(connection, function, args):
    connection.send(function(*args))


def run_in(start, function, *args):
    """What a function returns in a process of its own; one that hangs is ended, and fails the test."""
    context = multiprocessing.get_context(start)
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=report, args=(theirs, function, args), daemon=True)
    process.start()
    theirs.close()  # so that the end of the process is the end of the pipe
    try:
        assert ours.poll(PATIENCE), "the process hangs"
        return ours.recv()
    finally:
        process.kill()
        process.join()


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("processes") / "m.gated"
    make().save(path)
    return path


@pytest.fixture(params=["bytes", "path"])
def model(request, path):
    return gc.load(path, pickle=request.param)


@pytest.mark.parametrize("start", STARTS)
def test_workers_call_stream_and_pool_a_model(start, model):
    x = inputs()
    assert same_bits(run_in(start, use, model, x), expected_of(model, x))


@pytest.mark.parametrize("start", STARTS)
def test_a_stream_goes_on_in_a_worker_and_comes_back(start, model):
    x = inputs()
    y, stream = model(x)[0], model.stream(ROWS)
    step_on(stream, x[:5])
    there, stream = run_in(start, step_on, stream, x[5:10])
    here, _ = step_on(stream, x[10:])
    assert same_bits(np.concatenate([there, here]), y[5:])


@pytest.mark.parametrize("start", STARTS)
def test_an_executor_maps_over_inputs(start, model):
    batches = [inputs(steps) for steps in (3, 7, 11, 2)]
    executor = ProcessPoolExecutor(2, multiprocessing.get_context(start))
    try:
        results = list(executor.map(use, [model] * 4, batches, timeout=PATIENCE))
    finally:
        workers = list(executor._processes.values())
        executor.shutdown(wait=False, cancel_futures=True)
        for worker in workers:
            worker.join(PATIENCE)
            worker.kill()
    for result, x in zip(results, batches, strict=True):
        assert same_bits(result, expected_of(model, x))


class Looping:
    """A thread that does something over and over, most of it without the GIL."""

    def __init__(self, action):
        self._stop, self.started = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, args=(action,))

    def _run(self, action):
        while not self._stop.is_set():
            self.started.set()
            action()

    def __enter__(self):
        self._thread.start()
        assert self.started.wait(PATIENCE)

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()


def test_a_fork_while_threads_are_inside_calls():
    model = make("lstm", 128)
    x, long = inputs(), inputs(400, 8)
    stream, pool = model.stream(8), model.pool(8)
    ids = np.array([pool.open() for _ in range(8)])
    expected = use(model, x)
    loops = [
        Looping(lambda: model(long)),
        Looping(lambda: stream.run(long)),
        Looping(lambda: [pool.step(ids, x_t) for x_t in long]),
        Looping(lambda: make().stream().step(x[0, :1])),  # malloc's locks
    ]
    with loops[0], loops[1], loops[2], loops[3]:
        for _ in range(8):
            assert same_bits(run_in("fork", use, model, x), expected)


def told_in_use(stream):
    try:
        stream.step(inputs(1, 8)[0])
    except RuntimeError as error:
        return str(error)
    return "went on"


def test_a_stream_that_was_inside_a_call_at_the_fork_is_in_use_for_ever():
    stream = make("lstm", 128).stream(8)
    long = inputs(4000, 8)
    with Looping(lambda: stream.run(long)):
        answers = {run_in("fork", told_in_use, stream) for _ in range(5)}
    assert "stream: in use by another thread; a stream belongs to one thread at a time" in answers
    assert told_in_use(stream) == "went on"


def expect_in_use(error, what):
    assert str(error) == f"{what}: in use by another thread; a {what} belongs to one thread at a time"


def in_threads(count, work):
    """Run work(n) in so many threads at once; returns what each returned."""
    results, ready = [None] * count, threading.Barrier(count)

    def run(n):
        ready.wait(PATIENCE)
        results[n] = work(n)

    threads = [threading.Thread(target=run, args=(n,), daemon=True) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert not any(thread.is_alive() for thread in threads), "a thread hangs"
    return results


@pytest.fixture
def busy_interpreter():
    """Threads take turns as often as they can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("busy_interpreter")
@pytest.mark.parametrize("hidden_size", [8, 128])  # without and with the GIL released
def test_threads_with_streams_and_pools_of_their_own_share_a_model(hidden_size):
    model, x = make("lstm", hidden_size), inputs()
    expected = expected_of(model, x)
    results = in_threads(8, lambda n: [use(model, x[:, : 1 + n % ROWS]) for _ in range(10)])
    for n, result in enumerate(results):
        assert all(same_bits(y, expected[:, :, : 1 + n % ROWS]) for y in result)


@pytest.mark.usefixtures("busy_interpreter")
@pytest.mark.parametrize("hidden_size", [8, 128])
def test_threads_that_share_a_stream_get_whole_steps_or_are_told(hidden_size):
    """Every step that is not refused is one of the steps that one thread alone would have made."""
    model = make("lstm", hidden_size)
    stream, x = model.stream(), inputs(1, 1)[0]
    alone = model.stream()

    def work(_):
        done = []
        for _ in range(300):
            try:
                done.append(stream.step(x, np.empty((1, 4), np.float32)).tobytes())
            except RuntimeError as error:
                expect_in_use(error, "stream")
        return done

    steps = [y for done in in_threads(4, work) for y in done]
    assert sorted(steps) == sorted(alone.step(x).tobytes() for _ in steps)


@pytest.mark.usefixtures("busy_interpreter")
@pytest.mark.parametrize("hidden_size", [8, 128])
def test_threads_that_share_a_pool_get_whole_ticks_or_are_told(hidden_size):
    model = make("gru", hidden_size)
    pool, x = model.pool(64), inputs(5, 16)
    expected = model(x)[0]

    def work(n):
        """All ticks of new members, in vectors of a length of its own, so that buffers change hands."""
        rows = 1 + n * 5
        ids = [insist(pool.open) for _ in range(rows)]
        ys = [insist(pool.step, ids, x_t[:rows], np.empty((rows, 4), np.float32)) for x_t in x]
        for x_t in x:
            insist(pool.step, ids, x_t[:rows])
        insist(pool.close, ids)
        return same_bits(np.stack(ys), expected[:, :rows])

    def insist(call, *args):
        while True:
            try:
                return call(*args)
            except RuntimeError as error:
                expect_in_use(error, "pool")
                time.sleep(1e-5)

    assert in_threads(4, work) == [True] * 4
    assert len(pool) == 0


@pytest.mark.skipif(not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="needs a free-threaded Python")
def test_a_free_threaded_python_stays_one():
    program = "import sys, gated_c; sys.exit(sys._is_gil_enabled())"
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)


def test_a_path_is_all_that_is_pickled(path):
    model = gc.load(path, pickle="path", flush_subnormals=True)
    pickled = pickle.dumps(model)
    other = pickle.loads(pickled)
    assert len(pickled) < 400 + len(str(path))
    assert len(pickle.dumps(other)) == len(pickled)
    assert (other.flush_subnormals, len(other.layers)) == (True, 2)
    assert same_bits(other(inputs())[0], model(inputs())[0])


def test_what_was_asked_for_is_asked_for_again(tmp_path):
    lstm = random_spec(np.random.default_rng(0), "rnn_tanh", C, H, name="encoder")
    gc.Model([lstm, Dense(np.ones((2, H), np.float32))]).save(tmp_path / "m.gated")
    options = {"prefix": "encoder", "batch_first": True, "nonlinearity": "relu"}
    model = pickle.loads(pickle.dumps(gc.load(tmp_path / "m.gated", pickle="path", **options)))
    assert (len(model.layers), model.batch_first, model.recurrent[0].cell) == (1, True, "rnn_relu")


def test_a_path_is_absolute(tmp_path, monkeypatch):
    make().save(tmp_path / "m.gated")
    monkeypatch.chdir(tmp_path)
    pickled = pickle.dumps(gc.load("m.gated", pickle="path"))
    monkeypatch.chdir("/")
    assert pickle.loads(pickled).output_size == 4


def test_a_file_that_is_gone_or_another_is_refused(tmp_path, path):
    copied = tmp_path / "m.gated"
    shutil.copy(path, copied)
    pickled = pickle.dumps(gc.load(copied, pickle="path"))
    make("lstm").save(copied)
    with pytest.raises(gc.FormatError, match=r"m\.gated: expected the file that a model was pickled from, \w{8}, got"):
        pickle.loads(pickled)
    whole = bytearray(path.read_bytes())
    whole[-1] ^= 1
    copied.write_bytes(whole)
    with pytest.raises(gc.FormatError, match="altered"):
        pickle.loads(pickled)
    copied.unlink()
    with pytest.raises(FileNotFoundError, match="a model was pickled as this path, and the file is gone"):
        pickle.loads(pickled)


def test_only_gated_files_are_pickled_as_paths(tmp_path):
    path = tmp_path / "m.safetensors"
    save_file({f"gru.{name}": weight for name, weight in make().recurrent[0].weights.items()}, path)
    with pytest.raises(ValueError, match="pickle: expected 'bytes' for this kind of file"):
        gc.load(path, pickle="path")
    with pytest.raises(ValueError, match="pickle: expected 'bytes' or 'path', got 'mapping'"):
        gc.load(path, pickle="mapping")
