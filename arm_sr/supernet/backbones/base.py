"""What every backbone has in common: widths, sub-nets, and their cost."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ...errors import ArtefactError
from ..layers import USConv2d, USConvTranspose2d, leading


class Supernet(nn.Module):
    """A slimmable super-resolution network: one set of weights, several widths.

    A subclass keeps its constructor arguments in `config`, defines `forward(x, width)` on RGB tensors
    (N, 3, H, W) in 0..1 giving (N, 3, scale * H, scale * W), not clipped, and uses `USConv2d` and
    `USConvTranspose2d` for every layer with weights.
    """

    scale: int
    """Integer upscaling factor."""
    widths: tuple[int, ...]
    """Widths of the sub-nets, ascending; the last is the supernet's own."""
    config: dict[str, Any]
    """Arguments that build this network again."""
    receptive_radius: int
    """How many LR pixels away an input pixel can change an output pixel, the same for every width."""

    def forward(self, x: Tensor, width: int | None = None) -> Tensor:
        """Upscale `x` with the sub-net of `width` (default: the widest)."""
        raise TypeError(f"{type(self).__name__} does not define forward")

    def subnet(self, width: int) -> "Supernet":
        """The sub-net of `width` as a module of its own, with its own weights, equal to the bit."""
        if width not in self.widths:
            raise ValueError(f"no sub-net of width {width}; there are {', '.join(map(str, self.widths))}")
        net = type(self)(**{**self.config, "widths": (width,)})
        mine = self.state_dict()
        net.load_state_dict({name: leading(mine[name], own.shape) for name, own in net.state_dict().items()})
        return net.train(self.training)

    def params(self, width: int) -> int:
        """Number of weights of the sub-net of `width`."""
        return sum(p.numel() for p in self.subnet(width).parameters())

    def macs_per_lr_pixel(self, width: int) -> int:
        """Multiply-accumulates of the sub-net of `width` for each LR pixel, convolutions only, padding counted."""
        side = 8
        total = 0

        def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            nonlocal total
            weight = layer.weight
            assert isinstance(weight, Tensor)
            dense = inputs[0] if isinstance(layer, USConvTranspose2d) else output
            total += weight.numel() * dense.shape[2] * dense.shape[3]

        net = self.subnet(width)
        for layer in net.modules():
            if isinstance(layer, USConv2d | USConvTranspose2d):
                layer.register_forward_hook(count)
        with torch.no_grad():
            net(torch.zeros(1, 3, side, side))
        macs, rest = divmod(total, side * side)
        assert rest == 0, "a layer runs at a resolution that is no multiple of the LR picture's"
        return macs


BACKBONES: dict[str, type[Supernet]] = {}
"""Every registered backbone by name."""

Backbone = TypeVar("Backbone", bound=type[Supernet])


def register(name: str) -> Callable[[Backbone], Backbone]:
    """Class decorator that makes a backbone available under `name`."""

    def add(cls: Backbone) -> Backbone:
        BACKBONES[name] = cls
        return cls

    return add


def build(name: str, **config: Any) -> Supernet:
    """A new network of the backbone `name`, with random weights."""
    if name not in BACKBONES:
        raise ArtefactError(f"unknown backbone '{name}'; there are {', '.join(sorted(BACKBONES))}")
    try:
        return BACKBONES[name](**config)
    except TypeError as error:
        raise ArtefactError(f"backbone '{name}': {error}") from error
