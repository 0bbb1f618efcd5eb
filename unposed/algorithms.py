"""The algorithms of unposed as plain functions: arrays in, arrays out, no files and no state.

These names are stable. Poses `cam_from_world` are (3, 4) and map world to camera, which looks along +z with y down;
pixels count from the corner of the image, the centre of the first being (0.5, 0.5).

| name | takes | gives |
|---|---|---|
| `unit_rows` | descriptors (n, d) | float32 rows of unit length |
| `mutual_nearest` | unit rows (na, d) and (nb, d) | matched rows `index_a`, `index_b`, (m,) each |
| `estimate_two_view_geometry` | matched pixels (m, 2) and (m, 2), weight (m,), two image sizes | `TwoViewEstimate` |
| `average_rotations` | pairs (e, 2), relative rotations (e, 3, 3), weight (e,) | rotations (photos, 3, 3) |
| `solve_global_positions` | rays (m, 3) in world axes, camera and point of each | centres (c, 3), points (p, 3) |
| `adjust_bundle` | `Bundle`, `BundleOptions` | the bundle at the minimum, `BundleSummary` |
| `fit_similarity` | points (n, 3) and (n, 3) | `Similarity`, Sim(3) from the first to the second |
| `align_point_maps` | `MatchedPoints` of pairs, start `PhotoSimilarities` | poses, scales, focal lengths of all maps |
| `train_codebook`, `codebook_of` | descriptors (n, d); centroids (words, d) | centroids; `Codebook` |
| `best_partners_by_words` | descriptors by photo, `Codebook`, `SearchOptions` | pairs (n, 2), ASMK similarity (n,) |
| `evaluate_poses` | true and estimated poses (n, 3, 4) | `PoseErrors`: RRA, RTA, AUC, ATE |

`help(unposed.algorithms.adjust_bundle)` and so on has every parameter.
"""

from typing import TYPE_CHECKING

from .lazy_names import lazy_names

_NAMES = {
    "Bundle": "unposed.optim.bundle.problem",
    "BundleOptions": "unposed.optim.bundle.problem",
    "BundleSummary": "unposed.optim.bundle.problem",
    "Codebook": "unposed.retrieval.words",
    "MatchedPoints": "unposed.optim.pointmaps.second_moments",
    "PhotoSimilarities": "unposed.optim.pointmaps.similarity_averaging",
    "PoseErrors": "unposed.optim.evaluation",
    "SearchOptions": "unposed.retrieval.search",
    "Similarity": "unposed.optim.similarity",
    "TwoViewEstimate": "unposed.optim.pair.two_view_geometry",
    "adjust_bundle": "unposed.optim.bundle.adjust",
    "align_point_maps": "unposed.optim.pointmaps.point_map_alignment",
    "average_rotations": "unposed.optim.mapping.rotation_averaging",
    "best_partners_by_words": "unposed.retrieval.search",
    "codebook_of": "unposed.retrieval.words",
    "estimate_two_view_geometry": "unposed.optim.pair.two_view_geometry",
    "evaluate_poses": "unposed.optim.evaluation",
    "fit_similarity": "unposed.optim.similarity",
    "mutual_nearest": "unposed.optim.pair.matching",
    "solve_global_positions": "unposed.optim.mapping.global_positioning",
    "train_codebook": "unposed.retrieval.codebook",
    "unit_rows": "unposed.optim.pair.matching",
}

__getattr__, __dir__, __all__ = lazy_names(__name__, _NAMES)

if TYPE_CHECKING:
    from unposed.optim.bundle.adjust import adjust_bundle as adjust_bundle
    from unposed.optim.bundle.problem import (
        Bundle as Bundle,
        BundleOptions as BundleOptions,
        BundleSummary as BundleSummary,
    )
    from unposed.optim.evaluation import PoseErrors as PoseErrors, evaluate_poses as evaluate_poses
    from unposed.optim.mapping.global_positioning import solve_global_positions as solve_global_positions
    from unposed.optim.mapping.rotation_averaging import average_rotations as average_rotations
    from unposed.optim.pair.matching import mutual_nearest as mutual_nearest, unit_rows as unit_rows
    from unposed.optim.pair.two_view_geometry import (
        TwoViewEstimate as TwoViewEstimate,
        estimate_two_view_geometry as estimate_two_view_geometry,
    )
    from unposed.optim.pointmaps.point_map_alignment import align_point_maps as align_point_maps
    from unposed.optim.pointmaps.second_moments import MatchedPoints as MatchedPoints
    from unposed.optim.pointmaps.similarity_averaging import PhotoSimilarities as PhotoSimilarities
    from unposed.optim.similarity import Similarity as Similarity, fit_similarity as fit_similarity
    from unposed.retrieval.codebook import train_codebook as train_codebook
    from unposed.retrieval.search import (
        SearchOptions as SearchOptions,
        best_partners_by_words as best_partners_by_words,
    )
    from unposed.retrieval.words import Codebook as Codebook, codebook_of as codebook_of
