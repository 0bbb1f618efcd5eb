"""Mistreat unposed on purpose, and count what it survives: hostile files, failing disks, kills, changing inputs.

    python benchmarks/torture.py              everything, about 15 minutes on 2 cores
    python benchmarks/torture.py --quick      a tenth of it
    python benchmarks/torture.py --only kill cpu
    python benchmarks/torture.py --soak 3600  runs, kills and prunes on one cache for an hour

Survived: it ended by itself, with an exit code that it documents and one line, and what was good before is good after;
where a run follows, its models are the bytes of an undisturbed one.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests" / "support"), str(ROOT / "tests" / "unposed" / "toy_plugins")]

TOYS = ROOT / "tests" / "unposed" / "toy_plugins"
GOOD_CODES = (0, 2, 3, 4)
PHOTOS = 5


@dataclass
class Tally:
    """Attacks of one kind."""

    tried: int = 0
    survived: int = 0
    problems: list[str] = field(default_factory=list)

    def count(self, survived: bool, problem: str) -> None:
        """One more; the problem is noted if it was not survived."""
        self.tried += 1
        self.survived += survived
        if not survived:
            self.problems.append(problem)


@dataclass(frozen=True)
class Bench:
    """A folder to work in, good photos, and how often to attack."""

    folder: Path
    photos: Path
    share: float
    rng: random.Random

    def times(self, most: int) -> int:
        """How often an attack is repeated."""
        return max(3, round(most * self.share))


def command(photos: Path, out: Path, cache: Path, *more: str) -> list[str]:
    """A run of the preset `classic`, without progress."""
    run = [sys.executable, "-m", "unposed", "reconstruct", str(photos), "-o", str(out), "--cache", str(cache)]
    return [*run, "--preset", "classic", "--quiet", *more]


def environment(**more: str) -> dict[str, str]:
    """With the toys in reach."""
    path = os.pathsep.join([str(TOYS), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path, **more}


def run(*arguments: str, timeout: float = 600.0, **more: str) -> tuple[int, str]:
    """Exit code and the last line of the errors; -1 if it does not end."""
    try:
        done = subprocess.run(
            arguments, capture_output=True, text=True, timeout=timeout, env=environment(**more), check=False
        )
    except subprocess.TimeoutExpired:
        return -1, "it does not end"
    return done.returncode, done.stderr if "Traceback" in done.stderr else (done.stderr.splitlines() or [""])[-1]


def models(out: Path) -> dict[str, bytes]:
    """The models of a finished result, or nothing."""
    if not (out / "summary.json").exists():
        return {}
    return {file.relative_to(out).as_posix(): file.read_bytes() for file in sorted((out / "sparse").rglob("*.bin"))}


def undisturbed(bench: Bench) -> dict[str, bytes]:
    """What the good photos give."""
    out = bench.folder / "undisturbed"
    if not out.exists():
        code, line = run(*command(bench.photos, out, bench.folder / "cache-undisturbed"))
        assert code == 0, line
    return models(out)


# -- attacks


def mutated_photos(bench: Bench, tally: Tally) -> None:
    """Damaged photos beside good ones: all good ones are registered, and every bad one is named or registered."""
    import json

    from fuzz_input import mutants
    from fuzz_targets import TARGETS

    kinds = {b"\xff\xd8\xff": "jpg", b"\x89PN": "png", b"RIF": "webp", b"II*": "tif", b"BM": "bmp"}
    for number in range(bench.times(10)):
        folder = bench.folder / f"photos-{number}"
        shutil.copytree(bench.photos, folder)
        for index, data in enumerate(mutants(TARGETS["image"].seeds(), 30, seed=number)):
            kind = next((kind for magic, kind in kinds.items() if data.startswith(magic)), "jpg")
            (folder / f"bad-{index:02}.{kind}").write_bytes(data)
        out = bench.folder / f"out-photos-{number}"
        code, line = run(*command(folder, out, bench.folder / "cache-photos"))
        summary = json.loads((out / "summary.json").read_text()) if code in (0, 3) else {"photos": {}}
        good = [name for name, each in summary["photos"].items() if "model" in each and not name.startswith("bad")]
        for name in (f"{index:02}" for index in range(30)):
            named = any(photo.startswith(f"bad-{name}") for photo in summary["photos"])
            tally.count(code == 0 and named and len(good) == PHOTOS, f"photos-{number} {name}: exit {code}, {line}")
        shutil.rmtree(folder)


def mutated_files(bench: Bench, tally: Tally) -> None:
    """Mutants of every untrusted file, through its reader: what it promises, within seconds."""
    from fuzz_input import mutants
    from fuzz_targets import TARGETS

    def late(number: int, frame: object) -> None:
        raise TimeoutError("not within 20 s")

    signal.signal(signal.SIGALRM, late)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, target in TARGETS.items():
            for number, data in enumerate(mutants(target.seeds(), bench.times(2000 // target.thinned), seed=1)):
                signal.alarm(20)
                try:
                    target(data)
                    tally.count(True, "")
                except Exception as error:
                    tally.count(False, f"{name} {number}: {type(error).__name__}: {error}")
                finally:
                    signal.alarm(0)


def failing_calls(bench: Bench, tally: Tally) -> None:
    """Every open, read, write, rename, fsync, mkdir, statement and computation of a run fails once."""
    import numpy as np
    from fault_layer import KINDS, Faults, fault_layer
    from PIL import Image

    import unposed
    from unposed.errors import UnposedError

    photos = bench.folder / "few"
    photos.mkdir()
    for name in ("a", "b", "c"):
        pixels = np.random.default_rng(ord(name)).integers(0, 256, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(photos / f"{name}.png")

    def once(place: Path, faults: Faults) -> str:
        try:
            with fault_layer(faults):
                unposed.reconstruct(photos, place / "out", preset=TOYS / "toys.yaml", cache=place / "cache", workers=1)
        except (UnposedError, OSError) as error:
            return "" if len(str(error).splitlines()) == 1 else f"not one line: {error}"
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return ""

    once(bench.folder / "first", Faults())  # imports open files, too, and only once
    calls = Faults()
    once(bench.folder / "faults", calls)
    expected = models(bench.folder / "faults" / "out")
    for kind in KINDS:
        step = max(1, round(1 / bench.share))
        for number in range(1, calls.counts[kind] + 1, step):
            place, faults = bench.folder / f"fault-{kind}-{number}", Faults(kind, number)
            problem = once(place, faults) or once(place, Faults())
            same = models(place / "out") == expected
            if faults.happened:
                tally.count(not problem and same, f"{kind} {number}: {problem or 'other bytes'}")
            shutil.rmtree(place)


def kills(bench: Bench, tally: Tally) -> None:
    """Killed at random moments, several times, and started again: the same bytes."""
    expected = undisturbed(bench)
    for number in range(bench.times(12)):
        out, cache = bench.folder / f"out-kill-{number}", bench.folder / f"cache-kill-{number}"
        for _ in range(3):
            process = subprocess.Popen(
                command(bench.photos, out, cache), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
            )
            time.sleep(bench.rng.uniform(0.2, 3.0))
            process.kill()
            process.wait()
        code, line = run(*command(bench.photos, out, cache))
        tally.count(code == 0 and models(out) == expected, f"{number}: exit {code}, {line}")


def signals(bench: Bench, tally: Tally) -> None:
    """SIGINT, SIGTERM and SIGHUP at random moments: exit 4 in one line, and the next run goes on."""
    expected = undisturbed(bench)
    for number in range(bench.times(18)):
        out, cache = bench.folder / f"out-signal-{number}", bench.folder / f"cache-signal-{number}"
        kind = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)[number % 3]
        process = subprocess.Popen(
            command(bench.photos, out, cache), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
        )
        while process.poll() is None and not (out / "run.log").exists():
            time.sleep(0.01)
        time.sleep(bench.rng.uniform(0.0, 1.5))
        process.send_signal(kind)
        _, errors = process.communicate(timeout=600)
        ended = process.returncode in (0, 4) and "Traceback" not in errors and "Aborted at" not in errors
        code, line = run(*command(bench.photos, out, cache))
        same = code == 0 and models(out) == expected
        tally.count(ended and same, f"{kind.name}: exit {process.returncode}, {errors[-200:]}, then {code}, {line}")


def damaged_caches(bench: Bench, tally: Tally) -> None:
    """The store's file with bits turned, pages zeroed or moved, cut, or of another layout: the same bytes again."""
    expected = undisturbed(bench)
    sound = (bench.folder / "cache-undisturbed" / "store.db").read_bytes()
    for number in range(bench.times(24)):
        out, cache = bench.folder / f"out-cache-{number}", bench.folder / f"cache-bad-{number}"
        cache.mkdir()
        data, kind = bytearray(sound), number % 6
        page = 4096 * bench.rng.randrange(len(data) // 4096)
        if kind == 0:
            for _ in range(20):
                data[bench.rng.randrange(len(data))] ^= 1 << bench.rng.randrange(8)
        elif kind == 1:
            data[page : page + 4096] = bytes(4096)
        elif kind == 2:
            other = 4096 * bench.rng.randrange(len(data) // 4096)
            data[page : page + 4096] = data[other : other + 4096]
        elif kind == 3:
            del data[bench.rng.randrange(len(data)) :]
        elif kind == 4:
            data[:100] = bytes(bench.rng.randrange(256) for _ in range(100))
        (cache / "store.db").write_bytes(data)
        if kind == 5:
            with sqlite3.connect(cache / "store.db") as db:
                db.execute(f"PRAGMA user_version = {bench.rng.randrange(2, 99)}")
            db.close()
        code, line = run(*command(bench.photos, out, cache))
        if code == 2 and "run again" in line:  # found malformed on the way: it says so
            code, line = run(*command(bench.photos, out, cache))
        tally.count(code == 0 and models(out) == expected, f"kind {kind}: exit {code}, {line}")


def changing_inputs(bench: Bench, tally: Tally) -> None:
    """A photo that is removed, replaced or cut under a run: later runs on that cache are right."""
    expected = undisturbed(bench)
    for number in range(bench.times(12)):
        folder, cache = bench.folder / f"changing-{number}", bench.folder / f"cache-changing-{number}"
        shutil.copytree(bench.photos, folder)
        victim, other = sorted(folder.iterdir())[-2:]
        data, out = victim.read_bytes(), bench.folder / f"out-changing-{number}"
        process = subprocess.Popen(
            command(folder, out, cache, "--workers", "1"), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        while process.poll() is None and not (cache / "store.db").exists():
            time.sleep(0.005)
        if number % 3 == 0:
            victim.unlink()
        elif number % 3 == 1:
            shutil.copy2(other, victim)
        else:
            victim.write_bytes(data[:-999])
        code = process.wait()
        victim.write_bytes(data)
        code_again, line = run(*command(folder, out, cache))
        same = code_again == 0 and models(out) == expected
        tally.count(code in GOOD_CODES and same, f"kind {number % 3}: exit {code}, then {code_again}, {line}")


def cpu_kinds(bench: Bench, tally: Tally) -> None:
    """Kernels of other CPUs: no stored result of theirs is reused, and with --reproducible all bytes are the same."""
    kinds = [{}, {"OPENBLAS_CORETYPE": "Nehalem"}, {"OPENBLAS_CORETYPE": "Haswell"}, {"OPENBLAS_CORETYPE": "Prescott"}]
    first: dict[str, bytes] = {}
    for number, kind in enumerate(kinds[: bench.times(4)]):
        out = bench.folder / f"out-cpu-{number}"
        code, line = run(*command(bench.photos, out, bench.folder / "cache-cpu"), **kind)
        own = models(out)
        shutil.rmtree(out)
        code_alone, line_alone = run(*command(bench.photos, out, bench.folder / f"cache-cpu-{number}"), **kind)
        same = code == code_alone == 0 and models(out) == own
        tally.count(same, f"{kind}: exits {code} and {code_alone}, or mixed with another CPU's; {line or line_alone}")
        shutil.rmtree(out)
        cache = bench.folder / f"cache-reproducible-{number}"
        code, line = run(*command(bench.photos, out, cache, "--reproducible"), **kind)
        first = first or models(out)
        tally.count(code == 0 and models(out) == first, f"{kind}: not reproducible; {line}")


def power_cuts(bench: Bench, tally: Tally) -> None:
    """Power cuts, simulated from recorded calls: values are right or gone, a result is the old one or the new."""
    from power_cut_targets import caches, results

    if shutil.which("strace") is None:
        tally.count(False, "strace is not installed")
        return
    for number, kind in enumerate((caches, results)):
        folder = bench.folder / f"power-{number}"
        folder.mkdir()
        for _, problem in kind(folder, bench.times(500), seed=number):
            tally.count(problem is None, problem or "")


def soak(bench: Bench, tally: Tally, seconds: float) -> None:
    """Runs on one cache, two at a time, with kills, prunes and checks in between."""
    expected, end, number = undisturbed(bench), time.monotonic() + seconds, 0
    cache = bench.folder / "cache-soak"
    while time.monotonic() < end:
        number += 1
        outs = [bench.folder / f"out-soak-{side}" for side in (0, 1)]
        pair = [
            subprocess.Popen(command(bench.photos, out, cache), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
            for out in outs
        ]
        if number % 3 == 0:
            time.sleep(bench.rng.uniform(0.1, 2.0))
            pair[0].kill()
        if number % 4 == 0:
            run(sys.executable, "-m", "unposed", "cache", "prune", "--keep", "1M", "--cache", str(cache))
        codes = [process.wait() for process in pair]
        sound, line = run(sys.executable, "-m", "unposed", "cache", "verify", "--cache", str(cache))
        good = [codes[side] in (0, -9) and (codes[side] == -9 or models(outs[side]) == expected) for side in (0, 1)]
        tally.count(all(good) and sound == 0, f"{number}: exits {codes}, {line}")


ATTACKS: dict[str, Callable[[Bench, Tally], None]] = {
    "photos": mutated_photos,
    "files": mutated_files,
    "faults": failing_calls,
    "kill": kills,
    "signal": signals,
    "cache": damaged_caches,
    "inputs": changing_inputs,
    "cpu": cpu_kinds,
    "power": power_cuts,
}


def main() -> int:
    """Print a table of attacks, and what was not survived; exit code 1 if there is anything."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", nargs="+", choices=ATTACKS, default=list(ATTACKS))
    parser.add_argument("--soak", type=float, metavar="SECONDS")
    asked = parser.parse_args()
    from unposed.synthetic.sample import sample_folder

    failed = 0
    with tempfile.TemporaryDirectory(prefix="unposed-torture-") as name:
        photos = Path(name) / "good"
        photos.mkdir()
        images = sorted(file for file in sample_folder().iterdir() if file.suffix in (".jpg", ".png"))
        for image in images[:PHOTOS]:
            shutil.copy2(image, photos)
        bench = Bench(Path(name), photos, 0.1 if asked.quick else 1.0, random.Random(0))
        attacks = {kind: ATTACKS[kind] for kind in asked.only}
        if asked.soak:
            attacks = {"soak": lambda bench, tally: soak(bench, tally, asked.soak)}
        print("| attack | tried | survived | minutes |\n|---|---|---|---|")
        for kind, attack in attacks.items():
            tally, begun = Tally(), time.monotonic()
            attack(bench, tally)
            about = (attack.__doc__ or "runs on one cache").partition(":")[0].rstrip(".")
            minutes = (time.monotonic() - begun) / 60
            print(f"| {kind}: {about} | {tally.tried} | {tally.survived} | {minutes:.1f} |", flush=True)
            failed += tally.tried - tally.survived
            for problem in tally.problems[:5]:
                print(f"  {problem[:400]}", file=sys.stderr, flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
