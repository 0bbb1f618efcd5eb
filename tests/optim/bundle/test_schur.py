"""The step by the Schur complement against the dense normal equations of all unknowns."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from unposed.optim.bundle.adjust import CpuProblem, build_objective, bundle_state, schur_structure
from unposed.optim.bundle.normal_equations import NormalEquations
from unposed.optim.bundle.problem import Bundle, BundleOptions
from unposed.optim.bundle.schur import solve_step

DAMPING = 1e-3
LENS = (1500.0, 800.0, 600.0, -0.05)


def dense_step(equations: NormalEquations) -> np.ndarray:
    """Changes of poses, intrinsics and points, one after the other, by the Jacobian of all residuals at once."""
    order, free = equations.problem.order, equations.problem.free
    c, k, p, q = len(order.photos), len(order.cameras), free.pose_size, free.intrinsics_size
    point_at = p * c + q * k
    rows, residuals = [], []
    for block in order.blocks:
        for chunk in block.chunks:
            part = equations.problem.residual_rows(block, chunk)
            for i in range(chunk.rows.stop - chunk.rows.start):
                photo = order.photo[chunk.rows.start + i]
                point = block.points.start + block.point[chunk.rows_in_block.start + i]
                for r in range(len(part.residual)):
                    row = np.zeros(point_at + 3 * len(order.points))
                    row[p * photo : p * photo + p] = part.j_camera[r, :p, i]
                    camera = p * c + q * order.camera_of_photo[photo]
                    row[camera : camera + q] = part.j_camera[r, p:, i]
                    row[point_at + 3 * point : point_at + 3 * point + 3] = part.j_point[r, :, i]
                    rows.append(row)
                    residuals.append(part.residual[r, i])
    jacobian = np.array(rows)
    normal = jacobian.T @ jacobian
    normal[np.diag_indices(len(normal))] *= 1.0 + DAMPING
    return np.linalg.solve(normal, -jacobian.T @ np.array(residuals))


@pytest.mark.parametrize("cameras", [1, 2, 5], ids=["one camera", "two cameras", "a camera per photo"])
@pytest.mark.parametrize("twice", [False, True], ids=["", "a point seen twice"])
def test_the_step_is_that_of_the_dense_system(collection: Callable[..., Any], cameras: int, twice: bool) -> None:
    world = collection(photos=5, points=25, sweep_deg=40.0, noise_px=1.0, lenses=(LENS,) * cameras, grouped=False)
    bundle: Bundle = world.bundle()
    if twice:
        rows = np.sort(np.append(np.arange(len(bundle.xy)), [3, 10]))
        bundle = replace(bundle, **{name: getattr(bundle, name)[rows] for name in ("xy", "photo", "point", "row")})
    objective = build_objective(bundle, BundleOptions(distortion=True, loss_px=2.0), block_size=40)
    structure = schur_structure(objective.order, objective.free.pose_size, objective.free.intrinsics_size)
    equations = CpuProblem(objective, structure).linearize(bundle_state(bundle, objective.order))
    expected = dense_step(equations)
    step = solve_step(structure, equations, DAMPING)
    assert step is not None
    pose, intrinsics = np.split(step.photos, [objective.free.pose_size], axis=1)
    of_cameras = step.cameras if len(step.cameras) else intrinsics
    found = np.concatenate([pose.ravel(), of_cameras.ravel(), step.points.T.ravel()])
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7 * np.abs(expected).max())
