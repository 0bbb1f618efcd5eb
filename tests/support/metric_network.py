"""A stand-in of DA3-Metric that knows a rendered scene up to smooth errors."""

from __future__ import annotations

import numpy as np
import torch
from finished import true_model
from torch import Tensor, nn

from unposed.plugins.metric import da3
from unposed.plugins.metric.da3 import DepthAnything3Metric
from unposed.plugins.shared.pinhole_images import pinhole_camera, undistorted_rgb
from unposed.synthetic.camera import project_points
from unposed.synthetic.photos import PhotoSet
from unposed.synthetic.render import cast

METRES = 2.5
"""Of a unit of the rendered world, as the network sees it."""
SIDE = 280


class MetricNetwork(nn.Module):
    """Depth of the rendered scene in metres at a focal length of 300 pixels, off by a smooth 3 %, and by a factor of
    three in one photo, as in front of a poster; the upper tenth is sky."""

    def __init__(self, made: PhotoSet, wrong: dict[int, float]) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))
        self.made, self.wrong = made, wrong
        model, photos = true_model(made)
        plugin = DepthAnything3Metric()
        self.cameras, self.images = [], []
        for row, index in enumerate(model.photos.tolist()):
            lens = pinhole_camera(model.cameras[model.camera_of_photo[row]], SIDE, 14, plugin.undistortion)
            self.cameras.append(lens.posed(model.cam_from_world[row]))
            self.images.append(da3.normalised([[undistorted_rgb(photos[index], lens)]])[0, 0])

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        assert images.shape[0] == 1 and images.shape[2] % 14 == 0 and images.shape[3] % 14 == 0
        row = int(np.argmin([float((each - images[0]).abs().mean()) for each in self.images]))
        camera = self.cameras[row]
        shot = sorted(self.made.scene.shots, key=lambda each: each.name)[row]
        line, column = np.mgrid[: camera.height, : camera.width]
        xy = np.stack([column.ravel(), line.ravel()], axis=1) + 0.5
        on_rays = camera.unproject(xy, np.ones(len(xy)))
        exact = cast(self.made.scene.world, shot, project_points(shot, on_rays)[0]).reshape(line.shape)
        smooth = 0.03 * np.sin(2.0 * column / camera.width + row) - 0.03 * np.cos(1.5 * line / camera.height + 2 * row)
        metres = exact * np.exp(smooth) * METRES * self.wrong.get(row, 1.0)
        sky = np.where(line < camera.height / 10, 1.0, 0.0)
        return torch.tensor(metres * 300.0 / camera.fx)[None], torch.tensor(sky)[None]
