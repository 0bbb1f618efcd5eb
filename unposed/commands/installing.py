"""Commands about what is installed and stored."""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import asdict
from typing import Any

import unposed
from unposed.pipeline.config import did_you_mean
from unposed.pipeline.errors import ConfigError
from unposed.pipeline.plain_text import say
from unposed.pipeline.store.store import StageUse, Store
from unposed.pipeline.weights.catalogue import Weights, entry
from unposed.pipeline.weights.files import weight_folders

from ..amounts import count, size
from ..show import (
    paragraph,
    table,
)
from .shared import print_json


def plugins(arguments: argparse.Namespace) -> int:
    """`unposed plugins [list | show NAME | new DIR]`."""
    if arguments.action == "list":
        return _list_plugins(arguments.json)
    if arguments.what is None:
        needed = "the name of a plugin" if arguments.action == "show" else "a folder to make"
        raise ConfigError(f"plugins {arguments.action}: give {needed}")
    if arguments.action == "show":
        return _show_plugin(arguments.what, arguments.json)
    files = unposed.new_plugin(arguments.what)
    say("\n".join(map(str, files)))
    say(f"next: pip install -e {arguments.what} && unposed plugins")
    return 0


def _list_plugins(as_json: bool) -> int:
    found = unposed.list_plugins()
    if as_json:
        return print_json([asdict(info) for info in found])
    say(table((f"{info.slot}.{info.name}", info.distribution, info.problem or info.target) for info in found))
    return 0


def _show_plugin(name: str, as_json: bool) -> int:
    plugin = unposed.show_plugin(name)
    if as_json:
        options = [option._asdict() for option in plugin.options]
        return print_json({**asdict(plugin.info), "about": plugin.about, "options": options})
    say(f"{plugin.info.slot}.{plugin.info.name}, from {plugin.info.distribution} ({plugin.info.target})\n")
    say(plugin.about)
    for option in plugin.options:
        say(f"\n  {option.name}: {option.type}, default {option.default}")
        if option.doc:
            say(paragraph(option.doc, indent="      "))
    return 0


def presets(arguments: argparse.Namespace) -> int:
    """`unposed presets [list | show NAME]`."""
    if arguments.action == "list":
        found = unposed.list_presets()
        if arguments.json:
            return print_json(dict(found))
        say(table(found))
        return 0
    if arguments.name is None:
        raise ConfigError("presets show: give the name of a preset")
    preset = unposed.show_preset(arguments.name)
    if arguments.json:
        return print_json(preset)
    import yaml

    say(yaml.safe_dump(preset, sort_keys=False, allow_unicode=True), end="")
    return 0


def weights(arguments: argparse.Namespace) -> int:
    """`unposed weights [list | get NAME | accept NAME]`."""
    if arguments.action == "list":
        return _list_weights(arguments.json)
    if "of_preset" in arguments:
        return _weights_of_preset(arguments, arguments.of_preset)
    if arguments.name is None:
        raise ConfigError(f"weights {arguments.action}: give a name, see unposed weights list, or --preset NAME")
    chosen = entry(arguments.name)
    say(chosen.terms, file=sys.stderr)
    done = _accepted_or_fetched(arguments, chosen)
    return print_json(done) if arguments.json else 0


def _weights_of_preset(arguments: argparse.Namespace, preset: str) -> int:
    """Accept or fetch all that a preset lacks. All terms come first, so that they are accepted at once."""
    from unposed.pipeline.weights.download import is_accepted  # brings the network with it

    missing = [entry(name) for name in unposed.missing_weights(preset)]
    if not missing and not arguments.json:
        say(f"nothing is missing that {preset} needs")
    for chosen in missing:
        say(chosen.terms, file=sys.stderr)
    unread = [] if arguments.accept or arguments.action == "accept" else [w for w in missing if not is_accepted(w)]
    if unread:
        named = ", ".join(f"{chosen.name} ({chosen.licence})" for chosen in unread)
        raise ConfigError(
            f"{preset}: read the licences of {named}, and accept them with `unposed weights accept --preset {preset}`"
        )
    done = [_accepted_or_fetched(arguments, chosen) for chosen in missing]
    return print_json(done) if arguments.json else 0


def _accepted_or_fetched(arguments: argparse.Namespace, chosen: Weights) -> dict[str, Any]:
    """What was done with published weights whose terms were shown; said, too, unless JSON is asked for."""
    if arguments.accept or arguments.action == "accept":
        unposed.accept_weights(chosen.name)
    if arguments.action == "get":
        path = unposed.get_weights(chosen.name, _byte_count if sys.stderr.isatty() else lambda done, total: None)
        line, done = str(path), {"name": chosen.name, "file": path}
    else:
        line = f"accepted; next: unposed weights get {chosen.name}"
        done = {"name": chosen.name, "licence": chosen.licence}
    if not arguments.json:
        say(line)
    return done


def _list_weights(as_json: bool) -> int:
    from unposed.pipeline.weights.download import is_accepted  # brings the network with it

    found = unposed.list_weights()
    if as_json:
        return print_json([{**asdict(each), "path": path, "accepted": is_accepted(each)} for each, path in found])
    say(table((each.name, each.licence, "here" if path else "not here", each.about) for each, path in found))
    say(f"\nlooked for in {' and '.join(map(str, weight_folders()))}; none is fetched unasked")
    return 0


def _byte_count(done: int, total: int | None) -> None:
    of = f" of {size(total)}" if total else ""
    print(f"\r{size(done)}{of}   ", end="\n" if done == total else "", file=sys.stderr, flush=True)


def cache(arguments: argparse.Namespace) -> int:
    """`unposed cache [ls | prune | verify]`."""
    folder = getattr(arguments, "cache", None)
    if folder is not None and not folder.exists():
        raise ConfigError(f"{folder}: no such folder")  # and none is made, as a run would
    with unposed.open_cache(folder) as store:
        if arguments.action == "ls":
            return _list_cache(store, arguments.json)
        if arguments.action == "verify":
            sound, damaged = store.verify()
            done, text = {"sound": sound, "damaged": damaged}, f"{count(sound, 'result')} sound"
            text += f", {damaged} damaged and dropped: the next run computes them again" if damaged else ""
        else:
            stage, limits = getattr(arguments, "stage", None), {}
            if "keep" in arguments:
                limits["keep_bytes"] = arguments.keep
            if "unused" in arguments:
                limits["older_than"] = arguments.unused * 86400.0
            if not limits and stage is None:
                raise ConfigError("cache prune: say what may go with --keep SIZE, --unused DAYS or --stage SLOT.PLUGIN")
            from ..photo_sources import FOLDER, prune_images  # here, since no other command waits for Pillow

            stages = [*(row.stage for row in store.ls()), FOLDER]
            if stage is not None and stage not in stages:
                raise ConfigError(f"{stage}: nothing of it is stored{did_you_mean(stage, stages)}")
            removed, freed = (0, 0) if stage == FOLDER else store.prune(stage=stage, **limits)
            if "keep_bytes" in limits and stage is None:  # images in what the results leave
                limits["keep_bytes"] = max(0, limits["keep_bytes"] - sum(row.bytes for row in store.ls()))
            images, more = prune_images(store.folder, **limits) if stage in (None, FOLDER) else (0, 0)
            done = {"removed": removed, "images": images, "bytes": freed + more}
            text = f"{count(removed, 'result')} removed, {size(freed + more)} freed"
            text += f", with {count(images, 'folder')} of images that were in memory" if images else ""
    if arguments.json:
        return print_json(done)
    say(text)
    return 0


def _list_cache(store: Store, as_json: bool) -> int:
    from ..photo_sources import FOLDER, image_folders

    rows, images = store.ls(), image_folders(store.folder)
    if images:
        rows.append(StageUse(FOLDER, len(images), 0, sum(row[1] for row in images), images[0][2]))
    if as_json:
        return print_json({"folder": str(store.folder), "stages": [row._asdict() for row in rows]})
    say(f"{store.folder}: {size(sum(row.bytes for row in rows))}")
    now = time.time()
    lines = []
    for row in rows:
        failures = f"{row.failures} failed" if row.failures else ""
        lines.append((row.stage, count(row.items, "result"), size(row.bytes), failures, _ago(now - row.last_used)))
    say(table(lines, indent="  ") or "  nothing is stored")
    return 0


def _ago(seconds: float) -> str:
    return "used today" if seconds < 86400 else f"used {count(int(seconds // 86400), 'day')} ago"


def doctor(arguments: argparse.Namespace) -> int:
    """`unposed doctor`; exit code 2 if there are problems."""
    diagnosis = unposed.doctor(getattr(arguments, "cache", None), arguments.gpu)
    if arguments.json:
        print_json({**diagnosis.facts, "problems": diagnosis.problems})
    else:
        facts = diagnosis.facts
        gpus = [f"{gpu['name']}, {size(gpu['memory_bytes'])}" for gpu in facts["gpus"]]
        held = facts["cache"]
        rows = [
            ("unposed", f"{facts['unposed']} on Python {facts['python']}, {facts['system']}"),
            (
                "machine",
                f"{count(facts['cores'], 'core')}, {size(facts['memory_bytes'])} of memory, "
                f"{size(facts['memory_free_bytes'])} free",
            ),
            ("GPU", "; ".join(gpus) or "none that PyTorch can use"),
            *_gpu_rows(facts.get("gpu_check")),
            ("cache", f"{held['folder']}: {size(held['bytes'])}, {size(held['disk_free_bytes'])} free on that disk"),
            ("libraries", ", ".join(f"{name} {version}" for name, version in facts["libraries"].items())),
            ("extras", _extras(facts["extras"])),
            ("plugins", f"{len(facts['plugins'])} can be loaded; unposed plugins lists them"),
            *(("preset", f"{name}: {each['text']}") for name, each in facts["presets"].items()),
            *(("problem", problem) for problem in diagnosis.problems),
        ]
        say(table(rows))
    return 2 if diagnosis.problems else 0


def _extras(versions: dict[str, str | None]) -> str:
    """What is there, and how to install what is not."""
    here = [f"{name} {version}" for name, version in versions.items() if version]
    absent = [name for name, version in versions.items() if not version]
    if absent:
        here.append(f"not installed: {', '.join(absent)} (pip install 'unposed[{absent[0]}]')")
    return "; ".join(here)


def _gpu_rows(found: dict[str, Any] | None) -> list[tuple[str, str]]:
    """Rows about the self test of a GPU."""
    if found is None:
        return []
    speed = found["speed"]
    usual = speed["tflops"][found["precision"]]
    agree = sum(check["passed"] for check in found["checks"])
    return [
        (
            "GPU test",
            f"{found['name']}: {usual:.3g} TFLOP/s in {found['precision']}, {speed['bandwidth_gb_per_s']:.3g} GB/s of "
            f"memory, class {found['throughput_class']}; {agree} of {count(len(found['checks']), 'check')} agree with "
            f"the CPU, {found['seconds']:.0f} s",
        ),
        *(("GPU runs", use) for use in found["uses"]),
        *(("fall-back", line) for line in found["fallbacks"]),
    ]


def completion(arguments: argparse.Namespace) -> int:
    """`unposed completion bash | zsh | fish`."""
    from ..completion import script

    say(script(arguments.shell))
    return 0
