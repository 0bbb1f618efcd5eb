"""Checks of masks and depth maps."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import PurePosixPath

import numpy as np

from unposed.pipeline.regular_files import read_text

from .finding import Finding, LintLimits, several
from .scene_folder import SceneFolder

MASK_READERS = ("brush", "lichtfeld", "nerfstudio")
DEPTH_SPREAD = 5.0
"""Inria's reader drops a depth map whose scale is this many times the median, or a fifth of it."""


SIDES_DIFFER = 0.02
"""Share that the ratio of the sides of a depth map may differ from that of its image: rounding of small maps."""


def check_masks(scene: SceneFolder, limits: LintLimits) -> Iterator[Finding]:
    """Masks for some images only, of other sizes, or for programs that read none."""
    masks = scene.headers("masks")
    if not masks:
        return
    of_image = {name: _mask_name(name, set(masks)) for name in scene.images}
    bare = [name for name, mask in of_image.items() if mask is None]
    if bare and len(bare) == len(of_image):
        text = "no mask is named like an image: none is used"
        yield Finding("masks-names", MASK_READERS, "masks", text, "call them masks/NAME.png for images/NAME.jpg")
        return
    if bare:
        text = f"{several(bare)} has none: programs ask for a mask of every image"
        yield Finding("masks-partly", ("lichtfeld", "nerfstudio"), "masks", text, "write a white one for the others")
    sized = [
        mask
        for name, mask in of_image.items()
        if mask is not None
        and (masks[mask].width, masks[mask].height) != (scene.images[name].width, scene.images[name].height)
    ]
    if sized:
        text = "is not as large as its image"
        yield Finding(
            "masks-size", MASK_READERS, f"masks/{several(sized)}", text, "undistort and scale it as the image"
        )
    deep = [mask for mask, facts in masks.items() if facts.mode not in ("L", "1")]
    if deep:
        text = "is not a mask of one channel of 8 bits"
        yield Finding("masks-mode", MASK_READERS, f"masks/{several(deep)}", text, "convert it to grey")
    hidden = [mask for mask, facts in masks.items() if not facts.problem and _is_black(scene, mask)]
    if hidden:
        text = "hides all of its image: white is what is kept"
        yield Finding(
            "masks-black", MASK_READERS, f"masks/{several(hidden)}", text, "invert it, or leave the image out"
        )
    small = {file.split("/")[0] for file in scene.files if file.startswith("images_") and "_png" not in file}
    lacking = sorted(each for each in small if not scene.headers(each.replace("images", "masks")))
    if lacking and scene.transforms is not None:
        text = f"{lacking[0]} has no masks of its size, which are looked for"
        yield Finding("masks-copies", ("nerfstudio",), lacking[0].replace("images", "masks"), text, "write them")
    if not _is_baked(scene, of_image):
        text = "are not read by these programs: what is hidden is trained"
        remedy = "export again with bake=black, white or alpha"
        yield Finding("masks-unread", ("gsplat", "inria", "opensplat"), "masks", text, remedy, True)


def check_depths(scene: SceneFolder, limits: LintLimits) -> Iterator[Finding]:
    """Depth maps: their bits, and the scales that lead from them to depths."""
    depths = scene.headers("depths")
    params = "sparse/0/depth_params.json"
    shallow = [name for name, facts in depths.items() if not facts.mode.startswith("I")]
    if shallow:
        text = "has 8 bits, and is read as 16"
        yield Finding("depth-bits", ("inria", "nerfstudio"), f"depths/{several(shallow)}", text, "write 16-bit PNG")
    if depths and params not in scene.files:
        text = "is missing: depths have no scale"
        yield Finding("depth-params", ("inria",), params, text, "write scale and offset of every map")
    if params not in scene.files:
        return
    try:
        content = json.loads(read_text(scene.root / params))
        scales = {str(stem): float(each["scale"]) for stem, each in content.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        text = f"cannot be read: {error}"
        yield Finding("depth-params", ("inria",), params, text, "write scale and offset of every map")
        return
    stems = {str(PurePosixPath(name).with_suffix("")) for name in depths}
    if odd := sorted(stems ^ set(scales)):
        text = f"{several(odd)} is not in both depths and {params}"
        yield Finding("depth-names", ("inria",), params, text, "write both for the same images")
    sides = {str(PurePosixPath(name).with_suffix("")): (each.width, each.height) for name, each in scene.images.items()}
    sized = []
    for name, facts in depths.items():
        width, height = sides.get(str(PurePosixPath(name).with_suffix("")), (facts.width, facts.height))
        if abs(facts.width * height - facts.height * width) > SIDES_DIFFER * facts.height * width:
            sized.append(name)
    if sized:
        text = "has other proportions than its image, and is stretched"
        yield Finding("depth-size", ("inria",), f"depths/{several(sized)}", text, "undistort and crop it as the image")
    # A scale of zero says that there is no depth, and is meant.
    given = {stem: scale for stem, scale in scales.items() if scale != 0.0}
    usual = float(np.median(list(given.values()) or [1.0])) or 1.0
    dropped = [stem for stem, scale in given.items() if not 1 / DEPTH_SPREAD <= scale / usual <= DEPTH_SPREAD]
    if dropped:
        text = f"{several(dropped)} has a scale beyond a fifth or five times the median, and is dropped"
        yield Finding("depth-scale", ("inria",), params, text, "use one quantisation for all maps")


def _mask_name(image: str, masks: set[str]) -> str | None:
    stem = PurePosixPath(image).with_suffix("")
    return next((name for name in (f"{stem}.png", f"{image}.png", f"{stem}.mask.png") if name in masks), None)


def _is_black(scene: SceneFolder, mask: str) -> bool:
    grey = scene.pixels(f"masks/{mask}", "L")
    return grey is not None and not grey.any()


def _is_baked(scene: SceneFolder, of_image: dict[str, str | None]) -> bool:
    """Whether what masks hide is of one colour, or transparent, in the images; the first that hides anything tells."""
    for name, mask in of_image.items():
        if mask is None or scene.images[name].problem:
            continue
        grey, values = scene.pixels(f"masks/{mask}", "L"), scene.pixels(f"images/{name}")
        if grey is None or values is None or values.shape[:2] != grey.shape or not (grey < 128).any():
            continue
        hidden = grey < 128
        if values.ndim == 3 and values.shape[2] == 4:
            return bool((values[hidden][:, 3] == 0).mean() > 0.95)
        # JPEG spreads what is visible by a block or so.
        return bool(np.percentile(values[hidden], 90) - np.percentile(values[hidden], 10) <= 8)
    return True


CHECKS = (check_masks, check_depths)
