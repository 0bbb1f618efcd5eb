"""Frames chosen from figures about all: spacing, sharpness, and what is passed over."""

from __future__ import annotations

import numpy as np

from unposed.retrieval.frame_choice import FrameChoiceOptions, choose_frames, frames_by_motion


def test_frames_are_evenly_spaced_along_the_way_and_not_in_time() -> None:
    step = np.concatenate([np.full(100, 0.005), np.zeros(300), np.full(100, 0.01)])
    chosen = choose_frames(np.ones(500), step, np.full(500, 5.0), budget=30)
    rows = chosen.rows
    assert 28 <= len(rows) <= 30
    assert ((rows > 105) & (rows < 395)).sum() <= 1  # the camera rests
    way = np.cumsum(step)[rows]
    assert np.diff(way).max() < 2.2 * 1.5 / 30


def test_the_sharpest_frame_of_each_piece_is_taken() -> None:
    rng = np.random.default_rng(0)
    sharpness = rng.uniform(0.8, 1.2, 400)
    chosen = choose_frames(sharpness, np.full(400, 0.01), np.full(400, 5.0), budget=40)
    assert np.mean(sharpness[chosen.rows]) > 1.12


def test_what_is_passed_over_is_counted() -> None:
    sharpness, step, difference = np.ones(200), np.full(200, 0.01), np.full(200, 5.0)
    difference[10:20] = 0.1
    step[50:55] = 0.2
    sharpness[100:107] = 0.2
    chosen = choose_frames(sharpness, step, difference, budget=200)
    assert (chosen.duplicates, chosen.fast, chosen.blurred) == (10, 5, 7)
    taken = set(chosen.rows.tolist())
    assert not taken & {*range(10, 20), *range(50, 55), *range(100, 107)}


def test_where_all_move_as_much_no_frame_is_in_quick_motion() -> None:
    """A time lapse, with one jump in it."""
    step = np.full(40, 0.1)
    step[20] = 0.3
    chosen = choose_frames(np.ones(40), step, np.full(40, 30.0), budget=60)
    assert chosen.fast == 1
    assert chosen.rows.tolist() == [row for row in range(40) if row != 20]


def test_little_motion_gives_few_frames_whatever_the_budget() -> None:
    assert len(choose_frames(np.ones(300), np.full(300, 1e-4), np.full(300, 5.0), budget=100).rows) == 1
    assert len(choose_frames(np.zeros(0), np.zeros(0), np.zeros(0), budget=100).rows) == 0


def test_a_cut_begins_a_new_piece() -> None:
    step = np.full(20, 0.001)
    step[10] = np.nan
    rows = choose_frames(np.ones(20), step, np.full(20, 5.0), budget=10).rows.tolist()
    assert len(rows) == 2 and rows[0] < 10 <= rows[1]


def test_more_cuts_than_frames_leave_out_no_end_of_a_clip() -> None:
    """Where each frame is far from the one before, all are cuts: the second half was never looked at."""
    step = np.full(300, np.nan)
    rows = choose_frames(np.ones(300), step, np.full(300, 30.0), budget=60).rows
    assert len(rows) == 60
    assert rows[-1] >= 294 and np.diff(rows).max() <= 6


def test_a_smeared_frame_is_no_reason_to_take_another() -> None:
    """Corners are lost before and after it: one gap, and not two."""
    step, sharpness = np.full(90, 1e-4), np.ones(90)
    step[[30, 31, 60, 61]] = np.nan
    sharpness[[30, 60]] = 0.1
    rows = choose_frames(sharpness, step, np.full(90, 5.0), budget=60).rows
    assert len(rows) == 3
    assert rows[0] < 30 < rows[1] < 60 < rows[2]


def test_frames_are_enough_to_overlap() -> None:
    slow, quick = np.full(100, 0.003), np.full(100, 0.03)
    assert frames_by_motion(np.ones(100), slow, np.full(100, 5.0)) == 3
    assert frames_by_motion(np.ones(100), quick, np.full(100, 5.0)) == 21
    assert frames_by_motion(np.ones(100), quick, np.full(100, 5.0), FrameChoiceOptions(max_spacing=0.3)) == 11
    quick[50:] = np.nan
    assert frames_by_motion(np.ones(100), quick, np.full(100, 5.0)) == 61
    assert frames_by_motion(np.zeros(0), np.zeros(0), np.zeros(0)) == 0
