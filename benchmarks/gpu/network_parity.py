"""Cases of part a: networks of many views, and those of kornia, against float64 on the CPU, with made-up parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unposed.gpu_check import DTYPES, ERROR_LIMITS, knows, relative_error, smooth_images
from unposed.networks.manyview.checkpoint import ManyViewNetwork, build_many_view, fill_network
from unposed.networks.manyview.config import EncoderConfig, ManyViewConfig, Pi3Config, VggtConfig
from unposed.networks.manyview.da3 import Da3Network
from unposed.networks.manyview.local_points import focals_from_local_points
from unposed.networks.manyview.overlap import view_overlap
from unposed.networks.manyview.pi3 import Pi3Network
from unposed.networks.manyview.prediction import GroupPrediction
from unposed.networks.manyview.rays import cameras_from_rays
from unposed.networks.mast3r.config import DptConfig, StackConfig
from unposed.networks.precision import forbid_tf32

from .networks import SMALL_DA3
from .setting import Absent, Case, Finding, Setting, needs

_ENCODER = EncoderConfig(StackConfig(64, 3, 2), registers=4, grid=5)
NETWORKS: Mapping[str, ManyViewConfig] = {
    "Depth Anything 3": SMALL_DA3,
    "VGGT": VggtConfig(_ENCODER, StackConfig(64, 6, 2), (1, 2, 4, 5), DptConfig((8, 12, 16, 24), 16, 32)),
    "Pi3": Pi3Config(_ENCODER, StackConfig(64, 6, 2), camera_width=24),
}
VIEWS, SIZE = 6, (84, 112)
"""More views than a GPU takes at once in the heads."""
CAMERA_LIMIT = 1e-3
"""A sample at the edge of another view may be seen by one and not by the other; all else is float64."""
HALF_ATTENTION_LIMIT = 2e-2
"""Of LightGlue, which rounds queries, keys and values to float16 on a GPU."""


def cases(setting: Setting) -> Iterator[Case]:
    """Networks of many views, then those of key points."""
    for name in NETWORKS:
        for precision in ("float32", "bfloat16"):
            yield f"{name}, small, {precision}", partial(_group, setting, name, precision)
    yield "cameras of rays and points", partial(_cameras, setting)
    for name, measure in (("DISK", _disk), ("XFeat", _xfeat), ("LoFTR", _loftr), ("LightGlue", _lightglue)):
        yield name, partial(_kornia, setting, name, measure)


def _group(setting: Setting, name: str, precision: str) -> Finding:
    if not knows(setting.device, precision):
        raise Absent(f"not run: this device has no {precision}")
    wanted, found = _exact(name), _said(name, setting.device, precision)
    errors = {each: relative_error(found[each], value) for each, value in wanted.items()}
    limit = ERROR_LIMITS[precision]
    return Finding(errors, {"limit": limit}, all(error < limit for error in errors.values()))


@cache
def _exact(name: str) -> dict[str, Tensor]:
    return _said(name, torch.device("cpu"), "float64")


def _said(name: str, device: torch.device, precision: str) -> dict[str, Tensor]:
    """What a network says of a group. Cameras are not fitted to its rays and points, which with made-up parameters are
    those of no camera: small errors would become large ones."""
    network = _network(NETWORKS[name], device, precision)
    images = smooth_images(VIEWS, SIZE)[None].to(device, torch.float64 if precision == "float64" else torch.float32)
    with torch.inference_mode():
        if isinstance(network, Pi3Network):
            return network.points(images)._asdict()
        seen = network(images)
        # Of depth its variation; its mean is that of a bias.
        said = {"depth": seen.depth.log(), "cameras": seen.cam_from_world, "focal length": seen.focal_px}
        if isinstance(network, Da3Network):
            said["rays"], _ = network.rays(network.features(images), SIZE)
    return said


def _cameras(setting: Setting) -> Finding:
    """Of rays and of points that a camera may have, with noise, and how much views of them overlap."""
    here, there = (_fitted(place) for place in (torch.device("cpu"), setting.device))
    errors = {each: relative_error(there[each], value) for each, value in here.items()}
    return Finding(errors, {"limit": CAMERA_LIMIT}, all(error < CAMERA_LIMIT for error in errors.values()))


def _fitted(device: torch.device) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(0)
    height, width = SIZE
    y, x = torch.meshgrid(*((torch.arange(side) + 0.5) / side * 2.0 - 1.0 for side in SIZE), indexing="ij")
    depth = 2.0 + 0.5 * torch.sin(3.0 * x) * torch.cos(2.0 * y)
    directions = torch.stack([0.6 * x, 0.45 * y, torch.ones_like(x)], dim=-1)
    noise = 0.003 * torch.randn(VIEWS, height, width, 3, generator=random)
    rays = torch.cat([directions + noise, torch.full_like(noise, 0.3)], dim=-1).to(device)
    points = (depth[..., None] * directions + noise).to(device)
    sure = torch.rand(VIEWS, height, width, generator=random).to(device)
    by_rays = cameras_from_rays(rays, sure)
    focal, _ = focals_from_local_points(points, sure)
    pose = torch.eye(3, 4).repeat(VIEWS, 1, 1)
    pose[:, 0, 3] = -0.2 * torch.arange(VIEWS)
    both = torch.tensor([width / 1.2, height / 0.9]).expand(1, VIEWS, 2)
    seen = GroupPrediction(points[None, ..., 2], sure[None], pose[None].to(device), both.to(device))
    cameras = {"rays": by_rays.world_from_cam, "focal length of rays": by_rays.focal, "of points": focal}
    return cameras | {"overlap": view_overlap(seen, 7, 4.0)}


def _network(config: ManyViewConfig, device: torch.device, precision: str) -> ManyViewNetwork:
    """With random parameters, the same on all devices."""
    torch.manual_seed(0)
    state = {name: _lively(name, value) for name, value in build_many_view(config).state_dict().items()}
    with torch.device("meta"):
        network = build_many_view(config)
    assert isinstance(network, ManyViewNetwork)
    return fill_network(network, state, Path("made-up parameters"), device, DTYPES[precision])


def _lively(name: str, value: Tensor) -> Tensor:
    """A parameter with which what comes out changes with what goes in, and fields of view are positive."""
    if name.endswith(("fc_fov.0.bias", "pose_branch.fc2.bias")):
        return value + 1.0
    if value.ndim == 1:
        return value
    return 3.0**0.5 * value if value.any() else 0.5 * torch.randn(value.shape)


def _kornia(setting: Setting, name: str, measure: Callable[[torch.device], list[Tensor]]) -> Finding:
    needs("kornia")
    forbid_tf32(setting.device)
    with torch.inference_mode():
        here, there = measure(torch.device("cpu")), measure(setting.device)
    error = max(relative_error(found, wanted) for found, wanted in zip(there, here, strict=True))
    limit = HALF_ATTENTION_LIMIT if name == "LightGlue" else ERROR_LIMITS["float32"]
    return Finding({"largest": error}, {"limit": limit}, error < limit)


def _made(make: Callable[[], Any], device: torch.device) -> Any:
    torch.manual_seed(0)
    return make().eval().to(device)


def _disk(device: torch.device) -> list[Tensor]:
    from kornia.feature import DISK

    images = (smooth_images(1, (96, 128)).to(device) + 1.0) / 2.0
    return list(_made(DISK, device).heatmap_and_dense_descriptors(images))


def _xfeat(device: torch.device) -> list[Tensor]:
    from kornia.feature import XFeat

    return list(_made(XFeat, device).net((smooth_images(1, (96, 128)).to(device) + 1.0) / 2.0))


def _loftr(device: torch.device) -> list[Tensor]:
    from kornia.feature import LoFTR

    grey = (smooth_images(1, (96, 128)).mean(dim=1, keepdim=True).to(device) + 1.0) / 2.0
    return list(_made(lambda: LoFTR(None), device).extract_features(grey).values())


def _lightglue(device: torch.device) -> list[Tensor]:
    from kornia.feature import LightGlue

    settings = {**LightGlue.features["aliked"], "weights": None, "filter_threshold": 0.0, "depth_confidence": -1}
    network = _made(lambda: LightGlue(None, **settings, width_confidence=-1), device)
    random = torch.Generator().manual_seed(0)
    sides = {
        f"image{side}": {
            "keypoints": (500.0 * torch.rand(1, 200, 2, generator=random)).to(device),
            "descriptors": torch.nn.functional.normalize(torch.randn(1, 200, 128, generator=random), dim=2).to(device),
            "image_size": torch.tensor([[500.0, 500.0]], device=device),
        }
        for side in (0, 1)
    }
    return [network(sides)["matching_scores0"]]
