"""The report of the bundled sample in these pages, and the picture of its beginning, which needs Chromium.

python docs/make_report.py
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from PIL import Image

import unposed
from unposed.synthetic.sample import sample_folder

HERE = Path(__file__).resolve().parent
WIDTH, HEIGHT = 1280, 1000
COLOURS = 128


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        shutil.copytree(sample_folder(), place / "courtyard")
        unposed.reconstruct(place / "courtyard", place / "result", cache=place / "cache")
        text = (place / "result" / "report.html").read_text(encoding="utf-8")
        (HERE / "sample-report.html").write_text(text.replace(f"{place}/", ""), encoding="utf-8")
        take_picture(HERE / "sample-report.html", HERE / "report.png", place)


def take_picture(page: Path, file: Path, profile: Path) -> None:
    """The beginning of the page, in few colours, which a page has anyway."""
    program = shutil.which("chromium") or shutil.which("google-chrome") or "chromium"
    flags = [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        f"--user-data-dir={profile}/browser",
    ]
    view = [f"--window-size={WIDTH},{HEIGHT}", "--virtual-time-budget=3000", f"--screenshot={file}"]
    subprocess.run([program, *flags, *view, page.as_uri()], check=True, capture_output=True)
    Image.open(file).convert("RGB").quantize(COLOURS).save(file, optimize=True)


if __name__ == "__main__":
    main()
