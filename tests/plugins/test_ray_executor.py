"""The executor `ray` on a cluster of two nodes on this machine: the same results as `local`, whatever goes away."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ray", reason="Ray is not installed: pip install 'unposed[ray]'")

from cluster_stages import Bytes, Misled, OnDevices, Sums, squared

import unposed
from unposed.optim.view_graph import Keypoints, build_view_graph
from unposed.pipeline.artifacts import Camera, CameraPriors, Photo, Photos
from unposed.pipeline.cancel import Cancellation
from unposed.pipeline.config import build
from unposed.pipeline.errors import ConfigError, ExecutorError, Interrupted
from unposed.pipeline.executor import Argument, Executor, Item, Job, Local, Piece, Watch, map_by
from unposed.pipeline.images.photos import scan
from unposed.pipeline.stage import Resources, StageError
from unposed.plugins.coarse.global_mapping import GlobalMapper
from unposed.plugins.executor.ray_cluster import Ray
from unposed.plugins.executor.worker import installed_versions
from unposed.synthetic.collections import EmulationOptions, emulate_collection

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

HERE = Resources("cpu", 2, 1 << 30, 0)
SUPPORT = Path(__file__).resolve().parents[1] / "support"
PRETENDED = SUPPORT / "pretended_gpu"
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


def reads(parameter: str, inputs: Mapping[Item, Any]) -> Callable[[Item], dict[str, Argument]]:
    """Reads the inputs as arguments of this parameter."""
    return lambda item: {parameter: Argument(Piece(f"{parameter} {item[0]}", lambda: inputs[item]))}


def computed(
    executor: Executor,
    stage: Any,
    inputs: dict[Item, Any],
    told: Told | None = None,
    cancellation: Cancellation | None = None,
) -> tuple[dict[Item, Any], dict[int, Exception]]:
    """Values by item, and failures by number."""
    told = told or Told()
    values: dict[Item, Any] = {}
    job = Job(
        stage,
        list(inputs),
        reads("row", inputs),
        values.__setitem__,
        frozenset({"resources"} if isinstance(stage, OnDevices) else ()),
        Watch((cancellation or Cancellation()).check, told.notes.append, told.account),
    )
    outcomes = list(executor.run(job, HERE))
    assert sorted(item for item, _ in outcomes) == sorted(inputs)  # every item once
    return values, {item[0]: error for item, error in outcomes if error is not None}


def warmed(executor: Ray, workers: int, device: str = "cpu") -> None:
    """Waits until so many workers are ready: each takes seconds to start, and more where others are at work."""
    deadline = time.monotonic() + 60.0
    while len(executor.cluster.workers(device)) < workers and time.monotonic() < deadline:
        computed(executor, Sums(0.02) if device == "cpu" else OnDevices(), rows(3))


def when(condition: Callable[[], bool], action: Callable[[], object]) -> threading.Thread:
    """Does something, from another thread, as soon as a condition holds."""

    def wait() -> None:
        deadline = time.monotonic() + 100.0
        while not condition() and time.monotonic() < deadline:
            time.sleep(0.05)
        action()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def test_both_nodes_give_what_one_machine_gives(ray: Ray, joining: Callable[..., Any]) -> None:
    joining()
    warmed(ray, 2)
    before = ray.cluster.sent_bytes
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
    assert 60 * 80_000 < crossed - before < 60 * 81_000
    computed(ray, stage, inputs)  # what lies in the object store is not put there again
    assert ray.cluster.sent_bytes == crossed


def test_a_node_that_dies_loses_nothing(cluster: Any, ray: Ray, joining: Callable[..., Any]) -> None:
    node, told, inputs = joining(), Told(), rows(80)
    warmed(ray, 2)
    killer = when(lambda: len(told.shares) == 2, lambda: cluster.remove_node(node, allow_graceful=False))
    values, failures = computed(ray, Sums(0.06), inputs, told)
    killer.join()
    assert failures == {} and values == computed(Local(), Sums(), inputs)[0]
    assert len(told.shares) == 2 and told.notes == [] and sum(told.shares.values()) == 80


def test_a_node_that_joins_late_is_used(ray: Ray, joining: Callable[..., Any]) -> None:
    told, cancellation = Told(), Cancellation()
    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(computed, ray, Sums(0.1), rows(1000), told, cancellation)
        joining()  # here, as Ray's processes are started from the main thread alone
        stopper = when(lambda: len(told.shares) == 2 or running.done(), cancellation.cancel)
        with pytest.raises(Interrupted):
            running.result()
        stopper.join()
    assert len(told.shares) == 2


def test_an_item_that_kills_its_workers_fails_alone(ray: Ray, tmp_path: Path) -> None:
    values, failures = computed(ray, Sums(deadly=(7,)), rows(20))
    assert set(failures) == {7} and len(values) == 19
    assert "has ended 3 worker processes" in str(failures[7])


def test_a_worker_killed_once_costs_nothing(ray: Ray, tmp_path: Path) -> None:
    values, failures = computed(ray, Sums(deadly=(7,), once=str(tmp_path / "died")), rows(20))
    assert failures == {} and len(values) == 20


def test_cancelling_keeps_what_is_finished(ray: Ray) -> None:
    cancellation, values, inputs = Cancellation(), {}, rows(300)
    job = Job(
        Sums(0.05), list(inputs), reads("row", inputs), values.__setitem__, frozenset(), Watch(cancellation.check)
    )
    seen = 0
    with pytest.raises(Interrupted), closing(ray.run(job, HERE)) as outcomes:
        for _ in outcomes:
            seen += 1
            if seen == 5:
                cancellation.cancel()
    assert 5 <= seen <= len(values) < 300


def test_closing_stores_what_is_on_the_way(ray: Ray) -> None:
    inputs, values = rows(50), {}
    with closing(
        ray.run(Job(Sums(0.02), list(inputs), reads("row", inputs), values.__setitem__, frozenset()), HERE)
    ) as outcomes:
        next(outcomes)
    assert 1 <= len(values) < 50


def test_what_is_wrong_with_the_settings_ends_the_job(ray: Ray) -> None:
    with pytest.raises(ConfigError, match=r"^weights: no network$"):
        computed(ray, Misled(), rows(3))


def test_photos_reach_machines_that_lack_them(ray: Ray, tmp_path: Path, yard: Any) -> None:
    """The driver alone can open /proc/self/fd/N, as it alone has a file of that number."""
    given = scan(yard.images).photos[:6]
    files = [photo.path.open("rb") for photo in given]
    photos = [replace(p, path=Path(f"/proc/self/fd/{f.fileno()}")) for p, f in zip(given, files, strict=True)]
    values: dict[Item, Any] = {}
    job = Job(
        Bytes(""),
        [(i,) for i in range(6)],
        reads("photo", {(i,): photo for i, photo in enumerate(photos)}),
        values.__setitem__,
        frozenset(),
    )
    for _ in range(2):
        assert [error for _, error in ray.run(job, HERE)] == [None] * 6
        assert all(values[i,][0].tobytes() == photo.path.read_bytes() for i, photo in enumerate(given))
    folder = Path(f"/tmp/unposed-{ray.cluster.run_name}")
    assert len(list(folder.iterdir())) == 6
    ray.close()
    assert not folder.exists()
    for file in files:
        file.close()


def test_a_photo_that_has_gone_fails_alone(ray: Ray, yard: Any, tmp_path: Path) -> None:
    photos = list(scan(yard.images).photos[:4])
    (tmp_path / "changed.jpg").write_bytes(b"another")
    photos[1:3] = [replace(photos[1], path=tmp_path / "gone.jpg"), replace(photos[2], path=tmp_path / "changed.jpg")]
    values: dict[Item, Any] = {}
    inputs = {(i,): photo for i, photo in enumerate(photos)}
    job = Job(Bytes(""), list(inputs), reads("photo", inputs), values.__setitem__, frozenset())
    failures = {item[0]: str(error) for item, error in ray.run(job, HERE) if error is not None}
    assert set(failures) == {1, 2} and set(values) == {(0,), (3,)}
    assert "No such file" in failures[1] and "has changed since the run began" in failures[2]


def test_a_stage_over_the_collection_spreads_its_parts(ray: Ray) -> None:
    assert map_by(ray, HERE, Watch(), squared, [3, 1, 2], 1, lambda done: None) == [9, 1, 4]
    with pytest.raises(ValueError, match="-2 is below zero"):
        map_by(ray, HERE, Watch(), squared, [1, -2, -1], 1, lambda done: None)


def test_clusters_of_photos_are_mapped_by_machines(ray: Ray) -> None:
    """The same bytes as on this machine, with the steps reported."""
    made = emulate_collection("aerial", 60, 0, EmulationOptions(keypoints=250))
    graph = build_view_graph(
        Keypoints(made.xy, made.start, made.size), made.pairs, made.match_count, made.row_a, made.row_b
    )
    camera = Camera("SIMPLE_RADIAL", 1600, 1200, (made.focal_px, 800.0, 600.0, 0.0))
    names = [f"{i:02d}.jpg" for i in range(60)]
    photos = Photos(tuple(Photo(name, Path(name), name, 1600, 1200) for name in names), {})
    cameras = CameraPriors((camera,), np.zeros(60, np.int32), ("exif",))
    division = {"division": {"max_photos": 20, "undivided_photos": 0}}
    steps: list[tuple[int, int, str]] = []
    found = []
    for executor in (Local(), ray):
        lent = replace(HERE, reporter=lambda *step: steps.append(step))
        lent = replace(lent, mapper=partial(map_by, executor, lent, Watch()))
        found.append(build(GlobalMapper, division, "coarse")(photos, cameras, graph, None, lent).models[0])
    assert len(found[0].photos) > 40
    assert found[0].cam_from_world.tobytes() == found[1].cam_from_world.tobytes()
    assert found[0].cameras == found[1].cameras
    assert len(steps) >= 6 and steps[: len(steps) // 2] == steps[len(steps) // 2 :]


def test_one_gpu_each(cluster: Any, joining: Callable[..., Any]) -> None:
    """Devices are pretended by a torch that says it has one; Ray counts what it is told."""
    joining(0, num_gpus=2, env_vars={"PYTHONPATH": os.pathsep.join([str(PRETENDED), os.environ["PYTHONPATH"]])})
    told, inputs = Told(), rows(40)
    with closing(Ray(cluster.address, "auto")) as executor:
        warmed(executor, 2, "cuda")
        values, failures = computed(executor, OnDevices(), inputs, told)
        on_cpu, _ = computed(executor, Sums(), inputs)  # no networks: on CPUs all the same
    assert failures == {} and {where for where, _ in values.values()} == {"cuda 0", "cuda 1"}
    assert {item: total for item, (_, total) in values.items()} == on_cpu
    with closing(Ray(cluster.address, "cpu")) as executor:
        assert {where for where, _ in computed(executor, OnDevices(), inputs)[0].values()} == {"cpu "}


def test_a_gpu_that_torch_does_not_see(cluster: Any, joining: Callable[..., Any]) -> None:
    joining(0, num_gpus=1)
    with closing(Ray(cluster.address, "cuda")) as executor, pytest.raises(ExecutorError, match="PyTorch finds no GPU"):
        computed(executor, OnDevices(), rows(3))


def test_a_cluster_without_gpus(cluster: Any) -> None:
    with closing(Ray(cluster.address, "cuda")) as executor, pytest.raises(ExecutorError, match="has no GPU; use"):
        computed(executor, OnDevices(), rows(3))


def test_other_versions_are_left_out(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    here = installed_versions()
    monkeypatch.setattr("unposed.plugins.executor.cluster.installed_versions", lambda: here | {"unposed": "9.9"})
    told = Told()
    with closing(Ray(cluster.address, "cpu")) as executor, pytest.raises(ExecutorError) as raised:
        computed(executor, Sums(), rows(3), told)
    line = rf"it has unposed {here['unposed']} \(here 9.9\): install the same versions"
    assert raised.match(f"no machine of the Ray cluster at .* can be used: .*{line}")
    (note,) = told.notes
    assert note.startswith("machine ") and "is left out" in note


def test_other_libraries_are_noted(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    here = installed_versions()
    monkeypatch.setattr("unposed.plugins.executor.cluster.installed_versions", lambda: here | {"numpy": "0.1"})
    told = Told()
    with closing(Ray(cluster.address, "cpu")) as executor:
        assert len(computed(executor, Sums(), rows(3), told)[0]) == 3
    (note,) = told.notes
    assert f"numpy {here['numpy']} (here 0.1): the last bits of results may differ" in note


def test_a_node_without_the_plugin(ray: Ray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "acme_plugin.py").write_text((SUPPORT / "cluster_stages.py").read_text())
    monkeypatch.syspath_prepend(tmp_path)
    from acme_plugin import Sums as Theirs

    with pytest.raises(ExecutorError, match="it lacks the Python package acme_plugin: install it there as here"):
        computed(ray, Theirs(), rows(3))


def test_no_cluster_there() -> None:
    with closing(Ray("127.0.0.1:1")) as executor, pytest.raises(ExecutorError, match=r"no cluster at 127\.0\.0\.1:1 "):
        computed(executor, Sums(), rows(3))


def test_ray_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with closing(Ray()) as executor, pytest.raises(ConfigError, match=r"pip install 'unposed\[ray\]'"):
        computed(executor, Sums(), rows(3))


def test_a_cluster_of_another_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise RuntimeError("Version mismatch: The cluster was started with:\n    Ray: 2.1\n    Python: 3.10")

    monkeypatch.setattr("ray.init", refuse)
    with (
        closing(Ray()) as executor,
        pytest.raises(ExecutorError, match=r"started with: Ray: 2.1 Python: 3.10; install"),
    ):
        computed(executor, Sums(), rows(3))


def test_gpus_of_a_cluster_have_no_numbers() -> None:
    with pytest.raises(ValueError, match="use --device cuda"):
        Ray(device="cuda:1")


def test_a_cluster_that_goes_away(tmp_path: Path) -> None:
    """In a process of its own, which Ray would end after a minute."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(SUPPORT), os.environ.get("PYTHONPATH", "")])}
    script = [sys.executable, "-W", "ignore", str(SUPPORT / "losing_cluster.py")]
    done = subprocess.run(script, capture_output=True, text=True, timeout=100, env=environment)
    assert done.returncode == 7, done.stderr
    said = done.stdout.splitlines()[-1]
    assert "has gone away" in said and "run the same command again to resume" in said


def test_a_reconstruction_has_the_bytes_of_local(
    cluster: Any, joining: Callable[..., Any], yard: Any, tmp_path: Path
) -> None:
    joining()
    options = {"preset": "classic", "device": "cpu", "settings": ["features.max_side_px=480"]}
    made, payloads = {}, []
    for name, executor in (("local", "local"), ("ray", f"ray:{cluster.address}")):
        made[name] = unposed.reconstruct(yard.images, cache=tmp_path / name, executor=executor, **options)
        with closing(sqlite3.connect(tmp_path / name / "store.db")) as db:
            stored = "SELECT key, failure, checksum, data FROM entry JOIN payload ON id = payload ORDER BY key"
            payloads.append(db.execute(stored).fetchall())
    assert payloads[0] == payloads[1] and len(payloads[0]) > 80
    stages = made["ray"].summary["stages"]
    machines: set[str] = set()
    for node in ("features", "matching", "verification"):
        shares = stages[node]["machines"]
        machines |= set(shares)
        assert sum(share["items"] for share in shares.values()) == stages[node]["computed"]
        assert all(share["cpu_s"] > 0 for share in shares.values())
    assert len(machines) == 2
    assert made["local"].summary["stages"]["features"]["machines"] == {}
