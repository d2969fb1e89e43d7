"""Many pictures of `arm-sr upscale` as one job: folders, `--resume` and `--budget-total`."""

import argparse
import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ImageError
from ..manifest import Entry, Manifest, file_digest, settings_digest
from .files import Files
from .outcomes import Outcomes, say
from .picture import Picture, read
from .upscalers import Upscalers

if TYPE_CHECKING:
    from ..scheduler import Budget

Size = tuple[int, int]
"""Height and width."""


class Job:
    """What is done already, what all may take together, and a manifest of what was finished.

    Entering it looks at all pictures and says how long they will take. Unless nothing is to be written, it then has
    the output folder for itself, and what a killed job left half written there is removed.

    Args:
        args: of the command.
        files: the pictures, in order.
        how: the choice that `Upscaler.upscale` takes, unless `total` makes it.
        total: what all pictures may take together, or None.
        upscalers: of the command.
        outcomes: is told of pictures that fail.
    """

    def __init__(self, args: argparse.Namespace, files: Sequence[Files], how: dict[str, Any], total: "Budget | None",
                 upscalers: Upscalers, outcomes: Outcomes) -> None:  # fmt: skip
        self._args, self._all, self._total = args, files, total
        self._upscalers, self._outcomes = upscalers, outcomes
        self._manifest: Manifest | None = None
        self._settings: dict[int, str] = {}  # by the scale of the model
        self._resources = ExitStack()
        self.sizes: dict[Files, Size] = {}
        """The pictures that are left to do, in order."""
        self.how = how
        """The choice for every picture."""
        self.planned_ms: float | None = None
        """What those that are left are predicted to take, where there is a total."""
        self.bar: Any = None
        """Progress over the LR pixels of those that are left."""

    def __enter__(self) -> "Job":
        from tqdm import tqdm

        from ..atomic import remove_leftovers
        from .estimate import describe, spread

        args = self._args
        with ExitStack() as resources:
            if args.resume or any(os.path.isdir(path) for path in args.inputs):
                self._manifest = Manifest(args.output)
                if not args.dry_run:
                    resources.enter_context(self._manifest)
                    remove_leftovers(file.target for file in self._all)
            sizes = self._measured()
            if self._total is not None:
                # Of all pictures, so that a job that goes on has the trade-off that it began with.
                self.how, shares = spread(sizes, self._upscalers, self._total.value, self._watched)
            self.sizes = self._left(sizes)
            if self._total is not None:
                self.planned_ms = sum(shares.get(file, 0.0) for file in self.sizes)
            if not args.quiet and not args.dry_run:
                say(describe(args, self, len(sizes) - len(self.sizes), self._upscalers))
            pixels = sum(height * width for height, width in self.sizes.values())
            hidden = True if args.quiet or args.dry_run else None
            bar = tqdm(total=pixels, desc="upscaling", unit="px", unit_scale=True, leave=False, disable=hidden)
            self.bar = resources.enter_context(bar)
            self._resources = resources.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._resources.__exit__(*error)

    def read(self, file: Files) -> Picture:
        """Read a picture of the job."""
        try:
            return read(file, with_digest=True)  # never stdin
        except ImageError:
            height, width = self.sizes[file]
            self.bar.update(height * width)  # there is nothing more to do for it
            raise

    def note(self, file: Files, input_sha256: str, output_sha256: str | None = None) -> None:
        """Note in the manifest, if the job keeps one, that the output of a picture is finished; its digest is taken
        where it is not known."""
        if self._manifest and not self._args.dry_run:
            settings, output_sha256 = self._settings_of(self.sizes[file]), output_sha256 or file_digest(file.target)
            self._manifest.add(Entry(self._output(file), file.name, input_sha256, settings, output_sha256))

    def _watched(self, items: Sequence[Files], what: str) -> Any:
        """The items, with a bar on a terminal."""
        from tqdm import tqdm

        hidden = True if self._args.quiet else None
        return tqdm(items, desc=what, unit=" pictures", leave=False, disable=hidden)

    def _measured(self) -> dict[Files, Size]:
        """The pictures with their sizes, by their headers; those without fail."""
        from ..imaging.io import image_size

        sizes = {}
        for file in self._watched(self._all, "looking"):
            try:
                sizes[file] = image_size(file.source)
            except ImageError as error:
                self._outcomes.failed(file.source, str(error))
        return sizes

    def _left(self, sizes: dict[Files, Size]) -> dict[Files, Size]:
        """Those of which the output is not there as this job would write it, all unless it goes on."""
        if not self._args.resume or self._manifest is None:
            return sizes
        left = {}
        for file in self._watched(list(sizes), "comparing"):
            try:
                settings = self._settings_of(sizes[file])
                if not self._manifest.is_done(self._output(file), file.source, settings):
                    left[file] = sizes[file]
            except ImageError as error:
                self._outcomes.failed(file.source, str(error))
        return left

    def _output(self, file: Files) -> str:
        return Path(os.path.relpath(file.target, self._args.output)).as_posix()

    def _settings_of(self, size: Size) -> str:
        """Digest of all that the result of a picture of this size depends on besides it; of a time, only what was asked
        for."""
        upscaler = self._upscalers.of(size)
        if upscaler.scale not in self._settings:
            from ..lut import table_path

            args, card, engine = self._args, upscaler.card, upscaler.backend
            table = args.lut or table_path(card)
            choice = self.how if self._total is None else {"budget_total": self._total.value}
            self._settings[upscaler.scale] = settings_digest({
                "model": card.sha256,
                "halo": card.halo,
                "table": file_digest(table) if table.exists() else None,
                "cost": file_digest(args.cost) if args.cost else None,
                "engine": [engine.name, engine.version, engine.precision],
                "choice": choice,
                "size": asdict(self._upscalers.size),
                "sharpen": args.sharpen,
                "written": [args.quality, args.subsampling],
            })  # fmt: skip
        return self._settings[upscaler.scale]
