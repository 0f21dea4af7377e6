from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gated_c.layers import Layer
from gated_c.spec import Activation

_Floats = npt.NDArray[np.float32]

class Engine:
    input_size: int
    output_size: int
    takes_ids: bool
    isa: str
    packed_bytes: int

    def __init__(self, layers: Sequence[Layer]) -> None: ...
    def state_size(self, batch: int) -> int: ...
    def initial_state(self, batch: int) -> _Floats: ...
    def run(
        self,
        x: npt.NDArray[Any],
        y: _Floats,
        state: _Floats,
        lengths: npt.NDArray[np.int64] | None = None,
        mask: npt.NDArray[np.bool_] | None = None,
        reset: npt.NDArray[np.bool_] | None = None,
        initial: _Floats | None = None,
        trace: dict[str, _Floats] | None = None,
    ) -> None: ...
    def run_packed(self, x: _Floats, y: _Floats, state: _Floats, batch_sizes: npt.NDArray[np.int64]) -> None: ...

class StreamEngine:
    engine: Engine
    batch: int

    def __new__(cls, engine: Engine, batch: int, squeezed: bool, *args: Any) -> StreamEngine: ...
    def step(self, x: Any, out: _Floats | None = None) -> _Floats: ...
    def _run_steps(self, x: npt.NDArray[Any], y: _Floats) -> None: ...
    def _reset(self, rows: npt.NDArray[np.uint8]) -> None: ...
    def _read_state(self, flat: _Floats) -> None: ...
    def _write_state(self, flat: _Floats) -> None: ...

def list_isas() -> list[tuple[str, int, bool, bool]]: ...
def chosen_isa() -> str: ...
def activate(activation: Activation, isa: str, x: _Floats) -> _Floats: ...
