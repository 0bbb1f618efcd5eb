"""Rotations: the exponential map, and averaging of relative rotations into absolute ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .similarity import rotation_angle_deg

Array = NDArray[np.float64]
Index = NDArray[np.int64]


def exp_so3(omega: Array) -> Array:
    """(n, 3, 3) rotations by the vectors `omega` (n, 3): angle in radians times axis."""
    angle = np.linalg.norm(omega, axis=1)
    # sin(a)/a and (1 - cos(a))/a^2 by numpy's sinc, which is exact at zero: sinc(x) = sin(pi x) / (pi x).
    a = np.sinc(angle / np.pi)
    b = 0.5 * np.sinc(0.5 * angle / np.pi) ** 2
    cross = skew(omega)
    rotation: Array = np.eye(3) + a[:, None, None] * cross + b[:, None, None] * (cross @ cross)
    return rotation


def skew(v: Array) -> Array:
    """(n, 3, 3) matrices with skew(v) @ x = v x x."""
    out = np.zeros((len(v), 3, 3))
    out[:, 0, 1], out[:, 0, 2], out[:, 1, 2] = -v[:, 2], v[:, 1], -v[:, 0]
    return out - out.transpose(0, 2, 1)


def rotation_residuals_deg(pairs: Index, b_from_a: Array, cam_from_world: Array) -> Array:
    """(e,) angle by which each relative rotation disagrees with the absolute ones; NaN where a photo has none."""
    predicted = cam_from_world[pairs[:, 1]] @ cam_from_world[pairs[:, 0]].transpose(0, 2, 1)
    return rotation_angle_deg(b_from_a @ predicted.transpose(0, 2, 1))


def average_rotations(photos: int, pairs: Index, b_from_a: Array, weight: Array, seed: int = 0) -> Array:
    """(photos, 3, 3) world-to-camera rotations, NaN for photos that no edge reaches.

    Robust averaging by pycolmap (L1 start, then Geman-McClure reweighting), edges weighed by their matches. It solves
    the largest connected part only; call it per component.
    """
    import pycolmap

    pycolmap.logging.minloglevel = 2  # it reports every filtering, also of nothing
    reconstruction = pycolmap.Reconstruction()
    camera = pycolmap.Camera(camera_id=1, model="SIMPLE_PINHOLE", width=2, height=2, params=[1.0, 1.0, 1.0])
    reconstruction.add_camera_with_trivial_rig(camera)
    for photo in range(photos):
        image = pycolmap.Image(name=str(photo), camera_id=1, image_id=photo + 1)
        reconstruction.add_image_with_trivial_frame(image)
    graph = pycolmap.PoseGraph()
    for (a, b), rotation, matches in zip(pairs.tolist(), b_from_a, weight, strict=True):
        pose = pycolmap.Rigid3d(np.concatenate([rotation, np.zeros((3, 1))], axis=1))
        edge = pycolmap.PoseGraphEdge(cam2_from_cam1=pose)
        edge.num_matches = round(matches)
        graph.add_edge(a + 1, b + 1, edge)
    options = pycolmap.RotationEstimatorOptions()
    options.random_seed = seed
    options.max_rotation_error_deg = 180.0  # filtering is ours, on the residuals
    options.reweighting = pycolmap.RotationAveragingReweighting.INLIER_MATCH_COUNT
    out = np.full((photos, 3, 3), np.nan)
    if not pycolmap.run_rotation_averaging(options, graph, reconstruction, []):
        return out
    for photo in range(photos):
        image = reconstruction.image(photo + 1)
        if image.has_pose:
            out[photo] = image.cam_from_world().rotation.matrix()
    return out
