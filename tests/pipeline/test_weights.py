"""Where weights are found, what is said where they are not, and that they are known by their content."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, ClassVar, Literal

import pytest

from unposed.pipeline.artifacts import Features, Photo
from unposed.pipeline.errors import ConfigError
from unposed.pipeline.graph import build_graph
from unposed.pipeline.registry import GROUP, Registry
from unposed.pipeline.stage import Grain
from unposed.pipeline.store import content
from unposed.pipeline.store.content import content_hash
from unposed.pipeline.store.keys import stage_key
from unposed.pipeline.weights.catalogue import CATALOGUE
from unposed.pipeline.weights.files import WeightFile, find_weights, weights_used


@dataclass(frozen=True)
class Network:
    """A stage with weights of either size, under their published name or that of a converted copy."""

    grain: ClassVar[Grain] = Grain.PHOTO
    model: Literal["n16", "n32"] = "n16"
    weights: Annotated[Path | None, WeightFile("aliked-{model}.pth", "{converted}")] = None
    """Of this model."""
    mean: Annotated[Path | None, WeightFile("mean-of-our-own.pt")] = Path("mean.pt")

    @property
    def converted(self) -> str:
        """The name of a copy."""
        return f"{self.model}.safetensors"

    def __call__(self, photos: Photo) -> Features:
        raise NotImplementedError


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder, $UNPOSED_WEIGHTS, and the working directory with mean.pt, all of the test's own."""
    monkeypatch.setenv("UNPOSED_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("UNPOSED_WEIGHTS", str(tmp_path / "shelf"))
    monkeypatch.setitem(sys.modules, "unposed_test_weights", sys.modules[__name__])
    monkeypatch.chdir(tmp_path)
    for folder in ("cache/weights", "shelf"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "mean.pt").write_bytes(b"mean")
    return tmp_path


def node(**options: Any) -> Any:
    """The node `features` of a graph that consists of it."""
    registry = Registry([EntryPoint("features.network", "unposed_test_weights:Network", GROUP)])
    preset = {"features": {"use": "network", **options}, "outputs": ["features"]}
    return build_graph(preset, registry).nodes["features"]


def test_the_option_then_the_users_shelf_then_the_cache(folders: Path) -> None:
    cached, shelved, named = (
        folders / "cache/weights/aliked-n16.pth",
        folders / "shelf/aliked-n16.pth",
        folders / "mine",
    )
    cached.write_bytes(b"cached")
    assert node().stage.weights == cached
    shelved.write_bytes(b"shelved")
    assert node().stage.weights == shelved
    named.write_bytes(b"named")
    assert node(weights=str(named)).stage.weights == named
    assert node(weights=str(folders / "cache/weights")).stage.weights == cached
    assert node(weights=str(named)).stage.mean == Path("mean.pt")


def test_a_file_named_for_one_node_serves_others_that_look_for_the_same(folders: Path) -> None:
    registry = Registry([EntryPoint("features.network", "unposed_test_weights:Network", GROUP)])
    (folders / "cache/weights/aliked-n16.pth").touch()
    (folders / "cache/weights/aliked-n32.pth").touch()
    (folders / "mine").touch()
    nodes = {
        "first": {"use": "features.network"},
        "second": {"use": "features.network", "weights": str(folders / "mine")},
        "another": {"use": "features.network", "model": "n32"},
    }
    built = build_graph({**nodes, "outputs": list(nodes)}, registry).nodes
    assert built["first"].stage.weights == built["second"].stage.weights == folders / "mine"
    assert built["another"].stage.weights == folders / "cache/weights/aliked-n32.pth"


def test_other_names_of_the_same_file_come_after_the_published_one(folders: Path) -> None:
    (folders / "cache/weights/n32.safetensors").touch()
    assert node(model="n32").stage.weights == folders / "cache/weights/n32.safetensors"
    (folders / "cache/weights/aliked-n32.pth").touch()
    assert node(model="n32").stage.weights == folders / "cache/weights/aliked-n32.pth"


def test_what_is_missing_is_named_with_its_place_and_remedy(folders: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        node()
    said = str(caught.value)
    assert said.startswith("features.weights: no aliked-n16.pth or n16.safetensors in ")
    assert str(folders / "shelf") in said and str(folders / "cache" / "weights") in said
    assert "`unposed weights get aliked-n16` (BSD-3-Clause)" in said
    assert said.endswith("or put the file there, or name it with --set features.weights=PATH")
    assert "\n" not in said
    with pytest.raises(ConfigError, match=r"^features\.weights: no such file: /nowhere/x\.pth$"):
        node(weights="/nowhere/x.pth")
    (folders / "empty").mkdir()
    with pytest.raises(ConfigError, match=rf"no aliked-n16\.pth or n16\.safetensors in {folders / 'empty'}: "):
        node(weights=str(folders / "empty"))


def test_unpublished_weights_have_no_download(folders: Path) -> None:
    (folders / "shelf/aliked-n16.pth").touch()
    with pytest.raises(ConfigError, match=r"features\.mean: no mean-of-our-own\.pt in .*: put the file there, or name"):
        node(mean=None)


def test_the_key_has_the_content_and_the_record_says_which_file(folders: Path) -> None:
    for name, bytes_ in (("a", b"weights"), ("b", b"weights"), ("c", b"others")):
        (folders / name).write_bytes(bytes_)
    a, b, c = (node(weights=str(folders / name)) for name in "abc")
    assert stage_key(a) == stage_key(b) != stage_key(c)
    used = weights_used({"features": a.stage})
    assert used["features.weights"] == {"file": str(folders / "a"), "sha256": content_hash(folders / "a")}
    assert set(used) == {"features.weights", "features.mean"}


def test_a_large_file_is_read_once_until_it_changes(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[Path] = []
    read = content._read
    monkeypatch.setattr(content, "LARGE_BYTES", 4)
    monkeypatch.setattr(content, "_read", lambda path: reads.append(path) or read(path))
    file = folders / "large"
    file.write_bytes(b"weights")
    first = content_hash(file)
    assert content_hash(file) == first and len(reads) == 1
    file.write_bytes(b"WEIGHTS")
    os.utime(file, ns=(1, 1))
    assert content_hash(file) != first and len(reads) == 2
    (folders / "cache/hashes.json").write_text('{"nonsense": 1')
    content_hash(file)
    assert len(reads) == 3


def test_a_memory_that_cannot_be_written_is_done_without(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content, "LARGE_BYTES", 4)
    (folders / "plain").write_bytes(b"a file where the cache should be")
    monkeypatch.setenv("UNPOSED_CACHE", str(folders / "plain"))
    assert content_hash(folders / "plain") == content._read(folders / "plain")


def test_the_catalogue_names_every_file_once() -> None:
    assert len({each.name for each in CATALOGUE}) == len({each.file for each in CATALOGUE}) == len(CATALOGUE)
    for each in CATALOGUE:
        assert each.licence and each.licence_url.startswith("https://")
        assert each.urls and all(url.startswith("https://") for url in each.urls)
        assert all(PurePosixPath(url).suffix == PurePosixPath(each.file).suffix for url in each.urls)
        assert find_weights(each.file) is None
