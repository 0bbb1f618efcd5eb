"""Groups of photos for networks that see many views: a covering of the scene graph by groups that share photos.

A star for every photo would have each photo looked at as often as a group has photos. A covering has every pair of
similar photos together in one group, and every photo in two or three, whose answers can be compared.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated

import networkx
import numpy as np
from numpy.typing import NDArray

from unposed.optim.option_ranges import Count, Within


@dataclass(frozen=True)
class CoverOptions:
    """Options of `cover_groups`."""

    size: Annotated[int, Within("[2, inf)")] = 8
    """Photos of a group: attention to all views grows with its square, and its memory with it. 12 to 16 on a GPU."""
    repeats: Count = 2
    """Groups that every photo is in at least: one opinion alone can be checked against nothing."""
    most_repeats: Count = 3
    """Groups that a photo is in at most, except where parts would fall apart, and in the mean: it bounds the cost."""
    partners: Count = 3
    """Best partners of each photo that are to be in a group with it."""
    shared: Annotated[int, Within("[1, inf)")] = 3
    """Photos that joined parts share. Two leave the scale between them to one baseline, three make it checkable."""


_DEFAULTS = CoverOptions()

_CHECKABLE = 2
"""Shared photos from which on two groups can contradict each other."""


@dataclass(frozen=True)
class PhotoGroup:
    """Photos that are looked at together, the centre first, and what the group is there for."""

    photos: tuple[int, ...]
    reason: str


def cover_groups(
    photos: int,
    pairs: NDArray[np.integer],
    similarity: NDArray[np.floating],
    shapes: Sequence[object],
    options: CoverOptions = _DEFAULTS,
) -> list[PhotoGroup]:
    """Cover the graph of similar pairs (n, 2) of photos with groups. Its cost is linear in the number of photos.

    Greedy: the photo with most best partners that it was in no group with becomes a centre, and photos join it that
    complete most such pairs. Photos of one `shape`, such as portrait, are kept together, since the images of a group
    are cropped to one size. Groups are then joined until those of each connected part share enough photos.
    """
    cover = _Cover(photos, pairs, similarity, shapes, options)
    if photos <= options.size:
        return cover.all_together()
    cover.cover_pairs()
    cover.repeat()
    cover.join()
    return cover.groups


class _Cover:
    def __init__(
        self,
        photos: int,
        pairs: NDArray[np.integer],
        similarity: NDArray[np.floating],
        shapes: Sequence[object],
        options: CoverOptions,
    ) -> None:
        self.options, self.shapes, self.groups = options, shapes, list[PhotoGroup]()
        self.similar: list[dict[int, float]] = [{} for _ in range(photos)]
        order = np.argsort(-np.asarray(similarity), kind="stable")
        for (a, b), value in zip(pairs[order].tolist(), similarity[order].tolist(), strict=True):
            self.similar[a][b] = self.similar[b][a] = value
        self.by_similarity: list[tuple[int, int]] = [(a, b) for a, b in pairs[order].tolist()]
        self.wanted: list[set[int]] = [set() for _ in range(photos)]
        for a, partners in enumerate(self.similar):
            for b in list(partners)[: options.partners]:
                self.wanted[a].add(b)
                self.wanted[b].add(a)
        self.times = [0] * photos

    def all_together(self) -> list[PhotoGroup]:
        """All photos in one group, twice, with the two most similar to the others as centres: two opinions."""
        photos = range(len(self.similar))
        ranked = sorted(photos, key=lambda photo: (-sum(self.similar[photo].values()), photo))
        centres = ranked[: self.options.repeats if len(ranked) > 2 else 1]
        return [
            PhotoGroup((centre, *(photo for photo in photos if photo != centre)), "all photos together")
            for centre in centres
        ]

    def cover_pairs(self) -> None:
        """Groups until every wanted pair is in one, or its photos are in as many as they may be."""
        queue = [(-len(partners), photo) for photo, partners in enumerate(self.wanted)]
        heapq.heapify(queue)
        while queue:
            count, photo = heapq.heappop(queue)
            if self.times[photo] >= self.options.most_repeats or not self.wanted[photo]:
                continue
            if -count != len(self.wanted[photo]):
                heapq.heappush(queue, (-len(self.wanted[photo]), photo))
                continue
            members = self._grown((photo,))
            covered = self._cover(members, "")
            if covered:
                self.groups[-1] = PhotoGroup(members, f"{covered} pairs of best partners around the first")
                heapq.heappush(queue, (-len(self.wanted[photo]), photo))
            else:  # what is left of it has no room elsewhere
                self._drop_last()
                self.wanted[photo].clear()

    def repeat(self) -> None:
        """Groups around photos that are in too few."""
        centres = {group.photos[0] for group in self.groups}
        for photo in range(len(self.similar)):
            while self.times[photo] < self.options.repeats:
                members = self._grown((photo,), fresh=True)
                if len(members) < 2:  # nothing is similar to it
                    break
                if photo in centres:
                    members = (members[1], photo, *members[2:])  # with another view as reference
                centres.add(members[0])
                self._cover(members, "another opinion on photos that were in too few groups")

    def join(self) -> None:
        """Groups across the most similar pairs between parts that share too few photos, and past every group without
        which a part would fall apart: that one may be wrong."""
        part = list(range(len(self.groups)))

        def root(group: int) -> int:
            while part[group] != group:
                part[group] = part[part[group]]
                group = part[group]
            return group

        at, shared = self._shared()
        for (one, other), count in shared.items():
            if count >= min(self.options.shared, len(self.groups[one].photos), len(self.groups[other].photos)):
                part[root(one)] = root(other)
        across = [(photo, photo) for photo in range(len(self.similar)) if len(at[photo]) > 1]
        for a, b in [*across, *self.by_similarity]:
            ends = {root(group): group for group in (*at[a], *at[b])}
            while len(ends) > 1:
                (first, one), (second, other), *_ = ends.items()
                self._cover(self._bridge((a, b), one, other), "joins two parts that shared too few photos")
                part[first] = second
                ends.pop(first)
        room = self.options.most_repeats * len(self.similar) - sum(self.times)
        for one, other in self._cuts():
            closest = self._closest(one, other)
            if closest is not None and room >= self.options.size:
                self._cover(self._bridge(closest, one, other), "a second way past a group that alone joined two parts")
                room -= len(self.groups[-1].photos)

    def _shared(self) -> tuple[dict[int, list[int]], Counter[tuple[int, int]]]:
        """The groups of each photo, and the number of photos that two groups share."""
        at: dict[int, list[int]] = defaultdict(list)
        shared: Counter[tuple[int, int]] = Counter()
        for number, group in enumerate(self.groups):
            for photo in group.photos:
                shared.update((other, number) for other in at[photo])
                at[photo].append(number)
        return at, shared

    def _cuts(self) -> list[tuple[int, int]]:
        """Groups that a third one alone connects, by two shared photos or more: two neighbours of it on either side,
        first where most would be lost."""
        graph = networkx.Graph()
        graph.add_nodes_from(range(len(self.groups)))
        _, shared = self._shared()
        graph.add_edges_from(ends for ends, count in shared.items() if count >= _CHECKABLE)
        blocks: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for block in networkx.biconnected_components(graph):
            for group in block:
                others = [other for other in graph[group] if other in block]
                best = max(others, key=lambda other: (shared[min(group, other), max(group, other)], -other))
                blocks[group].append((len(block), best))
        cuts = [(min(a[0], b[0]), a[1], b[1]) for ends in blocks.values() for a, b in pairwise(sorted(ends))]
        return [(one, other) for _, one, other in sorted(cuts, reverse=True)]

    def _closest(self, one: int, other: int) -> tuple[int, int] | None:
        """The most similar photos of two groups."""
        found = [
            (-value, a, b)
            for a in self.groups[one].photos
            for b in self.groups[other].photos
            if (value := self.similar[a].get(b)) is not None
        ]
        return min(found)[1:] if found else None

    def _bridge(self, ends: tuple[int, int], one: int, other: int) -> tuple[int, ...]:
        """The ends and the photos of both groups that are most similar to them, as many of either as are shared."""
        start = list(dict.fromkeys(ends))
        for side in (self.groups[one].photos, self.groups[other].photos):
            inside = [photo for photo in start if photo in set(side)]
            more = sorted(
                (photo for photo in side if photo not in start), key=lambda photo: (-self._to(photo, start), photo)
            )
            start += more[: max(0, self.options.shared - len(inside))]
        return self._grown(tuple(start[: self.options.size]))

    def _grown(self, members: tuple[int, ...], *, fresh: bool = False) -> tuple[int, ...]:
        """The photos and those that go best with them, up to the size of a group."""
        group, inside = list(members), set(members)
        shape = self.shapes[group[0]]
        closest: dict[int, float] = {}
        complete: Counter[int] = Counter()

        def look_around(photo: int) -> None:
            for other, value in self.similar[photo].items():
                closest[other] = max(closest.get(other, -np.inf), value)
            complete.update(self.wanted[photo])

        for photo in group:
            look_around(photo)
        while len(group) < self.options.size:
            best = max(
                (photo for photo in closest if photo not in inside),
                key=lambda photo: (
                    self.shapes[photo] == shape,
                    self.times[photo] < self.options.most_repeats,
                    fresh and self.times[photo] < self.options.repeats,
                    complete[photo],
                    closest[photo],
                    -photo,
                ),
                default=None,
            )
            if best is None:
                break
            group.append(best)
            inside.add(best)
            look_around(best)
        return tuple(group)

    def _cover(self, members: tuple[int, ...], reason: str) -> int:
        """Add a group, and give the number of wanted pairs that it completes."""
        inside, count = set(members), 0
        for photo in members:
            self.times[photo] += 1
            met = self.wanted[photo] & inside
            self.wanted[photo] -= met
            count += len(met)
        self.groups.append(PhotoGroup(members, reason))
        return count // 2

    def _drop_last(self) -> None:
        for photo in self.groups.pop().photos:
            self.times[photo] -= 1

    def _to(self, photo: int, others: Iterable[int]) -> float:
        own: Mapping[int, float] = self.similar[photo]
        return max((own.get(other, 0.0) for other in others), default=0.0)
