"""`plain`: 3x3 convolutions with ReLU and an anchor residual.

The anchor (the LR pixel added to each of its scale^2 sub-pixels, which is nearest-neighbour interpolation) is from
Du et al., "Anchor-based plain net for mobile image super-resolution" (ABPN), 2021.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers import USConv2d, make_identity
from .base import Supernet, register


@register("plain")
class Plain(Supernet):
    """Head, body convolutions and a tail to 3 * scale^2 channels, all 3x3."""

    def __init__(self, scale: int, subnets: Mapping[str, tuple[int, int]]) -> None:
        super().__init__(scale, subnets)
        self.receptive_radius = self.depth + 2
        self.head = USConv2d(3, self.width, 3, padding=1)
        self.body = nn.ModuleList(USConv2d(self.width, self.width, 3, padding=1) for _ in range(self.depth))
        self.tail = USConv2d(self.width, 3 * scale**2, 3, padding=1)
        for conv in (self.head, *self.body):
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
            nn.init.constant_(conv.get_parameter("bias"), 0)
        # Start from the anchor alone: the residual begins small.
        nn.init.normal_(self.tail.weight, std=1e-3)
        nn.init.constant_(self.tail.get_parameter("bias"), 0)

    def sub_pixels(self, x: Tensor, width: int | None = None, depth: int | None = None) -> Tensor:
        """See `Supernet.sub_pixels`; an anchor that is not repeated spares a narrow sub-net 3% of its time."""
        n, _, h, w = x.shape
        return self._residual(x, width, depth).reshape(n, -1, 3, h, w) + x[:, None]

    def planes(self, x: Tensor, width: int | None = None, depth: int | None = None) -> Tensor:
        """See `Supernet.planes`."""
        return self._residual(x, width, depth) + torch.cat([x] * self.scale**2, dim=1)

    def _residual(self, x: Tensor, width: int | None, depth: int | None) -> Tensor:
        """What is added to the anchor: (N, scale * scale * 3, H, W)."""
        features = F.relu(self.head(x, width))
        for conv in self.body[:depth]:
            features = F.relu(conv(features, width))
        return self.tail(features)

    def grow(self, depth: int) -> None:
        """See `Supernet.grow`; ReLU lets the identity through."""
        for conv in self.body[depth:]:
            make_identity(conv)

    @torch.no_grad()
    def revive(self, x: Tensor, least: float) -> None:
        """See `Supernet.revive`."""
        layers = [self.head, *self.body]
        active = torch.zeros(len(layers), self.width, device=x.device)
        for width, depth in self.subnets.values():
            features = x
            for conv, share in zip(layers[: depth + 1], active, strict=False):
                features = F.relu(conv(features, width))
                share[:width] = torch.maximum(share[:width], (features > 0).float().mean(dim=(0, 2, 3)))
        dormant = active < least
        # All layers that feed the tail share its weights: there a channel begins anew in all of them or in none.
        last = sorted({depth for _, depth in self.subnets.values()})
        dormant[last] = dormant[last].all(dim=0)
        for conv, channels in zip(layers, dormant, strict=True):
            fresh = torch.empty_like(conv.weight)
            nn.init.kaiming_normal_(fresh, nonlinearity="relu")
            conv.weight[channels] = fresh[channels]
            conv.get_parameter("bias")[channels] = 0
        for conv, channels in zip((*self.body, self.tail), (*dormant[:-1], dormant[last[-1]]), strict=True):
            conv.weight[:, channels] = 0
        features = x
        for conv, channels in zip(layers, dormant, strict=True):
            conv.get_parameter("bias")[channels] = -conv(features).mean(dim=(0, 2, 3))[channels]
            features = F.relu(conv(features))
