"""Architecture of a network of the DUSt3R and MASt3R family, inferred from its checkpoint.

Published files hold the constructor call of their network as text, which is parsed and never evaluated.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

PATCH_PX = 16
"""Side of the square image patch that becomes one token."""

Head = Literal["none", "linear", "dpt", "catmlp+dpt"]


class UnknownArchitecture(ValueError):
    """The architecture of a file is not of the family; the message says how it differs."""


@dataclass(frozen=True)
class StackConfig:
    """Size of a stack of transformer blocks."""

    width: int
    depth: int
    heads: int

    def __post_init__(self) -> None:
        if self.width % self.heads or (self.width // self.heads) % 4:
            raise UnknownArchitecture(f"{self.width} channels in {self.heads} heads: a head needs a multiple of four")


@dataclass(frozen=True)
class DptConfig:
    """Channels of the DPT head."""

    levels: tuple[int, int, int, int] = (96, 192, 384, 768)
    """Of the four levels that it fuses, finest first."""
    fused: int = 256
    last: int = 128


@dataclass(frozen=True)
class Mast3rConfig:
    """Architecture of a network; the defaults are those of the published MASt3R."""

    encoder: StackConfig = StackConfig(1024, 24, 16)
    decoder: StackConfig = StackConfig(768, 12, 12)
    mlp_ratio: int = 4
    rope_base: float = 100.0
    head: Head = "catmlp+dpt"
    """none: CroCo, tokens only; linear and dpt: DUSt3R; catmlp+dpt: MASt3R."""
    dpt: DptConfig = DptConfig()
    descriptor_width: int = 24
    """Channels of the local descriptors; 0 for networks without."""
    image_px: int = 512
    """Longer side of the training images; images of 224 pixels are square."""
    confidence_range: tuple[float, float] = (1.0, math.inf)
    descriptor_confidence_range: tuple[float, float] = (0.0, math.inf)

    @property
    def levels_read(self) -> tuple[int, int, int, int]:
        """Decoder outputs that the DPT head reads: 0 is the encoder's, l that of decoder block l."""
        depth = self.decoder.depth
        return 0, depth // 2, depth * 3 // 4, depth


def parse_constructor(text: str) -> tuple[str, dict[str, Any]]:
    """Parse a constructor call with literal arguments, `inf` included, into its name and keyword arguments."""
    try:
        call = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise UnknownArchitecture(f"not a constructor call: {text[:80]!r}") from error
    if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and not call.args):
        raise UnknownArchitecture(f"not a constructor call with named arguments: {text[:80]!r}")
    named = {keyword.arg: _literal(keyword.value) for keyword in call.keywords if keyword.arg is not None}
    if len(named) != len(call.keywords):
        raise UnknownArchitecture(f"arguments given twice or by **: {text[:80]!r}")
    return call.func.id, named


def _literal(node: ast.expr) -> Any:
    if isinstance(node, ast.Name) and node.id == "inf":
        return math.inf
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        value = _literal(node.operand)
        if isinstance(value, int | float):
            return -value
    if isinstance(node, ast.Tuple | ast.List):
        return tuple(map(_literal, node.elts))
    raise UnknownArchitecture(f"an argument that is no literal: {ast.unparse(node)[:80]!r}")


Shapes = Mapping[str, tuple[int, ...]]


def infer_config(shapes: Shapes, arguments: Mapping[str, Any]) -> Mast3rConfig:
    """Infer the architecture from the shapes of the parameters, and from the constructor's arguments what shapes do not
    determine.

    Arguments that only matter for training are ignored.
    """
    _refuse_others(arguments)
    encoder = _stack(shapes, "enc_blocks", "enc_norm.weight", arguments.get("enc_num_heads"))
    decoder = _stack(shapes, "dec_blocks", "dec_norm.weight", arguments.get("dec_num_heads"))
    head = _head_of(shapes)
    confidence = _range(arguments, "conf_mode", (1.0, math.inf))
    size = arguments.get("img_size", 512)
    return Mast3rConfig(
        encoder=encoder,
        decoder=decoder,
        mlp_ratio=_dimension(shapes, "enc_blocks.0.mlp.fc1.weight", 0) // encoder.width,
        rope_base=float(re.sub(r"^RoPE", "", str(arguments.get("pos_embed", "RoPE100")))),
        head=head,
        dpt=_dpt(shapes) if head in ("dpt", "catmlp+dpt") else DptConfig(),
        descriptor_width=_descriptor_width(shapes) if head == "catmlp+dpt" else 0,
        image_px=max(size) if isinstance(size, tuple | list) else int(size),
        confidence_range=confidence,
        # Networks without this argument have one range for both.
        descriptor_confidence_range=_range(arguments, "desc_conf_mode", confidence if arguments else (0.0, math.inf)),
    )


def _refuse_others(arguments: Mapping[str, Any]) -> None:
    """Raise UnknownArchitecture for settings that would load, but give wrong results if ignored."""
    position = str(arguments.get("pos_embed", "RoPE100"))
    if not re.fullmatch(r"RoPE\d+(\.\d+)?", position):
        raise UnknownArchitecture(f"positions of the kind {position!r}, where RoPE is meant")
    depth = tuple(arguments.get("depth_mode", ("exp", -math.inf, math.inf)))
    if tuple(map(str, depth)) != ("exp", "-inf", "inf"):
        raise UnknownArchitecture(f"points of the kind {depth}, where ('exp', -inf, inf) is meant")


def _range(arguments: Mapping[str, Any], name: str, default: tuple[float, float]) -> tuple[float, float]:
    mode = arguments.get(name)
    if mode is None:
        return default
    kind, low, high = mode
    if kind != "exp":
        raise UnknownArchitecture(f"{name} of the kind {kind!r}, where 'exp' is meant")
    return float(low), float(high)


def _dimension(shapes: Shapes, name: str, axis: int) -> int:
    if len(shapes.get(name, ())) <= axis:
        raise UnknownArchitecture(f"it lacks {name}")
    return shapes[name][axis]


def _stack(shapes: Shapes, blocks: str, norm: str, heads: int | None) -> StackConfig:
    width = _dimension(shapes, norm, 0)
    numbers = {int(found[1]) for name in shapes if (found := re.match(rf"{blocks}\.(\d+)\.", name))}
    return StackConfig(width, max(numbers, default=-1) + 1, heads or max(1, width // 64))


def _head_of(shapes: Shapes) -> Head:
    if any(name.startswith("downstream_head1.head_local_features.") for name in shapes):
        return "catmlp+dpt"
    if any(name.startswith("downstream_head1.dpt.") for name in shapes):
        return "dpt"
    return "linear" if any(name.startswith("downstream_head1.") for name in shapes) else "none"


def _dpt(shapes: Shapes) -> DptConfig:
    head = "downstream_head1.dpt"
    levels = [_dimension(shapes, f"{head}.act_postprocess.{k}.0.weight", 0) for k in range(4)]
    return DptConfig(
        levels=(levels[0], levels[1], levels[2], levels[3]),
        fused=_dimension(shapes, f"{head}.scratch.layer1_rn.weight", 0),
        last=_dimension(shapes, f"{head}.head.2.weight", 0),
    )


def _descriptor_width(shapes: Shapes) -> int:
    return _dimension(shapes, "downstream_head1.head_local_features.fc2.weight", 0) // PATCH_PX**2 - 1
