"""Tracing of a module's ``forward`` by ``torch.fx``, with every value worked out as it comes up."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import fx, nn
from torch.nn.utils import rnn

from gated_c.errors import UnsupportedError
from gated_c.loaders.torch.flow import Flow
from gated_c.loaders.torch.layers import MODULES
from gated_c.loaders.torch.state_dict import join
from gated_c.loaders.torch.values import IN_PLACE_OPERATORS, Failure, Values, operation

_PACKING = (rnn.pack_padded_sequence, rnn.pad_packed_sequence)


class PathTracer(fx.Tracer):  # type: ignore[misc, unused-ignore]
    """Traces a module, given what its first argument is; arguments with a default keep it.

    Nothing is added to the module. As ``torch.fx`` does, it patches PyTorch's classes meanwhile.
    """

    def __init__(self, start: Flow) -> None:
        super().__init__(autowrap_functions=_PACKING)
        self.values = Values(start)
        self._failed_in = "forward"

    def result_of(self, module: Any) -> Any:
        """What ``forward`` returns. Raises ``UnsupportedError`` where it cannot be traced."""
        _check(module)
        try:
            with ExitStack() as patches:
                patches.enter_context(_as_in_eval(module))
                patches.enter_context(_without_random_numbers())
                for patched in self._patches():
                    patches.enter_context(patched)
                self.trace(module)
        except UnsupportedError:
            raise
        except Exception as error:
            line = _line(reversed(list(traceback.walk_tb(error.__traceback__))))
            raise UnsupportedError(f"{self._failed_in}{line}: cannot be traced: {error}") from error
        *_, result = self.values.values()
        return result

    def _patches(self) -> Iterator[Any]:
        """Calls are recorded as a whole however the code spells them, such as ``super().forward(x)``."""
        yield _replaced(fx.Proxy, "__len__", lambda obj: self.length_of(obj))
        for function in IN_PLACE_OPERATORS:
            yield _replaced(fx.Proxy, f"__{function.__name__}__", self._recorded(function))
        for kind in MODULES:
            yield _replaced(kind, "forward", self._recorded(kind.forward))
        for function in _PACKING:
            yield _replaced(rnn, function.__name__, self._recorded(function))

    def _recorded(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def record(*args: Any, **kwargs: Any) -> Any:
            if not any(isinstance(value, fx.Proxy) for value in (*args, *kwargs.values())):
                return function(*args, **kwargs)
            if isinstance(args[0], nn.Module):
                return self.create_proxy("call_module", self.path_of_module(args[0]), args[1:], kwargs)
            return self.create_proxy("call_function", function, args, kwargs)

        return record

    # What fx.Tracer asks of a tracer

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return False

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        failed_before, self._failed_in = self._failed_in, _shown(self.path_of_module(m), type(m))
        result = super().call_module(m, forward, args, kwargs)
        self._failed_in = failed_before
        return result

    def create_args_for_root(self, root_fn: Any, is_module: bool, concrete_args: Any = None) -> tuple[Any, list[Any]]:
        first, *others = list(inspect.signature(root_fn).parameters.values())[1:]
        x = self.create_proxy("placeholder", first.name, (), {})
        given = {
            p.name: self.create_proxy("placeholder", p.name, (), {}) if p.default is p.empty else p.default
            for p in others
            if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
        }
        return partial(root_fn, **given), [self.root, x]

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: Any) -> Any:
        return attr_val

    def create_arg(self, a: Any) -> Any:
        if isinstance(a, torch.Tensor):
            target = f"constant_{len(self.values.constants)}"
            self.values.constants[target] = a
            return self.create_node("get_attr", target, (), {})
        return super().create_arg(a)

    def create_node(self, kind: str, target: Any, args: Any, kwargs: Any, *more: Any, **options: Any) -> fx.Node:
        node = super().create_node(kind, target, args, kwargs, *more, **options)
        module = self.root.get_submodule(target) if kind == "call_module" else None
        if self.values.writes_into_constant(node):
            raise UnsupportedError(f"{self._place_of(node)}: writes into a constant tensor")
        try:
            self.values[node] = self.values.value(node, module, self._name_of(node))
        except UnsupportedError as error:
            self.values[node] = Failure(UnsupportedError(f"{self._place_of(node)}: {error}"))
        return node

    def to_bool(self, obj: fx.Proxy) -> bool:
        value = self.values.known(obj.node)
        if not isinstance(value, bool | int):
            raise UnsupportedError(f"{self._place_of(obj.node)}: decides by what only the data tells")
        return bool(value)

    def iter(self, obj: Any) -> Iterator[Any]:
        return iter([obj[at] for at in range(self.length_of(obj))])

    def length_of(self, obj: fx.Proxy) -> int:
        value = self.values.known(obj.node)
        if not isinstance(value, tuple | list):
            raise UnsupportedError(f"{self._place_of(obj.node)}: needs a length that only the data tells")
        return len(value)

    # Places

    def _name_of(self, node: fx.Node) -> str:
        """The path of a module of torch.nn, else the graph's name for the call behind that of the module around it."""
        path = self.scope.module_path
        return path if node.op == "call_module" or _is_torch(self.scope.module_type) else join(path, node.name)

    def _place_of(self, node: fx.Node) -> str:
        kind = self.scope.module_type
        if node.op == "call_module" or _is_torch(kind):
            return _shown(self.scope.module_path, kind or type(self.root))
        return operation(node) + _line(traceback.walk_stack(None))


def _check(module: nn.Module) -> None:
    for path, part in module.named_modules():
        where = f"{_shown(path, type(part))}: " if path else ""
        if "quantized" in type(part).__module__.split("."):
            raise UnsupportedError(f"{where}quantised; pass the float model that it was made from")
        if isinstance(part, torch.jit.ScriptModule):
            raise UnsupportedError(f"{where}compiled; pass the module that it was made from")
    if module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module):
        raise UnsupportedError("hooks, or a forward of this one module; expected that of its class alone")


@contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    own = vars(owner).get(name)  # not what it inherits
    setattr(owner, name, value)
    try:
        yield
    finally:
        if own is None:
            delattr(owner, name)
        else:
            setattr(owner, name, own)


@contextmanager
def _without_random_numbers() -> Iterator[None]:
    before = torch.get_rng_state()
    yield
    if not torch.equal(before, torch.get_rng_state()):
        raise UnsupportedError("forward draws random numbers")


@contextmanager
def _as_in_eval(module: nn.Module) -> Iterator[None]:
    """Not training, and afterwards with the attributes of before, whatever ``forward`` sets."""
    attributes = {part: dict(vars(part)) for part in module.modules()}
    try:
        for part in attributes:
            part.training = False
        yield
    finally:
        for part, before in attributes.items():
            vars(part).clear()
            vars(part).update(before)


def _is_torch(kind: Any) -> bool:
    return getattr(kind, "__module__", "").partition(".")[0] == "torch"


def _shown(path: str, kind: type) -> str:
    return f"{path} ({kind.__name__})" if path else kind.__name__


def _line(innermost_first: Iterable[tuple[FrameType, int]]) -> str:
    """The innermost line of code of the module's own."""
    for frame, line in innermost_first:
        if frame.f_code is PathTracer.result_of.__code__:
            break
        if frame.f_globals.get("__name__", "").partition(".")[0] not in ("torch", "gated_c", "contextlib"):
            return f" in line {line} of {Path(frame.f_code.co_filename).name}"
    return ""
