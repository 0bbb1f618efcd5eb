"""Encodings of cameras as nine numbers, and the networks that read and write them.

An encoding is [translation, quaternion (x, y, z, w), field of view along y, along x in radians]. Which way the pose
leads differs by family: from the camera to the world in Depth Anything 3, from the world to the camera in VGGT.

Modules have the names of the published parameters.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..mast3r.heads import ImageSize
from ..transformer import Mlp
from .vit import ViewBlock

ENCODING = 9
MIN_TANGENT = 1e-6
"""Of half a field of view, so that one of zero gives no infinite focal length."""
MIN_DISTANCE = 0.1
"""Least unit, in that of given poses, that these are scaled to: photos from one place have no size."""
_TRUNK_EPS = 1e-5


def rotation_of_quaternion(q: Tensor) -> Tensor:
    """Rotations (..., 3, 3) of quaternions (..., 4) in the order x, y, z, w, which need not have unit length."""
    x, y, z, w = q.unbind(-1)
    s = 2.0 / (q * q).sum(-1)
    rows = (
        (1 - s * (y * y + z * z), s * (x * y - z * w), s * (x * z + y * w)),
        (s * (x * y + z * w), 1 - s * (x * x + z * z), s * (y * z - x * w)),
        (s * (x * z - y * w), s * (y * z + x * w), 1 - s * (x * x + y * y)),
    )
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def quaternion_of_rotation(rotation: Tensor) -> Tensor:
    """Quaternions (..., 4), x, y, z, w with w >= 0, of rotations (..., 3, 3).

    Each of the four columns of q q^T follows from the rotation; the one with the largest diagonal is the most accurate.
    """
    r = rotation
    x, y, z = r[..., 0, 0], r[..., 1, 1], r[..., 2, 2]
    xy, xz, yz = r[..., 0, 1] + r[..., 1, 0], r[..., 0, 2] + r[..., 2, 0], r[..., 1, 2] + r[..., 2, 1]
    xw, yw, zw = r[..., 2, 1] - r[..., 1, 2], r[..., 0, 2] - r[..., 2, 0], r[..., 1, 0] - r[..., 0, 1]
    outer = torch.stack(
        [
            torch.stack([1 + x - y - z, xy, xz, xw], dim=-1),
            torch.stack([xy, 1 - x + y - z, yz, yw], dim=-1),
            torch.stack([xz, yz, 1 - x - y + z, zw], dim=-1),
            torch.stack([xw, yw, zw, 1 + x + y + z], dim=-1),
        ],
        dim=-2,
    )
    best = outer.diagonal(dim1=-2, dim2=-1).argmax(-1)
    column = outer.gather(-2, best[..., None, None].expand(*best.shape, 1, 4)).squeeze(-2)
    column = torch.where(column[..., 3:] < 0, -column, column)
    return F.normalize(column, dim=-1)


def inverse_pose(pose: Tensor) -> Tensor:
    """Inverses (..., 3, 4) of rigid motions (..., 3, 4)."""
    turned = pose[..., :3].transpose(-1, -2)
    return torch.cat([turned, -turned @ pose[..., 3:]], dim=-1)


def decode_camera(encoding: Tensor, size: ImageSize, *, clamped: bool) -> tuple[Tensor, Tensor]:
    """The pose (..., 3, 4) as encoded, and the focal lengths (..., 2) along x and y in pixels of images of this size.

    The principal point is the middle of the image. `clamped`: see MIN_TANGENT.
    """
    pose = torch.cat([rotation_of_quaternion(encoding[..., 3:7]), encoding[..., :3, None]], dim=-1)
    tangent = torch.tan(encoding[..., 7:9].flip(-1) / 2.0)
    half = encoding.new_tensor([size[1] / 2.0, size[0] / 2.0])
    return pose, half / (tangent.clamp(min=MIN_TANGENT) if clamped else tangent)


def encode_camera(pose: Tensor, focal_px: Tensor, size: ImageSize) -> Tensor:
    """Encoding (..., 9) of poses (..., 3, 4) and focal lengths (..., 2) along x and y in pixels of the image."""
    half = pose.new_tensor([size[1] / 2.0, size[0] / 2.0])
    field = 2.0 * torch.atan(half / focal_px)
    return torch.cat([pose[..., 3], quaternion_of_rotation(pose[..., :3]), field.flip(-1)], dim=-1)


def normalize_poses(cam_from_world: Tensor) -> Tensor:
    """Poses (..., views, 3, 4) with the first at the identity, and the median distance of the others from it as unit.

    The median of an even number is the smaller of the middle two.
    """
    first = inverse_pose(cam_from_world[..., :1, :, :])
    turned = cam_from_world[..., :3] @ first[..., :3]
    moved = cam_from_world[..., :3] @ first[..., 3:] + cam_from_world[..., 3:]
    distance = torch.linalg.vector_norm(moved[..., 0], dim=-1).median(dim=-1).values
    return torch.cat([turned, moved / distance.clamp(min=MIN_DISTANCE)[..., None, None, None]], dim=-1)


class CameraDecoder(nn.Module):
    """Camera token of a view to the encoding of its camera; `cam_dec` of Depth Anything 3."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        self.fc_t = nn.Linear(width, 3)
        self.fc_qvec = nn.Linear(width, 4)
        self.fc_fov = nn.Sequential(nn.Linear(width, 2), nn.ReLU())

    def forward(self, token: Tensor) -> Tensor:
        x = self.backbone(token)
        return torch.cat([self.fc_t(x), self.fc_qvec(x), self.fc_fov(x)], dim=-1)


class CameraEncoder(nn.Module):
    """Encodings of given cameras to their tokens, which attend to each other; `cam_enc` of Depth Anything 3."""

    def __init__(self, width: int, blocks: int, heads: int) -> None:
        super().__init__()
        self.trunk = nn.Sequential(*(ViewBlock(width, heads, _TRUNK_EPS) for _ in range(blocks)))
        self.token_norm = nn.LayerNorm(width)
        self.trunk_norm = nn.LayerNorm(width)
        self.pose_branch = Mlp(ENCODING, width // 2, width)

    def forward(self, encoding: Tensor) -> Tensor:
        out: Tensor = self.trunk_norm(self.trunk(self.token_norm(self.pose_branch(encoding))))
        return out


class CameraRefiner(nn.Module):
    """Camera tokens of all views to encodings, corrected in rounds; `camera_head` of VGGT."""

    def __init__(self, width: int, blocks: int, heads: int, rounds: int) -> None:
        super().__init__()
        self.rounds = rounds
        self.empty_pose_tokens = nn.Parameter(torch.zeros(1, 1, ENCODING))
        self.trunk = nn.Sequential(*(ViewBlock(width, heads, _TRUNK_EPS) for _ in range(blocks)))
        self.token_norm = nn.LayerNorm(width)
        self.trunk_norm = nn.LayerNorm(width)
        self.embed_pose = nn.Linear(ENCODING, width)
        self.poseLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 3 * width))
        self.pose_branch = Mlp(width, width // 2, ENCODING)

    def forward(self, tokens: Tensor) -> list[Tensor]:
        """Encodings (b, views, 9) after each round from tokens (b, views, width)."""
        token = self.token_norm(tokens)
        plain = F.layer_norm(token, token.shape[-1:], eps=1e-6)
        encoding, rounds = self.empty_pose_tokens.expand(*tokens.shape[:2], -1), []
        for turn in range(self.rounds):
            shift, scale, gate = self.poseLN_modulation(self.embed_pose(encoding)).chunk(3, dim=-1)
            x = gate * (plain * (1 + scale) + shift) + token
            change = self.pose_branch(self.trunk_norm(self.trunk(x)))
            encoding = change if turn == 0 else encoding + change
            rounds.append(torch.cat([encoding[..., :7], F.relu(encoding[..., 7:])], dim=-1))
        return rounds
