"""What plugins give is checked where it enters, and a stage that fails for everything is named, not the photos."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from unposed.pipeline.artifact_rules import broken_rules
from unposed.pipeline.artifacts import (
    Camera,
    CameraPriors,
    Doubts,
    Features,
    PairMatches,
    Photo,
    PhotoCalibration,
    PhotoGroups,
    PhotoMask,
    Ranking,
    SceneGraph,
    SparseModel,
    SparseModels,
    Tokens,
    TwoViewGeometry,
)
from unposed.pipeline.engine import Run, run
from unposed.pipeline.errors import NoReconstruction, StageCrashed
from unposed.pipeline.graph import build_graph
from unposed.pipeline.registry import GROUP, Registry
from unposed.pipeline.stage import Grain, InputUnavailable, PerPair, Sides, StageError
from unposed.pipeline.store.store import Store

FOUR = ("a.jpg", "b.jpg", "c.jpg", "d.jpg")
N = 6


def features(**changes: Any) -> Features:
    """Right ones of a photo of 40 x 30 pixels, apart from the changes."""
    score = np.linspace(1.0, 0.5, N, dtype=np.float32)
    xy = np.stack([np.arange(N) * 7.0, np.arange(N) * 5.0], axis=1).astype(np.float32)
    right = Features(xy, score + 1, np.full((N, 8), 0.5, np.float32), np.zeros((N, 3), np.uint8), score)
    return replace(right, **changes)


def matches(**changes: Any) -> PairMatches:
    xy, rows = features().xy, np.arange(N, dtype=np.int32)
    return replace(PairMatches(xy, xy, np.ones(N, np.float32), rows, rows), **changes)


def geometry(**changes: Any) -> TwoViewGeometry:
    right = TwoViewGeometry("general", np.ones(N, bool), np.eye(3, 4), np.ones(2), "guess", np.eye(3), 5.0)
    return replace(right, **changes)


def model(**changes: Any) -> SparseModels:
    poses = np.tile(np.eye(3, 4), (2, 1, 1))
    right = SparseModel(
        cameras=(Camera("SIMPLE_PINHOLE", 40, 30, (50.0, 20.0, 15.0)),),
        photos=np.array([0, 2], np.int32),
        camera_of_photo=np.zeros(2, np.int32),
        cam_from_world=poses,
        xy=np.ones((4, 2)),
        xy_start=np.array([0, 2, 4]),
        points=np.ones((2, 3)),
        rgb=np.zeros((2, 3), np.uint8),
        error_px=np.ones(2),
        obs_xy=np.array([0, 2, 1, 3]),
        obs_point=np.array([0, 0, 1, 1]),
    )
    return SparseModels((replace(right, **changes),), {})


def priors(**changes: Any) -> CameraPriors:
    camera = Camera("SIMPLE_PINHOLE", 40, 30, (50.0, 20.0, 15.0))
    return replace(CameraPriors((camera,), np.zeros(3, np.int32), ("guess",)), **changes)


def changed(array: Any, value: float) -> Any:
    """A copy whose first number is another one."""
    copy = np.array(array)
    copy.reshape(-1)[0] = value
    return copy


NAN, PAIRS = float("nan"), np.array([[0, 1], [0, 2]], np.int32)
WRONG: dict[str, tuple[Any, str]] = {
    "not a number": (features(xy=changed(features().xy, NAN)), "xy is not finite"),
    "infinite": (features(scale=changed(features().scale, np.inf)), "scale is not finite"),
    "turned": (features(xy=features().xy.T), "xy has shape (2, 6), not (2, 2)"),
    "another length": (features(score=features().score[:3]), "score has shape (3,), not (6,)"),
    "no array": (features(scale=[1.0] * N), "scale is a list and no NumPy array"),
    "whole numbers": (features(xy=features().xy.astype(np.int64)), "xy is of int64, not floating point"),
    "reduced": (features(xy=features().xy * 2), "xy lies outside the photo: give pixels of the original size"),
    "unsorted": (features(score=features().score[::-1]), "rows are not sorted by score, best first"),
    "flat": (features(descriptors=np.zeros(N, np.uint8)), "descriptors has shape (6,), not (6, any)"),
    "colours": (features(rgb=np.zeros((N, 3), np.uint16)), "rgb is of uint16, not uint8"),
    "tokens": (Tokens(np.full((2, 2, 4), NAN), 16, (0.0, 0.0), (1.0, 1.0), "x"), "values is not finite"),
    "match": (matches(xy_b=matches().xy_b + 20), "xy_b lies outside the photo: give pixels of the original size"),
    "weight": (matches(weight=np.full(N, 1.5, np.float32)), "weight is outside (0, 1]"),
    "row": (matches(index_a=np.arange(N) - 1), "index_a has negative rows"),
    "float row": (matches(index_b=np.arange(N) * 1.0), "index_b is of float64, not integers"),
    "depth": (matches(depth_a=np.ones(3, np.float32)), "depth_a has shape (3,), not (6,)"),
    "inliers": (geometry(inliers=np.ones(N, np.uint8)), "inliers is of uint8, not bool"),
    "pose": (geometry(b_from_a=np.eye(4)), "b_from_a has shape (4, 4), not (3, 4)"),
    "fundamental": (geometry(fundamental=np.full((3, 3), NAN)), "fundamental is not finite"),
    "ranking": (Ranking(PAIRS[:, ::-1], np.ones(2)), "pairs are not photo indices i < j"),
    "similarity": (Ranking(PAIRS, np.ones(3)), "similarity has shape (3,), not (2,)"),
    "graph": (SceneGraph(PAIRS[::-1], np.ones(2)), "pairs are not sorted"),
    "stranger": (SceneGraph(PAIRS + 1, np.ones(2)), "pairs are not photo indices i < j"),
    "group": (PhotoGroups((np.array([0, 0]),), ("",)), "a group is not of distinct photos below 3: [0 0]"),
    "mask": (PhotoMask(np.ones((4, 6), np.uint8)), "visible is of uint8, not bool"),
    "empty mask": (PhotoMask(np.ones((0, 6), bool)), "visible is empty"),
    "doubts": (Doubts(PAIRS, ("one",)), "there is not one reason for each pair"),
    "camera": (priors(camera_of_photo=np.array([0, 0, 1])), "camera_of_photo is not an index into cameras"),
    "source": (priors(focal_source=()), "focal_source is not per camera"),
    "focal": (
        priors(cameras=(Camera("SIMPLE_PINHOLE", 40, 30, (NAN, 20.0, 15.0)),)),
        "params of a camera are not finite",
    ),
    "calibration": (PhotoCalibration(NAN, 0.1), "log_sigma is finite, but focal_px is not a number"),
    "calibration of nothing": (PhotoCalibration(900.0, np.inf), "log_sigma is infinite, but focal_px is a number"),
    "certain": (priors(guess_log_sigma=np.zeros(1)), "guess_log_sigma is not positive"),
    "told": (priors(guess_log_sigma=np.ones(2)), "guess_log_sigma has shape (2,), not (1,)"),
    "rotation": (
        model(cam_from_world=2 * model().models[0].cam_from_world),
        "model 0: cam_from_world has a matrix that is no rotation",
    ),
    "photos": (model(photos=np.array([2, 0])), "model 0: photos are not ascending indices of the collection"),
    "point": (model(points=np.full((2, 3), NAN)), "model 0: points is not finite"),
    "track": (model(obs_xy=np.array([0, 2, 1, 4])), "model 0: obs_xy is not a row of xy"),
    "start": (model(xy_start=np.array([0, 2, 3])), "model 0: xy_start does not divide xy among the photos"),
}


@pytest.mark.parametrize("name", WRONG)
def test_each_broken_rule_is_one_line(name: str) -> None:
    value, line = WRONG[name]
    sizes = [(40, 30), (40, 30)] if isinstance(value, PairMatches | TwoViewGeometry) else [(40, 30)]
    assert broken_rules(value, sizes, 3)[0] == line


def test_right_values_break_none() -> None:
    assert all(broken_rules(each, [(40, 30)], 3) == [] for each in (features(), model(), priors()))
    told = PhotoCalibration(50.0, 0.1), PhotoCalibration(NAN, np.inf), priors(guess_log_sigma=np.full(1, np.inf))
    assert all(broken_rules(each, [(40, 30)], 3) == [] for each in told)
    assert all(broken_rules(each, [(40, 30)] * 2, 3) == [] for each in (matches(), geometry()))
    nothing = np.zeros((0, 2), np.float32), np.zeros(0, np.float32)
    empty = Features(*nothing, np.zeros((0, 8), np.uint8), np.zeros((0, 3), np.uint8), nothing[1])
    assert broken_rules(empty, [(40, 30)], 3) == []


@dataclass(frozen=True)
class Whatever:
    """Does what a test wants for each photo."""

    grain: ClassVar[Grain] = Grain.PHOTO
    act: ClassVar[Callable[[Photo], Features]]

    def __call__(self, photos: Photo) -> Features:
        return Whatever.act(photos)


@dataclass(frozen=True)
class Again:
    """Matches of a closer look."""

    grain: ClassVar[Grain] = Grain.PAIR

    def __call__(self, closer: Sides[Features]) -> PairMatches:
        return matches()


@dataclass(frozen=True)
class Both:
    """A mapper that can do without the closer look."""

    grain: ClassVar[Grain] = Grain.COLLECTION

    def __call__(
        self, matching: PerPair[PairMatches], closer_matching: PerPair[PairMatches] | None = None
    ) -> SparseModels:
        return SparseModels((), {}, (f"{len(matching)} and {len(closer_matching or {})} pairs",))


@pytest.fixture
def try_it(toys: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Run]:
    """Runs a graph in which the plugin `features.whatever` does what it is told."""
    classes = {"features.whatever": Whatever, "matching.again": Again, "coarse.both": Both}
    for cls in classes.values():
        monkeypatch.setattr(toys, cls.__name__, cls, raising=False)
    entries = [EntryPoint(name, f"{toys.MODULE}:{cls.__name__}", GROUP) for name, cls in classes.items()]

    def go(act: Callable[[Photo], Features], **changes: Any) -> Run:
        monkeypatch.setattr(Whatever, "act", staticmethod(act), raising=False)
        own = Registry([*entries, *(EntryPoint(*each[:2], GROUP) for each in toys.registry()._entries)])
        nodes = {**toys.PRESET, "features": {"use": "whatever"}, **changes}
        graph = build_graph({name: node for name, node in nodes.items() if node}, own)
        with Store(tmp_path / "cache") as store:
            return run(graph, toys.photos(*FOUR), store, resources=toys.resources())

    return go


def test_a_stage_that_fails_for_every_photo_is_the_message(try_it: Callable[..., Run]) -> None:
    def fail(photo: Photo) -> Features:
        raise RuntimeError("no kernel\nimage")

    line = r"^features \(features.whatever\) failed for all 4 photos: RuntimeError: no kernel image$"
    with pytest.raises(StageCrashed, match=line) as error:
        try_it(fail)
    assert isinstance(error.value.__cause__, RuntimeError)
    assert len(error.value.run.failures) == 4 and error.value.run.nodes["matching"].computed == 0


def test_what_follows_from_the_photos_is_remembered_and_said_again(try_it: Callable[..., Run]) -> None:
    called = []

    def refuse(photo: Photo) -> Features:
        called.append(photo.name)
        raise StageError("too dark" if photo.name == "a.jpg" else "all black")

    for _ in range(2):
        line = r"failed for all 4 photos: all black \(3 of them; summary.json has 1 more reason\)$"
        with pytest.raises(NoReconstruction, match=line):
            try_it(refuse)
    assert len(called) == 4


def test_a_disk_that_is_away_is_no_bug(try_it: Callable[..., Run]) -> None:
    def away(photo: Photo) -> Features:
        raise InputUnavailable("photo: No such file or directory")

    with pytest.raises(NoReconstruction, match="all 4 photos: photo: No such file or directory; the next run tries"):
        try_it(away)


def test_wrong_arrays_are_blamed_on_the_plugin(try_it: Callable[..., Run], tmp_path: Path) -> None:
    wrong = features(xy=features().xy + np.float32(20), score=changed(features().score, NAN))
    reason = "features.whatever gives what it must not: score is not finite"
    done = try_it(lambda photo: wrong if photo.name == "b.jpg" else features())
    assert [(each.node, each.photos, each.reason) for each in done.failures] == [("features", ("b.jpg",), reason)]
    with Store(tmp_path / "cache") as store:
        store.prune(stage="features.whatever")
    with pytest.raises(StageCrashed, match=f"^features .features.whatever. failed for all 4 photos: {reason}$"):
        try_it(lambda photo: wrong)


def test_a_run_goes_on_without_a_closer_look_that_fails(try_it: Callable[..., Run]) -> None:
    def fail(photo: Photo) -> Features:
        raise RuntimeError("no weights")

    nodes = {"features": {"use": "dots"}, "closer": {"use": "features.whatever"}, "fine": None}
    nodes |= {"closer_matching": {"use": "matching.again"}, "coarse": {"use": "both"}}
    done = try_it(fail, **nodes)
    assert done.sparse is not None and done.sparse.warnings == ("6 and 0 pairs",)
    line = "closer (features.whatever) failed for all 4 photos: RuntimeError: no weights; the run goes on without it"
    assert done.warnings == (line,)
