"""ONNX Runtime on the CPU: the default engine and the reference."""

import numpy as np
import onnxruntime

from ..errors import BackendError
from ..models import ModelCard
from .base import Backend


class OnnxRuntime(Backend):
    """One inference session a sub-net, made on first use."""

    name = "onnxruntime"
    version: str = onnxruntime.__version__
    precision = "fp32"

    def __init__(self, card: ModelCard, threads: int) -> None:
        self._card, self._threads = card, threads
        self.device, self.model_sha256 = f"{threads} threads", card.sha256
        self._sessions: dict[str, onnxruntime.InferenceSession] = {}

    def load(self, branch: str) -> None:
        """See `Backend.load`; raises ArtefactError for a damaged file, BackendError for an unusable one."""
        if branch in self._sessions:
            return
        model = self._card.subnet_bytes(branch)
        options = session_options(self._threads)
        try:
            session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the engine's exceptions have no common base
            raise BackendError(f"{self._card.folder / self._card.subnets[branch].file}: {error}") from error
        self._sessions[branch] = session

    def run(self, branch: str, batch: np.ndarray) -> np.ndarray:
        """See `Backend.run`."""
        self.load(branch)
        try:
            result: np.ndarray = self._sessions[branch].run(None, {"lr": batch})[0]
        except Exception as error:  # the engine's exceptions have no common base
            raise BackendError(f"onnxruntime failed on a batch of {batch.shape}: {error}") from error
        return result

    def close(self) -> None:
        """See `Backend.close`."""
        self._sessions.clear()


def session_options(threads: int) -> onnxruntime.SessionOptions:
    """Options of a session that is one of many."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # Every session has threads of its own. Left spinning after a run they take the processor from the next
    # sub-net's, and a plan that alternates takes up to twice as long.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Tiles come in many shapes, and a memory pattern would be made and kept for each.
    options.enable_mem_pattern = False
    return options


def open_backend(card: ModelCard, precision: str, threads: int) -> OnnxRuntime:
    """ONNX Runtime for `card`."""
    return OnnxRuntime(card, threads)
