"""Photos that are wrong are told from those that these mislead."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from unposed.optim.verdict.blame import blamed


@dataclass(frozen=True)
class Answer:
    fails: bool
    weight: float = 1.0
    tested: bool = True


NEIGHBOURS = {0: (1, 2), 1: (0, 2, 3), 2: (0, 1, 3), 3: (1, 2, 4), 4: (3, 5), 5: (4,)}


def asked(wrong: set[int], photo: int, left_out: set[int]) -> Answer:
    """Fails if wrong itself, or if a neighbour that is asked is wrong; not tested where no neighbour is left."""
    others = [each for each in NEIGHBOURS[photo] if each not in left_out]
    if not others:
        return Answer(False, tested=False)
    return Answer(photo in wrong or any(each in wrong for each in others), 2.0 if photo in wrong else 1.0)


@pytest.mark.parametrize("wrong", [set(), {3}, {1, 4}, {5}])
def test_only_wrong_photos_are_blamed(wrong: set[int]) -> None:
    found = [asked(wrong, photo, set()) for photo in range(6)]
    assert sum(each.fails for each in found) > len(wrong) or not wrong
    results = blamed(found, lambda photo, left_out: asked(wrong, photo, left_out), lambda each: each.weight)
    assert {photo for photo, each in enumerate(results) if each.fails} == wrong


def test_a_photo_that_was_blamed_first_is_cleared_in_the_end() -> None:
    """The weight may deceive: photo 2 seems worse than photo 3, which is wrong."""
    found = [asked({3}, photo, set()) for photo in range(6)]
    results = blamed(
        [Answer(each.fails, 9.0 if photo == 2 else each.weight) for photo, each in enumerate(found)],
        lambda photo, left_out: asked({3}, photo, left_out),
        lambda each: each.weight,
    )
    assert [photo for photo, each in enumerate(results) if each.fails] == [3]
