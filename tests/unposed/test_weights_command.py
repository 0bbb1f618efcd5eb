"""`unposed weights`: nothing is fetched without terms printed and accepted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import unposed
from unposed import installed
from unposed.cli import main
from unposed.pipeline.errors import UnposedError
from unposed.pipeline.weights import download
from unposed.pipeline.weights.catalogue import Weights


@pytest.fixture(autouse=True)
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of weights; whoever would download gets a file of this text instead."""

    def no_network(url: str, file: Path, sha256: str | None, watch: download.Watcher) -> Path:
        file.write_text(url)
        watch(3, 3)
        return file

    monkeypatch.setenv("UNPOSED_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("UNPOSED_WEIGHTS", str(tmp_path))
    monkeypatch.setattr(download, "_fetch", no_network)
    return tmp_path


def test_the_list_says_what_is_here(shelf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (shelf / "aliked-n16.pth").touch()
    assert main(["weights"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line}
    assert "BSD-3-Clause  " in lines["aliked-n16"] and "  here  " in lines["aliked-n16"]
    assert "CC BY-NC-SA 4.0" in lines["mast3r"] and "  not here  " in lines["mast3r"]
    assert str(shelf) in lines["looked"]
    assert main(["weights", "list", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["aliked-n16"]["path"] == str(shelf / "aliked-n16.pth") and rows["mast3r"]["path"] is None


def test_terms_first_then_the_file(shelf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weights", "get", "mast3r"]) == 2
    said = capsys.readouterr().err
    assert "licence: CC BY-NC-SA 4.0, https://" in said and "Non-commercial use only" in said
    assert "accept it with `unposed weights accept mast3r`" in said.splitlines()[-1]
    assert not list(shelf.glob("*.pth"))
    assert main(["weights", "accept", "mast3r"]) == 0
    assert "next: unposed weights get mast3r" in capsys.readouterr().out
    assert main(["weights", "get", "mast3r"]) == 0
    captured = capsys.readouterr()
    assert Path(captured.out.strip()).parent == shelf and "CC BY-NC-SA 4.0" in captured.err


def test_accepted_in_one_breath(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weights", "get", "disk", "--accept", "--json"]) == 0
    captured = capsys.readouterr()
    assert "Apache-2.0" in captured.err
    assert Path(json.loads(captured.out)["file"]).read_text().endswith("depth-save.pth")


def test_mistakes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weights", "get", "mast3"]) == 2
    assert "no such weights; did you mean mast3r" in capsys.readouterr().err
    assert main(["weights", "accept"]) == 2
    assert "give a name, see unposed weights list" in capsys.readouterr().err


def test_in_python() -> None:
    heard: list[int] = []
    with pytest.raises(UnposedError, match="accept it"):
        installed.get_weights("xfeat")
    weights: Weights = installed.accept_weights("xfeat")
    path = installed.get_weights("xfeat", lambda done, total: heard.append(done))
    assert path.name == weights.file and heard == [3]
    assert (weights, path) in installed.list_weights()


@pytest.mark.parametrize(
    ("preset", "option", "name"),
    [
        ("aliked", "features.weights", "aliked-n16"),
        ("aliked-lightglue", "matching.weights", "aliked-lightglue"),
        ("disk", "features.weights", "disk"),
        ("sift-aliked", "aliked.weights", "aliked-n16"),
        ("loftr", "matching.weights", "loftr-outdoor"),
    ],
)
def test_a_preset_without_its_weights_says_how_to_get_them(
    preset: str, option: str, name: str, shelf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before any photo is looked for."""
    if preset == "aliked-lightglue":
        (shelf / "aliked-n16.pth").touch()
    assert main(["reconstruct", "/nowhere/photos", "-o", str(shelf / "out"), "--preset", preset]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"unposed: {option}: no ") and str(shelf) in line
    assert f"unposed weights get {name}`" in line and line.endswith(f"--set {option}=PATH")
    assert not (shelf / "out").exists()


def test_all_that_a_preset_lacks_is_named_at_once_and_fetched_by_its_name(
    shelf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UnposedError) as caught:
        unposed.reconstruct(shelf, preset="aliked-lightglue")
    needed = unposed.missing_weights("aliked-lightglue")
    assert len(needed) == 2
    assert all(f"unposed weights get {name}" in str(caught.value) for name in needed)
    assert main(["weights", "get", "--preset", "aliked-lightglue", "--accept"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert unposed.missing_weights("aliked-lightglue") == ()
    assert main(["weights", "get", "--preset", "classic"]) == 0
    assert "nothing is missing that classic needs" in capsys.readouterr().out


def test_the_licences_of_all_that_a_preset_lacks_are_shown_and_accepted_at_once(
    shelf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unposed.accept_weights("mast3r-codebook")
    assert main(["weights", "get", "--preset", "mast3r"]) == 2
    *terms, line = capsys.readouterr().err.splitlines()
    assert sum(term.startswith("licence: ") for term in terms) == 3
    assert "mast3r (CC BY-NC-SA 4.0), mast3r-retrieval (" in line and "mast3r-codebook" not in line
    assert line.endswith("`unposed weights accept --preset mast3r`")
    assert main(["weights", "accept", "--preset", "mast3r"]) == 0
    capsys.readouterr()
    assert main(["weights", "get", "--preset", "mast3r", "--json"]) == 0
    fetched = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in fetched] == ["mast3r", "mast3r-retrieval", "mast3r-codebook"]
    assert unposed.missing_weights("mast3r") == ()
