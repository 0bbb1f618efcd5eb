"""The registry with distributions made for the purpose: found, doubled, broken, unfit."""

from __future__ import annotations

import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import EntryPoint, PathDistribution
from pathlib import Path

import pytest

from unposed.pipeline.errors import ConfigError
from unposed.pipeline.registry import GROUP, Registry

GOOD = """
from dataclasses import dataclass
from typing import ClassVar
from unposed.pipeline.artifacts import Features, Photo, Ranking
from unposed.pipeline.stage import Grain, PerPhoto

@dataclass(frozen=True)
class Good:
    grain: ClassVar[Grain] = Grain.PHOTO
    def __call__(self, photos: Photo) -> Features: ...
"""
UNFIT = {
    "is no frozen dataclass": "@dataclass\nclass X:\n    pass",
    "has no `grain": "@dataclass(frozen=True)\nclass X:\n    def __call__(self, photos: Photo) -> Features: ...",
    "has no `__call__`": "@dataclass(frozen=True)\nclass X:\n    grain: ClassVar[Grain] = Grain.PHOTO",
    "has *photos": "class X(Good):\n    def __call__(self, *photos: Photo) -> Features: ...",
    "does not annotate its parameter 'photos'": "class X(Good):\n    def __call__(self, photos) -> Features: ...",
    "does not annotate what it returns": "class X(Good):\n    def __call__(self, photos: Photo): ...",
    "cannot be resolved: name 'Nothing'": "class X(Good):\n    def __call__(self, photos: 'Nothing') -> Features: ...",
    "gives Ranking, but features gives Features": "class X(Good):\n    def __call__(self) -> Ranking: ...",
    "runs over the collection": "class X(Good):\n    grain: ClassVar[Grain] = Grain.COLLECTION",
}


def install(folder: Path, distribution: str, module: str, source: str, **entries: str) -> list[EntryPoint]:
    """A distribution on disk, as pip would leave it; gives its entries. Names have __ for a dot."""
    (folder / f"{module}.py").write_text(source)
    info = folder / f"{distribution}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    lines = [f"{name.replace('__', '.')} = {module}:{attribute}" for name, attribute in entries.items()]
    (info / "entry_points.txt").write_text("\n".join([f"[{GROUP}]", *lines]))
    return list(PathDistribution(info).entry_points)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def message(registry: Registry, slot: str, name: str) -> str:
    with pytest.raises(ConfigError) as error:
        registry.find(slot, name)
    return str(error.value)


def test_found_late(site: Path) -> None:
    registry = Registry(install(site, "acme", "acme_found", GOOD, features__good="Good"))
    (info,) = registry.available()
    assert (info.slot, info.name, info.distribution, info.problem) == ("features", "good", "acme 1.0", None)
    assert "acme_found" not in sys.modules
    assert registry.find("features", "good").__name__ == "Good"


def test_ours_are_installed_like_anyone_elses() -> None:
    assert any((info.slot, info.name) == ("executor", "local") for info in Registry().available())
    assert Registry().find("executor", "local").__name__ == "Local"


def test_every_plugin_of_ours_loads() -> None:
    registry = Registry()
    for info in registry.available():
        if info.distribution.startswith("unposed "):
            registry.find(info.slot, info.name)


def test_unknown_names_list_near_ones(site: Path) -> None:
    registry = Registry(install(site, "acme", "acme_near", GOOD, features__superpoint="Good", features__disk="Good"))
    assert message(registry, "features", "superpiont") == (
        "features: no such plugin 'superpiont'; did you mean superpoint?"
    )
    assert message(registry, "features", "zzz") == "features: no such plugin 'zzz'; there are: disk, superpoint"
    assert message(registry, "feature", "disk") == "feature: no such slot; did you mean features?"


def test_a_duplicate_is_an_error_that_hides_nobody_else(site: Path) -> None:
    entries = install(site, "acme", "acme_one", GOOD, features__good="Good", features__mine="Good")
    registry = Registry(entries + install(site, "rival", "acme_two", GOOD, features__good="Good"))
    assert message(registry, "features", "good") == (
        "features.good: brought by acme 1.0 and rival 1.0: uninstall one of them"
    )
    assert registry.find("features", "mine").__name__ == "Good"


def test_one_distribution_seen_twice_is_no_duplicate(site: Path) -> None:
    entries = install(site, "acme", "acme_twice", GOOD, features__good="Good")
    assert Registry(entries + entries).find("features", "good").__name__ == "Good"


@pytest.mark.parametrize(
    ("source", "reason"),
    [("import not_there_at_all", "ModuleNotFoundError"), ("1 / 0", "ZeroDivisionError"), ("pass", "AttributeError")],
)
def test_a_broken_plugin_is_blamed_and_hides_nobody_else(site: Path, source: str, reason: str) -> None:
    module = f"acme_broken_{reason.lower()}"
    registry = Registry(
        [
            *install(site, "acme", "acme_whole", GOOD, features__good="Good"),
            *install(site, "fragile", module, source, features__bad="Bad"),
        ]
    )
    assert message(registry, "features", "bad").startswith(
        f"plugin features.bad of fragile 1.0 cannot be loaded: {reason}: "
    )
    assert len(registry.available()) == 2
    assert registry.find("features", "good").__name__ == "Good"
    sys.modules.pop("acme_whole")


@pytest.mark.parametrize("reason", UNFIT)
def test_an_unfit_plugin_is_refused_before_it_runs(site: Path, reason: str) -> None:
    module = f"acme_unfit_{list(UNFIT).index(reason)}"
    registry = Registry(install(site, "acme", module, f"{GOOD}\n{UNFIT[reason]}", features__x="X"))
    text = message(registry, "features", "x")
    assert text.startswith(f"plugin features.x of acme 1.0 is not fit: {module}:X ") and reason in text


def test_exports_and_executors_have_their_own_forms(site: Path) -> None:
    source = f"{GOOD}\n@dataclass(frozen=True)\nclass X:\n    def __call__(self, sparse: int, where: str) -> None: ..."
    registry = Registry(install(site, "acme", "acme_forms", source, export__x="X", executor__x="X"))
    assert "is called with (sparse, where), but export with (sparse, photos, folder)" in (
        message(registry, "export", "x")
    )
    assert "has no method `run`" in message(registry, "executor", "x")


def test_an_entry_outside_the_slots_is_shown_with_its_problem(site: Path) -> None:
    (info,) = Registry(install(site, "acme", "acme_odd", GOOD, feature__good="Good")).available()
    assert info.problem is not None and "is not <slot>.<plugin>" in info.problem


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import sys; sys.exit(0)", "SystemExit: 0"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("raise BaseException('gone')", "BaseException: gone"),
        ("raise MemoryError", "MemoryError"),
    ],
)
def test_a_plugin_that_leaves_is_blamed(site: Path, source: str, reason: str) -> None:
    name = f"acme_{abs(hash(source))}"
    registry = Registry(install(site, "acme", name, source, features__leaves="X"))
    assert message(registry, "features", "leaves").startswith(
        f"plugin features.leaves of acme 1.0 cannot be loaded: {reason}"
    )
    with ThreadPoolExecutor(1) as pool:  # where no signal arrives
        assert reason in pool.submit(message, registry, "features", "leaves").result()


def test_a_plugin_that_hangs_is_blamed(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unposed.pipeline.plugin_imports.PATIENCE_S", 0.2)
    registry = Registry(install(site, "acme", "acme_hangs", "import time; time.sleep(60)", features__hangs="X"))
    begun = time.monotonic()
    assert "features.hangs of acme 1.0 cannot be loaded: it has not ended after" in message(
        registry, "features", "hangs"
    )
    assert time.monotonic() - begun < 30.0


def test_a_real_ctrl_c_is_one(site: Path) -> None:
    source = "import os, signal, time; os.kill(os.getpid(), signal.SIGINT); time.sleep(5)"
    registry = Registry(install(site, "acme", "acme_waits", source, features__waits="X"))
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        registry.find("features", "waits")
    assert signal.getsignal(signal.SIGINT) is before


def test_what_a_plugin_prints_is_not_the_output_of_the_command(
    site: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    source = f"print('Welcome to Acme!')\n{GOOD}"
    registry = Registry(install(site, "acme", "acme_prints", source, features__prints="Good"))
    registry.find("features", "prints")
    assert capsys.readouterr().out == ""
    assert "plugin features.prints of acme 1.0 prints while it is imported: Welcome to Acme!" in caplog.text
