"""Files beside the images and the COLMAP model of a folder to train Gaussian splats from.

Programs disagree on where they look, and several read more than one place; so all places say the same. The world of
transforms.json is that of the COLMAP model: nerfstudio's habit of swapping its axes would need other points than
programs that take cameras from sparse/0 and points from the PLY file, such as Brush.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unposed.pipeline.artifacts import SparseModel

from .ply import write_ply

NORMAL_VERTEX = np.dtype(
    [(name, "<f4") for name in ("x", "y", "z", "nx", "ny", "nz")] + [(name, "u1") for name in ("red", "green", "blue")]
)
README = """\
{registered} of {photos} photos, undistorted, with their cameras and {points} points. Made by unposed.

Inria 3DGS     python train.py -s THIS --eval
gsplat         python simple_trainer.py default --data_dir THIS --data_factor 1
nerfstudio     ns-train splatfacto --data THIS
               ns-train splatfacto colmap --data THIS
Brush          brush_app THIS
OpenSplat      opensplat THIS
LichtFeld      LichtFeld-Studio -d THIS -o OUT

images/        photos{smaller}; masks/ (white is kept) only where something is masked
sparse/0/      COLMAP model: PINHOLE, principal points in the middle; test.txt has the photos held out
colmap/        the same model where nerfstudio's colmap reader looks
transforms.json, sparse_pc.ply   the same cameras and points, in the same world
{left_out}"""


def write_points(model: SparseModel, folder: Path) -> None:
    """sparse_pc.ply, and sparse/0/points3D.ply, which some programs prefer to points3D.bin.

    Normals point to the mean of the cameras that see a point: readers demand some, and nothing better is known.
    """
    rows = np.zeros(len(model.points), NORMAL_VERTEX)
    for axis, name in enumerate(("x", "y", "z")):
        rows[name] = model.points[:, axis]
    for name, normal in zip(("nx", "ny", "nz"), _normals(model).T, strict=True):
        rows[name] = normal
    for channel, name in enumerate(("red", "green", "blue")):
        rows[name] = model.rgb[:, channel]
    write_ply(folder / "sparse_pc.ply", {"vertex": rows})
    shutil.copyfile(folder / "sparse_pc.ply", folder / "sparse" / "0" / "points3D.ply")


def _normals(model: SparseModel) -> NDArray[np.float64]:
    rotation, translation = model.cam_from_world[:, :, :3], model.cam_from_world[:, :, 3]
    centres = -np.einsum("nji,nj->ni", rotation, translation)
    row = np.searchsorted(model.xy_start, model.obs_xy, side="right") - 1
    count = np.maximum(np.bincount(model.obs_point, minlength=len(model.points)), 1)
    total = [np.bincount(model.obs_point, centres[row, axis], len(model.points)) for axis in range(3)]
    towards = np.stack(total, axis=1) / count[:, None] - model.points
    normal: NDArray[np.float64] = towards / np.maximum(np.linalg.norm(towards, axis=1, keepdims=True), 1e-12)
    return normal


def write_transforms(
    model: SparseModel, names: Sequence[str], held_out: Sequence[str], masks: bool, file: Path
) -> None:
    """transforms.json as nerfstudio and OpenSplat read it: camera to world, axes of OpenGL (x right, y up, z back)."""
    cameras = [
        {"fl_x": fx, "fl_y": fy, "cx": cx, "cy": cy, "w": camera.width, "h": camera.height}
        | dict.fromkeys(("k1", "k2", "p1", "p2"), 0.0)
        for camera in model.cameras
        for fx, fy, cx, cy in [camera.params]
    ]
    frames = []
    for row, name in enumerate(names):
        world_from_cam = np.eye(4)
        rotation = model.cam_from_world[row, :, :3].T
        world_from_cam[:3, :3] = rotation * (1.0, -1.0, -1.0)
        world_from_cam[:3, 3] = -rotation @ model.cam_from_world[row, :, 3]
        frame = {"file_path": f"images/{name}", "transform_matrix": world_from_cam.tolist()}
        if masks:
            frame["mask_path"] = f"masks/{Path(name).stem}.png"
        frames.append(frame | cameras[int(model.camera_of_photo[row])])
    paths = {name: f"images/{name}" for name in names}
    held = [paths[name] for name in held_out]
    content = {
        "camera_model": "OPENCV",
        **(cameras[0] if len(cameras) == 1 else {}),
        "applied_transform": np.eye(3, 4).tolist(),
        "ply_file_path": "sparse_pc.ply",
        "train_filenames": [path for path in paths.values() if path not in set(held)],
        "val_filenames": held,
        "test_filenames": held,
        "frames": frames,
    }
    file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def write_split(names: Sequence[str], held_out: Sequence[str], folder: Path) -> None:
    """The photos held out, for the programs of Inria's family, and lists of all parts for nerfstudio."""
    parts = {"train": [name for name in names if name not in set(held_out)], "val": held_out, "test": held_out}
    for part, members in parts.items():
        (folder / f"{part}_list.txt").write_text("".join(f"{name}\n" for name in members), encoding="utf-8")
    (folder / "sparse" / "0" / "test.txt").write_text("".join(f"{name}\n" for name in held_out), encoding="utf-8")


def held_out_names(names: Sequence[str], every: int) -> list[str]:
    """Every so many photos by name, as trainers choose by themselves; none of fewer than three."""
    return sorted(names)[::every] if len(names) > 2 else []


def link_colmap(folder: Path) -> None:
    """colmap/sparse leads to sparse; a copy where links are not possible."""
    (folder / "colmap").mkdir()
    with suppress(OSError, NotImplementedError):
        (folder / "colmap" / "sparse").symlink_to(Path("..", "sparse"), target_is_directory=True)
        return
    shutil.copytree(folder / "sparse", folder / "colmap" / "sparse")


def write_readme(model: SparseModel, photos: int, left_out: Sequence[str], factors: Sequence[int], file: Path) -> None:
    """One command per trainer, what is where, and which photos are missing."""
    names = "".join(f"  {name}\n" for name in left_out)
    file.write_text(
        README.format(
            registered=len(model.photos),
            photos=photos,
            points=len(model.points),
            smaller="".join(f", images_{factor}/" for factor in factors),
            left_out=f"\nNot in this folder, since not in the largest model:\n{names}" if left_out else "",
        ),
        encoding="utf-8",
    )
