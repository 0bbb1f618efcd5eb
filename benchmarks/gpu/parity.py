"""Part a: what the device computes against the CPU, by relative norms against float64 on small sizes."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from unposed.gpu_check import (
    ERROR_LIMITS,
    SMALL_NETWORK,
    SMALL_SIZE,
    check_device,
    knows,
    made_up_network,
    relative_error,
    smooth_images,
)
from unposed.networks.compiled import CompiledKind, compile_blocks
from unposed.networks.mast3r.checkpoint import load_network
from unposed.networks.mast3r.config import DptConfig
from unposed.networks.mast3r.croco import DecoderBlock, EncoderBlock
from unposed.networks.mast3r.images import ImageFrame, image_batch
from unposed.networks.mast3r.network import Mast3rNetwork, PointMapPrediction
from unposed.networks.precision import forbid_tf32
from unposed.optim.bundle.adjust import INITIAL_DAMPING, CpuProblem
from unposed.optim.bundle.adjust_torch import TorchProblem
from unposed.optim.bundle.losses import CAUCHY, HUBER, SQUARED, Loss, barron
from unposed.optim.bundle.objective import build_objective, bundle_state
from unposed.optim.bundle.pose_priors import no_pose_priors
from unposed.optim.bundle.problem import Bundle, BundleOptions, IntrinsicsPrior
from unposed.optim.bundle.schur import schur_structure
from unposed.optim.bundle.torch_schur import ImplicitSchurComplement, product_kernel_problem
from unposed.optim.pair.matching import byte_rows, mutual_nearest, unit_rows
from unposed.optim.pair.reciprocal_matching import most_similar
from unposed.optim.pair.reciprocal_on_device import kernel_runs_on, nearest_by_product
from unposed.pipeline.stage import Sides
from unposed.plugins.matching.dense import BY_DESCRIPTOR, ImageTokens, match_prediction, predict_pairs
from unposed.retrieval.device_candidates import search_on_device
from unposed.synthetic.bundles import emulate_bundle

from . import network_parity
from .networks import refuse_plain
from .setting import Absent, Case, Finding, Setting, needs

FIXTURES = Path(__file__).parents[2] / "tests/data/reference/fixtures"
PUBLISHED_LIMIT = 1e-4
SAME_MATCHES = 0.97
MEDIAN_POINT_ERROR = 0.01
LOSSES: dict[str, Loss] = {"cauchy": CAUCHY, "huber": HUBER, "barron": barron(-2.0), "squared": SQUARED}


def cases(setting: Setting) -> Iterator[Case]:
    """In the order of what the other parts rest on."""
    yield "self test of doctor", partial(_self_test, setting)
    for precision in ("float32", "tf32", "bfloat16", "float16"):
        yield f"MASt3R, small, {precision}", partial(_network, setting, precision)
    yield "MASt3R, tiny, published outputs", partial(_published, setting)
    yield from network_parity.cases(setting)
    yield "descriptor matches in 16 bits", partial(_matches_in_16_bits, setting)
    yield "reciprocal search, the kernel", partial(_kernel, setting)
    for name in ("floats", "bytes"):
        yield f"descriptor matching, {name}", partial(_descriptors, setting, name)
    yield "visual words", partial(_words, setting)
    for kind in ("ring", "private"):
        for name, loss in LOSSES.items():
            yield f"adjustment, linearized, {kind}, {name}", partial(_linearized, setting, kind, loss)
    yield "adjustment, products by the kernels", partial(_products, setting)
    yield "ALIKED", partial(_aliked, setting)
    yield "MASt3R, small, torch.compile", partial(_compiled, setting)


def _self_test(setting: Setting) -> Finding:
    checks = check_device(setting.device)
    return Finding({each.name: each.error for each in checks}, passed=all(each.passed for each in checks))


def _network(setting: Setting, precision: str, compiled: bool = False) -> Finding:
    if not knows(setting.device, precision):
        raise Absent(f"not run: this device has no {precision}")
    network = made_up_network(SMALL_NETWORK, setting.device, precision)
    kinds: Mapping[object, CompiledKind] = {}
    if compiled:
        kinds = compile_blocks(network, (EncoderBlock, DecoderBlock), "inductor" if setting.on_gpu else "aot_eager")
    wanted, found = _exact_outputs(), _outputs(network)
    refuse_plain(kinds)
    errors = {"tokens": relative_error(found[0], wanted[0])}
    for name in PointMapPrediction._fields:
        errors[name] = max(
            relative_error(getattr(ours, name), getattr(theirs, name))
            for ours, theirs in zip(found[1:], wanted[1:], strict=True)
        )
    return Finding(errors, {"limit": ERROR_LIMITS[precision]}, max(errors.values()) < ERROR_LIMITS[precision])


def _outputs(network: Mast3rNetwork) -> tuple[Tensor, PointMapPrediction, PointMapPrediction]:
    """Tokens of four images, and what the network says of two pairs of them."""
    tokens = network.encode(smooth_images(4, SMALL_SIZE))
    return tokens, *network.decode(tokens[:2], tokens[2:], SMALL_SIZE, SMALL_SIZE)


@cache
def _exact_outputs() -> tuple[Tensor, PointMapPrediction, PointMapPrediction]:
    """In float64 on the CPU."""
    return _outputs(made_up_network(SMALL_NETWORK, torch.device("cpu"), "float64"))


def _compiled(setting: Setting) -> Finding:
    return _network(setting, "bfloat16" if knows(setting.device, "bfloat16") else "float16", compiled=True)


def _published(setting: Setting) -> Finding:
    """The tiny network of the parity fixtures in float32, against what the published program gave."""
    if not FIXTURES.is_dir():
        raise Absent(f"not run: {FIXTURES} is not here")
    sys.path.insert(0, str(FIXTURES.parents[2] / "support"))
    from tiny_networks import write_mast3r

    weights = setting.folder / "tiny_mast3r.pth"
    write_mast3r(weights, json.loads((FIXTURES / "tiny_mast3r_state_dict.json").read_text(encoding="utf-8")))
    published, wanted = (load_file(FIXTURES / f"{name}.safetensors") for name in ("net_images", "tiny_mast3r_outputs"))
    network = load_network(weights, device=str(setting.device))
    largest: dict[str, float] = {}
    for case, names in {"land": ("a", "b"), "sizes": ("a", "wide"), "mixed": ("tall", "a")}.items():
        images = [image_batch([published[name].numpy()]) for name in names]
        sizes = [(image.shape[2], image.shape[3]) for image in images]
        views = network.decode(*(network.encode(image) for image in images), sizes[0], sizes[1])
        for side, view in enumerate(views, start=1):
            for name, values in view._asdict().items():
                error = relative_error(values, wanted[f"{case}.view{side}.{name}"])
                largest[name] = max(error, largest.get(name, 0.0))
    return Finding(largest, {"limit": PUBLISHED_LIMIT}, max(largest.values()) < PUBLISHED_LIMIT)


def _matches_in_16_bits(setting: Setting) -> Finding:
    """How many matches of float32 remain, and how far points move."""
    size = (96, 128) if setting.small else (192, 256)
    config = SMALL_NETWORK if setting.small else replace(SMALL_NETWORK, dpt=DptConfig())
    kinds = ["float32", *(name for name in ("bfloat16", "float16") if knows(setting.device, name))]
    found, points = {}, {}
    for kind in kinds:
        network = made_up_network(config, setting.device, kind)
        frame = ImageFrame(size, (0.5, 0.5), (1.0, 1.0))
        one, two = (ImageTokens(tokens, frame) for tokens in network.encode(smooth_images(2, size)))
        (seen,) = predict_pairs(network, [Sides(one, two)])
        rows = match_prediction(seen, BY_DESCRIPTOR, 4).pairs
        found[kind] = set(zip(rows.a.tolist(), rows.b.tolist(), strict=True))
        points[kind] = seen.b_in_a.pts3d.double().cpu()
    figures = {}
    for kind in kinds[1:]:
        moved = (points[kind] - points["float32"]).norm(dim=-1) / points["float32"].norm(dim=-1)
        figures[f"{kind} same matches"] = len(found[kind] & found["float32"]) / len(found["float32"])
        figures[f"{kind} median move of points"] = float(moved.median())
    # Made-up parameters give descriptors of noise, which rounding moves more than those of a trained network.
    return Finding(figures, {"same matches, trained": SAME_MATCHES, "move, trained": MEDIAN_POINT_ERROR})


def _kernel(setting: Setting) -> Finding:
    """The neighbours that the device finds, by the kernel where it runs, against those in main memory."""
    count, pixels = (96, 768) if setting.small else (3072, 49152)
    random = torch.Generator().manual_seed(0)
    queries, targets = (functional.normalize(torch.randn(2, n, 24, generator=random), dim=2) for n in (count, pixels))
    found = nearest_by_product(queries.to(setting.device), targets.to(setting.device)).cpu().numpy()
    wanted = np.stack([most_similar(q.numpy(), t.numpy()) for q, t in zip(queries, targets, strict=True)])
    same = float((found == wanted).mean())
    return Finding({"same": same, "by": _searcher(setting)}, {"same": 0.999}, same >= 0.999)


def _searcher(setting: Setting) -> str:
    return "Triton kernel" if kernel_runs_on(setting.device) else "blocks of torch"


def _descriptors(setting: Setting, kind: str) -> Finding:
    random = np.random.default_rng(0)
    rows = 300 if setting.small else 4096
    a = random.standard_normal((rows, 128)).astype(np.float32)
    b = a[random.permutation(rows)] + 0.4 * random.standard_normal((rows, 128)).astype(np.float32)
    make = byte_rows if kind == "bytes" else unit_rows
    here, there = (mutual_nearest(make(a), make(b), device=device) for device in ("cpu", str(setting.device)))
    one, other = (set(zip(each.index_a.tolist(), each.index_b.tolist(), strict=True)) for each in (here, there))
    same = len(one & other) / len(one | other)
    return Finding({"same": same, "matches": len(one)}, {"same": 1.0 if kind == "bytes" else 0.999}, same >= 0.999)


def _words(setting: Setting) -> Finding:
    """Whether the five nearest words are among the sixteen that the device finds."""
    words, dims = (256, 64) if setting.small else (16384, 256)
    random = np.random.default_rng(0)
    centroids, rows = (random.standard_normal((n, dims)).astype(np.float32) for n in (words, 512))
    found = search_on_device(centroids, str(setting.device))(rows, 16).words
    score = rows.astype(np.float64) @ centroids.T - 0.5 * (centroids.astype(np.float64) ** 2).sum(axis=1)
    nearest = np.argpartition(-score, 5, axis=1)[:, :5]
    same = float((nearest[:, :, None] == found[:, None, :]).any(axis=2).mean())
    return Finding({"found": same}, {"found": 1.0}, same == 1.0)


def _linearized(setting: Setting, kind: str, loss: Loss) -> Finding:
    """Cost and normal equations at one state, with anchors and priors."""
    bundle = Bundle(**emulate_bundle(kind, 12, 600 if setting.small else 6000)._asdict())
    photos = len(bundle.cam_from_world)
    fixed = replace(no_pose_priors(photos), fixed=np.arange(photos) == 2)
    prior = IntrinsicsPrior(bundle.intrinsics * 1.01, np.full(bundle.intrinsics.shape, 0.5))
    options = BundleOptions(distortion=True, loss=loss, loss_px=1.0)
    objective = build_objective(bundle, options, prior, None, fixed)
    structure = schur_structure(objective.order, objective.free.pose_size, objective.free.intrinsics_size)
    here = CpuProblem(objective, structure)
    there = TorchProblem(objective, setting.device, len(bundle.points), torch.float64)
    state = bundle_state(bundle, objective.order)
    sent = replace(state, points=there.layout.to_device(state.points))
    with torch.no_grad():
        errors = {"cost": abs(there.cost(sent) / here.cost(state) - 1.0)}
        wanted, found = here.linearize(state), there.linearize(sent)
        for name in ("photo", "photo_gradient", "camera", "camera_gradient", "point", "point_gradient"):
            own: Tensor = getattr(found, name)
            if own.numel():
                errors[name] = relative_error(own, torch.from_numpy(np.ascontiguousarray(getattr(wanted, name))))
    worst = max(errors, key=lambda name: errors[name])
    return Finding({"largest": errors[worst], "of": worst}, {"limit": 1e-10}, errors[worst] < 1e-10)


def _products(setting: Setting) -> Finding:
    """One product with the Schur complement by the kernels against the same in torch."""
    if problem := product_kernel_problem(setting.device):
        raise Absent(f"not run: {problem}")
    bundle = Bundle(**emulate_bundle("ring", 40, 6000)._asdict())
    objective = build_objective(bundle, BundleOptions(distortion=True), block_size=len(bundle.xy))
    with torch.no_grad():
        there = TorchProblem(objective, setting.device, len(bundle.points))
        state = bundle_state(bundle, objective.order)
        linear = there.linearize(replace(state, points=there.layout.to_device(state.points)))
        schur = ImplicitSchurComplement(there.layout, linear, INITIAL_DAMPING)
        ones = torch.ones_like(linear.photo_gradient), torch.ones_like(linear.camera_gradient)
        found, again = schur.multiply(ones), schur.multiply(ones)
        schur.kernel = False
        wanted = schur.multiply(ones)
    errors = [relative_error(ours, theirs) for ours, theirs in zip(found, wanted, strict=True)]
    same = all(torch.equal(one, other) for one, other in zip(found, again, strict=True))
    return Finding(
        {"largest": max(errors), "same bits again": str(same)}, {"limit": 1e-10}, max(errors) < 1e-10 and same
    )


def _aliked(setting: Setting) -> Finding:
    needs("kornia")
    from kornia.feature import ALIKED

    from unposed.networks.aliked import detect

    torch.manual_seed(0)
    network = ALIKED("aliked-n16").eval().requires_grad_(False)
    images = (smooth_images(1, (96, 128) if setting.small else (480, 640)) + 1.0) / 2.0
    forbid_tf32(setting.device)
    here, there = (
        detect(network.to(place), images.to(place), 256, 0.0)[0] for place in (torch.device("cpu"), setting.device)
    )
    one, other = ({tuple(row) for row in each.xy.cpu().round().int().tolist()} for each in (here, there))
    same = len(one & other) / max(1, len(one | other))
    return Finding({"same key points": same, "of": len(one)}, {"same key points": 0.95}, same >= 0.95)
