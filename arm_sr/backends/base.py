"""What an engine must offer."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

from ..cost import CostTable

Tile = tuple[str, np.ndarray]
"""The name of a sub-net and what it is to upscale: uint8 RGB, (H, W, 3)."""


class Backend(Protocol):
    """An engine with the sub-nets of one model."""

    name: str
    """As in `--backend`."""
    version: str
    """Of the engine; measured costs depend on it."""
    precision: str
    """Arithmetic of the sub-nets, such as `fp32`."""
    device: str
    """What it computes on: `2 threads`, or the name of a GPU; measured costs depend on it too."""
    model_sha256: str
    """`ModelCard.sha256` of the model whose sub-nets it has."""

    modelled_cost: CostTable | None = None
    """What its compiler says that every branch costs; None where costs can only be measured."""
    simulated: bool = False
    """Whether it stands for a device, so that the time it takes means nothing."""

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

    def run_tiles(self, tiles: Sequence[Tile]) -> Iterator[tuple[int, np.ndarray]]:
        """Upscale tiles of any sizes: here all that have a sub-net and a shape in common by one call of `run`.

        What it returns must be exhausted or closed: an engine may wait for that.

        Yields:
            Number of a tile and the upscaled one, uint8 RGB (scale * H, scale * W, 3), in any order.

        Raises:
            BackendError: as of `run`.
        """
        alike: dict[tuple[str, tuple[int, ...]], list[int]] = defaultdict(list)
        for number, (branch, tile) in enumerate(tiles):
            alike[branch, tile.shape].append(number)
        for (branch, _), numbers in alike.items():
            mine = [tiles[number][1] for number in numbers]
            # A picture in one piece is not copied.
            batch = np.stack(mine) if len(mine) > 1 else np.ascontiguousarray(mine[0][None])
            yield from zip(numbers, self.run(branch, batch), strict=True)

    def close(self) -> None:
        """Give back memory and threads."""
