"""Write scenes to disk as folders of JPEG files, with ground truth beside them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .camera import Lens, Shot
from .render import depth, render
from .scenes import Scene

MAKE, MODEL, ORIENTATION, EXIF_IFD, FOCAL_MM, FOCAL_35MM = 271, 272, 274, 0x8769, 37386, 41989


@dataclass(frozen=True)
class PhotoSet:
    """A scene on disk."""

    scene: Scene
    images: Path
    """Folder of the photos."""
    truth: Path
    """Their ground truth, gt.json."""


def write_set(scene: Scene, folder: Path) -> PhotoSet:
    """Write photos to folder/images and ground truth to folder/gt.json."""
    written = PhotoSet(scene, folder / "images", folder / "gt.json")
    write_photos(scene, written.images)
    write_truth(scene, written.truth)
    return written


def write_photos(scene: Scene, folder: Path, quality: int = 92) -> None:
    """Render every shot of the scene to folder/<name>, with EXIF where its lens has a maker."""
    for shot in scene.shots:
        pixels = render(scene.world, shot)
        if scene.backdrop is not None:
            pixels = _in_front(pixels, scene.backdrop, shot, scene)
        exif = _exif(shot.lens)
        if shot.stored_sideways:
            pixels = np.rot90(pixels)
            exif[ORIENTATION] = 6
        path = folder / shot.name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.ascontiguousarray(pixels)).save(path, "JPEG", quality=quality, optimize=True, exif=exif)


def _in_front(pixels: NDArray[np.uint8], backdrop: NDArray[np.uint8], shot: Shot, scene: Scene) -> NDArray[np.uint8]:
    """The photo with the backdrop where its world ends, under noise of its own."""
    noise = np.random.default_rng([1, *shot.name.encode()]).standard_normal(backdrop.shape)
    behind = np.clip(np.rint(backdrop + shot.noise * noise), 0, 255).astype(np.uint8)
    return np.where(np.isinf(depth(scene.world, shot))[..., None], behind, pixels)


def write_truth(scene: Scene, file: Path) -> None:
    """Write the cameras as gt.json, whose K has the centre of the top-left pixel at (0, 0), half a pixel from ours."""
    images = {}
    for shot in scene.shots:
        k = shot.lens.K
        k[:2, 2] -= 0.5
        images[shot.name] = {
            "width": shot.lens.width,
            "height": shot.lens.height,
            "K": k.tolist(),
            "R_w2c": shot.cam_from_world[:, :3].tolist(),
            "t_w2c": shot.cam_from_world[:, 3].tolist(),
            **({"dist": list(shot.lens.dist)} if any(shot.lens.dist) else {}),
        }
    truth = {
        "dataset": scene.name,
        "units": "m",
        "source": "rendered by unposed.synthetic; exact",
        "license": "Apache-2.0",
        "pixel_convention": "the centre of the top-left pixel is (0, 0)",
        "images": images,
    }
    file.write_text(json.dumps(truth, indent=1) + "\n", encoding="utf-8")


def _exif(lens: Lens) -> Image.Exif:
    exif = Image.Exif()
    if lens.make:
        focal_mm = lens.fx * lens.sensor_mm / max(lens.width, lens.height)
        # By definition the 35 mm equivalent compares diagonals; cameras round it to whole millimetres.
        focal_35mm = lens.fx * np.hypot(36, 24) / np.hypot(lens.width, lens.height)
        exif[MAKE], exif[MODEL] = lens.make, lens.model
        exif.get_ifd(EXIF_IFD).update({FOCAL_MM: round(focal_mm, 2), FOCAL_35MM: round(focal_35mm)})
    return exif
