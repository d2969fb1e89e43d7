"""State files with the names and shapes of the reference repository's ARM, made here."""

import pickle
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from strategies import run_python
from torch import Tensor

from arm_sr.api import Upscaler
from arm_sr.errors import ArtefactError
from arm_sr.models import load_model
from arm_sr.supernet.arm_weights import read_state, supernet_of

State = dict[str, Tensor]


def layer(state: State, name: str, *shape: int, bias: int | None = None) -> None:
    """A convolution's parameters, about as large as trained ones."""
    state[f"{name}.weight"] = torch.randn(shape) * 0.8 / (shape[1] * shape[2] * shape[3]) ** 0.5
    state[f"{name}.bias"] = torch.randn(shape[0] if bias is None else bias) * 0.05


def fsrcnn() -> State:
    """Its 56 features, 12 in between, four layers with one PReLU after them; a slope is one number."""
    state: State = {}
    layer(state, "head_conv.0", 56, 3, 5, 5)
    layer(state, "body_conv.0.0", 12, 56, 1, 1)
    for number in range(1, 5):
        layer(state, f"body_conv.{number}", 12, 12, 3, 3)
    layer(state, "body_conv.6.0", 56, 12, 1, 1)
    layer(state, "tail_conv", 56, 3, 9, 9, bias=3)
    for slope in ("head_conv.1", "body_conv.0.1", "body_conv.5", "body_conv.6.1"):
        state[f"{slope}.weight"] = torch.rand(1) * 0.5
    return state


def carn(scale: int) -> State:
    """64 channels, groups of 4, shared residual blocks; the mean in layers of its own."""
    state: State = {}
    for name, sign in (("sub_mean", -1), ("add_mean", 1)):
        state[f"{name}.weight"] = torch.eye(3).reshape(3, 3, 1, 1)
        state[f"{name}.bias"] = sign * torch.tensor([0.4488, 0.4371, 0.4040])
    layer(state, "entry", 64, 3, 3, 3)
    for block in ("b1", "b2", "b3"):
        layer(state, f"{block}.b1.body.0", 64, 16, 3, 3)
        layer(state, f"{block}.b1.body.2", 64, 16, 3, 3)
        layer(state, f"{block}.b1.body.4", 64, 64, 1, 1)
        for number in (1, 2, 3):
            layer(state, f"{block}.c{number}.0", 64, 64 * (number + 1), 1, 1)
    for number in (1, 2, 3):
        layer(state, f"c{number}.0", 64, 64 * (number + 1), 1, 1)
    for place in (0, 3) if scale == 4 else (0,):
        layer(state, f"upsample.up.body.{place}", 64 * (9 if scale == 3 else 4), 16, 3, 3)
    layer(state, "exit", 3, 64, 3, 3)
    return state


def srresnet(scale: int) -> State:
    """64 channels, 16 blocks."""
    state: State = {}
    layer(state, "conv_first", 64, 3, 3, 3)
    for block in range(16):
        layer(state, f"recon_trunk.{block}.conv1", 64, 64, 3, 3)
        layer(state, f"recon_trunk.{block}.conv2", 64, 64, 3, 3)
    layer(state, "upconv1", 64 * (9 if scale == 3 else 4), 64, 3, 3)
    if scale == 4:
        layer(state, "upconv2", 256, 64, 3, 3)
    layer(state, "HRconv", 64, 64, 3, 3)
    layer(state, "conv_last", 3, 64, 3, 3)
    return state


class Narrow:
    """The parameters of a sub-net, called by name on a picture, sliced as the reference does."""

    def __init__(self, state: State, width: int, widest: int) -> None:
        self.state, self.share = state, width / widest

    def conv(self, name: str, x: Tensor, groups: int = 1, fixed: bool = False) -> Tensor:
        """`fixed`: all its output channels in every sub-net."""
        weight, bias = self.state[f"{name}.weight"], self.state[f"{name}.bias"]
        out = len(weight) if fixed else int(len(weight) * self.share)
        weight = weight[:out, : x.shape[1] // groups]
        return F.conv2d(x, weight, bias[:out], padding=weight.shape[2] // 2, groups=groups)


def run_fsrcnn(net: Narrow, x: Tensor, scale: int) -> Tensor:
    """The reference's forward pass."""
    slope = net.state
    x = F.prelu(net.conv("head_conv.0", x), slope["head_conv.1.weight"])
    x = F.prelu(net.conv("body_conv.0.0", x, fixed=True), slope["body_conv.0.1.weight"])
    for number in range(1, 5):
        x = net.conv(f"body_conv.{number}", x, fixed=True)
    x = F.prelu(x, slope["body_conv.5.weight"])
    x = F.prelu(net.conv("body_conv.6.0", x), slope["body_conv.6.1.weight"])
    weight = net.state["tail_conv.weight"][: x.shape[1]]
    return F.conv_transpose2d(x, weight, net.state["tail_conv.bias"], stride=4, padding=3, output_padding=1)


def run_carn(net: Narrow, x: Tensor, scale: int) -> Tensor:
    """The reference's forward pass."""

    def residual(block: str, x: Tensor) -> Tensor:
        y = net.conv(f"{block}.b1.body.0", x, groups=4).relu()
        y = net.conv(f"{block}.b1.body.2", y, groups=4).relu()
        return (net.conv(f"{block}.b1.body.4", y) + x).relu()

    def cascade(prefix: str, run: Callable[[int, Tensor], Tensor], x: Tensor) -> Tensor:
        together, out = x, x
        for number in range(3):
            together = torch.cat([together, run(number, out)], dim=1)
            out = net.conv(f"{prefix}c{number + 1}.0", together).relu()
        return out

    def block(number: int, x: Tensor) -> Tensor:
        name = f"b{number + 1}"
        return cascade(f"{name}.", lambda _, y: residual(name, y), x)

    x = net.conv("sub_mean", x, fixed=True)
    x = cascade("", block, net.conv("entry", x))
    for place in (0, 3) if scale == 4 else (0,):
        x = F.pixel_shuffle(net.conv(f"upsample.up.body.{place}", x, groups=4).relu(), 3 if scale == 3 else 2)
    return net.conv("add_mean", net.conv("exit", x, fixed=True), fixed=True)


def run_srresnet(net: Narrow, x: Tensor, scale: int) -> Tensor:
    """The reference's forward pass."""
    base = F.interpolate(x, scale_factor=scale, mode="bilinear", align_corners=False)
    x = F.leaky_relu(net.conv("conv_first", x), 0.1)
    for block in range(16):
        x = x + net.conv(f"recon_trunk.{block}.conv2", net.conv(f"recon_trunk.{block}.conv1", x).relu())
    for number in (1, 2) if scale == 4 else (1,):
        x = F.leaky_relu(F.pixel_shuffle(net.conv(f"upconv{number}", x), 3 if scale == 3 else 2), 0.1)
    return net.conv("conv_last", F.leaky_relu(net.conv("HRconv", x), 0.1), fixed=True) + base


Forward = Callable[[Narrow, Tensor, int], Tensor]
FILES: dict[str, tuple[Callable[[], State], Forward, int, tuple[int, ...]]] = {
    "fsrcnn": (fsrcnn, run_fsrcnn, 4, (16, 36, 56)),
    **{f"carn x{scale}": (lambda scale=scale: carn(scale), run_carn, scale, (36, 52, 64)) for scale in (2, 3, 4)},
    **{f"srresnet x{s}": (lambda scale=s: srresnet(scale), run_srresnet, s, (36, 54, 64)) for s in (2, 3, 4)},
}


@pytest.mark.parametrize("name", FILES)
def test_a_sub_net_gives_the_picture_of_the_reference(name):
    """At each of the paper's widths."""
    torch.manual_seed(0)
    make, forward, scale, widths = FILES[name]
    state = make()
    backbone, net = supernet_of(state)
    assert (name.partition(" ")[0], scale) == (backbone, net.scale)
    assert [f"w{width}" for width in widths] == list(net.subnets)
    x = torch.rand(1, 3, 9, 12)
    with torch.no_grad():
        for width in widths:
            expected = forward(Narrow(state, width, widths[-1]), x, scale)
            assert (net(x, width) - expected).abs().max() < 1e-5 * max(1, expected.abs().max())


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_file_is_imported_tabled_and_routed(prefix, tmp_path, photo):
    """From the command line, as the tool's help says; `module.` is what DataParallel puts before the names."""
    state = {prefix + name: tensor for name, tensor in fsrcnn().items()}
    torch.save(state, tmp_path / "latest.pth")
    done = run_python("tools/import_arm.py", tmp_path / "latest.pth", "-o", tmp_path / "arm-fsrcnn")
    assert done.returncode == 0, done.stderr
    card = load_model(str(tmp_path / "arm-fsrcnn"))
    assert ("arm-fsrcnn", "fsrcnn", 4) == (card.name, card.backbone, card.scale)
    assert ("bicubic", "w16", "w36", "w56") == card.branches
    assert "latest.pth" == card.training["imported"]
    if prefix:
        return
    (tmp_path / "photos").mkdir()
    Image.fromarray(photo).save(tmp_path / "photos" / "a.png")
    arguments = ("-m", card.folder, "--data", tmp_path / "photos", "--all-files", "--bins", "4")
    done = run_python("tools/build_lut.py", *arguments)
    assert done.returncode == 0, done.stderr
    Image.fromarray(photo[:100, :120]).save(tmp_path / "small.png")
    arguments = (tmp_path / "small.png", "-m", card.folder, "-b", "40%", "-o", tmp_path / "large.png")
    done = run_python("-m", "arm_sr", "upscale", *arguments)
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "large.png") as large:
        assert large.size == (480, 400)
    result = Upscaler(card.folder).upscale(photo[:64, :64], width="w36")
    assert result.image.shape == (256, 256, 3)


def test_other_widths_may_be_asked_for(tmp_path):
    """The widest is what the file has."""
    _, net = supernet_of(fsrcnn(), (8, 56))
    assert ["w8", "w56"] == list(net.subnets)
    with pytest.raises(ArtefactError, match="56 wide"):
        supernet_of(fsrcnn(), (16, 36))


def changed(state: State, name: str, tensor: Tensor | None) -> State:
    """With another tensor of that name, or none."""
    return {key: value for key, value in (state | {name: tensor}).items() if value is not None}


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (changed(fsrcnn(), "body_conv.0.0.weight", None), "'body_conv.0.0.weight' of ARM's fsrcnn is missing"),
        (changed(fsrcnn(), "tail_conv.weight", torch.zeros(56, 3, 7, 7)), r"'tail_conv.weight' is \(56, 3, 7, 7\)"),
        (changed(fsrcnn(), "body_conv.3.weight", None), "'body_conv.3.weight' of ARM's fsrcnn is missing"),
        (changed(fsrcnn(), "body_conv.5.weight", torch.full((1,), torch.inf)), "'body_conv.5.weight' .* not finite"),
        (changed(fsrcnn(), "head_conv.0.weight", torch.tensor(1.0)), "'head_conv.0.weight' must have four axes, not 0"),
        ({"head_conv.0.weight": torch.zeros(56, 3, 5, 5)}, "'head_conv.0.bias' of ARM's fsrcnn is missing"),
        (changed(carn(4), "entry.weight", torch.zeros(64)), "'entry.weight' must have four axes"),
        (changed(fsrcnn(), "more.weight", torch.zeros(1)), "'more.weight' is not in ARM's fsrcnn"),
        (changed(fsrcnn(), "head_conv.0.bias", torch.full((56,), torch.nan)), "'head_conv.0.bias' .* not finite"),
        (changed(carn(4), "add_mean.bias", torch.zeros(3)), "'add_mean.bias' is not the constant"),
        (changed(carn(4), "sub_mean.weight", None), "'sub_mean.weight' of ARM's carn is missing"),
        (changed(carn(4), "upsample.up.body.3.bias", None), "'upsample.up.body.3.bias' of ARM's carn is missing"),
        (changed(srresnet(4), "recon_trunk.3.conv1.weight", None), "'recon_trunk.3.conv1.weight' .* is missing"),
        ({k: v for k, v in srresnet(4).items() if "trunk" not in k}, "'recon_trunk.0.conv1.weight' .* is missing"),
        ({"features.0.weight": torch.zeros(3)}, "'features.0.weight' is of none of ARM's networks"),
    ],
)
def test_the_first_parameter_that_differs_is_named(state, message):
    """Missing, of another shape, unknown, or a constant that is another."""
    with pytest.raises(ArtefactError, match=message):
        supernet_of(state)


class Malicious:
    """Makes a file when it is unpickled by someone careless."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.target,))


def test_files_that_are_no_weights_are_refused_in_one_sentence(tmp_path):
    """Truncated, empty, a picture, a training state, pickled code, which is not run; each message names the file."""
    whole, file, touched = tmp_path / "whole.pth", tmp_path / "file.pth", tmp_path / "touched"
    torch.save(fsrcnn(), whole)
    torch.save({"iter": 3, "hmap": np.zeros(2), "net": fsrcnn()}, tmp_path / "training.state")
    torch.save({"iter": 3, "net": fsrcnn()}, tmp_path / "numbers.state")
    torch.save({"weight": Malicious(touched)}, tmp_path / "malicious.pth")
    legacy = {"weight": Malicious(touched)}
    (tmp_path / "legacy.pth").write_bytes(pickle.dumps(legacy))
    torch.save([1, 2], tmp_path / "list.pth")
    bad = [tmp_path / name for name in ("training.state", "numbers.state", "malicious.pth", "legacy.pth", "list.pth")]
    for path in [*bad, tmp_path / "missing.pth", tmp_path]:
        with pytest.raises(ArtefactError, match=str(path)):
            read_state(path)
    data = whole.read_bytes()
    for length in (0, 1, 100, len(data) // 2, len(data) - 30):
        file.write_bytes(data[:length])
        with pytest.raises(ArtefactError, match=str(file)):
            read_state(file)
    torch.save(fsrcnn(), whole, _use_new_zipfile_serialization=False)
    data = whole.read_bytes()
    rng = np.random.default_rng(0)
    for place in rng.integers(0, 3000, 60):  # where the names and shapes are
        file.write_bytes(data[:place] + bytes([rng.integers(256)]) + data[place + 1 :])
        with suppress(ArtefactError):
            supernet_of(read_state(file))
    for damaged in (b"\x80\x02.", data[:700]):
        file.write_bytes(damaged)
        with pytest.raises(ArtefactError, match=str(file)):
            read_state(file)
    file.write_bytes(b"\x89PNG\r\n" + bytes(100))
    done = run_python("tools/import_arm.py", file, "-o", tmp_path / "out")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert f"import_arm.py: error: {file}: not a PyTorch state file" in done.stderr
    assert not touched.exists()
    assert not (tmp_path / "out").exists()
