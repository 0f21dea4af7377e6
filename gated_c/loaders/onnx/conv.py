"""Conv along time, if no step looks ahead, and the Pad before it."""

from __future__ import annotations

import numpy as np

from gated_c.errors import FormatError, UnsupportedError
from gated_c.layers import Conv
from gated_c.loaders.onnx.call import Call, WrongOrder, vector
from gated_c.loaders.onnx.path import Mark
from gated_c.loaders.onnx.values import Value


def pad(call: Call) -> Value:
    """Zeros before the first step, which only a causal Conv after it makes sense of."""
    value = call.signal()
    pads = call.integers("pads", 1) or []
    axes = call.constant(3)
    if axes is not None or len(pads) != 2 * value.array.ndim or call.node.text("mode", "constant") != "constant":
        raise UnsupportedError("other than zeros before the first step")
    before = {axis: int(amount) for axis, amount in enumerate(pads[: len(pads) // 2]) if amount}
    if any("N" in value.rows[axis] for axis in before):
        raise WrongOrder("pads the batch")
    filler = call.number("value", 2, 0.0)
    if filler or any(pads[len(pads) // 2 :]) or any(value.rows[axis] != "T" or n < 0 for axis, n in before.items()):
        raise UnsupportedError("other than zeros before the first step")
    if not before:
        return value
    source, local = call.path.only(value.array)
    (amount,) = before.values()
    return call.mapped(value, call.path.mark(source, "pad", call.node.name, source.size, amount), local)


def conv(call: Call) -> Value:
    """Along time, of [N,C,T] or with more axes of size 1, and only back in time."""
    value, weight, bias = call.signal(), call.constant(1), call.weight(2)
    spatial = value.array.ndim - 2
    if spatial < 1 or weight is None or weight.ndim != value.array.ndim:
        raise FormatError("expected an axis of steps and W of as many axes")
    time = value.axis_of("T")
    if value.rows[0] != "N" or time is None or time < 2:
        raise WrongOrder("expected [N,C,T]")
    if weight.size != weight.shape[0] * weight.shape[1] * weight.shape[time]:
        raise UnsupportedError("over more than time")
    options = {name: call.node.integers(name) or [1] * spatial for name in ("strides", "dilations")}
    pads = call.node.integers("pads") or [0] * (2 * spatial)
    if any(len(values) != spatial for values in options.values()) or len(pads) != 2 * spatial:
        raise FormatError(f"strides, dilations, pads: expected those of {spatial} axes")
    if set(options["strides"]) != {1} or call.node.integer("group", 1) != 1:
        raise UnsupportedError("strides or groups")
    if call.node.text("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        raise UnsupportedError("auto_pad")
    source = call.features(value, 1)
    before, dilation, taps = pads.pop(time - 2), options["dilations"][time - 2], weight.shape[time]
    if isinstance(source.layer, Mark) and source.layer.kind == "pad" and source.parent is not None:
        before, source = before + source.layer.amount, source.parent
    if any(pads) or before != (taps - 1) * dilation:
        raise UnsupportedError("that looks ahead or loses steps; expected zeros before the first step only")
    kernel = call.own(np.moveaxis(weight, time, 1).reshape(weight.shape[0], taps, weight.shape[1]))
    layer = Conv(kernel, vector(bias, len(weight)), dilation=dilation, name=call.node.name)
    return call.after(value, 1, call.path.append(call.path.unmasked(source), layer))
