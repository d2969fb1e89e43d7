"""Slimmable layers against torch.nn.functional with weights sliced by hand."""

from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arm_sr.supernet.layers import USConv2d, USConvTranspose2d, leading

INPUTS, OUTPUTS = 5, 6
SIDES = list(product((1, 3, INPUTS), (1, 4, OUTPUTS)))
GEOMETRY = list(product((1, 2), (0, 1), (1, 2)))


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def noise(channels: int) -> Tensor:
    """Two pictures of noise with so many channels."""
    return torch.randn(2, channels, 9, 8)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("inputs", "outputs"), SIDES)
def test_a_narrow_convolution_uses_the_leading_weights(inputs, outputs, bias):
    """Input and output sides slim independently of each other, whatever the geometry."""
    for stride, padding, dilation in GEOMETRY:
        layer = USConv2d(INPUTS, OUTPUTS, 3, stride=stride, padding=padding, dilation=dilation, bias=bias)
        x = noise(inputs)

        narrow = layer.bias[:outputs] if bias else None
        expected = F.conv2d(x, layer.weight[:outputs, :inputs], narrow, stride, padding, dilation)

        assert torch.equal(expected, layer(x, outputs)), (stride, padding, dilation)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("inputs", "outputs"), SIDES)
def test_a_narrow_transposed_convolution_uses_the_leading_weights(inputs, outputs, bias):
    """The weight of a transposed convolution has its input side first."""
    for stride, padding, dilation in GEOMETRY:
        extra = stride - 1
        layer = USConvTranspose2d(
            INPUTS, OUTPUTS, 3, stride=stride, padding=padding, output_padding=extra, dilation=dilation, bias=bias
        )
        x = noise(inputs)

        narrow = layer.bias[:outputs] if bias else None
        weight = layer.weight[:inputs, :outputs]
        expected = F.conv_transpose2d(x, weight, narrow, stride, padding, extra, 1, dilation)

        assert torch.equal(expected, layer(x, outputs)), (stride, padding, dilation)


@pytest.mark.parametrize(
    ("slimmable", "ordinary"),
    [(USConv2d, nn.Conv2d), (USConvTranspose2d, nn.ConvTranspose2d)],
    ids=["conv", "transposed"],
)
@pytest.mark.parametrize("bias", [True, False])
def test_at_full_size_it_is_the_ordinary_layer(slimmable, ordinary, bias):
    """Same arguments, same state dict, same result with and without a number of channels."""
    layer = slimmable(INPUTS, OUTPUTS, 3, stride=2, padding=1, bias=bias)
    reference = ordinary(INPUTS, OUTPUTS, 3, stride=2, padding=1, bias=bias)
    reference.load_state_dict(layer.state_dict())
    x = noise(INPUTS)

    expected = reference(x)

    assert torch.equal(expected, layer(x))
    assert torch.equal(expected, layer(x, OUTPUTS))


@pytest.mark.parametrize("slimmable", [USConv2d, USConvTranspose2d])
def test_a_call_leaves_no_state_behind(slimmable):
    """Widths that alternate give what each gives on a layer that was never called before."""
    layer = slimmable(INPUTS, OUTPUTS, 3, padding=1)
    calls = [(noise(inputs), outputs) for inputs, outputs in [(5, 6), (2, 3), (5, 6), (1, 6), (2, 3), (5, None)]]

    fresh = []
    for x, outputs in calls:
        other = slimmable(INPUTS, OUTPUTS, 3, padding=1)
        other.load_state_dict(layer.state_dict())
        fresh.append(other(x, outputs))

    for expected, (x, outputs) in zip(fresh, calls, strict=True):
        assert torch.equal(expected, layer(x, outputs))
    assert vars(slimmable(INPUTS, OUTPUTS, 3, padding=1)).keys() == vars(layer).keys()


@pytest.mark.parametrize(
    ("slimmable", "part"), [(USConv2d, (slice(2), slice(3))), (USConvTranspose2d, (slice(3), slice(2)))]
)
def test_gradients_of_a_narrow_call_stay_in_the_leading_weights(slimmable, part):
    """Three channels in, two out: no other weight learns."""
    layer = slimmable(INPUTS, OUTPUTS, 3)
    layer(noise(3), 2).sum().backward()

    outside = layer.weight.grad.clone()
    outside[part] = 0

    assert outside.count_nonzero() == 0
    assert layer.weight.grad[part].all()
    assert layer.bias.grad.bool().tolist() == [True, True, False, False, False, False]


def test_the_leading_part_is_a_contiguous_copy():
    """Of a tensor of any memory format; the original may change afterwards."""
    wide = torch.randn(6, 5, 3, 3).to(memory_format=torch.channels_last)
    expected = wide[:2, :4].clone()

    actual = leading(wide, torch.Size((2, 4, 3, 3)))
    wide.zero_()

    assert torch.equal(expected, actual)
    assert actual.is_contiguous()
