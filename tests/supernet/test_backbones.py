"""The contract of every backbone, and `plain` against a definition of its own."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from arm_sr.errors import ArtefactError
from arm_sr.supernet.backbones import BACKBONES, Supernet, build

WIDTHS = (3, 4, 8)
DEPTH = 5
"""Of `plain` when nothing is said."""

MACS_BY_HAND: dict[str, Callable[[int, int], int]] = {
    "plain": lambda w, s: 9 * (3 * w + DEPTH * w * w + w * 3 * s * s),
}
"""MACs for each LR pixel of a width and scale. A new backbone may add its own; all are also counted as they run."""
PARAMS_BY_HAND: dict[str, Callable[[int, int], int]] = {
    "plain": lambda w, s: (27 * w + w) + DEPTH * (9 * w * w + w) + (27 * w * s * s + 3 * s * s),
}


class MacCounter(TorchFunctionMode):
    """Counts the multiply-accumulates of the convolutions that PyTorch is asked for, whatever layer asks."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in (torch.conv2d, F.conv2d):
            self.total += result.numel() * args[1][0].numel()
        elif func in (torch.conv_transpose2d, F.conv_transpose2d):
            self.total += args[0].numel() * args[1][0].numel()
        return result


def random_net(name: str, scale: int, widths: tuple[int, ...] = WIDTHS) -> Supernet:
    """A network with random weights and biases everywhere, none of them zero or small."""
    torch.manual_seed(scale)
    net = build(name, scale=scale, widths=widths)
    with torch.no_grad():
        for p in net.parameters():
            p.normal_(std=0.3)
    return net


def corner(net: Supernet, width: int, parameter: str) -> tuple[slice, ...]:
    """Where the weights of the sub-net of `width` lie in those of the supernet."""
    return tuple(slice(size) for size in dict(net.subnet(width).named_parameters())[parameter].shape)


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("name", sorted(BACKBONES))
class TestContract:
    """What the rest of the package relies on, for every backbone."""

    def test_output_is_scale_times_the_input(self, name, scale):
        """Any batch and any size, one pixel included, at every width."""
        net = random_net(name, scale)
        for shape in [(1, 3, 1, 1), (2, 3, 5, 7), (3, 3, 8, 1)]:
            for width in (*WIDTHS, None):
                n, c, h, w = shape
                assert (n, c, scale * h, scale * w) == net(torch.rand(shape), width).shape

    def test_a_subnet_equals_the_supernet_at_its_width(self, name, scale):
        """To the bit, and with the weights of its own width only."""
        net, x = random_net(name, scale), torch.rand(2, 3, 9, 11)
        for width in WIDTHS:
            subnet = net.subnet(width)
            assert (width,) == subnet.widths
            assert torch.equal(net(x, width), subnet(x))
            assert torch.equal(net(x, width), subnet(x, width))
        assert torch.equal(net(x, WIDTHS[-1]), net(x))

    def test_a_subnet_shares_no_memory_with_the_supernet(self, name, scale):
        """Training the supernet on does not change a sub-net that was taken out, and the other way round."""
        net, x = random_net(name, scale), torch.rand(1, 3, 6, 6)
        for width in WIDTHS:
            subnet, whole = net.subnet(width), net(x)
            expected = subnet(x)
            memory = {p.untyped_storage().data_ptr() for p in net.parameters()}
            assert memory.isdisjoint(p.untyped_storage().data_ptr() for p in subnet.parameters())
            with torch.no_grad():
                for p in subnet.parameters():
                    p.add_(1)
                assert torch.equal(whole, net(x))
                for p in subnet.parameters():
                    p.sub_(1)
                expected = subnet(x)
                for p in net.parameters():
                    p.add_(1)
            assert torch.equal(expected, subnet(x))

    def test_the_weights_of_a_subnet_are_the_leading_slices(self, name, scale):
        """Its state dict has the same names, and each tensor is the corner of the wide one."""
        net = random_net(name, scale)
        wide = net.state_dict()
        for width in WIDTHS:
            narrow = net.subnet(width).state_dict()
            assert list(wide) == list(narrow)
            for key, tensor in narrow.items():
                assert torch.equal(wide[key][tuple(slice(size) for size in tensor.shape)], tensor), key

    def test_params_are_those_of_a_network_built_narrow(self, name, scale):
        """Nothing of the other widths is counted."""
        net = random_net(name, scale)
        for width in WIDTHS:
            alone = build(name, scale=scale, widths=(width,))
            assert sum(p.numel() for p in alone.parameters()) == net.params(width)
            if name in PARAMS_BY_HAND:
                assert PARAMS_BY_HAND[name](width, scale) == net.params(width)

    def test_macs_agree_with_an_independent_count(self, name, scale):
        """The calls that a picture causes, and the formula on paper."""
        net = random_net(name, scale)
        for width in WIDTHS:
            with MacCounter() as counter, torch.no_grad():
                net(torch.zeros(1, 3, 6, 10), width)
            assert counter.total / (6 * 10) == net.macs_per_lr_pixel(width)
            if name in MACS_BY_HAND:
                assert MACS_BY_HAND[name](width, scale) == net.macs_per_lr_pixel(width)

    def test_the_receptive_radius_is_exact(self, name, scale):
        """A pixel just outside never changes the outputs of the centre; one at the radius does."""
        net = random_net(name, scale).double()
        radius = net.receptive_radius
        centre = radius + 2
        x = torch.rand(1, 3, 2 * centre + 1, 2 * centre + 1, dtype=torch.float64)

        def changes(distance: int, width: int) -> Tensor:
            """Largest change of the centre for a change of each pixel at a (chessboard) distance."""
            steps = range(-distance, distance + 1)
            ring = [(i, j) for i in steps for j in steps if max(abs(i), abs(j)) == distance]
            pictures = x.repeat(len(ring) + 1, 1, 1, 1)
            for picture, (i, j) in zip(pictures[1:], ring, strict=True):
                picture[:, centre + i, centre + j] += 1
            middle = slice(centre * scale, (centre + 1) * scale)
            with torch.no_grad():
                sr = net(pictures, width)[:, :, middle, middle]
            return (sr[1:] - sr[0]).abs().amax(dim=(1, 2, 3))

        for width in WIDTHS:
            assert changes(radius + 1, width).max() <= 1e-12
            assert changes(radius, width).max() > 1e-6

    def test_an_unknown_width_is_refused(self, name, scale):
        """Neither a width between two others nor one beyond the widest."""
        net = random_net(name, scale)
        for width in (0, 5, 9, -1):
            with pytest.raises(ValueError, match=rf"{width}.*3, 4, 8"):
                net.subnet(width)

    def test_gradients_of_a_narrow_width_touch_the_leading_weights_only(self, name, scale):
        """The rest of the supernet learns nothing from that sub-net."""
        net = random_net(name, scale)
        net(torch.rand(2, 3, 9, 9), WIDTHS[0]).square().sum().backward()
        for key, p in net.named_parameters():
            inside = corner(net, WIDTHS[0], key)
            assert p.grad[inside].any(), key
            outside = p.grad.clone()
            outside[inside] = 0
            assert outside.count_nonzero() == 0, key

    def test_config_builds_the_same_network_again(self, name, scale):
        """Widths come in any order; what `config` says is enough to load the weights."""
        net = random_net(name, scale, widths=(8, 3, 4))
        again = build(name, **net.config)
        again.load_state_dict(net.state_dict())
        x = torch.rand(1, 3, 5, 5)
        assert ((3, 4, 8), scale) == (again.widths, again.scale)
        assert torch.equal(net(x, 4), again(x, 4))

    def test_a_subnet_keeps_the_mode(self, name, scale):
        """Training or evaluation, as the supernet is."""
        net = random_net(name, scale)
        assert [net.train(mode).subnet(WIDTHS[0]).training for mode in (True, False)] == [True, False]


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("width", WIDTHS)
def test_plain_is_a_sequence_of_convolutions_and_the_repeated_picture(width, scale):
    """Written again with nn.Sequential and nearest-neighbour interpolation."""
    net, x = random_net("plain", scale).double(), torch.rand(2, 3, 10, 7, dtype=torch.float64)
    layers: list[nn.Module] = [nn.Conv2d(3, width, 3, padding=1), nn.ReLU()]
    for _ in range(DEPTH):
        layers += [nn.Conv2d(width, width, 3, padding=1), nn.ReLU()]
    reference = nn.Sequential(*layers, nn.Conv2d(width, 3 * scale**2, 3, padding=1), nn.PixelShuffle(scale)).double()
    weights = net.state_dict().values()
    with torch.no_grad():
        for mine, wide in zip(reference.parameters(), weights, strict=True):
            mine.copy_(wide[tuple(slice(size) for size in mine.shape)])

    expected = reference(x) + F.interpolate(x, scale_factor=scale, mode="nearest")

    assert (net(x, width) - expected).abs().max() <= 1e-12


def test_a_fresh_plain_net_is_close_to_nearest_neighbour_interpolation():
    """The residual begins small."""
    torch.manual_seed(0)
    x = torch.rand(1, 3, 12, 12)
    expected = F.interpolate(x, scale_factor=2, mode="nearest")
    assert (build("plain", scale=2, widths=(16,))(x) - expected).abs().max() < 0.1


def test_an_unknown_backbone_is_named_in_the_error():
    """Together with those that exist."""
    with pytest.raises(ArtefactError, match=r"'nonesuch'.*plain"):
        build("nonesuch", scale=2, widths=(4,))


def test_an_unknown_option_of_a_backbone_is_named_in_the_error():
    """A recipe or card that asks for it is damaged or of another version."""
    with pytest.raises(ArtefactError, match=r"plain.*deepness"):
        build("plain", scale=2, widths=(4,), deepness=3)
