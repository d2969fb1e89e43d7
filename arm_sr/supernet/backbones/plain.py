"""`plain`: 3x3 convolutions with ReLU and an anchor residual.

The anchor (each LR pixel repeated scale^2 times before PixelShuffle, which is nearest-neighbour
interpolation) is from Du et al., "Anchor-based plain net for mobile image super-resolution" (ABPN), 2021.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from ..layers import USConv2d
from .base import Supernet, register


@register("plain")
class Plain(Supernet):
    """Head, `depth` body convolutions and a tail to 3 * scale^2 channels, all 3x3."""

    def __init__(self, scale: int, widths: Sequence[int], depth: int = 5) -> None:
        super().__init__()
        self.scale, self.widths = scale, tuple(sorted(widths))
        self.config = {"scale": scale, "widths": self.widths, "depth": depth}
        self.receptive_radius = depth + 2
        widest = self.widths[-1]
        self.head = USConv2d(3, widest, 3, padding=1)
        self.body = nn.ModuleList(USConv2d(widest, widest, 3, padding=1) for _ in range(depth))
        self.tail = USConv2d(widest, 3 * scale**2, 3, padding=1)
        for conv in (self.head, *self.body):
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
            nn.init.constant_(conv.get_parameter("bias"), 0)
        # Start from the anchor alone: the residual begins small.
        nn.init.normal_(self.tail.weight, std=1e-3)
        nn.init.constant_(self.tail.get_parameter("bias"), 0)

    def forward(self, x: Tensor, width: int | None = None) -> Tensor:
        """See `Supernet.forward`."""
        features = F.relu(self.head(x, width))
        for conv in self.body:
            features = F.relu(conv(features, width))
        anchor = x.repeat_interleave(self.scale**2, dim=1)
        return F.pixel_shuffle(self.tail(features) + anchor, self.scale)
