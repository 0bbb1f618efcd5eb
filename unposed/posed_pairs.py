"""Given poses choose pairs beside the retrieval of a preset, whichever it is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from unposed.pipeline.presets import Preset, apply_settings

NEAR, ALIKE = "near", "alike"
"""Nodes that are added: the ranking by poses, and the retrieval that the preset has."""
CAMERAS, RETRIEVAL = "cameras", "retrieval"
LISTED = "pairs-file"
"""Retrieval of pairs that somebody has chosen already."""


def with_settings(preset: Preset, settings: Iterable[str]) -> Preset:
    """A preset with settings; where they or it name a file of poses, these choose pairs, too.

    The retrieval becomes the union of the nearest views, node `near`, and of what it was before, node `alike`: its
    options keep their name `retrieval` in settings. It stays alone where there are no poses, where a setting names
    another plugin of retrieval or says `near=null`, and where the preset lists pairs or ranks by poses itself.
    """
    lines = list(settings)
    if {NEAR, ALIKE} & preset.keys() or _ranks_by_poses(preset):
        return apply_settings(preset, lines)
    changed = apply_settings({**preset, NEAR: {"use": "retrieval.poses"}}, lines)
    plugin = plugin_of(changed, RETRIEVAL)
    if not _has_poses(changed) or plugin != plugin_of(preset, RETRIEVAL) or plugin in (None, LISTED):
        return apply_settings(preset, lines)  # where settings of `near` are of no node
    if NEAR not in changed:
        return changed
    return changed | {
        ALIKE: changed[RETRIEVAL] | {"use": f"{RETRIEVAL}.{plugin}"},
        RETRIEVAL: {"use": "union", "from": {"first": NEAR, "second": ALIKE}},
    }


def _has_poses(preset: Preset) -> bool:
    cameras = preset.get(CAMERAS)
    return isinstance(cameras, dict) and cameras.get("poses") is not None


def plugin_of(preset: Preset, slot: str) -> str | None:
    """The plugin of the node that is called as its slot, without that."""
    node: Any = preset.get(slot)
    use = node.get("use") if isinstance(node, dict) else None
    return use.removeprefix(f"{slot}.") if isinstance(use, str) else None


def _ranks_by_poses(preset: Preset) -> bool:
    used = [node.get("use") for node in preset.values() if isinstance(node, dict)]
    return "retrieval.poses" in used or plugin_of(preset, RETRIEVAL) == "poses"
