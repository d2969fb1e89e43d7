"""The compiler's side from end to end: bmodels in a folder, run in the simulator. Needs the compiler."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
from strategies import run_python

from arm_sr.backends.sophon import open_net
from arm_sr.bmodels import Bmodels
from arm_sr.tpu.build import STEPS
from arm_sr.tpu.compiler import ENVIRONMENT, CompileError, Compiler
from arm_sr.tpu.compiling import Compilation, Target

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(ENVIRONMENT not in os.environ, reason=f"no TPU compiler: {ENVIRONMENT} is not set"),
]
TILE = (48, 48)


@pytest.fixture(scope="module")
def compiler() -> Compiler:
    return Compiler(Path(os.environ[ENVIRONMENT]))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for name in ("astronaut", "coffee", "rocket", "chelsea"):
        photo = getattr(skimage.data, name)()[..., ::-1]
        cv2.imwrite(str(folder / f"{name}.png"), cv2.resize(photo, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC))
    return folder


def compile_into(out: Path, photos: Path) -> "subprocess.CompletedProcess[str]":
    """All branches of plain-x4 for one chip."""
    arguments = ["--data", photos, "--chip", "bm1688", "--precision", "INT8", "-o", out]
    return run_python("tools/compile_bmodel.py", *arguments, timeout=900)


@pytest.fixture(scope="module")
def folder(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """plain-x4 for one chip."""
    out = tmp_path_factory.mktemp("bmodels")
    done = compile_into(out, photos)
    assert 0 == done.returncode, done.stderr
    assert "| bm1688 | INT8 | w16 | 48x48 |" in done.stdout
    return out


def test_nets_are_as_good_as_they_must_be(folder: Path) -> None:
    bmodels = Bmodels.load(folder)
    assert {"bicubic", "w16", "w48", "w64"} == {net.branch for net in bmodels.nets}
    for net in bmodels.nets:
        assert net.loss_db is not None and net.loss_db < 0.15 and 8 == net.crops
        assert net.cycles > 0 and net.sha256 and bmodels.checked_file(net).is_file()
    cost = json.loads((folder / "cost_bm1688_INT8.json").read_text())
    assert "modelled" in cost["source"]
    assert "whole net" in (folder / "profile_bm1688_INT8.html").read_text()


def test_what_is_done_is_not_done_again(folder: Path, photos: Path) -> None:
    logs = sorted((folder / STEPS).rglob("*.log"))
    before = [log.stat().st_mtime_ns for log in logs if "model_tool" not in log.name]
    done = compile_into(folder, photos)
    assert 0 == done.returncode, done.stderr
    assert before == [log.stat().st_mtime_ns for log in logs if "model_tool" not in log.name]


def test_a_photo_from_end_to_end(folder: Path, tmp_path: Path) -> None:
    """Upscaled in the simulator by a plan that differs from the processor's, because the costs do."""
    photo = tmp_path / "photo.png"
    cv2.imwrite(str(photo), skimage.data.astronaut()[:96, 150:278, ::-1])
    reports = []
    for engine in ((), ("--backend", "sophon:bm1688:INT8", "--bmodels", folder)):
        out = tmp_path / f"sr{len(reports)}.png"
        done = run_python("-m", "arm_sr", "upscale", photo, "-b", "50%", "-o", out, "--json", "-", *engine)
        assert 0 == done.returncode, done.stderr
        reports.append(json.loads(done.stdout))
    assert "INT8" == reports[1]["precision"]
    assert reports[0]["branches"] != reports[1]["branches"]
    first, second = (cv2.imread(str(tmp_path / f"sr{number}.png")).astype(float) for number in (0, 1))
    assert (384, 512, 3) == second.shape
    assert 10 * np.log10(255**2 / np.mean((first - second) ** 2)) > 35


def test_the_simulator_agrees_with_the_compilers_own_reference(
    compiler: Compiler, folder: Path, tmp_path: Path
) -> None:
    """Of the same quantised net: what the compiler computes from the form that it makes the bmodel of."""
    source = folder / STEPS / "w16_48x48"
    for file in (source / "net.mlir", *source.glob("*.npz"), source / "calibration" / "table"):
        shutil.copy(file, tmp_path)
    arguments = ["--mlir", "net.mlir", "--chip", "bm1688", "--quantize", "INT8", "--calibration_table", "table"]
    compiler.run("model_deploy", [*arguments, "--model", "w16.bmodel", "--debug"], tmp_path)
    tile = skimage.data.coffee()[100:148, 200:248]
    np.savez(tmp_path / "in.npz", lr=tile.transpose(2, 0, 1)[None].astype(np.float32))
    (form,) = tmp_path.glob("*_tpu.mlir")
    compiler.run("model_runner", ["--input", "in.npz", "--model", form.name, "--output", "out.npz"], tmp_path)
    results = dict(np.load(tmp_path / "out.npz"))
    (expected,) = results["sr_Clip_f32" if "sr_Clip_f32" in results else "sr_Clip"]
    with open_net("bm1688", compiler.libraries, tmp_path / "w16.bmodel", "w16") as run:
        (result,) = run(tile[None])
    assert np.abs(result - np.rint(expected).clip(0, 255).transpose(1, 2, 0)).max() <= 1


def test_a_net_that_the_compiler_refuses(compiler: Compiler, tmp_path: Path) -> None:
    """By its node and in the compiler's words."""
    from onnx import ModelProto, TensorProto, helper

    def graph(branch: str, tile: tuple[int, int]) -> ModelProto:
        nodes = [helper.make_node("Relu", ["lr"], ["up"], "first"), helper.make_node("Det", ["up"], ["sr"], "strange")]
        ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 16, 16]) for name in ("lr", "sr")]
        net = helper.make_graph(nodes, "net", ends[:1], ends[1:])
        return helper.make_model(net, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)

    compilation = Compilation(compiler, tmp_path, graph, np.zeros((1, 16, 16, 3), np.uint8), 1)
    with pytest.raises(CompileError, match=r"on Det 'strange' \(sr\)") as error:
        compilation.compile([Target("bm1684x", "F16", "w16", (16, 16))])
    assert "Op not support" in str(error.value)
