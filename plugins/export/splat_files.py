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
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unposed.optim.poses import camera_centres
from unposed.optim.similarity import Similarity
from unposed.pipeline.artifacts import SparseModel
from unposed.pipeline.ply_files import vertices, write_ply

COMMANDS = {
    "inria": ("Inria 3DGS", "python train.py -s THIS --eval"),
    "gsplat": ("gsplat", "python simple_trainer.py default --data_dir THIS --data_factor 1"),
    "nerfstudio": ("nerfstudio", "ns-train splatfacto --data THIS"),
    "brush": ("Brush", "brush_app THIS"),
    "opensplat": ("OpenSplat", "opensplat THIS"),
    "lichtfeld": ("LichtFeld", "LichtFeld-Studio -d THIS -o OUT"),
}
"""The program, and its command, by the name of the export for it alone."""
PLACES = {
    "sparse/0": "COLMAP model: PINHOLE, principal points in the middle; test.txt has the photos held out",
    "masks": "what is to be kept is white",
    "depths": "1 / depth = level / 65536 * scale + offset, by sparse/0/depth_params.json; train.py -d depths",
    "colmap": "the same model where nerfstudio's colmap reader looks",
    "transforms.json": "the same cameras, with the points of sparse_pc.ply, in the same world",
    "unposed_frame.json": "the way back to the frame of the reconstruction: x_scene = scale * rotation x + translation;"
    " metres per unit, where known",
}
"""What stands in the folder beside images."""


def write_normal_points(model: SparseModel, file: Path) -> None:
    """The points as a PLY file with normals, which some programs prefer to points3D.bin.

    Normals point to the mean of the cameras that see a point: readers demand some, and nothing better is known.
    """
    write_ply(file, {"vertex": vertices(model.points, model.rgb, _normals(model))})


def _normals(model: SparseModel) -> NDArray[np.float64]:
    centres = camera_centres(model.cam_from_world)
    row = model.obs_photo
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
    """Lists of all parts for nerfstudio, which stops where one of the three is missing."""
    parts = {"train": [name for name in names if name not in set(held_out)], "val": held_out, "test": held_out}
    for part, members in parts.items():
        write_test_names(members, folder / f"{part}_list.txt")


def write_test_names(names: Sequence[str], file: Path) -> None:
    """Names of photos, a line each, as the programs of Inria's family read those held out."""
    file.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")


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


def write_frame(frame: Similarity, file: Path) -> None:
    """The similarity from the frame of the reconstruction to that of the folder."""
    content = {"scale": frame.scale, "rotation": frame.rotation.tolist(), "translation": frame.translation.tolist()}
    file.write_text(json.dumps({"scene_from_reconstruction": content}, indent=1) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class SplatReadme:
    """README.txt: one command per trainer, what is where, and what is missing."""

    photos: int
    """Of the collection."""
    in_no_model: Sequence[str]
    """Names of the photos that are not in the model."""
    far: Sequence[str]
    """Names of those whose cameras are far from all others."""
    stray_points: int
    factors: Sequence[int]
    """Of the smaller copies."""
    program: str
    """By its name in COMMANDS; empty: all."""

    def write(self, model: SparseModel, file: Path) -> None:
        """Write the file, last of all: what is there is listed."""
        commands = [COMMANDS[self.program]] if self.program else COMMANDS.values()
        smaller = "".join(f", images_{factor}/" for factor in self.factors)
        lines = [
            f"{len(model.photos)} of {self.photos} photos, undistorted, with their cameras and {len(model.points)} "
            "points. Made by unposed.",
            "",
            *(f"{name:<14} {command}" for name, command in commands),
            "",
            f"{'images/':<20}photos{smaller}",
            *(f"{place:<20}{text}" for place, text in PLACES.items() if (file.parent / place).exists()),
        ]
        for title, names in (
            ("Not in this folder, since not in the largest model:", self.in_no_model),
            ("Left out, since far from all other cameras (camera_ratio):", self.far),
        ):
            lines += ["", title, *(f"  {name}" for name in names)] if names else []
        if self.stray_points:
            lines += ["", f"Left out as well: {self.stray_points} points far from all others (point_ratio)."]
        file.write_text("\n".join([*lines, ""]), encoding="utf-8")
