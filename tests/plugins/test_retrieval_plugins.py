"""Rankings behind the contract: what they make of good and of bad input."""

import pickle
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from unposed.pipeline.artifacts import Exif, Features, Photo, Photos, Ranking
from unposed.pipeline.errors import Interrupted
from unposed.pipeline.stage import Resources, StageError
from unposed.pipeline.store.memo import StoredMemo
from unposed.pipeline.store.store import Store
from unposed.plugins.cameras.exif import ExifCameras
from unposed.plugins.retrieval import asmk
from unposed.plugins.retrieval.asmk import Asmk, AsmkOfMast3r, read_codebook, words_for
from unposed.plugins.retrieval.coarse_matching import CoarseMatching
from unposed.plugins.retrieval.gps import Gps
from unposed.plugins.retrieval.pairs_file import PairsFile
from unposed.plugins.retrieval.poses import PoseRanking
from unposed.plugins.retrieval.sequence import Sequence
from unposed.plugins.retrieval.union import Union
from unposed.plugins.retrieval.vectors import PowerMean, Vlad
from unposed.retrieval import search
from unposed.retrieval.codebook import photos_of_least_content
from unposed.retrieval.known_counts import content_number

RESOURCES = Resources("cpu", 1, 1 << 28, 0)
RANKINGS = {
    "asmk": lambda features: Asmk()(features, RESOURCES),
    "mean": lambda features: PowerMean(power=1.0)(features, RESOURCES),
    "vlad": lambda features: Vlad(words=16)(features, RESOURCES),
}


def features_of(descriptors):
    count = len(descriptors)
    return Features(
        xy=np.zeros((count, 2), np.float32),
        scale=np.ones(count, np.float32),
        descriptors=descriptors,
        rgb=np.zeros((count, 3), np.uint8),
        score=np.ones(count, np.float32),
    )


def walk(photos, dims=32, dtype=np.float32):
    """Every photo shares two thirds of its descriptors with the next."""
    world = np.random.default_rng(0).normal(size=(20 * photos + 60, dims))
    if dtype == np.uint8:
        world = np.clip(60 + 30 * world, 0, 255)
    return {k: features_of(world[20 * k : 20 * k + 60].astype(dtype)) for k in range(photos)}


def collection(names, exif=None):
    exif = exif or [Exif()] * len(names)
    return Photos(tuple(Photo(n, Path(n), n, 10, 10, exif=e) for n, e in zip(names, exif, strict=True)), {})


def in_order(ranking):
    assert isinstance(ranking, Ranking)
    assert ranking.pairs.dtype == np.int32
    assert ranking.similarity.dtype == np.float32
    return ranking.pairs[np.argsort(-ranking.similarity, kind="stable")].tolist()


@pytest.mark.parametrize("rank", RANKINGS.values(), ids=RANKINGS)
@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32])
def test_neighbours_come_first(rank, dtype):
    best = in_order(rank(walk(8, dtype=dtype)))[:7]
    assert sorted(best) == [[k, k + 1] for k in range(7)]


@pytest.mark.parametrize("rank", RANKINGS.values(), ids=RANKINGS)
def test_photos_that_say_nothing_are_left_out(rank):
    features = walk(6)
    features[1] = features_of(np.empty((0, 32), np.float32))  # a black frame
    features[2] = features_of(np.full((5, 32), np.nan, np.float32))
    del features[3]
    features[4].descriptors[7] = np.inf
    ranking = rank(features)
    assert set(ranking.pairs.ravel().tolist()) <= {0, 4, 5}
    assert [4, 5] in ranking.pairs.tolist()
    assert np.isfinite(ranking.similarity).all()


@pytest.mark.parametrize("rank", RANKINGS.values(), ids=RANKINGS)
@pytest.mark.parametrize(
    ("features", "complaint"),
    [
        ({}, "no photo has descriptors"),
        ({0: features_of(np.empty((0, 32), np.uint8))}, "no photo has descriptors"),
        ({0: features_of(np.ones((2, 32))), 1: features_of(np.ones((2, 64)))}, "of 32 and of 64 dimensions"),
        ({0: features_of(np.empty((3, 0))), 1: features_of(np.empty((3, 0)))}, "wire `features`"),
    ],
    ids=["no photos", "no descriptors", "two lengths", "merged"],
)
def test_nothing_to_compare_is_told(rank, features, complaint):
    with pytest.raises(StageError, match=complaint):
        rank(features)


@pytest.mark.parametrize("rank", RANKINGS.values(), ids=RANKINGS)
@pytest.mark.parametrize("photos", [1, 2])
def test_fewer_photos_than_partners(rank, photos):
    assert rank(walk(photos)).pairs.tolist() in ([], [[0, 1]][: photos - 1])  # two may be as unlike as can be


@pytest.mark.parametrize("rank", RANKINGS.values(), ids=RANKINGS)
def test_a_copy_is_the_most_similar(rank):
    features = walk(6)
    features[6] = features[2]
    assert in_order(rank(features))[0] == [2, 6]


@pytest.mark.parametrize("stage", [Asmk(), PowerMean(), Vlad(words=16), CoarseMatching()])
def test_rankings_report_progress_and_can_be_stopped(stage):
    steps = []
    stage(walk(9, dtype=np.uint8), replace(RESOURCES, reporter=lambda *step: steps.append(step)))
    assert steps and all(0 <= done <= total for done, total, _ in steps)
    assert steps[-1][0] == steps[-1][1]

    def stop(done, total, message):
        raise Interrupted("enough")

    with pytest.raises(Interrupted):
        stage(walk(9, dtype=np.uint8), replace(RESOURCES, reporter=stop))


def test_a_large_collection_is_looked_through_by_words_first():
    features = walk(30, dtype=np.uint8)
    everything = CoarseMatching()(features, RESOURCES)
    likely = CoarseMatching(all_below=10, shortlist=3)(features, RESOURCES)
    known = {tuple(pair): value for pair, value in zip(everything.pairs.tolist(), everything.similarity, strict=True)}
    assert all(
        known[tuple(pair)] == value for pair, value in zip(likely.pairs.tolist(), likely.similarity, strict=True)
    )
    assert len(likely.pairs) <= 30 * 3
    assert {(k, k + 1) for k in range(29)} <= {tuple(pair) for pair in likely.pairs.tolist()}


def test_how_many_words_are_learnt():
    assert [words_for(count) for count in (1, 40, 10_000, 100_000, 200_000, 10_000_000)] == [
        1,
        10,
        2048,
        2083,
        4166,
        8192,
    ]


def test_words_from_a_file(tmp_path):
    features = walk(5)
    words = np.concatenate([f.descriptors[::3] for f in features.values()])
    np.save(tmp_path / "words.npy", words)
    (tmp_path / "words.pkl").write_bytes(
        pickle.dumps({"type": "Codebook", "params": {"size": len(words)}, "state": {"centroids": words}})
    )
    for name in ("words.npy", "words.pkl"):
        np.testing.assert_array_equal(read_codebook(tmp_path / name), words)
        assert sorted(in_order(Asmk(codebook=tmp_path / name)(features, RESOURCES))[:4]) == [
            [k, k + 1] for k in range(4)
        ]


def test_the_published_layout_of_words(reference):
    path = reference("fixtures/tiny_retrieval_codebook.pkl")
    assert len(AsmkOfMast3r(codebook=path)(walk(5), RESOURCES).pairs)


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("w.npy", np.zeros((0, 32), np.float32), "one per row"),
        ("w.npy", np.full((4, 32), np.nan), "not finite"),
        ("w.npy", np.ones((4, 16)), "of 16 dimensions"),
        ("w.npy", np.ones(32), "one per row"),
        ("w.pkl", {"state": {}}, "published layout"),
        ("w.pkl", [1, 2], "published layout"),
        ("w.pkl", Path("x"), "plain arrays"),
    ],
)
def test_words_that_cannot_be_used_are_told_in_a_line(tmp_path, name, content, complaint):
    file = tmp_path / name
    np.save(file, content) if name.endswith("npy") else file.write_bytes(pickle.dumps(content))
    with pytest.raises(StageError, match=complaint) as refusal:
        Asmk(codebook=file)(walk(3), RESOURCES)
    assert "\n" not in str(refusal.value)


def test_a_file_that_is_no_table(tmp_path):
    (tmp_path / "w.npy").write_bytes(b"nonsense")
    with pytest.raises(StageError):
        Asmk(codebook=tmp_path / "w.npy")(walk(3), RESOURCES)


def test_a_sequence_counts_numbers_in_names():
    photos = collection(["f1.jpg", "f10.jpg", "f2.jpg"])
    ranking = Sequence(window=1)(photos)
    assert ranking.pairs.tolist() == [[0, 2], [1, 2]]
    assert len(Sequence(window=1, closed=True)(photos).pairs) == 3


def test_gps():
    at = [Exif(latitude_deg=52.0, longitude_deg=13.0 + 0.0005 * k) for k in range(4)]
    ranking = Gps(reach_m=50.0)(collection(list("abcde"), [*at, Exif()]))
    assert ranking.pairs.tolist() == [[0, 1], [1, 2], [2, 3]]
    with pytest.raises(StageError, match="1 of 2 photos"):
        Gps()(collection(["a", "b"], [at[0], Exif()]))


def test_poses_choose_the_nearest_that_look_the_same_way():
    """Five cameras on a line, the middle one turned around, and one without a pose."""
    poses = np.tile(np.eye(3, 4), (6, 1, 1))
    poses[:, 0, 3] = -np.arange(6.0)
    poses[2] = np.diag([-1.0, 1.0, -1.0]) @ poses[2]
    poses[5] = np.nan
    photos = collection(list("abcdef"))
    cameras = replace(ExifCameras()(photos), cam_from_world=poses)
    ranking = PoseRanking(partners=2)(photos, cameras)
    assert ranking.pairs.tolist() == [[0, 1], [0, 3], [1, 3], [1, 4], [3, 4]]
    assert ranking.similarity.tolist() == [1.0, 0.5, 0.5, 0.5, 1.0]
    every = PoseRanking(max_angle_deg=180.0)(photos, cameras)
    assert every.pairs.tolist() == [list(pair) for pair in combinations(range(5), 2)]
    poses[1:] = np.nan
    assert len(PoseRanking()(photos, replace(cameras, cam_from_world=poses)).pairs) == 0
    with pytest.raises(StageError, match="no poses are given"):
        PoseRanking()(photos, ExifCameras()(photos))


def test_pairs_from_a_file(tmp_path):
    photos = collection(["a b.jpg", "x/c.jpg", "d.jpg"])
    file = tmp_path / "pairs.txt"
    file.write_text("# best first\nd.jpg\ta b.jpg\t0.5\n\nx/c.jpg d.jpg\nd.jpg x/c.jpg 0.25\nd.jpg gone.jpg\n")
    ranking = PairsFile(file)(photos)
    assert ranking.pairs.tolist() == [[0, 2], [1, 2]]
    assert ranking.similarity.tolist() == [0.5, 1.0]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "no pair of these photos"),
        ("a.jpgg b.jpg", "'a.jpgg' is none of them"),
        ("a.jpg", "pairs.txt:1: expected two names"),
        ("\na.jpg b.jpg 7", "pairs.txt:2"),
        ("a.jpg b.jpg c.jpg", "pairs.txt:1"),
        ("a.jpg b.jpg nan", "pairs.txt:1"),
    ],
)
def test_lists_that_cannot_be_read(tmp_path, text, complaint):
    file = tmp_path / "pairs.txt"
    file.write_text(text)
    with pytest.raises(StageError, match=complaint):
        PairsFile(file)(collection(["a.jpg", "b.jpg"]))


def test_union():
    first = Ranking(np.array([[0, 1]], np.int32), np.array([0.01], np.float32))
    second = Ranking(np.array([[0, 1], [1, 2]], np.int32), np.array([0.9, 0.8], np.float32))
    both = Union()(first, second)
    assert both.pairs.tolist() == [[0, 1], [1, 2]]
    assert both.similarity.tolist() == [1.0, 1.0]


def test_words_and_signatures_are_kept_for_the_photos_that_show_the_same(tmp_path, monkeypatch):
    quantised, learnt = [], []

    def watched(codebook, rows, count, real=search.nearest_words):
        quantised.append(len(rows))
        return real(codebook, rows, count)

    def watched_training(rows, *options, real=asmk.train_codebook, **named):
        learnt.append(len(rows))
        return real(rows, *options, **named)

    monkeypatch.setattr(search, "nearest_words", watched)
    monkeypatch.setattr(asmk, "train_codebook", watched_training)
    photos = walk(61, dtype=np.uint8)
    rank = Asmk(words=64, word_photos=8)
    numbers = sorted(photos, key=lambda k: int(content_number(photos[k].descriptors)))
    before = {k: photos[k] for k in range(61) if k != numbers[-1]}
    with Store(tmp_path) as store:
        lent = replace(RESOURCES, memo=StoredMemo(store, "retrieval.asmk"))
        rank(before, lent)
        assert len(learnt) == 1 and sum(quantised) == 60 * 60
        kept = rank(photos, lent)  # one more, which is not among those that words are learnt from
        assert len(learnt) == 1 and sum(quantised) == 61 * 60
        anew = rank(photos, RESOURCES)
        np.testing.assert_array_equal(kept.pairs, anew.pairs)
        np.testing.assert_array_equal(kept.similarity, anew.similarity)
        assert len(learnt) == 2
        rank({k: photos[k] for k in range(61) if k != numbers[0]}, lent)  # one that words were learnt from is gone
        assert len(learnt) == 3


def test_photos_that_words_are_learnt_from_are_chosen_by_what_they_show():
    photos = [each.descriptors for each in walk(50).values()]
    chosen = photos_of_least_content(photos.__getitem__, range(50), 10)
    order = np.random.default_rng(0).permutation(50)
    again = photos_of_least_content(lambda k: photos[order[k]], range(50), 10)
    assert len(chosen) == 10 and chosen == sorted(chosen)
    assert {int(order[k]) for k in again} == set(chosen)
    assert photos_of_least_content(photos.__getitem__, range(5), 10) == list(range(5))
