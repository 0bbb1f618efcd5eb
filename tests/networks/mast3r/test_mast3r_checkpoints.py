"""Weight files: all published layouts, and what is told of files that are no such thing."""

from __future__ import annotations

import argparse
import json
import math
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from unposed.networks.errors import DeviceError, WeightsError
from unposed.networks.mast3r.checkpoint import build_network, load_network, read_checkpoint, read_torch
from unposed.networks.mast3r.config import (
    DptConfig,
    Mast3rConfig,
    StackConfig,
    UnknownArchitecture,
    infer_config,
    parse_constructor,
)
from unposed.networks.mast3r.network import Mast3rNetwork

SMALL = Mast3rConfig(
    encoder=StackConfig(16, 2, 2),
    decoder=StackConfig(8, 4, 2),
    dpt=DptConfig(levels=(4, 4, 8, 8), fused=8, last=4),
    descriptor_width=3,
)
ARGUMENTS = (
    "AsymmetricMASt3R(pos_embed='RoPE100', patch_embed_cls='ManyAR_PatchEmbed', img_size=(512, 512),"
    " landscape_only=True, head_type='catmlp+dpt', depth_mode=('exp', -inf, inf), conf_mode=('exp', 1, inf),"
    " enc_num_heads=2, dec_num_heads=2, two_confs=True, desc_conf_mode=('exp', 0, inf))"
)


def made_up(config: Mast3rConfig = SMALL, seed: int = 0) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return Mast3rNetwork(config).state_dict()


def seen(network: Mast3rNetwork) -> Tensor:
    images = torch.linspace(-1, 1, 2 * 3 * 32 * 48).reshape(2, 3, 32, 48)
    tokens = network.encode(images)
    if network.config.head == "none":
        return tokens
    return network.decode(tokens[:1], tokens[1:], (32, 48), (32, 48))[1].pts3d


@pytest.fixture
def wanted() -> Tensor:
    arguments = {"enc_num_heads": 2, "dec_num_heads": 2}
    return seen(build_network(made_up(), arguments, Path("made up"), torch.device("cpu"), torch.float32))


def save(path: Path, state: dict[str, Tensor], **more: Any) -> Path:
    torch.save({"args": argparse.Namespace(model=ARGUMENTS, lr=1e-4, output_dir=path), "model": state, **more}, path)
    return path


def test_the_published_layout(tmp_path: Path, wanted: Tensor) -> None:
    network = load_network(save(tmp_path / "net.pth", made_up(), epoch=3))
    assert network.config == SMALL
    torch.testing.assert_close(seen(network), wanted, rtol=0, atol=0)


def test_several_threads_may_read_at_once(tmp_path: Path) -> None:
    torch.save({"args": argparse.Namespace(model="x"), "model": {"w": torch.ones(2)}}, tmp_path / "a.pth")
    with ThreadPoolExecutor(4) as pool:
        read = list(pool.map(lambda _: read_torch(tmp_path / "a.pth"), range(200)))
    assert all(content["args"].model == "x" for content in read)


def test_safetensors_with_its_settings(tmp_path: Path, wanted: Tensor) -> None:
    """Such files hold every tensor once: of two names of one tensor, one is left out."""
    state = {name: value for name, value in made_up().items() if ".layer_rn." not in name}
    save_file(state, tmp_path / "model.safetensors")
    settings = {"enc_num_heads": 2, "dec_num_heads": 2, "conf_mode": ["exp", 1, "inf"], "pos_embed": "RoPE100"}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    torch.testing.assert_close(seen(load_network(tmp_path / "model.safetensors")), wanted, rtol=0, atol=0)


def test_the_other_name_of_a_level_will_do(tmp_path: Path, wanted: Tensor) -> None:
    state = {name: value for name, value in made_up().items() if "_rn.weight" not in name}
    torch.testing.assert_close(seen(load_network(save(tmp_path / "net.pth", state))), wanted, rtol=0, atol=0)


def test_one_decoder_stands_for_two_until_they_are_trained_apart(tmp_path: Path) -> None:
    state = {name: value for name, value in made_up().items() if not name.startswith("dec_blocks2")}
    network = load_network(save(tmp_path / "net.pth", state))
    assert torch.equal(network.state_dict()["dec_blocks2.1.mlp.fc1.weight"], state["dec_blocks.1.mlp.fc1.weight"])


def test_linear_heads(tmp_path: Path) -> None:
    """The head is one matrix per token: channel, row and column of the pixel, in this order."""
    config = Mast3rConfig(SMALL.encoder, SMALL.decoder, head="linear", dpt=DptConfig(), descriptor_width=0)
    state = made_up(config)
    head = "downstream_head2.proj."
    state[head + "weight"] = torch.zeros_like(state[head + "weight"])
    raw = torch.zeros(4, 16, 16)
    raw[2], raw[3, 5, 7] = math.log(3), math.log(4)
    state[head + "bias"] = raw.flatten()
    network = load_network(save(tmp_path / "net.pth", state))
    assert network.config == config
    tokens = network.encode(torch.zeros(1, 3, 32, 48))
    view = network.decode(tokens, tokens, (32, 48), (32, 48))[1]
    torch.testing.assert_close(view.pts3d, torch.tensor([0.0, 0.0, 2.0]).expand(1, 32, 48, 3))
    assert view.conf[0, 21, 39] == pytest.approx(5) and view.conf[0, 21, 38] == pytest.approx(2)


def test_a_fine_tune_on_moving_scenes_loads_as_what_it_was_made_of(tmp_path: Path) -> None:
    """MonST3R is DUSt3R, trained further: its file has another name, other values and the state of its training."""
    config = Mast3rConfig(SMALL.encoder, SMALL.decoder, head="dpt", dpt=SMALL.dpt, descriptor_width=0)
    arguments = (
        "AsymmetricCroCo3DStereo(pos_embed='RoPE100', patch_embed_cls='ManyAR_PatchEmbed', img_size=(512, 512), "
        "head_type='dpt', output_mode='pts3d', depth_mode=('exp', -inf, inf), conf_mode=('exp', 1, inf), "
        "enc_num_heads=2, dec_num_heads=2, freeze='encoder')"
    )
    before, after = made_up(config), made_up(config, seed=1)
    tuned = {name: before[name] if name.startswith(("enc", "patch_embed")) else value for name, value in after.items()}
    training = {
        "optimizer": {"state": {}, "param_groups": [{"lr": 5e-5}]},
        "scaler": {},
        "epoch": 49,
        "best_so_far": 0.1,
    }
    networks = []
    for name, state in (("dust3r.pth", before), ("monst3r.pth", tuned)):
        torch.save({"args": argparse.Namespace(model=arguments), "model": state, **training}, tmp_path / name)
        networks.append(load_network(tmp_path / name))
    assert networks[0].config == networks[1].config and networks[0].config.head == "dpt"
    images = torch.linspace(-1, 1, 3 * 32 * 48).reshape(1, 3, 32, 48)
    tokens = [network.encode(images) for network in networks]
    torch.testing.assert_close(*tokens)
    views = [network.decode(tokens[0], tokens[0], (32, 48), (32, 48))[1] for network in networks]
    assert all(torch.isfinite(view.pts3d).all() for view in views)
    assert not torch.allclose(views[0].pts3d, views[1].pts3d)


def test_croco_gives_tokens_only(tmp_path: Path) -> None:
    state = made_up()
    kept = {name: value for name, value in state.items() if not name.startswith(("downstream_head", "dec_blocks2"))}
    kept |= {"prediction_head.weight": torch.zeros(768, 8), "prediction_head.bias": torch.zeros(768)}
    settings = {"enc_num_heads": 2, "dec_num_heads": 2, "pos_embed": "RoPE100"}
    torch.save({"croco_kwargs": settings, "model": kept}, tmp_path / "croco.pth")
    network = load_network(tmp_path / "croco.pth")
    whole = load_network(save(tmp_path / "net.pth", state))
    tokens = network.encode(torch.ones(1, 3, 16, 16))
    assert torch.equal(tokens, whole.encode(torch.ones(1, 3, 16, 16)))
    with pytest.raises(ValueError, match="tokens only"):
        network.decode(tokens, tokens, (16, 16), (16, 16))


def test_wrong_sizes_are_refused() -> None:
    network = Mast3rNetwork(SMALL)
    with pytest.raises(ValueError, match="50 x 32 px: both sides must be multiples of 16"):
        network.encode(torch.zeros(1, 3, 32, 50))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("enc_norm.weight"), r"it lacks enc_norm\.weight"),
        (lambda s: s.pop("dec_blocks.2.mlp.fc1.bias"), r"it lacks dec_blocks\.2\.mlp\.fc1\.bias"),
        (lambda s: s.update({"extra.weight": torch.ones(2)}), r"it has extra\.weight"),
        (lambda s: s.update({"dec_norm.bias": torch.ones(2)}), r"dec_norm\.bias is \[2\] and not \[8\]"),
        (lambda s: [s.pop(name) for name in list(s) if "enc_blocks" in name], r"it lacks enc_blocks\.0"),
    ],
)
def test_what_does_not_fit_is_named(
    tmp_path: Path, change: Callable[[dict[str, Tensor]], object], message: str
) -> None:
    state = made_up()
    change(state)
    with pytest.raises(WeightsError, match=message) as caught:
        load_network(save(tmp_path / "net.pth", state))
    assert "\n" not in str(caught.value) and "net.pth" in str(caught.value)


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    torch.save({"conv1.weight": torch.ones(3, 3), "fc.bias": torch.ones(3)}, tmp_path / "net.pth")
    with pytest.raises(WeightsError, match=r"no network of the DUSt3R and MASt3R family: it lacks enc_norm\.weight"):
        load_network(tmp_path / "net.pth")


def test_files_cut_off_or_of_another_kind(tmp_path: Path) -> None:
    whole = save(tmp_path / "net.pth", made_up()).read_bytes()
    (tmp_path / "cut.pth").write_bytes(whole[: len(whole) // 2])
    save_file({"a": torch.ones(3)}, tmp_path / "whole.safetensors")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "whole.safetensors").read_bytes()[:-5])
    (tmp_path / "page.pth").write_text("<html>not found</html>")
    torch.save([1, 2, 3], tmp_path / "list.pth")
    for name in ("cut.pth", "cut.safetensors", "page.pth", "list.pth", "absent.pth"):
        with pytest.raises(WeightsError, match=name) as caught:
            load_network(tmp_path / name)
        assert "\n" not in str(caught.value)


class Trap:
    """A pickle that would leave a file behind if it were trusted."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("where", ["model", "args", "optimizer"])
def test_nothing_in_a_file_is_run(tmp_path: Path, where: str) -> None:
    mark = tmp_path / "it was run"
    content: dict[str, Any] = {"args": argparse.Namespace(model=ARGUMENTS), "model": made_up()}
    content[where] = Trap(mark)
    torch.save(content, tmp_path / "trap.pth")
    with pytest.raises(WeightsError, match="it asks for code to be run"):
        load_network(tmp_path / "trap.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(content))
    with pytest.raises(WeightsError, match=r"plain\.pth"):
        load_network(tmp_path / "plain.pth")
    assert not mark.exists()
    torch.load(tmp_path / "trap.pth", weights_only=False)
    assert mark.exists(), "the trap is none"


@pytest.mark.parametrize(
    "text",
    [
        "AsymmetricMASt3R(enc_num_heads=__import__('os').getpid())",
        "AsymmetricMASt3R(**{'a': 1})",
        "AsymmetricMASt3R(16, 2)",
        "(lambda: 1)()",
        "os.system('true')",
        "AsymmetricMASt3R(enc_depth=[x for x in (1,)])",
        "AsymmetricMASt3R(",
        "a" * 100 + "(" * 2000,
    ],
)
def test_only_literals_are_read_from_the_constructor_call(tmp_path: Path, text: str) -> None:
    with pytest.raises(UnknownArchitecture, match=r"call|literal|arguments"):
        parse_constructor(text)
    torch.save({"args": argparse.Namespace(model=text), "model": made_up()}, tmp_path / "net.pth")
    with pytest.raises(WeightsError, match=r"net\.pth"):
        read_checkpoint(tmp_path / "net.pth")


def test_constructor_calls_as_published() -> None:
    name, arguments = parse_constructor(ARGUMENTS)
    assert name == "AsymmetricMASt3R" and arguments["depth_mode"] == ("exp", -math.inf, math.inf)
    assert arguments["landscape_only"] is True and arguments["img_size"] == (512, 512)


@pytest.mark.parametrize(
    "argument",
    [{"pos_embed": "cosine"}, {"depth_mode": ("linear", -math.inf, math.inf)}, {"conf_mode": ("sigmoid", 0, 1)}],
)
def test_what_would_give_nonsense_is_refused(argument: dict[str, Any]) -> None:
    shapes = {name: tuple(value.shape) for name, value in made_up().items()}
    with pytest.raises(UnknownArchitecture, match=r"of the kind .* is meant"):
        infer_config(shapes, argument)


def test_confidence_of_descriptors_is_as_that_of_points_where_nothing_is_said() -> None:
    shapes = {name: tuple(value.shape) for name, value in made_up().items()}
    config = infer_config(shapes, {"conf_mode": ("exp", 1, 9), "enc_num_heads": 2, "dec_num_heads": 2})
    assert config.confidence_range == config.descriptor_confidence_range == (1, 9)


def test_confidence_is_clipped_where_it_has_an_upper_bound(tmp_path: Path) -> None:
    state = made_up()
    state["downstream_head1.dpt.head.4.bias"] = torch.tensor([0.0, 0, 0, 50])
    text = ARGUMENTS.replace(" conf_mode=('exp', 1, inf)", " conf_mode=('exp', 1, 9)")
    torch.save({"args": argparse.Namespace(model=text), "model": state}, tmp_path / "net.pth")
    network = load_network(tmp_path / "net.pth")
    tokens = network.encode(torch.zeros(1, 3, 32, 32))
    assert bool((network.decode(tokens, tokens, (32, 32), (32, 32))[0].conf == 9).all())


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_device_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="no CUDA device that PyTorch can use"):
        load_network(save(tmp_path / "net.pth", made_up()), device="cuda")


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux tells what is mapped")
def test_parameters_are_mapped_and_not_read(tmp_path: Path) -> None:
    """So that parts of a network that nobody uses take no memory."""
    network = load_network(save(tmp_path / "net.pth", made_up()))
    lines = [line.split() for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith("net.pth")]
    spans = [[int(end, 16) for end in line[0].split("-")] for line in lines]
    assert all(any(low <= each.data_ptr() < high for low, high in spans) for each in network.parameters())
