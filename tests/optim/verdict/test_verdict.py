"""Evidence about models, and the probability that it gives them."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from unposed.optim.bundle.problem import Bundle
from unposed.optim.rotations import exp_so3
from unposed.optim.verdict.evidence import (
    Candidate,
    EvidenceOptions,
    ModelEvidence,
    PhotoEvidence,
    gather_evidence,
    smallest_cut,
)
from unposed.optim.verdict.judge import VerdictOptions, judge
from unposed.optim.verdict.neighbours import neighbour_matches

Make = Callable[..., Any]


def candidate(world: Any, poses: np.ndarray | None = None, **more: Any) -> Candidate:
    bundle = world.bundle()
    if poses is not None:
        bundle = replace(bundle, cam_from_world=poses)
    photos = np.arange(world.photos)
    targets = np.zeros((len(photos), 3))
    return Candidate(photos, bundle, bundle.cam_from_world, np.full(len(photos), 200), targets, **more)


def half_turned(world: Any) -> np.ndarray:
    """The poses of the second half turned about the origin, as if it showed another side of the scene."""
    poses = world.cam_from_world.copy()
    half = slice(world.photos // 2, None)
    poses[half, :, :3] = poses[half, :, :3] @ exp_so3(np.array([[0.0, np.pi / 2, 0.0]]))[0]
    return np.asarray(poses)


def test_what_holds_two_parts_together() -> None:
    """Two triangles joined by two edges; a single node that hangs on one edge is no part."""
    pairs = np.array([(0, 1), (0, 2), (1, 2), (3, 4), (3, 5), (4, 5), (0, 3), (1, 4), (5, 6)])
    weight = np.array([90, 90, 90, 90, 90, 90, 5, 2, 1])
    assert smallest_cut(7, pairs, weight) == 7.0
    assert smallest_cut(7, pairs, np.where(weight < 10, 0, weight)) == 0.0
    assert smallest_cut(3, pairs[:3], weight[:3]) == np.inf


def test_a_turned_half_contradicts_matches_and_scatters_tracks(collection: Make) -> None:
    world = collection(photos=8, noise_px=0.3)
    nothing = np.zeros(len(world.graph), bool)
    right, _ = gather_evidence(world.graph, nothing, candidate(world))
    wrong, photos = gather_evidence(world.graph, nothing, candidate(world, half_turned(world)))
    assert right.agreement > 0.99
    assert right.contradicted == 0.0
    assert wrong.agreement < 0.8
    assert wrong.contradicted > 0.2
    assert wrong.cut_matches < 0.2 * right.cut_matches
    assert photos.agreeing.max() < 0.9
    assert judge(right, photos).probability > judge(wrong, photos).probability + 0.1


def test_pairs_that_were_left_out_count_against_the_model_but_scatter_no_tracks(collection: Make) -> None:
    world = collection(photos=8, noise_px=0.3)
    half = np.arange(world.photos) < 4
    across = half[world.graph.pairs[:, 0]] != half[world.graph.pairs[:, 1]]
    wrong, _ = gather_evidence(world.graph, across, candidate(world, half_turned(world)))
    assert wrong.contradicted > 0.2
    assert wrong.agreement > 0.99


def test_uncertain_poses_are_not_determined(collection: Make) -> None:
    world = collection(photos=6)
    nothing, n = np.zeros(len(world.graph), bool), 6
    determined = []
    for sigma_deg in (0.01, 2.0, 20.0):
        sigma = np.full(n, sigma_deg)
        model = candidate(world, sigma_deg=sigma, sigma_centre=np.full(n, 1e-4))
        determined.append(gather_evidence(world.graph, nothing, model)[0].determined)
    assert determined[0] > 0.98
    assert determined[1] == pytest.approx(1.0 - 2.0 * np.sqrt(2.0) / 5.0, abs=0.02)
    assert determined[2] == 0.0
    assert np.isnan(gather_evidence(world.graph, nothing, candidate(world))[0].determined)


@pytest.mark.parametrize(
    ("others", "margin"),
    [([], 0.5), ([(0.22, 1.0, 30.0)], np.log(1.1)), ([(0.22, 1.0, 1.0)], 0.5), ([(0.22, 1.5, 1.0)], np.log(1.1))],
)
def test_the_margin_is_that_of_the_next_model_that_differs(
    collection: Make, others: list[tuple[float, float, float]], margin: float
) -> None:
    world = collection(photos=4)
    model = candidate(world, hypotheses=[(0.2, 1.0, 0.0), *others])
    found, _ = gather_evidence(world.graph, np.zeros(len(world.graph), bool), model, EvidenceOptions(max_margin=0.5))
    assert found.margin == pytest.approx(margin)


def laid_on_each_other(world: Any, between_deg: float) -> np.ndarray:
    """The poses of the second half turned back to the first, as if it showed the same side of the scene."""
    poses, half = world.cam_from_world.copy(), world.photos // 2
    poses[half:, :, :3] = poses[half:, :, :3] @ exp_so3(np.array([[0.0, np.radians(-between_deg), 0.0]]))[0]
    return np.asarray(poses)


def test_neighbours_of_a_folded_model_do_not_match(collection: Make) -> None:
    """Pairs across are left out, so that each half by itself is right: nothing else speaks against the fold."""
    world = collection(photos=12, sweep_deg=300.0, points=600)
    half = np.arange(world.photos) < 6
    across = half[world.graph.pairs[:, 0]] != half[world.graph.pairs[:, 1]]
    graph = world.graph.select(~across)
    nothing = np.zeros(len(graph), bool)
    right, _ = gather_evidence(graph, nothing, candidate(world))
    folded, _ = gather_evidence(graph, nothing, candidate(world, laid_on_each_other(world, 6 * 300.0 / 11)))
    assert right.neighbours > 0.9
    assert folded.neighbours < 0.3
    assert folded.disagreeing == pytest.approx(right.disagreeing, abs=0.02)


def test_who_is_a_neighbour(collection: Make) -> None:
    """Photos of one frame are not, a photo that looks nowhere has none, and of two equally near the one of like zoom
    is: photo 3 does not match with photo 2."""
    world = collection(photos=6, sweep_deg=60.0, lenses=((1500.0, 800.0, 600.0, 0.0),) * 6, grouped=False)
    graph = world.graph.select(~(world.graph.pairs == (2, 3)).all(axis=1))
    photos, targets = np.arange(6), np.zeros((6, 3))

    def found(bundle: Bundle, targets: np.ndarray = targets, frame: np.ndarray = photos) -> np.ndarray:
        return np.asarray(neighbour_matches(graph, photos, bundle, targets, frame, EvidenceOptions()))

    def zoomed(photo: int) -> Bundle:
        intrinsics = world.bundle().intrinsics.copy()
        intrinsics[photo, :2] *= 4.0
        return replace(world.bundle(), intrinsics=intrinsics)

    assert np.isnan(found(world.bundle(), frame=np.zeros(6, np.int64))).all()
    assert np.isnan(found(world.bundle(), targets=np.where(photos[:, None] == 1, np.nan, 0.0))[1])
    assert found(zoomed(4))[3] == 0.0
    assert found(zoomed(2))[3] > 0.5


USUAL = ModelEvidence(
    agreement=0.98,
    contradicted=0.0,
    disagreeing=0.002,
    neighbours=0.97,
    rival_margin=np.inf,
    cut_matches=500.0,
    determined=0.95,
    margin=0.5,
    unchanged=0.95,
    photo_observations=400.0,
    photos=12,
)
PHOTOS = PhotoEvidence(np.full(12, 400), np.full(12, 0.95), np.full(12, 5), np.full(12, 0.95))


@pytest.mark.parametrize(
    ("worse", "reason"),
    [
        ({"disagreeing": 0.05}, "5.0% of the matches that it was made of do not fit it"),
        ({"neighbours": 0.4}, "photos that it puts next to each other do not match as neighbours do"),
        ({"determined": 0.0, "cut_matches": 19.0}, "hardly hold each other (two parts of it share 19 matches)"),
        ({"unchanged": 0.1}, "refinement moved its photos far"),
    ],
)
def test_every_figure_counts_and_is_named(worse: dict[str, float], reason: str) -> None:
    good, found = judge(USUAL, PHOTOS), judge(replace(USUAL, **worse), PHOTOS)
    assert good.probability > 0.85
    assert good.reasons == ()
    assert found.probability < good.probability - 0.03
    assert any(reason in each for each in found.reasons)


def test_what_does_not_count_is_named_as_well() -> None:
    found = judge(replace(USUAL, margin=0.12, photo_observations=20.0, contradicted=0.05), PHOTOS)
    assert found.probability == judge(USUAL, PHOTOS).probability
    assert found.reasons == (
        "another model of the same photos costs only 13% more",
        "photos observe 20 points only",
        "5% of the verified matches contradict it",
    )


@pytest.mark.parametrize(
    ("evidence", "folded"),
    [
        ({"agreement": 0.7, "contradicted": 0.1, "neighbours": 0.88}, True),  # whole pairs are wrong, tracks scatter
        ({"agreement": 0.7, "contradicted": 0.1, "neighbours": 0.96}, False),  # somewhere else
        ({"agreement": 0.7, "contradicted": 0.0, "neighbours": 0.88}, False),  # wrong matches within right pairs
        ({"agreement": 0.88, "contradicted": 0.25, "neighbours": 0.88}, False),  # equal sides that are told apart
    ],
)
def test_which_models_may_be_folded(evidence: dict[str, float], folded: bool) -> None:
    """Two readings are left of these, so that they are right with a probability of a half at most."""
    found = judge(replace(USUAL, **evidence), PHOTOS)
    assert (found.probability <= 0.5) == folded
    assert any("it may be folded" in each for each in found.reasons) == folded
    if folded:
        assert found.photo_probability.max() <= 0.5


def test_of_two_models_that_explain_the_photos_equally_well_one_is_right() -> None:
    tied = judge(replace(USUAL, margin=0.02), PHOTOS)
    assert tied.probability <= 0.5
    assert tied.reasons[0].startswith("two models explain these photos about equally well")
    assert "costs only 2% more" in tied.reasons[0]
    assert judge(replace(USUAL, margin=0.02), PHOTOS, VerdictOptions(tied_margin=0.01)).probability > 0.85
    worse = replace(USUAL, margin=0.02, neighbours=0.0, unchanged=0.0)
    assert judge(worse, PHOTOS).probability == judge(replace(worse, margin=0.5), PHOTOS).probability < 0.5


def test_two_photos_are_no_neighbours_of_each_other_that_say_anything(collection: Make) -> None:
    world = collection(photos=2, sweep_deg=20.0, points=400)
    evidence, _ = gather_evidence(world.graph, np.zeros(len(world.graph), bool), candidate(world))
    assert evidence.photos == 2
    assert np.isnan(evidence.neighbours)
    sure, unsure = (replace(evidence, determined=share) for share in (0.95, 0.0))
    assert judge(sure, PHOTOS).probability > 0.8 > judge(unsure, PHOTOS).probability


def test_a_photo_with_less_than_the_others_is_less_certain() -> None:
    weak = replace(PHOTOS, observations=np.array([400] * 11 + [15]), ties=np.array([5] * 11 + [1]))
    found = judge(USUAL, weak)
    assert found.photo_probability[-1] < 0.7 < 0.85 < found.photo_probability[0]
    assert found.photo_probability[0] == pytest.approx(found.probability)


def test_models_too_large_for_a_covariance_are_judged_by_the_rest() -> None:
    large = judge(replace(USUAL, determined=float("nan")), PHOTOS, VerdictOptions(assumed_determined=0.95))
    assert large.probability == pytest.approx(judge(USUAL, PHOTOS).probability)
