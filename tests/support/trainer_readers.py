"""Doubles of the parts of splat trainers that read a folder, written from how their sources look for and scale things.

Each gives what the trainer trains with: for every image the file, a pinhole camera in pixels of that file, the pose,
and the points that training starts from. What a trainer would stop at is an assertion here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pycolmap
from PIL import Image

OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])


@dataclass(frozen=True)
class View:
    """One image as a trainer sees it."""

    name: str
    file: Path
    fx: float
    fy: float
    cx: float
    cy: float
    cam_from_world: np.ndarray

    def project(self, points: np.ndarray) -> np.ndarray:
        """(n, 2) pixels; the corner of the image is (0, 0)."""
        x, y, z = (self.cam_from_world[:, :3] @ points.T) + self.cam_from_world[:, 3:]
        return np.stack([self.fx * x / z + self.cx, self.fy * y / z + self.cy], axis=1)


Read = tuple[list[View], np.ndarray]


def size_of(file: Path) -> tuple[int, int]:
    with Image.open(file) as image:
        return image.size


def ply_points(file: Path, normals: bool = False) -> np.ndarray:
    head, _, body = file.read_bytes().partition(b"end_header\n")
    names = [line.split()[-1] for line in head.decode().splitlines() if line.startswith("property")]
    kinds = [(name, "u1" if name in ("red", "green", "blue") else "<f4") for name in names]
    assert not normals or {"nx", "ny", "nz"} <= set(names)
    table = np.frombuffer(body, kinds)
    return np.stack([table[axis] for axis in "xyz"], axis=1).astype(float)


def pinhole(camera: pycolmap.Camera) -> tuple[float, float, float, float]:
    assert camera.model.name == "PINHOLE"
    return tuple(camera.params)


def sorted_images(model: pycolmap.Reconstruction) -> list[pycolmap.Image]:
    return sorted(model.images.values(), key=lambda image: image.name)


def inria(folder: Path, factor: int) -> Read:
    """-i images_K: only fields of view are kept, the principal point is taken to be the middle of the file."""
    model = pycolmap.Reconstruction(folder / "sparse" / "0")
    views = []
    for image in sorted_images(model):
        fx, fy, _, _ = pinhole(image.camera)
        file = folder / _images(factor) / Path(image.name).name
        width, height = size_of(file)
        focal = fx / image.camera.width * width, fy / image.camera.height * height
        views.append(View(image.name, file, *focal, width / 2, height / 2, image.cam_from_world().matrix()))
    ply = folder / "sparse" / "0" / "points3D.ply"
    return views, ply_points(ply, normals=True) if ply.exists() else _points(model)


def gsplat(folder: Path, factor: int) -> Read:
    """--data_factor K: files of both folders are paired by order; one scale, that of the first, for all cameras."""
    model = pycolmap.Reconstruction(folder / "sparse" / "0")
    full = sorted(file.name for file in (folder / "images").iterdir())
    small = sorted(file.name for file in (folder / _images(factor)).iterdir())
    assert len(full) == len(small)
    paired = dict(zip(full, small, strict=True))
    images = sorted_images(model)
    first = images[0]
    width, height = size_of(folder / _images(factor) / paired[first.name])
    scale_x = width / (first.camera.width // factor)
    scale_y = height / (first.camera.height // factor)
    views = []
    for image in images:
        fx, fy, cx, cy = (value / factor for value in pinhole(image.camera))
        file = folder / _images(factor) / paired[image.name]
        scaled = fx * scale_x, fy * scale_y, cx * scale_x, cy * scale_y
        views.append(View(image.name, file, *scaled, image.cam_from_world().matrix()))
    return views, _points(model)


def brush(folder: Path, factor: int) -> Read:
    """Any cameras.bin; an image is the first path that ends with its name; any PLY file takes the place of points."""
    assert factor == 1
    files = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())
    models = [Path(file).parent for file in files if file.endswith("cameras.bin")]
    model = max((pycolmap.Reconstruction(folder / each) for each in models), key=lambda each: each.num_images())
    views = []
    for image in sorted_images(model):
        ends = image.name.lower()
        found = next(each for each in files if each.lower().endswith(ends) and "masks" not in Path(each).parts)
        views.append(View(image.name, folder / found, *pinhole(image.camera), image.cam_from_world().matrix()))
    clouds = [file for file in files if file.endswith(".ply")]
    chosen = next((file for file in clouds if file.endswith("init.ply")), clouds[-1] if clouds else None)
    return views, _points(model) if chosen is None else ply_points(folder / chosen)


def opensplat(folder: Path, factor: int) -> Read:
    """transforms.json before any COLMAP model; camera_model and ply_file_path are demanded; frames override the top."""
    assert factor == 1
    if not (folder / "transforms.json").exists():
        model = pycolmap.Reconstruction(folder / "sparse" / "0")
        assert (folder / "sparse" / "0" / "points3D.bin").exists()
        views = []
        for image in sorted_images(model):
            file = folder / "images" / image.name
            scale = size_of(file)[1] / image.camera.height
            scaled = (value * scale for value in pinhole(image.camera))
            views.append(View(image.name, file, *scaled, image.cam_from_world().matrix()))
        return views, _points(model)
    content = json.loads((folder / "transforms.json").read_text())
    assert content["camera_model"] == "OPENCV"
    views = []
    for frame in content["frames"]:
        given = {**content, **frame}
        file = folder / frame["file_path"]
        scale = size_of(file)[1] / given["h"]
        intrinsics = (given[key] * scale for key in ("fl_x", "fl_y", "cx", "cy"))
        pose = np.linalg.inv(np.array(frame["transform_matrix"]) @ OPENGL)[:3]
        views.append(View(file.name, file, *intrinsics, pose))
    return views, ply_points(folder / content["ply_file_path"])


def lichtfeld(folder: Path, factor: int) -> Read:
    """--images images_K scales intrinsics by the ending of the name; points3D.ply before points3D.bin."""
    model = pycolmap.Reconstruction(folder / "sparse" / "0")
    views = []
    for image in sorted_images(model):
        scaled = (value / factor for value in pinhole(image.camera))
        file = folder / _images(factor) / image.name
        views.append(View(image.name, file, *scaled, image.cam_from_world().matrix()))
    ply = folder / "sparse" / "0" / "points3D.ply"
    return views, ply_points(ply) if ply.exists() else _points(model)


READERS = {"inria": inria, "gsplat": gsplat, "brush": brush, "opensplat": opensplat, "lichtfeld": lichtfeld}
SMALLER = ("inria", "gsplat", "lichtfeld")
"""Readers that take images_K."""


def _images(factor: int) -> str:
    return "images" if factor == 1 else f"images_{factor}"


def _points(model: pycolmap.Reconstruction) -> np.ndarray:
    return np.array([point.xyz for _, point in sorted(model.points3D.items())])
