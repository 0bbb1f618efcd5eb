"""Depth Anything 3: one image encoder whose later layers look at one view and at all views in turns.

Modules have the names of the published parameters.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from ..mast3r.heads import ImageSize
from .cameras import CameraDecoder, CameraEncoder, decode_camera, encode_camera, inverse_pose
from .config import PATCH_PX, Da3Config
from .heads import DptHead, exp_depth, few_views
from .prediction import GroupPrediction
from .rays import cameras_from_rays
from .vit import ImageEncoder, WithTransformer, of_all_views, view_rotation

ReferenceRule = Literal["first", "middle", "saddle_balanced"]
"""Which view the others refer to. saddle_balanced, the one that the networks come with: the view whose class token is
the most ordinary in similarity to the others, norm and variance. Two views refer to the first in any case. (A fourth
rule of the published program, the largest range of similarities, always gives a tie of two, which rounding decides.)"""

SKY = 0.3
"""Value of the sky branch from which on a pixel is sky."""
_SKY_QUANTILE, _MIN_SKY_PIXELS = 0.99, 10


class ViewFeatures(NamedTuple):
    """What the encoder gives for b groups of s views."""

    levels: list[Tensor]
    """Four of (b s, patches, channels), for the heads."""
    camera: Tensor | None
    """(b, s, channels) camera tokens; None where one view is seen at a time."""
    reference: Tensor
    """(b,) the view that the others refer to."""


class GivenCameras(NamedTuple):
    """Cameras that are known."""

    cam_from_world: Tensor
    """(b, s, 3, 4), as `normalize_poses` gives them."""
    focal_px: Tensor
    """(b, s, 2) along x and y, in pixels of the images."""


class AlternatingEncoder(nn.Module):
    """`backbone.pretrained` of published files."""

    def __init__(self, config: Da3Config) -> None:
        super().__init__()
        self.config = config
        self.pretrained = ImageEncoder(config.encoder, "by factor", config.alternate_from)
        if config.alternate_from is not None:
            self.pretrained.camera_token = nn.Parameter(torch.zeros(1, 2, config.encoder.stack.width))

    def forward(self, images: Tensor, reference: ReferenceRule | int, camera_tokens: Tensor | None) -> ViewFeatures:
        """Features of images (b, s, 3, h, w), in their order, with the tokens (b, s, width) of known cameras."""
        net, config, (b, s) = self.pretrained, self.config, images.shape[:2]
        x = net.embed(images.flatten(0, 1))
        tokens, alternate, stack = x.shape[1], config.alternate_from, config.encoder.stack
        rows, columns = images.shape[3] // PATCH_PX, images.shape[4] // PATCH_PX
        here = view_rotation(rows, columns, 1, stack.width // stack.heads, x.device)
        # Attention to all views does not know where in its image a patch is.
        there = view_rotation(rows, columns, 1, stack.width // stack.heads, x.device, places=False)
        everywhere = of_all_views(there, s)
        chosen = torch.zeros(b, dtype=torch.int64, device=x.device)
        back: Tensor | None = None
        local, taken = x, []
        for layer, block in enumerate(net.blocks):
            if alternate is not None and layer == alternate - 1 and camera_tokens is None and s > 2:
                chosen = reference_views(x.view(b, s, tokens, -1)[:, :, 0], reference)
                order = _front(chosen, s)
                back = order.argsort(dim=1)
                x = _reordered(x, order)
            if layer == alternate:
                x = self._with_cameras(x, b, s, camera_tokens)
            if alternate is not None and layer >= alternate and layer % 2:
                x = block(x.reshape(b, s * tokens, -1), everywhere).view(b * s, tokens, -1)
            else:
                x = local = block(x, here if alternate is not None and layer >= alternate else None)
            if layer in config.levels_read:
                taken.append((local, x) if back is None else (_reordered(local, back), _reordered(x, back)))
        if alternate is None:
            return ViewFeatures([net.norm(own)[:, 1:] for _, own in taken], None, chosen)
        levels = [torch.cat([seen, net.norm(own)], dim=-1)[:, 1:] for seen, own in taken]
        camera = torch.cat(taken[-1], dim=-1)[:, 0].view(b, s, -1)
        return ViewFeatures(levels, camera, chosen)

    def _with_cameras(self, x: Tensor, b: int, s: int, given: Tensor | None) -> Tensor:
        """The tokens with camera tokens in place of class tokens."""
        if given is None:
            learned = self.pretrained.camera_token
            assert isinstance(learned, Tensor)
            given = torch.cat([learned[:, :1], learned[:, 1:].expand(-1, s - 1, -1)], dim=1).expand(b, -1, -1)
        return torch.cat([given.reshape(b * s, 1, -1).to(x.dtype), x[:, 1:]], dim=1)


def reference_views(tokens: Tensor, rule: ReferenceRule | int) -> Tensor:
    """(b,) the view that the others refer to, from class tokens (b, s, width); a number is that of the view."""
    b, s, _ = tokens.shape
    if rule != "saddle_balanced":
        view = rule if isinstance(rule, int) else s // 2 if rule == "middle" else 0
        return torch.full((b,), view, dtype=torch.int64, device=tokens.device)
    norm = torch.linalg.vector_norm(tokens, dim=-1)
    unit = tokens / norm[..., None]
    similarity = unit @ unit.transpose(1, 2)
    figures = torch.stack([(similarity.sum(-1) - 1) / (s - 1), norm, unit.var(-1)], dim=-1)
    low, high = figures.amin(1, keepdim=True), figures.amax(1, keepdim=True)
    return ((figures - low) / (high - low + 1e-8) - 0.5).abs().sum(-1).argmin(-1)


def _front(chosen: Tensor, s: int) -> Tensor:
    """(b, s) order of the views with the chosen one first."""
    views = torch.arange(s, device=chosen.device).expand(len(chosen), s)
    return torch.where(views == chosen[:, None], -1, views).argsort(dim=1)


def _reordered(x: Tensor, order: Tensor) -> Tensor:
    """Tokens (b s, n, c) with the views of each group in this order (b, s)."""
    b, s = order.shape
    return x[(order + s * torch.arange(b, device=order.device)[:, None]).flatten()]


class Da3Network(WithTransformer):
    """Encoder, heads of depth and rays, and camera decoder and encoder."""

    def __init__(self, config: Da3Config) -> None:
        super().__init__()
        if config.alternate_from is None:
            raise ValueError("a network for one view at a time is a Da3DepthNetwork")
        self.config = config
        width = config.encoder.stack.width
        self.backbone = AlternatingEncoder(config)
        self.head = DptHead(2 * width, config.dpt, 2, rays=True)
        self.cam_dec = CameraDecoder(2 * width)
        self.cam_enc = CameraEncoder(width, config.camera_blocks, config.camera_heads)

    def features(
        self, images: Tensor, reference: ReferenceRule | int = "saddle_balanced", given: GivenCameras | None = None
    ) -> ViewFeatures:
        """Features of normalised images (b, s, 3, h, w)."""
        tokens = None if given is None else self.camera_tokens(given, _size(images))
        with self.products():
            out: ViewFeatures = self.backbone(images, reference, tokens)
        return out

    def camera_tokens(self, given: GivenCameras, size: ImageSize) -> Tensor:
        """Tokens (b, s, width) of known cameras."""
        with self.exact():
            out: Tensor = self.cam_enc(encode_camera(inverse_pose(given.cam_from_world), given.focal_px, size))
        return out

    def depth(self, features: ViewFeatures, size: ImageSize) -> tuple[Tensor, Tensor]:
        """Depth and confidence (b s, height, width)."""
        with self.heads():
            return exp_depth(self.head.outputs(features.levels, size))

    def rays(self, features: ViewFeatures, size: ImageSize) -> tuple[Tensor, Tensor]:
        """Rays (b s, h, w, 6), direction and centre, and their confidence (b s, h, w), for cells of 14/8 pixels."""
        with self.heads():
            raw = torch.cat([self.head.rays(self.head.maps(some, size), size) for some in few_views(features.levels)])
        return raw[:, :6].movedim(1, -1), raw[:, 6].exp() + 1.0

    @torch.inference_mode()
    def forward(
        self,
        images: Tensor,
        *,
        reference: ReferenceRule | int = "saddle_balanced",
        given: GivenCameras | None = None,
        from_rays: bool = False,
    ) -> GroupPrediction:
        """Predict from normalised images (b, s, 3, h, w); with `from_rays` cameras are fitted to predicted rays."""
        (b, s), size = images.shape[:2], _size(images)
        features = self.features(images, reference, given)
        depth, confidence = self.depth(features, size)
        maps = depth.view(b, s, *size), confidence.view(b, s, *size)
        if from_rays:
            cameras = cameras_from_rays(*self.rays(features, size))
            half = cameras.focal.new_tensor([size[1] / 2.0, size[0] / 2.0])
            pose = inverse_pose(cameras.world_from_cam).view(b, s, 3, 4)
            return GroupPrediction(
                *maps, pose, (cameras.focal * half).view(b, s, 2), (cameras.principal * half).view(b, s, 2)
            )
        assert features.camera is not None
        with self.exact():
            pose, focal = decode_camera(self.cam_dec(features.camera), size, clamped=True)
        return GroupPrediction(*maps, inverse_pose(pose), focal)


class Da3DepthNetwork(WithTransformer):
    """Depth and sky of one view at a time: DA3-Metric, whose depth is metres times 300 over the focal length in
    pixels, and DA3-Mono."""

    def __init__(self, config: Da3Config) -> None:
        super().__init__()
        self.config = config
        self.backbone = AlternatingEncoder(config)
        self.head = DptHead(config.encoder.stack.width, config.dpt, 1, positions=False, sky=True)

    @torch.inference_mode()
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Depth and sky (n, height, width) of normalised images (n, 3, h, w); sky is as far as 99 % of the rest."""
        size = _size(images)
        parts = []
        for view in range(len(images)):
            with self.products():
                levels = self.backbone(images[None, view : view + 1], "first", None).levels
            with self.heads():
                shared = self.head.features(self.head.maps(levels, size))
                depth = self.head.output(shared, size)[:, 0].exp()
                sky = self.head.output(shared, size, self.head.scratch.sky_output_conv2)[:, 0].relu()
            parts.append((depth, sky))
        depth, sky = (torch.cat(each) for each in zip(*parts, strict=True))
        return sky_far_away(depth, sky), sky


def sky_far_away(depth: Tensor, sky: Tensor) -> Tensor:
    """Depth (n, h, w) with a large value for sky, where there is enough of both."""
    is_sky = sky >= SKY
    if is_sky.sum() <= _MIN_SKY_PIXELS or (~is_sky).sum() <= _MIN_SKY_PIXELS:
        return depth
    far = depth[~is_sky]
    step = -(-far.numel() // 100_000)  # torch.quantile takes no more than 16 million
    return torch.where(is_sky, torch.quantile(far[::step], _SKY_QUANTILE), depth)


def _size(images: Tensor) -> ImageSize:
    return images.shape[-2], images.shape[-1]
