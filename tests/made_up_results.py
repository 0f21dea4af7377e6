"""A small file of benchmark results, made up."""

from bench.table import Result, Skip, Time, Timing, write_json

ABOUT = {
    "machine": {"cpu": "Some CPU", "isa": "avx2", "torch": "2.13", "litert": "not installed"},
    "options": {"sets": ["step", "sequence", "deepbench"], "dtypes": ["float32"], "threads": [1, 2], "quick": True},
    "peaks": [{"threads": 1, "gmacs": {"float32": 55.5}, "bandwidth": [[16384, 200], [24576, 190], [4194304, 30]]}],
}


def time(microseconds, engine="gated_c", role="engine", **others):
    return Time(engine, Timing(microseconds, 0.9 * microseconds, 1.2 * microseconds, 5), role, **others)


def result(name, hidden_size, times, *, cell="lstm", batch=1, seq_len=1, unit="µs per step", **others):
    case = {"cell": cell, "input_size": hidden_size, "hidden_size": hidden_size, "num_layers": 1}
    case |= {"bidirectional": False, "batch": batch, "seq_len": seq_len}
    shape = f"{cell.upper()} H={hidden_size} B={batch} T={seq_len}"
    return Result(name, shape, unit, tuple(times), case=case | others.pop("case", {}), **others)


def step(hidden_size):
    """The engine in two precisions on one thread and two, two peers and the bound."""
    unit = hidden_size / 16
    times = [
        time(unit),
        time(unit / 1.5, threads=2),
        time(unit / 2, dtype="int8"),
        time(unit / 4, dtype="int8", variant="inputs float32"),
        time(2 * unit, "torch", "peer"),
        time(0.5 * unit, "torch", "peer", threads=2),
        time(3 * unit, "litert", "peer"),
        time(unit, "litert", "peer", dtype="int8"),
        time(0.8 * unit, "roofline", "bound"),
        time(0.4 * unit, "roofline", "bound", threads=2),
    ]
    return result("step", hidden_size, times, skipped=(Skip("openvino", "not installed"),))


def published(hidden_size):
    times = [time(40), time(20, threads=2), time(10, dtype="int8"), time(30, "Titan Xp", "published")]
    return result("deepbench", hidden_size, times, seq_len=50)


RESULTS = [
    step(16),
    step(64),
    result("sequence", 16, [time(2), time(3, "torch", "peer")], seq_len=128),
    result("sequence", 64, [time(9), time(8, "torch", "peer", variant="cell")], seq_len=128),
    result("sequence", 64, [time(9)], seq_len=128, case={"input_size": 1}),
    published(256),
]


def write(path, results=RESULTS):
    write_json(ABOUT, results, path)
    return path
