"""First-order point-map alignment of MASt3R-SfM (Duisterhof et al. 2024): the published baseline of point_map_mapper.

The unknowns are, per photo, a pose relative to its parent in a kinematic tree, a scale, a focal length, a principal
point, and depths at the anchors of a grid. Adam minimises first the distances between matched points in space, then
their reprojection errors. There is no outlier rejection, no track and no convergence test.

The matches of all pairs are concatenated, so that an iteration is a few dozen tensor operations for any number of
photos. All in float32, as published, since results are compared with the published ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from ..arrays import AnyArray, Index
from ..option_ranges import Count, Positive, Within, check_ascending
from ..progress import Report, no_report
from .kinematic_tree import Tree

PixelBound = Annotated[float, Within("[-1e6, 1e6]")]


@dataclass(frozen=True, eq=False)
class AnchoredMatches:
    """Photos and matches of the aligner. A matched pixel takes its depth from an anchor; together they are an anchored
    point."""

    size: Index
    """(n, 2) width and height."""
    focal_px: AnyArray
    """(n,) focal length under which the depths were predicted."""
    confidence: AnyArray
    """(n,) mean confidence of a photo's depths: weight of its focal length where all photos share their intrinsics."""
    depth: AnyArray
    """(d,) depth at the anchors, photo by photo."""
    depth_start: Index
    """(n + 1,): photo i owns depth[depth_start[i]:depth_start[i + 1]]."""
    photo: Index
    """(a,) photo of each anchored point."""
    xy: AnyArray
    """(a, 2) pixels; the centre of the top-left one is (0, 0)."""
    anchor: Index
    """(a,) row of `depth`."""
    offset: AnyArray
    """(a,) depth of the pixel over that of its anchor."""
    row_a: Index
    row_b: Index
    weight: AnyArray
    """(m,) matches: rows of two anchored points, and a weight."""
    predicting_photo: Index
    predicted_row: Index
    predicted: AnyArray
    predicted_weight: AnyArray
    """(k,) anchored points of pairs without reliable matches, `predicted` (k, 3) in the camera frame of another photo,
    the `predicting_photo`, as the network saw them from there."""


@dataclass(frozen=True)
class AdamPhase:
    """One run of Adam: its loss, what is free, and how it proceeds."""

    target: Literal["space", "photos"]
    """Distances between matched points in space, or reprojection errors in photos."""
    gamma: Positive
    """Exponent of the loss of these errors, see `power_loss`."""
    rate: Annotated[float, Within("(0, 1]")]
    """Learning rate at first; it falls to zero, see `cosine_rate`."""
    iterations: Count = 300
    focal: bool = False
    principal: bool = False
    depth: bool = False
    """Whether focal lengths, principal points and the depths of anchors are free."""


@dataclass(frozen=True)
class FirstOrderOptions:
    """Bounds of the first-order alignment, and the weight of predicted points. The defaults are those of MASt3R-SfM."""

    min_depth: Positive = 1e-3
    """Points closer to a camera, or behind it, are projected as if they had this depth; the smallest scale is 1."""
    pixel_range: tuple[PixelBound, PixelBound] = (-1000.0, 2000.0)
    """Projections are clipped to this interval of the network's pixels, so that far outliers have no gradient."""
    focal_range: tuple[Positive, Positive] = (0.25, 10.0)
    """Focal lengths are clipped to this interval, over the diagonal of the image."""
    predicted_weight: Annotated[float, Within("[0, inf)")] = 0.01
    """Weight of the points that other photos' predictions give, for pairs without reliable matches; that of the matches
    is 1."""
    predicted_gamma: Positive = 1.1
    """Exponent of their loss."""

    def __post_init__(self) -> None:
        check_ascending(self, "pixel_range", "focal_range")


COARSE_PHASE = AdamPhase("space", 1.5, 0.07)
FINE_PHASE = AdamPhase("photos", 0.5, 0.01, focal=True, principal=True, depth=True)
_DEFAULTS = FirstOrderOptions()


@dataclass(frozen=True, eq=False)
class FirstOrderAlignment:
    """Result of the alignment; see AnchoredMatches for n, d and a."""

    focal_px: AnyArray
    principal_px: AnyArray
    world_from_cam: AnyArray
    """(n, 4, 4)."""
    depth: AnyArray
    """(d,) at the anchors."""
    points: AnyArray
    """(a, 3) anchored points in the world."""
    losses: AnyArray
    """Loss of each iteration before its step, phase by phase."""


@dataclass(frozen=True, eq=False)
class AlignmentParameters:
    """The unknowns in the published parametrisation, which decides about the steps of Adam."""

    rotation: Tensor
    """(n, 4) quaternion x, y, z, w, relative to the parent."""
    translation: Tensor
    log_scale: Tensor
    log_focal: Tensor
    """(n,), or (1,) where all photos share their intrinsics; likewise `principal`."""
    principal: Tensor
    """(n, 2) relative to the size of the photo."""
    depth: Tensor
    """(d,) relative to the median depth of the photo."""

    def tensors(self, phase: AdamPhase) -> list[Tensor]:
        """The unknowns that are free in this phase."""
        moving = [self.rotation, self.translation, self.log_scale]
        chosen = ((phase.focal, self.log_focal), (phase.principal, self.principal), (phase.depth, self.depth))
        return moving + [tensor for wanted, tensor in chosen if wanted]


def align_first_order(
    matched: AnchoredMatches,
    tree: Tree,
    phases: tuple[AdamPhase, ...] = (COARSE_PHASE, FINE_PHASE),
    *,
    shared: bool = False,
    options: FirstOrderOptions = _DEFAULTS,
    report: Report = no_report,
) -> FirstOrderAlignment:
    """Align point maps by phases of Adam. With `shared` all photos have one focal length and principal point."""
    problem = FirstOrderProblem(matched, tree, options)
    state = problem.start(shared)
    losses: list[float] = []
    for phase in phases:
        state, curve = run_adam(problem, state, phase, report)
        losses += curve
    return alignment_result(problem, state, losses)


def alignment_result(
    problem: FirstOrderProblem, state: AlignmentParameters, losses: list[float]
) -> FirstOrderAlignment:
    """The cameras, depths and points of a state."""
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
    problem: FirstOrderProblem, state: AlignmentParameters, phase: AdamPhase, report: Report = no_report
) -> tuple[AlignmentParameters, list[float]]:
    """Run one phase of Adam. Returns the state before the last step, as the published code does, and the losses."""
    state = AlignmentParameters(
        *(getattr(state, name).detach().clone() for name in AlignmentParameters.__dataclass_fields__)
    )
    moving = [tensor.requires_grad_() for tensor in state.tensors(phase)]
    adam = torch.optim.Adam(moving, lr=1.0, betas=(0.9, 0.9))
    losses: list[float] = []
    before = state
    for iteration in range(phase.iterations):
        report(iteration, phase.iterations, "Adam")
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
    """Learning rate at `progress` in [0, 1] of the iterations: rate (1 + cos(pi progress)) / 2."""
    return rate * (1.0 + math.cos(math.pi * progress)) / 2.0


def power_loss(distance: Tensor, gamma: float) -> Tensor:
    """(d + s)^gamma - s^gamma with s such that the slope at d = 0 is 1; d for gamma = 1."""
    if gamma == 1.0:
        return distance
    shift = (1.0 / gamma) ** (1.0 / (gamma - 1.0))
    grown: Tensor = (distance + shift) ** gamma - shift**gamma
    return grown


class CameraTensors(NamedTuple):
    """Cameras in the world and depths at the anchors."""

    focal: Tensor
    principal: Tensor
    rotation: Tensor
    """(n, 3, 3) world from camera."""
    centre: Tensor
    depth: Tensor


class FirstOrderProblem:
    """Matches as tensors, and the loss of either phase."""

    def __init__(self, matched: AnchoredMatches, tree: Tree, options: FirstOrderOptions = _DEFAULTS) -> None:
        def tensor(values: AnyArray | Index) -> Tensor:
            return torch.from_numpy(np.array(values, np.float32))

        def index(values: Index) -> Tensor:
            return torch.from_numpy(np.array(values, np.int64))

        self.options = options
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
        self.predicting_photo, self.predicted_row = index(matched.predicting_photo), index(matched.predicted_row)
        self.predicted, self.predicted_weight = tensor(matched.predicted), tensor(matched.predicted_weight)
        self.levels = _levels(tree)
        self.root, self.edges = tree.root, tree.edges

    def start(self, shared: bool) -> AlignmentParameters:
        """The initial state: identity poses, unit scales, predicted focal lengths and depths."""
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
        """The state of given cameras (n, 3, 4); the predicted depths of a photo, times its entry in `size` (n,), are in
        units of the world."""
        unit = size.min()
        rotation, focal = world_from_cam[:, :, :3], torch.from_numpy(np.array(focal_px, np.float32))
        principal = torch.from_numpy(np.array(principal_px, np.float32)) / self.size
        log_scale = torch.from_numpy(np.log(size / unit).astype(np.float32))
        pivot = self._pivots(focal, principal, log_scale.exp()).numpy()
        place = world_from_cam[:, :, 3] / unit + np.einsum("nij,nj->ni", rotation, pivot)
        turn, shift = rotation.copy(), place.copy()
        for parent, child in self.edges:
            turn[child] = rotation[parent].T @ rotation[child]
            shift[child] = rotation[parent].T @ (place[child] - place[parent])
        quaternion = torch.from_numpy(Rotation.from_matrix(turn).as_quat().astype(np.float32))
        translation = torch.from_numpy(shift.astype(np.float32))
        return AlignmentParameters(quaternion, translation, log_scale, focal.log(), principal, self.start_depth)

    def view(self, state: AlignmentParameters) -> CameraTensors:
        """The cameras and depths of a state."""
        diagonal = self.size.norm(dim=1)
        focal = state.log_focal.exp().expand(len(diagonal))
        low, high = self.options.focal_range
        focal = torch.minimum(torch.maximum(focal, low * diagonal), high * diagonal)
        principal = state.principal.expand(len(diagonal), 2)
        size = state.log_scale.exp()
        scale = 1.0 / size.min()
        pivot = self._pivots(focal, principal, size)
        rotation, place = self._chain(_rotations(state.rotation), state.translation)
        centre = scale * (place - torch.einsum("nij,nj->ni", rotation, pivot))
        spread = (self.median * size)[self.photo_of_depth]
        depth = scale * (pivot[self.photo_of_depth, 2] + (state.depth - 1.0) * spread)
        return CameraTensors(focal, principal * self.size, rotation, centre, depth)

    def _pivots(self, focal: Tensor, principal: Tensor, size: Tensor) -> Tensor:
        """(n, 3) the point that a relative pose places, in camera coordinates: the one in the middle of the photo at
        median depth.

        Changes of focal length or scale then leave the scene in place, which Adam needs to converge.
        """
        ray = torch.cat([self.size / focal[:, None] * (0.5 - principal), torch.ones_like(focal)[:, None]], 1)
        return (size * self.median * focal / self.start_focal)[:, None] * ray

    def points(self, view: CameraTensors) -> Tensor:
        """(a, 3) anchored points in the world."""
        focal = view.focal[self.photo]
        depth = view.depth[self.anchor] * (1.0 + (self.offset - 1.0) * self.start_focal[self.photo] / focal)
        ray = torch.cat([(self.xy - view.principal[self.photo]) / focal[:, None], torch.ones_like(focal)[:, None]], 1)
        return self._to_world(view, self.photo, depth[:, None] * ray)

    def loss(self, state: AlignmentParameters, phase: AdamPhase) -> Tensor:
        """Weighted mean loss of the matches, plus that of the predicted points."""
        view = self.view(state)
        points = self.points(view)
        total = 0.0 * points.sum()  # zero with a gradient, where there is no match
        if len(self.weight):
            distances = self._in_space(points) if phase.target == "space" else self._in_photos(view, points)
            worth = sum(((self.weight * power_loss(d, phase.gamma)).sum() for d in distances), total)
            total = worth / (len(distances) * self.weight.sum())
        if len(self.predicted_weight):
            expected = self._to_world(view, self.predicting_photo, self.predicted)
            missed = power_loss((points[self.predicted_row] - expected).norm(dim=1), self.options.predicted_gamma)
            mean = (self.predicted_weight * missed).sum() / self.predicted_weight.sum()
            total = total + self.options.predicted_weight * mean
        return total

    def _in_space(self, points: Tensor) -> list[Tensor]:
        """Distances between matched points in the world."""
        return [(points[self.row_a] - points[self.row_b]).norm(dim=1)]

    def _in_photos(self, view: CameraTensors, points: Tensor) -> list[Tensor]:
        """Reprojection errors in pixels of either point of a match in the photo of the other."""
        out = []
        for own, other in ((self.row_a, self.row_b), (self.row_b, self.row_a)):
            photo = self.photo[own]
            y = torch.einsum("mji,mj->mi", view.rotation[photo], points[other] - view.centre[photo])
            depth = y[:, 2:].clip(min=self.options.min_depth)
            pixel = view.focal[photo][:, None] * y[:, :2] / depth + view.principal[photo]
            out.append((pixel.clip(*self.options.pixel_range) - self.xy[own]).norm(dim=1))
        return out

    def _to_world(self, view: CameraTensors, photo: Tensor, y: Tensor) -> Tensor:
        return torch.einsum("mij,mj->mi", view.rotation[photo], y) + view.centre[photo]

    def _chain(self, rotation: Tensor, translation: Tensor) -> tuple[Tensor, Tensor]:
        """Poses in the world from poses relative to the parents, level by level of the tree."""
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
