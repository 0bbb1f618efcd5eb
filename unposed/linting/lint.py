"""Lint: all checks of a folder to train splats from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from unposed.pipeline.config import build, did_you_mean
from unposed.pipeline.errors import ConfigError

from ..options import Settings
from ..settings import options_of
from . import camera_checks, image_checks, map_checks, name_checks, point_checks, transforms_checks
from .finding import TRAINERS, Finding, LintLimits
from .scene_folder import read_scene_folder

CHECKS = (
    *camera_checks.CHECKS,
    *transforms_checks.CHECKS,
    *name_checks.CHECKS,
    *image_checks.CHECKS,
    *point_checks.CHECKS,
    *map_checks.CHECKS,
)
"""Functions from a folder and limits to findings, in the order in which faults are reported."""


def lint(folder: str | Path, trainers: Sequence[str] = TRAINERS, *, settings: Settings = ()) -> tuple[Finding, ...]:
    """Find what makes programs for Gaussian splatting stop, or train wrong, in a folder of any origin.

    trainers: the programs that are to read it. settings: limits as lines `key=value`, see LintLimits.
    """
    for trainer in trainers:
        if trainer not in TRAINERS:
            raise ConfigError(f"{trainer!r} is no trainer that is known{did_you_mean(trainer, TRAINERS)}")
    limits = build(LintLimits, options_of(settings), "lint")
    scene = read_scene_folder(Path(folder))
    found = (finding for check in CHECKS for finding in check(scene, limits))
    return tuple(finding for finding in found if set(finding.trainers) & set(trainers))
