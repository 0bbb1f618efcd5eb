"""Blocks of items that share photos: the unit of work that is sent to a machine.

A pair takes 6 to 40 ms and reads the features of two photos, some 200 kB each; sending it takes about as long as
computing it. Pairs within a few photos share them: 32 pairs of a scene graph with ten pairs a photo lie within about
ten photos, where 32 pairs at random touch 60.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable

from unposed.pipeline.executor import Item


class Blocks:
    """Items that wait, from which blocks are taken that touch few photos. Every number in an item is a photo."""

    def __init__(self, items: Iterable[Item]) -> None:
        self._of_photo: dict[int, dict[Item, None]] = {}
        self._alone: deque[Item] = deque()
        self._count = 0
        self.put_back(items)

    def __len__(self) -> int:
        return self._count + len(self._alone)

    def put_back(self, items: Iterable[Item]) -> None:
        """Let these items wait, again."""
        for item in items:
            self._count += 1
            for photo in item:
                self._of_photo.setdefault(photo, {})[item] = None

    def put_back_alone(self, items: Iterable[Item]) -> None:
        """Let these items wait for blocks of their own: one of them may be what has killed a worker."""
        self._alone.extend(items)

    def take(self, size: int) -> list[Item]:
        """At most `size` items; none, if none waits.

        Photos join the block one by one, each time the one that shares the most waiting items with those inside; an
        item is taken when all its photos are inside.
        """
        if self._alone:
            return [self._alone.popleft()]
        block: list[Item] = []
        inside: set[int] = set()
        links: Counter[int] = Counter()
        while len(block) < size and self._of_photo:
            photo = max(links, key=links.__getitem__) if links else next(iter(self._of_photo))
            inside.add(photo)
            del links[photo]
            for item in list(self._of_photo.get(photo, ())):
                outside = [other for other in item if other not in inside]
                if not outside and len(block) < size:
                    self._remove(item)
                    block.append(item)
                for other in outside:
                    links[other] += 1
        return block

    def _remove(self, item: Item) -> None:
        self._count -= 1
        for photo in set(item):
            rest = self._of_photo[photo]
            del rest[item]
            if not rest:
                del self._of_photo[photo]
