"""What an engine must offer."""

from typing import Protocol

import numpy as np


class Backend(Protocol):
    """An engine with the sub-nets of one model."""

    name: str
    """As in `--backend`."""
    version: str
    """Of the engine; measured costs depend on it."""
    precision: str
    """Arithmetic of the sub-nets, such as `fp32`."""
    model_sha256: str
    """`ModelCard.sha256` of the model whose sub-nets it has."""

    def load(self, branch: str) -> None:
        """Make the sub-net called `branch` ready, so that `run` does not pay for it."""

    def run(self, branch: str, batch: np.ndarray) -> np.ndarray:
        """Upscale a batch of pictures with one sub-net.

        Args:
            branch: name of a sub-net.
            batch: uint8 RGB, (N, H, W, 3).

        Returns:
            uint8 RGB, (N, scale * H, scale * W, 3).

        Raises:
            BackendError: the engine failed, for want of memory for instance.
        """

    def close(self) -> None:
        """Give back memory and threads."""
