"""Rigs in the fine stage: they are found where they were unknown, and hold for its start."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from unposed.optim.arrays import Mask
from unposed.optim.bundle.problem import Bundle
from unposed.optim.mapping.rig_sensors import RigSensorOptions, fitted_to_rigs, with_found_sensors
from unposed.optim.rigs import Rigs


def tied_by_rigs(bundle: Bundle, rigs: Rigs | None, candidates: Mask, options: RigSensorOptions) -> Bundle:
    """The bundle with rigs that hold for it, to start from: bundle adjustment keeps what is between photos of a frame.

    Of photos without a pose, the `candidates` (photos,) may get that of their frame; others belong to other models.
    """
    if rigs is None:
        return bundle
    found = with_found_sensors(rigs, bundle.cam_from_world, options)
    posed = np.isfinite(bundle.cam_from_world[:, 0, 0])
    poses, _ = fitted_to_rigs(found, bundle.cam_from_world)
    poses[~posed & ~candidates] = np.nan
    return replace(bundle, cam_from_world=poses, rigs=found)


def ties_more(bundle: Bundle, before: Bundle) -> bool:
    """Whether the rigs of a bundle fix photos to each other that those of another one do not."""
    if bundle.rigs is None or before.rigs is None:
        return False
    return bool((bundle.rigs.known & ~before.rigs.known).any())
