"""What else decides about the bytes of results beside code, options and inputs: versions of libraries, and the CPU.

A library that was upgraded may give other key points, and the kernels that OpenBLAS, NumPy and OpenCV choose for a CPU
add up in another order. Results of both are good; but a run that mixes them is neither, and cannot be repeated.
"""

from __future__ import annotations

import os
import platform
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from threadpoolctl import ThreadpoolController

from .variables import KERNELS, REPRODUCIBLE

LIBRARIES = (
    *("numpy", "scipy", "opencv-python-headless", "poselib", "pycolmap", "faiss-cpu", "torch", "kornia"),
    *("pillow", "pillow-heif", "networkx"),
)
"""Distributions on which the last bits of results depend."""


@cache
def library_versions() -> dict[str, str]:
    """Version by name of Python and of the libraries above that are installed."""
    found = {"Python": ".".join(platform.python_version_tuple()[:2])}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


@cache
def cpu_kind() -> str:
    """The kernels that libraries choose for this CPU, e.g. `x86_64 SkylakeX X86_V2 X86_V3 X86_V4`.

    The first name is OpenBLAS's, as `OPENBLAS_CORETYPE` sets it; the others are the instructions that NumPy found,
    which stand for what OpenCV, PyTorch and faiss find by the same means. Variables that tell these to take it for
    another follow.
    """
    controllers = ThreadpoolController().lib_controllers
    blas = sorted({str(getattr(each, "architecture", "")) for each in controllers if _is_of_numpy(each.filepath)})
    instructions = np.show_config(mode="dicts")["SIMD Extensions"]
    names = [*blas, *instructions["baseline"], *instructions.get("found", ())]
    if REPRODUCIBLE in os.environ:  # what has to be said to libraries for that differs from machine to machine
        names.append("reproducible")
    else:
        names += [f"{name}={os.environ[name]}" for name in KERNELS if name in os.environ]
    return " ".join(["".join(platform.machine().split()) or sys.platform, *names])


def result_environment() -> list[list[str]]:
    """All of it, as it enters keys."""
    return [*map(list, sorted(library_versions().items())), ["CPU", cpu_kind()]]


def _is_of_numpy(file: str) -> bool:
    return any(part.startswith("numpy") for part in Path(file).parts)
