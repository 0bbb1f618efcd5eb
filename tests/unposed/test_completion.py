"""Shell completion, asked as a shell asks it."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import fields

import pytest

from unposed.cli import main
from unposed.option_names import option_names
from unposed.pipeline.registry import Registry

HEAVY = "{'torch', 'numpy', 'cv2', 'pycolmap', 'scipy', 'rich'}"


def completed(line: str) -> list[str]:
    """What a shell would offer after this line. Importing anything slow fails, and so does the answer then."""
    script = f"import sys; sys.modules.update(dict.fromkeys({HEAVY})); from unposed.cli import main; main()"
    asked = {"_ARGCOMPLETE": "1", "_ARGCOMPLETE_IFS": "\n", "COMP_LINE": line, "COMP_POINT": str(len(line.encode()))}
    read, write = os.pipe()
    shell = ["bash", "-c", f'exec 8>&{write}; exec "$0" -c "$1"', sys.executable, script]  # it answers on descriptor 8
    subprocess.run(shell, env={**os.environ, **asked}, pass_fds=[write], check=False)
    os.close(write)
    with os.fdopen(read) as answer:
        return [word.strip() for word in answer.read().split("\n") if word.strip()]


@pytest.mark.skipif(sys.platform == "win32", reason="needs bash")
@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("unposed rec", ["reconstruct"]),
        ("unposed reconstruct p --pres", ["--preset"]),
        ("unposed reconstruct p --preset sift-", ["sift-aliked", "sift-xfeat"]),
        ("unposed reconstruct p --cameras s", ["single"]),
        ("unposed reconstruct p --set matching.max_r", ["matching.max_ratio="]),
        ("unposed reconstruct p --preset sift-aliked --set match-aliked.max_r", ["match-aliked.max_ratio="]),
        ("unposed export r --to spl", ["splat"]),
        ("unposed export r --to ply --set cam", ["cameras=", "camera_size=", "camera_rgb="]),
        ("unposed plugins show features.sif", ["features.sift"]),
        ("unposed presets show cl", ["classic"]),
        ("unposed weights get aliked-n16r", ["aliked-n16rot"]),
    ],
)
def test_words_that_may_follow(line: str, words: list[str]) -> None:
    assert completed(line) == words


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_scripts_for_shells(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    assert "unposed" in capsys.readouterr().out


def test_option_names_from_source_are_those_of_the_class() -> None:
    registry = Registry()
    for info in registry.available():
        if info.distribution.startswith("unposed ") and info.slot != "executor":
            names = {name.partition(".")[0] for name in option_names(info.target)}
            assert names == {field.name for field in fields(registry.find(info.slot, info.name))}, info.target
