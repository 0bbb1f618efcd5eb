"""Photos compared with what others say they should look like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Annotated

import numpy as np
import torch

from unposed.optim.arrays import Array, Array32, Index, Mask
from unposed.optim.option_ranges import Count, Positive, Share, Within
from unposed.optim.verdict.blame import blamed

from .correlation import Correlator, sampled
from .neighbours import NeighbourOptions, choose_sources, inverse_depth_range
from .sweep import SweepOptions, sweep_depth
from .view import DepthEstimate, StereoView

ESTIMATES_HELD = 256
"""Depths that are kept for further photos that are compared with the same neighbour."""
REACH_PX = 3
"""Pixels that an image is shifted by at most in each direction."""


@dataclass(frozen=True)
class HeldOutImageOptions:
    """How a photo is compared with its neighbours, and when it does not show what they do."""

    references: Count = 3
    """Neighbours that a photo is compared with, one by one; the one that agrees best counts."""
    sources: Count = 3
    """Photos that the depth of a neighbour is estimated from; the photo that is tested is never one of them."""
    min_score: Share = 0.7
    """Correlation below which a depth of the neighbour is not used."""
    min_share: Share = 0.08
    """Share of the neighbour's pixels that the photo must show: small overlaps are decided by what moves or shines."""
    window_px: Annotated[int, Within("[3, 31]")] = 7
    """Side of the windows that are compared."""
    max_shift_px: Positive = 0.7
    """Shift of the image from which on its pose is off, if that brings it closer. Of 110 photos that nobody had touched
    none was beyond 0.65; half a degree is 0.9 to 2 pixels of images of 192."""
    min_gain: Positive = 0.03
    """How much correlation the shift must gain: blank images agree as well wherever they are put."""
    min_correlation: Annotated[float, Within("[-1, 1]")] = 0.2
    """Mean correlation below which a photo shows something else. Of one place in all weathers it is 0.33 or more."""
    neighbours: NeighbourOptions = field(default_factory=lambda: NeighbourOptions(sources=5))
    sweep: SweepOptions = field(default_factory=lambda: SweepOptions(coarse_halvings=1, max_planes=64, refine_steps=1))


@dataclass(frozen=True)
class ImageTest:
    """How a photo agrees with the neighbour that it agrees with best; not a number where none could be asked."""

    correlation: float
    """Mean over windows of the normalised correlation, from -1 to 1."""
    shift_px: float
    """Shift of the photo's image that brings it closest."""
    gain: float
    """Correlation that this shift gains."""
    psnr: float
    """10 log10(1 / mean squared difference of grey) after the exposure has been matched."""
    share: float
    """Share of the neighbour's pixels that could be compared."""
    beside: bool = False
    """Whether the shift is what is wrong."""
    fails: bool = False

    @property
    def tested(self) -> bool:
        """Whether a neighbour could be asked."""
        return bool(np.isfinite(self.correlation))


_NONE = float("nan")
NOT_TESTED = ImageTest(_NONE, _NONE, _NONE, _NONE, 0.0)


def held_out_images(
    views: Sequence[StereoView],
    points: Array,
    photo: Index,
    point: Index,
    left_out: Mask,
    options: HeldOutImageOptions = HeldOutImageOptions(),
    device: str = "cpu",
) -> list[ImageTest]:
    """Compare every photo with its neighbours, over depths of these in which it had no part.

    Each pixel of a neighbour, at its depth from further photos, is looked up in the photo. Where the pose is right,
    both look alike, and shifting the image does not help. Photos that are `left_out` (n,) are tested, but are asked
    about no other; see `blamed` for others that fail. points (p, 3) with their observations (m,) by photo say who is a
    neighbour, and between which depths surfaces lie. Sides must be multiples of 2^coarse_halvings.
    """
    comparison = _Comparison(views, points, photo, point, options, device)

    def again(row: int, wrong: set[int]) -> ImageTest:
        asked = ~left_out
        asked[list(wrong)] = False
        return comparison.test(row, asked)

    found = [again(row, set()) for row in range(len(views))]
    return blamed(found, again, lambda each: each.share * (1.0 - each.correlation))


class _Comparison:
    """Photos that are compared, and the depths that have been estimated for it."""

    def __init__(
        self,
        views: Sequence[StereoView],
        points: Array,
        photo: Index,
        point: Index,
        options: HeldOutImageOptions,
        device: str,
    ) -> None:
        self.views, self.options, self.device = views, options, device
        centres = np.array([view.camera.centre for view in views]).reshape(-1, 3)
        self.sources = choose_sources(centres, points, photo, point, options.neighbours)
        self.depths = [
            np.asarray(view.camera.project(points[point[photo == row]])[1]) for row, view in enumerate(views)
        ]
        self.estimate = lru_cache(maxsize=ESTIMATES_HELD)(self._estimate)

    def test(self, row: int, asked: Mask) -> ImageTest:
        """Compare a photo with those of its neighbours that may be asked."""
        options, best = self.options, NOT_TESTED
        for reference in [each for each in self.sources[row].tolist() if asked[each]][: options.references]:
            others = [each for each in self.sources[reference].tolist() if each != row and asked[each]]
            if not others or (self.depths[reference] > 0).sum() < options.neighbours.min_shared:
                continue
            tested = self._compared(row, self.estimate(reference, tuple(others[: options.sources])), reference)
            if tested.tested and not (best.tested and (best.fails, best.shift_px) <= (tested.fails, tested.shift_px)):
                best = tested
        return best

    def _estimate(self, row: int, others: tuple[int, ...]) -> DepthEstimate:
        depth = np.asarray(self.depths[row], np.float64)
        inverse_range = inverse_depth_range(depth[depth > 0], self.options.neighbours.range_margin)
        with torch.inference_mode():
            sources = [self.views[each] for each in others]
            return sweep_depth(self.views[row], sources, inverse_range, self.options.sweep, self.device)

    def _compared(self, row: int, estimate: DepthEstimate, reference: int) -> ImageTest:
        options, there, here = self.options, estimate.camera, self.views[row].camera
        y, x = np.mgrid[: there.height, : there.width].reshape(2, -1) + 0.5
        known = np.flatnonzero((estimate.inverse > 0).ravel() & (estimate.score >= options.min_score).ravel())
        inverse = estimate.inverse.ravel()[known].astype(np.float64)
        xy, depth = here.project(there.unproject(np.stack([x[known], y[known]], axis=1), 1.0 / inverse))
        inside = (depth > 0) & ((xy > REACH_PX) & (xy < (here.width - REACH_PX, here.height - REACH_PX))).all(axis=1)
        if (visible := self.views[row].visible) is not None:
            column, line = np.where(inside[:, None], xy, 0.0).astype(np.int64).T
            inside &= visible[line, column]
        if inside.sum() < options.min_share * len(x):
            return NOT_TESTED
        at = known[inside]
        with torch.inference_mode():
            image, grey = torch.from_numpy(self.views[row].grey), self.views[reference].grey
            correlate = Correlator(torch.from_numpy(grey), options.window_px, options.sweep.noise)
            seen_at = np.zeros((2, len(x)), np.float32)
            seen_at[:, at] = xy[inside].T
            u, v = torch.from_numpy(seen_at.reshape(2, there.height, there.width))

            def agreement(dx: int, dy: int) -> float:
                return float(correlate(sampled(image, u + dx, v + dy)).reshape(-1)[at].mean())

            steps = range(-REACH_PX, REACH_PX + 1)
            grid = np.array([[agreement(dx, dy) for dx in steps] for dy in steps])
            shown = sampled(image, u, v).numpy().ravel()[at]
        (right, down), most = _peak(grid)
        shift_px, here_now = float(np.hypot(right, down)), float(grid[REACH_PX, REACH_PX])
        gain = most - here_now
        off = shift_px > options.max_shift_px and gain > options.min_gain
        fails = off or here_now < options.min_correlation
        return ImageTest(here_now, shift_px, gain, _psnr(shown, grey.ravel()[at]), len(at) / len(x), off, fails)


def _peak(grid: Array) -> tuple[tuple[float, float], float]:
    """Shift (x, y) of the largest value in a grid around none, by a parabola in each direction, and that value."""
    row, column = np.unravel_index(int(grid.argmax()), grid.shape)
    middle = len(grid) // 2

    def offset(line: Array, at: int) -> float:
        if not 0 < at < len(line) - 1:
            return 0.0
        bend = line[at - 1] - 2.0 * line[at] + line[at + 1]
        return float(0.5 * (line[at - 1] - line[at + 1]) / bend) if bend < 0 else 0.0

    x = column - middle + offset(grid[row], int(column))
    y = row - middle + offset(grid[:, column], int(row))
    return (float(x), float(y)), float(grid[row, column])


def _psnr(a: Array32, b: Array32) -> float:
    """Of grey values from 0 to 1, the first ones multiplied by the number that brings them closest."""
    factor = float(a @ b) / max(float(a @ a), 1e-6)
    return float(-10.0 * np.log10(max(float(np.mean((factor * a - b) ** 2)), 1e-10)))
