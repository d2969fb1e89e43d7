"""Backbones of papers against plain PyTorch, written from the papers, and their cost against the docs."""

import io
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from strategies import table_with_gains
from torch import Tensor, nn

from arm_sr.api import Upscaler
from arm_sr.backends import open_backend, usable_backends
from arm_sr.errors import ArtefactError
from arm_sr.evaluation.pairs import Pair
from arm_sr.imaging.resample import lr_bicubic
from arm_sr.models import ModelCard
from arm_sr.stitch import keep_flat_borders
from arm_sr.supernet.backbones import Supernet, build
from arm_sr.supernet.export import onnx_bytes, write_checkpoint
from arm_sr.training.config import Recipe, Stage

WIDTHS = {
    "fsrcnn": (4, (16, 36, 56)),
    "carn": (3, (36, 52, 64)),
    "srresnet": (16, (36, 54, 64)),
    "espcn": (1, (16, 32, 64)),
    "espcn-relu": (1, (16, 64)),
    "abpn": (4, (14, 28)),
    "abpn-none": (4, (14, 28)),
    "abpn-feature": (4, (14, 28)),
    "abpn-image": (4, (14, 28)),
}
"""Depth and widths of the papers, or of ARM's."""
CASES = [(name, width, scale) for name, (_, widths) in WIDTHS.items() for width in widths for scale in (2, 3, 4)]


class Shuffled(nn.Module):
    """PixelShuffle, for channels in which the colours of a sub-pixel are together."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """One sub-pixel at a time, written where it belongs."""
        n, _, h, w = x.shape
        picture = torch.zeros(n, 3, h * self.scale, w * self.scale, dtype=x.dtype)
        for place, colours in enumerate(x.split(3, dim=1)):
            picture[:, :, place // self.scale :: self.scale, place % self.scale :: self.scale] = colours
        return picture


def fsrcnn(width: int, scale: int) -> nn.Module:
    """Dong et al. 2016: Conv(5, d, 3) Conv(1, s, d) m x Conv(3, s, s) Conv(1, d, s), with PReLUs, DeConv(9, 3, d)."""
    layers: list[nn.Module] = [nn.Conv2d(3, width, 5, padding=2), nn.PReLU(width)]
    layers += [nn.Conv2d(width, 12, 1), nn.PReLU(12)]
    for _ in range(4):
        layers += [nn.Conv2d(12, 12, 3, padding=1), nn.PReLU(12)]
    layers += [nn.Conv2d(12, width, 1), nn.PReLU(width)]
    padding, more = {2: (4, 1), 3: (3, 0), 4: (3, 1)}[scale]
    layers += [nn.ConvTranspose2d(width, 3, 9, stride=scale, padding=padding, output_padding=more)]
    return nn.Sequential(*layers)


def espcn(width: int, scale: int, activation: type[nn.Module]) -> nn.Module:
    """Shi et al. 2016, table: f1 = 5, n1 = width, f2 = 3, n2 = width / 2, f3 = 3."""
    return nn.Sequential(
        nn.Conv2d(3, width, 5, padding=2),
        activation(),
        nn.Conv2d(width, width // 2, 3, padding=1),
        activation(),
        nn.Conv2d(width // 2, 3 * scale**2, 3, padding=1),
        Shuffled(scale),
    )


class Abpn(nn.Module):
    """Du et al. 2021, figure 3 and table 2."""

    def __init__(self, width: int, scale: int, residual: str) -> None:
        super().__init__()
        channels = [3, *[width] * 5, 3 * scale**2, 3 * scale**2]
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(channels))
        self.shuffle, self.scale, self.residual = Shuffled(scale), scale, residual

    def forward(self, x: Tensor) -> Tensor:
        """The residual where its kind says."""
        features = [x]
        for conv in self.convs[:-1]:
            last = features[-1]
            if self.residual == "feature" and len(features) == 6:
                last = last + features[1]
            features.append(F.relu(conv(last)))
        sr: Tensor = self.shuffle(self.convs[-1](features[-1]))
        if self.residual == "anchor":
            sr = sr + x.repeat_interleave(self.scale, dim=2).repeat_interleave(self.scale, dim=3)
        if self.residual == "image":
            sr = sr + nn.Upsample(scale_factor=self.scale, mode="bilinear")(x)
        return sr


class SrResNet(nn.Module):
    """ARM's: Ledig et al. 2017 without batch normalisation, LeakyReLU(0.1), bilinear base."""

    def __init__(self, width: int, scale: int) -> None:
        super().__init__()
        step, steps = (2, 2) if scale == 4 else (scale, 1)
        self.first = nn.Conv2d(3, width, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.ModuleList([nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)])
            for _ in range(16)
        )
        self.up = nn.Sequential()
        for _ in range(steps):
            self.up += nn.Sequential(
                nn.Conv2d(width, width * step**2, 3, padding=1), nn.PixelShuffle(step), nn.LeakyReLU(0.1)
            )
        wide, last = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, 3, 3, padding=1)
        self.end = nn.Sequential(wide, nn.LeakyReLU(0.1), last)
        self.base = nn.Upsample(scale_factor=scale, mode="bilinear")

    def forward(self, x: Tensor) -> Tensor:
        """Features, blocks, up, end."""
        y = F.leaky_relu(self.first(x), 0.1)
        for one, two in self.blocks:
            y = y + two(one(y).relu())
        result: Tensor = self.end(self.up(y)) + self.base(x)
        return result


class Carn(nn.Module):
    """Ahn et al. 2018, figures 2 and 3: CARN-M, groups of 4, one residual block in each cascading block."""

    def __init__(self, width: int, scale: int) -> None:
        super().__init__()
        w = width
        step, steps = (2, 2) if scale == 4 else (scale, 1)
        self.entry = nn.Conv2d(3, w, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.ModuleList(
                [
                    nn.Conv2d(w, w, 3, padding=1, groups=4),
                    nn.Conv2d(w, w, 3, padding=1, groups=4),
                    nn.Conv2d(w, w, 1),
                    nn.Conv2d(2 * w, w, 1),
                    nn.Conv2d(3 * w, w, 1),
                    nn.Conv2d(4 * w, w, 1),
                ]
            )
            for _ in range(3)
        )
        self.c1, self.c2, self.c3 = nn.Conv2d(2 * w, w, 1), nn.Conv2d(3 * w, w, 1), nn.Conv2d(4 * w, w, 1)
        self.up = nn.Sequential()
        for _ in range(steps):
            conv = nn.Conv2d(w, w * step**2, 3, padding=1, groups=4)
            self.up += nn.Sequential(conv, nn.ReLU(), nn.PixelShuffle(step))
        self.exit = nn.Conv2d(w, 3, 3, padding=1)

    @staticmethod
    def block(layers: nn.ModuleList, x: Tensor) -> Tensor:
        """A cascading block."""
        g1, g2, e, c1, c2, c3 = layers

        def residual(y: Tensor) -> Tensor:
            return (y + e(g2(g1(y).relu()).relu())).relu()

        b1 = residual(x)
        o1 = c1(torch.cat([x, b1], 1)).relu()
        b2 = residual(o1)
        o2 = c2(torch.cat([x, b1, b2], 1)).relu()
        b3 = residual(o2)
        result: Tensor = c3(torch.cat([x, b1, b2, b3], 1)).relu()
        return result

    def forward(self, x: Tensor) -> Tensor:
        """The cascade of cascading blocks."""
        mean = torch.tensor([0.4488, 0.4371, 0.4040], dtype=x.dtype)[:, None, None]
        x = self.entry(x - mean)
        b1 = self.block(self.blocks[0], x)
        o1 = self.c1(torch.cat([x, b1], 1)).relu()
        b2 = self.block(self.blocks[1], o1)
        o2 = self.c2(torch.cat([x, b1, b2], 1)).relu()
        b3 = self.block(self.blocks[2], o2)
        o3 = self.c3(torch.cat([x, b1, b2, b3], 1)).relu()
        result: Tensor = self.exit(self.up(o3)) + mean
        return result


def reference(name: str, width: int, scale: int) -> nn.Module:
    """The definition of the paper; its parameters come in the order of the backbone's."""
    kind = name.partition("-")[2]
    match name.partition("-")[0]:
        case "fsrcnn":
            return fsrcnn(width, scale)
        case "espcn":
            return espcn(width, scale, nn.ReLU if kind == "relu" else nn.Tanh)
        case "abpn":
            return Abpn(width, scale, kind or "anchor")
        case "srresnet":
            return SrResNet(width, scale)
    return Carn(width, scale)


def supernet(name: str, scale: int) -> Supernet:
    """With random weights, about as large as trained ones, and all widths."""
    depth, widths = WIDTHS[name]
    torch.manual_seed(scale)
    net = build(name, scale, {f"w{width}": (width, depth) for width in widths})
    with torch.no_grad():
        for p in net.parameters():
            p.normal_(std=0.1) if p.ndim == 1 else p.normal_(std=0.7 / p[0].numel() ** 0.5)
    return net


@pytest.mark.parametrize(("name", "width", "scale"), CASES)
def test_a_backbone_is_that_of_its_paper(name, width, scale):
    """At every width, with the leading weights."""
    net, mine = supernet(name, scale), reference(name, width, scale)
    wide = net.subnet(f"w{width}").state_dict()
    assert sum(p.numel() for p in mine.parameters()) == net.params(f"w{width}")
    with torch.no_grad():
        for target, source in zip(mine.parameters(), wide.values(), strict=True):
            target.copy_(source)
        x = torch.rand(2, 3, 11, 8)
        expected = mine(x)
        assert expected.std() > 0.01
        assert (net(x, width) - expected).abs().max() <= 1e-5


@pytest.mark.parametrize(("name", "width", "scale"), [case for case in CASES if case[2] == 4])
def test_its_onnx_is_within_a_level(name, width, scale):
    """Sizes that are free, one pixel included."""
    net = supernet(name, scale)
    session = onnxruntime.InferenceSession(onnx_bytes(net.subnet(f"w{width}")), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(width)
    for shape in ((1, 1, 1, 3), (2, 9, 14, 3)):
        pictures = rng.integers(0, 256, shape, dtype=np.uint8)
        with torch.no_grad():
            sr = net(torch.from_numpy(pictures).permute(0, 3, 1, 2) / 255, width).permute(0, 2, 3, 1)
        expected = np.clip(np.rint(sr.numpy() * 255), 0, 255)
        assert np.abs(expected - session.run(None, {"lr": pictures})[0]).max() <= 1


def test_convolutions_of_the_transposed_layer_are_constant():
    """Not made anew for every picture: OpenCV could not read that, and engines arrange constant weights beforehand."""
    import onnx

    graph = onnx.load(io.BytesIO(onnx_bytes(supernet("fsrcnn", 4).subnet("w36")))).graph
    constant = {weight.name for weight in graph.initializer}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    assert len(convolutions) == 8
    assert {source for node in convolutions for source in node.input[1:]} <= constant
    assert not [node for node in graph.node if node.op_type == "ConvTranspose"]


@pytest.mark.parametrize("name", WIDTHS)
def test_it_is_tabled_and_routed(name, photo, tmp_path):
    """From weights to a model directory, a table and pictures within budgets, on every engine that can run it."""
    subnets = {"w4": (4, 1), "w8": (8, 2)}
    recipe = Recipe(name="paper-x2", backbone=name, scale=2, subnets=subnets, stages=(Stage(steps=1),))
    torch.manual_seed(1)
    card = write_checkpoint(build(name, 2, subnets), recipe, [], tmp_path)
    assert name == card.backbone == ModelCard.load(tmp_path).backbone
    pair = Pair("photo", photo[:256], lr_bicubic(photo[:256], 2))
    backend = open_backend("onnxruntime", card)
    table_with_gains(card, backend, pair).save(tmp_path / "lut.json")

    upscaler = Upscaler(tmp_path, backend=backend)
    one_pass = backend.run("w8", pair.lr[None])[0].copy()
    keep_flat_borders(one_pass, pair.lr, 2)
    assert np.array_equal(one_pass, upscaler.upscale(pair.lr).image)
    routed = upscaler.upscale(pair.lr, "40%")
    assert 0.2 < routed.plan.cost / routed.plan.cost_largest <= 0.4
    assert len(np.unique(routed.plan.branch_map)) > 1
    engines = [engine.name for engine in usable_backends(card)]
    assert ("opencv" in engines) == build(name, 2, subnets).has_planes
    for engine in engines:
        again = Upscaler(tmp_path, backend=engine, precision="fp32").upscale(pair.lr, plan=routed.plan).image
        assert np.abs(again.astype(int) - routed.image).max() <= 2, engine


DOCS = Path(__file__).parents[2] / "docs" / "backbones.md"
ROW = re.compile(r"^\| `([\w-]+)` \| w(\d+) \| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \|", re.MULTILINE)


def test_parameters_and_macs_are_those_of_the_docs():
    """Counted there by hand, for x4."""
    rows = ROW.findall(DOCS.read_text(encoding="utf-8"))
    assert {(name, width) for name, (_, widths) in WIDTHS.items() if "-" not in name for width in widths} <= {
        (name, int(width)) for name, width, *_ in rows
    }
    for name, width, *figures in rows:
        net = build(name, 4, {"net": (int(width), WIDTHS[name][0])})
        macs = net.complexity("net").macs_per_lr_pixel
        of_arm = macs + (15 * 243 * int(width) if name == "fsrcnn" else 0)
        assert [net.params("net"), macs, of_arm] == [int(figure.replace(",", "")) for figure in figures], (name, width)


@pytest.mark.parametrize(("name", "shape"), [("carn", (30, 3)), ("espcn", (33, 1)), ("espcn", (32, 0))])
def test_a_shape_that_a_backbone_cannot_have_is_refused(name, shape):
    """Groups of channels, halves of them, a layer that must be there."""
    with pytest.raises(ArtefactError, match=r"sub-net 'odd': the width must be a multiple of"):
        build(name, 4, {"odd": shape})
