"""The engine on toy stages: what is computed, what is reused, what is read, and what a failure costs."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import wraps
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from unposed.pipeline.artifacts import Doubts, PairMatches, PhotoGroups, SceneGraph, SparseModels
from unposed.pipeline.cancel import Cancellation
from unposed.pipeline.engine import run
from unposed.pipeline.errors import Interrupted, NoReconstruction, StageCrashed
from unposed.pipeline.graph import build_graph
from unposed.pipeline.progress import Quiet
from unposed.pipeline.registry import GROUP, Registry
from unposed.pipeline.stage import Grain, InputUnavailable, PerPair, Resources, StageError
from unposed.pipeline.store.store import Store

FOUR = ("a.jpg", "b.jpg", "c.jpg", "d.jpg")
ALL_OF_FOUR = {"features": 4, "graph": 1, "matching": 6, "coarse": 1, "fine": 1}


@pytest.fixture
def points(toys: Any, tmp_path: Path) -> Any:
    """Runs the toys and gives the points of the result."""

    def reconstruct(*names: str, **options: Any) -> Any:
        with Store(tmp_path / "cache") as store:
            preset = {node: {**value, **options.get(node, {})} for node, value in toys.PRESET.items()}
            graph = build_graph(preset, toys.registry())
            done = run(graph, toys.photos(*names), store, resources=toys.resources(), seed=options.get("seed", 0))
            assert done.sparse is not None
            return done.sparse.models[0].points

    return reconstruct


def test_a_second_run_computes_nothing(points: Any, calls: Any) -> None:
    first = points(*FOUR)
    assert calls.take() == ALL_OF_FOUR
    np.testing.assert_array_equal(points(*FOUR), first)
    assert calls.take() == {}


def test_a_second_run_reads_only_the_pairs_and_the_result(points: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    points(*FOUR)
    read: list[str] = []
    original = Store.get

    def get(self: Store, key: str, kind: Any) -> Any:
        read.append(kind.__name__)
        return original(self, key, kind)

    monkeypatch.setattr(Store, "get", get)
    points(*FOUR)
    assert set(read) == {"SceneGraph", "SparseModels"}


def test_a_new_photo_costs_itself_and_its_pairs(points: Any, calls: Any) -> None:
    points(*FOUR)
    calls.take()
    # Its name sorts first, so that the indices of all others move.
    points("0.jpg", *FOUR)
    assert calls.take() == {"features": 1, "graph": 1, "matching": 4, "coarse": 1, "fine": 1}


def test_an_option_of_a_late_node_costs_only_that(points: Any, calls: Any) -> None:
    first = points(*FOUR)
    calls.take()
    np.testing.assert_array_equal(points(*FOUR, fine={"gain": 4.0}), 2 * first)
    assert calls.take() == {"fine": 1}
    points(*FOUR, matching={"max_ratio": 0.5})
    assert calls.take() == {"matching": 6, "coarse": 1, "fine": 1}


def test_the_seed_is_config_where_it_is_not_set(points: Any, calls: Any) -> None:
    first = points(*FOUR)
    calls.take()
    assert not np.array_equal(points(*FOUR, seed=1), first)
    assert calls.take() == {"coarse": 1, "fine": 1}
    np.testing.assert_array_equal(points(*FOUR, seed=1, coarse={"seed": 0}), first)
    assert calls.take() == {}


def test_a_renamed_photo_keeps_its_features_and_pairs(points: Any, calls: Any) -> None:
    points(*FOUR)
    calls.take()
    points(*FOUR[:3], "d.jpg+renamed")
    # The toy `coarse` asks for Photos, which have names; what follows from it is new as well.
    assert calls.take() == {"coarse": 1, "fine": 1}


def test_the_same_photo_twice_is_computed_once(points: Any, calls: Any) -> None:
    points(*FOUR, "d.jpg+copy")
    assert calls.take() == {"features": 4, "graph": 1, "matching": 7, "coarse": 1, "fine": 1}


def test_what_lies_beside_the_photos_changes_nothing(toys: Any, tmp_path: Path, calls: Any) -> None:
    toys.reconstruct(tmp_path / "cache", toys.photos(*FOUR))
    calls.take()
    toys.reconstruct(tmp_path / "cache", toys.photos(*FOUR, rejected={"notes.txt": "no image"}))
    assert calls.take() == {}


def test_a_failed_photo_is_named_left_out_and_not_tried_again(toys: Any, tmp_path: Path, calls: Any) -> None:
    for expected in ({"features": 4, "graph": 1, "matching": 3, "coarse": 1, "fine": 1}, {}):
        with Store(tmp_path / "cache") as store:
            preset = {**toys.PRESET, "features": {"use": "dots", "unreadable": ["b.jpg"]}}
            done = run(build_graph(preset, toys.registry()), toys.photos(*FOUR), store, resources=toys.resources())
            assert [(f.node, f.photos, f.reason) for f in done.failures] == [("features", ("b.jpg",), "all black")]
            assert done.nodes["features"].failed == 1
            assert 1 not in done.value("features")
            assert done.sparse is not None and len(done.sparse.models[0].points) == 3
        assert calls.take() == expected


def test_a_crashed_photo_is_tried_again_and_never_mistaken(
    toys: Any, points: Any, calls: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(toys.Dots, "crash", "b.jpg")
    assert len(points(*FOUR)) == 3
    calls.take()
    assert len(points(*FOUR)) == 3
    assert calls.take() == {"features": 1}  # what was made without it is reused
    monkeypatch.setattr(toys.Dots, "crash", "")
    assert len(points(*FOUR)) == 6
    assert calls.take() == {"features": 1, "graph": 1, "matching": 3, "coarse": 1, "fine": 1}


def test_a_crash_does_not_spoil_what_is_stored(
    toys: Any, points: Any, calls: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = points(*FOUR)
    with Store(tmp_path / "cache") as store:
        store.prune(stage="features.dots")
        store.prune(stage="fine.polish")
    calls.take()
    monkeypatch.setattr(toys.Dots, "crash", "b.jpg")
    np.testing.assert_array_equal(points(*FOUR), first)
    assert calls.take() == {"fine": 1}  # nobody needs the features


def test_a_photo_that_cannot_be_read_now_is_not_remembered_as_bad(
    toys: Any, tmp_path: Path, calls: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that was away for a moment costs this run a photo, and no other run anything."""
    call, away = toys.Dots.__call__, {"b.jpg"}

    @wraps(call)
    def from_a_disk(self: Any, photos: Any) -> Any:
        if photos.name in away:
            raise InputUnavailable("photo: No such file or directory")
        return call(self, photos)

    monkeypatch.setattr(toys.Dots, "__call__", from_a_disk)
    with Store(tmp_path / "cache") as store:
        done = run(build_graph(toys.PRESET, toys.registry()), toys.photos(*FOUR), store, resources=toys.resources())
    reason = "photo: No such file or directory; the next run tries it again"
    assert [(f.photos, f.reason) for f in done.failures] == [(("b.jpg",), reason)]
    away.clear()
    calls.take()
    with Store(tmp_path / "cache") as store:
        done = run(build_graph(toys.PRESET, toys.registry()), toys.photos(*FOUR), store, resources=toys.resources())
        assert done.failures == ()
        assert done.sparse is not None and len(done.sparse.models[0].points) == 6
    assert calls.take() == {"features": 1, "graph": 1, "matching": 3, "coarse": 1, "fine": 1}


def test_a_stage_over_the_collection_that_cannot_read_now_says_so(
    toys: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @wraps(toys.Pile.__call__)
    def away(self: Any, matching: Any, photos: Any, resources: Any) -> Any:
        raise InputUnavailable("photo: Input/output error")

    monkeypatch.setattr(toys.Pile, "__call__", away)
    with Store(tmp_path / "cache") as store, pytest.raises(NoReconstruction, match="coarse: photo: Input/output error"):
        run(build_graph(toys.PRESET, toys.registry()), toys.photos(*FOUR), store, resources=toys.resources())


def test_damage_is_reported_and_repaired(toys: Any, points: Any, calls: Any, tmp_path: Path) -> None:
    first = points(*FOUR)
    calls.take()
    reports: list[str] = []
    with Store(tmp_path / "cache", reports.append) as store:
        with store._connection() as db:
            db.execute(
                "UPDATE payload SET data = zeroblob(length(data)) WHERE id IN (SELECT payload FROM entry "
                "WHERE stage IN ('features.dots', 'graph.every', 'coarse.pile'))"
            )
        store.prune(stage="matching.nearest")
        store.prune(stage="fine.polish")
        # One worker, since two that find the same damage at the same time both repair it.
        done = run(build_graph(toys.PRESET, toys.registry()), toys.photos(*FOUR), store, resources=toys.resources(1))
        assert done.sparse is not None
        np.testing.assert_array_equal(done.sparse.models[0].points, first)
    assert calls.take() == ALL_OF_FOUR
    assert len(reports) == 4 and "in all, 4 stored results of features.dots were damaged" in reports[-1]


def test_no_overlap_is_no_reconstruction(points: Any) -> None:
    with pytest.raises(NoReconstruction, match=r"^fine: no photo overlaps another$"):
        points("a.jpg")


def test_workers_do_not_change_a_bit(toys: Any, tmp_path: Path) -> None:
    names = [f"{i}.jpg" for i in range(6)]
    results = [
        toys.reconstruct(tmp_path / str(workers), toys.photos(*names), workers=workers, features={"count": 300})
        for workers in (1, 2, 5)
    ]
    payloads = []
    for workers, _ in zip((1, 2, 5), results, strict=True):
        with Store(tmp_path / str(workers)) as store, store._connection() as db:
            payloads.append(
                db.execute("SELECT key, data FROM entry JOIN payload ON id = payload ORDER BY 1").fetchall()
            )
    assert payloads[0] == payloads[1] == payloads[2]
    assert len(payloads[0]) == 6 + 1 + 15 + 1 + 1


def test_interrupted_keeps_what_is_finished(
    toys: Any, tmp_path: Path, calls: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class CtrlC:
        """Presses it after the third item."""

        def __init__(self) -> None:
            self.left = 3

        def advance(self, node: str, failed: bool) -> None:
            self.left -= 1
            if not self.left:
                raise KeyboardInterrupt

        def begin(self, node: str, total: int, reused: int) -> None: ...
        def end(self, node: str, seconds: float) -> None: ...
        def note(self, message: str) -> None: ...
        def close(self) -> None: ...

    collection = toys.photos(*(f"{i}.jpg" for i in range(8)))
    graph = build_graph(toys.PRESET, toys.registry())
    with Store(tmp_path / "cache") as store, pytest.raises(Interrupted):
        run(graph, collection, store, resources=toys.resources(), progress=CtrlC())
    begun = calls.take()["features"]
    assert begun < 8
    toys.reconstruct(tmp_path / "cache", collection)
    assert calls.take()["features"] == 8 - begun


def test_costs_and_counts_are_reported_per_node(toys: Any, tmp_path: Path) -> None:
    with Store(tmp_path / "cache") as store:
        done = run(build_graph(toys.PRESET, toys.registry()), toys.photos(*FOUR), store, resources=toys.resources())
        assert {name: (n.computed, n.reused) for name, n in done.nodes.items()} == {
            "features": (4, 0),
            "graph": (1, 0),
            "matching": (6, 0),
            "coarse": (1, 0),
            "fine": (1, 0),
        }
        assert all(n.wall_s > 0 and n.peak_mb > 1 for n in done.nodes.values())
        again = run(build_graph(toys.PRESET, toys.registry()), toys.photos(*FOUR), store, resources=toys.resources())
        assert {name: (n.computed, n.reused) for name, n in again.nodes.items()} == {
            "features": (0, 4),
            "graph": (0, 1),
            "matching": (0, 6),
            "coarse": (0, 1),
            "fine": (0, 1),
        }


def test_whoever_watches_hears_how_long_each_node_took(toys: Any, tmp_path: Path) -> None:
    class Listener(Quiet):
        heard: ClassVar[dict[str, float]] = {}

        def end(self, node: str, seconds: float) -> None:
            self.heard[node] = seconds

    with Store(tmp_path / "cache") as store:
        graph = build_graph(toys.PRESET, toys.registry())
        done = run(graph, toys.photos(*FOUR), store, resources=toys.resources(), progress=Listener())
    assert Listener.heard.keys() == done.nodes.keys()
    for name, seconds in Listener.heard.items():
        assert 0.0 < seconds <= done.nodes[name].wall_s + 1e-4  # which is rounded


def test_what_a_collection_knows_of_each_photo_is_read_photo_by_photo(toys: Any, tmp_path: Path, calls: Any) -> None:
    """Cameras of other photos are no input of a pair: it is computed anew only if those of its own change."""

    def counted(*names: str, **cameras: Any) -> dict[str, int]:
        preset = toys.PRESET | {"matching": {"use": "scaled"}, "cameras": {"use": "lenses", **cameras}}
        with Store(tmp_path / "cache") as store:
            done = run(build_graph(preset, toys.registry()), toys.photos(*names), store, resources=toys.resources())
        assert done.sparse is not None
        zoomed = [name in cameras.get("zoomed", ()) for name in names]
        weights = {(a, b): 50 * 0.01 * 2 ** (zoomed[a] + zoomed[b]) for a in range(len(names)) for b in range(a)}
        expected = sorted(2.0 * weight for weight in weights.values())
        assert sorted(done.sparse.models[0].points[:, 2]) == pytest.approx(expected, rel=1e-5)
        taken: dict[str, int] = calls.take()
        return taken

    assert counted(*FOUR) == {"cameras": 1, **ALL_OF_FOUR}
    assert counted(*FOUR) == {}
    again = {"cameras": 1, "coarse": 1, "fine": 1}
    assert counted(*FOUR, "e.jpg") == {**again, "features": 1, "graph": 1, "matching": 4}
    assert counted(*FOUR, zoomed=["b.jpg"]) == {**again, "matching": 3}
    assert counted(*FOUR, zoomed=["b.jpg"]) == {}


def test_groups_are_a_photo_with_its_best_neighbours(toys: Any, tmp_path: Path, calls: Any) -> None:
    preset = {
        "features": {"use": "dots"},
        "graph": {"use": "every"},
        "verification": {"use": "stars"},
        "coarse": {"use": "pile-groups"},
    }
    with Store(tmp_path / "cache") as store:
        graph = build_graph(preset, toys.registry())
        done = run(graph, toys.photos(*FOUR), store, resources=toys.resources())
        assert done.sparse is not None
        np.testing.assert_array_equal(done.sparse.models[0].points, [[i, 3, 3] for i in range(4)])
        assert list(done.value("verification")) == [(0, 1, 2), (1, 0, 2), (2, 0, 1), (3, 0, 1)]
        assert calls.take() == {"features": 4, "graph": 1, "verification": 4, "coarse": 1}
        run(graph, toys.photos(*FOUR, "e.jpg"), store, resources=toys.resources())
        assert calls.take() == {"features": 1, "graph": 1, "verification": 1, "coarse": 1}


def test_chosen_groups_take_the_place_of_stars(toys: Any, tmp_path: Path, calls: Any) -> None:
    preset = {
        "features": {"use": "dots"},
        "groups": {"use": "rows"},
        "verification": {"use": "stars"},
        "coarse": {"use": "pile-groups"},
    }
    with Store(tmp_path / "cache") as store:
        done = run(build_graph(preset, toys.registry()), toys.photos(*FOUR, "e.jpg"), store, resources=toys.resources())
        assert list(done.value("verification")) == [(1, 0, 2), (3, 2, 4)]
        assert calls.take() == {"features": 5, "groups": 1, "verification": 2, "coarse": 1}


@pytest.mark.parametrize("group", [[0, 0], [0, 9], [-1, 1], []])
def test_impossible_groups_are_the_plugins_fault(
    toys: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group: list[int]
) -> None:
    preset = {
        "features": {"use": "dots"},
        "groups": {"use": "rows"},
        "verification": {"use": "stars"},
        "coarse": {"use": "pile-groups"},
    }
    wrong = PhotoGroups((np.array(group, np.int32),), ("wrong",))
    graph = build_graph(preset, toys.registry())
    monkeypatch.setattr(toys.Rows, "__call__", lambda self, photos: wrong)
    with Store(tmp_path / "cache") as store, pytest.raises(StageCrashed, match="gives what it must not: a group"):
        run(graph, toys.photos(*FOUR), store, resources=toys.resources())


@pytest.mark.parametrize("pairs", [[[1, 0]], [[0, 2]], [[0, 0]], [[-1, 1]], [[0, 1], [0, 1]]])
def test_a_graph_with_impossible_pairs_is_the_plugins_fault(
    toys: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pairs: list[list[int]]
) -> None:
    graph = build_graph(toys.PRESET, toys.registry())
    wrong = SceneGraph(np.array(pairs, np.int32), np.ones(len(pairs), np.float32))
    monkeypatch.setattr(toys.Every, "__call__", lambda self, features: wrong)
    with Store(tmp_path / "cache") as store, pytest.raises(StageCrashed, match="gives what it must not: pairs"):
        run(graph, toys.photos("a.jpg", "b.jpg"), store, resources=toys.resources())


def test_giving_up_tells_how_far_it_came(toys: Any, tmp_path: Path) -> None:
    preset = {**toys.PRESET, "features": {"use": "dots", "unreadable": ["a.jpg"]}}
    graph = build_graph(preset, toys.registry())
    with Store(tmp_path / "cache") as store:
        with pytest.raises(NoReconstruction) as error:
            run(graph, toys.photos("a.jpg", "b.jpg"), store, resources=toys.resources())
        assert [failure.photos for failure in error.value.run.failures] == [("a.jpg",)]
        assert error.value.run.nodes["coarse"].computed == 1


def test_what_never_fits_into_memory_is_told_with_a_remedy(
    toys: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = toys.log

    def huge(node: str, name: str = "") -> None:
        if name == "b.jpg":
            raise MemoryError("no 2 GiB")
        log(node, name)

    monkeypatch.setattr(toys, "log", huge)
    with Store(tmp_path / "cache") as store:
        done = run(build_graph(toys.PRESET, toys.registry()), toys.photos(*FOUR), store, resources=toys.resources())
    assert [(failure.node, failure.photos) for failure in done.failures] == [("features", ("b.jpg",))]
    assert "not even one fits into memory: lower the sizes among the options of features" in done.failures[0].reason


def test_cancelled_from_another_thread_keeps_what_is_finished(
    toys: Any, tmp_path: Path, calls: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cancellation, third = Cancellation(), threading.Event()

    class Watcher(Quiet):
        left = 3

        def advance(self, node: str, failed: bool) -> None:
            self.left -= 1
            if not self.left:
                third.set()
                canceller.join()  # so that the request is there when the run looks at it next

    canceller = threading.Thread(target=lambda: third.wait(60) and cancellation.cancel())
    canceller.start()
    collection = toys.photos(*(f"{i}.jpg" for i in range(8)))
    graph = build_graph(toys.PRESET, toys.registry())
    with Store(tmp_path / "cache") as store, pytest.raises(Interrupted, match="run the same command again"):
        run(graph, collection, store, resources=toys.resources(), progress=Watcher(), cancellation=cancellation)
    assert cancellation.cancelled
    begun = calls.take()
    assert set(begun) == {"features"} and 3 <= begun["features"] < 8
    toys.reconstruct(tmp_path / "cache", collection)
    assert calls.take()["features"] == 8 - begun["features"]


def test_a_run_cancelled_beforehand_computes_nothing(toys: Any, tmp_path: Path, calls: Any) -> None:
    cancellation = Cancellation()
    cancellation.cancel()
    graph = build_graph(toys.PRESET, toys.registry())
    with Store(tmp_path / "cache") as store, pytest.raises(Interrupted):
        run(graph, toys.photos(*FOUR), store, resources=toys.resources(), cancellation=cancellation)
    assert calls.take() == {}


@dataclass(frozen=True)
class Suspicious:
    """A stage over the collection that reports its steps and may have a bug."""

    grain: ClassVar[Grain] = Grain.COLLECTION
    crash: ClassVar[bool] = False

    def __call__(self, matching: PerPair[PairMatches], resources: Resources) -> Doubts:
        for done in range(3):
            resources.report(done, 3, "looking")
        if self.crash:
            raise np.linalg.LinAlgError("SVD did not converge")
        return Doubts(np.array([[0, 1]], np.int32), ("odd",))


@dataclass(frozen=True)
class Trusting:
    """A mapper that leaves out doubted pairs, if there are any."""

    grain: ClassVar[Grain] = Grain.COLLECTION

    def __call__(self, matching: PerPair[PairMatches], doubts: Doubts | None = None) -> SparseModels:
        return SparseModels((), {}, (f"{len(matching) - (len(doubts.pairs) if doubts else 0)} pairs",))


@dataclass(frozen=True)
class Needing(Trusting):
    """A mapper that cannot do without the doubts."""

    def __call__(self, matching: PerPair[PairMatches], doubts: Doubts) -> SparseModels:
        return Trusting.__call__(self, matching, doubts)


@pytest.fixture
def doubting(toys: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a graph with the stage above; `mapper` reads it."""
    for cls in (Suspicious, Trusting, Needing):
        monkeypatch.setattr(toys, cls.__name__, cls, raising=False)
    names = {"doubts.odd": "Suspicious", "coarse.trusting": "Trusting", "coarse.needing": "Needing"}
    entries = [EntryPoint(name, f"{toys.MODULE}:{cls}", GROUP) for name, cls in names.items()]
    nodes = {name: toys.PRESET[name] for name in ("features", "graph", "matching")}

    def reconstruct(mapper: str, **options: Any) -> Any:
        own = Registry([*entries, *(EntryPoint(*each[:2], GROUP) for each in toys.registry()._entries)])
        graph = build_graph({**nodes, "doubts": {"use": "odd"}, "coarse": {"use": mapper}}, own)
        with Store(tmp_path / "cache") as store:
            done = run(graph, toys.photos(*FOUR), store, resources=toys.resources(), **options)
            assert done.sparse is not None
            return done.sparse.warnings, done.warnings, [(f.node, f.photos, f.reason) for f in done.failures]

    return reconstruct


def test_a_bug_in_an_optional_stage_costs_only_that_stage(
    doubting: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reason = "LinAlgError: SVD did not converge"
    monkeypatch.setattr(Suspicious, "crash", True)
    for _ in range(2):  # the second run finds what was made without, under a key of its own, and tries again
        pairs, warnings, failures = doubting("trusting")
        assert pairs == ("6 pairs",)
        assert warnings == (f"doubts failed and was left out: {reason}; the next run tries it again",)
        assert failures == [("doubts", (), reason)]
        assert warnings[0] in capsys.readouterr().err
    monkeypatch.setattr(Suspicious, "crash", False)
    assert doubting("trusting") == (("5 pairs",), (), [])


def test_a_bug_in_a_stage_that_is_needed_ends_the_run(doubting: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Suspicious, "crash", True)
    with pytest.raises(
        StageCrashed, match=r"^doubts \(doubts.odd\) failed with an unexpected LinAlgError: SVD"
    ) as error:
        doubting("needing")
    assert isinstance(error.value.__cause__, np.linalg.LinAlgError)
    done = error.value.run
    assert [(f.node, f.photos) for f in done.failures] == [("doubts", ())]
    assert {name: report.computed for name, report in done.nodes.items()}["matching"] == 6


def test_no_scene_graph_still_reports_how_far_the_run_came(
    toys: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Any, features: Any) -> Any:
        raise StageError("no pairs")

    graph = build_graph(toys.PRESET, toys.registry())
    monkeypatch.setattr(toys.Every, "__call__", refuse)
    with Store(tmp_path / "cache") as store, pytest.raises(NoReconstruction, match=r"^graph: no pairs$") as error:
        run(graph, toys.photos(*FOUR), store, resources=toys.resources())
    with Store(tmp_path / "cache"):
        counts = {name: report.computed for name, report in error.value.run.nodes.items()}
    assert counts == {"features": 4, "graph": 0, "matching": 0, "coarse": 0, "fine": 0}


def test_a_stage_over_the_collection_reports_its_steps(doubting: Any) -> None:
    class Watcher(Quiet):
        steps: ClassVar[list[tuple[Any, ...]]] = []

        def step(self, *step: Any) -> None:
            self.steps.append(step)

    assert doubting("trusting", progress=Watcher())[0] == ("5 pairs",)
    assert Watcher.steps == [("doubts", done, 3, "looking") for done in range(3)]


def test_a_stage_that_reports_can_be_cancelled(doubting: Any) -> None:
    cancellation = Cancellation()

    class Watcher(Quiet):
        def step(self, node: str, done: int, total: int, message: str) -> None:
            assert done == 0  # the next report ends the stage
            cancellation.cancel()

    with pytest.raises(Interrupted):
        doubting("trusting", progress=Watcher(), cancellation=cancellation)
