"""`unposed view`: what it draws, and that a browser gets it from this machine alone."""

from __future__ import annotations

import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from browser import browser

import unposed
from unposed import Reconstruction
from unposed.cli import main
from unposed.gaussian_files import write_gaussians_ply
from unposed.output import locked_folder, publish
from unposed.pipeline.artifacts import InitialModel, InitialModels, Photos
from unposed.pipeline.errors import InputError
from unposed.pipeline.pose_files import Poses
from unposed.so_far import discard, load_so_far, preview_of
from unposed.surface.gaussians.scene import Gaussians
from unposed.synthetic.photos import PhotoSet
from unposed.viewer.beside import Beside
from unposed.viewer.shown import Eye, PointFilter, aligned_poses, nearest_to_ray, ramp, shown_model
from unposed.viewer.splats import read_splat


def free_port() -> int:
    """A port that nobody listens to: tests run side by side."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture(scope="module")
def made(yard: PhotoSet, tmp_path_factory: pytest.TempPathFactory) -> Reconstruction:
    folder = tmp_path_factory.mktemp("view")
    return unposed.reconstruct(yard.images, folder / "out", preset="fast", cache=folder / "cache", report=False)


@contextmanager
def served(out: Path, port: int, **options: Any) -> Iterator[str]:
    """The address of a viewer of this folder, which ends with the block."""
    pytest.importorskip("viser", reason="the viewer is an extra: unposed[view]")
    addresses: list[str] = []
    leave = threading.Event()

    def run() -> None:
        unposed.view(out, port=port, opened=addresses.append, ended=leave.is_set, **options)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        until(lambda: bool(addresses))
        yield addresses[0]
    finally:
        leave.set()
        thread.join()


def until(true: Callable[[], bool], patience_s: float = 30.0) -> None:
    end = time.monotonic() + patience_s
    while not true():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.1)


def test_points_are_filtered_and_thinned(made: Reconstruction) -> None:
    shown = shown_model(made.sparse.models[0], 0)
    every = shown.rows(PointFilter(10**9))
    assert sorted(every.tolist()) == list(range(len(shown.model.points)))
    few = shown.rows(PointFilter(50))
    assert np.array_equal(few, every[:50])
    long = shown.rows(PointFilter(10**9, min_length=4, max_error_px=0.5))
    assert 0 < len(long) < len(every)
    assert shown.lengths[long].min() >= 4 and shown.model.error_px[long].max() <= 0.5
    assert np.array_equal(shown.colours(few, "photos"), shown.model.rgb[few])
    assert len(np.unique(shown.colours(few, "error"), axis=0)) > 5
    assert len(np.unique(shown.colours(few, "model"), axis=0)) == 1


def test_what_is_looked_at_gets_more_points(made: Reconstruction) -> None:
    shown = shown_model(made.sparse.models[0], 0)
    points = shown.model.points
    aim = points[shown.order[-1]]  # the last in the order, so that it is drawn for its view only
    near, far = (Eye(aim - np.array([0.0, 0.0, away]), np.eye(3), 0.2, 1.5) for away in (0.5, 500.0))
    assert far.sees(points).all() and not Eye(far.position, -np.eye(3), 0.2, 1.5).sees(points).any()
    inside = near.sees(points)
    assert 0 < inside.sum() < 0.5 * len(points)
    there, wanted = len(points) // 2, PointFilter(10**9)
    detail = shown.detail(wanted, there, near)
    assert shown.order[-1] in detail
    assert set(detail.tolist()) == set(np.flatnonzero(inside).tolist()) - set(shown.order[:there].tolist())
    assert len(shown.detail(PointFilter(3), there, far)) == 3


def test_each_browser_gets_the_points_of_its_view_once_it_holds_still(
    made: Reconstruction, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("viser", reason="the viewer is an extra: unposed[view]")
    from unposed.viewer.window import opened

    window = opened("127.0.0.1", free_port())
    try:
        window.show(made, Beside())
        total = len(made.sparse.models[0].points)
        controls = window.controls
        position, camera = np.array([0.0, 0.0, -1000.0]) + made.sparse.models[0].points.mean(axis=0), SimpleNamespace()
        camera.__dict__.update(position=position, wxyz=np.array([1.0, 0, 0, 0]), fov=0.2, aspect=1.0)
        camera.update_timestamp = time.time() - 9.0
        drawn: list[tuple[str, int]] = []

        def add(name: str, points: Any, colours: Any, **options: Any) -> Any:
            drawn.append((name, len(points)))
            return SimpleNamespace(remove=lambda: drawn.append(("removed", 0)))

        client = SimpleNamespace(camera=camera, scene=SimpleNamespace(add_point_cloud=add))
        monkeypatch.setattr(window.server, "get_clients", lambda: {3: client})
        window.refine()
        assert drawn == []  # all points are there
        controls["most"].value = 1000
        until(lambda: window.controls["most"].value == 1000)
        window.refine()
        window.refine()
        assert total > 1100 and drawn == [("/detail/0", 501)]  # once, and half of the thousand
        camera.update_timestamp = time.time()
        window.refine()
        assert len(drawn) == 1  # it moves
        camera.update_timestamp = time.time() - 1.0
        window.refine()
        assert drawn[1:] == [("removed", 0), ("/detail/0", 501)]
    finally:
        window.server.stop()


def test_partners_and_common_key_points_are_those_of_the_tracks(made: Reconstruction) -> None:
    shown = shown_model(made.sparse.models[0], 0)
    seen = [set(shown.seen_by(row).tolist()) for row in range(len(shown.model.photos))]
    expected = {row: len(seen[0] & seen[row]) for row in range(1, len(seen)) if seen[0] & seen[row]}
    partners = shown.partners(0)
    assert dict(partners) == expected
    assert [count for _, count in partners] == sorted(expected.values(), reverse=True)
    a, b = shown.common_keypoints(0, partners[0][0])
    assert len(a) == len(b) == partners[0][1]


def test_other_poses_are_aligned(made: Reconstruction) -> None:
    poses, names = made.sparse.models[0].cam_from_world, made.models[0].photo_names
    angle = 0.6
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    other = np.concatenate([poses[:, :, :3] @ turn.T, 3.0 * poses[:, :, 3:]], axis=2)  # world x -> 3 turn x
    moved, lines = aligned_poses(names, poses, names[2:], other[2:])
    assert moved == pytest.approx(poses[2:], abs=1e-9)
    assert lines[:, 0] == pytest.approx(lines[:, 1], abs=1e-9)
    with pytest.raises(ValueError, match="only 2 photos in common"):
        aligned_poses(names, poses, names[:2], other[:2])


def test_a_click_finds_the_point_under_it() -> None:
    points = np.array([[0.0, 0, 5], [1, 0, 5], [0, 0, -5]])
    assert nearest_to_ray(points, np.zeros(3), np.array([0.001, 0, 2.0])) == 0
    assert nearest_to_ray(points, np.zeros(3), np.array([0, 1.0, 0])) is None
    assert nearest_to_ray(np.zeros((0, 3)), np.zeros(3), np.ones(3)) is None


def test_colours_go_from_good_to_bad() -> None:
    colours = ramp(np.array([-1.0, 0.0, 0.5, 1.0, 2.0])).astype(int)
    assert np.array_equal(colours[0], colours[1]) and np.array_equal(colours[3], colours[4])
    assert colours[1, 2] > colours[1, 0] and colours[3, 0] > colours[3, 2]


def test_what_happens_when_a_photo_and_a_partner_are_chosen(made: Reconstruction, yard: PhotoSet) -> None:
    pytest.importorskip("viser", reason="the viewer is an extra: unposed[view]")
    from unposed.viewer.frusta import CHOSEN, INK
    from unposed.viewer.window import opened

    assert made.folder is not None
    window = opened("127.0.0.1", free_port())
    try:
        poses = made.sparse.models[0].cam_from_world
        other = Poses(Path("other"), tuple(made.models[0].photo_names), poses, np.full(len(poses), 1.2))
        window.show(made, Beside(other))
        assert len(window.frusta) == len(made.models[0])
        window._choose((0, 1))
        controls = window.controls
        assert controls["photo"].value == made.models[0].photo_names[1]
        assert "points, in common with" in controls["facts"].content
        assert controls["image"].visible and controls["image"].image.shape[1] == 480
        controls["partner"].value = controls["partner"].options[1]
        until(lambda: bool(controls["image"].image.shape[1] > 900))  # two photos side by side
        controls["photo"].value = made.models[0].photo_names[0]
        until(lambda: tuple(window.frusta[0, 0].color) == CHOSEN)
        assert tuple(window.frusta[0, 1].color) == INK
    finally:
        window.server.stop()


def test_of_many_cameras_as_many_show_their_photo_as_asked_for(
    made: Reconstruction, monkeypatch: pytest.MonkeyPatch
) -> None:
    window_module = pytest.importorskip("unposed.viewer.window", reason="the viewer is an extra: unposed[view]")
    window = window_module.opened("127.0.0.1", free_port())

    def shown() -> list[int]:
        return [row for (_, row), frustum in window.frusta.items() if frustum.image is not None]

    try:
        window.show(made, Beside(None))
        assert shown() == list(range(12))
        monkeypatch.setattr(window_module, "MOST_THUMBNAILS", 11)
        window.show(made, Beside(None))
        assert len(window.frusta) == 12 and shown() == []
        window.controls["pictured"].value = 4
        until(lambda: shown() == [0, 4, 7, 11])  # evenly spread
        window.controls["pictured"].value = 0
        until(lambda: shown() == [])
    finally:
        window.server.stop()


def test_one_of_several_models_is_shown_until_another_is_chosen(made: Reconstruction) -> None:
    pytest.importorskip("viser", reason="the viewer is an extra: unposed[view]")
    from unposed.viewer.window import ALL_MODELS, opened

    (model,) = made.sparse.models
    summary = {**made.summary, "models": made.summary["models"] * 2}
    part = replace(model, cam_from_world=model.cam_from_world + np.array([0, 0, 0, 100.0]))
    both = replace(made, sparse=replace(made.sparse, models=(model, part)), summary=summary)
    window = opened("127.0.0.1", free_port())
    try:
        window.show(both, Beside(None))
        assert [each.model for each in window.models] == [model] and len(window.frusta) == 12
        near = window.server.initial_camera.position
        window.controls["model"].value = "1: 12 photos"
        until(lambda: [each.model for each in window.models] == [part] and len(window.frusta) == 12)
        until(lambda: np.linalg.norm(window.server.initial_camera.position - near) > 10.0)
        window.controls["model"].value = ALL_MODELS
        until(lambda: len(window.models) == 2 and len(window.frusta) == 24)
    finally:
        window.server.stop()


def test_a_browser_sees_it_and_asks_nobody_else(made: Reconstruction, yard: PhotoSet) -> None:
    assert made.folder is not None
    port = free_port()
    with served(made.folder, port, compare=yard.images.parent / "gt.json") as address, browser() as tab:
        assert address == f"http://127.0.0.1:{port}"
        tab.send("Page.navigate", url=address)
        until(lambda: "photos per point" in tab.ask("document.body ? document.body.innerText : ''"))
        text = tab.ask("document.body.innerText")
        assert "12 photos are in both" in text
        assert all(url.startswith((address, "chrome")) for url in tab.requests)


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    with pytest.raises(InputError, match="no reconstruction in it; give the folder"):
        unposed.view(tmp_path)


def test_a_run_in_progress_shows_its_log_then_its_result(made: Reconstruction, tmp_path: Path) -> None:
    assert made.folder is not None
    out = tmp_path / "out"
    out.mkdir()
    (out / "run.log").write_text("features: 12 to do\n")
    with served(out, free_port()) as address, browser() as tab:
        tab.send("Page.navigate", url=address)
        until(lambda: "features: 12 to do" in tab.ask("document.body ? document.body.innerText : ''"))
        shutil.copytree(made.folder, out, dirs_exist_ok=True)
        until(lambda: "photos per point" in tab.ask("document.body.innerText"))


def test_what_a_run_has_found_so_far_is_there_until_the_result_is(
    made: Reconstruction, yard: PhotoSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, found = tmp_path / "out", []
    written = unposed.runs.preview_of

    def watched(photos: Photos, folder: Path, new: Path | None) -> Callable[[InitialModels], None]:
        def hear(models: InitialModels) -> None:
            written(photos, folder, new)(models)
            found.append((models, load_so_far(out, None)))

        return hear

    monkeypatch.setattr("unposed.runs.preview_of", watched)
    assert made.folder is not None
    cache = made.folder.parent / "cache"  # where all but the last stage is stored
    unposed.reconstruct(yard.images, out, preset="fast", cache=cache, settings={"fine.rounds": 4}, report=False)
    ((models, so_far),) = found
    assert so_far.models[0].photo_names == made.models[0].photo_names
    assert np.allclose(so_far.sparse.models[0].cam_from_world, models.models[0].cam_from_world, atol=1e-9)
    assert len(so_far.sparse.models[0].points) == 0
    assert so_far.photos[0].path == next(iter(sorted(yard.images.iterdir()))).resolve()
    assert not (out / "so-far").exists() and len(unposed.load(out).models[0].points)
    with pytest.raises(InputError, match="no run is at work"):
        load_so_far(out, None)


def test_a_browser_sees_what_a_run_has_found_so_far_then_its_result(
    made: Reconstruction, yard: PhotoSet, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with locked_folder(out) as new:
        (out / "run.log").write_text("coarse: done in 1.00 s\n")
        coarse = InitialModels(
            tuple(InitialModel(m.cameras, m.photos, m.camera_of_photo, m.cam_from_world) for m in made.sparse.models),
            {},
        )
        preview_of(made.photos, yard.images, new)(coarse)
        with served(out, free_port()) as address, browser() as tab:
            tab.send("Page.navigate", url=address)

            def text() -> str:
                return str(tab.ask("document.body ? document.body.innerText : ''"))

            until(lambda: "Still running" in text())
            assert "coarse: done in 1.00 s" in text() and "12 photos, 0 points" in text()
            (out / "run.log").write_text("coarse: done in 1.00 s\nfine: 1 to do\n")
            until(lambda: "fine: 1 to do" in text())
            discard(new)
            assert made.folder is not None
            shutil.copytree(made.folder, new, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".*", "run.log"))
            publish(new, out)
            until(lambda: f"12 photos, {len(made.sparse.models[0].points):,} points" in text())
            assert "Still running" not in text()


def gaussians(count: int) -> Gaussians:
    rng = np.random.default_rng(0)
    turn = rng.normal(size=(count, 4)).astype(np.float32)
    mean, log_scale, colour = (rng.normal(size=(count, 3)).astype(np.float32) for _ in range(3))
    return Gaussians(mean, log_scale, turn, rng.normal(size=count).astype(np.float32), colour)


def test_gaussians_are_read_as_they_were_written(tmp_path: Path) -> None:
    given = gaussians(7)
    write_gaussians_ply(given, tmp_path / "splat.ply")
    shown = read_splat(tmp_path / "splat.ply")
    opacity = 1.0 / (1.0 + np.exp(-given.logit))
    order = np.argsort(-np.log(opacity) - given.log_scale.sum(axis=1))
    assert shown.total == 7 and np.array_equal(shown.centres, given.mean[order])
    assert shown.rgb == pytest.approx(given.rgb[order], abs=1e-6)
    assert shown.opacity[:, 0] == pytest.approx(opacity[order], abs=1e-6)
    squares = np.linalg.eigvalsh(shown.covariances.astype(np.float64))
    assert squares == pytest.approx(np.sort(np.exp(2 * given.log_scale[order]), axis=1), rel=1e-3)
    w, x, y, z = (given.quaternion[order[0]] / np.linalg.norm(given.quaternion[order[0]])).tolist()
    first = np.array([1 - 2 * (y * y + z * z), 2 * (x * y + w * z), 2 * (x * z - w * y)])  # first axis in the world
    assert first @ shown.covariances[0] @ first == pytest.approx(np.exp(2 * given.log_scale[order[0], 0]), rel=1e-3)
    few = read_splat(tmp_path / "splat.ply", most=3)
    assert np.array_equal(few.centres, shown.centres[:3]) and few.total == 7


def test_files_that_are_no_splat_are_refused_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "splat.ply"
    write_gaussians_ply(gaussians(3), file)
    data = file.read_bytes()
    wrong = {
        "cut off": data[:-5],
        "no splat": data.replace(b"rot_3", b"rot_9"),
        "no splat:": b"",
        "no splat: ": data[9:],
    }
    for line, content in wrong.items():
        file.write_bytes(content)
        with pytest.raises(InputError, match=line.strip()):
            read_splat(file)
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_splat(tmp_path / "nothing.ply")
    broken = gaussians(3)
    broken.mean[1] = np.nan
    write_gaussians_ply(broken, file)
    assert len(read_splat(file).centres) == 2


def test_a_browser_is_sent_the_splat_in_place_of_the_points(made: Reconstruction, tmp_path: Path) -> None:
    write_gaussians_ply(gaussians(50), tmp_path / "splat.ply")
    assert made.folder is not None
    with served(made.folder, free_port(), splat=tmp_path) as address, browser() as tab:
        tab.send("Page.navigate", url=address)
        until(lambda: "50 Gaussians" in tab.ask("document.body ? document.body.innerText : ''"))


def test_without_viser_one_line_says_what_to_install(
    made: Reconstruction, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["view", str(tmp_path / "nothing")]) == 2
    assert "no such folder" in capsys.readouterr().err
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["view", str(made.folder)]) == 2
    assert "pip install 'unposed[view]'" in capsys.readouterr().err
