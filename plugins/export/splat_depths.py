"""Depth maps beside the images of a folder to train Gaussian splats from, as Inria's code reads them.

    1 / depth = level / 65536 * scale + offset,

level being the 16 bits of depths/NAME.png, scale and offset those of the image in sparse/0/depth_params.json. Its
reader drops images whose scale is far from the median, so that all have one; those without a depth have the scale zero,
which drops them. A level of zero would be infinitely far, and has no weight of its own: what is not known takes the
depth of the nearest pixel that is.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from unposed.optim.arrays import Array32
from unposed.pipeline.artifacts import Camera
from unposed.pipeline.errors import InputError
from unposed.pipeline.regular_files import read_bytes, read_text

LEVELS = 65536
"""What Inria's reader divides by."""
LEAST_KNOWN = 0.2
"""Share of the pixels of a map that are known at least; of fewer, most of it would be made up."""


def write_depths(
    dense: Path, cameras: Sequence[Camera], photos: Sequence[str], names: Sequence[str], scale: float, folder: Path
) -> None:
    """Write depths/NAME.png for every image, and sparse/0/depth_params.json.

    dense: what `unposed dense` has written; cameras, photos and names: of each image its pinhole camera, the photo that
    it is of, and its file name; scale: from the frame of the reconstruction to that of the folder.
    """
    about = read_about(dense)
    of_photo = {str(each["photo"]): (file, each) for file, each in about["maps"].items() if each.get("model", 0) == 0}
    maps = []
    for photo in photos:
        of_none = photo not in of_photo
        maps.append(None if of_none else _inverse(dense, *of_photo[photo], about["inverse_depth_per_level"]))
    if all(each is None for each in maps):
        raise InputError(
            f"{dense}: no depth map in it is of these photos: run unposed dense on the same reconstruction"
        )
    largest = max(float(each.max()) for each in maps if each is not None)
    (folder / "depths").mkdir()
    params = {}
    for camera, photo, name, known in zip(cameras, photos, names, maps, strict=True):
        levels = np.zeros((camera.height, camera.width), np.uint16)
        if known is not None:  # at the size of the image one at a time
            inverse = _seen_by(camera, known, of_photo[photo][1])
            levels = np.clip(np.rint(inverse * ((LEVELS - 1) / largest)), 1, LEVELS - 1).astype(np.uint16)
        stem = Path(name).stem
        (folder / "depths" / f"{stem}.png").write_bytes(cv2.imencode(".png", levels)[1].tobytes())
        params[stem] = {"scale": 0.0 if known is None else largest * LEVELS / (LEVELS - 1) / scale, "offset": 0.0}
    text = json.dumps(params, indent=1) + "\n"
    (folder / "sparse" / "0" / "depth_params.json").write_text(text, encoding="utf-8")


def read_about(dense: Path) -> dict[str, Any]:
    """What depths.json says of the maps in a folder; InputError if it is not as `dense` writes it."""
    try:
        about: dict[str, Any] = json.loads(read_text(dense / "depths.json"))
        float(about["inverse_depth_per_level"])
        for each in about["maps"].values():
            str(each["photo"]), [float(each[key]) for key in ("fx", "fy", "cx", "cy")]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        raise InputError(
            f"{dense}: no depths.json as unposed dense writes it: give the folder that it has written"
        ) from None
    return about


def _inverse(dense: Path, file: str, about: dict[str, Any], per_level: float) -> Array32 | None:
    """Inverse depths of a map, 0 where they are not known; None where too few are."""
    try:
        data = np.frombuffer(read_bytes(dense / "depths" / file), np.uint8)
        levels = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
        if levels is None or levels.dtype != np.uint16 or levels.shape != (about["height"], about["width"]):
            raise ValueError
    except (OSError, ValueError, KeyError, cv2.error):
        raise InputError(
            f"{dense / 'depths' / file}: no depth map as depths.json describes it: run dense again"
        ) from None
    if np.count_nonzero(levels) < LEAST_KNOWN * levels.size:
        return None
    return np.asarray(levels * np.float32(per_level), np.float32)


def _seen_by(camera: Camera, inverse: Array32, about: dict[str, Any]) -> Array32:
    """The map in the pixels of an image's camera, whose axes it shares, with what is not known filled."""
    filled = _filled(inverse)
    fx, fy, cx, cy = camera.params
    x = (np.arange(camera.width) + 0.5 - cx) * (float(about["fx"]) / fx) + float(about["cx"]) - 0.5
    y = (np.arange(camera.height) + 0.5 - cy) * (float(about["fy"]) / fy) + float(about["cy"]) - 0.5
    map_x, map_y = (np.ascontiguousarray(each, np.float32) for each in np.meshgrid(x, y))
    return np.asarray(cv2.remap(filled, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.float32)


def _filled(inverse: Array32) -> Array32:
    """Each unknown pixel takes the value of the nearest known one."""
    unknown = (inverse <= 0).astype(np.uint8)
    if not unknown.any():
        return inverse
    _, nearest = cv2.distanceTransformWithLabels(unknown, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    value = np.zeros(int(nearest.max()) + 1, np.float32)
    known = unknown == 0
    value[nearest[known]] = inverse[known]
    return np.asarray(value[nearest], np.float32)
