"""OpenVINO on the CPU: fp32 like the reference, or bf16 where the processor has units for it."""

import threading

import numpy as np
import openvino

from ..errors import BackendError
from ..models import ModelCard
from .base import Backend

_HINTS = {"fp32": "f32", "bf16": "bf16"}
KEPT = 512
"""Prepared layers that a sub-net keeps, those of 30 to 50 shapes. Tiles come in hundreds, and without a bound each
of them would stay in memory with a megabyte."""


class OpenVino(Backend):
    """One request of a compiled model a sub-net, made on first use."""

    name = "openvino"
    version: str = openvino.__version__

    def __init__(self, card: ModelCard, precision: str, threads: int) -> None:
        self._card, self.precision, self._threads = card, precision, threads
        self.device, self.model_sha256 = f"{threads} threads", card.sha256
        self._core, self._lock = openvino.Core(), threading.Lock()
        if precision == "bf16" and "BF16" not in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise BackendError("this processor has no bf16 units; use --precision fp32")
        self._requests: dict[str, openvino.InferRequest] = {}

    def load(self, branch: str) -> None:
        """See `Backend.load`; raises ArtefactError for a damaged file, BackendError for an unusable one."""
        if branch in self._requests:
            return
        data = self._card.subnet_bytes(branch)
        options = {
            "INFERENCE_PRECISION_HINT": _HINTS[self.precision],
            "INFERENCE_NUM_THREADS": self._threads,
            "CPU_RUNTIME_CACHE_CAPACITY": KEPT,
        }
        try:
            compiled = self._core.compile_model(self._core.read_model(data), "CPU", options)
            self._requests[branch] = compiled.create_infer_request()
        except RuntimeError as error:
            raise BackendError(f"{self._card.folder / self._card.subnets[branch].file}: {error}") from error

    def run(self, branch: str, batch: np.ndarray) -> np.ndarray:
        """See `Backend.run`."""
        self.load(branch)
        # A tensor shares only what may be written to, and does not keep it alive.
        lr = np.require(batch, requirements=("C", "W"))
        count, height, width, channels = lr.shape
        scale, request = self._card.scale, self._requests[branch]
        result = np.empty((count, scale * height, scale * width, channels), np.uint8)
        try:
            with self._lock:  # a request is for one at a time
                request.set_input_tensor(openvino.Tensor(lr, shared_memory=True))
                request.set_output_tensor(openvino.Tensor(result, shared_memory=True))
                request.infer()
        except RuntimeError as error:
            raise BackendError(f"openvino failed on a batch of {batch.shape}: {error}") from error
        return result

    def close(self) -> None:
        """See `Backend.close`."""
        self._requests.clear()


def open_backend(card: ModelCard, precision: str, threads: int) -> OpenVino:
    """OpenVINO for `card`."""
    return OpenVino(card, precision, threads)
