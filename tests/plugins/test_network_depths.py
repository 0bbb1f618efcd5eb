"""Depth maps by a network that is told the cameras: one that knows a rendered scene up to smooth errors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from finished import true_model
from many_view_networks import hashed_network
from torch import Tensor, nn

from unposed.networks.manyview.cameras import inverse_pose
from unposed.networks.manyview.da3 import GivenCameras
from unposed.networks.manyview.images import normalised
from unposed.networks.manyview.prediction import GroupPrediction
from unposed.optim.undistortion import UndistortionOptions
from unposed.pipeline.artifacts import Depths, SparseModel
from unposed.pipeline.errors import ConfigError
from unposed.pipeline.stage import Resources
from unposed.plugins.dense import da3
from unposed.plugins.dense.da3 import DepthAnything3Depths, covering_groups
from unposed.plugins.dense.model_views import ModelViews, model_views
from unposed.surface.stereo.depth_correction import CorrectionOptions
from unposed.surface.stereo.neighbours import NeighbourOptions
from unposed.surface.stereo.view import Pinhole
from unposed.synthetic.camera import project_points
from unposed.synthetic.photos import PhotoSet
from unposed.synthetic.render import cast

MACHINE = Resources("cpu", 2, 2**30, 0)
SIDE = 280


class SeeingNetwork(nn.Module):
    """Depth of a rendered scene, off by a smooth 3 % and by the scale that the given cameras have."""

    def __init__(self, made: PhotoSet, views: ModelViews) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))
        self.made, self.views, self.groups = made, views, list[list[int]]()
        self.images = [views.rgb(row) for row in range(len(views))]

    def __call__(self, images: Tensor, *, given: GivenCameras) -> GroupPrediction:
        height, width = images.shape[-2:]
        rows = [self.photo_of(image, height, width) for image in images[0]]
        self.groups.append(rows)
        poses = torch.tensor(np.stack([self.views.cameras[row].cam_from_world for row in rows]))
        relative = poses[:, :, :3] @ inverse_pose(poses[:1])[..., :3]
        torch.testing.assert_close(given.cam_from_world[0, :, :, :3].double(), relative, atol=1e-5, rtol=0)
        focal = torch.tensor([[self.views.cameras[row].fx, self.views.cameras[row].fy] for row in rows])
        torch.testing.assert_close(given.focal_px[0].double(), focal.double(), atol=1e-3, rtol=0)
        depth = np.stack([self.depth(row, height, width) for row in rows]) * 0.2 * len(self.groups)
        confidence = np.random.default_rng(0).random(depth.shape)
        return GroupPrediction(torch.tensor(depth)[None], torch.tensor(confidence)[None], poses[None], focal[None])

    def photo_of(self, image: Tensor, height: int, width: int) -> int:
        """The photo that an image is the middle of."""
        middles = normalised([[middle(each, height, width) for each in self.images]])[0]
        return int((middles - image).abs().mean(dim=(1, 2, 3)).argmin())

    def depth(self, row: int, height: int, width: int) -> np.ndarray:
        """(height, width) in units of the world; infinite for sky."""
        camera = self.views.cameras[row]
        exact = true_depth(self.made, row, camera)
        y, x = np.mgrid[: camera.height, : camera.width] / np.array([camera.height, camera.width]).reshape(2, 1, 1)
        wrong = 0.03 * np.sin(2.0 * x + row) - 0.03 * np.cos(1.5 * y + 2 * row)
        return middle(exact * np.exp(wrong), height, width).astype(np.float32)


def middle(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """The image, cropped about its middle."""
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]


def true_depth(made: PhotoSet, row: int, camera: Pinhole) -> np.ndarray:
    """(height, width) depth of the surfaces behind the pixels of an undistorted photo."""
    shot = sorted(made.scene.shots, key=lambda each: each.name)[row]
    y, x = np.mgrid[: camera.height, : camera.width].reshape(2, -1) + 0.5
    on_rays = camera.unproject(np.stack([x, y], axis=1), np.ones(len(x)))
    return cast(made.scene.world, shot, project_points(shot, on_rays)[0]).reshape(camera.height, camera.width)


def computed(
    made: PhotoSet, model: SparseModel, monkeypatch: pytest.MonkeyPatch, plugin: DepthAnything3Depths
) -> tuple[Depths, SeeingNetwork]:
    """What the plugin makes of a network that sees the scene."""
    _, photos = true_model(made)
    views = model_views(model, photos, SIDE, 14, UndistortionOptions(), NeighbourOptions())
    network = SeeingNetwork(made, views)
    monkeypatch.setattr(da3, "shared_many_view", lambda *given: network)
    return plugin(model, photos, MACHINE), network


def errors_of(made: PhotoSet, depths: Depths) -> np.ndarray:
    """(n,) relative errors of agreed depths."""
    parts = []
    for row, (estimate, agreed) in enumerate(zip(depths.maps, depths.agreed, strict=True)):
        exact = true_depth(made, row, estimate.camera)[agreed]
        parts.append(np.abs(1.0 / estimate.inverse[agreed] / exact - 1.0))
    return np.concatenate(parts)


def test_smooth_errors_are_corrected_so_that_photos_agree(
    photo_set: Callable[[str, int, int], PhotoSet], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = photo_set("easy", 5, 320)
    model, _ = true_model(made)
    depths, network = computed(made, model, monkeypatch, DepthAnything3Depths(max_side_px=SIDE, points=20_000))
    errors = errors_of(made, depths)
    assert len(depths.points) > 5_000
    assert np.median(errors) < 0.005 and (errors < 0.02).mean() > 0.9
    assert np.mean([each.mean() for each in depths.agreed]) > 0.3
    assert len(network.groups) == 1 and sorted(network.groups[0]) == [0, 1, 2, 3, 4]
    only_scaled = DepthAnything3Depths(max_side_px=SIDE, points=20_000, correction=CorrectionOptions(degree=0))
    scaled, _ = computed(made, model, monkeypatch, only_scaled)
    assert np.median(errors_of(made, scaled)) > 2 * np.median(errors)


def test_photos_without_neighbours_or_points(
    photo_set: Callable[[str, int, int], PhotoSet], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A photo that no other overlaps is seen alone; without points in it, its scale is not known, nor is its depth."""
    made = photo_set("easy", 5, 320)
    model, _ = true_model(made)
    own = (model.obs_xy >= model.xy_start[1]) & (model.obs_xy < model.xy_start[2])
    lonely = replace(model, obs_xy=model.obs_xy[~own], obs_point=model.obs_point[~own])
    depths, network = computed(made, lonely, monkeypatch, DepthAnything3Depths(max_side_px=SIDE))
    assert [1] in network.groups
    assert not depths.maps[1].inverse.any() and depths.maps[0].inverse.any()


def test_groups_cover_every_photo_once() -> None:
    """A ring of twenty, each with its four nearest as sources: a fifth of the groups that one per photo would be."""
    sources = [np.array([(row + step) % 20 for step in (1, -1, 2, -2)]) for row in range(20)]
    groups = covering_groups(sources)
    given = [row for _, rows in groups for row in rows]
    assert sorted(given) == list(range(20))
    assert all(rows <= set(members) and members[0] in rows for members, rows in groups)
    assert sum(len(members) for members, _ in groups) <= 3 * 20


def test_a_network_with_made_up_weights_runs(
    photo_set: Callable[[str, int, int], PhotoSet], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of nonsense, too, depths are at the scale of the model."""
    made = photo_set("easy", 5, 320)
    model, photos = true_model(made)
    tiny = hashed_network("da3_tinyA", torch.float32)
    monkeypatch.setattr(da3, "shared_many_view", lambda *given: tiny)
    depths = DepthAnything3Depths(max_side_px=84)(model, photos, MACHINE)
    for row, estimate in enumerate(depths.maps):
        exact = true_depth(made, row, estimate.camera)
        known = (estimate.inverse > 0) & np.isfinite(exact)
        assert known.mean() > 0.5
        assert 0.4 < float(np.median(1.0 / estimate.inverse[known]) / np.median(exact[known])) < 2.5


def test_weights_of_another_family_are_refused(photo_set: Callable[[str, int, int], PhotoSet], tmp_path: Path) -> None:
    model, photos = true_model(photo_set("easy", 5, 320))
    (tmp_path / "other.safetensors").write_bytes(b"no parameters")
    plugin: Any = DepthAnything3Depths(weights=tmp_path / "other.safetensors")
    with pytest.raises(ConfigError, match=r"other\.safetensors"):
        plugin(model, photos, MACHINE)
