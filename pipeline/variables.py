"""Variables of the environment that decide about the bytes of results."""

from __future__ import annotations

REPRODUCIBLE = "UNPOSED_REPRODUCIBLE"
"""Set in processes that were started to compute as on any other machine, see `unposed.reproducible`."""

KERNELS = (
    *("OPENBLAS_CORETYPE", "NPY_DISABLE_CPU_FEATURES", "OPENCV_CPU_DISABLE", "OPENCV_IPP", "MKL_CBWR"),
    *("ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY", "FAISS_OPT_LEVEL", "GLIBC_TUNABLES"),
)
"""By which libraries are told to take a CPU for another."""
