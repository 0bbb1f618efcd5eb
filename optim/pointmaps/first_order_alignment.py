"""The first-order alignment of MASt3R-SfM, kept as the yardstick for the second-order one.

Every photo has a pose relative to its parent in a tree, a size, a focal length, a principal point and depths at the
anchors of a grid. Adam moves them: first so that matched points meet in space, then so that they meet in the photos.
Nothing here rejects an outlier, builds a track or knows when it has converged.

All matches of all pairs are handled together, so an iteration is a few dozen tensor operations, whatever the number of
photos. float32, as published: the results are compared with those.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from ..arrays import AnyArray, Index
from .kinematic_tree import Tree

_MIN_DEPTH = 1e-3
"""Points nearer to a camera, or behind it, are projected as if they were so near."""

_PIXEL_RANGE = (-1000.0, 2000.0)
"""Projections outside pull no further."""

_FOCAL_RANGE = (0.25, 10.0)
"""By the photo's diagonal."""


@dataclass(frozen=True, eq=False)
class AnchoredMatches:
    """Photos and matches as the aligner wants them. A matched pixel hangs on an anchor; both are an anchored point."""

    size: Index
    """(n, 2) width and height."""
    focal_px: AnyArray
    """(n,) under which the depths were found."""
    confidence: AnyArray
    """(n,) mean confidence of a photo's depths; only weighs the photos where all share their intrinsics."""
    depth: AnyArray
    """(d,) depth at the anchors, photo after photo."""
    depth_start: Index
    """(n + 1,)."""
    photo: Index
    """(a,) of each anchored point."""
    xy: AnyArray
    """(a, 2) pixels, the centre of the first one is (0, 0)."""
    anchor: Index
    """(a,) row of `depth`."""
    offset: AnyArray
    """(a,) depth of the pixel by that of its anchor."""
    row_a: Index
    row_b: Index
    weight: AnyArray
    """(m,) matches: two anchored points and how much they count."""
    seen_from: Index
    seen_row: Index
    seen: AnyArray
    seen_weight: AnyArray
    """(k,) for pairs without dependable matches: anchored points as the network saw them from another photo, (k, 3)
    in its frame."""


@dataclass(frozen=True)
class AdamPhase:
    """One run of Adam."""

    target: Literal["space", "photos"]
    gamma: float
    rate: float
    iterations: int = 300
    focal: bool = False
    principal: bool = False
    depth: bool = False


COARSE_PHASE = AdamPhase("space", 1.5, 0.07)
FINE_PHASE = AdamPhase("photos", 0.5, 0.01, focal=True, principal=True, depth=True)

SEEN_SHARE = 0.01
SEEN_GAMMA = 1.1
"""How much, and by which power, the points count that another photo's prediction gives."""


@dataclass(frozen=True, eq=False)
class FirstOrderAlignment:
    focal_px: AnyArray
    principal_px: AnyArray
    world_from_cam: AnyArray
    """(n, 4, 4)."""
    depth: AnyArray
    """(d,) at the anchors."""
    points: AnyArray
    """(a, 3) anchored points in the world."""
    losses: AnyArray
    """One per iteration, phases after each other, before its step."""


@dataclass(frozen=True, eq=False)
class AlignmentParameters:
    """The parameters, as published: what Adam makes of them depends on how they are put."""

    rotation: Tensor
    """(n, 4) quaternion x, y, z, w, relative to the parent."""
    translation: Tensor
    log_size: Tensor
    log_focal: Tensor
    """(n,), or (1,) where all photos share it; so is the next."""
    principal: Tensor
    """(n, 2) by the photo's size."""
    depth: Tensor
    """(d,) by the median depth of the photo."""

    def tensors(self, phase: AdamPhase) -> list[Tensor]:
        """Those that move."""
        moving = [self.rotation, self.translation, self.log_size]
        chosen = ((phase.focal, self.log_focal), (phase.principal, self.principal), (phase.depth, self.depth))
        return moving + [tensor for wanted, tensor in chosen if wanted]


def align_first_order(
    matched: AnchoredMatches,
    tree: Tree,
    phases: tuple[AdamPhase, ...] = (COARSE_PHASE, FINE_PHASE),
    *,
    shared: bool = False,
) -> FirstOrderAlignment:
    """Runs the phases one after another. `shared`: one focal length and principal point for all photos."""
    problem = FirstOrderProblem(matched, tree)
    state = problem.start(shared)
    losses: list[float] = []
    for phase in phases:
        state, curve = run_adam(problem, state, phase)
        losses += curve
    return alignment_result(problem, state, losses)


def alignment_result(
    problem: FirstOrderProblem, state: AlignmentParameters, losses: list[float]
) -> FirstOrderAlignment:
    """What a state means."""
    with torch.no_grad():
        view = problem.view(state)
        points = problem.points(view)
    n = len(view.rotation)
    bottom = np.broadcast_to([0.0, 0.0, 0.0, 1.0], (n, 1, 4))
    return FirstOrderAlignment(
        focal_px=view.focal.numpy(),
        principal_px=view.principal.numpy(),
        world_from_cam=np.concatenate([torch.cat([view.rotation, view.centre[:, :, None]], 2).numpy(), bottom], 1),
        depth=view.depth.numpy(),
        points=points.numpy(),
        losses=np.array(losses),
    )


def run_adam(
    problem: FirstOrderProblem, state: AlignmentParameters, phase: AdamPhase
) -> tuple[AlignmentParameters, list[float]]:
    """The state at the beginning of the last iteration, which is what the published code hands out, and the losses."""
    state = AlignmentParameters(
        *(getattr(state, name).detach().clone() for name in AlignmentParameters.__dataclass_fields__)
    )
    moving = [tensor.requires_grad_() for tensor in state.tensors(phase)]
    adam = torch.optim.Adam(moving, lr=1.0, betas=(0.9, 0.9))
    losses: list[float] = []
    before = state
    for iteration in range(phase.iterations):
        adam.param_groups[0]["lr"] = cosine_rate(phase.rate, iteration / phase.iterations)
        adam.zero_grad()
        loss = problem.loss(state, phase)
        losses.append(float(loss.detach()))
        if not math.isfinite(losses[-1]):
            break
        if iteration == phase.iterations - 1:
            before = AlignmentParameters(
                *(getattr(state, name).detach().clone() for name in AlignmentParameters.__dataclass_fields__)
            )
        loss.backward()  # type: ignore[no-untyped-call]
        adam.step()
        with torch.no_grad():
            state.rotation.div_(state.rotation.norm(dim=1, keepdim=True))
    return before, losses


def cosine_rate(rate: float, progress: float) -> float:
    """Learning rate after a share of the iterations."""
    return rate * (1.0 + math.cos(math.pi * progress)) / 2.0


def power_loss(distance: Tensor, gamma: float) -> Tensor:
    """Grows like a power of the distance, but with slope 1 at zero."""
    if gamma == 1.0:
        return distance
    shift = (1.0 / gamma) ** (1.0 / (gamma - 1.0))
    grown: Tensor = (distance + shift) ** gamma - shift**gamma
    return grown


class CameraTensors(NamedTuple):
    """What the parameters mean: cameras in the world, and depths."""

    focal: Tensor
    principal: Tensor
    rotation: Tensor
    """(n, 3, 3) world from camera."""
    centre: Tensor
    depth: Tensor


class FirstOrderProblem:
    """The matches as tensors, and the two losses over them."""

    def __init__(self, matched: AnchoredMatches, tree: Tree) -> None:
        def tensor(values: AnyArray | Index) -> Tensor:
            return torch.from_numpy(np.array(values, np.float32))

        def index(values: Index) -> Tensor:
            return torch.from_numpy(np.array(values, np.int64))

        self.size, self.start_focal = tensor(matched.size), tensor(matched.focal_px)
        self.confidence = tensor(matched.confidence)
        counts = np.diff(matched.depth_start)
        self.photo_of_depth = index(np.repeat(np.arange(len(counts)), counts))
        bounds = zip(matched.depth_start[:-1], matched.depth_start[1:], strict=True)
        raw = tensor(matched.depth)
        self.median = torch.stack([raw[int(begin) : int(end)].median() for begin, end in bounds])
        self.start_depth = raw / self.median[self.photo_of_depth]
        self.photo, self.xy = index(matched.photo), tensor(matched.xy)
        self.anchor, self.offset = index(matched.anchor), tensor(matched.offset)
        self.row_a, self.row_b = index(matched.row_a), index(matched.row_b)
        self.weight = tensor(matched.weight)
        self.seen_from, self.seen_row = index(matched.seen_from), index(matched.seen_row)
        self.seen, self.seen_weight = tensor(matched.seen), tensor(matched.seen_weight)
        self.levels = _levels(tree)
        self.root, self.edges = tree.root, tree.edges

    def start(self, shared: bool) -> AlignmentParameters:
        n = len(self.size)
        log_focal, principal = self.start_focal.log(), torch.full((n, 2), 0.5)
        if shared:
            share = self.confidence / self.confidence.sum()
            log_focal = (share @ self.start_focal).log()[None]
            principal = principal[:1]
        identity = torch.zeros(n, 4)
        identity[:, 3] = 1.0
        return AlignmentParameters(identity, torch.zeros(n, 3), torch.zeros(n), log_focal, principal, self.start_depth)

    def state_of(
        self, world_from_cam: AnyArray, focal_px: AnyArray, principal_px: AnyArray, size: AnyArray
    ) -> AlignmentParameters:
        """The state of cameras (n, 3, 4) in a world where the depths of a photo are to be taken times its size."""
        unit = size.min()
        rotation, focal = world_from_cam[:, :, :3], torch.from_numpy(np.array(focal_px, np.float32))
        principal = torch.from_numpy(np.array(principal_px, np.float32)) / self.size
        log_size = torch.from_numpy(np.log(size / unit).astype(np.float32))
        pivot = self._pivots(focal, principal, log_size.exp()).numpy()
        place = world_from_cam[:, :, 3] / unit + np.einsum("nij,nj->ni", rotation, pivot)
        turn, shift = rotation.copy(), place.copy()
        for parent, child in self.edges:
            turn[child] = rotation[parent].T @ rotation[child]
            shift[child] = rotation[parent].T @ (place[child] - place[parent])
        quaternion = torch.from_numpy(Rotation.from_matrix(turn).as_quat().astype(np.float32))
        translation = torch.from_numpy(shift.astype(np.float32))
        return AlignmentParameters(quaternion, translation, log_size, focal.log(), principal, self.start_depth)

    def view(self, state: AlignmentParameters) -> CameraTensors:
        diagonal = self.size.norm(dim=1)
        focal = state.log_focal.exp().expand(len(diagonal))
        focal = torch.minimum(torch.maximum(focal, _FOCAL_RANGE[0] * diagonal), _FOCAL_RANGE[1] * diagonal)
        principal = state.principal.expand(len(diagonal), 2)
        size = state.log_size.exp()
        scale = 1.0 / size.min()
        pivot = self._pivots(focal, principal, size)
        rotation, place = self._chain(_rotations(state.rotation), state.translation)
        centre = scale * (place - torch.einsum("nij,nj->ni", rotation, pivot))
        spread = (self.median * size)[self.photo_of_depth]
        depth = scale * (pivot[self.photo_of_depth, 2] + (state.depth - 1.0) * spread)
        return CameraTensors(focal, principal * self.size, rotation, centre, depth)

    def _pivots(self, focal: Tensor, principal: Tensor, size: Tensor) -> Tensor:
        """(n, 3) what the chain places, in the coordinates of the cameras: not these themselves, but what they see in
        the middle, at the typical depth. So a change of focal length or size turns about the scene."""
        ray = torch.cat([self.size / focal[:, None] * (0.5 - principal), torch.ones_like(focal)[:, None]], 1)
        return (size * self.median * focal / self.start_focal)[:, None] * ray

    def points(self, view: CameraTensors) -> Tensor:
        """(a, 3) anchored points in the world."""
        focal = view.focal[self.photo]
        depth = view.depth[self.anchor] * (1.0 + (self.offset - 1.0) * self.start_focal[self.photo] / focal)
        ray = torch.cat([(self.xy - view.principal[self.photo]) / focal[:, None], torch.ones_like(focal)[:, None]], 1)
        return self._to_world(view, self.photo, depth[:, None] * ray)

    def loss(self, state: AlignmentParameters, phase: AdamPhase) -> Tensor:
        view = self.view(state)
        points = self.points(view)
        total = 0.0 * points.sum()  # without any match it is flat, not absent
        if len(self.weight):
            distances = self._in_space(points) if phase.target == "space" else self._in_photos(view, points)
            worth = sum(((self.weight * power_loss(d, phase.gamma)).sum() for d in distances), total)
            total = worth / (len(distances) * self.weight.sum())
        if len(self.seen_weight):
            expected = self._to_world(view, self.seen_from, self.seen)
            missed = power_loss((points[self.seen_row] - expected).norm(dim=1), SEEN_GAMMA)
            total = total + SEEN_SHARE * (self.seen_weight * missed).sum() / self.seen_weight.sum()
        return total

    def _in_space(self, points: Tensor) -> list[Tensor]:
        return [(points[self.row_a] - points[self.row_b]).norm(dim=1)]

    def _in_photos(self, view: CameraTensors, points: Tensor) -> list[Tensor]:
        out = []
        for own, other in ((self.row_a, self.row_b), (self.row_b, self.row_a)):
            photo = self.photo[own]
            y = torch.einsum("mji,mj->mi", view.rotation[photo], points[other] - view.centre[photo])
            depth = y[:, 2:].clip(min=_MIN_DEPTH)
            pixel = view.focal[photo][:, None] * y[:, :2] / depth + view.principal[photo]
            out.append((pixel.clip(*_PIXEL_RANGE) - self.xy[own]).norm(dim=1))
        return out

    def _to_world(self, view: CameraTensors, photo: Tensor, y: Tensor) -> Tensor:
        return torch.einsum("mij,mj->mi", view.rotation[photo], y) + view.centre[photo]

    def _chain(self, rotation: Tensor, translation: Tensor) -> tuple[Tensor, Tensor]:
        """Poses in the world from poses by the parent, one level of the tree after another."""
        order = [torch.tensor([self.root])]
        turned, placed = [rotation[order[0]]], [translation[order[0]]]
        for parent_position, child in self.levels:
            own = turned[-1][parent_position]
            placed.append(placed[-1][parent_position] + torch.einsum("nij,nj->ni", own, translation[child]))
            turned.append(own @ rotation[child])
            order.append(child)
        back = torch.cat(order).argsort()
        return torch.cat(turned)[back], torch.cat(placed)[back]


def _levels(tree: Tree) -> list[tuple[Tensor, Tensor]]:
    """Per level below the root: the position of each child's parent in the level above, and the children."""
    level = {tree.root: (0, 0)}
    children: list[list[int]] = [[tree.root]]
    parents: list[list[int]] = [[]]
    for parent, child in tree.edges:
        depth, position = level[parent]
        if len(children) == depth + 1:
            children.append([])
            parents.append([])
        level[child] = (depth + 1, len(children[depth + 1]))
        children[depth + 1].append(child)
        parents[depth + 1].append(position)
    return [(torch.tensor(p), torch.tensor(c)) for p, c in zip(parents[1:], children[1:], strict=True)]


def _rotations(quaternion: Tensor) -> Tensor:
    x, y, z, w = (quaternion / quaternion.norm(dim=1, keepdim=True)).unbind(1)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w),
        2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w),
        2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(rows, 1).reshape(-1, 3, 3)
