"""Options of the doppelganger search: every threshold and weight that decides about its result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial


@dataclass(frozen=True)
class DoppelgangerOptions:
    """When verified pairs count as inconsistent, what an inconsistency costs, and how long to search.

    "Weighted matches" are verified matches, those of planar pairs counted `planar_match_weight` each.
    docs/doppelgangers.md explains the energy whose weights these are.
    """

    # Which pairs are left out

    max_missing_score: float = 0.9
    """Score in [0, 1] of missing correspondences above which a pair is left out even if its rotation is consistent."""
    max_missing_score_inconsistent: float = 0.15
    """Missing score in [0, 1] above which a pair with an inconsistent rotation is left out, however few its matches.
    Its rejection needs no further explanation, so it belongs to no edge cluster and costs nothing."""
    min_cluster_matches: float = 70.0
    """Weighted matches of an edge cluster that the search tries to make consistent, and that is left out if it cannot
    be. Mappers cope with weaker ones by themselves."""

    # Relative rotations

    max_error_sigmas: float = 2.0
    """Inlier threshold of the relative poses, in units of the usual key-point error."""
    min_pose_share: float = 0.75
    """Share of its matches that the relative pose of a pair explains, over the median share of all pairs, below which
    the pair is no evidence, as its matches belong to two geometries: 0.5 to 0.75 where patterned wallpaper behind an
    object is matched one pattern off, 0.8 to 1.1 of right pairs and of doppelgangers alike. It is left out where others
    join its photos. 0: every pair is evidence."""
    max_rotation_error_deg: float = 30.0
    """Residual of a relative rotation, in degrees, beyond which its pair is inconsistent with the averaged rotations.
    Equal facades are mostly turned by 90 or 180 degrees; noise stays far below 30."""
    cycle_error_per_edge_deg: float = 4.0
    """Degrees by which a cycle of pairs may fail to close, per edge: relative rotations are that inexact while focal
    lengths are hardly known."""
    cycle_error_deg: float = 15.0
    """Degrees by which every cycle may fail to close, in addition: a ring that nearly closes is no inconsistency."""
    max_cycle_error_deg: float = 120.0
    """Degrees beyond which no cycle counts as closed, however long it is."""
    averaging_sweeps: int = 12
    """Sweeps of the rotation averaging of each hypothesis. More change residuals by less than the thresholds need."""

    # Camera parameters that are tried when a cluster is inconsistent under the given ones

    min_trial_cost: float = 0.5
    """Cost of the best hypothesis above which other camera parameters are tried, inconsistent cluster or not."""
    min_trial_gain: float = 0.2
    """Cost by which other camera parameters, or the other poses of planar pairs, must be better to replace the first
    ones."""
    trial_focals: tuple[float, ...] = (0.7, 0.5, 1.0, 1.5)
    """Focal lengths to try where pairs do not agree on one, as multiples of the longer image side."""
    trial_distortions: tuple[float, ...] = (-0.1, -0.2)
    """Radial distortions k1 to try, those of wide lenses; the first one together with each trial focal length."""
    min_focal_agreement: float = 0.5
    """Share of matches in [0, 1] whose pairs suggest about the same focal length, above which no other one is tried:
    there is mostly one under which even doppelgangers fit."""

    # Energy of a hypothesis

    planar_match_weight: float = 0.3
    """Weight in (0, 1] of a match of a pair that one plane explains: posters, signs and facades occur twice more often
    than objects with relief do."""
    significant_matches: float = 100.0
    """Weighted matches at which an inconsistent cluster costs 63 % of its maximum of 1. A cluster of that many matches
    can hardly be an accident, and more matches prove no more."""
    walk_cost: float = 1.0
    """Cost, in addition, of an inconsistent cluster in which photos follow each other in the order of capture, as a
    share of its cost without: a camera that is carried along does not jump to the other side of an object."""
    min_walk_strength: float = 0.5
    """Matches of a photo with the next one, over those with its best partner, from which on in the mean the order of
    names is taken for that of capture,"""
    min_walk_sigmas: float = 4.0
    """if by chance it would be less by so many standard deviations: names in any other order change nothing."""
    inconsistent_weight_cost: float = 0.05
    """Cost of making all pairs inconsistent, by weighted matches. Hardly anything, but it decides between hypotheses
    that are equal otherwise."""
    edge_prior_cost: float = 2.0
    """Cost of making all pairs inconsistent if each stood one standard deviation above the average pair. Less than a
    cluster costs in most collections: half of the pairs are below average also where no doppelganger is."""
    lost_neighbour_cost: float = 0.25
    """Cost per photo whose pairs are all inconsistent."""
    lost_neighbour_tolerance: float = 1.0 / 3.0
    """Share of matches in [0, 1) that the best consistent pair of a photo may have less than its best pair, at no cost.
    A doppelganger may match a bit better than the same place seen from nearby, but not twice as well."""

    # Edge clusters

    cluster_neighbours: int = 6
    """Two photos see one place if one is among so many strongest neighbours of the other, doppelgangers included: with
    4, those of a photo at a corner are ahead of its neighbours and make a second cluster of one cause. With all, pairs
    that a wrong hypothesis makes inconsistent hide in that cluster. Pairs that join the same two places by the same
    rotation form a cluster."""
    max_clustered_edges: int = 1500
    """Inconsistent pairs that are clustered, those of most weighted matches first; memory grows with the square."""

    # Search

    max_missing_score_forest: float = 0.4
    """Missing score in [0, 1] above which a pair joins no trees of a spanning forest, and prevents other pairs from
    making it consistent."""
    planar_powers: tuple[int, ...] = (1, 2, 3)
    """Initial spanning forests weigh matches of planar pairs by these powers of `planar_match_weight`: how misleading
    planes are differs between collections."""
    min_cost_gain: float = 0.02
    """Cost by which a hypothesis must be better to replace the best one."""
    max_trials: int = 300
    """Moves that the search tries, two hypotheses each; time grows in proportion. Spent only where clusters are
    inconsistent."""
    rival_share: float = 0.3
    """Share in [0, 1] of the weighted matches left out that a hypothesis must keep to be a rival of the best one: less
    are single pairs that hardly move the model."""
    max_edges_per_cluster: int = 3
    """Strongest pairs of a cluster that are made consistent one by one: the pairs of a cluster need not all be right or
    all be wrong."""
    max_bipartition_clusters: int = 3
    """Largest inconsistent clusters along which the photos are divided into two parts."""
    max_split_groups: int = 3
    """Connected groups of photos within a cluster whose two ways to be divided are all tried; each doubles the work."""
    max_eigenvectors: int = 3
    """Leading eigenvectors of the signed edge matrix whose signs divide the photos into two parts."""
    consistency_bias_sigmas: tuple[float, ...] = (0.5, 1.0)
    """Standard deviations added to the z-score of every pair when photos change sides: the larger, the more pairs must
    stay consistent, and the smaller the parts."""
    max_dense_photos: int = 1500
    """Photos up to which the graph Laplacian is a dense matrix and effective resistances are exact. Beyond, the matrix
    is sparse and resistances are estimated."""
    resistance_projections: int = 256
    """Random projections of an estimated effective resistance; its relative error is about sqrt(2 / projections)."""

    # Missing correspondences

    grid_cells: int = 16
    """Cells along the extent of the key points that match in any photo, each of which matches or does not."""
    min_cell_keypoints: int = 3
    """Key points with a match in any photo that a cell needs before it can lack matches."""
    max_extrapolation: float = 0.25
    """Distance from the nearest match up to which cells are compared, as a share of this extent: farther away, parallax
    may have moved them anywhere."""
    extrapolation_neighbours: int = 8
    """Nearest matches whose mean displacement predicts where the other photo shows a cell."""
    missing_ratio_start: float = 0.1
    """Share of missing cells times match ratio where the missing score leaves 0. Wide baselines leave cells unmatched,
    too, but then matches are thin everywhere: without doppelgangers the product stays below 0.18."""
    missing_ratio_full: float = 0.3
    """Share of missing cells times match ratio where the missing score reaches 1."""
    missing_ratio_decay: float = 0.06
    """Share of missing cells that lowers the match completeness of a pair to 37 %."""

    # Duplicate images

    min_duplicate_matches: int = 20
    """Matches without which no pair counts as one image saved twice."""
    min_duplicate_ratio: float = 0.9
    """Share of matches in [0, 1] that are at the same place in both images."""
    max_duplicate_shift_px: float = 1.0
    """Pixels of the smaller image by which such matches may differ; a hand-held camera never returns to the pixel."""
    min_duplicate_extent: float = 0.4
    """Share of width and of height over which the matches of duplicates extend. Parts of a vehicle and date stamps stay
    in place, too, but are small."""

    seed: int = 0
    """Of the random samples in the relative poses and estimated resistances."""

    def __post_init__(self) -> None:
        """ValueError that names the option whose value makes no sense."""
        for name, (low, high) in _CLOSED.items():
            self._check(name, f"a number in [{low:g}, {high:g}]", partial(_is_between, low, high))
        for name in _POSITIVE:
            self._check(name, "a positive number", lambda value: value > 0)
        for name in _NOT_NEGATIVE:
            self._check(name, "no negative number", lambda value: value >= 0)
        if self.lost_neighbour_tolerance == 1.0:
            raise ValueError("lost_neighbour_tolerance: expected less than 1")
        if self.missing_ratio_full <= self.missing_ratio_start:
            raise ValueError("missing_ratio_full: expected more than missing_ratio_start")

    def _check(self, name: str, expected: str, is_valid: Callable[..., bool]) -> None:
        value = getattr(self, name)
        if not all(is_valid(each) for each in (value if isinstance(value, tuple) else (value,))):
            raise ValueError(f"{name}: expected {expected}, got {value!r}")


def _is_between(low: float, high: float, value: float) -> bool:
    return low <= value <= high


_CLOSED = {
    "max_missing_score": (0.0, 1.0),
    "max_missing_score_inconsistent": (0.0, 1.0),
    "max_missing_score_forest": (0.0, 1.0),
    "min_focal_agreement": (0.0, 1.0),
    "min_pose_share": (0.0, 1.0),
    "rival_share": (0.0, 1.0),
    "lost_neighbour_tolerance": (0.0, 1.0),
    "min_duplicate_ratio": (0.0, 1.0),
    "min_walk_strength": (0.0, 1.0),
    "min_duplicate_extent": (0.0, 1.0),
    "max_rotation_error_deg": (0.0, 180.0),
    "max_cycle_error_deg": (0.0, 180.0),
    "planar_match_weight": (1e-3, 1.0),
}
_POSITIVE = (
    "max_error_sigmas",
    "trial_focals",
    "significant_matches",
    "max_split_groups",
    "max_eigenvectors",
    "resistance_projections",
    "grid_cells",
    "min_cell_keypoints",
    "max_extrapolation",
    "extrapolation_neighbours",
    "missing_ratio_decay",
)
_NOT_NEGATIVE = (
    "min_cluster_matches",
    "walk_cost",
    "min_walk_sigmas",
    "cycle_error_per_edge_deg",
    "cycle_error_deg",
    "averaging_sweeps",
    "min_trial_cost",
    "min_trial_gain",
    "inconsistent_weight_cost",
    "edge_prior_cost",
    "lost_neighbour_cost",
    "cluster_neighbours",
    "max_clustered_edges",
    "planar_powers",
    "min_cost_gain",
    "max_trials",
    "max_edges_per_cluster",
    "max_bipartition_clusters",
    "consistency_bias_sigmas",
    "max_dense_photos",
    "missing_ratio_start",
    "missing_ratio_full",
    "min_duplicate_matches",
    "max_duplicate_shift_px",
    "seed",
)
