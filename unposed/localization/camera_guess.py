"""What is known of the camera of a photo that is localized: given, that of photos of the model, EXIF, or nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import numpy as np

from unposed.optim.bundle.intrinsics import hold_principal, intrinsics_with_priors
from unposed.optim.bundle.problem import IntrinsicsPrior
from unposed.optim.cameras import intrinsics_of
from unposed.optim.intrinsics_priors import FocalSource
from unposed.optim.localization.pose_hypotheses import PhotoCamera, without_focal_prior
from unposed.pipeline.artifacts import Camera, CameraPriors, Photo, Photos

from .model_map import ModelMap

CameraSource = Literal["auto", "model", "free"]
"""auto: the camera of the model's photos of the same kind, or another where that explains more; model: that camera,
where there is one; free: focal length and distortion are estimated, whatever EXIF says."""

NOISE_PX = 0.75
"""Noise that priors of intrinsics are weighed against, in expected key point errors, as in the refinement of models."""


@dataclass(frozen=True, eq=False)
class CameraGuess:
    """Guesses cameras by the cameras node of the model's preset, which says whose photos are of one camera."""

    stage: Any
    model_map: ModelMap
    source: CameraSource = "auto"

    def of_photo(self, photo: Photo, model: int, camera: Camera | None) -> Iterator[PhotoCamera]:
        """The cameras to try in turn."""
        if camera is not None:
            yield _known(camera)
            return
        shared, priors, own = self._shared(photo, model)
        prior = _with_prior(priors.cameras[own], priors.focal_source[own], priors)
        if self.source == "free":
            yield without_focal_prior(prior)
            return
        if shared is not None:
            yield _known(shared)
            if self.source == "model":
                return
        elif prior.focal_known:
            yield prior
        yield without_focal_prior(prior)

    def _shared(self, photo: Photo, model: int) -> tuple[Camera | None, CameraPriors, int]:
        """The camera of the model whose photos are taken to be of the photo's camera; what is known without it."""
        kinds = {(each.camera, each.photo.exif): each for each in self.model_map.photos if each.model == model}
        others = list(kinds.values())
        stage = self.stage
        if any(each.name == "poses" for each in fields(stage)):  # the photo has none
            stage = replace(stage, poses=None, intrinsics=None)
        priors: CameraPriors = stage(Photos((photo, *(each.photo for each in others)), {}))
        group = priors.camera_of_photo
        alike = [each.camera for each, own in zip(others, group[1:].tolist(), strict=True) if own == group[0]]
        alone: CameraPriors = stage(Photos((photo,), {})) if alike else priors
        own = int(alone.camera_of_photo[0])
        if not alike:
            return None, alone, own
        # A mapper may have given every photo a camera of its own: the one in the middle is as good as any.
        alike.sort(key=lambda camera: camera.params[0])
        return alike[len(alike) // 2], alone, own


def _known(camera: Camera) -> PhotoCamera:
    size = (camera.width, camera.height)
    return PhotoCamera(camera.model, intrinsics_of(camera.model, camera.params), size, None, True)


def _with_prior(camera: Camera, source: FocalSource, priors: CameraPriors) -> PhotoCamera:
    """The camera with the prior that mapping would give it; one photo does not determine its principal point."""
    size = (camera.width, camera.height)
    found = intrinsics_with_priors(
        [camera.model],
        [camera.params],
        np.array([size], np.float64),
        [source],
        np.zeros(1, np.int64),
        NOISE_PX,
        priors.prior,
    )
    prior: IntrinsicsPrior = hold_principal(found.prior, np.ones(1, np.int64))
    return PhotoCamera(camera.model, found.values[0], size, prior, source != "guess")
