"""Gaussians in the world as flat Gaussians in an image."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..stereo.view import Pinhole
from .rasterise import rasterise
from .scene import SH_0

BLUR_PX2 = 0.3
"""Added to the variances in the image, as every program for splats does, so that none falls between pixels."""
NEAR = 0.01
"""Depth, over the median depth, in front of which a Gaussian is not drawn: its projection would cover everything."""
FRAME = 1.3
"""Gaussians whose mean is further from the axis than this times the image's half size bend too much to be flat."""


@dataclass(frozen=True, eq=False)
class Parameters:
    """The parameters of Gaussians as tensors, see `Gaussians`."""

    mean: Tensor
    log_scale: Tensor
    quaternion: Tensor
    logit: Tensor
    coefficient: Tensor

    def tensors(self) -> dict[str, Tensor]:
        return dict(vars(self))

    def rgb(self) -> Tensor:
        """(n, 3) colours, from 0 on."""
        return (0.5 + SH_0 * self.coefficient).clamp_min(0.0)


def rotations(quaternion: Tensor) -> Tensor:
    """(n, 3, 3) rotations of quaternions w x y z of any length."""
    w, x, y, z = (quaternion / quaternion.norm(dim=1, keepdim=True)).unbind(dim=1)
    rows = [
        *(1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        *(2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        *(2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    ]
    return torch.stack(rows, dim=1).reshape(-1, 3, 3)


def draw(parameters: Parameters, camera: Pinhole) -> tuple[Tensor, Tensor]:
    """Image (h, w, 3) of the Gaussians and its coverage (h, w).

    With the covariance C = M M^T, M = R S, and the derivative J of the projection at the mean, the covariance in the
    image is (J W M)(J W M)^T + blur, W being the rotation of the camera: a Gaussian stays one as far as the projection
    is linear across it.
    """
    pose = torch.tensor(camera.cam_from_world, dtype=parameters.mean.dtype)
    in_camera = parameters.mean @ pose[:, :3].T + pose[:, 3]
    with torch.no_grad():
        z = in_camera[:, 2]
        ahead = z > NEAR * z.abs().median()
        slope = in_camera[:, :2].abs() / z.clamp_min(1e-12)[:, None]
        widest = torch.tensor([camera.width / camera.fx, camera.height / camera.fy]) * (0.5 * FRAME)
        drawn = torch.nonzero(ahead & (slope < widest).all(dim=1))[:, 0]
    x, y, z = in_camera[drawn].unbind(dim=1)
    u, v = x / z, y / z
    fx, fy = camera.fx / z, camera.fy / z
    turn, scale = rotations(parameters.quaternion[drawn]), parameters.log_scale[drawn].exp()
    # Rows of J W, one vector per Gaussian; sums of products of columns are faster than many products of 3 x 3.
    along_x = fx[:, None] * (pose[0, :3] - u[:, None] * pose[2, :3])
    along_y = fy[:, None] * (pose[1, :3] - v[:, None] * pose[2, :3])
    across = (along_x[:, :, None] * turn).sum(dim=1) * scale
    down = (along_y[:, :, None] * turn).sum(dim=1) * scale
    xx = (across * across).sum(dim=1) + BLUR_PX2
    xy = (across * down).sum(dim=1)
    yy = (down * down).sum(dim=1) + BLUR_PX2
    conic = torch.stack([yy, -xy, xx], dim=1) / (xx * yy - xy * xy)[:, None]
    mean = torch.stack([camera.fx * u + camera.cx, camera.fy * v + camera.cy], dim=1)
    opacity, rgb = torch.sigmoid(parameters.logit[drawn]), parameters.rgb()[drawn]
    return rasterise(mean, conic, opacity, rgb, z, camera.width, camera.height)
