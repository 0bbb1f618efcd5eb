"""Drafts that compete: one component mapped several times, where once does not decide.

Rotation averaging and global positioning end in one of several minima where pairs are few, lenses long or pairs planar.
The robust cost on tracks that all drafts are measured on tells them apart, and that two seeds arrive at the same model
shows that it does not hang on chance. Drafts of nearly equal cost are all carried to the fine stage, which measures
more exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from ..arrays import Array
from ..bundle.problem import Bundle
from ..option_ranges import Angle, Count, Within
from ..rotations import nearest_rotation, rotation_angle_deg

OFF_QUANTILE = 0.8
"""Share of the photos that must be turned alike: one or two weak photos do not make another model."""


@dataclass(frozen=True)
class DraftOptions:
    """How many drafts compete, when two are the same, and which are carried on."""

    max_drafts: Count = 8
    """Drafts of one component, at most. The second one ends the competition where it arrives at the first."""
    always_photos: Annotated[int, Within("[0, inf)")] = 32
    """Components of at most so many photos get a second draft, unless the first one arrives where the search for
    intrinsics has arrived from several seeds; larger ones only where the core of the collection did not decide, since
    their many pairs rarely leave a choice and a draft of them is expensive."""
    same_cost_ratio: Annotated[float, Within("[1, inf)")] = 1.05
    """Two drafts are the same if their costs are within this ratio,"""
    same_rotation_deg: Angle = 3.0
    """and four fifths of their photos are turned by less against each other."""
    carried_cost_ratio: Annotated[float, Within("[1, inf)")] = 1.15
    """Drafts within this ratio of the least cost are carried to the fine stage: short bundle adjustments leave costs
    that inexact."""
    max_carried: Count = 4
    """Drafts of one component that are carried to the fine stage, at most; each costs a refinement."""


@dataclass(frozen=True, eq=False)
class Draft:
    """A model of a component and its cost on the tracks that all drafts are measured on."""

    bundle: Bundle
    cost: float


def competing_drafts(
    make: Callable[[int], Draft | None], options: DraftOptions, known: Draft | None = None
) -> list[Draft]:
    """Make drafts with seeds 0, 1 ... until the best has been found twice; distinct ones, the cheapest first.

    known: a model of the same photos that several seeds have arrived at before. A draft that arrives there as well, and
    costs no more, has been found often enough: another one would say the same again.
    """
    found: list[Draft] = []
    arrivals = 0
    for number in range(options.max_drafts):
        new = make(number)
        if new is None:
            continue
        best = min(found, key=lambda each: each.cost, default=None)
        if best is not None and same_draft(best, new, options):
            arrivals += 1
        elif best is None or new.cost < best.cost:
            arrivals = 2 if known is not None and _arrives(new, known, options) else 1
        found.append(new)
        if arrivals >= 2:
            break
    return distinct_drafts(found, options)


def distinct_drafts(drafts: list[Draft], options: DraftOptions) -> list[Draft]:
    """The cheapest of each group of drafts that are the same, the cheapest first."""
    kept: list[Draft] = []
    for draft in sorted(drafts, key=lambda each: each.cost):
        if not any(same_draft(other, draft, options) for other in kept):
            kept.append(draft)
    return kept


def carried_drafts(drafts: list[Draft], options: DraftOptions) -> list[Draft]:
    """Those of distinct drafts, the cheapest first, that the fine stage should compare."""
    least = drafts[0].cost if drafts else 0.0
    return [each for each in drafts if each.cost <= options.carried_cost_ratio * least][: options.max_carried]


def same_draft(a: Draft, b: Draft, options: DraftOptions) -> bool:
    """Whether two drafts have about the same cost and rotations."""
    near = max(a.cost, b.cost) <= options.same_cost_ratio * min(a.cost, b.cost)
    return near and rotation_difference_deg(a.bundle, b.bundle) < options.same_rotation_deg


def _arrives(new: Draft, known: Draft, options: DraftOptions) -> bool:
    """Whether a draft has the rotations of a known one, and about its cost or less: the known one had fewer tracks."""
    near = new.cost <= options.same_cost_ratio * known.cost
    return near and rotation_difference_deg(new.bundle, known.bundle) < options.same_rotation_deg


def rotation_difference_deg(a: Bundle, b: Bundle) -> float:
    """Angle that four fifths of the photos of two models stay below after their worlds are turned to each other.

    180 where they have hardly a photo in common.
    """
    both = np.isfinite(a.cam_from_world[:, 0, 0]) & np.isfinite(b.cam_from_world[:, 0, 0])
    if both.sum() < 2:
        return 180.0
    first, second = (bundle.cam_from_world[both, :, :3] for bundle in (a, b))
    return float(np.quantile(rotation_angle_deg(_turned(first, second)), OFF_QUANTILE))


def _turned(first: Array, second: Array) -> Array:
    """(n, 3, 3) what is left of R_a W R_b^T when W is the mean turn between the worlds."""
    between = nearest_rotation((first.transpose(0, 2, 1) @ second).sum(axis=0))
    left: Array = first @ between @ second.transpose(0, 2, 1)
    return left
