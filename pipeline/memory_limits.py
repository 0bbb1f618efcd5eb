"""How much memory this process may have: what is free, within the limits of containers, batch systems and shells.

A limit of Linux may lie on any control group around the process, in version 1 or 2 of their interface. Where the
group's own folder is not shown (a container that mounts the files of its root), the root as it is seen has the limit.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath

GROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")
MEGABYTE = 1 << 20


def free_bytes() -> int:
    """Bytes that this process may still take before the machine or a limit around it stops it."""
    import psutil  # here: not needed where the memory is given, nor there on every machine

    free: int = psutil.virtual_memory().available
    limits = [*group_rooms(), *_slurm_room(os.environ), *_address_space_room()]
    return max(0, min([free, *limits]))


def group_rooms(groups: Path = GROUPS, membership: Path = MEMBERSHIP) -> list[int]:
    """Bytes left in each control group around this process that has a limit; innermost first."""
    rooms = []
    for folder, names in _groups(groups, membership):
        with suppress(OSError, ValueError, KeyError):
            limit = int((folder / names[0]).read_text())  # `max` is no number: no limit
            used = int((folder / names[1]).read_text())
            # Pages of files count as used, and are given back before anything is stopped.
            rows = (line.split() for line in (folder / "memory.stat").read_text().splitlines())
            cached = {row[0]: int(row[1]) for row in rows if len(row) == 2}
            rooms.append(max(0, limit - used + cached[names[2]]))
    return rooms


def _groups(groups: Path, membership: Path) -> Iterator[tuple[Path, tuple[str, str, str]]]:
    """Folder of each group around this process, and the names of limit, use and reclaimable pages in it."""
    second = ("memory.max", "memory.current", "inactive_file")
    first = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            for folder in _outwards(groups, path):
                yield folder, second
            for folder in _outwards(groups / "unified", path):
                yield folder, second
        elif "memory" in controllers.split(","):
            for folder in _outwards(groups / "memory", path):
                yield folder, first


def _outwards(root: Path, path: str) -> Iterator[Path]:
    """The folder of a group and of all groups around it, up to the root."""
    inner = PurePosixPath(path.lstrip("/"))
    if ".." in inner.parts:  # the group lies outside of what this container is shown
        inner = PurePosixPath()
    for part in (inner, *inner.parents):
        if (root / part).is_dir():
            yield root / part


def _slurm_room(environment: Mapping[str, str]) -> list[int]:
    """What SLURM has granted on this node, less what this process takes; it may only look at intervals, and kill."""
    with suppress(KeyError, ValueError):
        node = int(environment["SLURM_MEM_PER_NODE"])
        return [node * MEGABYTE - _resident()] if node > 0 else []  # 0: all of the node
    with suppress(KeyError, ValueError):
        cores = int(environment.get("SLURM_CPUS_ON_NODE", "1"))
        return [int(environment["SLURM_MEM_PER_CPU"]) * cores * MEGABYTE - _resident()]
    return []


def _address_space_room() -> list[int]:
    """What `ulimit -v` leaves."""
    try:
        import resource
    except ImportError:  # no such limit on Windows
        return []
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    import psutil

    return [] if limit == resource.RLIM_INFINITY else [limit - int(psutil.Process().memory_info().vms)]


def _resident() -> int:
    import psutil

    return int(psutil.Process().memory_info().rss)
