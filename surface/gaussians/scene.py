"""Gaussians and the photos that they are trained on. Plain data."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from unposed.optim.arrays import Array32, Mask
from unposed.optim.option_ranges import Count, Positive, Share, Within

from ..stereo.view import Pinhole

SH_0 = 0.28209479177387814
"""The constant spherical harmonic: colour = 0.5 + SH_0 * coefficient, as all programs for splats store it."""


@dataclass(frozen=True, eq=False)
class Gaussians:
    """Ellipsoids of colour and opacity in the world, in the parameters that are trained and stored."""

    mean: Array32
    """(n, 3)."""
    log_scale: Array32
    """(n, 3) natural logarithms of the standard deviations along the axes."""
    quaternion: Array32
    """(n, 4) w x y z of the rotation from the axes to the world, of any length."""
    logit: Array32
    """(n,) of the opacity."""
    coefficient: Array32
    """(n, 3) of the constant spherical harmonic, red, green, blue."""

    def __len__(self) -> int:
        return len(self.mean)

    def fault(self) -> str | None:
        """What is wrong with the arrays; None: nothing."""
        for name, width in {"mean": 3, "log_scale": 3, "quaternion": 4, "logit": 0, "coefficient": 3}.items():
            value, shape = np.asarray(getattr(self, name)), (len(self.mean), width) if width else (len(self.mean),)
            if value.shape != shape:
                return f"{name} has shape {value.shape}, expected {shape}"
            if not np.isfinite(value).all():
                return f"{name} is not finite"
        if (np.linalg.norm(self.quaternion, axis=1) == 0).any():
            return "quaternion is zero"
        return None if len(self) else "there are none"

    @property
    def rgb(self) -> Array32:
        """(n, 3) colours, from 0 to 1."""
        return np.asarray(np.clip(0.5 + np.float32(SH_0) * self.coefficient, 0.0, 1.0), np.float32)


@dataclass(frozen=True, eq=False)
class TrainingView:
    """A photo to train on, or to be compared with."""

    name: str
    camera: Pinhole
    rgb: NDArray[np.uint8]
    """(height, width, 3)."""
    visible: Mask | None = None
    """(height, width): pixels that count; None: all."""
    held_out: bool = False
    """Whether it is kept from training, to measure with."""
    sigma_rad: float = math.inf
    sigma_centre: float = math.inf
    """Standard deviations of the pose, as far as they are known: of the rotation, and of the position in units of the
    world."""


@dataclass(frozen=True, eq=False)
class SplatState:
    """How far a training has come: what it needs to go on."""

    step: int
    gaussians: Gaussians
    log_gain: Array32
    """(views, 3) exposure of each photo against the mean of all, by channel, as natural logarithms."""
    motion: Array32
    """(views, 6) how far the poses have moved, see `poses.moved`."""
    size: float
    """Median size of the Gaussians at the start, which steps of positions are measured in."""
    moments: dict[str, Array32]
    """Running means of the optimiser, by parameter."""


@dataclass(frozen=True)
class ViewScore:
    """How close a rendered photo is to the real one."""

    name: str
    psnr: float
    """10 log10(1 / mean squared error), colours from 0 to 1."""
    ssim: float
    """Mean structural similarity, at most 1."""
    covered: float
    """Share of the pixels that Gaussians cover by more than half; only these are compared."""


@dataclass(frozen=True, eq=False)
class SplatRun:
    """A training that has been prepared."""

    views: tuple[TrainingView, ...]
    """The photos of the model, held out or not."""
    states: Iterator[SplatState]
    """Trains as it is asked for the next one; the last one is the result. None where nothing is left to do."""


@dataclass(frozen=True)
class TrainingOptions:
    """How long and on what Gaussians are trained."""

    max_side_px: Annotated[int, Within("[16, inf)")] = 128
    """Longer side that photos are reduced to. Time grows with its square."""
    seeds: Count = 4000
    """Points to begin with at most. Cells without any get a point more."""
    cell_px: Count = 4
    """Side of the cells of a photo of which each has a point at least."""
    steps: Count = 1000
    """One photo each."""
    coarse_share: Share = 0.0
    """Share of the steps that are taken first, on images of half the size. With 0.4, a tenth of the time was saved on
    fountain-P11, and half a decibel lost."""
    structure: Share = 0.2
    """Weight of structural similarity in the loss, against the difference of colours."""
    mean_rate: Positive = 0.03
    """First step width of positions, over the median size of the Gaussians; it falls to a hundredth."""
    scale_rate: Positive = 0.01
    quaternion_rate: Positive = 0.005
    opacity_rate: Positive = 0.03
    colour_rate: Positive = 0.01
    """First step widths of the other parameters; they fall to a tenth."""
    gain_rate: Annotated[float, Within("[0, inf)")] = 0.002
    """Step width of the exposure of each photo; 0 takes all as equally exposed."""
    pose_rate: Annotated[float, Within("[0, inf)")] = 0.0
    """First step width of the pose of each photo, in pixels that it moves the scene by, or in standard deviations of
    the pose where these are less; it falls to a hundredth. 0 keeps all poses."""
    correlated_px: Positive = 5.0
    """Side of the squares whose errors go together: a photo has so many independent errors as squares, against the
    standard deviations of its pose."""
    pose_gain_db: Annotated[float, Within("[0, inf)")] = 0.2
    """Poses that were trained are kept where photos held out come closer by so much: another order of photos changes
    their mean by up to that."""
    test_every: Annotated[int, Within("[2, inf)")] = 8
    """Every so many photos, by name, are held out."""
    held_out_from: Annotated[int, Within("[3, inf)")] = 4
    """Photos of which one is held out; fewer are all trained on. With 3, one of three says whether poses that were
    trained are better, and two make the splat."""
    seed: int = 0
    """Of the order of photos."""
