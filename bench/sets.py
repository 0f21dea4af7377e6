"""The shape sets by name, each as the tasks it consists of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from bench import deepbench, native, network, pool, ragged, resets, startup
from bench.contest import Options, Task, compare
from bench.shapes import shapes


def listed(name: str, options: Options) -> Iterator[Task]:
    """The layers of a set in ``shapes.csv``."""
    for case in shapes(options.quick)[name]:
        yield Task(name, str(case), partial(compare, name, case, options))


SETS: dict[str, Callable[[Options], Iterator[Task]]] = {
    "step": partial(listed, "step"),
    "sequence": partial(listed, "sequence"),
    "batched": partial(listed, "batched"),
    "ragged": ragged.tasks,
    "resets": resets.tasks,
    "stacked": partial(listed, "stacked"),
    "pool": pool.tasks,
    "deepbench": deepbench.tasks,
    "network": network.tasks,
    "native": native.tasks,
    "startup": startup.tasks,
}
