"""What an extension over gated_c needs: its header, its library, and its declarations for `cimport gated_c`."""

from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

import gated_c

setup(
    ext_modules=cythonize(
        [
            Extension(
                "cython_forecast.forecast",
                ["cython_forecast/forecast.pyx"],
                include_dirs=[gated_c.get_include()],
                extra_objects=[gated_c.get_library()],
            )
        ],
        include_path=[str(Path(gated_c.__file__).parents[1])],  # only needed where gated_c is an editable install
        language_level=3,
    )
)
