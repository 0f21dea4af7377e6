"""The loop that Python is too slow for: every output is the next input, of all series at once, without the GIL."""

from gated_c cimport (
    GATED_OK,
    gated_status,
    gated_status_string,
    gated_stream,
    gated_stream_create,
    gated_stream_free,
    gated_stream_step,
    model_of,
)

import numpy as np


cdef int check(gated_status status) except -1:
    if status != GATED_OK:
        raise RuntimeError(gated_status_string(status).decode())
    return 0


cdef gated_status feed_back(
    gated_stream *stream, const float[:, ::1] past, float[::1] value, float[:, ::1] future
) noexcept nogil:
    """`value` [N] is the input and the output of each step."""
    cdef gated_status status = GATED_OK
    cdef Py_ssize_t t, n
    for t in range(past.shape[1]):
        for n in range(past.shape[0]):
            value[n] = past[n, t]
        status = gated_stream_step(stream, &value[0], &value[0])
        if status != GATED_OK:
            return status
    for t in range(future.shape[1]):
        for n in range(future.shape[0]):
            future[n, t] = value[n]
        status = gated_stream_step(stream, &value[0], &value[0])
        if status != GATED_OK:
            return status
    return status


def forecast(model, const float[:, ::1] past not None, int steps):
    """What follows each series of `past` [N, T] float32, as float32 [N, steps].

    `model` is a gated_c.Model of one input and one output: the next value. Raises ValueError if it is not, RuntimeError
    if it cannot run step by step.
    """
    if (model.takes, model.input_size, model.output_size) != ("sequence", 1, 1):
        raise ValueError("model: expected one input and one output")
    future = np.empty((past.shape[0], steps), np.float32)
    value = np.zeros(past.shape[0], np.float32)
    cdef float[::1] value_view = value
    cdef float[:, ::1] future_view = future
    cdef gated_stream *stream = NULL
    cdef gated_status status
    check(gated_stream_create(model_of(model), past.shape[0], &stream))
    with nogil:
        status = feed_back(stream, past, value_view, future_view)
        gated_stream_free(stream)
    check(status)
    return future
