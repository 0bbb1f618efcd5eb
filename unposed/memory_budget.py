"""What fits into the memory of a run, found out before it starts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import psutil

from unposed.pipeline.artifacts import Photos
from unposed.pipeline.errors import ConfigError, InputError
from unposed.pipeline.graph import Graph, without
from unposed.pipeline.stage import Grain, Resources
from unposed.pipeline.store.store import RECENT_BYTES

from .amounts import count, size

NAMED = 3
"""Photos that a line lists by name."""


def lendable_bytes(limit_bytes: int) -> int:
    """What stages may use of the memory that the user has given to the whole process: all but what it has taken by now,
    with its libraries loaded, and what the store keeps of the values read last."""
    return limit_bytes - int(psutil.Process().memory_info().rss) - RECENT_BYTES


def affordable(resources: Resources, limit_bytes: int | None, graph: Graph, note: Callable[[str], None]) -> Graph:
    """The graph without stages that take more memory for an item than there is, as far as it gives a result without
    them, as it does without a closer look; a line says so."""
    while limit_bytes is not None:
        node, needed = _hungriest(resources, graph)
        left = lendable_bytes(limit_bytes)
        smaller = without(graph, node) if left < needed else None
        if smaller is None:
            return graph
        note(
            f"{node} is left out: it takes {size(needed)} for a single item, and {size(limit_bytes)} of memory (--ram) "
            f"leave {size(left)}"
        )
        graph = smaller
    return graph


def fitting(
    resources: Resources, limit_bytes: int | None, graph: Graph, photos: Photos, note: Callable[[str], None]
) -> tuple[Resources, Photos]:
    """The memory that stages may use, and the photos that can be decoded in it; a line names the others.

    ConfigError if a stage cannot work within `limit_bytes`, InputError if too few photos can be decoded.
    """
    left = resources.ram_bytes
    if limit_bytes is not None:
        left = lendable_bytes(limit_bytes)
        node, needed = _hungriest(resources, graph)
        if left < needed:
            least = size(limit_bytes - left + needed)
            raise ConfigError(
                f"{size(limit_bytes)} of memory are too little: {node} takes {size(needed)} for a single item, and "
                f"the program {size(limit_bytes - left)}: give {least} or more (--ram), or lower the sizes among the "
                f"options of {node}"
            )
    too_large = {
        photo.name: f"decoding its {photo.width} x {photo.height} pixels takes {size(photo.decoding_bytes)} of memory, "
        f"and this run has {size(left)}: give it more (--ram), or save the photo as JPEG"
        for photo in photos.photos
        if photo.decoding_bytes > left
    }
    if too_large:
        names = ", ".join(list(too_large)[:NAMED]) + (" and others" if len(too_large) > NAMED else "")
        left_out = f"{count(len(too_large), 'photo')} left out: {names}: {next(iter(too_large.values()))}"
        kept = tuple(photo for photo in photos.photos if photo.name not in too_large)
        if len(kept) < 2:
            raise InputError(left_out)
        note(left_out)
        photos = Photos(kept, {**photos.rejected, **too_large})
    return replace(resources, ram_bytes=left), photos


def _hungriest(resources: Resources, graph: Graph) -> tuple[str, int]:
    """The node whose items take most memory of this machine, and how much one takes."""
    needs = {
        name: int(getattr(node.stage, "item_bytes", 1))
        for name, node in graph.nodes.items()
        if node.ports.grain is not Grain.COLLECTION
        and not (resources.device != "cpu" and hasattr(node.stage, "batch"))  # that is memory of the GPU
    }
    return max(needs.items(), key=lambda item: item[1], default=("", 0))
