"""Presets: by name or file, one on top of another, and settings on top of that."""

from __future__ import annotations

from pathlib import Path

import pytest

from unposed.pipeline.errors import ConfigError
from unposed.pipeline.presets import apply_settings, list_presets, read_preset

BASE = """
about: the base
features: {use: sift, max_features: 4096, edge: 10}
matching: {use: mutual-nn, max_ratio: 0.8}
fine: {use: ours}
"""


@pytest.fixture
def configs(tmp_path: Path) -> Path:
    folder = tmp_path / "configs"
    folder.mkdir()
    (folder / "classic.yaml").write_text(BASE)
    (folder / "fast.yaml").write_text("about: faster\nextends: classic\nfeatures: {max_features: 2048}\nfine: null\n")
    return folder


def test_packaged_presets_are_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = list_presets()
    monkeypatch.chdir(tmp_path)
    assert list_presets() == before


def test_names_and_descriptions(configs: Path) -> None:
    assert list_presets(configs) == [("classic", "the base"), ("fast", "faster")]


def test_extends_merges_option_by_option_and_null_drops_a_node(configs: Path) -> None:
    assert read_preset("fast", configs) == {
        "about": "faster",
        "features": {"use": "sift", "max_features": 2048, "edge": 10},
        "matching": {"use": "mutual-nn", "max_ratio": 0.8},
    }


def test_another_plugin_begins_afresh(configs: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("extends: fast\nfeatures: {use: orb}\n")
    assert read_preset(tmp_path / "mine.yaml", configs)["features"] == {"use": "orb"}


def test_a_file_extends_a_file_next_to_it(configs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.yaml").write_text("extends: ./b.yaml\nabout: a\n")
    (tmp_path / "b.yaml").write_text("extends: classic\nabout: b\nfine: {rounds: 3}\n")
    monkeypatch.chdir("/")
    assert read_preset(tmp_path / "a.yaml", configs)["fine"] == {"use": "ours", "rounds": 3}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("clasic", "clasic: no such preset; did you mean classic? (a file needs its .yaml)"),
        ("./nowhere.yaml", "./nowhere.yaml: no such preset file"),
    ],
)
def test_unknown_presets(configs: Path, name: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        read_preset(name, configs)
    assert str(error.value) == message


def test_a_circle_of_presets_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("extends: ./b.yaml\n")
    (tmp_path / "b.yaml").write_text("extends: ./a.yaml\n")
    with pytest.raises(ConfigError, match=r"extends itself: .*a\.yaml -> .*b\.yaml -> .*a\.yaml"):
        read_preset(tmp_path / "a.yaml")


@pytest.mark.parametrize("content", ["- a\n", "3", "1: {}\n", "\xff\xfe"])
def test_a_file_that_is_no_preset(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.yaml").write_text(content, encoding="latin-1")
    with pytest.raises(ConfigError, match=r"^a\.yaml"):
        read_preset(tmp_path / "a.yaml")


def test_settings(configs: Path) -> None:
    preset = read_preset("classic", configs)
    changed = apply_settings(preset, ["matching.max_ratio=1e-1", "coarse.use=global", "coarse.loss.kind=huber"])
    assert changed["matching"] == {"use": "mutual-nn", "max_ratio": 0.1}
    assert changed["coarse"] == {"use": "global", "loss": {"kind": "huber"}}
    assert preset == read_preset("classic", configs)


def test_a_setting_of_another_plugin_drops_the_options_of_the_old_one(configs: Path) -> None:
    preset = read_preset("classic", configs)
    assert apply_settings(preset, ["features.n=3", "features.use=orb"])["features"] == {"use": "orb", "n": 3}


@pytest.mark.parametrize("settings", [["fine=null", "features.edge=3"], ["features.edge=3", " fine = null"]])
def test_a_setting_drops_a_node(configs: Path, settings: list[str]) -> None:
    changed = apply_settings(read_preset("classic", configs), settings)
    assert "fine" not in changed
    assert changed["features"]["edge"] == 3


@pytest.mark.parametrize("settings", [["fine=null", "fine.rounds=3"], ["fine.use=other", "fine=null"]])
def test_a_node_that_is_dropped_and_set(configs: Path, settings: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"^fine: dropped by fine=null and set by another setting$"):
        apply_settings(read_preset("classic", configs), settings)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("matching.max_ratio", "expected node.key=value"),
        ("max_ratio=3", "expected node.key=value"),
        ("fine=", "expected node.key=value"),
        ("fine=ceres", "or node=null; a plugin is chosen by fine.use=ceres"),
        ("fine=3", "expected node.key=value, e.g. matching.max_ratio=0.8, or node=null"),
        ("fein=null", "fein: no such node; did you mean fine?"),
        ("matchin.max_ratio=3", "matchin: no such node; did you mean matching?"),
        ("matching.max_ratio=[1", "not valid YAML"),
        ("outputs.x=1", "'outputs' is no node"),
    ],
)
def test_wrong_settings(configs: Path, setting: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        apply_settings(read_preset("classic", configs), [setting])
    assert message in str(error.value)
