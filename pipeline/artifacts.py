"""Artifacts: the values that stages pass to each other, frozen dataclasses of arrays without computation.

Conventions, everywhere in the project:

* A photo is meant by its index in the collection, which is sorted by name. Indices never enter an item's
  value: adding a photo shifts them, and must not spoil what is stored of the others.
* Pixels are COLMAP's: the centre of the top-left pixel is (0.5, 0.5), x to the right, y down, always at the
  original resolution of the upright photo (EXIF orientation applied).
* `b_from_a` maps coordinates of a to coordinates of b; cameras look along +z, y points down.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from unposed.optim.intrinsics_priors import FocalSource, IntrinsicsPriorOptions
from unposed.optim.quarter_turns import CameraTurns
from unposed.optim.rigs import Rigs
from unposed.surface.stereo.view import DensePoints, DepthEstimate

from .photo_artifacts import (
    Bools as Bools,
    Bytes as Bytes,
    Exif as Exif,
    Floats as Floats,
    Ints as Ints,
    Photo as Photo,
    Photos as Photos,
    View as View,
)


@dataclass(frozen=True, eq=False)
class Features:
    """Key points of one photo with their descriptors."""

    xy: Floats
    """(n, 2) float32 pixels."""
    scale: Floats
    """(n,) float32, radius of the point in pixels."""
    descriptors: NDArray[np.generic]
    """(n, d); the extractor defines the metric: SIFT-like uint8, or float16/32 rows of unit norm."""
    rgb: Bytes
    """(n, 3) colour of the photo at the point."""
    score: Floats
    """(n,) float32, larger is better; rows are sorted by it, best first."""


@dataclass(frozen=True, eq=False)
class Tokens:
    """Encoder tokens of one photo, a vector per patch of the network's image, which is the photo reduced and cropped.
    For retrieval and for the decoders of the same network."""

    values: Floats
    """(rows, columns, d) float32, or float16 to save memory."""
    patch_px: int
    """Side of a patch in pixels of the image."""
    origin_px: tuple[float, float]
    """x and y in the photo of the centre of the image's top-left pixel."""
    step_px: tuple[float, float]
    """Photo pixels per image pixel, along x and y."""
    encoder: str
    """Hash of the weight file: tokens are only valid for the network they come from."""


@dataclass(frozen=True, eq=False)
class PhotoMask:
    """What of a photo is to be used, as a network says: not what moves, nor the sky."""

    visible: Bools
    """(h, w) bool, of any size but spanning the photo; True is to be used."""


@dataclass(frozen=True)
class Camera:
    """Intrinsics by COLMAP's name and parameter order, e.g. SIMPLE_RADIAL (f, cx, cy, k)."""

    model: str
    width: int
    height: int
    params: tuple[float, ...]


@dataclass(frozen=True)
class CameraPrior:
    """What is known of the camera of one photo before any geometry."""

    camera: Camera
    focal_source: FocalSource


@dataclass(frozen=True)
class PhotoCalibration:
    """What one photo alone says of its camera."""

    focal_px: float
    """At the photo's original size; not a number where the photo does not tell."""
    log_sigma: float
    """Standard deviation of the logarithm of the focal length; infinite where the photo does not tell."""


@dataclass(frozen=True, eq=False)
class CameraPriors:
    """Which photos are assumed to share a camera, and what is known of the cameras before any geometry.

    The only source of focal lengths: verification and mappers read it, and no stage reads EXIF for itself.
    """

    cameras: tuple[Camera, ...]
    camera_of_photo: Ints
    """(photos,) index into cameras."""
    focal_source: tuple[FocalSource, ...]
    """Per camera."""
    grouping: Literal["given", "assumed"] = "assumed"
    """Assumed groups (same body, lens and size) are a hypothesis for the mapper to test, given ones are a fact."""
    cam_from_world: Floats | None = None
    """(photos, 3, 4) float64 poses that are given; not a number for photos without."""
    prior: IntrinsicsPriorOptions = field(default_factory=IntrinsicsPriorOptions)
    """Standard deviations of the intrinsics, for all stages that estimate them."""
    rigs: Rigs | None = None
    """Which photos are fixed to each other; None: none are."""
    given_sigma: Floats | None = None
    """(cameras, 8) float64 standard deviations of given intrinsics in the order of optim.cameras, zero where they are
    constant; None: all that are given are."""
    pose_sigma: Floats | None = None
    """(photos, 2) standard deviations of given rotations, in degrees, and positions, in units of the world: 0 for poses
    that are not to be changed, infinite where nothing is known. None: no given pose is to be changed."""
    guess_log_sigma: Floats | None = None
    """(cameras,) float64 standard deviations of the logarithms of guessed focal lengths. None: all are infinite."""
    turns: CameraTurns | None = None
    """Which cameras are one that was turned; None: none are."""

    def of_photo(self, photo: int) -> CameraPrior:
        """The part that concerns one photo, and changes only if that does (see stage.PerPhotoParts)."""
        camera = int(self.camera_of_photo[photo])
        return CameraPrior(self.cameras[camera], self.focal_source[camera])


@dataclass(frozen=True, eq=False)
class Ranking:
    """Sparse similarity between photos: the best partners of each photo, rows i < j; larger is more similar."""

    pairs: Ints
    """(n, 2) int32 photo indices, i < j."""
    similarity: Floats
    """(n,) float32."""


@dataclass(frozen=True, eq=False)
class SceneGraph:
    """The pairs worth matching."""

    pairs: Ints
    """(n, 2) int32 photo indices, i < j, sorted."""
    similarity: Floats
    """(n,) float32."""
    reason: str = ""
    """One line of what was missing, where pairs are matched for the sake of that."""

    def of_photo(self, photo: int) -> bool:
        """Whether the photo is in any pair (see stage.PerPhotoParts)."""
        return bool((self.pairs == photo).any())


@dataclass(frozen=True, eq=False)
class PhotoGroups:
    """Groups of photos that networks for many views look at together."""

    groups: tuple[Ints, ...]
    """(k,) int32 photo indices of each group, the centre first; the view that the others refer to."""
    reasons: tuple[str, ...]
    """One line for each group: what it is there for."""


@dataclass(frozen=True, eq=False)
class DepthGrid:
    """Depth of one photo as predicted for a pair or group, sampled on a grid of the photo's pixels."""

    origin_px: tuple[float, float]
    """x and y of the sample depth[0, 0] in the original photo."""
    step_px: tuple[float, float]
    """Distance of neighbouring samples along x and y."""
    depth: Floats
    """(h, w) float32 along the optical axis, up to one scale, which is that of this side's match depths; float16 is
    enough where the scale keeps it within 1e-3 and 1e4. Not a number or not positive: unknown."""
    confidence: Floats | Bytes
    """(h, w) float32, float16 or uint8, positive; only ratios within one grid matter."""
    focal_px: float
    """Focal length, in pixels of the original photo, under which the depth was predicted."""


@dataclass(frozen=True, eq=False)
class LocalScene:
    """What a network says of a group of k photos, in one frame and at one scale, which is free."""

    cam_from_local: Floats
    """(k, 3, 4) float64; that of the centre is the identity."""
    focals_px: Floats
    """(k,) float64 in pixels of the original photos; the principal point is the middle of the photo."""
    grids: tuple[DepthGrid, ...]
    """(k,) depth of each photo in the unit of the poses."""
    overlap: Floats
    """(k, k) float32, 0 to 1: share of the depth samples of photo i that photo j sees at the depth that j says."""


@dataclass(frozen=True, eq=False)
class PairMatches:
    """Correspondences between photos a and b, a before b in the collection."""

    xy_a: Floats
    xy_b: Floats
    """(m, 2) float32 pixels."""
    weight: Floats
    """(m,) float32 in (0, 1]: confidence of the matcher."""
    index_a: Ints | None = None
    index_b: Ints | None = None
    """(m,) int32 rows of the two photos' Features; None for matchers without key points."""
    depth_a: Floats | None = None
    depth_b: Floats | None = None
    """(m,) float32 depth of each match in front of its own camera, each side up to one scale of its own; from matchers
    that predict point maps. Not a number or not positive: unknown."""
    grids: tuple[DepthGrid, DepthGrid] | None = None
    """Depth of all of a and all of b, from the same matchers."""


@dataclass(frozen=True, eq=False)
class TwoViewGeometry:
    """The geometry of a pair's verified matches."""

    kind: Literal["general", "planar", "rotation", "none"]
    """rotation and planar pairs give no trustworthy depth; none: no geometry explains the matches."""
    inliers: Bools
    """(m,) over the rows of the pair's PairMatches."""
    b_from_a: Floats
    """(3, 4) float64 relative pose; the baseline has unit length (zero for pure rotation)."""
    focals_px: Floats
    """(2,) float64: the focal lengths under which b_from_a was found."""
    focal_source: Literal["prior", "pair", "guess"]
    """prior: from CameraPriors, given or EXIF; pair: estimated from this pair alone; guess: the usual field of view."""
    fundamental: Floats
    """(3, 3) float64, x_b^T F x_a = 0 in pixels, one of many for a planar pair; zeros for rotation/none."""
    angle_deg: float
    """Median triangulation angle of the inliers."""


@dataclass(frozen=True, eq=False)
class Doubts:
    """Verified pairs that mappers leave out: they are inconsistent with others, or show doppelgangers."""

    pairs: Ints
    """(n, 2) int32 photo indices, i < j, sorted."""
    reasons: tuple[str, ...]
    """(n,) one line for each."""
    warnings: tuple[str, ...] = ()
    """For the user, about all of them together."""
    rival_margin: Floats | None = None
    """(photos,) energy that the next best reading of the pairs around a photo costs more, one that keeps much of what
    is left out; infinite where none was found. None: not computed."""


@dataclass(frozen=True, eq=False)
class InitialModel:
    """Poses and intrinsics of one connected set of photos, before the last refinement."""

    cameras: tuple[Camera, ...]
    photos: Ints
    """(p,) int32 collection indices of the registered photos, ascending."""
    camera_of_photo: Ints
    """(p,) int32 index into cameras."""
    cam_from_world: Floats
    """(p, 3, 4) float64."""


@dataclass(frozen=True, eq=False)
class InitialModels:
    """What a coarse mapper found: largest model first, and why the other photos are in none."""

    models: tuple[InitialModel, ...]
    left_out: Mapping[int, str]
    """Photo index to reason, for photos in no model."""
    warnings: tuple[str, ...] = ()
    hypotheses: tuple[tuple[InitialModel, ...], ...] = ()
    """For each model, others of the same photos that fit about as well, for the fine stage to decide between."""


@dataclass(frozen=True, eq=False)
class PredictedModels(InitialModels):
    """Initial models whose poses a network predicts: a photo without matches has one, too."""


@dataclass(frozen=True, eq=False)
class SparseModel(InitialModel):
    """Poses and intrinsics of one connected set of photos with 3D points. Converts losslessly to a COLMAP model."""

    xy: Floats
    """(k, 2) float64 pixels: all key points of the registered photos, photo after photo."""
    xy_start: Ints
    """(p + 1,) int64: photo r (row in `photos`) owns rows xy_start[r]:xy_start[r+1] of xy."""
    points: Floats
    """(n, 3) float64 world."""
    rgb: Bytes
    """(n, 3)."""
    error_px: Floats
    """(n,) float64 mean reprojection error."""
    obs_xy: Ints
    """(m,) int64 row of xy seen, sorted by (obs_point, obs_xy): a track is a run of equal obs_point."""
    obs_point: Ints
    """(m,) int64 row of points."""
    rigs: Rigs | None = None
    """Rigs that the photos (p,) belong to; None: none."""

    @property
    def obs_photo(self) -> NDArray[np.int64]:
        """(m,) row in `photos` of the one that makes each observation."""
        return np.searchsorted(self.xy_start, self.obs_xy, side="right") - 1


@dataclass(frozen=True, eq=False)
class ModelVerdict:
    """How reliable a model is."""

    probability: float
    """That the relative pose of two of its photos is right within 5 degrees."""
    photo_probability: Floats
    """(p,) likewise of each photo against the others."""
    reasons: tuple[str, ...]
    """What speaks against the model, the strongest first."""
    evidence: Mapping[str, float]
    """The figures that it rests on, by the names in optim.verdict.evidence.ModelEvidence."""
    trusted: bool = True
    """Whether the model is delivered without a warning about it as a whole."""


@dataclass(frozen=True)
class HypothesisFigures:
    """One of several models of the same photos that the fine stage compared."""

    cost: float
    """Mean over observations of e^2 / (1 + e^2), e in expected key point errors, from 0 to 1."""
    focal_ratio: float
    """Median focal length over that of the chosen model."""
    turned_deg: float
    """Angle that four fifths of the photos are turned by less against the chosen model."""


@dataclass(frozen=True, eq=False)
class RefinementReport:
    """How the fine stage came to a model, and how reliable the model is."""

    costs: tuple[tuple[float, ...], ...]
    """Of each adjustment, in square pixels: before its first step, and after each step that was taken."""
    pairs: Ints
    """(e, 2) int32 photo indices: the verified pairs of the model's photos."""
    matches: Ints
    """(e,) verified ones."""
    inliers: Ints
    """(e,) those of them that agree with the final poses."""
    error_px: Floats
    """(e,) RMS distance of the latter from their epipolar lines; not a number where there are none."""
    removed: Mapping[str, int]
    """What was left out: the reason, and how many."""
    free_gauge: int | None = None
    """Directions in which the model may move at no cost, 7 where frame and scale are free. None: not computed."""
    condition: float | None = None
    """Condition number of the normal equations apart from the gauge; from 1e12 on something is undetermined."""
    sigma_deg: Floats | None = None
    """(p,) standard deviation of the rotation of each photo of the model, if errors are independent; NaN: unknown."""
    sigma_centre: Floats | None = None
    """(p,) likewise of the position of each camera, in units of the world."""
    hypotheses: tuple[HypothesisFigures, ...] = ()
    """The models that competed, the chosen one first; none where there was no other."""
    verdict: ModelVerdict | None = None
    """None where there is none: of two photos, or of dense matches."""
    predicted: tuple[int, ...] = ()
    """Photo indices whose pose a network alone has predicted: they see no point of the model."""
    tension: float | None = None
    """Where old photos were held beside a few new ones: how many times more these say against that than noise alone
    would. None: all were adjusted."""


@dataclass(frozen=True, eq=False)
class SparseModels(InitialModels):
    """Models with points, as fine stages give them, and mappers of the slot `coarse` that need no other stage."""

    models: tuple[SparseModel, ...]
    reports: tuple[RefinementReport, ...] = ()
    """One per model, or none from mappers that give none."""


@dataclass(frozen=True, eq=False)
class Depths:
    """Depth maps of the photos of a model, and the points that several of them agree on."""

    photos: Ints
    """(p,) int32 collection indices, as in the model."""
    maps: tuple[DepthEstimate, ...]
    """(p,) one per photo, on its undistorted image."""
    agreed: tuple[Bools, ...]
    """(p,) (height, width): where the maps of other photos agree."""
    points: DensePoints
    """Their `seen_by` are rows of `photos`."""
