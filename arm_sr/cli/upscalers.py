"""Which model upscales which picture, by the size that its result is to have."""

import argparse
from collections.abc import Collection
from typing import TYPE_CHECKING

from .options import measure_first, open_upscaler

if TYPE_CHECKING:
    from ..api import Upscaler
    from ..imaging.sizes import Size
    from ..scheduler import Budget


class Upscalers:
    """The upscalers of the command, each opened once, and the sizes of their results.

    Args:
        args: of the command.
        size: what is asked of the results; None is the model's own scale.
        total: what all pictures may take together, or None.

    Raises the errors of `Upscaler`, and ModelError for a width that a model does not have.
    """

    def __init__(self, args: argparse.Namespace, size: "Size | None", total: "Budget | None") -> None:
        from ..api import DEFAULT_MODEL, models_by_scale
        from ..imaging.sizes import Size

        self._args, self._total = args, total
        if args.model or size is None:
            models = [args.model or DEFAULT_MODEL]
        else:
            by_scale = models_by_scale()
            models = list(by_scale.values())
            if size.scale is not None:
                models = [by_scale[_reaching(by_scale, size.scale)]]
        opened = [open_upscaler(args, model) for model in models]
        if args.width is not None:
            for upscaler in opened:  # a wrong name is usage, said before any picture is read
                upscaler.card.branch_number(args.width)
        self._opened = {upscaler.scale: upscaler for upscaler in opened}
        self._ready: dict[int, Upscaler] = {}
        self.size = size or Size(scale=opened[0].scale)
        """What is asked of the results."""
        if len(opened) == 1:  # what is wrong with the costs is said before any picture is read
            self._ready[opened[0].scale] = self._made_ready(opened[0])

    def of(self, size: tuple[int, int]) -> "Upscaler":
        """The one for a picture of this height and width: the smallest scale that reaches the result, else the largest.

        When it is first asked for, what is done once is done, so that it is no part of the time of a picture.
        """
        scale = _reaching(self._opened, self.size.factor(*size))
        if scale not in self._ready:
            self._ready[scale] = self._made_ready(self._opened[scale])
        return self._ready[scale]

    def result_of(self, size: tuple[int, int]) -> tuple[int, int]:
        """Height and width of the result of a picture of this height and width."""
        return self.size.of(*size)

    def enlarge(self, size: tuple[int, int]) -> bool:
        """Whether the result of such a picture is larger than it is, so that a sub-net is of use."""
        return any(side > own for side, own in zip(self.result_of(size), size, strict=True))

    @property
    def engines(self) -> set[tuple[str, str]]:
        """Names and precisions of the engines that are open."""
        return {(upscaler.backend.name, upscaler.backend.precision) for upscaler in self._opened.values()}

    def _made_ready(self, upscaler: "Upscaler") -> "Upscaler":
        from ..api import Upscaler

        if self._args.deadline:
            upscaler.load()
        measure_first(self._args, upscaler)
        if self._total is None:
            return upscaler
        cost = upscaler.planner.cost_of(self._total)
        return Upscaler(upscaler.card.folder, backend=upscaler.backend, lut=self._args.lut, cost=cost)


def _reaching(scales: Collection[int], factor: float) -> int:
    """The smallest of the scales that is no smaller than `factor`, else the largest."""
    return min((scale for scale in scales if scale >= factor), default=max(scales))
