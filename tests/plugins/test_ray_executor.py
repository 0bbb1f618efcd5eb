"""The executor `ray` on a cluster of two nodes on this machine: the same results as `local`, whatever goes away."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ray", reason="Ray is not installed: pip install 'unposed[ray]'")

from cluster_stages import Bytes, Misled, OnDevices, Sums, squared

from unposed.pipeline.artifacts import Photo
from unposed.pipeline.cancel import Cancellation
from unposed.pipeline.errors import ConfigError, ExecutorError, Interrupted
from unposed.pipeline.executor import Argument, Executor, Item, Job, Local, Piece, Watch, map_by
from unposed.pipeline.images.photos import scan
from unposed.pipeline.stage import Resources, StageError
from unposed.plugins.executor.ray_cluster import Ray

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

HERE = Resources("cpu", 2, 1 << 30, 0)
SUPPORT = Path(__file__).resolve().parents[1] / "support"
STORE_BYTES = 128 << 20


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head without CPUs, and a node with one. Tests add others."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(SUPPORT), os.environ.get("PYTHONPATH", "")]))
        head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": STORE_BYTES}
        made = Cluster(initialize_head=True, head_node_args=head)
        made.add_node(num_cpus=1, object_store_memory=STORE_BYTES)
        yield made
        made.shutdown()


@pytest.fixture
def joining(cluster: Any) -> Iterator[Callable[..., Any]]:
    """Adds a node, which leaves after the test."""
    nodes = []

    def join(cpus: int = 1, **options: Any) -> Any:
        nodes.append(cluster.add_node(num_cpus=cpus, object_store_memory=STORE_BYTES, **options))
        return nodes[-1]

    yield join
    for node in nodes:
        if node in cluster.worker_nodes:
            cluster.remove_node(node)


@pytest.fixture
def ray(cluster: Any) -> Iterator[Ray]:
    with closing(Ray(cluster.address, "cpu")) as executor:
        yield executor


class Told:
    """What an executor says."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.shares: dict[str, int] = {}
        self.cpu_s = 0.0

    def account(self, machine: str, items: int, cpu_s: float) -> None:
        self.shares[machine] = self.shares.get(machine, 0) + items
        self.cpu_s += cpu_s


def rows(count: int, length: int = 4) -> dict[Item, Any]:
    """Numbers to be summed, that begin with the item's own."""
    rng = np.random.default_rng(1)
    return {(i,): np.append(float(i), rng.random(length - 1)) for i in range(count)}


def computed(
    executor: Executor, stage: Any, inputs: dict[Item, Any], told: Told | None = None, resources: Resources = HERE
) -> tuple[dict[Item, Any], dict[int, Exception]]:
    """Values by item, and failures by number."""
    told = told or Told()
    values: dict[Item, Any] = {}
    job = Job(
        stage,
        list(inputs),
        lambda item: {"row": Argument(Piece(f"row {item[0]}", lambda: inputs[item]))},
        values.__setitem__,
        frozenset({"resources"} if isinstance(stage, OnDevices) else ()),
        Watch(note=told.notes.append, account=told.account),
    )
    outcomes = list(executor.run(job, resources))
    assert sorted(item for item, _ in outcomes) == sorted(inputs)  # every item once
    return values, {item[0]: error for item, error in outcomes if error is not None}


def test_both_nodes_give_what_one_machine_gives(ray: Ray, joining: Callable[..., Any]) -> None:
    joining()
    told, inputs = Told(), rows(60, 10_000)  # 80 kB each: through the object store
    stage = Sums(0.02, refused=(3, 4), wrong=(5,))
    assert (expected := computed(Local(), stage, inputs))[0] == (found := computed(ray, stage, inputs, told))[0]
    assert {number: (type(e), str(e)) for number, e in found[1].items()} == {
        number: (type(e), str(e)) for number, e in expected[1].items()
    }
    assert isinstance(found[1][3], StageError) and isinstance(found[1][5], KeyError)
    assert len(told.shares) == 2 and sum(told.shares.values()) == 57 and min(told.shares.values()) > 5
    assert told.cpu_s > 0 and told.notes == []
    crossed = ray.cluster.sent_bytes
    assert crossed < 60 * 81_000
    computed(ray, stage, inputs)  # what lies in the object store is not put there again
    assert ray.cluster.sent_bytes == crossed


def test_a_node_that_dies_loses_nothing(cluster: Any, ray: Ray, joining: Callable[..., Any]) -> None:
    node, told, inputs = joining(), Told(), rows(80)
    computed(ray, Sums(), rows(4))  # both are warm
    killer = threading.Timer(1.0, lambda: cluster.remove_node(node, allow_graceful=False))
    killer.start()
    values, failures = computed(ray, Sums(0.06), inputs, told)
    killer.join()
    assert failures == {} and values == computed(Local(), Sums(), inputs)[0]
    assert len(told.shares) == 2 and told.notes == []


def test_a_node_that_joins_late_is_used(ray: Ray, joining: Callable[..., Any]) -> None:
    told = Told()
    starter = threading.Timer(0.5, joining)
    starter.start()
    values, _ = computed(ray, Sums(0.1), rows(100), told)
    starter.join()
    assert len(values) == 100 and len(told.shares) == 2


def test_an_item_that_kills_its_workers_fails_alone(ray: Ray, tmp_path: Path) -> None:
    values, failures = computed(ray, Sums(deadly=(7,)), rows(20))
    assert set(failures) == {7} and len(values) == 19
    assert "has ended 3 worker processes" in str(failures[7])


def test_a_worker_killed_once_costs_nothing(ray: Ray, tmp_path: Path) -> None:
    values, failures = computed(ray, Sums(deadly=(7,), once=tmp_path / "died"), rows(20))
    assert failures == {} and len(values) == 20


def test_cancelling_keeps_what_is_finished(ray: Ray) -> None:
    cancellation, values = Cancellation(), {}
    inputs = rows(300)
    job = Job(
        Sums(0.05),
        list(inputs),
        lambda item: {"row": Argument(Piece(str(item), lambda: inputs[item]))},
        values.__setitem__,
        frozenset(),
        Watch(cancellation.check),
    )
    threading.Timer(2.5, cancellation.cancel).start()
    begun, seen = time.monotonic(), 0
    with pytest.raises(Interrupted), closing(ray.run(job, HERE)) as outcomes:
        for _ in outcomes:
            seen += 1
    assert time.monotonic() - begun < 8.0 and seen <= len(values) < 300 and values


def test_closing_stores_what_is_on_the_way(ray: Ray) -> None:
    inputs, values = rows(50), {}
    read = lambda item: {"row": Argument(Piece(str(item), lambda: inputs[item]))}  # noqa: E731
    with closing(ray.run(Job(Sums(0.02), list(inputs), read, values.__setitem__, frozenset()), HERE)) as outcomes:
        next(outcomes)
    assert 1 <= len(values) < 50


def test_what_is_wrong_with_the_settings_ends_the_job(ray: Ray) -> None:
    with pytest.raises(ConfigError, match="^weights: no network$"):
        computed(ray, Misled(), rows(3))


def test_photos_reach_machines_that_lack_them(ray: Ray, tmp_path: Path, yard: Any) -> None:
    """The driver alone can open /proc/self/fd/N, as it alone has a file of that number."""
    given = scan(yard.folder).photos[:6]
    files = [photo.path.open("rb") for photo in given]
    photos = [replace(p, path=Path(f"/proc/self/fd/{f.fileno() + 0}")) for p, f in zip(given, files, strict=True)]
    values: dict[Item, Any] = {}
    items = [(i, j) for i in range(6) for j in range(i + 1, 6)]
    job = Job(
        Bytes(""),
        [(i,) for i in range(6)],
        lambda item: {"photo": Argument(Piece(str(item), lambda: photos[item[0]]))},
        values.__setitem__,
        frozenset(),
    )
    for _ in range(2):
        assert [error for _, error in ray.run(job, HERE)] == [None] * 6
        assert all(values[i,][0].tobytes() == photo.path.read_bytes() for i, photo in enumerate(given)) and items
    folder = Path(f"/tmp/unposed-{ray.cluster.run_name}")
    assert len(list(folder.iterdir())) == 6
    ray.close()
    assert not folder.exists()
    for file in files:
        file.close()
