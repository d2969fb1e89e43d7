"""What takes part in a benchmark: ways to upscale that are timed side by side."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ..api import Upscaler
from ..backends import Backend, open_backend
from ..backends.threads import allowed_threads
from ..cost import CostTable
from ..errors import ArtefactError, BackendError
from ..models import BICUBIC, load_model
from ..scheduler.policy import parse_eta
from ..stitch import interpolate
from .arm_procedure import upscale_like_arm
from .timing import timed

Upscale = Callable[[np.ndarray], tuple[np.ndarray, float]]
"""From an LR picture, uint8 RGB, to the upscaled one and the milliseconds that the engine took."""
OPENCV = "opencv"
"""The engine of interpolation and of dnn_superres."""
ALGORITHMS = ("edsr", "espcn", "fsrcnn", "lapsrn")
"""Of dnn_superres."""


@dataclass(frozen=True)
class Engine:
    """An engine with the sub-nets of a model; plain data, so that another process can open it too."""

    model: str
    """Name or directory."""
    name: str
    """As in `--backend`."""
    precision: str
    """Arithmetic of the sub-nets."""

    @classmethod
    def of(cls, model: str, option: str) -> "Engine":
        """The engine that an option `NAME` or `NAME:PRECISION` means here; errors as of `Upscaler`."""
        name, _, precision = option.partition(":")
        backend = Upscaler(model, backend=name, precision=precision or None).backend
        return cls(model, backend.name, backend.precision)

    def __str__(self) -> str:
        return f"{self.name} {self.precision}"

    @property
    def backend(self) -> Backend:
        """Opened once in a process, so that all arms of an engine share its sub-nets."""
        return _opened(self)

    def upscaler(self, **how: Any) -> Upscaler:
        """An `Upscaler` on `backend`; `lut` and `cost` as there."""
        return Upscaler(self.model, backend=self.backend, **how)


@cache
def _opened(engine: Engine) -> Backend:
    return open_backend(engine.name, load_model(engine.model), engine.precision)


@dataclass(frozen=True)
class Arm:
    """One way to upscale that takes part."""

    engine: str
    """Engine and precision."""
    rule: str
    """`static` for one pass over the picture, `time` for a share of the time, `trade-off` for eta with the objective
    `mse`, `arm` for ARM's procedure, `onnx` and `dnn_superres` for other networks."""
    value: str
    """Branch, budget, eta or file."""
    open: Callable[[], Upscale]
    """Makes it ready. It can be pickled, so that a fresh process can run this arm and nothing else."""


def interpolation_arm(scale: int) -> Arm:
    """The interpolation branch, which is the same for every engine."""
    return Arm(OPENCV, "static", BICUBIC, partial(_interpolation, scale))


def _interpolation(scale: int) -> Upscale:
    return lambda lr: timed(lambda: interpolate(lr, scale))


def static_arms(engine: Engine) -> list[Arm]:
    """Every sub-net in one direct call of the engine, cheapest to dearest."""
    subnets = load_model(engine.model).branches[1:]
    return [Arm(str(engine), "static", branch, partial(_one_pass, engine, branch)) for branch in subnets]


def _one_pass(engine: Engine, branch: str) -> Upscale:
    engine.backend.load(branch)
    return lambda lr: timed(lambda: engine.backend.run(branch, lr[None])[0])


def routed_arm(engine: Engine, budget: str, cost: CostTable) -> Arm:
    """`Upscaler` within a share of the largest sub-net's time by the table `cost` in milliseconds."""
    return Arm(str(engine), "time", budget, partial(_routed, engine, {"budget": budget}, cost))


def trade_off_arm(engine: Engine, eta: str, cost: CostTable) -> Arm:
    """`Upscaler` with eta and the objective `mse`, by the table `cost` in milliseconds; UsageError for an eta that is
    none."""
    how = {"eta": parse_eta(eta), "objective": "mse"}
    return Arm(str(engine), "trade-off", f"eta {eta}", partial(_routed, engine, how, cost))


def _routed(engine: Engine, how: dict[str, Any], cost: CostTable) -> Upscale:
    upscaler = engine.upscaler(cost=cost)

    def run(lr: np.ndarray) -> tuple[np.ndarray, float]:
        result = upscaler.upscale(lr, **how)
        return result.image, result.stats["time_ms"]["infer"]

    return run


def procedure_arm(engine: Engine, eta: str, lut: Path | None) -> Arm:
    """ARM's own procedure with its table `lut`; UsageError for an eta that is none."""
    return Arm(str(engine), "arm", f"eta {eta}", partial(_procedure, engine, parse_eta(eta), lut))


def _procedure(engine: Engine, eta: float, lut: Path | None) -> Upscale:
    upscaler = engine.upscaler(lut=lut)
    return lambda lr: upscale_like_arm(upscaler, lr, eta)


def onnx_arm(path: Path, scale: int) -> Arm:
    """A super-resolution network of any picture size in an ONNX file: uint8 NHWC, or float NCHW in 0..1. It is run by
    ONNX Runtime; opening raises ArtefactError for others, and for another scale."""
    return Arm("onnxruntime fp32", "onnx", path.name, partial(_onnx, path, scale))


def _onnx(path: Path, scale: int) -> Upscale:
    import onnxruntime

    from ..backends.onnx_runtime import session_options

    options = session_options(allowed_threads())
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the engine's exceptions have no common base
        raise ArtefactError(f"{path}: {error}") from error
    source = session.get_inputs()[0]
    nhwc = source.type == "tensor(uint8)"
    if len(session.get_inputs()) + len(session.get_outputs()) != 2 or not (nhwc or source.type == "tensor(float)"):
        raise ArtefactError(f"{path}: needs one output, and one input of uint8 NHWC or float NCHW, not {source.type}")

    def run(lr: np.ndarray) -> tuple[np.ndarray, float]:
        if nhwc:
            return timed(lambda: session.run(None, {source.name: lr[None]})[0][0])
        planes = np.ascontiguousarray(lr.transpose(2, 0, 1)[None].astype(np.float32) / 255)
        sr, ms = timed(lambda: session.run(None, {source.name: planes})[0][0])
        return np.clip(np.rint(sr.transpose(1, 2, 0) * 255), 0, 255).astype(np.uint8), ms

    return _checked(path, scale, run)


def superres_arm(path: Path, scale: int) -> Arm:
    """A model of OpenCV's dnn_superres in a file called after its algorithm, such as ESPCN_x4.pb; opening raises
    BackendError without OpenCV's contrib build, ArtefactError for other files, and for another scale."""
    return Arm(OPENCV, "dnn_superres", path.name, partial(_superres, path, scale))


def _superres(path: Path, scale: int) -> Upscale:
    module: Any = getattr(cv2, "dnn_superres", None)
    if module is None:
        raise BackendError(
            "dnn_superres needs the contrib build of OpenCV: pip uninstall opencv-python-headless, then "
            "pip install opencv-contrib-python-headless"
        )
    algorithm = re.split("[-_.]", path.name)[0].lower()
    if algorithm not in ALGORITHMS:
        raise ArtefactError(f"{path}: must be called after one of {', '.join(ALGORITHMS)}, such as ESPCN_x4.pb")
    network = module.DnnSuperResImpl_create()
    try:
        network.readModel(str(path))
        network.setModel(algorithm, scale)
    except cv2.error as error:
        raise ArtefactError(f"{path}: {error.err}") from error

    def run(lr: np.ndarray) -> tuple[np.ndarray, float]:
        bgr = cv2.cvtColor(lr, cv2.COLOR_RGB2BGR)
        sr, ms = timed(lambda: network.upsample(bgr))
        return cv2.cvtColor(sr, cv2.COLOR_BGR2RGB), ms

    return _checked(path, scale, run)


def _checked(path: Path, scale: int, run: Upscale) -> Upscale:
    """`run`; ArtefactError when it does not make `scale` times the sides of a small picture."""
    try:
        shape = run(np.zeros((17, 20, 3), np.uint8))[0].shape
    except Exception as error:  # the engines' exceptions have no common base
        raise ArtefactError(f"{path}: does not run on 20x17 pixels ({' '.join(str(error).split())})") from error
    if shape != (17 * scale, 20 * scale, 3):
        raise ArtefactError(f"{path}: makes {shape} of 20x17 pixels, which is not x{scale}")
    return run
