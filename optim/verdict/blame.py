"""Which of several photos that contradict each other are wrong, and which are only misled by these."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar


class HeldOutTest(Protocol):
    """What a test of a photo by others came to."""

    @property
    def fails(self) -> bool:
        """Whether the others contradict the photo."""

    @property
    def tested(self) -> bool:
        """Whether they could say anything."""


T = TypeVar("T", bound=HeldOutTest)


def blamed(found: Sequence[T], test: Callable[[int, set[int]], T], weight: Callable[[T], float]) -> list[T]:
    """The tests of all photos, without those that fail on account of others.

    A wrong photo spoils what its neighbours are tested by, so that they fail, too. The failure of most `weight` is
    taken for a wrong photo, and the others that fail are tested again without it: `test` takes a photo and those that
    may not be asked. So on until none fails but those that were taken; each of these is then tested without the rest
    of them.
    """
    results = list(found)
    wrong: set[int] = set()
    while failing := [photo for photo, each in enumerate(results) if each.fails and photo not in wrong]:
        wrong.add(max(failing, key=lambda photo: weight(results[photo])))
        for photo in failing:
            if photo not in wrong:
                results[photo] = test(photo, wrong)
    for photo in sorted(wrong):
        again = test(photo, wrong - {photo})
        if again.tested and not again.fails:
            results[photo] = again
            wrong.discard(photo)
    return results
