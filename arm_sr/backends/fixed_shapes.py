"""Sub-nets that take pictures of one shape only, behind the interface of an engine."""

from functools import partial

import numpy as np

from ..fixed_tiles import upscale_in_tiles
from ..models import ModelCard
from .base import Backend


class FixedShapes(Backend):
    """An engine whose sub-nets get their own shapes only, see `SubNet.shape`: pictures are cut into overlapping tiles,
    or padded.

    Args:
        backend: the engine.
        card: its model.
    """

    def __init__(self, backend: Backend, card: ModelCard) -> None:
        self._backend, self._card = backend, card
        self.name, self.version, self.precision = backend.name, backend.version, backend.precision
        self.device, self.model_sha256 = backend.device, backend.model_sha256

    def load(self, branch: str) -> None:
        """See `Backend.load`."""
        self._backend.load(branch)

    def run(self, branch: str, batch: np.ndarray) -> np.ndarray:
        """See `Backend.run`."""
        subnet, scale = self._card.subnets[branch], self._card.scale
        count, height, width = subnet.shape
        if not count:
            return self._backend.run(branch, batch)
        run = partial(self._backend.run, branch)
        if not height:
            full = -len(batch) % count
            parts = np.concatenate([batch, batch[-1:].repeat(full, axis=0)]).reshape(-1, count, *batch.shape[1:])
            return np.concatenate([run(part) for part in parts])[: len(batch)]
        halo = min(self._card.halo, subnet.receptive_radius)  # the card's is that of all of them
        overlap = min(2 * halo, height // 2, width // 2)
        pictures = [
            upscale_in_tiles(picture, run, (height, width), scale, "crop", overlap, batch=count, fill=True)
            for picture in batch
        ]
        return np.stack(pictures)

    def close(self) -> None:
        """See `Backend.close`."""
        self._backend.close()
