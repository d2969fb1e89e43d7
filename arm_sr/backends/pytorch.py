"""PyTorch, on CUDA when there is a device: for development and GPUs."""

import numpy as np
import safetensors.torch
import torch

from ..errors import BackendError
from ..models import ModelCard, checked_bytes
from ..supernet.backbones import build
from ..supernet.export import EightBit
from .base import Backend


class PyTorch(Backend):
    """The sub-nets cut out of the supernet's weights."""

    name = "pytorch"
    version: str = torch.__version__
    precision = "fp32"

    def __init__(self, card: ModelCard, threads: int) -> None:
        self._card, self._threads = card, threads
        self.model_sha256 = card.sha256
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.device = torch.cuda.get_device_name() if self._device.type == "cuda" else f"{threads} threads"
        torch.backends.cudnn.allow_tf32 = False  # the default, which is not fp32
        if not card.supernet:
            raise BackendError(f"pytorch needs weights of a supernet, which the adopted model '{card.name}' has not")
        weights = checked_bytes(card.folder / card.supernet["file"], card.supernet["sha256"])
        self._supernet = build(
            card.backbone, card.scale, {name: (net.width, net.depth) for name, net in card.subnets.items()}
        )
        self._supernet.load_state_dict(safetensors.torch.load(weights))
        self._nets: dict[str, EightBit] = {}

    def load(self, branch: str) -> None:
        """See `Backend.load`."""
        if branch not in self._nets:
            subnet = self._supernet.subnet(branch)
            self._nets[branch] = EightBit(subnet).eval().to(self._device)

    @torch.inference_mode()
    def run(self, branch: str, batch: np.ndarray) -> np.ndarray:
        """See `Backend.run`."""
        self.load(branch)
        torch.set_num_threads(self._threads)  # of the whole process, and another engine may have set it
        try:
            # torch wants an array of its own that it may write to.
            result: np.ndarray = self._nets[branch](torch.tensor(batch).to(self._device)).cpu().contiguous().numpy()
        except RuntimeError as error:
            raise BackendError(f"pytorch failed on a batch of {batch.shape}: {error}") from error
        return result

    def close(self) -> None:
        """See `Backend.close`."""
        self._nets.clear()


def open_backend(card: ModelCard, precision: str, threads: int) -> PyTorch:
    """PyTorch for `card`."""
    return PyTorch(card, threads)
