"""The accuracy gate: a compiled net against ONNX Runtime on the network that it was made from."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnxruntime

from ..backends.onnx_runtime import session_options
from ..backends.threads import allowed_threads
from ..imaging.metrics import psnr
from .crops import Crops

Run = Callable[[np.ndarray], np.ndarray]
"""A net: uint8 RGB (N, H, W, 3) to uint8 RGB (N, scale * H, scale * W, 3)."""


@dataclass(frozen=True)
class Accuracy:
    """What a compiled net changes."""

    max_levels: int
    """Largest difference of a pixel on the crops with ground truth, in 8-bit levels,"""
    extreme_levels: int | None
    """and on the others; None where there are none."""
    mean_levels: float
    """Mean absolute difference on those with ground truth."""
    loss_db: float
    """RGB PSNR over all pixels that it loses on the crops with ground truth."""
    crops: int
    """With ground truth."""


def reference(model: bytes) -> Run:
    """A graph of `arm_sr.tpu.graph` in ONNX Runtime."""
    session = onnxruntime.InferenceSession(model, session_options(allowed_threads()), ["CPUExecutionProvider"])

    def run(batch: np.ndarray) -> np.ndarray:
        planes = batch.transpose(0, 3, 1, 2).astype(np.float32)
        results = [session.run(None, {"lr": picture[None]})[0][0] for picture in planes]
        return np.rint(np.stack(results)).astype(np.uint8).transpose(0, 2, 3, 1)

    return run


def measure(net: Run, source: Run, crops: Crops, extremes: np.ndarray, border: int) -> Accuracy:
    """Compare a compiled net with the network in floats.

    Args:
        net: the compiled one.
        source: the other.
        crops: with ground truth.
        extremes: further ones without, uint8 RGB (N, H, W, 3).
        border: pixels of the result that are not compared with the ground truth, on each side.
    """
    batch = np.concatenate([crops.lr, extremes])
    ours, theirs = net(batch), source(batch)
    difference = np.abs(ours.astype(np.int16) - theirs)
    real = len(crops.lr)
    inner = np.s_[:, border:-border, border:-border]
    loss = psnr(theirs[:real][inner], crops.hr[inner]) - psnr(ours[:real][inner], crops.hr[inner])
    extreme = int(difference[real:].max()) if len(extremes) else None
    return Accuracy(int(difference[:real].max()), extreme, float(difference[:real].mean()), float(loss), real)
