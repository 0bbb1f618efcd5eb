"""The same bytes on every machine of one kind: libraries are told to compute as on the oldest CPU that they support.

OpenBLAS, NumPy, OpenCV, PyTorch, faiss and the C library choose their kernels for the CPU they find, and these add up
in different orders. Their variables have to be there before they are loaded, that of the C library before the process
starts: so the command line starts itself again.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Sequence

from unposed.pipeline.errors import ConfigError
from unposed.pipeline.variables import REPRODUCIBLE

X86 = {
    "OPENBLAS_CORETYPE": "Nehalem",
    "MKL_CBWR": "COMPATIBLE",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "ATEN_CPU_CAPABILITY": "default",
    "FAISS_OPT_LEVEL": "generic",
    "OPENCV_IPP": "sse42",
    "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX,-AVX2,-FMA,-FMA4,-AVX512F,-AVX512VL",
}
"""For OpenBLAS, MKL, oneDNN, PyTorch, faiss, the primitives in OpenCV, and the C library's mathematical functions."""


def is_reproducible() -> bool:
    """Whether this process was started to compute as on any other machine."""
    return REPRODUCIBLE in os.environ


def require_reproducible() -> None:
    """ConfigError if it was not: within a running program it is too late."""
    if not is_reproducible():
        raise ConfigError(
            "reproducible: libraries choose how to compute when they are loaded: use the command line "
            "(unposed reconstruct --reproducible), which starts itself in the environment that this needs"
        )


def reproducible_environment() -> dict[str, str]:
    """Variables of the environment of such a process. ConfigError on CPUs of other kinds than x86-64."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        raise ConfigError(f"--reproducible: not known for CPUs of the kind {platform.machine()}, only for x86-64")
    import cv2
    import numpy as np

    # Only what there is may be disabled, or else warnings are printed: what is found, and what is disabled by now.
    numpy_finds = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])
    opencv_finds = [name[1:] for name in cv2.getCPUFeaturesLine().split() if name[0] == "*" and name[-1] != "?"]
    return {
        **os.environ,
        **X86,
        "NPY_DISABLE_CPU_FEATURES": " ".join(dict.fromkeys([*numpy_finds, *_listed("NPY_DISABLE_CPU_FEATURES")])),
        "OPENCV_CPU_DISABLE": ",".join(dict.fromkeys([*opencv_finds, *_listed("OPENCV_CPU_DISABLE")])),
        REPRODUCIBLE: "1",
    }


def _listed(variable: str) -> list[str]:
    return os.environ.get(variable, "").replace(",", " ").split()


def start_again(arguments: Sequence[str]) -> int:
    """Run this command line in the environment that it needs, in the place of this process; returns its exit code where
    a process cannot be replaced."""
    command = [sys.executable, "-m", "unposed", *arguments]
    environment = reproducible_environment()
    if os.name == "nt":
        return subprocess.run(command, env=environment, check=False).returncode
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, command, environment)
