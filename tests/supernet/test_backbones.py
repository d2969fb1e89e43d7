"""The contract of every backbone, and `plain` against a definition of its own; the others are in `test_papers`."""

from collections.abc import Callable
from itertools import combinations
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from arm_sr.errors import ArtefactError
from arm_sr.supernet.backbones import BACKBONES, Supernet, build
from arm_sr.supernet.export import planes_bytes

SUBNETS = {"w4": (4, 2), "w8": (8, 1), "w16": (16, 3), "w16d1": (16, 1)}
"""Width and depth; neither decides the other."""

MACS_BY_HAND: dict[str, Callable[[int, int, int], int]] = {
    "plain": lambda w, d, s: 9 * (3 * w + d * w * w + w * 3 * s * s),
}
"""MACs for each LR pixel; those of the others are in docs/backbones.md, and all are also counted as they run."""
PARAMS_BY_HAND: dict[str, Callable[[int, int, int], int]] = {
    "plain": lambda w, d, s: (27 * w + w) + d * (9 * w * w + w) + (27 * w * s * s + 3 * s * s),
}
RADIUS_BY_HAND: dict[str, Callable[[int], int]] = {"plain": lambda d: d + 2}
WITHOUT_IDENTITY = {"carn", "espcn"}
"""Backbones that cannot grow."""


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


def random_net(name: str, scale: int, subnets: dict[str, tuple[int, int]] = SUBNETS) -> Supernet:
    """A network with random weights and biases everywhere, none of them zero or small, nor many channels."""
    torch.manual_seed(scale)
    net = build(name, scale, subnets)
    with torch.no_grad():
        for p in net.parameters():
            p.uniform_(0.2, 0.6) if p.ndim == 1 else p.normal_(std=p[0].numel() ** -0.5)
    return net


def corners(net: Supernet, name: str) -> dict[str, tuple[slice, ...]]:
    """Where the weights of a sub-net lie in those of the supernet; layers that it does not reach are left out."""
    return {key: tuple(slice(size) for size in p.shape) for key, p in net.subnet(name).named_parameters()}


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("name", sorted(BACKBONES))
class TestContract:
    """What the rest of the package relies on, for every backbone."""

    def test_output_is_scale_times_the_input(self, name, scale):
        """Any batch and any size, one pixel included, for every sub-net."""
        net = random_net(name, scale)
        for size in [(1, 3, 1, 1), (2, 3, 5, 7), (3, 3, 8, 1)]:
            for shape in (*SUBNETS.values(), (None, None), (8, None), (None, 1)):
                n, c, h, w = size
                assert (n, c, scale * h, scale * w) == net(torch.rand(size), *shape).shape

    def test_planes_are_the_sub_pixels_in_another_shape(self, name, scale, tmp_path):
        """For every sub-net, however the backbone makes them; OpenCV can read them and run any size."""
        net = random_net(name, scale)
        if not net.has_planes:
            return
        for key, shape in SUBNETS.items():
            file = tmp_path / f"{key}.onnx"
            file.write_bytes(planes_bytes(net.subnet(key)))
            network = cv2.dnn.readNetFromONNX(str(file), cv2.dnn.ENGINE_CLASSIC)
            for size in [(1, 3, 1, 1), (1, 3, 9, 11), (1, 3, 40, 7)]:
                x = torch.rand(size)
                with torch.no_grad():
                    planes = net.planes(x, *shape)
                    assert torch.allclose(net.sub_pixels(x, *shape).flatten(1, 2), planes, atol=1e-6)
                    colours_first = planes.unflatten(1, (scale**2, 3)).transpose(1, 2).flatten(1, 2)
                    assert torch.allclose(net(x, *shape), F.pixel_shuffle(colours_first, scale), rtol=1e-4, atol=1e-4)
                network.setInput(x.numpy())
                assert np.allclose(planes, network.forward(), atol=1e-4)

    def test_a_subnet_equals_the_supernet_at_its_shape(self, name, scale):
        """To the bit, and with the weights of its own width and depth only."""
        net, x = random_net(name, scale), torch.rand(2, 3, 9, 11)
        for key, shape in SUBNETS.items():
            subnet = net.subnet(key)
            assert ({key: shape}, shape) == (subnet.subnets, (subnet.width, subnet.depth))
            assert torch.equal(net(x, *shape), subnet(x))
            assert torch.equal(net(x, *shape), subnet(x, *shape))
        assert torch.equal(net(x, *SUBNETS["w16"]), net(x))

    def test_the_subnets_give_different_pictures(self, name, scale):
        """Or the test above would compare nothing."""
        net, x = random_net(name, scale), torch.rand(1, 3, 9, 11)
        pictures = [net(x, *shape) for shape in SUBNETS.values()]
        assert all((a - b).abs().max() > 1e-3 for a, b in combinations(pictures, 2))

    def test_the_supernet_is_as_wide_and_as_deep_as_any_subnet(self, name, scale):
        """Which need not be the same one."""
        net, x = random_net(name, scale, {"deep": (4, 4), "wide": (16, 1)}), torch.rand(1, 3, 6, 6)
        assert (16, 4, scale) == (net.width, net.depth, net.scale)
        assert torch.equal(net(x), net(x, 16, 4))
        assert torch.equal(net(x, 4), net.subnet("deep")(x))
        assert torch.equal(net(x, depth=1), net.subnet("wide")(x))

    def test_a_subnet_shares_no_memory_with_the_supernet(self, name, scale):
        """Training the supernet on does not change a sub-net that was taken out, and the other way round."""
        net, x = random_net(name, scale), torch.rand(1, 3, 6, 6)
        for key in SUBNETS:
            subnet, whole = net.subnet(key), net(x)
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
        """Its names are among those of the supernet, and each tensor is the corner of the wide one."""
        net = random_net(name, scale)
        wide = net.state_dict()
        for key in SUBNETS:
            small = net.subnet(key).state_dict()
            assert [part for part in wide if part in small] == list(small)
            for part, tensor in small.items():
                assert torch.equal(wide[part][tuple(slice(size) for size in tensor.shape)], tensor), part
        assert list(wide) == list(net.subnet("w16").state_dict())

    def test_params_are_those_of_a_network_built_small(self, name, scale):
        """Nothing of the other sub-nets is counted."""
        net = random_net(name, scale)
        for key, shape in SUBNETS.items():
            alone = build(name, scale, {"alone": shape})
            assert sum(p.numel() for p in alone.parameters()) == net.params(key)
            if name in PARAMS_BY_HAND:
                assert PARAMS_BY_HAND[name](*shape, scale) == net.params(key)

    def test_macs_agree_with_an_independent_count(self, name, scale):
        """The calls that a picture causes, and the formula on paper."""
        net = random_net(name, scale)
        for key, shape in SUBNETS.items():
            with MacCounter() as counter, torch.no_grad():
                net(torch.zeros(1, 3, 6, 10), *shape)
            assert counter.total / (6 * 10) == net.complexity(key).macs_per_lr_pixel
            if name in MACS_BY_HAND:
                assert MACS_BY_HAND[name](*shape, scale) == net.complexity(key).macs_per_lr_pixel

    def test_activations_and_layers_agree_with_an_independent_count(self, name, scale):
        """What the convolutions of a network built small put out."""
        net = random_net(name, scale)
        for key, shape in SUBNETS.items():
            outputs: list[int] = []
            alone = build(name, scale, {"alone": shape})
            for layer in alone.modules():
                if isinstance(layer, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
                    layer.register_forward_hook(lambda layer, x, y, outputs=outputs: outputs.append(y.numel()))
            alone(torch.zeros(1, 3, 6, 10))
            assert sum(outputs) / (6 * 10) == net.complexity(key).activations_per_lr_pixel
            assert len(outputs) == net.complexity(key).convs

    def test_the_receptive_radius_is_exact(self, name, scale):
        """A pixel just outside never changes the outputs of the centre; one at the radius does."""
        net = random_net(name, scale)
        for key, shape in SUBNETS.items():
            subnet = net.subnet(key).double()
            with torch.no_grad():
                for p in subnet.parameters():
                    p.abs_().div_(1 if p.ndim == 1 else p[0].sum())  # nothing cancels out, however long the way
            radius = subnet.receptive_radius
            centre = radius + 2
            x = 1 + torch.rand(1, 3, 2 * centre + 1, 2 * centre + 1, dtype=torch.float64)
            across = (torch.arange(2 * centre + 1) - centre).abs()
            distance = torch.maximum(across[:, None], across)

            def change(away: int, subnet: Supernet = subnet, x: Tensor = x, distance: Tensor = distance) -> float:
                """Of the centre, for a change of all pixels at a (chessboard) distance."""
                middle = slice(len(distance) // 2 * scale, (len(distance) // 2 + 1) * scale)
                with torch.no_grad():
                    before, after = (subnet(y)[:, :, middle, middle] for y in (x, x + 1e9 * (distance == away)))
                return float((after - before).abs().max())

            assert change(radius + 1) <= 1e-12
            assert change(radius) > 1e-9
            if name in RADIUS_BY_HAND:
                assert RADIUS_BY_HAND[name](shape[1]) == radius
        assert net.subnet("w16").receptive_radius == net.receptive_radius

    def test_an_unknown_subnet_is_refused(self, name, scale):
        """Together with those there are."""
        net = random_net(name, scale)
        for key in ("w5", "", "W8", "w16d3"):
            for ask in (net.subnet, net.params, net.complexity):
                with pytest.raises(ValueError, match=rf"'{key}'.*w4, w8, w16, w16d1"):
                    ask(key)

    def test_gradients_of_a_subnet_touch_its_leading_weights_only(self, name, scale):
        """The rest of the supernet learns nothing from it; layers that it does not reach have no gradient at all."""
        for key, shape in SUBNETS.items():
            net = random_net(name, scale)
            net(torch.rand(2, 3, 9, 9), *shape).square().sum().backward()
            inside = corners(net, key)
            for part, p in net.named_parameters():
                if part not in inside:
                    assert p.grad is None, (key, part)
                    continue
                assert p.grad[inside[part]].any(), (key, part)
                outside = p.grad.clone()
                outside[inside[part]] = 0
                assert outside.count_nonzero() == 0, (key, part)

    def test_sub_nets_may_come_in_any_order(self, name, scale):
        """The weights fit, and each name gives the same picture."""
        net = random_net(name, scale)
        again = build(name, scale, dict(reversed(SUBNETS.items())))
        again.load_state_dict(net.state_dict())
        x = torch.rand(1, 3, 5, 5)
        assert SUBNETS == again.subnets
        for key in SUBNETS:
            assert torch.equal(net.subnet(key)(x), again.subnet(key)(x))

    def test_a_subnet_keeps_the_mode(self, name, scale):
        """Training or evaluation, as the supernet is."""
        net = random_net(name, scale)
        assert [net.train(mode).subnet("w4").training for mode in (True, False)] == [True, False]

    @pytest.mark.parametrize("depth", [1, 2, 3])
    def test_growing_changes_no_shallow_subnet(self, name, scale, depth):
        """Those of that depth or less keep their weights; deeper ones then give what their width gave at it."""
        net, x = random_net(name, scale), torch.rand(2, 3, 9, 11)
        if name in WITHOUT_IDENTITY:
            net.grow(net.depth)
            with pytest.raises(ArtefactError, match="cannot become deeper"):
                net.grow(net.depth - 1)
            return
        deeper = [key for key, shape in SUBNETS.items() if shape[1] > depth]
        kept = {key: net.subnet(key).state_dict() for key in SUBNETS if key not in deeper}
        at_depth = {width: net(x, width, depth) for width, _ in SUBNETS.values()}

        net.grow(depth)

        for key, weights in kept.items():
            again = net.subnet(key).state_dict()
            assert all(torch.equal(weights[part], again[part]) for part in weights)
        for key in deeper:
            assert torch.equal(at_depth[SUBNETS[key][0]], net.subnet(key)(x))
        assert torch.equal(at_depth[16], net(x))

    def test_a_deeper_net_starts_from_a_shallower_one(self, name, scale):
        """It has its weights, and the further layers are the identity."""
        shallow = random_net(name, scale, {"w4": (4, 2), "w16": (16, 1)})
        net, x = random_net(name, scale, {"w4": (4, 4), "w16": (16, 3)}), torch.rand(1, 3, 7, 9)
        if name in WITHOUT_IDENTITY:
            with pytest.raises(ArtefactError, match=r"cannot become deeper|is missing"):
                net.start_from(shallow.state_dict())
            return
        net.start_from(shallow.state_dict())
        for width in (4, 16):
            for depth in (2, 3, 4):
                assert torch.equal(shallow(x, width, 2), net(x, width, depth))

    def test_a_net_of_another_scale_gives_all_but_its_tail(self, name, scale):
        """That one stays as it is, unless its weights are of the same shape, as those of FSRCNN."""
        net, other = random_net(name, scale), random_net(name, scale + 1)
        before, given = ({k: v.clone() for k, v in each.state_dict().items()} for each in (net, other))
        another = {k: v.shape for k, v in before.items()} != {k: v.shape for k, v in given.items()}
        net.start_from(given)
        for key, value in net.state_dict().items():
            assert torch.equal(value, (before if another and key.startswith("tail.") else given)[key]), key

    def test_a_tail_that_is_cut_is_no_tail_of_another_scale(self, name, scale):
        """What is missing is named."""
        net = random_net(name, scale)
        fitting = net.state_dict()
        *_, last = (key for key in fitting if key.startswith("tail."))
        with pytest.raises(ArtefactError, match=f"'{last}' is missing"):
            net.start_from({key: value for key, value in fitting.items() if key != last})

    def test_weights_of_another_net_are_named(self, name, scale):
        """Too wide, too deep, too few; the first that does not fit."""
        net = random_net(name, scale)
        fitting = net.state_dict()
        head = next(iter(fitting))
        first, second = (next(key for key in fitting if key.startswith(f"body.{layer}.")) for layer in (0, 1))
        before = {key: value.clone() for key, value in fitting.items()}
        for gone in (head, first, second):
            with pytest.raises(ArtefactError, match=f"'{gone}' is missing"):
                net.start_from({key: value for key, value in fitting.items() if key != gone})
        for shape in {"wide": (20, 3)}, {"deep": (16, 4)}:
            with pytest.raises(ArtefactError, match="weight '"):
                net.start_from(random_net(name, scale, shape).state_dict())
        assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())

    def test_what_was_grown_can_learn(self, name, scale):
        """Every new layer has gradients."""
        net = random_net(name, scale)
        net.grow(net.depth if name in WITHOUT_IDENTITY else 1)
        net(torch.rand(2, 3, 9, 9)).square().sum().backward()
        for layer in net.body:
            assert any(p.grad.any() for p in layer.parameters())

    def test_a_shape_that_it_cannot_have_is_refused(self, name, scale):
        """The message names the sub-net."""
        with pytest.raises(ArtefactError, match=r"sub-net 'odd'.*depth"):
            build(name, scale, {"odd": (7, -1)})


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("seed", range(4))
def test_dormant_channels_begin_anew(scale, seed):
    """Channels that no picture activates get new weights, and no sub-net's picture changes, whatever its depth."""
    net, x = random_net("plain", scale), torch.rand(2, 3, 9, 11)
    layers = [net.head, *net.body]
    torch.manual_seed(seed)
    dead = torch.rand(len(layers), 16) < 0.7
    with torch.no_grad():
        for conv, channels in zip(layers, dead, strict=True):
            conv.bias[channels] = -1e4
    before = {key: net.subnet(key)(x) for key in SUBNETS}

    net.revive(x, 1e-6)

    for key, picture in before.items():
        assert (net.subnet(key)(x) - picture).abs().max() < 1e-4, key
    dead[1:] = dead[1:].all(dim=0)  # sub-nets end at depths 1, 2 and 3: these layers share the tail
    with torch.no_grad():
        for conv, channels in zip(layers, dead, strict=True):
            reached = conv(x)[:, channels]
            assert (reached.mean(dim=(0, 2, 3)).abs() < 1e-4).all()  # about half of the pixels are above zero
            x = conv(x).relu()


def test_nothing_dormant_means_nothing_changes():
    """Every channel of a random net is active somewhere."""
    net = random_net("plain", 2)
    before = [p.clone() for p in net.parameters()]
    net.revive(torch.rand(8, 3, 16, 16), 0.0)
    assert all(torch.equal(p, q) for p, q in zip(before, net.parameters(), strict=True))


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize(("width", "depth"), SUBNETS.values())
def test_plain_is_a_sequence_of_convolutions_and_the_repeated_picture(width, depth, scale):
    """Written again with nn.Sequential and nearest-neighbour interpolation."""
    net, x = random_net("plain", scale).double(), torch.rand(2, 3, 10, 7, dtype=torch.float64)
    layers: list[nn.Module] = [nn.Conv2d(3, width, 3, padding=1), nn.ReLU()]
    for _ in range(depth):
        layers += [nn.Conv2d(width, width, 3, padding=1), nn.ReLU()]
    reference = nn.Sequential(*layers, nn.Conv2d(width, 3 * scale**2, 3, padding=1), nn.PixelShuffle(scale)).double()
    weights = list(net.parameters())  # weight and bias of the head, of every body layer, and of the tail
    with torch.no_grad():
        for mine, wide in zip(reference.parameters(), weights[: 2 + 2 * depth] + weights[-2:], strict=True):
            mine.copy_(wide[tuple(slice(size) for size in mine.shape)])
        # PixelShuffle wants the sub-pixels of a colour together, the net has the colours of a sub-pixel together.
        for mine in reference[-2].parameters():
            mine.copy_(mine.clone().unflatten(0, (scale**2, 3)).transpose(0, 1).flatten(0, 1))

    expected = reference(x) + F.interpolate(x, scale_factor=scale, mode="nearest")

    assert (net(x, width, depth) - expected).abs().max() <= 1e-12


def test_a_plain_net_may_have_no_body():
    """Head and tail; it grows from there as from any other depth."""
    net, x = random_net("plain", 2, {"none": (4, 0), "some": (4, 2)}), torch.rand(1, 3, 6, 6)
    expected = net(x, 4, 0)
    net.grow(0)
    assert torch.equal(expected, net(x))
    assert 2 == net.subnet("none").receptive_radius


def test_a_fresh_plain_net_is_close_to_nearest_neighbour_interpolation():
    """The residual begins small."""
    torch.manual_seed(0)
    x = torch.rand(1, 3, 12, 12)
    expected = F.interpolate(x, scale_factor=2, mode="nearest")
    assert (build("plain", 2, {"w16": (16, 5)})(x) - expected).abs().max() < 0.1


def test_an_unknown_backbone_is_named_in_the_error():
    """Together with those that exist."""
    with pytest.raises(ArtefactError, match=r"'nonesuch'.*plain"):
        build("nonesuch", 2, {"w4": (4, 1)})
