"""What takes part in a benchmark."""

import pickle
import types
from pathlib import Path

import cv2
import numpy as np
import pytest

from arm_sr import ArtefactError, BackendError, Upscaler, UsageError
from arm_sr.cost import CostTable
from arm_sr.evaluation.arm_procedure import upscale_like_arm
from arm_sr.evaluation.arms import (
    Engine,
    interpolation_arm,
    onnx_arm,
    procedure_arm,
    routed_arm,
    static_arms,
    superres_arm,
    trade_off_arm,
)
from arm_sr.models import ModelCard
from arm_sr.stitch import interpolate


@pytest.fixture
def engine(tiny_model: Path) -> Engine:
    """The reference with the random model."""
    return Engine.of(str(tiny_model), "onnxruntime")


def test_arms_of_an_engine_do_what_they_are_called(engine: Engine, tiny_model: Path, photo: np.ndarray) -> None:
    """Also after a journey to another process; one backend serves all of them."""
    lr = np.ascontiguousarray(photo[100:150, 150:200])
    card = ModelCard.load(tiny_model)
    cost = CostTable("ms", card.branches, np.zeros(3), np.array([0.0, 1.0, 5.0]), "made up")
    whole, within = Upscaler(tiny_model), Upscaler(tiny_model, cost=cost)
    expected = {
        ("static", "w4"): whole.backend.run("w4", lr[None])[0],
        ("static", "w8"): whole.backend.run("w8", lr[None])[0],
        ("time", "40%"): within.upscale(lr, "40%").image,
        ("trade-off", "eta 0.5"): within.upscale(lr, eta=0.5, objective="mse").image,
        ("arm", "eta 2"): upscale_like_arm(whole, lr, 2.0)[0],
    }
    arms = [*static_arms(engine), routed_arm(engine, "40%", cost), trade_off_arm(engine, "0.5", cost)]
    arms.append(procedure_arm(engine, "2", None))
    assert list(expected) == [(arm.rule, arm.value) for arm in arms]
    for arm, sr in zip(arms, expected.values(), strict=True):
        assert arm.engine == "onnxruntime fp32"
        shown, ms = pickle.loads(pickle.dumps(arm)).open()(lr)
        assert np.array_equal(sr, shown)
        assert ms > 0
    assert engine.upscaler(cost=cost).backend is engine.upscaler().backend
    interpolated = interpolation_arm(2)
    assert np.array_equal(interpolate(lr, 2), interpolated.open()(lr)[0])
    assert ("opencv", "static", "bicubic") == (interpolated.engine, interpolated.rule, interpolated.value)


def test_an_engine_is_named_with_its_precision(tiny_model: Path) -> None:
    """Or has its own default."""
    assert Engine(str(tiny_model), "openvino", "fp32") == Engine.of(str(tiny_model), "openvino")
    assert Engine.of(str(tiny_model), "openvino:fp32") == Engine.of(str(tiny_model), "openvino")
    assert "onnxruntime fp32" == str(Engine.of(str(tiny_model), "auto"))
    with pytest.raises(UsageError, match="no precision 'bf16'"):
        Engine.of(str(tiny_model), "onnxruntime:bf16")


def test_a_wrong_eta_is_refused_at_once(engine: Engine) -> None:
    """Before anything runs."""
    with pytest.raises(UsageError, match="eta 'x'"):
        procedure_arm(engine, "x", None)
    with pytest.raises(UsageError, match="eta '-1'"):
        trade_off_arm(engine, "-1", CostTable.of_macs(ModelCard.load(Path(engine.model))))


def test_a_network_is_run_by_its_file(tiny_model: Path, photo: np.ndarray) -> None:
    """As the same sub-net of the model."""
    arm = onnx_arm(tiny_model / "w8.onnx", 2)
    lr = np.ascontiguousarray(photo[100:150, 150:200])
    assert np.array_equal(Upscaler(tiny_model).backend.run("w8", lr[None])[0], arm.open()(lr)[0])
    assert ("onnx", "w8.onnx") == (arm.rule, arm.value)


def test_a_file_that_is_no_network_is_named(tmp_path: Path) -> None:
    """With what is wrong."""
    (tmp_path / "a.onnx").write_bytes(b"no network")
    with pytest.raises(ArtefactError, match=str(tmp_path / "a.onnx")):
        onnx_arm(tmp_path / "a.onnx", 2).open()


def test_a_network_of_another_scale_is_named(tiny_model: Path) -> None:
    """It makes x2."""
    with pytest.raises(ArtefactError, match=r"w8.onnx: makes \(34, 40, 3\) .* not x4"):
        onnx_arm(tiny_model / "w8.onnx", 4).open()


class Nearest:
    """As `cv2.dnn_superres.DnnSuperResImpl`: nearest neighbours, with less blue, for files that exist."""

    def readModel(self, path: str) -> None:
        if not Path(path).exists():
            error = cv2.error("the whole of it")
            error.err = "can't open"
            raise error

    def setModel(self, algorithm: str, scale: int) -> None:
        assert algorithm == "espcn"
        self.scale = scale

    def upsample(self, bgr: np.ndarray) -> np.ndarray:
        return bgr.repeat(2, 0).repeat(2, 1) // np.array([2, 1, 1], np.uint8)


def test_opencv_super_resolution_gets_its_own_colour_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, photo: np.ndarray
) -> None:
    """And gives the usual one; files are checked."""
    monkeypatch.setattr(cv2, "dnn_superres", types.SimpleNamespace(DnnSuperResImpl_create=Nearest), raising=False)
    (tmp_path / "ESPCN_x2.pb").touch()
    arm = superres_arm(tmp_path / "ESPCN_x2.pb", 2)
    assert ("opencv", "dnn_superres", "ESPCN_x2.pb") == (arm.engine, arm.rule, arm.value)
    lr = np.ascontiguousarray(photo[100:150, 150:200])
    sr, ms = arm.open()(lr)
    assert np.array_equal(lr.repeat(2, 0).repeat(2, 1) // np.array([1, 1, 2], np.uint8), sr)
    assert ms > 0
    with pytest.raises(ArtefactError, match=r"ESPCN_x2.pb: makes \(34, 40, 3\) .* not x4"):
        superres_arm(tmp_path / "ESPCN_x2.pb", 4).open()
    with pytest.raises(ArtefactError, match=r"ESPCN_x3.pb: can't open"):
        superres_arm(tmp_path / "ESPCN_x3.pb", 2).open()
    with pytest.raises(ArtefactError, match=r"net.pb: must be called after one of edsr, espcn"):
        superres_arm(tmp_path / "net.pb", 2).open()


def test_opencv_super_resolution_needs_the_contrib_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which the message says how to get."""
    monkeypatch.delattr(cv2, "dnn_superres", raising=False)
    with pytest.raises(BackendError, match="pip install opencv-contrib-python-headless"):
        superres_arm(tmp_path / "ESPCN_x2.pb", 2).open()
