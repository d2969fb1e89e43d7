"""What every backbone has in common: its sub-nets and their cost."""

import logging
from collections.abc import Callable, Mapping
from typing import ClassVar, NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import ArtefactError
from ..layers import USConv2d, USConvTranspose2d, leading

log = logging.getLogger(__name__)


class Shape(NamedTuple):
    """What makes a sub-net: how much of the supernet it uses."""

    width: int
    """Leading channels of every layer."""
    depth: int
    """Leading body layers."""


class Complexity(NamedTuple):
    """What the convolutions of a sub-net cost."""

    macs_per_lr_pixel: int
    """Multiply-accumulates for each LR pixel, padding counted."""
    activations_per_lr_pixel: int
    """Values that they put out for each LR pixel."""
    convs: int
    """How many there are."""


class Supernet(nn.Module):
    """A slimmable super-resolution network: one set of weights, several sub-nets.

    A subclass is built from `scale` and `subnets`, hands both to this constructor, sets `receptive_radius`, and defines
    `planes`, or `forward` where some of it is computed at the size of the SR picture. Layers are those of
    `arm_sr.supernet.layers`; those that a sub-net may leave out are in the list `body`, those that depend on the scale
    in `tail`.
    """

    receptive_radius: int
    """How many LR pixels away an input pixel can change an output pixel of the deepest sub-net."""
    has_planes: ClassVar[bool] = True
    """Whether everything is computed at the size of the LR picture, so that there are `planes`."""
    least_depth: ClassVar[int] = 0
    """Of a sub-net."""
    divisor: ClassVar[int] = 1
    """By which every width can be divided."""

    def __init__(self, scale: int, subnets: Mapping[str, tuple[int, int]]) -> None:
        super().__init__()
        for name, (width, depth) in subnets.items():
            if width % self.divisor or depth < self.least_depth:
                raise ArtefactError(
                    f"sub-net '{name}': the width must be a multiple of {self.divisor} and the depth at least "
                    f"{self.least_depth} in this backbone, not {width} and {depth}"
                )
        self.scale = scale
        """Integer upscaling factor."""
        self.subnets = {name: Shape(*shape) for name, shape in subnets.items()}
        """Shape of every sub-net, by name."""
        self.width = max(shape.width for shape in self.subnets.values())
        """Channels of the supernet."""
        self.depth = max(shape.depth for shape in self.subnets.values())
        """Body layers of the supernet."""

    def forward(self, x: Tensor, width: int | None = None, depth: int | None = None) -> Tensor:
        """Upscale RGB in 0..1, (N, 3, H, W), with the leading `width` channels and `depth` body layers (default: all):
        (N, 3, scale * H, scale * W), not clipped."""
        return F.pixel_shuffle(self.sub_pixels(x, width, depth).transpose(1, 2).flatten(1, 2), self.scale)

    def sub_pixels(self, x: Tensor, width: int | None = None, depth: int | None = None) -> Tensor:
        """As `forward`, the scale * scale pixels in the place of an LR pixel not yet arranged:
        (N, scale * scale, 3, H, W), row by row."""
        n, _, h, w = x.shape
        return self.planes(x, width, depth).reshape(n, -1, 3, h, w)

    def planes(self, x: Tensor, width: int | None = None, depth: int | None = None) -> Tensor:
        """As `sub_pixels`, (N, scale * scale * 3, H, W), without a step that depends on the size: some engines cannot
        read those."""
        raise TypeError(f"{type(self).__name__} has no planes")

    def grow(self, depth: int) -> None:
        """Make the body layers after the first `depth` the identity, so that a shallow net that was trained grows
        without a change of its output (Chen et al., "Net2Net", ICLR 2016). ArtefactError where layers of this kind
        cannot be the identity."""
        if depth < self.depth:
            raise ArtefactError(f"a {type(self).__name__} cannot become deeper: no layer of its body is the identity")

    def start_from(self, weights: Mapping[str, Tensor]) -> None:
        """Take over the weights of a net of the same width that may be less deep or of another scale; further body
        layers are the identity, and the tail keeps its own weights where those given have the shapes for another
        scale (FSRCNN's has the same for all). ArtefactError names the first weight that does not fit."""
        mine = self.state_dict()
        given = {name.split(".")[1] for name in weights if name.startswith("body.")}
        tail = {name: weight.shape for name, weight in weights.items() if name.startswith("tail.")}
        anew = self._tail(self.scale).keys() | tail.keys() if self._is_of_another_scale(tail) else set()
        for name in (*weights, *mine):
            layer = name.split(".")[1] if name.startswith("body.") else "0"
            if name in anew:
                continue
            if name not in weights and (not given or int(layer) < len(given)):
                raise ArtefactError(f"weight '{name}' is missing")
            if name in weights and (name not in mine or mine[name].shape != weights[name].shape):
                has = tuple(mine[name].shape) if name in mine else "nothing"
                raise ArtefactError(f"weight '{name}' is {tuple(weights[name].shape)}, where this network has {has}")
        if anew:
            log.info("the tail begins anew: the weights to start from are of another scale")
        self.grow(len(given))
        self.load_state_dict({**self.state_dict(), **{name: weights[name] for name in weights.keys() - anew}})

    def _tail(self, scale: int) -> dict[str, torch.Size]:
        """Shapes of the weights of the tail for that scale."""
        with torch.device("meta"):
            weights = type(self)(scale, self.subnets).state_dict()
        return {name: weight.shape for name, weight in weights.items() if name.startswith("tail.")}

    def _is_of_another_scale(self, tail: dict[str, torch.Size]) -> bool:
        """Whether a tail has the shapes for another scale and not those for this one."""
        return tail != self._tail(self.scale) and any(tail == self._tail(scale) for scale in range(2, 9))

    def revive(self, x: Tensor, least: float) -> None:
        """Give new random weights to channels that are above zero on less than the share `least` of the pixels of `x`
        (N, 3, H, W) in every sub-net, active on about half of them at full width; what follows ignores them at
        first, so that the output hardly changes (ReDo: Sokar et al., "The dormant neuron phenomenon in deep
        reinforcement learning", ICML 2023). ArtefactError where that is not defined."""
        raise ArtefactError(f"revive: not defined for a {type(self).__name__}")

    def subnet(self, name: str) -> "Supernet":
        """The sub-net `name` as a module of its own, with its own weights, equal to the bit."""
        if name not in self.subnets:
            raise ValueError(f"no sub-net '{name}'; there are {', '.join(self.subnets)}")
        net = type(self)(self.scale, {name: self.subnets[name]})
        mine = self.state_dict()
        net.load_state_dict({key: leading(mine[key], own.shape) for key, own in net.state_dict().items()})
        return net.train(self.training)

    def params(self, name: str) -> int:
        """Number of weights of the sub-net `name`."""
        return sum(p.numel() for p in self.subnet(name).parameters())

    def complexity(self, name: str) -> Complexity:
        """What the convolutions of the sub-net `name` cost."""
        side = 8
        macs = activations = convs = 0

        def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            nonlocal macs, activations, convs
            weight = layer.weight
            assert isinstance(weight, Tensor)
            dense = inputs[0] if isinstance(layer, USConvTranspose2d) else output
            macs += weight.numel() * dense.shape[2] * dense.shape[3]
            activations += output.numel()
            convs += 1

        net = self.subnet(name)
        for layer in net.modules():
            if isinstance(layer, USConv2d | USConvTranspose2d):
                layer.register_forward_hook(count)
        with torch.no_grad():
            net(torch.zeros(1, 3, side, side))
        pixels = side * side
        assert not macs % pixels and not activations % pixels, "a layer's resolution is no multiple of the LR picture's"
        return Complexity(macs // pixels, activations // pixels, convs)


BACKBONES: dict[str, type[Supernet]] = {}
"""Every registered backbone by name."""

Backbone = TypeVar("Backbone", bound=type[Supernet])


def register(name: str) -> Callable[[Backbone], Backbone]:
    """Class decorator that makes a backbone available under `name`."""

    def add(cls: Backbone) -> Backbone:
        BACKBONES[name] = cls
        return cls

    return add


def build(name: str, scale: int, subnets: Mapping[str, tuple[int, int]]) -> Supernet:
    """A new network of the backbone `name`, with random weights."""
    if name not in BACKBONES:
        raise ArtefactError(f"unknown backbone '{name}'; there are {', '.join(sorted(BACKBONES))}")
    return BACKBONES[name](scale, subnets)
