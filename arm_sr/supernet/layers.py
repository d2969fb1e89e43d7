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
        weight = self.weight[:out_channels, : x.shape[1] // self.groups]
        bias = None if self.bias is None else self.bias[:out_channels]
        return F.conv2d(x, weight, bias, self.stride, self.padding, self.dilation, self.groups)


class USPReLU(nn.PReLU):
    """PReLU with a slope for each channel, of which the leading ones are used."""

    def forward(self, x: Tensor) -> Tensor:
        """`x` (N, C, H, W), C at most `num_parameters`."""
        return F.prelu(x, self.weight if x.shape[1] == self.num_parameters else self.weight[: x.shape[1]])


class USConvTranspose2d(nn.ConvTranspose2d):
    """Transposed convolution whose input and output sides slim independently; see `USConv2d`."""

    def forward(self, x: Tensor, out_channels: int | None = None) -> Tensor:  # type: ignore[override]
        """Map `x` (N, C, H, W), C at most `in_channels`, to `out_channels` (default: all) channels."""
        if _whole(self, x, out_channels):
            return super().forward(x)
        weight = self.weight[: x.shape[1], :out_channels]
        bias = None if self.bias is None else self.bias[:out_channels]
        assert not isinstance(self.padding, str)  # as the base class may have it, for the stubs
        return F.conv_transpose2d(
            x, weight, bias, self.stride, self.padding, self.output_padding, dilation=self.dilation
        )

    @property
    def radius(self) -> int:
        """How many pixels of the input away an output pixel depends on one, where that is `stride` times as large."""
        stride, kernel, padding = self.stride[0], self.kernel_size[0], int(self.padding[0])
        return max((kernel - 1 - padding) // stride, (stride - 1 + padding) // stride)

    def planes(self, x: Tensor) -> Tensor:
        """As `forward`, where the output is `stride` times as large, by a convolution at the size of `x` (Shi et al.,
        "Is the deconvolution layer the same as a convolutional layer?", 2016).

        It multiplies by some zeros, and is several times as fast.

        Returns:
            Output pixels row by row: (N, stride * stride * out_channels, H, W).
        """
        stride, kernel, padding, radius = self.stride[0], self.kernel_size[0], int(self.padding[0]), self.radius
        weight = self.weight if x.shape[1] == self.in_channels else self.weight[: x.shape[1]]
        # The tap by which a pixel `offset` away reaches the sub-pixel `place`, if there is one.
        place, offset = torch.arange(stride)[:, None], torch.arange(-radius, radius + 1)
        tap = (place + padding - stride * offset).flatten().to(x.device)
        there = ((tap >= 0) & (tap < kernel)).to(weight.dtype)
        tap = tap.clamp(0, kernel - 1)
        weight = weight.index_select(2, tap).index_select(3, tap) * (there[:, None] * there)
        sub_pixels = stride, 2 * radius + 1
        weight = weight.reshape(weight.shape[0], self.out_channels, *sub_pixels, *sub_pixels).permute(2, 4, 1, 0, 3, 5)
        bias = None if self.bias is None else torch.cat([self.bias] * stride**2)
        return F.conv2d(x, weight.flatten(0, 2), bias, padding=radius)


def _whole(layer: nn.Conv2d | nn.ConvTranspose2d, x: Tensor, out_channels: int | None) -> bool:
    """Whether `layer` is called at its full size."""
    return x.shape[1] == layer.in_channels and out_channels in (None, layer.out_channels)


def make_identity(conv: nn.Module) -> None:
    """Let `conv`, a convolution, hand its input on unchanged."""
    nn.init.dirac_(conv.get_parameter("weight"))
    nn.init.zeros_(conv.get_parameter("bias"))


def leading(tensor: Tensor, shape: torch.Size) -> Tensor:
    """A copy of the leading part of `tensor` that has `shape`: how narrow weights lie in wide ones."""
    return tensor[tuple(slice(size) for size in shape)].clone(memory_format=torch.contiguous_format)


def upscaling_steps(scale: int) -> list[int]:
    """The factors of PixelShuffle, one after the other, that make `scale`: twos where they do."""
    twos = scale.bit_length() - 1
    return [2] * twos if scale == 2**twos else [scale]
