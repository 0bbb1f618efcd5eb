"""COLMAP as its users run it, one run per process: the yardstick of benchmarks/photos.py.

    python benchmarks/peers.py PEER PHOTOS OUT [--seed N]     writes OUT/sparse/* and OUT/stages.json

Everything goes through pycolmap's own functions on a database file, with its defaults except for what PEERS names.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Peer:
    """What distinguishes one way of running COLMAP from another."""

    about: str
    shared: bool = False
    """One camera for all photos; otherwise one per photo."""
    otherwise: str = ""
    """The peer that stands in where the photos do not share a camera."""
    mapper: str = "incremental"
    first_octave: int = -1
    """-1 doubles the photo before detection (the default), 0 does not."""
    features: int = 8192


PEERS = {
    "stock": Peer("COLMAP's defaults, incremental, a camera per photo"),
    "stock-shared": Peer("stock, but one camera where the photos share one", shared=True, otherwise="stock"),
    "stock-global": Peer("COLMAP's defaults, global mapper after calibration, a camera per photo", mapper="global"),
    "tuned": Peer("COLMAP, photos not doubled, 4096 features, a camera per photo", first_octave=0, features=4096),
    "tuned-shared": Peer(
        "tuned, but one camera where the photos share one",
        shared=True,
        otherwise="tuned",
        first_octave=0,
        features=4096,
    ),
}


@contextmanager
def stage(seconds: dict[str, dict[str, float]], name: str) -> Iterator[None]:
    """Note CPU seconds (all threads) and wall seconds of the block."""
    cpu, wall = time.process_time(), time.perf_counter()
    yield
    seconds[name] = {"cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - wall}


def run(peer: Peer, photos: Path, out: Path, seed: int) -> dict[str, dict[str, float]]:
    """Reconstruct the photos into out/sparse; gives the seconds per stage."""
    import pycolmap

    pycolmap.logging.minloglevel = 2
    pycolmap.set_random_seed(seed)
    out.mkdir(parents=True, exist_ok=True)
    (out / "sparse").mkdir()
    database = out / "database.db"
    seconds: dict[str, dict[str, float]] = {}

    extraction = pycolmap.FeatureExtractionOptions()
    extraction.sift.first_octave, extraction.sift.max_num_features = peer.first_octave, peer.features
    mode = pycolmap.CameraMode.SINGLE if peer.shared else pycolmap.CameraMode.PER_IMAGE
    with stage(seconds, "features"):
        pycolmap.extract_features(
            database, photos, camera_mode=mode, extraction_options=extraction, device=pycolmap.Device.cpu
        )
    verification = pycolmap.TwoViewGeometryOptions()
    verification.ransac.random_seed = seed
    with stage(seconds, "matching + verification"):
        pycolmap.match_exhaustive(database, verification_options=verification, device=pycolmap.Device.cpu)
    with stage(seconds, "mapping"):
        if peer.mapper == "global":
            pycolmap.calibrate_view_graph(database, pycolmap.ViewGraphCalibrationOptions(random_seed=seed))
            whole = pycolmap.GlobalPipelineOptions(random_seed=seed)
            # The wheel is built without CUDA and would only warn that it cannot do what these ask for.
            whole.mapper.global_positioning.use_gpu = whole.mapper.bundle_adjustment.ceres.use_gpu = False
            pycolmap.global_mapping(database, photos, out / "sparse", whole)
        else:
            stepwise = pycolmap.IncrementalPipelineOptions(random_seed=seed)
            pycolmap.incremental_mapping(database, photos, out / "sparse", stepwise)
    return seconds


def main() -> None:
    """One run, as benchmarks/photos.py starts it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("photos", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    stages = run(PEERS[args.peer], args.photos, args.out, args.seed)
    (args.out / "stages.json").write_text(json.dumps({"peer": asdict(PEERS[args.peer]), "stages": stages}, indent=1))


if __name__ == "__main__":
    main()
