"""The whole graph is checked before anything runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import pytest

from unposed.pipeline.artifacts import Features, PairMatches, Photo, Ranking, SceneGraph, SparseModels, TwoViewGeometry
from unposed.pipeline.errors import ConfigError
from unposed.pipeline.graph import Graph, build_graph
from unposed.pipeline.registry import Registry
from unposed.pipeline.stage import Grain, Members, PerGroup, PerPair, PerPhoto, Resources, Sides


@dataclass(frozen=True)
class MoreFeatures(Features):
    """A subclass fits where its base is wanted."""


@dataclass(frozen=True)
class Dots:
    """Per photo."""

    grain: ClassVar[Grain] = Grain.PHOTO
    count: int = 1

    def __call__(self, photos: Photo, resources: Resources) -> MoreFeatures:
        raise NotImplementedError


@dataclass(frozen=True)
class Rank:
    """Collection from photos."""

    grain: ClassVar[Grain] = Grain.COLLECTION

    def __call__(self, features: PerPhoto[Features]) -> Ranking:
        raise NotImplementedError


@dataclass(frozen=True)
class Chosen:
    """Edges."""

    grain: ClassVar[Grain] = Grain.COLLECTION

    def __call__(self, retrieval: Ranking) -> SceneGraph:
        raise NotImplementedError


@dataclass(frozen=True)
class Nearest:
    """Per pair from photos."""

    grain: ClassVar[Grain] = Grain.PAIR

    def __call__(self, features: Sides[Features]) -> PairMatches:
        raise NotImplementedError


@dataclass(frozen=True)
class Verify:
    """Per pair from pairs, and a parameter that may be left without a node."""

    grain: ClassVar[Grain] = Grain.PAIR

    def __call__(self, matching: PairMatches, cameras: Any = None) -> TwoViewGeometry:
        raise NotImplementedError


@dataclass(frozen=True)
class Many:
    """Per group."""

    grain: ClassVar[Grain] = Grain.GROUP
    group_size: int = 3

    def __call__(self, features: Members[Features]) -> TwoViewGeometry:
        raise NotImplementedError


@dataclass(frozen=True)
class Map:
    """Collection from pairs."""

    grain: ClassVar[Grain] = Grain.COLLECTION

    def __call__(self, verification: PerPair[TwoViewGeometry]) -> SparseModels:
        raise NotImplementedError


@dataclass(frozen=True)
class MapGroups:
    """Collection from groups."""

    grain: ClassVar[Grain] = Grain.COLLECTION

    def __call__(self, verification: PerGroup[TwoViewGeometry]) -> SparseModels:
        raise NotImplementedError


@dataclass(frozen=True)
class Polish:
    """Collection from a collection."""

    grain: ClassVar[Grain] = Grain.COLLECTION

    def __call__(self, coarse: SparseModels) -> SparseModels:
        raise NotImplementedError


ENTRIES = {
    "features.dots": Dots,
    "retrieval.rank": Rank,
    "graph.chosen": Chosen,
    "matching.nearest": Nearest,
    "verification.verify": Verify,
    "verification.many": Many,
    "coarse.map": Map,
    "coarse.map-groups": MapGroups,
    "fine.polish": Polish,
}
GOOD: dict[str, Any] = {
    "fine": {"use": "polish"},
    "coarse": {"use": "map"},
    "verification": {"use": "verify"},
    "matching": {"use": "nearest"},
    "graph": {"use": "chosen"},
    "retrieval": {"use": "rank"},
    "features": {"use": "dots", "count": 3},
}


class FakeEntry:
    """As much of an entry point as the registry uses."""

    dist = None

    def __init__(self, name: str, cls: type) -> None:
        self.name, self.value, self.cls = name, f"here:{cls.__name__}", cls

    def load(self) -> type:
        return self.cls


def check(**changes: Any) -> Graph:
    """The good graph with nodes changed; None drops one."""
    preset = {key: value for key, value in {**GOOD, **changes}.items() if value is not None}
    entries: Any = [FakeEntry(name, cls) for name, cls in ENTRIES.items()]
    return build_graph(preset, Registry(entries))


def test_a_good_graph_in_an_order_that_can_run() -> None:
    graph = check()
    assert list(graph.nodes) == ["features", "retrieval", "graph", "matching", "verification", "coarse", "fine"]
    assert graph.outputs == ("fine",) and graph.result == "fine"
    assert graph.nodes["features"].stage == Dots(3)
    assert graph.nodes["features"].given == {"count"}
    assert graph.nodes["matching"].reads == ("features", "graph")
    assert graph.nodes["verification"].sources == {"matching": "matching"}


def test_without_fine_the_last_node_that_gives_scenes_is_the_result() -> None:
    assert check(fine=None).result == "coarse"


def test_two_nodes_of_one_slot_wired_by_from() -> None:
    graph = check(tokens={"use": "features.dots"}, retrieval={"use": "rank", "from": {"features": "tokens"}})
    assert graph.nodes["retrieval"].sources == {"features": "tokens"}
    assert graph.nodes["matching"].sources == {"features": "features"}


SEEDED: dict[str, Any] = {
    "features": {"use": "features.dots", "count": 3},
    "seed": {"use": "graph.chosen"},
    "early": {"like": "matching", "from": {"graph": "seed"}},
    "outputs": ["early"],
}


def test_a_node_like_another_over_other_pairs() -> None:
    graph = check(**SEEDED)
    assert graph.nodes["early"].plugin == graph.nodes["matching"].plugin == "matching.nearest"
    assert (graph.nodes["early"].edges, graph.nodes["matching"].edges) == ("seed", "graph")
    assert graph.nodes["early"].sources == graph.nodes["matching"].sources


def test_a_node_like_another_keeps_its_options_and_wiring_but_for_its_own() -> None:
    tokens = {"like": "features", "count": 7}
    ranked = {"use": "rank", "from": {"features": "tokens"}}
    graph = check(tokens=tokens, retrieval=ranked, again={"like": "retrieval"}, outputs=["again"])
    assert (graph.nodes["tokens"].stage, graph.nodes["features"].stage) == (Dots(7), Dots(3))
    assert graph.nodes["again"].sources == {"features": "tokens"}


@pytest.mark.parametrize(
    ("early", "complaint"),
    [
        ({"like": "matchin"}, "early.like: no such node 'matchin'; did you mean matching?"),
        ({"like": 3}, "early.like: no such node 3"),
        ({"like": "matching", "use": "matching.nearest"}, "early: has both `use` and `like`"),
        ({"like": "later"}, "early.like: later is itself like 'matching': name that one"),
        ({"like": "matching", "from": {"graph": "sed"}}, "needs a node 'sed' to list them"),
        ({"like": "matching", "from": ["seed"]}, "early.from: expected a mapping"),
    ],
)
def test_what_is_wrong_with_being_like_another(early: object, complaint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check(**{**SEEDED, "early": early, "later": {"like": "matching"}})
    assert complaint in str(caught.value)


def test_what_is_read_over_other_pairs_is_copied_over_the_own() -> None:
    seed, late = {"use": "graph.chosen"}, {"like": "verification", "from": {"graph": "seed"}}
    nodes = check(seed=seed, late=late, outputs=["late"]).nodes
    assert nodes["late"].sources["matching"] == "matching over seed"
    copy, original = nodes["matching over seed"], nodes["matching"]
    assert (copy.edges, copy.stage, copy.sources) == ("seed", original.stage, original.sources)
    assert nodes["verification"].sources["matching"] == "matching"


def test_a_node_like_what_is_read_over_other_pairs_is_that_copy() -> None:
    late = {"like": "verification", "from": {"graph": "seed"}}
    nodes = check(**{**SEEDED, "late": late, "outputs": ["late"]}).nodes
    assert nodes["late"].sources["matching"] == "early"
    assert "matching over seed" not in nodes


def test_pairs_of_another_graph() -> None:
    graph = check(
        edges={"use": "graph.chosen"},
        graph=None,
        matching={"use": "nearest", "from": {"graph": "edges"}},
        verification={"use": "verify", "from": {"graph": "edges"}},
    )
    assert graph.nodes["matching"].edges == "edges"


def test_groups() -> None:
    graph = check(verification={"use": "many"}, matching=None, coarse={"use": "map-groups"})
    assert graph.nodes["verification"].group_size == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"fine": {"use": "polish", "from": {"coarse": "retrieval"}}},
            "fine: wants SparseModels, node 'retrieval' gives Ranking",
        ),
        (
            {"fine": {"use": "polish", "from": {"coarse": "photos"}}},
            "fine: wants SparseModels, node 'photos' gives Photos",
        ),
        (
            {"coarse": {"use": "map", "from": {"verification": "matching"}}},
            "coarse: wants PerPair[TwoViewGeometry], node 'matching' gives PerPair[PairMatches]",
        ),
        (
            {"coarse": {"use": "map", "from": {"verification": "features"}}},
            "coarse: wants PerPair[TwoViewGeometry], node 'features' gives PerPhoto[MoreFeatures]",
        ),
        (
            {"verification": {"use": "many"}, "matching": None},
            "coarse: wants PerPair[TwoViewGeometry], node 'verification' gives PerGroup[TwoViewGeometry]",
        ),
        (
            {"features": {"use": "dots", "from": {"photos": "matching"}}},
            "the graph has a cycle: matching reads features reads matching",
        ),
        ({"fine": {"use": "polish", "from": {"coarse": "fine"}}}, "the graph has a cycle: fine reads fine"),
        ({"coarse": None}, "fine: needs a node 'coarse'"),
        ({"graph": None}, "verification: runs over pairs, so it needs a node 'graph' to list them"),
        (
            {"matching": {"use": "nearest", "from": {"graph": "retrieval"}}},
            "matching: wants the edges of a SceneGraph, node 'retrieval' gives Ranking",
        ),
        ({"features": {"use": "dots", "cuont": 3}}, "features.cuont: no such option; did you mean count?"),
        ({"features": {"use": "dots", "count": "3"}}, "features.count: expected int, got '3'"),
        ({"features": {"use": "dost"}}, "features: no such plugin 'dost'; did you mean dots?"),
        ({"features": {"count": 3}}, "features.use: expected the name of a plugin, got None"),
        ({"features": "dots"}, "features: expected {use: plugin, ...options}, got 'dots'"),
        ({"tokens": {"use": "dots"}}, "tokens.use: tokens is no slot: write slot.dots"),
        ({"tokens": {"use": "feature.dots"}}, "tokens.use: no such slot; did you mean features?"),
        ({"export": {"use": "splat"}}, "export.use: export is not a part of the graph"),
        (
            {"tokens": {"use": "features.dots"}},
            "tokens: no node reads it; remove it (`tokens: null`) or list it under `outputs`",
        ),
        (
            {"matching": {"use": "nearest", "from": {"feature": "features"}}},
            "matching.from.feature: no such parameter; did you mean features?",
        ),
        (
            {"matching": {"use": "nearest", "from": "features"}},
            "matching.from: expected a mapping of parameter to node, got 'features'",
        ),
        ({"photos": {"use": "features.dots"}}, "photos: this node is always there and cannot be defined"),
        ({"outputs": ["ranking"]}, "outputs: no such node 'ranking'"),
        ({"outputs": "ranking"}, "outputs: expected a list of nodes, got 'ranking'"),
    ],
)
def test_a_wrong_graph_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        check(**changes)
    assert str(error.value).startswith(message)


def test_a_photo_stage_cannot_read_pairs() -> None:
    @dataclass(frozen=True)
    class Late:
        grain: ClassVar[Grain] = Grain.PHOTO

        def __call__(self, matching: PairMatches) -> Features:
            raise NotImplementedError

    entries: Any = [FakeEntry(name, cls) for name, cls in {**ENTRIES, "features.late": Late}.items()]
    with pytest.raises(ConfigError, match="late: runs over photos and cannot read node 'matching', which runs over "):
        build_graph({**GOOD, "late": {"use": "features.late"}}, Registry(entries))


def test_a_graph_that_gives_nothing() -> None:
    with pytest.raises(ConfigError, match="gives nothing"):
        check(fine=None, coarse=None, verification=None, matching=None)


def test_outputs_without_scenes() -> None:
    graph = check(fine=None, coarse=None, verification=None, outputs=["matching"])
    assert graph.outputs == ("matching",) and graph.result is None
