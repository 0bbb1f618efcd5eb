"""Published layouts are read strictly, the network by the shapes of its parameters, and anything else in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from many_view_networks import hashed_network, published_shapes
from safetensors.torch import save_file

from unposed.networks.errors import WeightsError
from unposed.networks.loading import parameter_mismatch
from unposed.networks.manyview.checkpoint import build_many_view, load_many_view, read_names
from unposed.networks.manyview.config import PUBLISHED, published_config
from unposed.networks.manyview.da3 import Da3DepthNetwork, Da3Network
from unposed.networks.mast3r.config import UnknownArchitecture

LAYOUTS = {
    "da3_small": "da3-small",
    "da3_base": "da3-base",
    "da3_large": "da3-large",
    "da3_giant": "da3-giant",
    "da3metric_large": "da3-metric",
    "da3mono_large": "da3-metric",
    "vggt_1b": "vggt",
    "pi3": "pi3",
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_published_layout_has_the_names_and_shapes_of_its_network(layout: str) -> None:
    state = read_names({name: torch.empty(shape, device="meta") for name, shape in published_shapes(layout).items()})
    name, config = published_config({key: tuple(value.shape) for key, value in state.items()})
    assert name == LAYOUTS[layout]
    with torch.device("meta"):
        network = build_many_view(config)
    assert parameter_mismatch(network, state) == ""


def test_pi3x_is_named_and_refused() -> None:
    with pytest.raises(UnknownArchitecture, match=r"Pi3X.*use the weights of Pi3"):
        published_config(published_shapes("pi3x"))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file in the layout of DA3-Small, with parameters of no use for what is read as well."""
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    network = hashed_network("da3-small", torch.float32)
    state = {f"model.{name}": value.contiguous() for name, value in network.state_dict().items()}
    state["model.head.scratch.output_conv1_aux.0.0.weight"] = torch.zeros(32, 64, 3, 3)
    save_file(state, path)
    return path


def test_a_file_becomes_the_network_that_its_shapes_say(small: Path) -> None:
    network = load_many_view(small)
    assert isinstance(network, Da3Network)
    assert network.config == PUBLISHED["da3-small"]
    assert not network.training


def test_a_file_with_the_name_of_another_network_is_refused_in_one_line(small: Path, tmp_path: Path) -> None:
    """Its name is what it is found by: da3-base may be used for any purpose, and other sizes may not."""
    named = tmp_path / "da3-base.safetensors"
    named.symlink_to(small)
    with pytest.raises(WeightsError, match=r"da3-base.safetensors has the shapes of da3-small: name the file so, or"):
        load_many_view(named)
    named.rename(tmp_path / "da3-small.safetensors")
    assert isinstance(load_many_view(tmp_path / "da3-small.safetensors"), Da3Network)


def test_what_a_file_lacks_is_said_in_one_line(small: Path, tmp_path: Path) -> None:
    state = hashed_network("da3_tinyM", torch.float32).state_dict()
    torch.save(state, tmp_path / "tiny.pt")
    with pytest.raises(WeightsError, match="32 channels in 6 layers") as raised:
        load_many_view(tmp_path / "tiny.pt")
    assert "\n" not in str(raised.value)
    torch.save({"a": torch.zeros(2)}, tmp_path / "other.pt")
    with pytest.raises(WeightsError, match="no image encoder of Depth Anything 3, VGGT or Pi3"):
        load_many_view(tmp_path / "other.pt")
    (tmp_path / "broken.safetensors").write_bytes(small.read_bytes()[:1000])
    with pytest.raises(WeightsError, match="may be incomplete"):
        load_many_view(tmp_path / "broken.safetensors")


def test_half_precision_keeps_norms_and_heads_in_float32(small: Path) -> None:
    network, whole = load_many_view(small, dtype=torch.bfloat16), load_many_view(small)
    assert isinstance(network, Da3Network) and isinstance(whole, Da3Network)
    assert network.backbone.pretrained.blocks[0].attn.qkv.weight.dtype == torch.bfloat16
    assert network.cam_dec.fc_t.weight.dtype == torch.float32
    images = torch.rand(1, 2, 3, 28, 28)
    rough, exact = network(images), whole(images)
    assert rough.depth.dtype == torch.float32
    assert (rough.depth / exact.depth).log().abs().median() < 0.05


def test_networks_of_single_views_are_networks_of_their_own() -> None:
    with torch.device("meta"):
        assert isinstance(build_many_view(PUBLISHED["da3-metric"]), Da3DepthNetwork)
    with pytest.raises(ValueError, match="one view at a time"):
        Da3Network(PUBLISHED["da3-metric"])  # type: ignore[arg-type]
