"""`srresnet`: residual blocks, PixelShuffle by steps, two convolutions at the size of the SR picture.

Ledig et al., "Photo-realistic single image super-resolution using a generative adversarial network", CVPR 2017, without
batch normalisation, with leaky ReLU and added to the bilinear interpolation, as ClassSR and ARM have it (Kong et al.,
CVPR 2021). The depth is the number of residual blocks, 16 there.
"""

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from ..layers import USConv2d, upscaling_steps
from .base import Supernet, register


class ResidualBlock(nn.Module):
    """Two convolutions whose result is added to what came in."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = USConv2d(width, width, 3, padding=1)
        self.conv2 = USConv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same, C at most the width."""
        channels = x.shape[1]
        return x + self.conv2(F.relu(self.conv1(x, channels)), channels)


@register("srresnet")
class SrResNet(Supernet):
    """The tail has a convolution for each step of PixelShuffle, one of the same width and one to RGB."""

    has_planes = False

    def __init__(self, scale: int, subnets: Mapping[str, tuple[int, int]]) -> None:
        super().__init__(scale, subnets)
        self.receptive_radius = 2 * self.depth + 3
        self.steps = upscaling_steps(scale)
        self.head = USConv2d(3, self.width, 3, padding=1)
        self.body = nn.ModuleList(ResidualBlock(self.width) for _ in range(self.depth))
        self.tail = nn.ModuleList(USConv2d(self.width, step**2 * self.width, 3, padding=1) for step in self.steps)
        self.tail.append(USConv2d(self.width, self.width, 3, padding=1))
        self.tail.append(USConv2d(self.width, 3, 3, padding=1))
        for layer in self.modules():
            if isinstance(layer, USConv2d):
                nn.init.kaiming_normal_(layer.weight)
                layer.weight.data.mul_(0.1)
                nn.init.zeros_(layer.get_parameter("bias"))

    def forward(self, x: Tensor, width: int | None = None, depth: int | None = None) -> Tensor:
        """See `Supernet.forward`."""
        width = width or self.width
        features = F.leaky_relu(self.head(x, width), 0.1)
        for block in self.body[:depth]:
            features = block(features)
        *convs, wide, last = self.tail
        for conv, step in zip(convs, self.steps, strict=True):
            features = F.leaky_relu(F.pixel_shuffle(conv(features, step**2 * width), step), 0.1)
        base = F.interpolate(x, scale_factor=self.scale, mode="bilinear", align_corners=False)
        result: Tensor = last(F.leaky_relu(wide(features, width), 0.1)) + base
        return result

    def grow(self, depth: int) -> None:
        """See `Supernet.grow`; a block adds nothing at first."""
        for block in self.body[depth:]:
            for p in block.conv2.parameters():  # type: ignore[union-attr]
                nn.init.zeros_(p)
