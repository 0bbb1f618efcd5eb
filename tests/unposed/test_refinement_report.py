"""What summary.json says of residuals and refinement."""

import json
from pathlib import Path

import numpy as np
import pytest

from unposed.pipeline.artifacts import Camera, Photo, Photos, RefinementReport, SparseModel
from unposed.refinement_report import photo_figures, report_figures
from unposed.summary_rules import MODEL, misfit

PHOTOS = Photos(tuple(Photo(name, Path(), name, 100, 80) for name in ("a.jpg", "b.jpg", "c.jpg")), {})


def scene() -> SparseModel:
    """Two cameras side by side, 100 pixels of focal length; one point seen 3 and 4 pixels off, and one exactly."""
    points = np.array([[0.0, 0.0, 2.0], [1.0, 0.0, 4.0]])
    xy = np.array([[53.0, 44.0], [75.0, 40.0], [9.0, 9.0], [0.0, 40.0]])
    poses = np.stack([np.eye(3, 4)] * 2)
    poses[1, 0, 3] = -1.0
    return SparseModel(
        cameras=(Camera("SIMPLE_PINHOLE", 100, 80, (100.0, 50.0, 40.0)),),
        photos=np.array([0, 2], np.int32),
        camera_of_photo=np.zeros(2, np.int32),
        cam_from_world=poses,
        xy=xy,
        xy_start=np.array([0, 2, 4]),
        points=points,
        rgb=np.zeros((2, 3), np.uint8),
        error_px=np.zeros(2),
        obs_xy=np.array([0, 3, 1]),
        obs_point=np.array([0, 0, 1]),
    )


def report(**more: object) -> RefinementReport:
    return RefinementReport(
        costs=((2.0, 1.0), (1.5,)),
        pairs=np.array([[0, 2]], np.int32),
        matches=np.array([7]),
        inliers=np.array([0]),
        error_px=np.array([np.nan]),
        removed={"matches off their epipolar lines": 7},
        **more,  # type: ignore[arg-type]
    )


def test_residuals_photo_figures() -> None:
    first, second = photo_figures(scene(), None)
    assert first == {"error_px": pytest.approx(np.sqrt((3**2 + 4**2) / 2), rel=1e-3)}
    assert second == {"error_px": 0.0}
    with_sigma = photo_figures(scene(), report(sigma_deg=np.array([0.1, np.nan])))
    assert [each["sigma_deg"] for each in with_sigma] == [0.1, None]


def test_what_is_written_can_be_read_again() -> None:
    """Also of a pair none of whose matches agrees, which has no error."""
    figures = json.loads(json.dumps(report_figures(PHOTOS, report())))
    assert figures["pairs"] == [["a.jpg", "c.jpg", 7, 0, None]]
    assert misfit({"model": "sparse/0", "refinement": figures}, MODEL) is None
    assert misfit({"refinement": {"pairs": [["a.jpg", "c.jpg", 7, "0", None]]}}, MODEL) == "refinement.pairs[0]"


def test_a_report_is_plain_json() -> None:
    said = report_figures(PHOTOS, report(free_gauge=7, condition=123456.0))
    assert json.loads(json.dumps(said, allow_nan=False)) == {
        "costs": [[2.0, 1.0], [1.5]],
        "removed": {"matches off their epipolar lines": 7},
        "free_gauge": 7,
        "condition": 123500.0,
        "pairs": [["a.jpg", "c.jpg", 7, 0, None]],
        "hypotheses": [],
        "verdict": None,
    }
    assert report_figures(PHOTOS, report())["condition"] is None
