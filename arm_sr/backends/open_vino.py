"""OpenVINO on the CPU: fp32 like the reference, or bf16 where the processor has units for it."""

import numpy as np
import openvino

from ..errors import BackendError
from ..models import ModelCard

_HINTS = {"fp32": "f32", "bf16": "bf16"}
KEPT = 512
"""Prepared layers that a sub-net keeps, those of 30 to 50 shapes. Tiles come in hundreds, and without a bound each
of them would stay in memory with a megabyte."""


class OpenVino:
    """One compiled model a sub-net, made on first use."""

    name = "openvino"
    version: str = openvino.__version__
    cost = None

    def __init__(self, card: ModelCard, precision: str, threads: int) -> None:
        self._card, self.precision, self._threads = card, precision, threads
        self._core = openvino.Core()
        if precision == "bf16" and "BF16" not in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise BackendError("this processor has no bf16 units; use --precision fp32")
        self._compiled: dict[str, openvino.CompiledModel] = {}

    def load(self, branch: str) -> None:
        """See `Backend.load`; raises ArtefactError for a damaged file, BackendError for an unusable one."""
        if branch in self._compiled:
            return
        data = self._card.subnet_bytes(branch)
        options = {
            "INFERENCE_PRECISION_HINT": _HINTS[self.precision],
            "INFERENCE_NUM_THREADS": self._threads,
            "CPU_RUNTIME_CACHE_CAPACITY": KEPT,
        }
        try:
            self._compiled[branch] = self._core.compile_model(self._core.read_model(data), "CPU", options)
        except RuntimeError as error:
            raise BackendError(f"{self._card.folder / self._card.subnets[branch].file}: {error}") from error

    def run(self, branch: str, batch: np.ndarray) -> np.ndarray:
        """See `Backend.run`."""
        self.load(branch)
        try:
            # A copy, because the engine reuses its output for the next call.
            return np.array(self._compiled[branch](np.ascontiguousarray(batch))[0])
        except RuntimeError as error:
            raise BackendError(f"openvino failed on a batch of {batch.shape}: {error}") from error

    def close(self) -> None:
        """See `Backend.close`."""
        self._compiled.clear()


def open_backend(card: ModelCard, precision: str, threads: int) -> OpenVino:
    """OpenVINO for `card`."""
    return OpenVino(card, precision, threads)
