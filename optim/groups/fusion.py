"""Fuse groups, and pairs where there are verified ones, to rotations and positions of all photos.

Every group has a frame of its own, which a similarity takes to the world. These are averaged first, from links between
groups that share photos. Then photos and groups are adjusted together: rotations, with the relative rotations of pairs
as further measurements; then scales and positions, with the directions of pairs. Errors of all kinds are estimated from
the residuals, so that what a network or a matcher is worth is found anew in every collection.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.sparse import coo_matrix, csr_matrix
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import splu

from ..arrays import Array, Index, Mask
from ..option_ranges import Count, Positive, Share
from ..pointmaps.similarity_averaging import SimilarityAveragingOptions, average_similarities
from ..progress import Report, no_report
from ..rotations import exp_so3, log_so3, nearest_rotation
from .links import LENGTH_OF_3, GroupLinkOptions, link_groups
from .scenes import GroupScenes

STEPS = 3
"""Steps that `fuse_groups` reports."""
_KEPT_LENGTH = 0.1
"""Weight of the present length of a baseline over that of its direction."""
_LEAST_SHARE = 1e-9
"""Of the largest weight, that everything keeps: what has lost all would leave the system without a solution."""


@dataclass(frozen=True)
class GroupFusionOptions:
    """Options of `fuse_groups`."""

    links: GroupLinkOptions = field(default_factory=GroupLinkOptions)
    averaging: SimilarityAveragingOptions = field(default_factory=SimilarityAveragingOptions)
    rounds: Count = 12
    """Reweightings of the adjustments of rotations and of positions; weights settle in six to ten."""
    loss_scale: Positive = 6.0
    """Length of an error, in standard deviations of its axes, at which a measurement has a quarter of its weight
    (Geman-McClure). That of a right one is 1.5 in the median: 3 would take more than a third of the weight of every
    second one, which adds up along chains of a thousand photos; 9 gains no more."""
    min_rotation_sigma_deg: Positive = 0.02
    """No kind of measurement counts as more accurate than this, so that exact ones divide by nothing."""
    max_rotation_sigma_deg: Positive = 3.0
    """Error per axis from which on cameras of a network, or pairs, mean nothing: good ones are within a degree or two.
    Where all are worse, groups do not agree just because all scatter alike."""
    min_position_sigma: Positive = 1e-3
    """The same of positions, relative to the depth of the photos of a group."""
    scale_sigma: Positive = 0.03
    """Relative error of the scale that depths give a group: that of smooth errors of predicted depth."""
    min_agreement: Share = 0.65
    """Share of a group's photos that agree with other groups below which the group is left out. With verified pairs, of
    up to a thousand emulated photos, groups that are wrong for a half come to 0.6 at most, right ones to 0.7 at
    least."""


_DEFAULTS = GroupFusionOptions()


@dataclass(frozen=True, eq=False)
class PairDirections:
    """Relative poses of verified pairs, whose baselines have no length."""

    pairs: Index
    """(p, 2) photos a, b."""
    b_from_a: Array
    """(p, 3, 4), the translation of unit length; zero where it is unknown, as for pure rotations."""
    weight: Array
    """(p,) 0 to 1."""


@dataclass(frozen=True, eq=False)
class FusedGroups:
    """Poses of the photos of one connected part, and how well groups agree with them."""

    cam_from_world: Array
    """(photos, 3, 4) NaN for photos without."""
    agreement: Array
    """(groups,) share of a group's photos, by weight, whose rotations agree with what other groups say of them; NaN for
    groups outside the part."""
    consistent: Mask
    """(groups,) whether the group was used, see `min_agreement`."""
    rotation_sigma_deg: float
    position_sigma: float
    """Errors of cameras in groups; of positions relative to depth."""
    pair_sigma_deg: float
    """Error of the relative rotations of pairs."""
    pair_agreement: float
    """Share of the pairs, by weight, whose rotations agree with those of the photos; NaN without any."""


def fuse_groups(
    scenes: GroupScenes,
    photos: int,
    pairs: PairDirections | None = None,
    options: GroupFusionOptions = _DEFAULTS,
    report: Report = no_report,
) -> FusedGroups | None:
    """Fuse the largest connected part of the groups; None if there is no group. The cost is linear in the photos."""
    if not scenes.groups:
        return None
    report(0, STEPS, "links between groups")
    found = link_groups(scenes, options.links)
    links, similar = found.pairs, found.similar
    inside, used = _largest_part(scenes, links, similar.support > 0)
    number = np.full(scenes.groups, -1)
    number[inside] = np.arange(len(inside))
    part = scenes.select(number[scenes.group] >= 0)
    group, present = number[part.group], np.unique(part.photo)
    photo = np.searchsorted(present, part.photo)
    if len(used):
        similar = similar.select(used)
        weight = similar.weight(options.links.half_weight_position / 3.0)
        placed = average_similarities(len(inside), number[links[used]], similar, weight, options.averaging)
        scale, turn, move = placed.scale, placed.rotation, placed.translation
    else:
        scale, turn, move = np.ones(len(inside)), np.tile(np.eye(3), (len(inside), 1, 1)), np.zeros((len(inside), 3))
    report(1, STEPS, "rotations")
    between = _between(pairs, present, photos)
    sigma = np.radians(np.nan_to_num(found.rotation_sigma_deg))
    turned = _adjust_rotations(part, photo, group, turn, between, sigma, options)
    report(2, STEPS, "positions")
    least = np.nan_to_num(found.position_sigma)
    moved = _adjust_positions(part, photo, group, scale, move, turned, between, least, options)
    agreement, consistent = np.full(scenes.groups, np.nan), np.zeros(scenes.groups, bool)
    agreement[inside] = turned.agreement
    consistent[inside] = agreement[inside] >= options.min_agreement
    held = np.zeros(len(present), bool)
    held[photo[consistent[part.group]]] = True
    cam_from_world = np.full((photos, 3, 4), np.nan)
    rotation = turned.world_from_cam.transpose(0, 2, 1)
    pose = np.concatenate([rotation, -np.einsum("nij,nj->ni", rotation, moved.centre)[..., None]], axis=2)
    cam_from_world[present[held]] = pose[held]
    return FusedGroups(
        cam_from_world,
        agreement,
        consistent,
        float(np.degrees(turned.sigma)),
        moved.sigma,
        float(np.degrees(turned.pair_sigma)),
        turned.pair_agreement,
    )


def _largest_part(scenes: GroupScenes, links: Index, usable: Mask) -> tuple[Index, Index]:
    """The groups of the connected part with most memberships, and the rows of its links; numbers of groups that were
    used up stand for none."""
    rows = np.flatnonzero(usable)
    graph = coo_matrix((np.ones(len(rows)), links[rows].T), shape=(scenes.groups, scenes.groups))
    label = connected_components(graph, directed=False)[1]
    member = label == np.argmax(np.bincount(label[scenes.group]))
    return np.flatnonzero(member), rows[member[links[rows, 0]]]


def _between(pairs: PairDirections | None, present: Index, photos: int) -> PairDirections:
    """The pairs of the photos present, by their place among these."""
    if pairs is None:
        return PairDirections(np.zeros((0, 2), np.int64), np.zeros((0, 3, 4)), np.zeros(0))
    place = np.full(photos, -1)
    place[present] = np.arange(len(present))
    own = place[pairs.pairs]
    kept = (own >= 0).all(axis=1)
    return PairDirections(own[kept], pairs.b_from_a[kept], pairs.weight[kept])


@dataclass(frozen=True, eq=False)
class _Rotations:
    world_from_cam: Array
    world_from_local: Array
    agreement: Array
    """(groups,)."""
    sigma: float
    pair_sigma: float
    """In radians and per axis."""
    pair_agreement: float


def _adjust_rotations(
    part: GroupScenes,
    photo: Index,
    group: Index,
    turn: Array,
    between: PairDirections,
    known_sigma: float,
    options: GroupFusionOptions,
) -> _Rotations:
    """Rotations of photos W and groups Q from W_i = Q_g R_gi^T and W_a = W_b R_ab.

    To first order, in world axes, updates differ by the residuals. Each solution is a sparse linear system.
    """
    n, g = int(photo.max()) + 1, len(turn)
    own = part.cam_from_local[:, :, :3].transpose(0, 2, 1)
    said = turn[group] @ own
    weight, local = part.trust + 1e-3, turn
    camera = nearest_rotation(_sums(photo, weight[:, None, None] * said, n))
    for _ in range(4):  # a robust mean to begin with: one of the groups of a photo may be wrong
        apart = np.linalg.norm(log_so3(said @ camera[photo].transpose(0, 2, 1)), axis=1)
        camera = nearest_rotation(_sums(photo, (weight / (0.05 + apart))[:, None, None] * said, n))
    a, b = between.pairs.T
    least = np.radians(options.min_rotation_sigma_deg)
    sigma = pair_sigma = np.nan
    agreement, pair_fits = np.ones(g), np.ones(len(a))
    for turn_number in range(options.rounds):
        missed = log_so3(local[group] @ own @ camera[photo].transpose(0, 2, 1))
        missed_pairs = log_so3(camera[b] @ between.b_from_a[:, :, :3] @ camera[a].transpose(0, 2, 1))
        size, size_pairs = np.linalg.norm(missed, axis=1), np.linalg.norm(missed_pairs, axis=1)
        sigma, pair_sigma = _spread(size, part.trust, least), _spread(size_pairs, between.weight, least)
        most = np.radians(options.max_rotation_sigma_deg)
        sigma, pair_sigma = min(max(sigma, known_sigma), most), min(pair_sigma, most)
        loss = _loss_scale(turn_number, size, sigma, options)
        fits = 1.0 / (1.0 + (size / (loss * sigma)) ** 2) ** 2
        agreement = _agreement(group, fits, weight, g)
        member = weight * fits * agreement[group] ** 2 / sigma**2
        pair_fits = 1.0 / (1.0 + (size_pairs / (loss * pair_sigma)) ** 2) ** 2
        pair = between.weight * pair_fits / pair_sigma**2
        ends = np.concatenate([np.stack([photo, n + group], axis=1), np.stack([a, b], axis=1)])
        change = potentials(n + g, ends, np.concatenate([missed, missed_pairs]), np.concatenate([member, pair]))
        camera, local = exp_so3(change[:n]) @ camera, exp_so3(change[n:]) @ local
        if np.abs(change).max(initial=0.0) < 1e-6 and turn_number > 2:
            break
    total = float(between.weight.sum())
    pair_agreement = float((between.weight * pair_fits).sum()) / total if total > 0 else np.nan
    return _Rotations(camera, local, agreement, sigma, pair_sigma, pair_agreement)


@dataclass(frozen=True, eq=False)
class _Positions:
    centre: Array
    """(photos, 3)."""
    sigma: float


def _adjust_positions(
    part: GroupScenes,
    photo: Index,
    group: Index,
    scale: Array,
    move: Array,
    turned: _Rotations,
    between: PairDirections,
    known_sigma: float,
    options: GroupFusionOptions,
) -> _Positions:
    """Positions c of photos, and scales s and translations t of groups, from c_i = s_g Q_g x_gi + t_g, the scales that
    depths give, and directions d of pairs, (c_b - c_a) x d = 0. All are linear."""
    n, g = len(turned.world_from_cam), len(scale)
    turn = part.cam_from_local[:, :, :3]
    # Within a group rotations and positions belong together: the camera's centre is taken from its pose.
    local = -np.einsum("mji,mj->mi", turn, part.cam_from_local[:, :, 3])
    arm = np.einsum("mij,mj->mi", turned.world_from_local[group], local)
    depth = np.exp(np.nan_to_num(np.nanmedian(np.where(np.isfinite(part.lattice), part.lattice, np.nan), axis=1)))
    size = np.bincount(group, depth, g) / np.bincount(group, minlength=g) * scale
    weight = part.trust + 1e-3
    said = scale[group, None] * arm + move[group]
    centre = _sums(photo, weight[:, None] * said, n) / np.bincount(photo, weight, n)[:, None]
    a, b = between.pairs.T
    direction = -np.einsum("pij,pj->pi", turned.world_from_cam[b], between.b_from_a[:, :, 3])
    length = np.linalg.norm(direction, axis=1)
    known = length > 0.5
    a, b, direction, pair_weight = a[known], b[known], direction[known] / length[known, None], between.weight[known]
    # b_from_a takes the centre of a to its place in b: the world vector from b to a is W_b t.
    along = direction[:, :, None] * direction[:, None]
    # Least squares in what is across alone would shorten all baselines, since that makes all residuals smaller.
    across = np.eye(3) - (1.0 - _KEPT_LENGTH) * along
    sigma, growth, offset = np.nan, np.ones(g), move.copy()
    for number in range(options.rounds):
        if number == 0:
            offset = _group_offsets(centre, scale, arm, photo, group, weight, g)
        missed = centre[photo] - (growth * scale)[group, None] * arm - offset[group]
        off = np.linalg.norm(missed, axis=1) / size[group]
        sigma = max(_spread(off, part.trust, options.min_position_sigma), known_sigma)
        loss = _loss_scale(number, off, sigma, options)
        fits = 1.0 / (1.0 + (off / (loss * sigma)) ** 2) ** 2
        member = weight * fits * turned.agreement[group] ** 2 / (sigma * size[group]) ** 2
        apart = centre[b] - centre[a]
        baseline = np.linalg.norm(apart, axis=1) + 1e-12
        astray = np.linalg.norm(apart / baseline[:, None] - direction, axis=1)
        pair_sigma = _spread(astray, pair_weight, np.radians(options.min_rotation_sigma_deg))
        pair = pair_weight / (1.0 + (astray / (loss * pair_sigma)) ** 2) ** 2 / (pair_sigma * baseline) ** 2
        centre, growth, offset = _solve_positions(
            photo,
            group,
            scale,
            arm,
            member,
            (a, b),
            across,
            _KEPT_LENGTH * baseline[:, None] * direction,
            pair,
            n,
            g,
            options.scale_sigma,
        )
    return _Positions(centre, sigma)


def _group_offsets(centre: Array, scale: Array, arm: Array, photo: Index, group: Index, weight: Array, g: int) -> Array:
    """(g, 3) translations of groups that fit the centres best, robustly: component by component medians would do."""
    offset = centre[photo] - scale[group, None] * arm
    total = np.bincount(group, weight, g)[:, None]
    mean = _sums(group, weight[:, None] * offset, g) / total
    for _ in range(5):
        apart = np.linalg.norm(offset - mean[group], axis=1)
        near = weight / (apart + 0.1 * np.median(apart) + 1e-12)
        mean = _sums(group, near[:, None] * offset, g) / np.bincount(group, near, g)[:, None]
    return mean


def _solve_positions(
    photo: Index,
    group: Index,
    scale: Array,
    arm: Array,
    member: Array,
    ends: tuple[Index, Index],
    across: Array,
    wanted: Array,
    pair: Array,
    n: int,
    g: int,
    scale_sigma: float,
) -> tuple[Array, Array, Array]:
    """Centres (n, 3), growths of scales (g,) and translations (g, 3) of least squares; centre 0 is held."""
    m, p = len(photo), len(pair)
    axes, unknowns = np.arange(3), 3 * n + 4 * g
    row = (3 * np.arange(m)[:, None] + axes).ravel()
    root = np.repeat(np.sqrt(member + _LEAST_SHARE * member.max()), 3)
    grown = -(scale[group, None] * arm).ravel() * root
    parts = [
        (row, (3 * photo[:, None] + axes).ravel(), root),
        (row, (3 * n + g + 3 * group[:, None] + axes).ravel(), -root),
        (row, np.repeat(3 * n + group, 3), grown),
    ]
    first = 3 * m
    # Three rows a pair: the part of the baseline across its direction.
    line = np.repeat(first + (3 * np.arange(p)[:, None] + axes).ravel(), 3)
    value = (across * np.sqrt(pair)[:, None, None]).ravel()
    for end, sign in zip(ends, (-1.0, 1.0), strict=True):
        column = np.repeat(3 * end, 9) + np.tile(axes, 3 * p)
        parts.append((line, column, sign * value))
    first += 3 * p
    parts.append((first + np.arange(g), 3 * n + np.arange(g), np.full(g, 1.0 / scale_sigma)))
    target = np.zeros(first + g)
    target[3 * m : first] = (wanted * np.sqrt(pair)[:, None]).ravel()
    target[first:] = 1.0 / scale_sigma
    rows, columns, values = (np.concatenate(each) for each in zip(*parts, strict=True))
    system = csr_matrix((values, (rows, columns)), shape=(first + g, unknowns))[:, 3:]
    normal = (system.T @ system).tocsc()
    ridge = 1e-12 * normal.diagonal().max()
    normal.setdiag(normal.diagonal() + ridge)
    found = np.concatenate([np.zeros(3), splu(normal).solve(system.T @ target)])
    return found[: 3 * n].reshape(n, 3), found[3 * n : 3 * n + g], found[3 * n + g :].reshape(g, 3)


def potentials(nodes: int, ends: Index, difference: Array, weight: Array) -> Array:
    """(nodes, d) values x of least squares with x[first] - x[second] = difference (e, d); their mean is zero."""
    edges = len(ends)
    incidence = csr_matrix(
        (np.tile([1.0, -1.0], edges), (np.repeat(np.arange(edges), 2), ends.ravel())), shape=(edges, nodes)
    )
    weight = weight / max(float(weight.max(initial=0.0)), 1e-300) + _LEAST_SHARE
    laplacian = (incidence.T @ csr_matrix(incidence.multiply(weight[:, None]))).tocsc()
    x = np.zeros((nodes, difference.shape[1]))
    x[1:] = splu(laplacian[1:, 1:]).solve(np.asarray(incidence.T @ (weight[:, None] * difference))[1:])
    return np.asarray(x - x.mean(axis=0))


def _loss_scale(turn: int, size: Array, sigma: float, options: GroupFusionOptions) -> float:
    """Scale of the loss in standard deviations: at first wide enough for all, then halved in every round, so that
    what is right is not lost to a rough start."""
    widest = float(size.max(initial=0.0)) / sigma
    return max(options.loss_scale, widest / 2.0**turn)


def _agreement(group: Index, fits: Array, weight: Array, g: int) -> Array:
    """(g,) weighted share of a group's memberships that fit."""
    return np.asarray(np.bincount(group, weight * fits, g) / np.bincount(group, weight, g))


def _spread(size: Array, weight: Array, least: float) -> float:
    """Robust standard deviation per axis of vectors of these lengths; `least` without any."""
    kept = size[weight > 0]
    return max(float(np.median(kept)) / LENGTH_OF_3, least) if len(kept) else least


def _sums(owner: Index, value: Array, owners: int) -> Array:
    total = np.zeros((owners, *value.shape[1:]))
    np.add.at(total, owner, value)
    return total
