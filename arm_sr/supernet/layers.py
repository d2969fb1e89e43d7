"""Slimmable convolutions: narrow layers are the leading channels of the wide one.

Yu et al., "Slimmable neural networks", ICLR 2019; universally slimmable layers (USConv) as in
"Universally slimmable networks and improved training techniques", ICCV 2019.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class USConv2d(nn.Conv2d):
    """Convolution whose input and output sides slim independently.

    The input side follows the tensor that comes in; the output side is an argument of `forward`, so the
    module keeps no state between calls. Called at its full size it is an `nn.Conv2d`, in an exported model too: engines
    arrange weights that are constant for the processor beforehand, and take half as long again over those that are cut
    at run time.
    """

    def forward(self, x: Tensor, out_channels: int | None = None) -> Tensor:
        """Convolve `x` (N, C, H, W), C at most `in_channels`, into `out_channels` (default: all) channels."""
        if _whole(self, x, out_channels):
            return super().forward(x)
        weight = self.weight[:out_channels, : x.shape[1]]
        bias = None if self.bias is None else self.bias[:out_channels]
        return F.conv2d(x, weight, bias, self.stride, self.padding, self.dilation)


class USConvTranspose2d(nn.ConvTranspose2d):
    """Transposed convolution whose input and output sides slim independently; see `USConv2d`."""

    def forward(self, x: Tensor, out_channels: int | None = None) -> Tensor:  # type: ignore[override]
        """Map `x` (N, C, H, W), C at most `in_channels`, to `out_channels` (default: all) channels."""
        if _whole(self, x, out_channels):
            return super().forward(x)
        weight = self.weight[: x.shape[1], :out_channels]
        bias = None if self.bias is None else self.bias[:out_channels]
        return F.conv_transpose2d(
            x, weight, bias, self.stride, self.padding, self.output_padding, dilation=self.dilation  # type: ignore[arg-type]
        )


def _whole(layer: nn.Conv2d | nn.ConvTranspose2d, x: Tensor, out_channels: int | None) -> bool:
    """Whether `layer` is called at its full size."""
    return x.shape[1] == layer.in_channels and out_channels in (None, layer.out_channels)


def leading(tensor: Tensor, shape: torch.Size) -> Tensor:
    """A copy of the leading part of `tensor` that has `shape`: how narrow weights lie in wide ones."""
    return tensor[tuple(slice(size) for size in shape)].clone(memory_format=torch.contiguous_format)
