"""What a pair costs a network of the MASt3R family, on a CPU or a CUDA device.

    python benchmarks/network.py [--weights FILE.pth] [--device cpu] [--size 512x384] [--batches 1] [--compiled]
                                 [--reference FOLDER]

Every row has a process of its own: seconds per symmetric pair (both photos as the first one), with tokens of both at
hand or fresh from the encoder, in each type of number; the arithmetic done per second, over what a plain product of
matrices reaches; peak memory; how far from float32 the results are; and the matching of what was seen, on the device.
On a CPU seconds are processor seconds of one thread, and memory is that of the process with the file's pages that it
has touched; on a GPU they are wall seconds, and the memory that PyTorch has taken. With `--reference`, the folder of
the published networks' outputs, float32 on this device is compared with these first.

Without `--weights` a file of random ones of MASt3R's size is made: 2.8 GB in the folder for temporary files.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from unposed.networks.mast3r.checkpoint import load_network
from unposed.networks.mast3r.config import Mast3rConfig
from unposed.networks.mast3r.images import ImageFrame, image_batch
from unposed.networks.mast3r.network import Mast3rNetwork, PointMapPrediction
from unposed.pipeline.stage import Sides
from unposed.plugins.matching.dense import BY_DESCRIPTOR, ImageTokens, match_prediction, predict_pairs

TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
SEED_PX = 8
"""Matches are sought from so widely spaced pixels, as the stage does by default."""


def main() -> None:
    """All rows, or the one that this process is for."""
    args = _arguments()
    if args.row:
        row = json.loads(args.row)
        print(json.dumps(_ROWS[row.pop("what")](args, **row)))
        return
    threads = f", one thread of {torch.get_num_threads()}" if args.device == "cpu" else ""
    name = torch.cuda.get_device_name() if args.device != "cpu" else "CPU"
    print(f"{name}{threads}, PyTorch {torch.__version__}, {args.size[1]} x {args.size[0]} px")
    with _weights(args):
        if args.reference:
            errors = _row(args, "parity")
            print(f"float32 against the published outputs, largest errors: {_listed(errors)}")
        cost = _row(args, "cost")
        print(f"TFLOP: {cost['encode']:.3f} to encode a photo, {cost['decode']:.3f} to decode a symmetric pair")
        print("\ntype      tokens  batch  s/pair  pairs/s  TFLOP/s  of ceiling  peak MB")
        for kind in args.types:
            ceiling = _row(args, "ceiling", kind=kind)["tflops"]
            for cached in (True, False):
                for batch in args.batches:
                    _print_pairs(args, cost, ceiling, kind, cached, batch)
        for kind in args.types[1:]:
            print(f"{kind} against float32, median and largest: {_listed(_row(args, 'rounding', kind=kind))}")
        found = _row(args, "matching")
        print(f"matching of a symmetric pair: {found['seconds']:.3f} s, {found['matches']} matches of noise")


def _print_pairs(
    args: argparse.Namespace, cost: dict[str, float], ceiling: float, kind: str, cached: bool, batch: int
) -> None:
    row = _row(args, "pairs", kind=kind, cached=cached, batch=batch)
    start = f"{kind:9} {'cached' if cached else 'fresh':7} {batch:5}"
    if "seconds" not in row:
        print(f"{start}  out of memory")
        return
    work = cost["decode"] + (0 if cached else 2 * cost["encode"])
    speed = work / row["seconds"]
    print(
        f"{start}  {row['seconds']:6.3f}  {1 / row['seconds']:7.2f}  {speed:7.2f}  {speed / ceiling:10.0%}"
        f"  {row['peak_mb']:7.0f}"
    )


def _cost(args: argparse.Namespace) -> dict[str, float]:
    """Counted on tensors without content, with attention as plain products."""
    network = load_network(args.weights).to("meta")
    tokens, counted = None, {}
    for what in ("encode", "decode"):
        with FlopCounterMode(display=False) as counter:
            if tokens is None:
                tokens = network.encode(torch.empty(1, 3, *args.size, device="meta"))
            else:
                network.decode(tokens, tokens, args.size, args.size)
        counted[what] = counter.get_total_flops() * (2 if what == "decode" else 1) / 1e12
    return counted


def _ceiling(args: argparse.Namespace, kind: str) -> dict[str, float]:
    """The best of some products of square matrices."""
    n = 2048 if args.device == "cpu" else 8192
    a, b = torch.randn(2, n, n, device=args.device).to(TYPES[kind])
    return {"tflops": 2e-12 * n**3 / _seconds(args, lambda: a @ b, rounds=5)}


def _pairs(args: argparse.Namespace, kind: str, cached: bool, batch: int) -> dict[str, float]:
    network = _network(args, kind)
    width = network.config.encoder.width
    stored = torch.randn(2 * batch, args.size[0] * args.size[1] // 256, width).to(args.device) if cached else None
    images = _noise(2 * batch, args.size)

    def run() -> None:
        # A CPU gains nothing by encoding several at once.
        parts = torch.split(images, 1 if args.device == "cpu" else 2 * batch)
        tokens = torch.cat([network.encode(part) for part in parts]) if stored is None else stored
        network.decode(tokens, tokens.roll(batch, dims=0), args.size, args.size)

    try:
        seconds = _seconds(args, run, rounds=1 if args.device == "cpu" else 5) / batch
    except torch.cuda.OutOfMemoryError:
        return {}
    return {"seconds": seconds, "peak_mb": _peak_mb(args)}


def _rounding(args: argparse.Namespace, kind: str) -> dict[str, list[float]]:
    """Of what is seen of two images, from encoding to decoding."""
    images = _noise(2, args.size)
    views = []
    for each in ("float32", kind):
        network = _network(args, each)
        one, two = network.encode(images[:1]), network.encode(images[1:])
        views.append(network.decode(one, two, args.size, args.size)[1])
    return {name: [_median(error), float(error.max())] for name, error in _errors(*views).items()}


def _parity(args: argparse.Namespace) -> dict[str, list[float]]:
    folder = args.reference / "fixtures"
    inputs, wanted = (load_file(folder / f"{name}.safetensors") for name in ("net_images", "tiny_mast3r_outputs"))
    network = load_network(folder / "tiny_mast3r.pth", device=args.device)
    largest: dict[str, list[float]] = {}
    for case, names in {"land": ("a", "b"), "sizes": ("a", "wide"), "mixed": ("tall", "a")}.items():
        images = [image_batch([inputs[name].numpy()]) for name in names]
        sizes = [(image.shape[2], image.shape[3]) for image in images]
        one, two = (network.encode(image) for image in images)
        for side, view in enumerate(network.decode(one, two, sizes[0], sizes[1]), start=1):
            published = PointMapPrediction(
                *(wanted[f"{case}.view{side}.{name}"] for name in PointMapPrediction._fields)
            )
            for name, error in _errors(published, view).items():
                largest[name] = [max(float(error.max()), *largest.get(name, [0.0]))]
    return largest


def _matching(args: argparse.Namespace) -> dict[str, float]:
    network = _network(args, "float32")
    frame = ImageFrame(args.size, (0.5, 0.5), (1.0, 1.0))
    one, two = (ImageTokens(tokens, frame) for tokens in network.encode(_noise(2, args.size)))
    (seen,) = predict_pairs(network, [Sides(one, two)])
    found = match_prediction(seen, BY_DESCRIPTOR, SEED_PX)
    seconds = _seconds(args, lambda: match_prediction(seen, BY_DESCRIPTOR, SEED_PX), rounds=2)
    return {"seconds": seconds, "matches": len(found.pairs.a)}


_ROWS: dict[str, Callable[..., dict[str, Any]]] = {
    "cost": _cost,
    "ceiling": _ceiling,
    "pairs": _pairs,
    "rounding": _rounding,
    "parity": _parity,
    "matching": _matching,
}


def _errors(wanted: PointMapPrediction, found: PointMapPrediction) -> dict[str, Tensor]:
    """Relative ones of points and confidences, absolute ones of unit descriptors."""
    of, to = ([each.double().cpu() for each in view if each is not None] for view in (wanted, found))
    points = torch.linalg.vector_norm(to[0] - of[0], dim=-1) / torch.linalg.vector_norm(of[0], dim=-1)
    errors = {"points": points, "confidence": ((to[1] - of[1]) / of[1]).abs()}
    return errors | ({"descriptors": (to[2] - of[2]).abs()} if len(of) > 2 else {})


def _median(values: Tensor) -> float:
    return float(values.flatten().kthvalue(1 + values.numel() // 2).values)


def _listed(errors: dict[str, list[float]]) -> str:
    return ", ".join(f"{name} {' '.join(f'{value:.1e}' for value in values)}" for name, values in errors.items())


def _network(args: argparse.Namespace, kind: str) -> Mast3rNetwork:
    return load_network(args.weights, device=args.device, dtype=TYPES[kind], compiled=args.compiled)


def _noise(count: int, size: tuple[int, int]) -> Tensor:
    """Smooth, as photos are."""
    coarse = torch.rand(count, 3, 12, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return torch.nn.functional.interpolate(coarse, size=size, mode="bicubic").clamp(-1, 1)


def _seconds(args: argparse.Namespace, work: Callable[[], object], rounds: int) -> float:
    """The least of some rounds, after one that warms up; processor seconds on a CPU."""
    times = []
    for _ in range(rounds + 1):
        start = time.process_time() if args.device == "cpu" else time.perf_counter()
        work()
        if args.device == "cpu":
            times.append(time.process_time() - start)
        else:
            torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
    return min(times[1:])


def _peak_mb(args: argparse.Namespace) -> float:
    if args.device == "cpu":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return torch.cuda.max_memory_allocated() / 2**20


def _row(args: argparse.Namespace, what: str, **more: object) -> dict[str, Any]:
    """One measurement in a process of its own."""
    size = f"{args.size[1]}x{args.size[0]}"
    command = [sys.executable, __file__, "--weights", args.weights, "--device", args.device, "--size", size]
    command += ["--row", json.dumps({"what": what, **more})]
    command += ["--compiled"] if args.compiled else []
    command += ["--reference", args.reference] if args.reference else []
    done = subprocess.run(list(map(str, command)), check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@contextmanager
def _weights(args: argparse.Namespace) -> Iterator[None]:
    """Random ones where none were given, of the size that keeps what passes through in order."""
    if args.weights:
        yield
        return
    with tempfile.TemporaryDirectory() as folder:
        args.weights = Path(folder) / "random.pth"
        torch.manual_seed(0)
        torch.save({"model": Mast3rNetwork(Mast3rConfig()).state_dict()}, args.weights)
        yield


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--size", default="512x384", help="width x height in pixels")
    parser.add_argument("--types", nargs="+", choices=TYPES, default=["float32", "bfloat16"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1], help="pairs at once")
    parser.add_argument("--compiled", action="store_true", help="transformer blocks through torch.compile")
    parser.add_argument("--reference", type=Path, help="folder of the published networks' outputs")
    parser.add_argument("--row", help=argparse.SUPPRESS)
    args = parser.parse_args()
    width, height = map(int, args.size.split("x"))
    args.size = height, width
    if args.device == "cpu":
        torch.set_num_threads(1)
    return args


if __name__ == "__main__":
    main()
