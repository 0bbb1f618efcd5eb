"""The bundled sample: twenty photos of the courtyard with ground truth.

`python -m unposed.synthetic.sample [FOLDER]` renders them again, by default in place. The renderer is imported late,
since the command line only needs the path of the sample.
"""

from __future__ import annotations

import sys
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .scenes import Scene

QUALITY = 89


def sample_folder() -> Path:
    """Folder of the sample's photos and gt.json."""
    return Path(str(files("unposed.synthetic") / "sample-photos"))


def sample_scene() -> Scene:
    """The scene of the sample."""
    from .scenes import easy

    return easy(photos=20, width=864)


def make_sample(folder: Path) -> None:
    """Render the photos into the folder and write gt.json beside them."""
    from .photos import write_photos, write_truth

    scene = sample_scene()
    write_photos(scene, folder, QUALITY)
    write_truth(scene, folder / "gt.json")


if __name__ == "__main__":
    make_sample(Path(sys.argv[1]) if len(sys.argv) > 1 else sample_folder())
