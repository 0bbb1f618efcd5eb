"""What the report of a run costs, on emulated collections with photos of any size.

    python benchmarks/report.py --photos 100 1000 --photo-size 4000x3000

Poses and matches are those of an emulated flight or walk, points are triangulated from them, and the photos are some of
the sample, enlarged and with grain, so that their files are as large as a camera would write them. Printed are CPU
seconds and bytes of report.html and overview.jpg, as `unposed reconstruct` writes them.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scale import emulated_inputs

from unposed.pipeline.artifacts import InitialModel, InitialModels, Photos, Ranking
from unposed.pipeline.images.photos import scan
from unposed.plugins.fine.triangulate import Triangulation
from unposed.report.sources import ReportSources
from unposed.run_report import write_report
from unposed.summary import registration
from unposed.synthetic.collections import EmulationOptions, emulate_collection
from unposed.synthetic.sample import sample_folder

GRAIN = 6.0
"""Standard deviation of the noise in a photo, in grey values: 12 megapixels take about 4 MB, as from a phone."""

FILES = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, nargs="+", default=[100])
    parser.add_argument("--photo-size", default="4000x3000", metavar="WxH")
    parser.add_argument("--layout", default="aerial")
    options = parser.parse_args()
    width, height = map(int, options.photo_size.split("x"))
    for photos in options.photos:
        with tempfile.TemporaryDirectory() as folder:
            sources = emulated_sources(photos, options.layout, _photo_files(Path(folder), width, height))
            cpu = time.process_time()
            write_report(sources, Path(folder), print)
            row = {"photos": photos, "points": len(sources.sparse.models[0].points)}
            row |= {"cpu_s": round(time.process_time() - cpu, 2)}
            row |= {name: (Path(folder) / name).stat().st_size for name in ("report.html", "overview.jpg")}
            print(json.dumps(row), flush=True)


def emulated_sources(count: int, layout: str, files: Photos) -> ReportSources:
    """What a report of an emulated collection is made of; its photos are these files in turns."""
    truth = emulate_collection(layout, count, options=EmulationOptions(keypoints=1500, max_matches=300))
    graph, cameras, photos = emulated_inputs(truth)
    width, height = truth.size[0].tolist()
    camera = replace(cameras.cameras[0], params=(truth.focal_px, width / 2, height / 2, 0.0))
    every = np.arange(count, dtype=np.int32)
    cameras = replace(cameras, cameras=(camera,))
    start = InitialModel((camera,), every, np.zeros(count, np.int32), truth.cam_from_world)
    sparse = Triangulation()(photos, cameras, graph, InitialModels((start,), {}))
    named = (replace(files[i % len(files)], name=photo.name) for i, photo in enumerate(photos.photos))
    copies = Photos(tuple(named), {})
    similarity = np.asarray(truth.match_count, np.float32)
    ranking = Ranking(np.asarray(truth.pairs, np.int32), similarity / similarity.max())
    return ReportSources(copies, sparse, _summary(copies, sparse), "", truth.pairs, ranking, graph, None, cameras)


def _summary(photos: Photos, sparse: Any) -> dict[str, Any]:
    """As summary.json has it, with no stages."""
    nothing: dict[str, Any] = {"settings": {}, "versions": {}, "weights": {}, "stages": {}, "helpings": {}}
    lists: dict[str, Any] = {"warnings": [], "failures": [], "doubts": []}
    numbers = {"seed": 0, "effort": 1.0, "workers": 1, "wall_s": 0.0, "cpu_s": 0.0, "peak_mb": None, "failure": None}
    words = {"photos_folder": "emulated", "preset": "none", "device": "cpu", "finished": ""}
    return {**nothing, **lists, **numbers, **words, **registration(photos, sparse)}


def _photo_files(folder: Path, width: int, height: int) -> Photos:
    place = folder / "photos"
    place.mkdir()
    for number, file in enumerate(sorted(sample_folder().glob("*.jpg"))[:FILES]):
        image = Image.open(file).convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
        grain = np.random.default_rng(number).normal(0.0, GRAIN, (height, width, 3))
        noisy = np.clip(np.asarray(image, np.float32) + grain, 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(place / file.name, quality=85)
    return scan(place)


if __name__ == "__main__":
    main()
