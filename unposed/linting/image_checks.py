"""Checks of the image files: sizes, smaller copies, EXIF data, transparency, borders."""

from __future__ import annotations

import re
from collections.abc import Iterator
from math import ceil, log2
from pathlib import PurePosixPath

from .finding import TRAINERS, Finding, LintLimits, several
from .scene_folder import SceneFolder

AUTOMATIC_PX = 1600
"""nerfstudio takes smaller copies of images whose longer side is beyond this."""
INWARD_PX = 8
"""A padded border ends within this many pixels; beyond, black is what the scene looks like."""


def check_files(scene: SceneFolder, limits: LintLimits) -> Iterator[Finding]:
    """Files that cannot be read, or have a kind that programs do not expect."""
    broken = [name for name, facts in scene.images.items() if facts.problem]
    if broken:
        why = scene.images[broken[0]].problem
        yield Finding("image-unreadable", TRAINERS, f"images/{several(broken)}", why, "write the file again")
    odd = [name for name, each in scene.images.items() if each.mode not in ("RGB", "RGBA") and not each.problem]
    if odd:
        mode = scene.images[odd[0]].mode
        text = f"not 8-bit RGB but {mode}: trainers expect three colours of one byte"
        yield Finding("image-mode", TRAINERS, f"images/{several(odd)}", text, "convert it to RGB")
    endings = [name for name in scene.images if PurePosixPath(name).suffix not in (".jpg", ".png")]
    if endings:
        text = "trainers look for .jpg and .png in small letters"
        yield Finding("image-ending", TRAINERS, f"images/{several(endings)}", text, "convert or rename it", True)
    turned = [name for name, facts in scene.images.items() if facts.orientation != 1]
    if turned:
        text = "EXIF orientation is not 1: some programs turn the image, others do not"
        remedy = "turn the pixels and set the tag to 1"
        yield Finding("exif-orientation", TRAINERS, f"images/{several(turned)}", text, remedy)
    unexposed = [name for name, facts in scene.images.items() if not facts.exposed and not facts.problem]
    if 0 < len(unexposed) < len(scene.images):
        text = "has no exposure time in its EXIF data, which others have: exposures are not compensated"
        remedy = "copy the EXIF data of the photo"
        yield Finding("exif-exposure", ("gsplat",), f"images/{several(unexposed)}", text, remedy, True)
    clear = [name for name, facts in scene.images.items() if facts.mode == "RGBA"]
    if 0 < len(clear) < len(scene.images):
        text = "has transparency, which others have not: LichtFeld asks the first image only, Brush each"
        remedy = "give all images an alpha channel, or none"
        yield Finding("alpha-mixed", ("brush", "inria", "lichtfeld"), f"images/{several(clear)}", text, remedy)


def check_smaller_copies(scene: SceneFolder, limits: LintLimits) -> Iterator[Finding]:
    """images_2, images_4, ...: the same names, sizes rounded down, nothing else in the folders."""
    if not scene.images:
        return
    longest = max(max(facts.width, facts.height) for facts in scene.images.values())
    factors = {int(match[1]) for file in scene.files if (match := re.match(r"images_(\d+)/", file))} - {0, 1}
    wanted = 2 ** ceil(log2(longest / AUTOMATIC_PX)) if longest > AUTOMATIC_PX else 1
    for factor, trainer, why in (
        (4, "gsplat", "its default --data_factor 4 stops"),
        (
            wanted,
            "nerfstudio",
            f"its colmap parser asks a question about images of more than {AUTOMATIC_PX} px, and stops",
        ),
    ):
        if factor > 1 and factor not in factors:
            remedy = f"write images_{factor} with images of 1/{factor} of the size under the same names"
            yield Finding("copies-missing", (trainer,), f"images_{factor}", why, remedy)
    for factor in sorted(factors):
        yield from _check_copies(scene, factor)


def _check_copies(scene: SceneFolder, factor: int) -> Iterator[Finding]:
    folder = f"images_{factor}"
    full, small = scene.below("images"), scene.below(folder)
    stems = [{str(PurePosixPath(name).with_suffix("")) for name in names} for names in (full, small)]
    different = sorted(stems[0] ^ stems[1])
    if different or len(full) != len(small):
        what = different or sorted(set(full) ^ set(small))
        text = f"images and {folder} hold different files ({several(what)}): they are paired by their order"
        remedy = "keep the same images in both folders, and nothing else"
        yield Finding("copies-differ", ("gsplat", "nerfstudio"), folder, text, remedy)
    endings = {PurePosixPath(name).suffix for name in small}
    if len(endings) > 1:
        text = f"holds {' and '.join(sorted(endings))} files: they are paired with images by their order"
        yield Finding("copies-mixed", ("gsplat",), folder, text, "keep one kind of file")
    elif not different and set(full) != set(small):
        text = "files end in other letters than those of images, under whose names they are looked for"
        yield Finding("copies-ending", ("nerfstudio",), folder, text, "write them under the same names")
    facts = scene.headers(folder)
    wrong, uneven = [], []
    for name, each in scene.images.items():
        copy = facts.get(name) or facts.get(str(PurePosixPath(name).with_suffix(".png")))
        if copy is None or each.problem or copy.problem:
            continue
        if (copy.width, copy.height) != (max(1, each.width // factor), max(1, each.height // factor)):
            wrong.append(name)
        elif each.width % factor or each.height % factor:
            uneven.append(name)
    if wrong:
        text = f"not 1/{factor} of the image, rounded down: focal lengths are taken for that size"
        yield Finding("copies-size", ("gsplat", "nerfstudio"), f"{folder}/{several(wrong)}", text, "write it anew")
    if uneven:
        text = f"sides of the image are no multiples of {factor}: the principal point moves by a part of a pixel"
        remedy = f"crop images to multiples of {factor} (never pad)"
        yield Finding("copies-uneven", ("gsplat", "nerfstudio"), f"{folder}/{several(uneven)}", text, remedy, True)


def check_camera_sizes(scene: SceneFolder, limits: LintLimits) -> Iterator[Finding]:
    """Images whose size is not that of their camera."""
    if scene.posed is None:
        return
    wrong, ratios = [], set()
    for row, name in enumerate(scene.posed.names):
        camera, facts = scene.posed.camera_of(row), scene.images.get(name.removeprefix("images/"))
        if facts is None or facts.problem or not camera.width:
            continue
        ratios.add((facts.width / camera.width, facts.height / camera.height))
        if (facts.width, facts.height) != (camera.width, camera.height):
            wrong.append(name)
    if wrong:
        text = "is not as large as its camera: Brush, Inria and nerfstudio train at a wrong focal length"
        if len(ratios) > 1:
            text += ", gsplat scales all cameras by the first image"
        remedy = "scale the image, or the intrinsics"
        yield Finding("image-size", TRAINERS, several(wrong), text, remedy)


def check_borders(scene: SceneFolder, limits: LintLimits) -> Iterator[Finding]:
    """Images that undistortion has padded with black: splats are trained to be black there."""
    names = [name for name, facts in scene.images.items() if not facts.problem]
    every = max(1, len(names) // limits.border_photos)
    read = names[::every][: limits.border_photos]
    padded = [name for name in read if _has_border(scene, name, limits)]
    if padded and 2 * len(padded) > len(read):
        text = "outermost pixels are black: splats learn the border, which costs up to 3 dB"
        remedy = "crop after undistortion instead of padding, or mask the border"
        yield Finding("black-border", TRAINERS, f"images/{several(padded)}", text, remedy, True)


def _has_border(scene: SceneFolder, name: str, limits: LintLimits) -> bool:
    grey = scene.pixels(f"images/{name}", "L")
    if grey is None or min(grey.shape) <= 2 * INWARD_PX:
        return False
    for turned in (grey, grey[::-1], grey.T, grey.T[::-1]):
        black = turned[0] <= limits.border_grey
        beyond = turned[INWARD_PX] > 4 * limits.border_grey
        if black.mean() > 0.5 and (black & beyond).mean() > 0.5 * black.mean():
            return True
    return False


CHECKS = (check_files, check_smaller_copies, check_camera_sizes, check_borders)
