"""Geometry without photos: a whole reconstruction from arrays of image points, step by step.

    python examples/optim_on_arrays.py

Nothing of the pipeline is used. The functions of `unposed.optim` take arrays and give arrays; their docstrings say the
shapes, frames and units.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from unposed.optim.bundle.adjust import adjust_bundle
from unposed.optim.bundle.problem import Bundle, BundleOptions, errors_px
from unposed.optim.cameras import project, unproject
from unposed.optim.evaluation import evaluate_poses
from unposed.optim.mapping.global_positioning import solve_global_positions
from unposed.optim.mapping.rotation_averaging import average_rotations
from unposed.optim.pair.two_view_geometry import estimate_two_view_geometry

PHOTOS, POINTS, NOISE_PX = 8, 300, 0.5
SIZE = (1600, 1200)
INTRINSICS = np.array([1500.0, 1500.0, 800.0, 600.0, 0.0, 0.0, 0.0, 0.0])  # fx, fy, cx, cy and distortion


def made_up_scene(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """True poses (photos, 3, 4) on an arc of 70 degrees, and the pixels (photos, points, 2) of a cloud of points."""
    points = rng.uniform(-1.0, 1.0, (POINTS, 3))
    poses = np.empty((PHOTOS, 3, 4))
    for pose, angle in zip(poses, np.radians(np.linspace(-35.0, 35.0, PHOTOS)), strict=True):
        pose[:, :3] = [[np.cos(angle), 0.0, np.sin(angle)], [0.0, 1.0, 0.0], [-np.sin(angle), 0.0, np.cos(angle)]]
        pose[:, 3] = np.array([0.0, 0.0, 5.0]) + rng.normal(0.0, 0.1, 3)
    seen = np.array([project(points @ pose[:, :3].T + pose[:, 3], INTRINSICS) for pose in poses])
    return poses, seen + rng.normal(0.0, NOISE_PX, seen.shape)


def main() -> None:
    """Two-view geometry, rotation averaging, global positioning, bundle adjustment, evaluation."""
    truth, xy = made_up_scene(np.random.default_rng(0))
    focals = (INTRINSICS[0], INTRINSICS[0])

    # Relative pose of every pair of photos up to three places apart.
    pairs = np.array([(a, b) for a in range(PHOTOS) for b in range(a + 1, min(a + 4, PHOTOS))])
    weight = np.ones(POINTS)
    views = [estimate_two_view_geometry(xy[a], xy[b], weight, SIZE, SIZE, focals_px=focals) for a, b in pairs]
    inliers = np.array([int(view.inliers.sum()) for view in views])
    print(f"{len(pairs)} pairs, {np.median(inliers):.0f} of {POINTS} matches verified in the median")

    # Absolute rotations from the relative ones.
    b_from_a = np.array([view.b_from_a[:, :3] for view in views])
    rotations = average_rotations(PHOTOS, pairs, b_from_a, inliers.astype(float))

    # Positions of cameras and points, rotations given: all points must lie on the rays towards them.
    photo, point = np.repeat(np.arange(PHOTOS), POINTS), np.tile(np.arange(POINTS), PHOTOS)
    flat = unproject(xy.reshape(-1, 2), INTRINSICS)
    rays_cam = np.column_stack([flat, np.ones(len(flat))])
    rays_cam /= np.linalg.norm(rays_cam, axis=1, keepdims=True)
    rays_world = np.einsum("mji,mj->mi", rotations[photo], rays_cam)
    found = solve_global_positions(rays_world, photo, point, PHOTOS, POINTS)
    translations = -np.einsum("pij,pj->pi", rotations, found.centres)
    start = np.concatenate([rotations, translations[:, :, None]], axis=2)
    report("positions", truth, start)

    # Least reprojection error. Observations are sorted by point.
    order = np.lexsort((photo, point))
    bundle = Bundle(
        models=("SIMPLE_RADIAL",),
        intrinsics=INTRINSICS[None],
        camera_of_photo=np.zeros(PHOTOS, np.int64),
        cam_from_world=start,
        points=found.points,
        xy=xy.reshape(-1, 2)[order],
        photo=photo[order],
        point=point[order],
        row=order,
    )
    print(f"mean reprojection error {errors_px(bundle).mean():.2f} px before", end=", ")
    adjusted, summary = adjust_bundle(bundle, replace(BundleOptions(), focal=False))
    print(f"{errors_px(adjusted).mean():.2f} px after {summary.iterations} steps of bundle adjustment")
    report("adjusted", truth, adjusted.cam_from_world)


def report(name: str, truth: np.ndarray, estimate: np.ndarray) -> None:
    """Print how far estimated poses are from the true ones: between photos, and after the best similarity."""
    errors = evaluate_poses(truth, estimate)
    position = 100.0 * errors.ate_relative
    rotation = errors.relative_rotation_median_deg
    print(f"{name}: relative rotations {rotation:.3f} degrees off, positions {position:.3f} % of the extent")


if __name__ == "__main__":
    main()
