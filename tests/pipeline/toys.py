"""A graph of toy stages: small enough to count every call, real enough to need the whole engine.

Run as a script it is one run in a process of its own, for tests that kill it: toys.py CACHE PHOTOS [WORKERS].
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np

from unposed.pipeline.artifacts import (
    Camera,
    CameraPrior,
    CameraPriors,
    Features,
    Floats,
    PairMatches,
    Photo,
    PhotoGroups,
    Photos,
    SceneGraph,
    SparseModel,
    SparseModels,
    TwoViewGeometry,
)
from unposed.pipeline.config import Within
from unposed.pipeline.engine import Run, run
from unposed.pipeline.executor import Local
from unposed.pipeline.graph import build_graph
from unposed.pipeline.registry import GROUP, Registry
from unposed.pipeline.stage import Grain, Members, PerGroup, PerPair, PerPhoto, Resources, Sides, StageError
from unposed.pipeline.store.store import Store

MODULE = "unposed_toys"
PRESET: dict[str, Any] = {
    "features": {"use": "dots"},
    "graph": {"use": "every"},
    "matching": {"use": "nearest"},
    "coarse": {"use": "pile"},
    "fine": {"use": "polish"},
}


def log(node: str, *names: str) -> None:
    """One line per call of a stage, to the file named by the environment."""
    if path := os.environ.get("UNPOSED_TOY_LOG"):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(" ".join([node, *names]) + "\n")


def photos(*names: str, rejected: dict[str, str] | None = None) -> Photos:
    """A collection; the content of a photo is the hash of its name without what follows a +."""
    contents = [hashlib.sha256(name.partition("+")[0].encode()).hexdigest() for name in sorted(names)]
    made = [
        Photo(name, Path(f"/nowhere/{name}"), content, 40, 30)
        for name, content in zip(sorted(names), contents, strict=True)
    ]
    return Photos(tuple(made), rejected or {})


def scene_of(points: Floats) -> SparseModel:
    """A scene of nothing but points."""
    none, n = np.zeros(0, np.int64), len(points)
    return SparseModel(
        (),
        none,
        none,
        np.zeros((0, 3, 4)),
        np.zeros((0, 2)),
        np.zeros(1, np.int64),
        points,
        np.zeros((n, 3), np.uint8),
        np.zeros(n),
        none,
        none,
    )


@dataclass(frozen=True)
class Dots:
    """Random dots, the same for the same photo."""

    grain: ClassVar[Grain] = Grain.PHOTO
    count: Annotated[int, Within("[1, 1000]")] = 50
    """How many."""
    unreadable: tuple[str, ...] = ()
    crash: ClassVar[str] = ""
    """The photo that meets with a bug: no config, since config enters keys."""

    def __call__(self, photos: Photo) -> Features:
        log("features", photos.name)
        time.sleep(float(os.environ.get("UNPOSED_TOY_SLEEP", "0")))
        if photos.name in self.unreadable:
            raise StageError("all\nblack")
        if photos.name == self.crash:
            raise OSError("disk went away")
        rng = np.random.default_rng(int(photos.content[:8], 16))
        xy = rng.random((self.count, 2), np.float32)
        ones = np.ones(self.count, np.float32)
        return Features(xy, ones, rng.random((self.count, 64), np.float32), np.zeros((self.count, 3), np.uint8), ones)


@dataclass(frozen=True)
class Every:
    """Every pair of photos that have features."""

    grain: ClassVar[Grain] = Grain.COLLECTION

    def __call__(self, features: PerPhoto[Features]) -> SceneGraph:
        log("graph")
        pairs = [(a, b) for a in features for b in features if a < b]
        return SceneGraph(np.array(pairs, np.int32).reshape(-1, 2), np.ones(len(pairs), np.float32))


@dataclass(frozen=True)
class Lenses:
    """A camera for all photos; its focal length changes with the option, and for photos named in `zoomed`."""

    grain: ClassVar[Grain] = Grain.COLLECTION
    focal_px: float = 100.0
    zoomed: tuple[str, ...] = ()

    def __call__(self, photos: Photos) -> CameraPriors:
        log("cameras")
        focals = [self.focal_px * (2 if photo.name in self.zoomed else 1) for photo in photos.photos]
        cameras = tuple(Camera("SIMPLE_PINHOLE", 40, 30, (focal, 20.0, 15.0)) for focal in focals)
        return CameraPriors(cameras, np.arange(len(cameras)), ("given",) * len(cameras))


@dataclass(frozen=True)
class Scaled:
    """Matches weighed by the focal lengths of their two photos."""

    grain: ClassVar[Grain] = Grain.PAIR

    def __call__(self, features: Sides[Features], cameras: Sides[CameraPrior]) -> PairMatches:
        log("matching")
        focals = [prior.camera.params[0] for prior in cameras]
        weight = np.full(len(features.a.xy), focals[0] * focals[1] / 1e6, np.float32)
        return PairMatches(features.a.xy, features.b.xy, weight)


@dataclass(frozen=True)
class Nearest:
    """Matches row by row, weighed by a product that a threaded BLAS would add up in another order."""

    grain: ClassVar[Grain] = Grain.PAIR
    max_ratio: Annotated[float, Within("(0, 1]")] = 0.8

    def __call__(self, features: Sides[Features]) -> PairMatches:
        log("matching")
        time.sleep(float(os.environ.get("UNPOSED_TOY_SLEEP", "0")))
        a, b = features
        weight = np.matmul(a.descriptors, b.descriptors.T, dtype=np.float32).mean(axis=1)
        return PairMatches(a.xy, b.xy, weight.astype(np.float32) / 64)


@dataclass(frozen=True)
class Pile:
    """A scene whose points are sums over the pairs."""

    grain: ClassVar[Grain] = Grain.COLLECTION
    seed: int = 0

    def __call__(self, matching: PerPair[PairMatches], photos: Photos, resources: Resources) -> SparseModels:
        log("coarse")
        points = np.array([[a, b, float(m.weight.sum())] for (a, b), m in matching.items()]).reshape(-1, 3) + self.seed
        return SparseModels((scene_of(points),), {}, tuple(photo.name for photo in photos.photos))


@dataclass(frozen=True)
class Stars:
    """Per group: how many photos it has, and which comes first."""

    grain: ClassVar[Grain] = Grain.GROUP
    group_size: int = 3

    def __call__(self, features: Members[Features], photos: Members[Photo]) -> TwoViewGeometry:
        log("verification", *(photo.name for photo in photos))
        k = len(features)
        return TwoViewGeometry("none", np.zeros(0, bool), np.zeros((k, 3, 4)), np.ones(k), False, np.eye(3), 0.0)


@dataclass(frozen=True)
class Rows:
    """Groups of three photos that follow each other."""

    grain: ClassVar[Grain] = Grain.COLLECTION

    def __call__(self, photos: Photos) -> PhotoGroups:
        log("groups")
        first = range(0, len(photos) - 2, 2)
        return PhotoGroups(tuple(np.array([i + 1, i, i + 2]) for i in first), ("neighbours",) * len(first))


@dataclass(frozen=True)
class PileGroups:
    """One point per group."""

    grain: ClassVar[Grain] = Grain.COLLECTION

    def __call__(self, verification: PerGroup[TwoViewGeometry]) -> SparseModels:
        log("coarse")
        points = [[members[0], len(members), len(local.focals_px)] for members, local in verification.items()]
        return SparseModels((scene_of(np.array(points, float).reshape(-1, 3)),), {})


@dataclass(frozen=True)
class Polish:
    """Another factor on every point."""

    grain: ClassVar[Grain] = Grain.COLLECTION
    gain: float = 2.0

    def __call__(self, coarse: SparseModels) -> SparseModels:
        log("fine")
        (scene,) = coarse.models
        if not len(scene.points):
            raise StageError("no photo overlaps another")
        return SparseModels((scene_of(scene.points * self.gain),), {}, coarse.warnings)


def registry() -> Registry:
    """The toys as plugins."""
    names = {
        "features.dots": "Dots",
        "graph.every": "Every",
        "matching.nearest": "Nearest",
        "cameras.lenses": "Lenses",
        "matching.scaled": "Scaled",
        "coarse.pile": "Pile",
        "fine.polish": "Polish",
        "verification.stars": "Stars",
        "coarse.pile-groups": "PileGroups",
        "groups.rows": "Rows",
    }
    return Registry(EntryPoint(name, f"{MODULE}:{cls}", GROUP) for name, cls in names.items())


def resources(workers: int = 2) -> Resources:
    """Room for everything."""
    return Resources("cpu", workers, 1 << 30, 0)


def reconstruct(
    cache: Path,
    collection: Photos,
    preset: dict[str, Any] | None = None,
    workers: int = 2,
    seed: int = 0,
    **changes: dict[str, Any],
) -> Run:
    """One run, with options changed per node; the store is closed by then, so what is asked of it is loaded here."""
    preset = dict(PRESET if preset is None else preset)
    for node, options in changes.items():
        preset[node] = {**preset[node], **options}
    with Store(cache) as store:
        done = run(build_graph(preset, registry()), collection, store, Local(), resources(workers), None, seed)
        assert done.sparse is None or done.nodes
        return done


sys.modules.setdefault(MODULE, sys.modules[__name__])

if __name__ == "__main__":
    result = reconstruct(
        Path(sys.argv[1]), photos(*(f"{i:02}.jpg" for i in range(int(sys.argv[2])))), workers=int(sys.argv[3])
    )
    assert result.sparse is not None
    print(hashlib.sha256(result.sparse.models[0].points.tobytes()).hexdigest())
