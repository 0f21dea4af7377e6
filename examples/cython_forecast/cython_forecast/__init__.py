"""Forecasts of many series at once, in Cython over gated_c."""

import gated_c  # noqa: F401 - the extension finds its library in the process

from .forecast import forecast

__all__ = ["forecast"]
