"""Frames of clips are paired along these, beside the pairs that a preset chooses, whichever way it does."""

from __future__ import annotations

from collections.abc import Iterable

from unposed.pipeline.artifacts import Photos
from unposed.pipeline.images.image_file import clip_of
from unposed.pipeline.presets import Preset

from .posed_pairs import LISTED, RETRIEVAL, plugin_of, with_settings

ALONG, CHOSEN = "along", "chosen_graph"
"""Nodes: that which settings call pairs along clips, and, of a graph with such pairs, what the preset chooses."""
GRAPH = "graph"


def holds_clips(photos: Photos) -> bool:
    """Whether frames of a video are among the photos."""
    return any(clip_of(photo.name) for photo in photos.photos)


def with_clips(preset: Preset, settings: Iterable[str]) -> Preset:
    """A preset with settings, of photos that hold frames of clips.

    The scene graph becomes one of pairs along clips, too, with options that settings have as those of `along`, beside
    what it was before, node `chosen_graph`, whose options keep their name `graph` in settings. It stays as it was where
    a setting names another plugin for it or says `along=null`, and where pairs are listed.
    """
    lines = list(settings)
    plugin = plugin_of(preset, GRAPH)
    if plugin is None or {ALONG, CHOSEN} & preset.keys():
        return with_settings(preset, lines)
    changed = with_settings({**preset, ALONG: {"use": "graph.clips"}}, lines)
    if plugin_of(changed, GRAPH) != plugin or plugin_of(changed, RETRIEVAL) == LISTED:
        return with_settings(preset, lines)  # where settings of `along` are of no node
    if ALONG not in changed:
        return changed
    chosen = changed[GRAPH] | {"use": f"{GRAPH}.{plugin}"}
    return {name: node for name, node in changed.items() if name != ALONG} | {CHOSEN: chosen, GRAPH: changed[ALONG]}
