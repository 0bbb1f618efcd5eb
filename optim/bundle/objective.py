"""What bundle adjustment minimises: reprojection errors, and what is believed of cameras, poses and depths."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..cameras import Vectors, fisheyes
from ..rotations import exp_so3
from .normal_equations import State
from .observation_order import BLOCK, Sights, arrange
from .pose_priors import DepthPriors, PosePriors, anchor_cost, anchor_terms, with_depths
from .problem import Bundle, BundleOptions, IntrinsicsPrior
from .reprojection import Freedom, Noise, freedom_of

Array = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Beliefs:
    """Normal equations of what is believed, at one state."""

    poses: Array
    """(c, p, p)."""
    poses_gradient: Array
    """(c, p)."""
    held: Bools
    """(c,) photos that do not move."""
    lenses: Array
    """(k, q, q)."""
    lenses_gradient: Array
    """(k, q)."""


@dataclass(frozen=True, eq=False)
class Objective:
    """What is minimised. Only photos and cameras that see something are in it."""

    sights: Sights
    free: Freedom
    noise: Noise
    prior: IntrinsicsPrior | None
    anchors: PosePriors | None
    spread: Array
    """(k, 8, q) intrinsics by unknowns."""

    def beliefs_cost(self, state: State) -> float:
        """The part of the cost that has nothing to do with observations."""
        out = 0.0
        if self.prior is not None:
            off = (state.intrinsics.T - self.prior.mean) / self.prior.sigma
            out += 0.5 * self.prior.noise_px**2 * float((off**2).sum())
        if self.anchors is not None:
            out += anchor_cost(self.anchors, self.sights, state)
        return out

    def beliefs(self, state: State) -> Beliefs:
        """Its normal equations."""
        c, p = len(self.sights.photos), self.free.pose
        poses, poses_gradient, held = np.zeros((c, p, p)), np.zeros((c, p)), np.zeros(c, bool)
        if self.anchors is not None:
            poses, poses_gradient = anchor_terms(self.anchors, self.sights, state, p)
            held = self.anchors.fixed[self.sights.photos]
        k, q = len(self.sights.cameras), self.free.lens
        lenses, lenses_gradient = np.zeros((k, q, q)), np.zeros((k, q))
        if self.prior is not None:
            weight = (self.prior.noise_px / self.prior.sigma) ** 2
            lenses = np.einsum("kiq,ki,kir->kqr", self.spread, weight, self.spread)
            off = state.intrinsics.T - self.prior.mean
            lenses_gradient = np.einsum("kiq,ki->kq", self.spread, weight * off)
        return Beliefs(poses, poses_gradient, held, lenses, lenses_gradient)

    def moved(self, state: State, photos: Array, cameras: Array, points: Vectors) -> State | None:
        """The state after changes of photos (c, d), of shared cameras (k, q) and of points (3, p), or None where there
        is no such camera."""
        pose, lens = np.split(photos, [self.free.pose], axis=1)
        if len(cameras):
            lens = cameras
        poses = state.poses.reshape(3, 4, -1).copy()
        if self.free.turns:
            poses[:, :3] = np.einsum("cij,jkc->ikc", exp_so3(pose[:, :3]), poses[:, :3])
        poses[:, 3] += pose[:, -3:].T
        intrinsics = state.intrinsics
        if self.free.lens:
            intrinsics = intrinsics + np.einsum("kiq,kq->ik", self.spread, lens)
        if (intrinsics[:2] <= 0).any():
            return None
        return State(poses.reshape(12, -1), intrinsics, state.points + points)


def objective(
    bundle: Bundle,
    options: BundleOptions,
    prior: IntrinsicsPrior | None = None,
    sigma: Array | None = None,
    anchors: PosePriors | None = None,
    depths: DepthPriors | None = None,
    *,
    block: int = BLOCK,
) -> Objective:
    """Of adjusting a bundle; arguments as of `adjustment.adjust`. `block` as of sights.arrange."""
    runs = np.diff(bundle.point, prepend=-1)
    if (runs < 0).any() or (runs > 1).any() or runs.sum() != len(bundle.points):
        raise ValueError("observations must be sorted by point, and every point seen")
    lenses = fisheyes(bundle.models)
    sights = arrange(bundle.photo, bundle.point, bundle.camera_of_photo, bundle.xy, lenses, len(bundle.points), block)
    free = freedom_of(
        [bundle.models[k] for k in sights.cameras],
        rotations=options.rotations,
        focal=options.focal,
        principal=options.principal,
        distortion=options.distortion,
    )
    if prior is not None:
        spread = np.broadcast_to(prior.sigma, prior.mean.shape)
        prior = replace(prior, mean=prior.mean[sights.cameras], sigma=spread[sights.cameras])
    noise = Noise(options.loss, options.loss_px, None if sigma is None else 1.0 / sigma[sights.order])
    if depths is not None:
        noise = with_depths(noise, depths, sights)
    return Objective(sights, free, noise, prior, anchors, free.spread(len(sights.cameras)))


def state_of(bundle: Bundle, sights: Sights) -> State:
    """Where the bundle is."""
    return State(
        poses=np.ascontiguousarray(bundle.cam_from_world[sights.photos].reshape(-1, 12).T),
        intrinsics=np.ascontiguousarray(bundle.intrinsics[sights.cameras].T),
        points=np.ascontiguousarray(bundle.points[sights.points].T),
    )


def bundle_of(bundle: Bundle, sights: Sights, state: State) -> Bundle:
    """The bundle in another state."""
    poses, intrinsics = bundle.cam_from_world.copy(), bundle.intrinsics.copy()
    poses[sights.photos] = state.poses.T.reshape(-1, 3, 4)
    intrinsics[sights.cameras] = state.intrinsics.T
    points = np.empty_like(bundle.points)
    points[sights.points] = state.points.T
    return replace(bundle, cam_from_world=poses, intrinsics=intrinsics, points=points)
