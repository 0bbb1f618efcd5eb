"""Bundle adjustment in torch, for GPUs: the same objective and the same steps, with cameras by conjugate gradients.

Sums run over sorted segments, so equal input gives equal bits here too.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ..arrays import Array
from .adjust import levenberg_marquardt
from .normal_equations import BundleState
from .objective import Objective, build_objective, bundle_state, bundle_with_state, distance_weights, photo_centres
from .pose_priors import DepthPriors, PosePriors
from .problem import Bundle, BundleOptions, BundleSummary, IntrinsicsPrior
from .reprojection import linearize_reprojection, robust_cost, squared_errors, transform_points
from .rig_steps import move_sensors, tied_photos
from .torch_jacobians import Jacobians
from .torch_layout import TorchLayout
from .torch_rigs import FramesSchurComplement, TorchTies
from .torch_schur import ImplicitSchurComplement, TorchNormalEquations


def adjust_by_torch(
    device: str,
    bundle: Bundle,
    options: BundleOptions,
    prior: IntrinsicsPrior | None = None,
    sigma: Array | None = None,
    pose_priors: PosePriors | None = None,
    depth_priors: DepthPriors | None = None,
) -> tuple[Bundle, BundleSummary]:
    """Adjust a bundle as `adjust_bundle` does, on a torch device; worthwhile from about 100,000 observations on.

    Tracks of any length stay whole: pairs of observations are never multiplied, so that time grows with their number.
    """
    block_size = max(len(bundle.xy), 1)
    objective = build_objective(bundle, options, prior, sigma, pose_priors, depth_priors, block_size=block_size)
    with torch.no_grad():
        problem = TorchProblem(objective, torch.device(device), len(bundle.points))
        start = bundle_state(bundle, objective.order)
        start = replace(start, points=problem.layout.to_device(start.points))
        state, summary = levenberg_marquardt(problem, start, options)
        state = replace(state, points=state.points.cpu().numpy())
        return bundle_with_state(bundle, objective.order, state), summary


class TorchProblem:
    """Bundle adjustment on a torch device; as `adjust.CpuProblem`. Poses and intrinsics of a state stay in main memory,
    points do not. Jacobians are `stored` in this type, see torch_schur."""

    def __init__(
        self, objective: Objective, device: torch.device, points: int, stored: torch.dtype = torch.float32
    ) -> None:
        self.objective, self.layout, self.stored = objective, TorchLayout(objective, device, points), stored
        self.ties: TorchTies | None = None
        if objective.rigs is not None:
            tied = tied_photos(objective.rigs, objective.order.photos, objective.free.pose_size)
            self.ties = TorchTies(tied, self.layout)

    def cost(self, state: BundleState) -> float:
        layout = self.layout
        total = torch.zeros((), dtype=torch.float64, device=layout.device)
        poses, intrinsics = layout.to_device(state.poses), layout.to_device(state.intrinsics)
        for rows, _, _ in layout.chunks:
            _, y = transform_points(poses[:, layout.photo[rows]], state.points[:, layout.point[rows]])
            k, fisheye = layout.observed_intrinsics(intrinsics, rows)
            squared = squared_errors(y, layout.xy[:, rows], k, fisheye, layout.free, torch)
            total += robust_cost(squared, y[2], layout.noise.select(rows), torch).sum()
        return float(total) + self.objective.prior_cost(state)

    def linearize(self, state: BundleState) -> TorchNormalEquations:
        layout, terms = self.layout, self.objective.prior_terms(state)
        c, m = len(self.objective.order.photos), len(layout.photo)
        p, q = layout.free.pose_size, layout.free.intrinsics_size
        d = p if layout.shared else p + q
        poses, intrinsics = layout.to_device(state.poses), layout.to_device(state.intrinsics)
        moves = layout.to_device((~terms.fixed).astype(np.float64))
        residuals = 2 if layout.noise.log_depth is None else 3
        jacobians = Jacobians(*(layout.empty(residuals, n, m, dtype=self.stored) for n in (p + q, 3)))
        point_terms, w_camera = layout.empty(m, 9), layout.empty(m if layout.shared else 0, 3, q)
        normal = layout.empty(c, p + q, p + q + 1)
        for rows, photos, photo_sums in layout.chunks:
            photo = layout.photo[rows]
            k, fisheye = layout.observed_intrinsics(intrinsics, rows)
            augmented_rows, point_rows = linearize_reprojection(
                poses[:, photo],
                state.points[:, layout.point[rows]],
                layout.xy[:, rows],
                k,
                layout.camera[rows],
                fisheye,
                layout.free,
                layout.noise.select(rows),
                torch,
            )
            augmented = torch.stack([torch.stack(row) for row in augmented_rows])
            augmented[:, :p] *= moves[photo]
            j_point, residual = torch.stack([torch.stack(row) for row in point_rows]), augmented[:, -1:]
            jacobians.camera[:, :, rows], jacobians.point[:, :, rows] = augmented[:, :-1], j_point
            by_camera, by_point = (each[:, :, rows].double() for each in jacobians)  # as they are stored
            if layout.shared:
                w_camera[rows] = (by_point[:, :, None] * by_camera[:, None, d:]).sum(0).permute(2, 0, 1)
            squares = [by_point[:, j, None] * by_point[:, j:] for j in range(3)]
            point_terms[rows] = torch.cat([*squares, j_point * residual], dim=1).sum(0).T
            products = by_camera[:, :, None] * by_camera[:, None]
            whole = torch.cat([products, (augmented[:, :-1] * residual)[:, :, None]], dim=2).sum(0)
            normal[photos] = photo_sums(whole.permute(2, 0, 1))

        normal[:, :p, :p] += layout.to_device(terms.poses) * moves[:, None, None]
        normal[:, :p, -1] += layout.to_device(terms.poses_gradient) * moves[:, None]
        of_prior = np.concatenate([terms.intrinsics, terms.intrinsics_gradient[:, :, None]], axis=2)
        intrinsics_terms = layout.to_device(of_prior)
        if layout.shared:
            camera = layout.camera_sums(normal[:, p:, p:]) + intrinsics_terms
        else:
            camera = layout.empty(0, 0, 1)
            normal[:, p:, p:] += intrinsics_terms if q else 0.0
        point = layout.point_sums(point_terms).T
        return TorchNormalEquations(
            photo=normal[:, :d, :d],
            photo_gradient=normal[:, :d, -1],
            camera=camera[:, :, :-1],
            camera_gradient=camera[:, :, -1],
            photo_camera=normal[:, :d, d:-1],
            point=point[:6].contiguous(),
            point_gradient=point[6:].contiguous(),
            jacobians=jacobians,
            w_camera=layout.pair_sums(w_camera) if layout.shared else w_camera,
        )

    def step(self, state: BundleState, linearization: TorchNormalEquations, damping: float) -> BundleState | None:
        schur, sensors = ImplicitSchurComplement(self.layout, linearization, damping), None
        if self.ties is None:
            photos, cameras = schur.solve()
            points = schur.points(photos, cameras)
        else:
            photos, sensors, cameras, in_all = FramesSchurComplement(schur, self.ties, state).solve()
            points = schur.points(in_all, cameras)
        if not bool(torch.isfinite(photos).all() & torch.isfinite(cameras).all()):
            return None
        seen = self._seen(state, points) if self.objective.free.rotations else None
        moved = self.objective.retract(state, photos.cpu().numpy(), cameras.cpu().numpy(), points, seen)
        if moved is None or self.ties is None or sensors is None:
            return moved
        return move_sensors(self.ties.tied, moved, sensors.cpu().numpy())

    def _seen(self, state: BundleState, changes: Tensor) -> Array:
        """As `Objective.seen_from_far`: what photos see is summed up where the points are."""
        layout, centres, sums = self.layout, photo_centres(state), []
        centre = layout.to_device(centres)
        for rows, _, photo_sums in layout.chunks:
            photo, point = layout.photo[rows], layout.point[rows]
            x = state.points[:, point]
            weight = distance_weights(x, centre[:, photo])[None]
            sums.append(photo_sums(torch.cat([weight, weight * x, weight * changes[:, point]]).T))
        total, *weighted = torch.cat(sums).T.cpu().numpy()
        return self.objective.seen_from_far(centres, total, lambda: np.stack(weighted))
