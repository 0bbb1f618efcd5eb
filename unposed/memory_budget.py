"""What fits into the memory of a run, found out before it starts."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace

import psutil

from unposed.optim.byte_products import IMPORT_BYTES
from unposed.pipeline.artifacts import Photos
from unposed.pipeline.errors import ConfigError, InputError
from unposed.pipeline.graph import Graph, without
from unposed.pipeline.stage import CollectionMemory, Grain, Resources
from unposed.pipeline.store.store import RECENT_BYTES

from .amounts import count, size

NAMED = 3
"""Photos that a line lists by name."""

RECENT_SHARE = 1 / 16
"""Most of the memory for the whole process that the store keeps values in."""

TORCH_SHARE = 1 / 3
"""Most of the memory for stages that importing torch takes for the sake of speed. It keeps what it takes: half as much
as a run of some hundred photos takes in all."""


@dataclass(frozen=True)
class Fit:
    """What fits into the memory of a run."""

    resources: Resources
    """With the memory that stages may use."""
    photos: Photos
    """Those that can be decoded in it."""
    torch: bool
    """Whether torch may be imported for the sake of speed."""


def recent_bytes(limit_bytes: int | None) -> int:
    """What the store keeps of the values read last, under a limit of the whole process."""
    return RECENT_BYTES if limit_bytes is None else min(RECENT_BYTES, int(limit_bytes * RECENT_SHARE))


def lendable_bytes(limit_bytes: int) -> int:
    """What stages may use of the memory that the user has given to the whole process: all but what it has taken by now,
    with its libraries loaded, and what the store keeps of the values read last."""
    return limit_bytes - int(psutil.Process().memory_info().rss) - recent_bytes(limit_bytes)


def expected_bytes(graph: Graph, photos: int) -> tuple[str, int]:
    """The stage over the collection that takes most for so many photos, and about how many bytes it does."""
    known = {name: getattr(node.stage, "memory", None) for name, node in graph.nodes.items()}
    needs = {name: memory.of(photos) for name, memory in known.items() if isinstance(memory, CollectionMemory)}
    return max(needs.items(), key=lambda item: item[1], default=("", 0))


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
) -> Fit:
    """The memory that stages may use, and the photos that can be decoded in it; a line names the others. Another says
    what mapping them will take, if that is more than the limit.

    ConfigError if a stage cannot work within `limit_bytes`, InputError if too few photos can be decoded.
    """
    left, torch = resources.ram_bytes, True
    mapper, expected = expected_bytes(graph, len(photos))
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
        if "torch" not in sys.modules:  # else it has been counted
            largest = max((taken for photo in photos.photos if (taken := photo.decoding_bytes) <= left), default=0)
            torch = min(left * TORCH_SHARE, left - largest, left - expected) >= IMPORT_BYTES
            left -= IMPORT_BYTES if torch else 0
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
    if limit_bytes is not None and expected > left:
        program = limit_bytes - left
        note(
            f"--ram of {size(limit_bytes)} will not be kept: {mapper} takes about {size(expected)} for "
            f"{count(len(photos), 'photo')}, and the program {size(program)}: give "
            f"{size(_limit_of(program - recent_bytes(limit_bytes) + expected))} (--ram), or fewer photos; the run goes "
            f"on, with as little as it can"
        )
    return Fit(replace(resources, ram_bytes=left), photos, torch)


def _limit_of(taken_bytes: int) -> int:
    """The limit under which so much is left beside what the store keeps of the values read last."""
    return taken_bytes + min(RECENT_BYTES, int(taken_bytes * RECENT_SHARE / (1 - RECENT_SHARE)) + 1)


def _hungriest(resources: Resources, graph: Graph) -> tuple[str, int]:
    """The node whose items take most memory of this machine, and how much one takes."""
    needs = {
        name: int(getattr(node.stage, "item_bytes", 1))
        for name, node in graph.nodes.items()
        if node.ports.grain is not Grain.COLLECTION
        and not (resources.device != "cpu" and hasattr(node.stage, "batch"))  # that is memory of the GPU
    }
    return max(needs.items(), key=lambda item: item[1], default=("", 0))
