"""Settings of the whole process, for the command line only: in a notebook they belong to the user."""

from __future__ import annotations

import ctypes
import gc
import importlib.machinery
import io
import os
import signal
import sys
import threading
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from types import FrameType, ModuleType

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEEP_BYTES = 1 << 28
"""Freed memory that the process keeps, and the largest request that is served from it."""
KEEP_SHARE = 0.03
"""The same at most as a share of the memory that the user allows; each thread keeps so much."""
OBJECTS_PER_COLLECTION = 10_000
"""New objects after which Python looks for unused ones that refer to each other. With its own 700, a fifth of the time
that importing takes goes into looking at modules, none of which is ever unused."""


def configure_process(ram_bytes: int | None = None) -> None:
    """Apply the settings, before numpy is imported. Changes no result, and nothing that the user has set.

    ram_bytes: limit of the user, of which a small share is kept when it is freed.
    """
    # Work is spread over items, each computed by one thread; further ones of the library would wait, and busily.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if gc.isenabled():
        gc.set_threshold(max(OBJECTS_PER_COLLECTION, gc.get_threshold()[0]), *gc.get_threshold()[1:])
    if sys.platform == "linux":
        _keep_freed_memory(KEEP_BYTES if ram_bytes is None else min(KEEP_BYTES, int(ram_bytes * KEEP_SHARE)))


def _keep_freed_memory(most_bytes: int) -> None:
    """Keep freed memory: the C library returns large arrays to the system, which clears their pages again for the next
    one, a tenth of the time of many images of one size."""
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):  # not every C library's
        library.mallopt(M_MMAP_THRESHOLD, most_bytes)
        library.mallopt(M_TRIM_THRESHOLD, most_bytes)


def escape_what_cannot_be_printed() -> None:
    """Print characters that the encoding of the output lacks as escapes: of a pipe on Windows, or in the locale C, it
    has no names in other scripts."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as Python does for the errors


ENDS = ("SIGTERM", "SIGHUP")
"""What `docker stop`, SLURM, systemd and a terminal that is closed send before they kill."""
SIGACTION_BYTES = 512
"""More than the C library's description of a handler takes on any system."""


class AskedToEnd(KeyboardInterrupt):
    """By a signal. A class of its own: where KeyboardInterrupt itself leaves what `exec` or `eval` compute, such as the
    making of a dataclass, `python -m` kills itself by SIGINT in the end, though it was caught."""


def end_as_by_ctrl_c() -> None:
    """End on these signals as on Ctrl-C: what is finished is kept, a line says so, and the exit code is 4."""
    if threading.current_thread() is not threading.main_thread():
        return
    for number in _ends():
        if signal.getsignal(number) is signal.SIG_DFL:  # `nohup` ignores one of them
            signal.signal(number, _interrupt)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)
    if sys.platform != "win32" and not any(isinstance(each, _KeepHandlers) for each in sys.meta_path):
        sys.meta_path.insert(0, _KeepHandlers())


def _ends() -> list[signal.Signals]:
    return [getattr(signal, name) for name in ENDS if hasattr(signal, name)]


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise AskedToEnd


class _KeepHandlers(MetaPathFinder):
    """Puts handlers back that pycolmap replaces when it is imported, by those of glog, which print stacks of machine
    code as if the program had crashed."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """See importlib."""
        if fullname != "pycolmap":
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        if spec is not None and spec.loader is not None:
            spec.loader = _Kept(spec.loader)
        return spec


class _Kept(Loader):
    """The loader of a module that must not change handlers. Modules are imported in any thread, and Python sets
    handlers in one only: so the C library does."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        """See importlib."""
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """See importlib."""
        library = ctypes.CDLL(None)
        before = {number: ctypes.create_string_buffer(SIGACTION_BYTES) for number in _ends()}
        for number, action in before.items():
            library.sigaction(int(number), None, action)
        try:
            self._loader.exec_module(module)
        finally:
            if module.__spec__ is not None:
                module.__spec__.loader = module.__loader__ = self._loader  # whoever asks for its files finds them
            for number, action in before.items():
                library.sigaction(int(number), action, None)
