"""Operations and bytes of every kernel, counted before anything is measured, and the time that they take at least.

A prediction is `operations / reached + bytes / bandwidth`: products and what surrounds them run one after the other, in
kernels of their own. What is reached are the plain operations that the same run has measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from torch import Tensor, device, empty
from torch.utils.flop_counter import FlopCounterMode

from unposed.gpu_check import DeviceSpeed
from unposed.networks.manyview.checkpoint import build_many_view
from unposed.networks.manyview.config import PATCH_PX as VIEW_PATCH_PX, Da3Config
from unposed.networks.manyview.heads import VIEWS_ON_A_GPU
from unposed.networks.mast3r.config import PATCH_PX, Mast3rConfig
from unposed.networks.mast3r.network import Mast3rNetwork


@dataclass(frozen=True)
class Work:
    """What has to be done, whoever does it."""

    operations: float
    """Additions and multiplications."""
    bytes: float
    """Read and written, beyond the caches."""
    kernels: int = 0
    """Launches."""
    head_operations: float = 0.0
    """Those of heads, which are in TF32 beside transformers in 16 bits."""

    def __add__(self, other: Work) -> Work:
        return Work(
            self.operations + other.operations,
            self.bytes + other.bytes,
            self.kernels + other.kernels,
            self.head_operations + other.head_operations,
        )

    @property
    def all_operations(self) -> float:
        return self.operations + self.head_operations

    def times(self, count: float) -> Work:
        """The same so often; launches do not grow with the size of a batch."""
        return Work(self.operations * count, self.bytes * count, self.kernels, self.head_operations * count)

    def seconds(self, speed: DeviceSpeed, precision: str) -> float:
        """At the measured speed of plain operations."""
        heads = "tf32" if "tf32" in speed.tflops and precision != "float32" else "float32"
        products = self.operations / speed.tflops[precision] + self.head_operations / speed.tflops[heads]
        waits = 1e-6 * speed.launch_us * self.kernels
        return max(1e-12 * products + self.bytes / (1e9 * speed.bandwidth_gb_per_s), waits)


STREAM, PRODUCT = 4, 2
"""Bytes of a number between blocks, and of one that goes into or comes out of a product in 16 bits."""


@cache  # counting takes longer than a small network
def encoder_work(config: Mast3rConfig, size: tuple[int, int]) -> Work:
    """Of one image, in 16 bits.

    A block of width c reads and writes per token: norms 2 c (4 + 4), rounding 2 c (4 + 2), residuals 2 c (4 + 2 + 4),
    queries, keys and values 3 c 2 from the product and 3 c 2 into attention, their rotation 2 c (2 + 2), its result
    c (2 + 2), and 4 c (2 + 2 + 2) around the activation of the MLP: 108 c bytes.
    """
    network = _without_content(config)
    with FlopCounterMode(display=False) as counter:
        network.encode(empty(1, 3, *size, device="meta"))
    stack, tokens = config.encoder, size[0] * size[1] // PATCH_PX**2
    parameters = 12 * stack.width**2 * PRODUCT * stack.depth
    return Work(counter.get_total_flops(), 108.0 * stack.width * tokens * stack.depth + parameters, 25 * stack.depth)


def decoder_work(config: Mast3rConfig, size: tuple[int, int], *, descriptors: bool = True) -> Work:
    """Of a symmetric pair: both decoders and both heads, twice."""
    return blocks_work(config, size) + heads_work(config, size, descriptors=descriptors)


@cache
def blocks_work(config: Mast3rConfig, size: tuple[int, int]) -> Work:
    """Of the decoders' blocks for a symmetric pair, in 16 bits; a block has a second attention: 180 c bytes per
    token."""
    network, tokens = _without_content(config), _tokens(config, size)
    with FlopCounterMode(display=False) as counter:
        network.decoder_outputs(tokens, tokens, size, size, config.levels_read)
    stack = config.decoder
    moved = 4 * 180.0 * stack.width * tokens.shape[1] * stack.depth
    parameters = 2 * 16 * stack.width**2 * PRODUCT * stack.depth
    return Work(2.0 * counter.get_total_flops(), moved + parameters, 2 * 45 * stack.depth)


@cache
def heads_work(config: Mast3rConfig, size: tuple[int, int], *, descriptors: bool = True) -> Work:
    """Of the heads for a symmetric pair, in float32.

    For n pixels maps are written and read a few times: levels of 256 channels at 1/16, 1/64 and 1/256 of the pixels
    and less, about 12 passes each, 128 channels at the whole and at a quarter, 4 passes each; and 25 channels of
    descriptors, 4 passes.
    """
    network, tokens, pixels = _without_content(config), _tokens(config, size), size[0] * size[1]
    with FlopCounterMode(display=False) as whole:
        network.decode(tokens, tokens, size, size, descriptors=descriptors)
    levels = config.dpt.fused * (1 / 16 + 1 / 64 + 1 / 256) * 12 + config.dpt.last * (1 + 1 / 4) * 4
    moved = 4 * pixels * STREAM * (levels + (4 * (config.descriptor_width + 1) if descriptors else 0))
    operations = 2.0 * whole.get_total_flops() - blocks_work(config, size).operations
    return Work(0.0, moved, 2 * 60, operations)


@cache
def group_work(config: Da3Config, size: tuple[int, int], views: int) -> Work:
    """Of a group of views by Depth Anything 3: its encoder in 16 bits, its heads in float32.

    A block moves 108 c bytes per token, as that of MASt3R's encoder, and 10 c more for the scales of its channels. The
    head moves about 12 passes of levels at 1/49, 1/196 and less of the pixels, 4 of maps at the whole and a quarter.
    """
    stack, pixels = config.encoder.stack, size[0] * size[1]
    with device("meta"):
        network = build_many_view(config).eval().requires_grad_(False)
    images = empty(1, views, 3, *size, device="meta")
    with FlopCounterMode(display=False) as blocks:
        features = network.features(images)
    with FlopCounterMode(display=False) as heads:
        network.depth(features, size)
    tokens = views * (1 + pixels // VIEW_PATCH_PX**2)
    moved = 118.0 * stack.width * tokens * stack.depth + 12 * stack.width**2 * PRODUCT * stack.depth
    levels = config.dpt.fused * (16 + 4 + 1) / VIEW_PATCH_PX**2 * 12 + config.dpt.last * (1 + 1 / 4) * 4
    moved += views * pixels * STREAM * levels
    launches = 25 * stack.depth + -(-views // VIEWS_ON_A_GPU) * 80
    return Work(blocks.get_total_flops(), moved, launches, heads.get_total_flops())


def reciprocal_work(queries: int, pixels: int, dims: int, written: bool) -> Work:
    """Of the neighbours of so many queries in a map: products, and similarities written and read once, or never."""
    similarities = 2 * 4.0 * queries * pixels if written else 0.0
    return Work(2.0 * queries * pixels * dims, similarities + 4.0 * dims * (queries + pixels), 4)


def descriptor_work(rows: int, dims: int) -> Work:
    """Of mutual neighbours of two photos with so many descriptors: one product, whose table is written and read by the
    search for maxima, for where they are, and twice more without them."""
    return Work(2.0 * rows * rows * dims, 5 * 4.0 * rows * rows + 2 * 4.0 * rows * dims, 12)


def words_work(rows: int, words: int, dims: int) -> Work:
    """Of the scores of visual words, written once and read by the choice of the best."""
    return Work(2.0 * rows * words * dims, 4.0 * (3 * rows * words + words * dims + rows * dims), 5)


def linearization_work(observations: int, unknowns: int) -> Work:
    """Of residuals and Jacobians in float64: per observation 300 operations for its columns and (d + 1)^2 x 2 for its
    products, where every intermediate is a vector of its own in memory: about 250 of 8 bytes, and the products."""
    d = unknowns
    per_row = 8.0 * (250 + 2 * (d + 1) ** 2 + 2 * 9) + 2 * 4.0 * (d + 3)
    return Work(observations * (300.0 + 4 * (d + 1) ** 2), observations * per_row, 400)


def gradient_iteration_work(observations: int, unknowns: int, written: bool) -> Work:
    """Of one product with the Schur complement: Jacobians of two residuals by d unknowns and three coordinates in
    float32, there and back; with every product written and read before it is summed, or by the kernels, see
    `jacobian_kernel`."""
    per_row = 128.0 * unknowns + 464 if written else 16.0 * unknowns + 128
    return Work(8.0 * observations * (unknowns + 3), observations * per_row, 60 if written else 40)


def _without_content(config: Mast3rConfig) -> Mast3rNetwork:
    with device("meta"):  # initializing 700 million parameters takes 3 GB and, before the first kernel, seconds
        return Mast3rNetwork(config).eval().requires_grad_(False)


def _tokens(config: Mast3rConfig, size: tuple[int, int]) -> Tensor:
    return empty(1, size[0] * size[1] // PATCH_PX**2, config.encoder.width, device="meta")
