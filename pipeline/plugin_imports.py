"""Import what strangers wrote: whatever it does meanwhile, it is named, and nobody else is hurt."""

from __future__ import annotations

import _thread
import io
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from types import FrameType
from typing import Any

from .errors import ConfigError
from .logs import module_logger

LOG = module_logger(__name__)

PATIENCE_S = 300.0
"""How long an import may take: PyTorch from a slow network disk takes a minute."""


def load_plugin(load: Callable[[], Any], blame: str) -> Any:
    """What `load` imports. ConfigError that begins with `blame`, the name of the plugin and who brings it, if it raises
    anything, leaves by sys.exit, or does not end. What it prints goes to the log: the output is that of the command.

    Only a real Ctrl-C is passed on. A module that ends the process at once, or hangs in machine code, cannot be stopped
    from within: `unposed doctor` imports each in a process of its own.
    """
    said = io.StringIO()
    interrupts = _Interrupts()
    try:
        with interrupts.watched(), redirect_stdout(said):
            return load()
    except KeyboardInterrupt as error:
        if interrupts.by_user:
            raise
        reason = f"it has not ended after {PATIENCE_S:.0f} s" if interrupts.by_clock else "KeyboardInterrupt"
        raise ConfigError(f"{blame} cannot be loaded: {reason}") from error
    except BaseException as error:  # a stranger's module may raise anything while it is imported
        raise ConfigError(f"{blame} cannot be loaded: {type(error).__name__}: {error}") from error
    finally:
        if said.getvalue():
            LOG.warning("%s prints while it is imported: %s", blame, " ".join(said.getvalue().split())[:300])


USERS = ("SIGINT", "SIGTERM", "SIGHUP")
"""Signals by which users and systems ask a program to end; where one has a handler of Python's, it is theirs."""


class _Interrupts:
    """Who has interrupted: the user by a signal, the clock, or else the module itself, by raising the same."""

    def __init__(self) -> None:
        self.by_user = self.by_clock = False

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Within the block an interrupt is attributed. Signals reach the main thread only, and so does the clock."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        users = [getattr(signal, name) for name in USERS if hasattr(signal, name)]
        before = {number: signal.getsignal(number) for number in users}
        # The clock rings by SIGINT, also where that is ignored. None is a handler that is not Python's: it stays.
        watched = [n for n in users if callable(before[n]) or (n == signal.SIGINT and before[n] is not None)]
        clock = threading.Timer(PATIENCE_S, self._ring)
        clock.daemon = True

        def handle(number: int, frame: FrameType | None) -> Any:
            asked = before[signal.Signals(number)]
            if not self.by_clock and asked is signal.SIG_IGN:
                return None
            self.by_user = not self.by_clock
            if callable(asked) and self.by_user:
                return asked(number, frame)
            raise KeyboardInterrupt

        for number in watched:
            signal.signal(number, handle)
        clock.start()
        try:
            yield
        finally:
            clock.cancel()
            for number in watched:
                signal.signal(number, before[number])

    def _ring(self) -> None:
        self.by_clock = True
        if hasattr(signal, "pthread_kill"):  # also ends what waits, such as a sleep or a read
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        else:
            _thread.interrupt_main()
