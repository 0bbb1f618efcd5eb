"""Stages that only pretend: fast, and as good or bad as a test wants them to be."""

import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np

from unposed.pipeline.artifacts import (
    Camera,
    CameraPriors,
    Features,
    PairMatches,
    Photo,
    PhotoMask,
    Photos,
    SceneGraph,
    SparseModel,
    SparseModels,
)
from unposed.pipeline.config import Within
from unposed.pipeline.executor import Job, Local, OutcomeStream
from unposed.pipeline.stage import Grain, PerPair, PerPhoto, Resources, Sides, StageError

POINTS = 5


@dataclass(frozen=True)
class ToyCameras:
    """One camera for all."""

    grain: ClassVar[Literal[Grain.COLLECTION]] = Grain.COLLECTION

    grouping: Literal["auto", "single", "folder", "image"] = "auto"

    def __call__(self, photos: Photos) -> CameraPriors:
        first = photos[0]
        camera = Camera("SIMPLE_PINHOLE", first.width, first.height, (100.0, first.width / 2, first.height / 2))
        return CameraPriors((camera,), np.zeros(len(photos), np.int32), ("guess",))


@dataclass(frozen=True)
class ToyMasks:
    """The left third of every photo is not to be used."""

    grain: ClassVar[Literal[Grain.PHOTO]] = Grain.PHOTO
    version: ClassVar[int] = 1

    def __call__(self, photos: Photo) -> PhotoMask:
        return PhotoMask(np.tile(np.arange(30) >= 10, (20, 1)))


@dataclass(frozen=True)
class ToyFeatures:
    """The same few points in every photo; none in those of a size the test dislikes."""

    grain: ClassVar[Literal[Grain.PHOTO]] = Grain.PHOTO

    dislike_width: int = 0
    pause_s: float = 0.0

    def __call__(self, photos: Photo) -> Features:
        time.sleep(self.pause_s)
        if photos.width == self.dislike_width:
            raise StageError("nothing to see in it")
        ones = np.ones(POINTS, np.float32)
        xy = np.arange(2 * POINTS, dtype=np.float32).reshape(POINTS, 2)
        return Features(xy, ones, np.eye(POINTS, 8, dtype=np.float32), np.zeros((POINTS, 3), np.uint8), ones)


@dataclass(frozen=True)
class ToyGraph:
    """Every photo with the next."""

    grain: ClassVar[Literal[Grain.COLLECTION]] = Grain.COLLECTION

    def __call__(self, photos: Photos) -> SceneGraph:
        first = np.arange(len(photos) - 1, dtype=np.int32)
        return SceneGraph(np.stack([first, first + 1], axis=1), np.ones(len(first), np.float32))


@dataclass(frozen=True)
class ToyMatching:
    """Every point with the one of the same number."""

    grain: ClassVar[Literal[Grain.PAIR]] = Grain.PAIR

    share: Annotated[float, Within("(0, 1]")] = 1.0
    """Of the points that are matched."""

    def __call__(self, features: Sides[Features]) -> PairMatches:
        rows = np.arange(round(POINTS * self.share), dtype=np.int32)
        return PairMatches(features.a.xy[rows], features.b.xy[rows], np.ones(len(rows), np.float32), rows, rows)


@dataclass(frozen=True)
class ToyFine:
    """Places the photos in which there are points, on a line, in chunks of a size the test chooses."""

    grain: ClassVar[Literal[Grain.COLLECTION]] = Grain.COLLECTION

    chunk: int = 1000
    at_most: int = 1000

    def __call__(
        self, cameras: CameraPriors, features: PerPhoto[Features], matching: PerPair[PairMatches]
    ) -> SparseModels:
        placed = list(features)[: self.at_most]
        chunks = [placed[start : start + self.chunk] for start in range(0, len(placed), self.chunk)]
        left_out = dict.fromkeys(list(features)[self.at_most :], "the toy is full")
        note = f"{sum(len(matches.weight) for matches in matching.values())} matches"
        return SparseModels(tuple(scene(cameras, features, chunk) for chunk in chunks), left_out, (note,))


def scene(cameras: CameraPriors, features: PerPhoto[Features], photos: list[int]) -> SparseModel:
    poses = np.tile(np.eye(3, 4), (len(photos), 1, 1))
    poses[:, 0, 3] = photos
    keypoints = np.arange(len(photos) * POINTS).reshape(len(photos), POINTS)
    return SparseModel(
        cameras=cameras.cameras,
        photos=np.array(photos, np.int32),
        camera_of_photo=np.zeros(len(photos), np.int32),
        cam_from_world=poses,
        xy=np.concatenate([features[photo].xy for photo in photos]).astype(np.float64),
        xy_start=np.arange(len(photos) + 1, dtype=np.int64) * POINTS,
        points=np.ones((POINTS, 3)),
        rgb=np.zeros((POINTS, 3), np.uint8),
        error_px=np.full(POINTS, 0.5),
        obs_xy=keypoints.T.reshape(-1),
        obs_point=np.repeat(np.arange(POINTS), len(photos)),
    )


@dataclass(frozen=True)
class Sorry:
    """A mapper that gives up."""

    grain: ClassVar[Literal[Grain.COLLECTION]] = Grain.COLLECTION

    def __call__(self, matching: PerPair[PairMatches]) -> SparseModels:
        raise StageError("no two photos show the same thing: take them closer together")


@dataclass(frozen=True)
class Names:
    """Exports the names of the photos that were placed."""

    separator: str = "\n"

    def __call__(self, sparse: SparseModels, photos: Photos, folder: Path) -> None:
        folder.mkdir(parents=True)
        names = [photos[index].name for scene in sparse.models for index in scene.photos]
        (folder / "names.txt").write_text(self.separator.join(names))


@dataclass(frozen=True)
class Backwards:
    """Does the last item first, and says so."""

    def run(self, job: Job, resources: Resources) -> OutcomeStream:
        print("backwards", file=sys.stderr)
        yield from Local().run(replace(job, items=job.items[::-1]), resources)
