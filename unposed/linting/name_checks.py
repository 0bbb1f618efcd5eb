"""Checks of names: which file a program takes for which image."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

from unposed.pipeline.regular_files import read_bytes

from .finding import TRAINERS, TRANSFORMS_READERS, Finding, LintLimits, several
from .posed_images import PosedImages
from .scene_folder import SceneFolder

PARTS = ("train", "val", "test")


def check_names(scene: SceneFolder, limits: LintLimits) -> Iterator[Finding]:
    """Names that some program cuts, splits or confuses."""
    names = _image_names(scene)
    if odd := [name for name in names if " " in name or not name.isascii()]:
        text = "readers of text split names at blanks, and some decode ASCII only"
        yield Finding("name-letters", TRAINERS, several(odd), text, "rename it to ASCII letters without blanks", True)
    if dotted := [name for name in names if PurePosixPath(name).name.count(".") > 1]:
        text = "is cut at its first dot: images whose names begin alike become one"
        yield Finding("name-dots", ("inria",), several(dotted), text, "keep one dot, that of the ending")
    for key, text, trainers in (
        (lambda path: path.name, "base names repeat in other folders, which are dropped", ("inria", "nerfstudio")),
        (
            lambda path: str(path.with_suffix("")),
            "names differ by their ending only: masks and depths are shared",
            TRAINERS,
        ),
    ):
        alike = defaultdict(list)
        for name in names:
            alike[key(PurePosixPath(name)).lower()].append(name)
        if doubles := [group[0] for group in alike.values() if len(group) > 1]:
            check = "name-repeated" if len(trainers) == 2 else "name-stem"
            yield Finding(check, trainers, several(doubles), text, "rename images so that all base names differ")


def check_lookup(scene: SceneFolder, limits: LintLimits) -> Iterator[Finding]:
    """Images for which Brush finds another file: it takes the first path that ends with the name, outside of masks."""
    lowered = sorted((file.lower(), file) for file in scene.files if "masks" not in PurePosixPath(file).parts[:-1])
    wrong = {}
    for name in _image_names(scene):
        # Names backwards would make this one look-up each; a few thousand images are quick enough as they are.
        first = next((file for lower, file in lowered if lower.endswith(name.lower())), None)
        if first is not None and first != f"images/{name}":
            wrong[name] = first
    if wrong:
        name, other = next(iter(wrong.items()))
        text = f"{other} is read in its place, as the first path that ends alike"
        remedy = f"rename {other} or its folder: no path that sorts before may end with the name of an image"
        yield Finding("name-suffix", ("brush",), f"images/{several(list(wrong))}", text, remedy)


def check_presence(scene: SceneFolder, limits: LintLimits) -> Iterator[Finding]:
    """Images that cameras are known of, and files are not."""
    present, other = set(scene.below("images")), scene.transforms_poses
    readers = {scene.of_model if scene.model is not None else TRAINERS: _image_names(scene)}
    if scene.model is not None and other is not None:
        readers[TRANSFORMS_READERS] = _below_images(other)
    missing = {who: tuple(name for name in names if name not in present) for who, names in readers.items()}
    if len(set(missing.values())) == 1:
        missing = {TRAINERS: next(iter(missing.values()))}
    for who, names in missing.items():
        if names:
            text = "has a camera but no file: programs stop, Brush leaves it out"
            yield Finding("image-missing", who, f"images/{several(names)}", text, "put the image there")


def check_order(scene: SceneFolder, limits: LintLimits) -> Iterator[Finding]:
    """Ids of images in another order than their names, and of cameras that do not begin with 1."""
    if scene.model is None:
        return
    file = f"{scene.model_place}/images"
    if list(scene.model.names) != sorted(scene.model.names):
        text = "ids are not in the order of names: every 8th image, held out for tests, differs between programs"
        yield Finding("id-order", ("nerfstudio",), file, text, "number images by name", True)
    if min(scene.model.ids, default=1) < 1 or (len(scene.model.cameras) == 1 and 1 not in scene.model.cameras):
        text = "ids do not begin with 1, which is where a single camera is looked for"
        yield Finding("id-start", ("nerfstudio",), file, text, "number cameras and images from 1")


def check_split(scene: SceneFolder, limits: LintLimits) -> Iterator[Finding]:
    """Which images are held out: the lists of nerfstudio, and test.txt of Inria's family."""
    names = set(_image_names(scene))
    lists = {part: f"{part}_list.txt" for part in PARTS}
    present = [file for file in lists.values() if file in scene.files]
    if present and len(present) < len(lists):
        missing = [file for file in lists.values() if file not in present]
        text = f"is missing beside {present[0]}: the parser stops as soon as there is one of the three"
        yield Finding("split-incomplete", ("nerfstudio",), missing[0], text, "write all three lists, or none")
    if "validation_list.txt" in scene.files:
        text = "is never read"
        yield Finding("split-name", ("nerfstudio",), "validation_list.txt", text, "call it val_list.txt")
    for file, trainer in (*((file, "nerfstudio") for file in present), ("sparse/0/test.txt", "inria")):
        if file not in scene.files:
            continue
        listed = _lines(scene, file)
        if unknown := [name for name in listed if name not in names]:
            text = f"lists {several(unknown)}, which is no image"
            yield Finding("split-unknown", (trainer,), file, text, "write the names as the model has them")
    if "sparse/0/images.bin" in scene.files and "sparse/0/test.txt" not in scene.files:
        text = "is missing: programs of Inria's family that read it stop with --eval"
        yield Finding(
            "split-test", ("inria",), "sparse/0/test.txt", text, "list the images held out, a line each", True
        )
    if "360" in str(scene.root.resolve()):
        text = "360 in the path makes Inria's programs hold out every 8th image whatever test.txt says"
        yield Finding("path-360", ("inria",), ".", text, "rename the folder", True)


def _lines(scene: SceneFolder, file: str) -> Sequence[str]:
    try:
        return read_bytes(scene.root / file).decode("utf-8", "replace").split("\n")[:-1]
    except OSError:
        return ()


def _image_names(scene: SceneFolder) -> tuple[str, ...]:
    """Names of the images that have a pose, below images."""
    if scene.posed is None:
        return tuple(scene.images)
    return _below_images(scene.posed)


def _below_images(posed: PosedImages) -> tuple[str, ...]:
    return tuple(name.removeprefix("images/") for name in posed.names)


CHECKS = (check_names, check_lookup, check_presence, check_order, check_split)
