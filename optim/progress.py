"""Progress of a long computation, passed to whoever shows it."""

from __future__ import annotations

from collections.abc import Callable

Report = Callable[[int, int, str], None]
"""Receives the number of finished steps, that of all steps, and a few words on the present one; may raise to stop."""


def no_report(done: int, total: int, message: str) -> None:
    """Show no progress."""
