"""`fsrcnn`: features, shrinking, mapping, expanding and a transposed convolution.

Dong et al., "Accelerating the super-resolution convolutional neural network", ECCV 2016, for RGB. The width is the
number of features, d in the paper; the depth is m, the number of mapping layers.
"""

from collections.abc import Mapping

from torch import Tensor, nn

from ..layers import USConv2d, USConvTranspose2d, USPReLU, make_identity
from .base import Supernet, register

SHRUNK = 12
"""Channels of the mapping, s in the paper, of every sub-net."""
KERNEL = 9
"""Side of the transposed convolution's kernel."""


@register("fsrcnn")
class Fsrcnn(Supernet):
    """A PReLU after every layer but the last, as in the paper; a slope of 1 is none."""

    def __init__(self, scale: int, subnets: Mapping[str, tuple[int, int]]) -> None:
        super().__init__(scale, subnets)
        self.head = USConv2d(3, self.width, 5, padding=2)
        self.head_slope = USPReLU(self.width)
        self.shrink = USConv2d(self.width, SHRUNK, 1)
        self.shrink_slope = USPReLU(SHRUNK)
        self.body = nn.ModuleList(
            nn.Sequential(USConv2d(SHRUNK, SHRUNK, 3, padding=1), USPReLU(SHRUNK)) for _ in range(self.depth)
        )
        self.expand = USConv2d(SHRUNK, self.width, 1)
        self.expand_slope = USPReLU(self.width)
        # An output of scale * scale pixels for a pixel: kernel + output_padding = scale + 2 * padding.
        padding = -(-(KERNEL - scale) // 2)
        self.tail = USConvTranspose2d(
            self.width, 3, KERNEL, stride=scale, padding=padding, output_padding=scale + 2 * padding - KERNEL
        )
        self.receptive_radius = 2 + self.depth + self.tail.radius
        for layer in self.modules():
            if isinstance(layer, USConv2d):
                nn.init.kaiming_normal_(layer.weight, a=0.25)
                nn.init.zeros_(layer.get_parameter("bias"))
        nn.init.normal_(self.tail.weight, std=1e-3)
        nn.init.zeros_(self.tail.get_parameter("bias"))

    def forward(self, x: Tensor, width: int | None = None, depth: int | None = None) -> Tensor:
        """See `Supernet.forward`."""
        return self.tail(self._features(x, width, depth))

    def planes(self, x: Tensor, width: int | None = None, depth: int | None = None) -> Tensor:
        """See `Supernet.planes`."""
        return self.tail.planes(self._features(x, width, depth))

    def _features(self, x: Tensor, width: int | None, depth: int | None) -> Tensor:
        features = self.shrink_slope(self.shrink(self.head_slope(self.head(x, width))))
        for mapping in self.body[:depth]:
            features = mapping(features)
        result: Tensor = self.expand_slope(self.expand(features, width))
        return result

    def grow(self, depth: int) -> None:
        """See `Supernet.grow`; a slope of 1 lets everything through."""
        for mapping in self.body[depth:]:
            assert isinstance(mapping, nn.Sequential)
            make_identity(mapping[0])
            nn.init.ones_(mapping[1].get_parameter("weight"))
