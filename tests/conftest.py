"""What the tests share: a small model with its table, and a photo."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import skimage.io
import torch
from strategies import run_python

from arm_sr import calibration
from arm_sr.imaging.metrics import psnr_of_mse
from arm_sr.lut import EdgeTable
from arm_sr.models import INTERPOLATOR
from arm_sr.supernet.backbones import build
from arm_sr.supernet.export import write_checkpoint
from arm_sr.training.config import Recipe, Stage


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Results to the bit must not depend on the number of processors."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _own_calibration(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What this machine was measured to be, and the engine that `auto` therefore takes, is no matter of tests; where it
    is measured in them, one round is enough."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(calibration, "LONGEST", 0.0)
        yield


@pytest.fixture(scope="session")
def photo() -> np.ndarray:
    """A photo, uint8 (512, 512, 3)."""
    return skimage.data.astronaut()


@pytest.fixture(scope="session")
def simulator() -> Path:
    """The compiler's folder of libraries, with its runtime and simulators."""
    compiler = os.environ.get("ARM_SR_TPU_ENV")
    if not compiler:
        pytest.skip("ARM_SR_TPU_ENV is not set: the Python environment with the compiler tpu_mlir")
    found = sorted(Path(compiler).glob("lib/python*/site-packages/tpu_mlir/lib/libbmrt.so"))
    if not found:
        pytest.skip(f"{compiler}: no tpu_mlir there")
    return found[0].parent


@pytest.fixture(scope="session")
def tiny_bmodels(simulator: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The small model compiled for bm1688 INT8, and the simulator to run it."""
    photos, folder = tmp_path_factory.mktemp("photos"), tmp_path_factory.mktemp("bmodels")
    for name in ("astronaut", "coffee", "rocket", "chelsea"):
        skimage.io.imsave(photos / f"{name}.png", getattr(skimage.data, name)())
    arguments = ["-m", tiny_model, "--data", photos, "--chip", "bm1688", "--precision", "INT8", "--tile", "24", "32"]
    done = run_python("tools/compile_bmodel.py", *arguments, "-o", folder, timeout=600)
    assert 0 == done.returncode, done.stderr
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ARM_SR_SOPHON_LIB", str(simulator))
        yield folder


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model x2 with random weights, two widths and depths, and a table as training would give it."""
    out = tmp_path_factory.mktemp("models") / "tiny-x2"
    subnets = {"w4": (4, 1), "w8": (8, 2)}
    recipe = Recipe(name="tiny-x2", backbone="plain", scale=2, subnets=subnets, stages=(Stage(steps=1),))
    torch.manual_seed(7)
    net = build(recipe.backbone, recipe.scale, recipe.subnets)
    # A fresh tail is so small that all branches would give nearest-neighbour interpolation.
    torch.nn.init.normal_(net.tail.weight, std=0.02)
    card = write_checkpoint(net, recipe, [{"source": "random numbers", "licence": "CC0"}], out)

    edges = np.array([0.0, 30.0, 120.0, 500.0, 1500.0, 5000.0, 65025.0])
    of_bins = np.array([1.0, 5.0, 20.0, 80.0, 200.0, 500.0])
    of_branches = np.array([1.0, 0.8, 0.7])
    mse = np.outer(of_bins, of_branches)
    table = EdgeTable(
        model=card.name,
        model_sha256=card.sha256,
        patch=16,
        score="laplacian4-energy",
        interpolator=INTERPOLATOR,
        branches=card.branches,
        edges=edges,
        counts=np.full(6, 100),
        psnr=np.vectorize(psnr_of_mse)(mse),
        mse=mse,
        rank_correlation=dict.fromkeys(card.branches, -0.9),
        data={"name": "synthetic", "images": 1, "patches": 600},
    )
    table.save(out / "lut.json")
    return out
