"""The objective of bundle adjustment: robust reprojection errors, and priors of all that is unknown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ..arrays import Array, Mask
from ..cameras import Vectors, fisheyes
from ..parallel import chunk_map
from ..rigs import Rigs, whole_frames
from ..rotations import exp_so3
from .normal_equations import BundleState
from .observation_order import BLOCK_SIZE, ObservationChunk, ObservationOrder, PointBlock, order_observations
from .point_priors import PointPriors, point_prior_cost
from .pose_priors import DepthPriors, PosePriors, noise_with_depth_priors, pose_prior_cost, pose_prior_terms
from .problem import Bundle, BundleOptions, IntrinsicsPrior
from .reprojection import FreeParameters, ObservationNoise, free_parameters

FAR = 3.0
"""Distance of a photo from the origin, over that from what it sees, from which on it turns about the latter: beyond
photos around one object, and within a street. From 10 on, a walk of 1,200 photos ends at twice the error."""


@dataclass(frozen=True, eq=False)
class PriorTerms:
    """Blocks and gradients that the priors add to the normal equations at one state."""

    poses: Array
    """(c, p, p)."""
    poses_gradient: Array
    """(c, p)."""
    fixed: Mask
    """(c,) photos whose pose does not move."""
    intrinsics: Array
    """(k, q, q)."""
    intrinsics_gradient: Array
    """(k, q)."""


@dataclass(frozen=True, eq=False)
class Objective:
    """Observations, unknowns and priors of one bundle adjustment. Photos and cameras without observations are left
    out."""

    order: ObservationOrder
    free: FreeParameters
    noise: ObservationNoise
    prior: IntrinsicsPrior | None
    """Of the cameras in the order."""
    pose_priors: PosePriors | None
    """Of all photos of the bundle."""
    rigs: Rigs | None
    """Of all photos of the bundle."""
    basis: Array
    """(k, 8, q) derivative of the intrinsics by the unknowns, see FreeParameters.intrinsics_basis."""
    point_priors: PointPriors | None = None
    """Of points in the order."""

    def prior_cost(self, state: BundleState) -> float:
        """The cost of the priors of intrinsics, poses and points; depth priors are part of the observations' noise."""
        out = 0.0
        if self.prior is not None:
            off = (state.intrinsics.T - self.prior.mean) / self.prior.sigma
            out += 0.5 * self.prior.noise_px**2 * float((off**2).sum())
        if self.pose_priors is not None:
            out += pose_prior_cost(self.pose_priors, self.order, state)
        if self.point_priors is not None:
            out += point_prior_cost(self.point_priors, state.points)
        return out

    def prior_terms(self, state: BundleState) -> PriorTerms:
        """Linearize the priors: with weights w = (noise_px / sigma)^2 and the basis B, those of the intrinsics add
        B^T diag(w) B and B^T diag(w) (k - mean)."""
        c, p = len(self.order.photos), self.free.pose_size
        poses, poses_gradient, fixed = np.zeros((c, p, p)), np.zeros((c, p)), np.zeros(c, bool)
        if self.pose_priors is not None:
            poses, poses_gradient = pose_prior_terms(self.pose_priors, self.order, state, p)
            fixed = self.pose_priors.fixed[self.order.photos]
        k, q = len(self.order.cameras), self.free.intrinsics_size
        intrinsics, intrinsics_gradient = np.zeros((k, q, q)), np.zeros((k, q))
        if self.prior is not None:
            weight = (self.prior.noise_px / self.prior.sigma) ** 2
            intrinsics = np.einsum("kiq,ki,kir->kqr", self.basis, weight, self.basis)
            off = state.intrinsics.T - self.prior.mean
            intrinsics_gradient = np.einsum("kiq,ki->kq", self.basis, weight * off)
        return PriorTerms(poses, poses_gradient, fixed, intrinsics, intrinsics_gradient)

    def retract(
        self, state: BundleState, photos: Array, cameras: Array, points: Vectors, seen: Array | None = None
    ) -> BundleState | None:
        """Apply changes of photos (c, d), of shared cameras (k, q) and of points (3, p): R' = exp(omega) R,
        t' = t + dt, k' = k + B u, X' = X + dX. None where a focal length would not stay positive.

        Photos FAR from the origin get t' = t + dt - (exp(omega) - 1) R (x + dx) + omega x R x, with x the mean of the
        points that they see and dx that of the changes: to first order the same, but they turn about what they see and
        go with it. Others turn about the origin. Far from it that leaves points, which move along straight lines, by
        |omega|^2 / 2 times the distance: with loops of a thousand photos more than the noise of key points, so that
        steps that bend the loop as a whole would be rejected. `seen` are x and dx, see `seen_from_far`, where the
        points are on another device.
        """
        pose, of_camera = np.split(photos, [self.free.pose_size], axis=1)
        if len(cameras):
            of_camera = cameras
        poses = state.poses.reshape(3, 4, -1).copy()
        poses[:, 3] += pose[:, -3:].T
        if self.free.rotations:
            turn = exp_so3(pose[:, :3])
            seen = self._seen(state, points) if seen is None else seen
            mean, change = np.einsum("ijc,njc->nic", poses[:, :3], seen)
            poses[:, 3] += np.cross(pose[:, :3], mean.T).T
            poses[:, 3] -= np.einsum("cij,jc->ic", turn - np.eye(3), mean + change)
            poses[:, :3] = np.einsum("cij,jkc->ikc", turn, poses[:, :3])
        intrinsics = state.intrinsics
        if self.free.intrinsics_size:
            intrinsics = intrinsics + np.einsum("kiq,kq->ik", self.basis, of_camera)
        if (intrinsics[:2] <= 0).any():
            return None
        return BundleState(poses.reshape(12, -1), intrinsics, state.points + points, state.sensors)

    def seen_from_far(self, centres: Array, weight: Array, sums: Callable[[], Array]) -> Array:
        """(2, 3, c) mean of the points that each photo sees, and of their changes, weighted by 1 / distance^2 as are
        squared errors in pixels; zero for photos near the origin. Photos of a rig's frame move as one, and share them.

        Given are the centres (3, c), the sums of these weights (c,), and what gives the weighted sums (6, c) of points
        and changes: most bundles have no photo that asks for them.
        """
        count = np.bincount(self.order.photo, minlength=len(weight)).astype(np.float64)
        total, count, from_origin = self._frame_sums(np.stack([weight, count, count * (centres**2).sum(axis=0)]))
        is_far = from_origin * total > FAR**2 * count**2
        means = self._frame_sums(sums()) / total if is_far.any() else np.zeros((6, len(count)))
        return np.where(is_far, means, 0.0).reshape(2, 3, -1)

    def _seen(self, state: BundleState, changes: Vectors) -> Array:
        """The same from the points and their changes (3, p)."""
        order, centres = self.order, photo_centres(state)
        weights = np.empty(len(order.photo))

        def weight_sums(block: PointBlock, chunk: ObservationChunk) -> Array:
            point, photo = block.points_of(chunk), order.photo[chunk.rows]
            weights[chunk.rows] = distance_weights(state.points[:, point], centres[:, photo])
            return np.add.reduceat(weights[chunk.rows], block.photo_starts(chunk))

        def weighted_sums(block: PointBlock, chunk: ObservationChunk) -> Array:
            point = block.points_of(chunk)
            values = weights[chunk.rows] * np.concatenate([state.points[:, point], changes[:, point]])
            return np.add.reduceat(values, block.photo_starts(chunk), axis=1)

        total = self._photo_sums((), weight_sums)
        return self.seen_from_far(centres, total, lambda: self._photo_sums((6,), weighted_sums))

    def _photo_sums(self, shape: tuple[int, ...], sums: Callable[[PointBlock, ObservationChunk], Array]) -> Array:
        """(*shape, c) sums by photo over all chunks, from the sums (*shape, photos of the chunk) of each."""
        out, parts = np.zeros((*shape, len(self.order.photos))), self.order.chunks
        for (block, chunk), values in zip(parts, chunk_map(lambda part: sums(*part), parts), strict=True):
            out[..., block.photos[chunk.photos.start : chunk.photos.stop]] += values
        return out

    def _frame_sums(self, values: Array) -> Array:
        """(n, c) values of photos summed over all photos of their frame; as they are without rigs."""
        if self.rigs is None:
            return values
        frames, frame = np.unique(self.rigs.tied[self.order.photos], return_inverse=True)
        return np.stack([np.bincount(frame, row, len(frames))[frame] for row in values])


def photo_centres(state: BundleState) -> Array:
    """(3, c) centres of the photos in the world."""
    poses = state.poses.reshape(3, 4, -1)
    centres: Array = -np.einsum("jic,jc->ic", poses[:, :3], poses[:, 3])
    return centres


def distance_weights(points: Vectors, centres: Vectors) -> Vectors:
    """(m,) 1 / distance^2 between points and centres (3, m), of numpy or torch."""
    return 1.0 / (((points - centres) ** 2).sum(0) + np.finfo(np.float64).tiny)


def build_objective(
    bundle: Bundle,
    options: BundleOptions,
    prior: IntrinsicsPrior | None = None,
    sigma: Array | None = None,
    pose_priors: PosePriors | None = None,
    depth_priors: DepthPriors | None = None,
    *,
    point_priors: PointPriors | None = None,
    block_size: int = BLOCK_SIZE,
) -> Objective:
    """The objective of adjusting a bundle; arguments as of `adjust_bundle`, `block_size` as of `order_observations`."""
    steps = np.diff(bundle.point, prepend=-1)
    if (steps < 0).any() or (steps > 1).any() or steps.sum() != len(bundle.points):
        raise ValueError("observations must be sorted by point, and every point observed")
    order = order_observations(
        bundle.photo,
        bundle.point,
        bundle.camera_of_photo,
        bundle.xy,
        fisheyes(bundle.models),
        len(bundle.points),
        block_size,
        tied=bundle.rigs is not None,
    )
    free = free_parameters(
        [bundle.models[k] for k in order.cameras],
        rotations=options.rotations,
        focal=options.focal,
        principal=options.principal,
        distortion=options.distortion,
    )
    if prior is not None:
        prior_sigma = np.broadcast_to(prior.sigma, prior.mean.shape)
        prior = replace(prior, mean=prior.mean[order.cameras], sigma=prior_sigma[order.cameras])
    inverse_sigma = None if sigma is None else 1.0 / sigma[order.observations]
    noise = ObservationNoise(options.loss, options.loss_px, inverse_sigma)
    if depth_priors is not None:
        noise = noise_with_depth_priors(noise, depth_priors, order)
    if point_priors is not None:
        point_priors = point_priors.ordered(order.points)
    basis = free.intrinsics_basis(len(order.cameras))
    return Objective(order, free, noise, prior, pose_priors, bundle.rigs, basis, point_priors)


def bundle_state(bundle: Bundle, order: ObservationOrder) -> BundleState:
    """The variables of a bundle."""
    return BundleState(
        poses=np.ascontiguousarray(bundle.cam_from_world[order.photos].reshape(-1, 12).T),
        intrinsics=np.ascontiguousarray(bundle.intrinsics[order.cameras].T),
        points=np.ascontiguousarray(bundle.points[order.points].T),
        sensors=None if bundle.rigs is None else bundle.rigs.sensor_from_rig,
    )


def bundle_with_state(bundle: Bundle, order: ObservationOrder, state: BundleState) -> Bundle:
    """The bundle with its variables replaced. Photos without observations follow their frames."""
    poses, intrinsics = bundle.cam_from_world.copy(), bundle.intrinsics.copy()
    poses[order.photos] = state.poses.T.reshape(-1, 3, 4)
    intrinsics[order.cameras] = state.intrinsics.T
    points = np.empty_like(bundle.points)
    points[order.points] = state.points.T
    rigs = bundle.rigs
    if rigs is not None and state.sensors is not None:
        rigs = replace(rigs, sensor_from_rig=state.sensors)
        observed = np.bincount(order.photos, minlength=len(poses))
        poses = whole_frames(rigs, poses, observed)
    return replace(bundle, cam_from_world=poses, intrinsics=intrinsics, points=points, rigs=rigs)
