"""Bundle adjustment on a GPU, by torch: the same objective, the same steps, and the cameras by conjugate gradients.

Sums run over sorted segments, so equal input gives equal bits here too.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from .adjust import descend
from .normal_equations import State
from .objective import Objective, bundle_of, objective, state_of
from .pose_priors import DepthPriors, PosePriors
from .problem import Bundle, BundleOptions, BundleSummary, IntrinsicsPrior
from .reprojection import carry, count, linearise, squared_errors
from .torch_layout import Layout
from .torch_schur import Linear, Reduced

Array = NDArray[np.float64]


def adjust_on(
    device: str,
    bundle: Bundle,
    options: BundleOptions,
    prior: IntrinsicsPrior | None = None,
    sigma: Array | None = None,
    anchors: PosePriors | None = None,
    depths: DepthPriors | None = None,
) -> tuple[Bundle, BundleSummary]:
    """As adjustment.adjust, on a device of torch. It pays from a hundred thousand observations or so."""
    task = objective(bundle, options, prior, sigma, anchors, depths, block=max(len(bundle.xy), 1))
    with torch.no_grad():
        engine = OnDevice(task, torch.device(device), len(bundle.points))
        start = state_of(bundle, task.sights)
        state, summary = descend(engine, replace(start, points=engine.layout.sent(start.points)), options)
        return bundle_of(bundle, task.sights, replace(state, points=state.points.cpu().numpy())), summary


class OnDevice:
    """The engine for devices of torch. Poses and intrinsics of a state stay in the main memory, points do not."""

    def __init__(self, task: Objective, device: torch.device, points: int) -> None:
        self.task, self.layout = task, Layout(task, device, points)

    def cost(self, state: State) -> float:
        here = self.layout
        total = torch.zeros((), dtype=torch.float64, device=here.device)
        poses, intrinsics = here.sent(state.poses), here.sent(state.intrinsics)
        for part, _ in here.chunks:
            _, y = carry(poses[:, here.photo[part]], state.points[:, here.point[part]])
            squared = squared_errors(y, here.xy[:, part], *here.lenses(intrinsics, part), here.free, torch)
            total += count(squared, y[2], here.noise.part(part), torch).sum()
        return float(total) + self.task.beliefs_cost(state)

    def linearised(self, state: State) -> Linear:
        here, beliefs = self.layout, self.task.beliefs(state)
        c, m, q, p = len(self.task.sights.photos), len(here.photo), here.free.lens, here.free.pose
        d = p if here.shared else p + q
        poses, intrinsics = here.sent(state.poses), here.sent(state.intrinsics)
        moves = here.sent((~beliefs.held).astype(np.float64))
        cross, by_point = here.empty(m, 3, d), here.empty(m, 9)
        lens_cross = here.empty(m if here.shared else 0, 3, q)
        normal = here.empty(c, p + q, p + q + 1)
        for part, (photos, photo_sums) in here.chunks:
            photo = here.photo[part]
            k, fisheye = here.lenses(intrinsics, part)
            rows, rows_by_point = linearise(
                poses[:, photo],
                state.points[:, here.point[part]],
                here.xy[:, part],
                k,
                here.camera[part],
                fisheye,
                here.free,
                here.noise.part(part),
                torch,
            )
            jacobian = torch.stack([torch.stack(row) for row in rows])
            jacobian[:, :p] *= moves[photo]
            along = torch.stack([torch.stack([*x, row[-1]]) for x, row in zip(rows_by_point, rows, strict=True)])
            product = (along[:, :3, None] * jacobian[:, None, :-1]).sum(0).permute(2, 0, 1)
            cross[part] = product[:, :, :d]
            if here.shared:
                lens_cross[part] = product[:, :, d:]
            by_point[part] = torch.cat([(along[:, j, None] * along[:, j:]).sum(0) for j in range(3)]).T
            normal[photos] = photo_sums((jacobian[:, :-1, None] * jacobian[:, None, :]).sum(0).permute(2, 0, 1))

        normal[:, :p, :p] += here.sent(beliefs.poses) * moves[:, None, None]
        normal[:, :p, -1] += here.sent(beliefs.poses_gradient) * moves[:, None]
        lenses = here.sent(np.concatenate([beliefs.lenses, beliefs.lenses_gradient[:, :, None]], axis=2))
        if here.shared:
            camera = here.camera_sums(normal[:, p:, p:]) + lenses
        else:
            camera = here.empty(0, 0, 1)
            normal[:, p:, p:] += lenses if q else 0.0
        point = here.by_point(by_point).T
        return Linear(
            photo=normal[:, :d, :d],
            photo_gradient=normal[:, :d, -1],
            camera=camera[:, :, :-1],
            camera_gradient=camera[:, :, -1],
            mixed=normal[:, :d, d:-1],
            point=torch.stack([point[i] for i in (0, 1, 2, 4, 5, 7)]),  # a list as an index would be sent each time
            point_gradient=torch.stack([point[i] for i in (3, 6, 8)]),
            cross=cross,
            camera_cross=here.by_view(lens_cross) if here.shared else lens_cross,
        )

    def moved(self, state: State, linear: Linear, damping: float) -> State | None:
        reduced = Reduced(self.layout, linear, damping)
        photos, cameras = reduced.solve()
        points = reduced.points(photos, cameras)
        if not bool(torch.isfinite(photos).all() & torch.isfinite(cameras).all()):
            return None
        return self.task.moved(state, photos.cpu().numpy(), cameras.cpu().numpy(), points)
