"""`unposed check`: what is found in photos with known faults, and what is not found in good ones."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

import unposed
from unposed import photo_check
from unposed.cli import main
from unposed.optim.view_graph import Keypoints, build_view_graph
from unposed.photo_check import looked_at
from unposed.pipeline.artifacts import Exif, Photo, Photos
from unposed.pipeline.images.photos import single_photos
from unposed.report.expected_cost import expected_cost, slowness
from unposed.report.photo_findings import header_findings, overlap_findings, still_findings, suggested
from unposed.report.photo_quality import blurred, copies, photo_quality, sharpness
from unposed.report.still_matches import still_matches
from unposed.synthetic.photos import PhotoSet, write_photos
from unposed.synthetic.render import depth
from unposed.synthetic.scenes import turning_object


def faces(photos: int, **changes: object) -> Photos:
    """Photos of one phone, without files."""
    exif = Exif(make="Acme", model="Phone 3", focal_mm=4.2, focal_35mm=26.0)
    listed = [Photo(f"{i}.jpg", Path(f"{i}.jpg"), f"{i}", 4000, 3000, exif=exif) for i in range(photos)]
    return Photos(tuple(replace(each, **changes) for each in listed), {})  # type: ignore[arg-type]


def test_photos_that_are_not_compared_keep_no_pixels(yard: PhotoSet) -> None:
    look = looked_at(single_photos(min(yard.images.iterdir()))[0], compare=False)
    assert look is not None and look.keypoints.grey.base is None and look.keypoints.grey.size == 1


@pytest.fixture(scope="module")
def faulty(yard: PhotoSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve good photos; then a blurred one, one out of focus by motion, a white one, a copy, and another place."""
    folder = tmp_path_factory.mktemp("faulty")
    files = sorted(yard.images.iterdir())
    for file in files:
        shutil.copy(file, folder)
    good = np.array(Image.open(files[3]))
    kernel = np.zeros((15, 15), np.float32)
    kernel[7] = 1 / 15
    images = {"blurred": cv2.GaussianBlur(good, (0, 0), 2.0), "moved": cv2.filter2D(good, -1, kernel)}
    images["white"] = np.clip(good.astype(int) + 190, 0, 255).astype(np.uint8)
    images["elsewhere"] = np.random.default_rng(0).integers(0, 256, good.shape, dtype=np.uint8)
    for name, image in images.items():
        Image.fromarray(image).save(folder / f"{name}.png")
    shutil.copy(files[5], folder / f"copy{files[5].suffix}")
    return folder


def test_finds_what_is_wrong_and_nothing_else(faulty: Path, tmp_path: Path) -> None:
    found = unposed.check(faulty, cache=tmp_path)
    texts = [each.text for each in found.findings]
    assert "blurred.png and moved.png are blurred." in texts
    assert "white.png is over-exposed." in texts
    assert "elsewhere.png and white.png are like no other photo at first sight." in texts
    assert any(text.startswith("1 file is there more than once: 0005") for text in texts)
    assert len(found.compared) == len(found.photos) == 17
    partners = dict(zip(found.compared, found.partners, strict=True))
    assert partners["elsewhere.png"] == 0 and partners["copy" + next(faulty.glob("copy.*")).suffix] >= 3
    assert all(text.count("0000") == 0 for text in texts)  # a good one is in no finding


def test_good_photos_are_good(yard: PhotoSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(yard.images), "--cache", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "nothing speaks against these photos" in printed
    assert "to expect" in printed and f"unposed reconstruct {yard.images} -o result/ --preset classic" in printed
    assert main(["check", str(yard.images), "--cache", str(tmp_path), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["findings"] == [] and facts["suggested"]["preset"] == "classic"
    assert min(facts["partners"].values()) >= 2


def test_of_many_photos_each_is_compared_with_those_most_like_it(
    yard: PhotoSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):  # with nothing to compare in them
        Image.new("L", (320, 240), 90 + number).save(tmp_path / f"bare{number}.png")
    for photo in yard.images.iterdir():
        shutil.copy(photo, tmp_path)
    all_pairs = unposed.check(tmp_path)
    monkeypatch.setattr(photo_check, "ALL_BELOW", 4)
    monkeypatch.setattr(photo_check, "SHORTLIST", 5)
    few = unposed.check(tmp_path)
    assert few.findings == all_pairs.findings and few.compared == all_pairs.compared
    linked = [(a, b) for a, b in zip(few.partners, all_pairs.partners, strict=True) if b]
    assert len(linked) == 12 and all(2 <= a <= b for a, b in linked)
    assert sum(few.partners) < sum(all_pairs.partners)


def test_sharpness_does_not_depend_on_what_is_shown() -> None:
    rng = np.random.default_rng(0)
    sharp = []
    for contrast in (12.0, 60.0):
        spectrum = np.fft.fft2(rng.standard_normal((256, 256)))
        frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(256), np.fft.fftfreq(256)))
        image = np.fft.ifft2(spectrum / np.maximum(frequency, 1 / 256)).real
        grey = np.clip(128 + contrast * image / image.std(), 0, 255).astype(np.uint8)
        sharp.append(sharpness(grey))
        assert sharpness(cv2.GaussianBlur(grey, (0, 0), 1.5)) < 0.5 * sharp[-1]
        noise = rng.normal(0.0, 1.0, grey.shape)  # of the sensor, which no lens blurs
        far = np.clip(cv2.GaussianBlur(grey, (0, 0), 6.0) + noise, 0, 255).astype(np.uint8)
        assert sharpness(far) < 0.5 * sharp[-1]
    assert sharp[0] == pytest.approx(sharp[1], rel=0.15)
    assert blurred(np.array([0.8, 0.82, 0.79, 0.45, 0.3])).tolist() == [3, 4]


def test_copies_are_grouped() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4, 64, 64), dtype=np.uint8)
    images[2] = images[0]
    small = np.array([photo_quality(image).small for image in images])
    assert copies(small) == [(0, 2)]


def test_copies_among_many_photos_are_those_of_the_definition() -> None:
    rng = np.random.default_rng(1)
    small = rng.normal(size=(600, 1024))[rng.integers(0, 500, 600)]  # some twice, also far from each other
    small = (small - small.mean(axis=1, keepdims=True)) / small.std(axis=1, keepdims=True)
    small[7] = small[555] = 0.0  # without any contrast, which is like nothing
    groups: dict[int, list[int]] = {}
    for photo, own in enumerate(small):
        like = [other for other in range(photo) if np.sqrt(np.mean((small[other] - own) ** 2)) < 0.05]
        groups.setdefault(like[0] if like and own.any() else photo, []).append(photo)
    assert copies(small) == [tuple(group) for group in groups.values() if len(group) > 1]
    assert copies(small[:0]) == []


def test_a_clear_sky_has_nothing_to_match(yard: PhotoSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, file in enumerate(sorted(yard.images.iterdir())[:3]):
        shutil.copy(file, folder / f"{number}.jpg")
    blue = np.linspace(150, 220, 320).astype(np.uint8)
    Image.fromarray(np.stack([np.tile(blue, (240, 1))] * 3, axis=2)).save(folder / "sky.png")
    assert main(["check", str(folder), "--cache", str(tmp_path / "cache")]) == 0
    printed = capsys.readouterr().out
    assert "sky.png is without detail: fewer than 50 key points" in printed
    assert "like no other" not in printed


def test_headers_tell_cameras_zoom_and_what_editors_drop() -> None:
    assert header_findings(faces(5)) == []
    photos = faces(6).photos
    mixed = [*photos[:3], *(replace(each, exif=replace(each.exif, model="Camera", focal_mm=20.0 + 5 * i))
                            for i, each in enumerate(photos[3:5])), replace(photos[5], exif=Exif())]  # fmt: skip
    texts = " ".join(each.text for each in header_findings(Photos(tuple(mixed), {})))
    assert "by 3 cameras: Acme Phone 3 (3), Acme Camera (2), unknown camera (1)" in texts
    assert "zoom of Camera was turned: 2 focal lengths, 20 to 25 mm" in texts
    assert "1 of 6 photos have no focal length in their EXIF data, 5.jpg" in texts
    twice = [replace(each, exif=replace(each.exif, model="ACME Pro")) for each in photos[:2]]
    texts = " ".join(each.text for each in header_findings(Photos((*photos[2:4], *twice), {})))
    assert "by 2 cameras: Acme Phone 3 (2), ACME Pro (2)" in texts  # the maker is not said twice


def test_groups_and_single_links_are_named() -> None:
    names = [f"{i}" for i in range(7)]
    pairs = np.array([[0, 1], [1, 2], [0, 2], [2, 3], [4, 5], [5, 6], [4, 6]])
    texts = [each.text for each in overlap_findings(names, pairs, np.full(7, 40))]
    assert texts[0].startswith("The photos fall into 2 groups (4, 3 photos), one with 0, one with 4.")
    assert texts[1].startswith("1 link hangs on a single pair, 2 and 3")
    assert overlap_findings(names[:3], pairs[:3], np.full(3, 40)) == []
    assert "like no other" in overlap_findings(names[:4], pairs[:3], np.full(3, 40))[0].text


@pytest.mark.parametrize(
    ("photos", "kind", "options"),
    [
        (faces(20), "photos", ()),
        (faces(20, exif=Exif(make="DJI", model="FC3411", focal_mm=8.4)), "drone", ("--cameras", "single")),
        (faces(120, exif=Exif()), "video", ()),
        (faces(400, exif=Exif()), "video", ()),
        (Photos(tuple(replace(each, width=1000 + i) for i, each in enumerate(faces(20).photos)), {}), "internet", ()),
    ],
)
def test_a_preset_is_suggested_by_kind(photos: Photos, kind: str, options: tuple[str, ...]) -> None:
    found = suggested(photos)
    assert (found.kind, found.options) == (kind, options)
    assert expected_cost(photos, found.preset, 2) is not None


def test_a_turntables_background_is_recognised_and_hidden(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scene = turning_object(photos=9, width=256)
    write_photos(scene, tmp_path / "photos")
    line = ["check", str(tmp_path / "photos"), "--cache", str(tmp_path / "cache")]
    assert main(line) == 0
    printed = capsys.readouterr().out
    assert "In 9 of 9 photos something stands still" in printed
    assert printed.rstrip().endswith(f"unposed check {tmp_path / 'photos'} --write-masks masks")
    assert main([*line, "--write-masks", str(tmp_path / "masks")]) == 0
    assert capsys.readouterr().out.rstrip().endswith(f"--preset classic --masks {tmp_path / 'masks'}")
    run = ["reconstruct", str(tmp_path / "photos"), "-o", str(tmp_path / "out"), "--cache", str(tmp_path / "cache")]
    assert main([*run, "--preset", "classic", "--device", "cpu", "--no-report", "--quiet"]) == 3
    remedy = f"hide it by unposed check {tmp_path / 'photos'} --write-masks masks, then --masks masks"
    assert remedy in capsys.readouterr().err
    warnings = json.loads((tmp_path / "out" / "summary.json").read_text("utf-8"))["warnings"]
    assert warnings[-1].startswith("In 9 of 9 photos something stands still") and warnings[-1].endswith(remedy)
    shown, right = [], []
    for shot in scene.shots[::4]:
        mask = np.asarray(Image.open(tmp_path / "masks" / f"{shot.name}.png")) > 0
        turned = np.isfinite(depth(scene.world, shot))
        shown.append(mask[~turned].mean())
        right.append(mask[turned].mean())
    assert np.mean(shown) < 0.15 and np.mean(right) > 0.8
    assert main([*line, "--write-masks", str(tmp_path / "masks")]) == 2  # they may be somebody's work


def test_what_stands_still_is_found_beside_a_damaged_photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many photos some are compared: as many, whichever of them cannot be read."""
    monkeypatch.setattr(photo_check, "MOST_COMPARED", 4)
    monkeypatch.setattr(photo_check, "COMPARED", 5)
    write_photos(turning_object(photos=10, width=256), tmp_path / "photos")
    first = min((tmp_path / "photos").iterdir())
    first.write_bytes(first.read_bytes()[: first.stat().st_size // 2])
    texts = [each.text for each in unposed.check(tmp_path / "photos", cache=tmp_path / "cache").findings]
    assert f"{first.name} is damaged or cut off." in texts
    assert any("something stands still" in text for text in texts)


def test_a_logo_in_every_photo_is_recognised_and_hidden(yard: PhotoSet, tmp_path: Path) -> None:
    logo = np.kron(np.random.default_rng(0).integers(0, 2, (8, 12)), np.ones((5, 5))).astype(np.uint8) * 255
    for file in yard.images.iterdir():
        image = np.array(Image.open(file))
        image[-50:-10, 20:80] = logo[..., None]
        Image.fromarray(image).save(tmp_path / file.name, quality=90)
    found = unposed.check(tmp_path, cache=tmp_path / "cache", write_masks=tmp_path / "masks")
    assert [each.text for each in found.findings if "stands still" in each.text]
    assert found.masks == tuple(photo.name for photo in found.photos.photos)
    for name in found.masks:
        hidden = np.asarray(Image.open(tmp_path / "masks" / f"{name}.png")) == 0
        assert hidden[-50:-10, 20:80].mean() > 0.95 and hidden.mean() < 0.12


def test_cameras_that_move_leave_nothing_still(
    yard: PhotoSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["check", str(yard.images), "--cache", str(tmp_path), "--write-masks", str(tmp_path / "masks")]
    assert main(line) == 0
    printed = capsys.readouterr().out
    assert "nothing stands still: none are written" in printed and not (tmp_path / "masks").exists()
    assert "nothing speaks against these photos" in printed


def test_matches_at_the_same_pixels_are_counted_by_photo() -> None:
    rng = np.random.default_rng(0)
    photos, still, moving = 6, 30, 50
    xy = np.concatenate([[*np.stack([rng.uniform(0, 400, moving + still), np.arange(80.0)], axis=1)] for _ in range(6)])
    for photo in range(1, photos):
        xy[photo * 80 : photo * 80 + still] = xy[:still] + 0.2
    pairs = np.array([(a, b) for a in range(photos) for b in range(a + 1, photos)])
    rows = np.arange(80)
    keypoints = Keypoints(xy, np.arange(7) * 80, np.tile([400, 300], (photos, 1)))
    row_a, row_b = (np.concatenate([rows + 80 * pair[side] for pair in pairs]) for side in (0, 1))
    graph = build_view_graph(keypoints, pairs, np.full(len(pairs), 80), row_a, row_b)
    counts = still_matches(graph)
    assert counts[0].tolist() == [still] * photos and counts[1].tolist() == [80] * photos
    (advice,) = still_findings(["my photos"], *counts)
    assert advice.text.startswith("In 6 of 6 photos something stands still: 38% of the key points")
    assert advice.command == "unposed check 'my photos' --write-masks masks"
    assert still_findings(["p"], counts[0] // 4, counts[1]) == []


def test_what_to_expect_grows_with_photos_preset_and_loose_ends() -> None:
    few, many = (expected_cost(faces(n), "classic", 2) for n in (8, 80))
    best, unknown = expected_cost(faces(8), "best", 2), expected_cost(faces(8), "mast3r", 2)
    loose, slow = expected_cost(faces(8), "classic", 2, loose=True), expected_cost(faces(8), "classic", 2, slowness=2.0)
    assert few is not None and many is not None and best is not None and unknown is None
    assert loose is not None and slow is not None
    assert 10.0 < few.cpu_s < 20.0  # of 8 photos of 1.6 megapixels classic takes 9.9 s, these have 12
    assert many.cpu_s > 4 * few.cpu_s and best.cpu_s > few.cpu_s
    assert slow.cpu_s == 2 * few.cpu_s and few.cpu_s < loose.cpu_s < 1.25 * few.cpu_s


def test_how_slow_a_machine_is_does_not_change_from_call_to_call() -> None:
    first, second = slowness(), slowness()
    assert 0.05 < first < 50.0 and 0.3 < first / second < 3.0
