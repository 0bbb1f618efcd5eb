"""Limit libraries to one thread each, so that sums have one order on every machine and for every number of workers."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from types import ModuleType

from .resources import cores

VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

_held = threading.local()
_lock, _limits = threading.Lock(), ExitStack()
_inside = 0
"""Blocks of `one_thread_each` that have begun and not ended."""


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Limit BLAS, OpenMP and OpenCV to one thread per caller within the block, which several threads may be in at once;
    the former limits are restored when the last of them has left.

    Libraries loaded within the block get all cores after it, as if they had been loaded later.
    """
    global _inside
    with _lock:
        if not _inside:
            _limits.enter_context(_one_thread_each())
        _inside += 1
    try:
        hold_this_thread()
        yield
    finally:
        _held.__dict__.clear()
        with _lock:
            _inside -= 1
            if not _inside:
                _limits.close()


@contextmanager
def _one_thread_each() -> Iterator[None]:
    from threadpoolctl import ThreadpoolController, threadpool_limits

    # A library that is only loaded meanwhile reads the variables.
    before = {name: os.environ.get(name) for name in VARIABLES}
    os.environ.update(dict.fromkeys(VARIABLES, "1"))
    known = {library.filepath for library in ThreadpoolController().lib_controllers}
    opencv = _opencv()
    opencv_threads = opencv.getNumThreads() if opencv else None
    try:
        with threadpool_limits(1):
            yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        for library in ThreadpoolController().lib_controllers:
            if library.filepath not in known:
                library.set_num_threads(cores())
        if opencv and opencv_threads is not None:
            opencv.setNumThreads(opencv_threads)


def hold_this_thread() -> None:
    """Limit the calling thread (OpenMP counts per thread), and libraries loaded since the last call."""
    loaded = len(sys.modules)  # the cheap sign that a library may have come
    if getattr(_held, "loaded", None) == loaded:
        return
    # A machine that only proves its GPU (docs/gpu.md) may lack the library: there, bits may depend on threads.
    with suppress(ModuleNotFoundError):
        from threadpoolctl import threadpool_limits

        threadpool_limits(1)
    if opencv := _opencv():
        opencv.setNumThreads(1)
    _held.loaded = loaded


def _opencv() -> ModuleType | None:
    module = sys.modules.get("cv2")
    return module if hasattr(module, "setNumThreads") else None  # without: another thread is just importing it
