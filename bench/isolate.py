"""A shape in a process of its own, so that an engine that crashes or hangs takes only its own figure with it."""

from __future__ import annotations

import multiprocessing
import traceback
from collections.abc import Mapping
from multiprocessing.connection import Connection
from typing import Any

from bench.contest import Task, Watch
from bench.peers import silence
from bench.table import Result

#: Room for the label of the entrant that has its turn.
LABEL_BYTES = 200

#: What takes long to import is loaded once, by the server that children are forked from. Not gated_c, which stays on
#: one thread in the forks of a process that has loaded it.
PRELOADED = ["torch", "onnx", "onnxruntime.quantization", "openvino", "ai_edge_litert.interpreter", "keras"]


def run_isolated(task: Task, timeout: float) -> list[Result]:
    """Measure in a child; again without whoever crashed it or kept it for more than ``timeout`` seconds.

    Raises ``RuntimeError`` if the measurement itself fails.
    """
    crashed: dict[str, str] = {}
    while True:
        answer, label = in_child(task, crashed, timeout)
        if isinstance(answer, list):
            return answer
        if not label or label in crashed:
            raise RuntimeError(f"{task.set}, {task.shape}: {answer}")
        crashed[label] = answer


def in_child(task: Task, crashed: Mapping[str, str], timeout: float) -> tuple[list[Result] | str, str]:
    """The results, or what happened to the child while the entrant of the label had its turn."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    label: Any = context.Array("c", LABEL_BYTES, lock=False)
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=measure, args=(task, crashed, label, sender), daemon=True)
    child.start()
    sender.close()
    try:
        answer = receiver.recv() if receiver.poll(timeout) else f"has not ended after {timeout:.0f} s"
    except EOFError:
        child.join()
        answer = f"has ended the process with code {child.exitcode}"
    child.kill()
    child.join()
    return answer, label.value.decode()


def measure(task: Task, crashed: Mapping[str, str], label: Any, sender: Connection) -> None:
    """In the child, without what libraries have to say on stderr."""

    def begins(name: str) -> None:
        label.value = name.encode()[: LABEL_BYTES - 1]

    with silence():
        try:
            answer: list[Result] | str = task.run(Watch(begins, crashed))
        except Exception:
            label.value = b""
            answer = traceback.format_exc()
    sender.send(answer)
