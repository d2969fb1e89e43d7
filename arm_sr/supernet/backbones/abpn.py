"""`abpn` and its variants: a plain net with two layers of sub-pixels, and a residual.

Du et al., "Anchor-based plain net for mobile image super-resolution", CVPR workshops 2021. The width is 28 in the
paper, the depth 4: with the first layer five convolutions of that width.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers import USConv2d, make_identity
from .base import Supernet, register


@register("abpn-none")
class AbpnNone(Supernet):
    """Without a residual."""

    def __init__(self, scale: int, subnets: Mapping[str, tuple[int, int]]) -> None:
        super().__init__(scale, subnets)
        self.receptive_radius = self.depth + 3
        blocks = 3 * scale**2
        self.head = USConv2d(3, self.width, 3, padding=1)
        self.body = nn.ModuleList(USConv2d(self.width, self.width, 3, padding=1) for _ in range(self.depth))
        self.tail = nn.Sequential(
            USConv2d(self.width, blocks, 3, padding=1), nn.ReLU(), USConv2d(blocks, blocks, 3, padding=1)
        )

    def planes(self, x: Tensor, width: int | None = None, depth: int | None = None) -> Tensor:
        """See `Supernet.planes`."""
        first = features = F.relu(self.head(x, width))
        for conv in self.body[:depth]:
            features = F.relu(conv(features, width))
        planes: Tensor = self.tail(self._joined(first, features))
        return planes

    def _joined(self, first: Tensor, last: Tensor) -> Tensor:
        """What goes into the tail, of the first features and the last."""
        return last

    def grow(self, depth: int) -> None:
        """See `Supernet.grow`; ReLU lets the identity through."""
        for conv in self.body[depth:]:
            make_identity(conv)


@register("abpn")
class Abpn(AbpnNone):
    """The LR pixel is added to each of its sub-pixels: the anchor."""

    def planes(self, x: Tensor, width: int | None = None, depth: int | None = None) -> Tensor:
        """See `Supernet.planes`."""
        return super().planes(x, width, depth) + torch.cat([x] * self.scale**2, dim=1)


@register("abpn-feature")
class AbpnFeature(AbpnNone):
    """The first features are added to the last."""

    def _joined(self, first: Tensor, last: Tensor) -> Tensor:
        return first + last


@register("abpn-image")
class AbpnImage(AbpnNone):
    """The interpolated picture (bilinear) is added."""

    has_planes = False

    def forward(self, x: Tensor, width: int | None = None, depth: int | None = None) -> Tensor:
        """See `Supernet.forward`."""
        residual = super().forward(x, width, depth)
        return residual + F.interpolate(x, scale_factor=self.scale, mode="bilinear", align_corners=False)
