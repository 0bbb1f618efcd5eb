"""Which intrinsics make a collection fit together: found from afar, and photos of one size given separate cameras."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from unposed.optim.bundle.intrinsics import Intrinsics
from unposed.optim.bundle.problem import IntrinsicsPrior
from unposed.optim.intrinsics_priors import IntrinsicsPriorOptions
from unposed.optim.mapping import intrinsics_search as search
from unposed.optim.mapping.drafts import rotation_difference_deg
from unposed.optim.mapping.focal_search import evaluate_repeatedly
from unposed.optim.mapping.global_mapper import CoarseModel, GlobalMapperOptions, map_component
from unposed.optim.mapping.intrinsics_search import (
    IntrinsicsChoice,
    _beyond_core,
    core_matches,
    initial_focals,
    select_intrinsics,
)
from unposed.optim.mapping.intrinsics_search_options import IntrinsicsSearchOptions
from unposed.optim.mapping.view_graph_calibration import ViewGraphCalibrationOptions
from unposed.optim.view_graph import ViewGraph

Make = Callable[..., Any]
LONG = (6000.0, 800.0, 600.0, 0.0)
WIDE, TELE = (1500.0, 800.0, 600.0, 0.0), (2400.0, 800.0, 600.0, 0.0)


def found_for(world: Any, factor: float = 1.0, graph: ViewGraph | None = None, **options: Any) -> IntrinsicsChoice:
    intrinsics = world.initial_intrinsics(factor)
    known = options.pop("known", np.zeros(len(intrinsics.models), bool))
    settings = {"assumed_groups": True, "keypoint_error_px": 1.0, **options}
    return select_intrinsics(world.graph if graph is None else graph, intrinsics, known, **settings)


def focal_errors_percent(world: Any, choice: IntrinsicsChoice) -> np.ndarray:
    """Per photo."""
    found = choice.intrinsics.values[choice.intrinsics.camera_of_photo, 0]
    return 100.0 * np.abs(found / world.photo_intrinsics[:, 0] - 1.0)


@pytest.mark.slow
@pytest.mark.parametrize("factor", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("pairs_tell", [True, False])
def test_a_shared_focal_is_found_from_afar(collection: Make, factor: float, pairs_tell: bool) -> None:
    world = collection(noise_px=0.5, wrong=0.03)
    choice = found_for(world, factor, world.graph if pairs_tell else world.without_fundamental())
    assert focal_errors_percent(world, choice).max() < 2.0
    assert len(choice.intrinsics.models) == 1  # truly shared, and left so
    assert choice.cost < 0.3
    assert choice.warnings == ()


def test_a_model_is_confirmed_by_several_seeds_and_only_if_the_core_is_everything(collection: Make) -> None:
    world = collection(photos=10, noise_px=0.5, wrong=0.03)
    confirmed = found_for(world).confirmed
    assert confirmed is not None and rotation_difference_deg(confirmed, world.bundle()) < 0.5
    assert found_for(world, known=np.ones(1, bool)).confirmed is None  # mapped once
    assert found_for(world, options=IntrinsicsSearchOptions(core_photos=8)).confirmed is None


@pytest.mark.parametrize(("at_least", "squeezed"), [(5, False), (4, True)])
def test_few_photos_are_not_taken_for_squeezed(collection: Make, at_least: int, squeezed: bool) -> None:
    lens = (1500.0, 1200.0, 800.0, 600.0, 0.0, 0.0, 0.0, 0.0)
    world = collection(photos=4, noise_px=0.5, sweep_deg=60.0, model="OPENCV", lenses=(lens,))
    choice = select_intrinsics(
        world.graph,
        of_square_pixels(world),
        np.zeros(1, bool),
        assumed_groups=True,
        keypoint_error_px=1.0,
        options=IntrinsicsSearchOptions(min_squeezed_photos=at_least),
    )
    assert any("squeezed" in warning for warning in choice.warnings) == squeezed


def of_square_pixels(world: Any) -> Intrinsics:
    """What is assumed of the cameras of photos that were squeezed."""
    start = world.initial_intrinsics()
    values = start.values.copy()
    values[:, 1] = values[:, 0]
    return replace(start, models=("SIMPLE_RADIAL",), values=values)


@pytest.mark.slow
@pytest.mark.parametrize("squeeze", [0.8, 1.26])
def test_squeezed_photos_have_two_focal_lengths(collection: Make, squeeze: float) -> None:
    lens = (1500.0, 1500.0 * squeeze, 800.0, 600.0, 0.0, 0.0, 0.0, 0.0)
    world = collection(photos=12, noise_px=0.5, model="OPENCV", lenses=(lens,))
    square = of_square_pixels(world)
    choice = select_intrinsics(world.graph, square, np.zeros(1, bool), assumed_groups=True, keypoint_error_px=1.0)
    assert choice.intrinsics.models == ("OPENCV",)
    assert any("squeezed" in warning for warning in choice.warnings)
    fx, fy = choice.intrinsics.values[0, :2]
    assert fy / fx == pytest.approx(squeeze, rel=0.01) and fx == pytest.approx(1500.0, rel=0.02)
    known = select_intrinsics(world.graph, square, np.ones(1, bool), assumed_groups=True, keypoint_error_px=1.0)
    assert known.intrinsics.models == ("SIMPLE_RADIAL",)  # a known focal length is of square pixels


def test_a_fisheye_is_recognised_by_how_well_it_fits(collection: Make) -> None:
    """130 degrees across. A perspective model fits such photos poorly, at any focal length and distortion."""
    lens = (700.0, 700.0, 800.0, 600.0, 0.0, 0.0, 0.0, 0.0)
    world = collection(photos=12, points=800, noise_px=0.5, model="OPENCV_FISHEYE", lenses=(lens,), distance=1.7)
    start = world.initial_intrinsics()
    usual = replace(start, models=("SIMPLE_RADIAL",), values=start.values * [2.0, 2.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0])
    choice = select_intrinsics(world.graph, usual, np.zeros(1, bool), assumed_groups=True, keypoint_error_px=1.0)
    assert choice.intrinsics.models == ("OPENCV_FISHEYE",)
    assert any("fisheye" in warning for warning in choice.warnings)
    assert choice.intrinsics.values[0, 0] == pytest.approx(700.0, rel=0.03)
    given = replace(usual, prior=replace(usual.prior, sigma=np.full((1, 8), 1e-6)))
    kept = select_intrinsics(world.graph, given, np.ones(1, bool), assumed_groups=True, keypoint_error_px=1.0)
    assert kept.intrinsics.models == ("SIMPLE_RADIAL",)  # a given camera is a fact


@pytest.mark.parametrize("factor", [0.3, 1.0])
def test_a_long_lens_and_a_turntable(collection: Make, factor: float) -> None:
    """15 degrees of view. A wide lens would mean another shape, which hardly shows in pairs."""
    world = collection(noise_px=0.5, sweep_deg=360.0, photos=16, distance=25.0, lenses=(LONG,))
    assert focal_errors_percent(world, found_for(world, factor)).max() < 5.0


@pytest.mark.parametrize("factor", [0.7, 1.4])
def test_two_cameras_of_different_size(collection: Make, factor: float) -> None:
    world = collection(noise_px=0.5, lenses=(WIDE, (1100.0, 500.0, 400.0, 0.0)), sizes=((1600, 1200), (1000, 800)))
    choice = found_for(world, factor)
    assert focal_errors_percent(world, choice).max() < 2.0
    assert len(choice.intrinsics.models) == 2


def test_photos_of_one_size_but_two_lenses_get_a_camera_each(collection: Make) -> None:
    world = collection(noise_px=0.5, lenses=(WIDE, TELE))
    choice = found_for(world)
    assert len(choice.intrinsics.models) == len(world.graph.keypoints)
    assert focal_errors_percent(world, choice).max() < 5.0
    assert "not taken by one camera" in choice.warnings[0]


def test_one_look_through_a_zoom_is_enough(collection: Make) -> None:
    """Two of twelve photos were zoomed in: the rest fits so well that the cost of the whole is low."""
    lenses = [TELE if photo in (3, 8) else WIDE for photo in range(12)]
    world = collection(noise_px=0.3, photos=12, lenses=lenses)
    choice = found_for(world)
    assert len(choice.intrinsics.models) == 12
    assert focal_errors_percent(world, choice).max() < 3.0


def test_a_ring_by_as_many_long_lenses_as_photos(collection: Make) -> None:
    """2 to 8 sides: one camera fits none of them, and its focal length is no start for theirs. A fifth of the ring is
    beyond the core, and calibrated against it."""
    focal = 1600.0 * np.exp(np.random.default_rng(3).uniform(np.log(2.0), np.log(8.0), 20))
    lenses = [(f, 800.0, 600.0, 0.0) for f in focal]
    world = collection(photos=20, sweep_deg=360.0, distance=14.0, noise_px=0.5, lenses=lenses)
    choice = found_for(world)
    assert len(choice.intrinsics.models) == 20 and choice.clear
    assert focal_errors_percent(world, choice).max() < 10.0


def test_a_camera_beyond_the_core_is_like_those_in_it_unless_its_pairs_say_otherwise(collection: Make) -> None:
    lenses = [LONG] * 7 + [(7200.0, 800.0, 600.0, 0.0)]
    world = collection(photos=8, sweep_deg=120.0, distance=12.0, grouped=False, lenses=lenses)
    start = world.initial_intrinsics().with_focals(np.array([LONG[0]] * 7 + [1900.0]))
    found = np.arange(8) < 7
    usual = _beyond_core(world.graph, start, found, IntrinsicsSearchOptions())
    np.testing.assert_array_equal(usual.values[:7, 0], LONG[0])
    assert usual.values[7, 0] == pytest.approx(7200.0, rel=0.03)
    calibration = ViewGraphCalibrationOptions(other_lenses=1e-60, lens_log_sigma=0.02)
    held = _beyond_core(world.graph, start, found, IntrinsicsSearchOptions(calibration=calibration))
    silent = _beyond_core(world.without_fundamental(), start, found, IntrinsicsSearchOptions())
    assert held.values[7, 0] == pytest.approx(LONG[0], rel=0.02)
    assert silent.values[7, 0] == pytest.approx(LONG[0])  # and not the guess


def test_a_fisheye_that_was_not_found_says_nothing_of_other_cameras(collection: Make) -> None:
    world = collection(photos=8, sweep_deg=120.0, distance=12.0, grouped=False, lenses=[LONG] * 8)
    models = ("SIMPLE_RADIAL", *("OPENCV_FISHEYE",) * 6, "SIMPLE_RADIAL")
    start = replace(world.initial_intrinsics(), models=models)
    for guess in (700.0, 12000.0):
        guessed = start.with_focals(np.array([LONG[0], *[guess] * 6, 1900.0]))
        after = _beyond_core(world.graph, guessed, np.arange(8) < 1, IntrinsicsSearchOptions()).values[:, 0]
        np.testing.assert_array_equal(after[1:7], guess)
        assert after[7] == pytest.approx(LONG[0], rel=0.02)


def test_a_ring_by_one_long_lens_stays_one_camera(collection: Make) -> None:
    world = collection(photos=20, sweep_deg=360.0, distance=14.0, noise_px=0.5, lenses=(LONG,))
    choice = found_for(world)
    assert len(choice.intrinsics.models) == 1 and choice.warnings == ()
    assert focal_errors_percent(world, choice).max() < 3.0


def test_given_groups_are_a_fact(collection: Make) -> None:
    choice = found_for(collection(noise_px=0.5, photos=6, lenses=(WIDE, TELE)), assumed_groups=False)
    assert len(choice.intrinsics.models) == 1


def test_a_known_focal_is_not_searched(collection: Make) -> None:
    world = collection(noise_px=0.5, photos=6)
    intrinsics = world.initial_intrinsics(1.02, "given")
    choice = select_intrinsics(world.graph, intrinsics, np.array([True]), assumed_groups=False, keypoint_error_px=1.0)
    assert choice.intrinsics.values[0, 0] == pytest.approx(1530.0, rel=1e-6)


def test_a_focal_length_given_with_a_deviation_is_a_prior(collection: Make) -> None:
    """Three percent off: constant without a deviation, else the nearer to what the photos say the larger it is."""
    world = collection(noise_px=0.5, photos=6)
    start, focal = world.initial_intrinsics(1.03, "given"), []
    for deviation_px in (1e-6, 60.0, 600.0):
        sigma = start.prior.sigma.copy()
        sigma[:, :2] = deviation_px, np.inf  # of a shared focal length the prior counts once
        soft = replace(start, prior=replace(start.prior, sigma=sigma))
        choice = select_intrinsics(world.graph, soft, np.array([True]), assumed_groups=False, keypoint_error_px=1.0)
        focal.append(choice.intrinsics.values[0, 0])
        assert not choice.warnings
    assert focal[0] == pytest.approx(1545.0, rel=1e-6)
    assert focal[1] < 1535.0 and focal[2] == pytest.approx(1500.0, rel=0.01)


def test_a_candidate_is_mapped_again_from_the_focal_lengths_of_its_model(collection: Make) -> None:
    """A mapper that only ever comes half of the way: repeating it arrives."""
    world = collection(photos=3)
    tried = []

    def halfway(candidate: Intrinsics) -> CoarseModel:
        focal = np.sqrt(candidate.values[:, 0] * 1500.0)
        tried.append(focal[0])
        bundle = replace(world.bundle(), intrinsics=candidate.with_focals(focal).values)
        return CoarseModel(bundle, np.zeros(0, np.int64), np.zeros(0), cost=float(abs(np.log(focal[0] / 1500.0))))

    found = evaluate_repeatedly(halfway, world.initial_intrinsics(3.0), IntrinsicsSearchOptions())
    assert found is not None
    assert found.focals[0] == min(tried) == pytest.approx(1500.0, rel=0.05)
    assert len(tried) == 5  # 73, 32, 15, 7, 3.5 percent off: the last one moved less than a twentieth


def test_a_hopeless_collection_says_so(collection: Make) -> None:
    world = collection(photos=4, wrong=1.0)
    choice = found_for(world)
    assert choice.cost == 1.0
    assert "no candidate focal length" in choice.warnings[0]


def test_cameras_outside_the_core_keep_their_start(collection: Make) -> None:
    """Two photos of another size that match nothing."""
    world = collection(noise_px=0.3, photos=9, lenses=(WIDE, WIDE, (900.0, 500.0, 400.0, 0.0)),
                       sizes=((1600, 1200), (1600, 1200), (1000, 800)))  # fmt: skip
    third = world.graph.pairs % 3 == 2
    alone = world.graph.select(~third.any(axis=1))
    small = int(world.camera_of_photo[2])
    choice = found_for(world, 1.3, alone)
    assert choice.intrinsics.values[small, 0] == pytest.approx(1.3 * 900.0)
    assert choice.intrinsics.values[1 - small, 0] == pytest.approx(1500.0, rel=0.02)


def test_another_component_has_no_influence(collection: Make) -> None:
    """Half of the photos see something else: what they have to lose is not the core's loss."""
    world = collection(noise_px=0.5, photos=12, sweep_deg=120.0)
    side = world.graph.pairs < 6
    choice = found_for(world, 1.3, world.graph.select(side[:, 0] == side[:, 1]))
    assert choice.cost < 0.3
    assert choice.warnings == ()
    assert focal_errors_percent(world, choice).max() < 2.0


def test_a_poor_fit_is_noted(collection: Make) -> None:
    """Key points three times as inexact as expected: there are poses, but nothing to rely on."""
    choice = found_for(collection(noise_px=3.0))
    assert choice.cost > 0.45
    assert "fit together" in choice.warnings[-1]


def test_photos_that_do_not_tell_leave_it_at_the_usual(collection: Make) -> None:
    """Two photos from afar: any long focal length fits, and a warning says so."""
    world = collection(photos=2, sweep_deg=12.0, noise_px=0.5, distance=25.0, lenses=(LONG,))
    choice = found_for(world, 0.4)
    assert choice.warnings == ("the focal length could not be determined well from these photos",)
    assert choice.intrinsics.values[0, 0] == pytest.approx(0.4 * LONG[0], rel=0.25)


def test_doppelgangers_do_not_raise_the_cost(collection: Make) -> None:
    """Photos far apart on a ring match key points that show different things, but fit the motion between neighbours."""
    world = collection(noise_px=0.5, points=1500, photos=14, sweep_deg=360.0)
    keypoints = world.graph.keypoints
    clean = found_for(world, 1.3)
    pairs, rows_a, rows_b = [], [], []
    for a in range(14):
        for b in range(a + 6, min(a + 9, 14)):
            fundamental = world.fundamental(a, (a + 1) % 14)
            real = [keypoints.start[i] + np.flatnonzero(world.point_of[i] >= 0) for i in (a, b)]
            x, y = (np.column_stack([keypoints.xy[rows], np.ones(len(rows))]) for rows in real)
            line = x @ fundamental.T
            fits = np.abs(line @ y.T) / np.linalg.norm(line[:, :2], axis=1)[:, None] < 0.7
            fits &= np.linalg.norm(x[:, None, :2] - y[None, :, :2], axis=2) < 250.0
            at_a, at_b = linear_sum_assignment(fits, maximize=True)
            good = fits[at_a, at_b]
            pairs.append((a, b))
            rows_a.append(real[0][at_a[good]])
            rows_b.append(real[1][at_b[good]])
    false = world.with_pairs(pairs, rows_a, rows_b)
    choice = found_for(world, 1.3, false)
    assert choice.cost < clean.cost + 0.1
    assert focal_errors_percent(world, choice).max() < 2.0


def test_the_start_is_what_pairs_suggest_within_reason(collection: Make) -> None:
    world = collection(photos=5)
    m = world.graph
    for suggested, expected in ((1700.0, 1700.0), (1e5, 15.0 * 1600), (10.0, 0.4 * 1600)):
        suggesting = replace(m, focal_px=np.full(len(m), suggested))
        start = initial_focals(suggesting, world.initial_intrinsics(1.2), np.array([False]))
        assert start.values[0, 0] == pytest.approx(expected)
        kept = initial_focals(suggesting, world.initial_intrinsics(1.2), np.array([True]))
        assert kept.values[0, 0] == pytest.approx(1800.0)


def test_the_core_is_connected_and_strong(collection: Make) -> None:
    world = collection(photos=16, sweep_deg=180.0)
    m = world.graph
    core = core_matches(m, IntrinsicsSearchOptions(core_photos=6))
    photos = np.unique(core.pairs)
    assert len(photos) == 6
    strongest = m.pairs[np.argmax(np.minimum(m.match_count, 500))]
    assert np.isin(strongest, photos).all()
    assert np.ptp(photos) < 12  # neighbours
    inside = np.isin(m.pairs, photos).all(axis=1)
    np.testing.assert_array_equal(core.pairs, m.pairs[inside])
    np.testing.assert_array_equal(core_matches(m, IntrinsicsSearchOptions()).pairs, m.pairs)


def test_the_same_input_gives_the_same_bits(collection: Make) -> None:
    world = collection(noise_px=0.5, wrong=0.05, photos=6)
    first, second = found_for(world), found_for(world)
    assert first.intrinsics.values.tobytes() == second.intrinsics.values.tobytes()
    assert first.cost == second.cost


def test_a_camera_without_photos_is_no_obstacle(collection: Make) -> None:
    world = collection(photos=5, sweep_deg=60.0)
    one = world.initial_intrinsics(1.2)
    two = replace(
        one,
        models=one.models * 2,
        values=np.repeat(one.values, 2, axis=0),
        prior=replace(one.prior, mean=np.repeat(one.values, 2, axis=0), sigma=np.repeat(one.prior.sigma, 2, axis=0)),
    )
    choice = select_intrinsics(world.graph, two, np.array([False, False]), assumed_groups=True, keypoint_error_px=1.0)
    assert choice.intrinsics.values[0, 0] == pytest.approx(1500.0, rel=0.01)


def test_cameras_of_another_component_are_not_searched(collection: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """They once cost nine mappings of a component whose own cameras were known."""
    world = collection(noise_px=0.5)
    intrinsics = world.initial_intrinsics(1.0)
    prior = IntrinsicsPrior(intrinsics.prior.mean[[0, 0]], intrinsics.prior.sigma[[0, 0]], intrinsics.prior.noise_px)
    intrinsics = replace(intrinsics, models=intrinsics.models * 2, values=intrinsics.values[[0, 0]], prior=prior)
    counted = Mock(side_effect=map_component)
    monkeypatch.setattr(search, "map_component", counted)
    known = np.array([True, False])
    choice = select_intrinsics(world.graph, intrinsics, known, assumed_groups=True, keypoint_error_px=1.0)
    assert counted.call_count == 1
    assert choice.warnings == ()


@pytest.mark.parametrize("cut_px", [190.0, -240.0])
def test_crops_are_recognised_by_their_principal_points(collection: Make, cut_px: float) -> None:
    """Every other photo has lost an eighth of its width or more on one side."""
    cut = (1500.0, 0.5 * (1600.0 - abs(cut_px)) - 0.5 * cut_px, 600.0, 0.0)
    world = collection(
        noise_px=0.5,
        wrong=0.03,
        sweep_deg=70.0,
        distance=2.5,
        points=1500,
        lenses=(WIDE, cut),
        sizes=((1600, 1200), (1600 - int(abs(cut_px)), 1200)),
    )
    choice = found_for(world)
    rows = choice.intrinsics.values[choice.intrinsics.camera_of_photo]
    np.testing.assert_allclose(rows[:, 2:4], world.photo_intrinsics[:, 2:4], atol=12.0)
    assert focal_errors_percent(world, choice).max() < 1.0
    assert any("crops" in note for note in choice.warnings)
    assert choice.intrinsics.crops


@pytest.mark.parametrize(("at_least", "tried"), [(5, False), (4, True)])
def test_principal_points_of_few_photos_stay(collection: Make, at_least: int, tried: bool) -> None:
    cut = (1500.0, 560.0, 600.0, 0.0)
    world = collection(noise_px=0.5, sweep_deg=35.0, distance=2.5, points=1500, photos=4, lenses=(cut,))
    choice = found_for(world, options=IntrinsicsSearchOptions(min_crop_photos=at_least))
    assert choice.intrinsics.crops == tried
    assert any("crops" in note for note in choice.warnings) == tried


def test_a_lens_somewhat_off_the_centre_is_no_crop(collection: Make) -> None:
    world = collection(noise_px=0.5, wrong=0.03, sweep_deg=70.0, lenses=((1500.0, 820.0, 588.0, 0.0),))
    choice = found_for(world)
    assert choice.warnings == () and not choice.intrinsics.crops
    np.testing.assert_array_equal(choice.intrinsics.values[:, 2:4], [[800.0, 600.0]])


@pytest.mark.parametrize("factor", [0.4, 2.5])
def test_focal_lengths_that_exif_has_wrong_are_not_used(collection: Make, factor: float) -> None:
    """A long lens leaves the focal length to the prior, and a wrong one bends the scene."""
    world = collection(noise_px=0.5, sweep_deg=360.0, photos=16, distance=25.0, lenses=(LONG,))
    intrinsics = world.initial_intrinsics(factor)
    sigma = intrinsics.prior.sigma.copy()
    sigma[:, :2] = IntrinsicsPriorOptions().exif_focal_sigma * intrinsics.values[:, :2]
    intrinsics = replace(intrinsics, prior=replace(intrinsics.prior, sigma=sigma))
    known = np.ones(len(intrinsics.models), bool)
    choice = select_intrinsics(world.graph, intrinsics, known, assumed_groups=True, keypoint_error_px=1.0)
    assert focal_errors_percent(world, choice).max() < 5.0
    assert any("EXIF" in note for note in choice.warnings)


def searched(collection: Make, options: IntrinsicsSearchOptions) -> tuple[float, list[float]]:
    """The cost of what is chosen, and the focal lengths that were tried in pixels, around a turntable."""
    world = collection(noise_px=0.5, sweep_deg=360.0, photos=16, distance=25.0, lenses=(LONG,))
    with pytest.MonkeyPatch.context() as patch:
        counted = Mock(side_effect=map_component)
        patch.setattr(search, "map_component", counted)
        choice = found_for(world, 0.3, world.without_fundamental(), options=options)
    return choice.cost, [call.args[2].values[0, 0] for call in counted.call_args_list]


@pytest.fixture(scope="module")
def usual_search(collection: Make) -> tuple[float, list[float]]:
    return searched(collection, IntrinsicsSearchOptions())


@pytest.mark.parametrize(
    "change",
    [
        {"core_photos": 4},
        {"tracks_per_photo": 20},
        {"max_repetitions": 1},
        {"repetition_min_change": 1.0},
        {"near_ratio": 1.1},
        {"min_focal_ratio": 2.0},
        {"max_focal_ratio": 0.5},
    ],
)
def test_every_option_of_the_candidates_changes_the_search(
    collection: Make, usual_search: tuple[float, list[float]], change: dict[str, Any]
) -> None:
    assert searched(collection, IntrinsicsSearchOptions(**change)) != usual_search


@pytest.mark.parametrize("change", [{"single_cost_ratio": 0.1}, {"accepted_cost_ratio": 0.1}])
def test_thresholds_of_more_freedom_are_options(collection: Make, change: dict[str, float]) -> None:
    choice = found_for(collection(noise_px=0.5, lenses=(WIDE, TELE)), options=IntrinsicsSearchOptions(**change))
    assert len(choice.intrinsics.models) == 1


def test_the_cost_of_a_warning_is_an_option(collection: Make) -> None:
    choice = found_for(collection(noise_px=0.5), options=IntrinsicsSearchOptions(poor_cost=1e-3))
    assert "fit together" in choice.warnings[-1]


def test_clear_costs_and_focal_ratios_decide_how_many_candidates_are_mapped(
    collection: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = collection(noise_px=0.5, photos=6)
    counts = []
    for options in (
        IntrinsicsSearchOptions(),
        IntrinsicsSearchOptions(clear_cost=1e-3),
        IntrinsicsSearchOptions(same_log_focal=1e-12),
        IntrinsicsSearchOptions(same_log_focal=1e-12, focal_ratios=()),
    ):
        counted = Mock(side_effect=map_component)
        monkeypatch.setattr(search, "map_component", counted)
        found_for(world, options=options)
        counts.append(counted.call_count)
    assert counts[0] < counts[1] < counts[2] and counts[3] < counts[2]


def test_candidates_are_mapped_with_the_options_of_the_mapper(collection: Make) -> None:
    world = collection(noise_px=0.5, wrong=0.03)
    strict = found_for(world, mapper=GlobalMapperOptions(adjustment_iterations=(8, 15, 1)))
    assert strict.cost != found_for(world).cost


@pytest.mark.parametrize("factor", [0.55, 1.9])
def test_what_single_photos_say_decides_where_two_photos_leave_it_open(collection: Make, factor: float) -> None:
    """Two photos side by side: with noise and wrong matches many focal lengths fit about as well."""
    world = collection(photos=2, points=60, sweep_deg=7.0, roll_deg=0.0, noise_px=1.5, wrong=0.1, seed=3)
    start = world.initial_intrinsics(factor)
    unknown, told = np.zeros(1, bool), start.with_focals(np.array([1500.0]))
    sigma = start.prior.sigma.copy()
    sigma[:, 0] = 0.04 * 1500.0
    told = replace(told, prior=replace(told.prior, mean=told.values.copy(), sigma=sigma))
    found = [
        select_intrinsics(world.graph, each, unknown, assumed_groups=True, keypoint_error_px=1.5).intrinsics.values[
            0, 0
        ]
        for each in (start, told)
    ]
    assert abs(np.log(found[0] / 1500.0)) > 0.2
    assert found[1] == pytest.approx(1500.0, rel=0.08)


def test_many_photos_outweigh_a_wrong_calibration_of_single_ones(collection: Make) -> None:
    world = collection(photos=8, noise_px=0.5)
    start = world.initial_intrinsics(2.0)
    sigma = start.prior.sigma.copy()
    sigma[:, 0] = 0.04 * start.values[:, 0]
    wrong = replace(start, prior=replace(start.prior, mean=start.values.copy(), sigma=sigma))
    choice = select_intrinsics(world.graph, wrong, np.zeros(1, bool), assumed_groups=True, keypoint_error_px=1.0)
    assert focal_errors_percent(world, choice).max() < 3.0
