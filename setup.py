"""The compiled search kernel; everything else about the distribution is in pyproject.toml.

Optional: where nothing can compile it, the installation still succeeds and faiss searches instead.
"""

from pathlib import Path

from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            "index.kernel._kernel",  # a plain library that ctypes loads: it needs no Python headers
            sources=sorted(map(str, Path("index/kernel").glob("*.c"))),
            depends=["index/kernel/kernel.h"],
            extra_compile_args=["-O3", "-std=c11", "-fvisibility=hidden"],
            optional=True,
        )
    ]
)
