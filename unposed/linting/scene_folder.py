"""Read a folder to train splats from, of any origin, into plain facts. What cannot be read is a fact, too."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL.ExifTags import IFD, Base
from PIL.Image import Image

from unposed.pipeline.errors import InputError
from unposed.pipeline.images.decoding_memory import decoding_bytes
from unposed.pipeline.images.image_file import UnreadableImage, open_image, quiet
from unposed.pipeline.memory_limits import free_bytes
from unposed.pipeline.regular_files import read_text

from .finding import TRAINERS, TRANSFORMS_READERS
from .point_files import PointFile, read_point_file
from .posed_images import PosedImages, posed_by_colmap, posed_by_transforms

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp"})
MODEL_PLACES = ("sparse/0", "sparse", "", "colmap/sparse/0")
"""Where trainers look for a COLMAP model, the most usual first."""


@dataclass(frozen=True)
class ImageFacts:
    """The header of an image file."""

    width: int
    height: int
    mode: str
    orientation: int
    exposed: bool
    """Whether its EXIF data say the exposure time."""
    problem: str = ""
    """Why it cannot be read."""


@dataclass(frozen=True)
class SceneFolder:
    """The files of a folder; what is in them is read once, when a check asks."""

    root: Path
    files: tuple[str, ...]
    """Paths below the folder with forward slashes, sorted."""

    def below(self, folder: str) -> tuple[str, ...]:
        """The files below a folder, relative to it."""
        return tuple(file[len(folder) + 1 :] for file in self.files if file.startswith(f"{folder}/"))

    @cached_property
    def images(self) -> Mapping[str, ImageFacts]:
        """The files in images by name."""
        return self.headers("images")

    def headers(self, folder: str) -> Mapping[str, ImageFacts]:
        """The image files below a folder by name."""
        names = [name for name in self.below(folder) if PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES]
        return {name: _facts(self.root / folder / name) for name in names if not _is_hidden(name)}

    def pixels(self, file: str, mode: str | None = None) -> NDArray[np.uint8] | None:
        """The pixels of an image, converted to a mode or as they are; None where they cannot be read, or take more
        memory than is free."""
        try:
            with open_image(self.root / file) as image, quiet():
                if decoding_bytes(image, 0) > free_bytes():
                    return None
                return np.asarray(image if mode is None else image.convert(mode))
        except Exception:  # a decoder may raise anything on nonsense
            return None

    @cached_property
    def model_places(self) -> tuple[str, ...]:
        """Folders with a COLMAP model, binary or text; the one that most trainers read first."""
        files = map(PurePosixPath, self.files)
        found = {str(file.parent) for file in files if file.name in ("cameras.bin", "cameras.txt")}
        places = sorted("" if place == "." else place for place in found)
        return tuple(sorted(places, key=lambda place: [*MODEL_PLACES, place].index(place)))

    @cached_property
    def _model(self) -> tuple[PosedImages | None, str]:
        if not self.model_places:
            return None, ""
        try:
            return posed_by_colmap(self.root / self.model_places[0]), ""
        except InputError as error:
            return None, str(error)

    @property
    def model(self) -> PosedImages | None:
        """The COLMAP model that most trainers read."""
        return self._model[0]

    @property
    def model_problem(self) -> str:
        """Why it cannot be read."""
        return self._model[1]

    @property
    def model_place(self) -> str:
        """Its folder; a dot for the folder itself."""
        return self.model_places[0] or "."

    @cached_property
    def _transforms(self) -> tuple[Mapping[str, Any] | None, PosedImages | None, str]:
        if "transforms.json" not in self.files:
            return None, None, ""
        try:
            content = json.loads(read_text(self.root / "transforms.json"))
            return content, posed_by_transforms(content), ""
        except (OSError, ValueError, OverflowError, RecursionError, KeyError, TypeError, AttributeError) as error:
            return None, None, f"{type(error).__name__}: {error}"

    @property
    def transforms(self) -> Mapping[str, Any] | None:
        """The content of transforms.json."""
        return self._transforms[0]

    @property
    def transforms_poses(self) -> PosedImages | None:
        """The images and poses of transforms.json."""
        return self._transforms[1]

    @property
    def of_model(self) -> tuple[str, ...]:
        """The programs that read the COLMAP model, where there is one."""
        return TRAINERS if self.transforms_poses is None else tuple(t for t in TRAINERS if t not in TRANSFORMS_READERS)

    @property
    def transforms_problem(self) -> str:
        """Why it cannot be read."""
        return self._transforms[2]

    @property
    def posed(self) -> PosedImages | None:
        """What most trainers read: the COLMAP model, or else transforms.json."""
        return self.model or self.transforms_poses

    @cached_property
    def start_points(self) -> NDArray[np.float64]:
        """(n, 3) points of the model; without a model, of the file that transforms.json names."""
        if self.model is not None:
            return self.model.points
        named = (self.transforms or {}).get("ply_file_path")
        content = self.point_file(str(named)) if named else None
        return np.empty((0, 3)) if content is None else content.xyz

    def point_file(self, name: str) -> PointFile | None:
        """The points of a PLY file; None where there is none, or it cannot be read."""
        return read_point_file(self.root / name) if name in self.files else None


def read_scene_folder(root: Path) -> SceneFolder:
    """List a folder. InputError if it is none, or cannot be read."""
    if not root.is_dir():
        raise InputError(f"{root}: no such folder: give the folder that a trainer is to read")
    files: list[str] = []
    for folder, folders, names in os.walk(root, followlinks=True):
        place = Path(folder)
        real = place.resolve()
        if any(real == above.resolve() for above in place.parents):  # a loop of links
            folders.clear()
            continue
        files += [(place / name).relative_to(root).as_posix() for name in names]
    return SceneFolder(root, tuple(sorted(files)))


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in PurePosixPath(name).parts)


def _facts(file: Path) -> ImageFacts:
    try:
        with open_image(file) as image, quiet():
            tags = Image.getexif(image)
            exposed = Base.ExposureTime in tags.get_ifd(IFD.Exif)
            orientation = tags.get(Base.Orientation, 1)
            return ImageFacts(*image.size, image.mode, orientation if isinstance(orientation, int) else 1, exposed)
    except (UnreadableImage, OSError) as error:
        return ImageFacts(0, 0, "", 1, False, str(error))
    except Exception:  # a damaged tag directory raises whatever it likes
        with open_image(file) as image:
            return ImageFacts(*image.size, image.mode, 1, False)
