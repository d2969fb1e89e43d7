"""`carn`: CARN-M, cascading residual blocks with grouped convolutions.

Ahn et al., "Fast, accurate, and lightweight super-resolution with cascading residual network", ECCV 2018. Within a
cascading block the three residual blocks share their weights. The width is 64 and the depth, the number of cascading
blocks, is 3 in the paper.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers import USConv2d, upscaling_steps
from .base import Supernet, register

GROUPS = 4
RGB_MEAN = (0.4488, 0.4371, 0.4040)
"""Of DIV2K, subtracted before and added after."""


class ResidualBlock(nn.Module):
    """The efficient residual block: two grouped convolutions and one of a pixel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = USConv2d(width, width, 3, padding=1, groups=GROUPS)
        self.conv2 = USConv2d(width, width, 3, padding=1, groups=GROUPS)
        self.conv3 = USConv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same, C at most the width."""
        channels = x.shape[1]
        features = F.relu(self.conv2(F.relu(self.conv1(x, channels)), channels))
        return F.relu(x + self.conv3(features, channels))


class Cascade(nn.ModuleList):
    """The convolutions of a pixel that join what the first, the first two, ... blocks put out with what came in."""

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__(USConv2d((number + 2) * width, width, 1) for number in range(blocks))

    def join(self, x: Tensor, blocks: list[nn.Module]) -> Tensor:
        """Run `blocks` one after the other on `x`, (N, C, H, W), each on all that is there joined."""
        everything = joined = x
        for block, conv in zip(blocks, self, strict=False):
            everything = torch.cat([everything, block(joined)], dim=1)
            joined = F.relu(conv(everything, x.shape[1]))
        return joined


class CascadingBlock(nn.Module):
    """Three times the same residual block."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.residual = ResidualBlock(width)
        self.cascade = Cascade(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same, C at most the width."""
        return self.cascade.join(x, [self.residual] * 3)


@register("carn")
class Carn(Supernet):
    """The tail has a grouped convolution for each step of PixelShuffle, and one to RGB."""

    has_planes = False
    divisor = GROUPS

    def __init__(self, scale: int, subnets: Mapping[str, tuple[int, int]]) -> None:
        super().__init__(scale, subnets)
        self.receptive_radius = 6 * self.depth + 3
        self.steps = upscaling_steps(scale)
        self.mean: Tensor
        self.register_buffer("mean", torch.tensor(RGB_MEAN).reshape(1, 3, 1, 1), persistent=False)
        self.head = USConv2d(3, self.width, 3, padding=1)
        self.body = nn.ModuleList(CascadingBlock(self.width) for _ in range(self.depth))
        self.cascade = Cascade(self.width, self.depth)
        self.tail = nn.ModuleList(
            USConv2d(self.width, step**2 * self.width, 3, padding=1, groups=GROUPS) for step in self.steps
        )
        self.tail.append(USConv2d(self.width, 3, 3, padding=1))

    def forward(self, x: Tensor, width: int | None = None, depth: int | None = None) -> Tensor:
        """See `Supernet.forward`."""
        width = width or self.width
        features = self.cascade.join(self.head(x - self.mean, width), list(self.body[:depth]))
        *convs, last = self.tail
        for conv, step in zip(convs, self.steps, strict=True):
            features = F.pixel_shuffle(F.relu(conv(features, step**2 * width)), step)
        result: Tensor = last(features) + self.mean
        return result
