"""Cameras that were turned between photos; optim.quarter_turns says what that means."""

from __future__ import annotations

from dataclasses import dataclass

from .arrays import Index, Mask


@dataclass(frozen=True, eq=False)
class CameraTurns:
    """Which cameras of a collection are one that was turned."""

    camera: Index
    """(cameras,) the one that is the same, and whose photos are not turned; itself if it is that."""
    quarters: Index
    """(cameras,) after which its photos lie in the frame of that camera."""
    uncertain: Mask
    """(cameras,) whether it may as well be two quarters more: sizes alone do not tell which side was up."""
