"""Part b: networks at full size with made-up parameters: photos and pairs per second, against the ceiling."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path

import torch
from torch import Tensor

from unposed.gpu_check import DTYPES, SMALL_NETWORK, knows, seconds_of
from unposed.networks.compiled import CompiledKind, compile_blocks
from unposed.networks.manyview.checkpoint import build_many_view, fill_network
from unposed.networks.manyview.config import PUBLISHED, Da3Config, EncoderConfig
from unposed.networks.manyview.da3 import Da3Network
from unposed.networks.mast3r.checkpoint import build_network
from unposed.networks.mast3r.config import DptConfig, Mast3rConfig, StackConfig
from unposed.networks.mast3r.croco import EncoderBlock
from unposed.networks.mast3r.network import Mast3rNetwork

from .setting import Absent, Case, Figure, Finding, Setting
from .work import Work, blocks_work, decoder_work, encoder_work, group_work, heads_work

FULL_SIZE, SMALL_SIZE = (384, 512), (48, 64)
GROUP_SIZE, SMALL_GROUP_SIZE = (378, 504), (56, 84)
SMALL_DA3 = Da3Config(EncoderConfig(StackConfig(64, 8, 2), grid=5), (3, 5, 6, 7), DptConfig((8, 12, 16, 24), 16, 32), 2)


def cases(setting: Setting) -> Iterator[Case]:
    """The usual precision first, larger batches before smaller ones."""
    batches = (1, 2) if setting.small else (16, 4, 1, 64)
    models = ("da3-small", "da3-base", "da3-large") if setting.on_gpu else ("da3-base",)
    for precision in ("bfloat16", "float32"):
        for model in models:
            yield f"{model}, groups of eight, {precision}", partial(_groups, setting, precision, model)
    for precision in ("bfloat16", "float32") if setting.small else ("bfloat16", "float16", "tf32", "float32"):
        for batch in batches:
            yield f"MASt3R, encode {batch}, {precision}", partial(_encode, setting, precision, batch)
        for batch in batches[:3]:
            yield f"MASt3R, decode {batch} pairs, {precision}", partial(_decode, setting, precision, batch, True)
        yield (
            f"MASt3R, decoder blocks of {batches[1]} pairs, {precision}",
            partial(_part, setting, precision, batches[1], True),
        )
        yield f"MASt3R, heads of {batches[1]} pairs, {precision}", partial(_part, setting, precision, batches[1], False)
        if precision == "bfloat16":
            most = batches[0] if setting.on_gpu else 1
            yield f"DUSt3R, decode {most} pairs, bfloat16", partial(_decode, setting, precision, most, False)
            yield f"MASt3R, encode {most}, torch.compile", partial(_compiled, setting, precision, most)
    _network.cache_clear()


def _groups(setting: Setting, precision: str, model: str) -> Finding:
    """Groups of eight views, four at a time on a GPU; of their time by token, without rays."""
    if not knows(setting.device, precision):
        raise Absent(f"not run: this device has no {precision}")
    config, size, views, batch = PUBLISHED[model], GROUP_SIZE, 8, 4
    if setting.small:
        config, size, views, batch = SMALL_DA3, SMALL_GROUP_SIZE, 3, 1
    assert isinstance(config, Da3Config)
    network = group_network(config, setting.device, precision)
    images = torch.randn(batch, views, 3, *size, device=setting.device)
    return _measured(setting, lambda: network(images), group_work(config, size, views), batch, precision, "groups")


def group_network(config: Da3Config, device: torch.device, precision: str) -> Da3Network:
    """Depth Anything 3 with random parameters, small enough for all numbers to stay finite."""
    with torch.device(device):
        state = {
            name: value if name.endswith("bias") else 0.5 * value
            for name, value in build_many_view(config).state_dict().items()
        }
    with torch.device("meta"):
        network = build_many_view(config)
    assert isinstance(network, Da3Network)
    network.tf32 = precision == "tf32"
    return fill_network(network, state, Path("made-up parameters"), device, DTYPES[precision])


def full_config(setting: Setting) -> tuple[Mast3rConfig, tuple[int, int]]:
    """The architecture and the size of its images."""
    return (SMALL_NETWORK, SMALL_SIZE) if setting.small else (Mast3rConfig(), FULL_SIZE)


@lru_cache(maxsize=1)
def _network(config: Mast3rConfig, device: torch.device, precision: str) -> Mast3rNetwork:
    """Made on the device, where random numbers take no time; one at a time, 1.4 GB of parameters in 16 bits."""
    with torch.device(device):
        state = Mast3rNetwork(config).state_dict()
    network = build_network(state, {}, Path("made-up parameters"), device, DTYPES[precision])
    network.tf32 = precision == "tf32"
    return network


def network_of(setting: Setting, precision: str) -> Mast3rNetwork:
    """The network of the architecture in this precision; Absent if the device does not know it."""
    if not knows(setting.device, precision):
        raise Absent(f"not run: this device has no {precision}")
    return _network(full_config(setting)[0], setting.device, precision)


def _encode(setting: Setting, precision: str, batch: int) -> Finding:
    network, (config, size) = network_of(setting, precision), full_config(setting)
    images = torch.rand(batch, 3, *size, device=setting.device) * 2 - 1
    return _measured(setting, lambda: network.encode(images), encoder_work(config, size), batch, precision, "photos")


def _decode(setting: Setting, precision: str, pairs: int, descriptors: bool) -> Finding:
    network, (config, size) = network_of(setting, precision), full_config(setting)
    if not descriptors:
        config = replace(config, head="dpt", descriptor_width=0)
    tokens = _tokens(network, size, 2 * pairs)
    there = tokens.roll(pairs, dims=0)
    work = decoder_work(config, size, descriptors=descriptors)
    decode = partial(network.decode, tokens, there, size, size, descriptors=descriptors)
    return _measured(setting, decode, work, pairs, precision, "pairs")


def _part(setting: Setting, precision: str, pairs: int, blocks: bool) -> Finding:
    """The transformers of the decoders alone, or the heads on what these give."""
    network, (config, size) = network_of(setting, precision), full_config(setting)
    tokens = _tokens(network, size, 2 * pairs)
    decode = partial(network.decoder_outputs, tokens, tokens.roll(pairs, dims=0), size, size, config.levels_read)
    if blocks:
        return _measured(setting, decode, blocks_work(config, size), pairs, precision, "pairs")
    outputs, heads = decode(), (network.downstream_head1, network.downstream_head2)

    def run() -> None:
        for head, levels in zip(heads, outputs, strict=True):
            network._view(head, levels, size, True)

    return _measured(setting, run, heads_work(config, size), pairs, precision, "pairs")


def _tokens(network: Mast3rNetwork, size: tuple[int, int], count: int) -> Tensor:
    return torch.randn(count, size[0] * size[1] // 256, network.config.encoder.width, device=network.device)


def _compiled(setting: Setting, precision: str, batch: int) -> Finding:
    network = network_of(setting, precision)
    kinds = compile_blocks(network, (EncoderBlock,), "inductor" if setting.on_gpu else "aot_eager")
    try:
        found = _encode(setting, precision, batch)
    finally:
        _network.cache_clear()
    refuse_plain(kinds)
    return found


def refuse_plain(kinds: Mapping[object, CompiledKind]) -> None:
    """Absent where blocks ran as they are, since the compiler failed: figures would be taken for its."""
    if problem := next((kind.problem for kind in kinds.values() if kind.problem), ""):
        raise Absent(f"not run: torch.compile fails here ({problem[:120]})")


def _measured(
    setting: Setting, run: Callable[[], object], work: Work, batch: int, precision: str, what: str
) -> Finding:
    if setting.on_gpu:
        torch.cuda.reset_peak_memory_stats(setting.device)
    seconds = seconds_of(setting.device, run, rounds=1 if setting.small else 3)
    reached, whole = 1e-12 * batch * work.all_operations / seconds, work.times(batch)
    figures: dict[str, Figure] = {
        f"{what}/s": batch / seconds,
        "TFLOP/s": reached,
        "of ceiling": reached / setting.speed.tflops[precision],
    }
    if setting.on_gpu:
        figures["peak GiB"] = torch.cuda.max_memory_allocated(setting.device) / 2**30
    least = whole.seconds(setting.speed, precision)
    predicted = {
        f"{what}/s": batch / least,
        "of ceiling": 1e-12 * whole.all_operations / least / setting.speed.tflops[precision],
        f"TFLOP per {what[:-1]}": 1e-12 * work.all_operations,
        f"GB per {what[:-1]}": 1e-9 * work.bytes,
    }
    return Finding(figures, predicted)
