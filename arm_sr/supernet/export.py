"""From trained weights to a checkpoint folder: supernet, the ONNX files of every sub-net, and the card."""

import io
import json
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from ..atomic import write_bytes
from ..errors import ArtefactError
from ..models import CARD, ModelCard, SubNet, checked_bytes, digest
from ..training.config import Recipe
from .backbones import Supernet, build

HALO = 3
"""LR pixels of context around a tile: next to nothing is lost, although the receptive radius is larger."""


class EightBit(nn.Module):
    """The interface of every branch: uint8 RGB pictures in, uint8 RGB pictures out.

    (N, H, W, 3) -> (N, scale * H, scale * W, 3). Normalisation, clipping and rounding (half to even)
    are inside, so that every engine gives the same picture.
    """

    def __init__(self, net: Supernet) -> None:
        super().__init__()
        self.net = net

    def forward(self, pictures: Tensor) -> Tensor:
        """See the class."""
        n, h, w, _ = pictures.shape
        scale = self.net.scale
        x = pictures.permute(0, 3, 1, 2).float() / 255
        if not self.net.has_planes:
            picture: Tensor = Quantise.apply(self.net(x).permute(0, 2, 3, 1))  # type: ignore[no-untyped-call]
            return picture
        blocks = self.net.sub_pixels(x).reshape(n, -1, h, w)
        # Rounded before they are arranged, and arranged by rows of 3 * scale bytes: a third of the time of a narrow
        # sub-net would go into shuffling float planes one value at a time.
        rows: Tensor = Quantise.apply(blocks.permute(0, 2, 3, 1))  # type: ignore[no-untyped-call]
        rows = rows.reshape(n, h, w, scale, 3 * scale).permute(0, 1, 3, 2, 4)
        return rows.reshape(n, h * scale, w * scale, 3)


class Quantise(torch.autograd.Function):
    """0..1 to 0..255, clipped and rounded; one operator in ONNX, where the parts would be passes of their own."""

    STEP = torch.tensor(1 / 255)

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """uint8 of the shape of `x`."""
        return (x / Quantise.STEP.to(x.device)).clamp(0, 255).round().to(torch.uint8)

    @staticmethod
    def symbolic(g: Any, x: Any) -> Any:
        """The same as ONNX has it."""
        step = g.op("Constant", value_t=Quantise.STEP)
        zero = g.op("Constant", value_t=torch.tensor(0, dtype=torch.uint8))
        return g.op("QuantizeLinear", x, step, zero)


class Planes(nn.Module):
    """The convolutions of a sub-net alone: `Supernet.planes`."""

    def __init__(self, net: Supernet) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return self.net.planes(x)


def onnx_bytes(subnet: Supernet) -> bytes:
    """The sub-net behind its `EightBit` interface as an ONNX model, free batch, height and width."""
    axes = {"lr": {0: "batch", 1: "height", 2: "width"}, "sr": {0: "batch", 1: "sr_height", 2: "sr_width"}}
    return _exported(EightBit(subnet), torch.zeros(1, 8, 8, 3, dtype=torch.uint8), ("lr", "sr"), axes)


def planes_bytes(subnet: Supernet) -> bytes:
    """Its `Planes` as an ONNX model."""
    axes = {"lr": {2: "height", 3: "width"}, "planes": {2: "height", 3: "width"}}
    return _exported(Planes(subnet), torch.zeros(1, 3, 8, 8), ("lr", "planes"), axes)


def _exported(net: nn.Module, example: Tensor, names: tuple[str, str], axes: dict[str, dict[int, str]]) -> bytes:
    """`net` with one input and one output, of these names and free axes."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # The newer exporter needs onnxscript and writes a larger graph for these few operators.
        warnings.simplefilter("ignore", DeprecationWarning)
        # The number of channels is constant, whatever the tracer thinks of a comparison with it.
        warnings.filterwarnings("ignore", "Converting a tensor to a Python boolean", module=r"arm_sr\.supernet\.layers")
        torch.onnx.export(
            net.eval(),
            (example,),
            buffer,  # type: ignore[arg-type]  # the stubs know paths only
            input_names=names[:1],
            output_names=names[1:],
            dynamic_axes=axes,
            opset_version=17,
            dynamo=False,
        )
    return buffer.getvalue()


def load_supernet(card: ModelCard) -> Supernet:
    """The network of a model directory, with its weights.

    Raises ArtefactError when the directory has none, because the model was adopted, or others than the card says.
    """
    place = card.folder / CARD
    if not card.supernet:
        raise ArtefactError(f"{place}: the model was adopted, so there are no weights of a supernet")
    try:
        weights = load(checked_bytes(card.folder / card.supernet["file"], card.supernet["sha256"]))
    except (KeyError, SafetensorError) as error:
        raise ArtefactError(f"{place}: the weights that it names cannot be read ({error})") from error
    net = build(card.backbone, card.scale, {name: (net.width, net.depth) for name, net in card.subnets.items()})
    try:
        net.load_state_dict(weights)
    except RuntimeError as error:
        raise ArtefactError(f"{card.folder / card.supernet['file']}: not the weights of this supernet") from error
    return net.eval()


def write_checkpoint(net: Supernet, recipe: Recipe, sources: list[dict[str, Any]], out: Path) -> ModelCard:
    """As `write_model`, of what was trained here, with `recipe.json` in `out`."""
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    write_bytes(out / "recipe.json", recipe.to_json().encode())
    training = {"recipe": json.loads(recipe.to_json()), "data": sources}
    return write_model(net, recipe.name, recipe.backbone, training, out)


def write_model(net: Supernet, name: str, backbone: str, training: dict[str, Any], out: Path) -> ModelCard:
    """Write `supernet.safetensors`, `w16.onnx`, `w16.planes.onnx` ... and, last, the card into `out`."""
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    weights = save({name: tensor.contiguous() for name, tensor in net.state_dict().items()})
    write_bytes(out / "supernet.safetensors", weights)
    subnets = {}
    for key, (width, depth) in net.subnets.items():
        subnet = net.subnet(key)
        file, model = f"{key}.onnx", onnx_bytes(subnet)
        write_bytes(out / file, model)
        planes = planes_sha256 = ""
        if net.has_planes:
            planes, convolutions = f"{key}.planes.onnx", planes_bytes(subnet)
            planes_sha256 = digest(convolutions)
            write_bytes(out / planes, convolutions)
        subnets[key] = SubNet(
            width=width,
            depth=depth,
            params=net.params(key),
            **net.complexity(key)._asdict(),
            receptive_radius=subnet.receptive_radius,
            file=file,
            sha256=digest(model),
            planes=planes,
            planes_sha256=planes_sha256,
        )
    card = ModelCard(
        name=name,
        scale=net.scale,
        backbone=backbone,
        halo=min(HALO, net.receptive_radius),
        subnets=subnets,
        supernet={"file": "supernet.safetensors", "sha256": digest(weights)},
        training=training,
        folder=out,
    )
    write_bytes(out / CARD, card.to_json().encode())
    return card
