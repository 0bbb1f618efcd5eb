"""Check a plugin against the contract of its slot, in one call from the plugin's own tests.

    from unposed.testing import check_plugin

    def test_contract() -> None:
        check_plugin(MyMatcher())

The plugin runs on a small made-up scene of three photos: it must give the same bits twice, from a pickled copy and in a
batch; leave its inputs alone; give an artifact whose shapes, types and ranges are those of pipeline.artifacts; and
accept inputs without a single key point or match. Not covered: accuracy, speed, memory, GPUs, group stages that read
other groups, and parameters whose type is none of the artifacts of `MadeUpScene` (those checks are listed as skipped).
"""

from __future__ import annotations

import dataclasses
import pickle
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from unposed.pipeline import ports
from unposed.pipeline.config import build
from unposed.pipeline.errors import ConfigError
from unposed.pipeline.executor import call
from unposed.pipeline.lazy_results import PairView, PhotoView
from unposed.pipeline.ports import Port, Ports, fits, read_ports
from unposed.pipeline.slots import SLOTS
from unposed.pipeline.stage import Grain, PerPair, PerPhoto, Resources, Sides, StageError
from unposed.pipeline.store.codec import decode, encode

from ._testing_artifacts import artifact_violations
from ._testing_scene import PAIRS, MadeUpScene, made_up_scene

ITEMS: Mapping[Grain, tuple[tuple[int, ...], ...]] = {
    Grain.PHOTO: ((0,), (1,), (2,)),
    Grain.PAIR: PAIRS,
    Grain.GROUP: ((0, 1, 2),),
    Grain.COLLECTION: ((),),
}
RESOURCES = Resources("cpu", 1, 1 << 30, 0)


@dataclass(frozen=True)
class ConformanceReport:
    """The outcome of each check."""

    plugin: str
    slot: str
    passed: tuple[str, ...]
    skipped: Mapping[str, str]
    """Reason by check."""
    violations: tuple[str, ...]
    """One line each."""


def check_plugin(plugin: Any, slot: str | None = None) -> ConformanceReport:
    """Run all checks; AssertionError has one line per violation.

    plugin: the class, or an instance with the options to test.
    slot: by default the first one that the plugin's grain and result fit.
    """
    report = conformance(plugin, slot)
    if report.violations:
        raise AssertionError("\n".join(f"{report.plugin}: {line}" for line in report.violations))
    return report


def conformance(plugin: Any, slot: str | None = None) -> ConformanceReport:
    """Run all checks, and return their outcome."""
    cls = plugin if isinstance(plugin, type) else type(plugin)
    try:
        slot = slot or _slot_of(cls)
        ports.check_plugin(cls, slot)
        stage = cls() if isinstance(plugin, type) else plugin
    except (ConfigError, TypeError) as error:
        return ConformanceReport(cls.__name__, slot or "", (), {}, (f"load: {error}",))
    checks = _Checks()
    checks.run("pickling", lambda: _same(pickle.loads(pickle.dumps(stage)), stage, "an unpickled copy differs"))
    checks.run("options", lambda: _same(build(cls, _plain(dataclasses.asdict(stage)), slot), stage, "are changed"))
    if slot == "executor":
        checks.skipped["result"] = "executors are not run"
    else:
        with made_up_scene() as scene:
            if slot == "export":
                checks.run("determinism", lambda: _check_export(stage, scene))
            else:
                _check_stage(checks, stage, read_ports(cls), scene)
    return ConformanceReport(cls.__name__, slot, tuple(checks.passed), checks.skipped, tuple(checks.violations))


class _Skipped(Exception):
    """The made-up scene has no such input."""


class _Checks:
    def __init__(self) -> None:
        self.passed: list[str] = []
        self.skipped: dict[str, str] = {}
        self.violations: list[str] = []

    def run(self, name: str, check: Callable[[], Sequence[str]]) -> None:
        """Record what a check finds; an exception of the plugin is a violation."""
        try:
            found = check()
        except _Skipped as reason:
            self.skipped[name] = str(reason)
            return
        except Exception as error:
            found = [f"{type(error).__name__}: {error}"]
        self.violations += [f"{name}: {' '.join(line.split())}" for line in found]
        self.passed += [] if found else [name]


def _check_stage(checks: _Checks, stage: Any, wiring: Ports, scene: MadeUpScene) -> None:
    items = ITEMS[wiring.grain]

    def arguments(item: tuple[int, ...], world: MadeUpScene = scene) -> dict[str, Any]:
        return {port.name: _argument(port, wiring.grain, item, world) for port in wiring.inputs}

    def value(item: tuple[int, ...], of: Any = stage, world: MadeUpScene = scene) -> Any:
        return call(of, arguments(item, world), wiring.lent, RESOURCES)

    def results() -> list[str]:
        found = []
        for item in items:
            given = value(item)
            if not fits(type(given), wiring.result):
                return [f"gives a {type(given).__name__}, but its annotation says otherwise"]
            if encode(decode(encode(given), wiring.result)) != encode(given):
                found.append("changes when it is stored and read back")
            found += artifact_violations(given, item, scene)
        return list(dict.fromkeys(found))

    def determinism() -> list[str]:
        copy = pickle.loads(pickle.dumps(stage))
        same = all(encode(value(item)) == encode(value(item, copy)) for item in items)
        return [] if same else ["two calls with the same inputs give different results"]

    def inputs() -> list[str]:
        changed = []
        before = encode(scene.arrays())
        for item in items:
            value(item)
        if encode(scene.arrays()) != before:
            changed.append("the stage changes the arrays it is given")
        return changed

    def batch() -> list[str]:
        if not hasattr(stage, "batch"):
            raise _Skipped("the stage has no batch")
        together = stage.batch([tuple(arguments(item).values()) for item in items], RESOURCES)
        same = len(together) == len(items) and all(
            encode(one) == encode(value(item)) for one, item in zip(together, items, strict=True)
        )
        return [] if same else ["a batch gives other results than single calls"]

    def empty() -> list[str]:
        if wiring.grain is Grain.PHOTO:
            raise _Skipped("a photo always has pixels")
        nothing = scene.emptied()
        for item in items:
            try:
                value(item, world=nothing)
            except StageError:
                continue
        return []

    for check in (results, determinism, inputs, batch, empty):
        checks.run(check.__name__, check)


def _check_export(stage: Any, scene: MadeUpScene) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        written = []
        for name in ("first", "second"):
            stage(scene.models, scene.photos, Path(folder) / name)
            files = sorted(file for file in (Path(folder) / name).rglob("*") if file.is_file())
            written.append({file.relative_to(Path(folder) / name): file.read_bytes() for file in files})
    if not written[0]:
        return ["no file is written"]
    return [] if written[0] == written[1] else ["two calls write different files"]


def _argument(port: Port, grain: Grain, item: tuple[int, ...], scene: MadeUpScene) -> Any:
    kinds = get_args(port.item) or (port.item,)
    kind = next((each for each in kinds if each in scene.values), None)
    if kind is None:
        if port.optional:
            return port.default
        raise _Skipped(f"the made-up scene has nothing for {port.name}: {port}")
    value = scene.values[kind]
    if port.container is PerPhoto:
        return PhotoView(range(len(value)), value.__getitem__)
    if port.container is PerPair:
        return PairView(value, value.__getitem__)
    if port.container is Sides:
        return Sides(*(value[i] for i in item))
    if port.container is not None:
        if not isinstance(value, tuple):
            raise _Skipped(f"the made-up scene has nothing for {port.name}: {port}")
        return tuple(value[i] for i in item)
    if isinstance(value, tuple):
        return value[item[0]]
    return value[item] if isinstance(value, dict) and grain is Grain.PAIR else value


def _slot_of(cls: type) -> str:
    if not hasattr(cls, "grain"):
        return "executor" if hasattr(cls, "run") else "export"
    wiring = read_ports(cls)
    for name, slot in SLOTS.items():
        if wiring.grain in slot.grains and fits(wiring.result, slot.gives):
            return name
    raise ConfigError("fits no slot: look at its grain and its result")


def _same(found: Any, wanted: Any, otherwise: str) -> list[str]:
    return [] if found == wanted else [otherwise]


def _plain(value: Any) -> Any:
    """Options as YAML has them."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, Path) else value
