"""`espcn` and `espcn-relu`: three convolutions, the last to the sub-pixels.

Shi et al., "Real-time single image and video super-resolution using an efficient sub-pixel convolutional neural
network", CVPR 2016, for RGB. The width is the number of channels of the first layer, 64 in the paper; the others have
half as many, and the depth, their number, is 1.
"""

from collections.abc import Callable, Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers import USConv2d, make_identity
from .base import Supernet, register


@register("espcn")
class Espcn(Supernet):
    """A 5x5 convolution, then 3x3 ones."""

    divisor = 2
    least_depth = 1
    activation: ClassVar[Callable[[Tensor], Tensor]] = torch.tanh

    def __init__(self, scale: int, subnets: Mapping[str, tuple[int, int]]) -> None:
        super().__init__(scale, subnets)
        self.receptive_radius = self.depth + 3
        half = self.width // 2
        self.head = USConv2d(3, self.width, 5, padding=2)
        self.body = nn.ModuleList(
            USConv2d(half if number else self.width, half, 3, padding=1) for number in range(self.depth)
        )
        self.tail = USConv2d(half, 3 * scale**2, 3, padding=1)

    def planes(self, x: Tensor, width: int | None = None, depth: int | None = None) -> Tensor:
        """See `Supernet.planes`."""
        activation = type(self).activation
        features = activation(self.head(x, width))
        for conv in self.body[:depth]:
            features = activation(conv(features, (width or self.width) // 2))
        return self.tail(features)


@register("espcn-relu")
class EspcnRelu(Espcn):
    """ReLU instead of tanh."""

    activation = F.relu

    def grow(self, depth: int) -> None:
        """See `Supernet.grow`; the first layer halves the channels and is never new."""
        for conv in self.body[max(depth, 1) :]:
            make_identity(conv)
