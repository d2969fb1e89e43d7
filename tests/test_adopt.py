"""ONNX networks of others as branches: every form that is accepted, and those that are refused."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from strategies import ROOT, run_python, table_with_gains
from torch import Tensor, nn

from arm_sr.adopt import adopt
from arm_sr.api import Upscaler
from arm_sr.backends import open_backend, usable_backends
from arm_sr.calibration import calibrate
from arm_sr.cost import CostTable
from arm_sr.errors import ArtefactError, BackendError, UsageError
from arm_sr.evaluation.pairs import Pair
from arm_sr.imaging.resample import lr_bicubic
from arm_sr.models import ModelCard, load_model


class Residual(nn.Module):
    """The repeated pixel and two convolutions, the second to the sub-pixels: floats in 0..1, NCHW."""

    def __init__(self, scale: int = 2, width: int = 6) -> None:
        super().__init__()
        torch.manual_seed(width)
        self.scale = scale
        self.first, self.last = nn.Conv2d(3, width, 3, padding=1), nn.Conv2d(width, 3 * scale**2, 3, padding=1)
        nn.init.normal_(self.last.weight, std=0.03)
        nn.init.normal_(self.last.get_parameter("bias"), std=0.01)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, 3, scale * H, scale * W)."""
        residual = F.pixel_shuffle(self.last(F.relu(self.first(x))), self.scale)
        return residual + F.interpolate(x, scale_factor=self.scale, mode="nearest")


class Wrapped(nn.Module):
    """Another interface around it."""

    def __init__(self, net: nn.Module, before: Callable[[Tensor], Tensor], after: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.net, self.before, self.after = net, before, after

    def forward(self, x: Tensor) -> Tensor:
        """As the interface says."""
        return self.after(self.net(self.before(x)))


def levels(x: Tensor) -> Tensor:
    """0..1 to uint8."""
    return (x * 255).clamp(0, 255).round().to(torch.uint8)


NCHW, NHWC = (1, 3, 20, 28), (1, 20, 28, 3)
FORMS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], torch.dtype, tuple[int, ...]]] = {
    "nchw 0..1": (Residual, NCHW, torch.float32, (0, 2, 3)),
    "nchw 0..255": (lambda: Wrapped(Residual(), lambda x: x / 255, lambda y: y * 255), NCHW, torch.float32, (0, 2, 3)),
    "nhwc 0..1": (
        lambda: Wrapped(Residual(), lambda x: x.permute(0, 3, 1, 2), lambda y: y.permute(0, 2, 3, 1)),
        NHWC,
        torch.float32,
        (0, 1, 2),
    ),
    "uint8 nhwc": (
        lambda: Wrapped(Residual(), lambda x: x.permute(0, 3, 1, 2) / 255, lambda y: levels(y.permute(0, 2, 3, 1))),
        NHWC,
        torch.uint8,
        (0, 1, 2),
    ),
    "uint8 nchw": (lambda: Wrapped(Residual(), lambda x: x / 255, levels), NCHW, torch.uint8, (0, 2, 3)),
    "one picture at a time": (Residual, NCHW, torch.float32, (2, 3)),
    "one size, which needs not be": (Residual, NCHW, torch.float32, ()),
    "one size": (
        lambda: Wrapped(Residual(), lambda x: x.reshape(1, 3, 560).reshape(1, 3, 20, 28), lambda y: y),
        NCHW,
        torch.float32,
        (),
    ),
    "two pictures of one size": (
        lambda: Wrapped(Residual(), lambda x: x.reshape(2, 3, 560).reshape(2, 3, 20, 28), lambda y: y),
        (2, *NCHW[1:]),
        torch.float32,
        (),
    ),
}
"""Network, shape and type of its input, and the axes that its file says are free."""
SHAPES = {"one size": (1, 20, 28), "two pictures of one size": (2, 20, 28)}


def export(net: nn.Module, path: Path, shape: tuple[int, ...] = NCHW, kind: torch.dtype = torch.float32,
           free: tuple[int, ...] = (0, 2, 3), opset: int = 17) -> Path:  # fmt: skip
    """`net` as an ONNX file."""
    axes = {"in": {axis: f"a{axis}" for axis in free}, "out": {axis: f"b{axis}" for axis in free}} if free else None
    torch.onnx.export(
        net.eval(), (torch.zeros(shape, dtype=kind),), path, input_names=["in"], output_names=["out"],
        dynamic_axes=axes, opset_version=opset, dynamo=False,
    )  # fmt: skip
    return path


pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")


def assert_routed(card: ModelCard, photo: np.ndarray) -> None:
    """A table of the model is measured, and pictures within budgets cost what was planned."""
    pair = Pair("photo", photo[:256], lr_bicubic(photo[:256], 2))
    backend = open_backend("onnxruntime", card)
    table_with_gains(card, backend, pair).save(card.folder / "lut.json")
    upscaler = Upscaler(card.folder, backend=backend)
    for budget in ("20%", "50%", "80%"):
        result = upscaler.upscale(pair.lr, budget)
        assert result.plan.cost == pytest.approx(result.stats["macs"]["computed"])
        assert 0 < result.plan.cost <= float(budget[:-1]) / 100 * result.plan.cost_largest
        assert result.plan.branch_map.any()
    assert upscaler.upscale(pair.lr, deadline="10s").stats["branches"]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_pictures_of_the_network(form, photo, tmp_path):
    """Of any size, one pixel and batches included, on every engine; a net of one size in tiles."""
    make, shape, kind, free = FORMS[form]
    card = adopt([export(make(), tmp_path / "net.onnx", shape, kind, free)], tmp_path / "model")
    net = card.subnets["net"]
    assert (2, ("bicubic", "net")) == (card.scale, card.branches)
    assert card == ModelCard.load(tmp_path / "model")
    assert SHAPES.get(form, (0, 0, 0)) == net.shape
    assert 3 * 6 * 9 + 6 * 12 * 9 == net.macs_per_lr_pixel
    assert (12, 2) == (net.width, net.convs)
    assert 1 <= card.halo <= net.receptive_radius <= 2
    plain = Residual()
    backends = list(usable_backends(card))
    assert {"onnxruntime"} <= {backend.name for backend in backends} <= {"onnxruntime", "openvino"}
    for backend in backends:
        for height, width in ((1, 1), (20, 28), (33, 50)):
            batch = np.stack([photo[top : top + height, 2 * top : 2 * top + width] for top in (0, 60, 90)])
            with torch.no_grad():
                expected = plain(torch.from_numpy(batch).permute(0, 3, 1, 2) / 255).permute(0, 2, 3, 1).numpy() * 255
            sr = backend.run("net", batch)
            # Smaller ones are padded by their mirror image, where the network pads with zeros.
            if form in SHAPES and (height < 20 or width < 28):
                assert sr.shape == expected.shape
            elif backend.precision == "fp32":
                assert np.abs(sr - expected.clip(0, 255)).max() <= 0.51, (backend.name, height, width)
    assert_routed(card, photo)


def weights_as_inputs(model: onnx.ModelProto) -> None:
    """As ONNX of 2018 wanted it."""
    for weight in model.graph.initializer:
        model.graph.input.append(onnx.helper.make_tensor_value_info(weight.name, weight.data_type, weight.dims))


def shared_weights(model: onnx.ModelProto) -> None:
    """A weight that goes through an operator first."""
    (conv, *_) = (node for node in model.graph.node if node.op_type == "Conv")
    model.graph.node.insert(0, onnx.helper.make_node("Identity", [conv.input[1]], ["again"]))
    conv.input[1] = "again"


@pytest.mark.parametrize("change", [weights_as_inputs, shared_weights])
@pytest.mark.parametrize("opset", [11, 17])
def test_files_may_be_old_or_odd(change, opset, tmp_path, photo):
    """The pictures and the cost are the same."""
    expected = adopt([export(Residual(), tmp_path / "net.onnx")], tmp_path / "plain")
    file = export(Residual(), tmp_path / "net.onnx", opset=opset)
    model = onnx.load(file)
    change(model)
    onnx.save(model, file)
    card = adopt([file], tmp_path / "odd")
    assert expected.subnets["net"].macs_per_lr_pixel == card.subnets["net"].macs_per_lr_pixel
    one, other = (open_backend("onnxruntime", each).run("net", photo[None, :40, :50]) for each in (expected, card))
    assert np.array_equal(one, other)


def test_networks_are_branches_cheapest_first(tmp_path, photo):
    """With plans, budgets and measured costs as for our own; the name of a branch is that of its file."""
    widths = {"big one": 24, "small": 4}
    files = [export(Residual(width=width), tmp_path / f"{name}.onnx") for name, width in widths.items()]
    card = adopt(files, tmp_path / "two")
    assert ("bicubic", "small", "big-one") == card.branches
    assert "two" == card.name
    with pytest.raises(BackendError, match="adopted"):
        open_backend("pytorch", card)
    with pytest.raises(ArtefactError, match="adopted"):
        open_backend("opencv", card).load("small")
    upscaler = Upscaler(tmp_path / "two", backend="onnxruntime")
    alone = upscaler.upscale(photo[:50, :70], width="small").image
    assert np.array_equal(upscaler.backend.run("small", photo[None, :50, :70])[0], alone)
    cost = calibrate(upscaler.card, upscaler.backend)
    assert card.branches == cost.branches
    assert min(cost.one_pass(1, 10**5), cost.one_pass(2, 10**5)) > 0
    assert (np.diff(CostTable.of_macs(card).per_pixel) > 0).all()

    assert_routed(card, photo)


class Attention(Residual):
    """Channels weighted by their means over the whole picture."""

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return super().forward(x) * (0.5 + x.mean(dim=(2, 3), keepdim=True).repeat(1, 1, 1, 1))


class Gate(Residual):
    """Only the residual is weighted, and mildly."""

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        repeated = F.interpolate(x, scale_factor=self.scale, mode="nearest")
        return repeated + (super().forward(x) - repeated) * (1 + x.mean(dim=(1, 2, 3), keepdim=True))


class Positions(Residual):
    """Every other row brighter."""

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        rows = torch.arange(x.shape[2] * self.scale)[:, None] // 2 % 2
        return super().forward(x) * (1 + 0.1 * rows)


REFUSED: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], str]] = {
    "another kind of network": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(1680, 10)), NCHW, "axes"),
    "no larger": (lambda: nn.Conv2d(3, 3, 3, padding=1), NCHW, "no super-resolution: it takes 144x144 to 144x144"),
    "larger in one direction": (lambda: nn.Upsample(scale_factor=(2, 3)), NCHW, "no multiple"),
    "other colours": (lambda: nn.Sequential(nn.Conv2d(3, 4, 1), nn.Upsample(scale_factor=2)), NCHW, "4 channels, not"),
    "grey": (lambda: nn.Upsample(scale_factor=2), (1, 1, 20, 28), "no three channels"),
    "noise": (lambda: nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), nn.PixelShuffle(2)), NCHW, "dB on a picture"),
    "attention": (Attention, NCHW, "cannot be cut into tiles"),
    "a mild gate": (Gate, NCHW, "cannot be cut into tiles"),
    "interpolation": (lambda: nn.Upsample(scale_factor=2), NCHW, "no convolution"),
    "positions": (Positions, NCHW, "cannot be cut into tiles"),
    "vectors": (lambda: nn.Linear(3, 3), (1, 3), "four axes"),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_cannot_be_a_branch_is_refused(reason, tmp_path):
    """With the file and the reason, and nothing is written."""
    make, shape, message = REFUSED[reason]
    free = () if reason in ("another kind of network", "vectors") else (0, 2, 3)
    file = export(make(), tmp_path / "net.onnx", shape, free=free)
    with pytest.raises(ArtefactError, match=f"{file}: .*{message}"):
        adopt([file], tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_files_that_do_not_go_together_are_refused(tmp_path):
    """Another scale, the same name, no ONNX, two inputs."""
    two, three = (export(Residual(scale), tmp_path / f"x{scale}.onnx") for scale in (2, 3))
    with pytest.raises(ArtefactError, match=r"x3\.onnx: enlarges by 3, .*x2\.onnx by 2"):
        adopt([two, three], tmp_path / "model")
    with pytest.raises(UsageError, match="a name of its own"):
        adopt([two, two], tmp_path / "model")
    (tmp_path / "cut.onnx").write_bytes(two.read_bytes()[:200])
    (tmp_path / "text.onnx").write_text("nothing of the kind")
    for name in ("cut.onnx", "text.onnx", "missing.onnx"):
        with pytest.raises(ArtefactError, match=f"{tmp_path / name}: not an ONNX model"):
            adopt([tmp_path / name], tmp_path / "model")
    double = onnx.load(two)
    double.graph.input.append(onnx.helper.make_tensor_value_info("more", onnx.TensorProto.FLOAT, [1]))
    onnx.save(double, tmp_path / "double.onnx")
    with pytest.raises(ArtefactError, match=r"double\.onnx: needs one input and one output, not 2 and 1"):
        adopt([tmp_path / "double.onnx"], tmp_path / "model")
    assert not (tmp_path / "model").exists()
    before = two.read_bytes()
    with pytest.raises(UsageError, match=r"x2\.onnx would be overwritten"):
        adopt([two], tmp_path)
    assert before == two.read_bytes()


def test_what_is_found_can_be_overridden(tmp_path):
    """A network for which the wrong range would give the better picture."""
    file = export(Residual(), tmp_path / "net.onnx")
    model = adopt([file], tmp_path / "model", white=255)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    x = np.full((1, 6, 6, 3), 100, np.uint8)
    (expected,) = session.run(None, {"in": x.transpose(0, 3, 1, 2).astype(np.float32)})
    sr = open_backend("onnxruntime", model).run("net", x)
    assert np.abs(expected.transpose(0, 2, 3, 1).clip(0, 255) - sr).max() <= 0.51
    with pytest.raises(ArtefactError, match=r"net\.onnx"):
        adopt([file], tmp_path / "other", layout="nhwc")


@pytest.mark.slow
def test_the_example_of_the_docs_is_adopted_tabled_and_routed(tmp_path, photo):
    """From the command line, from the text of docs/adopt.md."""
    text = (ROOT / "docs" / "adopt.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (tmp_path / "example.py").write_text(example.replace('"mine.onnx"', repr(str(tmp_path / "mine.onnx"))))
    done = run_python(tmp_path / "example.py")
    assert done.returncode == 0, done.stderr
    done = run_python("tools/adopt_onnx.py", tmp_path / "mine.onnx", "-o", tmp_path / "model")
    assert done.returncode == 0, done.stderr
    assert "x4, nchw 0..1, any size" in done.stderr
    (tmp_path / "photos").mkdir()
    Image.fromarray(photo).save(tmp_path / "photos" / "a.png")
    done = run_python(
        "tools/build_lut.py", "-m", tmp_path / "model", "--data", tmp_path / "photos", "--all-files", "--bins", "4"
    )
    assert done.returncode == 0, done.stderr
    Image.fromarray(photo[:100, :120]).save(tmp_path / "small.png")
    arguments = (tmp_path / "small.png", "-m", tmp_path / "model", "-b", "60%", "-o", tmp_path / "l.png")
    done = run_python("-m", "arm_sr", "upscale", *arguments)
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "l.png") as large:
        assert large.size == (480, 400)
    assert load_model(str(tmp_path / "model")).backbone == "onnx"
    done = run_python("tools/adopt_onnx.py", tmp_path / "example.py", "-o", tmp_path / "other")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
