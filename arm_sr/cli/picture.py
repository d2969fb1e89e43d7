"""One picture of `arm-sr upscale`, from what was read to the file."""

import argparse
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from .files import Files

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from ..api import Upscaler
    from ..imaging.io import Image
    from ..scheduler import Plan

Write: TypeAlias = Callable[[], "tuple[Plan, dict[str, Any]]"]
"""What is left to do for an upscaled picture: write it; returns plan and report."""

STRIPS_FROM = 64_000_000
"""Pixels of a result from which on no other picture is in memory beside it, and it is computed and written in strips
where its format allows."""


@dataclass(frozen=True)
class Picture:
    """A picture that was read."""

    image: "Image"
    digest: str
    """SHA-256 of its file, empty where nobody asked for it."""
    read_ms: float


def read(files: Files, with_digest: bool = False) -> Picture:
    """Read the picture of `files`."""
    from ..imaging import io

    begun = time.perf_counter()
    image, digest = io.read_with_digest(files.source) if with_digest else (io.read_image(files.source), "")
    return Picture(image, digest, 1e3 * (time.perf_counter() - begun))


def is_large(image: "Image", scale: int) -> bool:
    """Whether the result is too large to be in memory beside another."""
    height, width = image.pixels.shape[:2]
    return height * width * scale**2 > STRIPS_FROM


@contextmanager
def progress(args: argparse.Namespace, upscaler: "Upscaler", name: str, pixels: int, job_bar: Any) -> Iterator[None]:
    """A bar over the LR pixels of a picture on a terminal, or its part of that of a whole job."""
    from tqdm import tqdm

    bar = job_bar
    if bar is None:
        hidden = True if args.quiet else None
        bar = tqdm(total=pixels, desc=name, unit="px", unit_scale=True, leave=False, disable=hidden)
    end = bar.n + pixels
    upscaler.progress = bar.update
    try:
        yield
    finally:
        upscaler.progress = None
        if job_bar is None:
            bar.close()
        else:
            bar.update(end - bar.n)  # what was interpolated, too


def upscale_picture(args: argparse.Namespace, upscaler: "Upscaler", how: dict[str, Any], files: Files, picture: Picture,
                    job_bar: Any = None) -> Write:  # fmt: skip
    """Upscale a picture; what it returns writes the result."""
    import numpy as np

    from ..errors import ImageError
    from ..imaging.io import check_writable, takes_strips
    from ..report import statistics

    begun, image, read_ms, target = time.perf_counter(), picture.image, picture.read_ms, files.target
    if args.dry_run:
        planned = upscaler.plan(image.pixels, **how)
        plan_ms = 1e3 * (time.perf_counter() - begun)
        time_ms = {"read": read_ms, "plan": plan_ms, "infer": 0.0, "stitch": 0.0, "write": 0.0,
                   "total": read_ms + plan_ms}  # fmt: skip
        engine = {"backend": upscaler.backend.name, "precision": upscaler.backend.precision}
        report = {"file": str(files.source), **statistics(planned, time_ms=time_ms, macs=0.0, **engine)}
        return lambda: (planned, report)
    if args.output is None and os.path.lexists(target):
        raise ImageError(f"{target}: exists already; remove it or name the output with -o")
    if args.output is not None and target != args.output:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            reason = f"its folder cannot be made ({error.strerror or error}); choose another place"
            raise ImageError(f"{target}: {reason}") from error
    height, width = (side * upscaler.scale for side in image.pixels.shape[:2])
    depth = {"sixteen_bit": image.pixels.dtype.itemsize == 2, "alpha": image.alpha is not None}
    check_writable(target, width, height, **depth)
    if args.heatmap:
        check_writable(args.heatmap, width, height, sixteen_bit=False, alpha=False)
    planes = image.pixels if image.alpha is None else np.dstack([image.pixels, image.alpha])
    written = [target, *([args.heatmap] if args.heatmap else [])]
    in_strips = is_large(image, upscaler.scale) and args.deadline is None and all(map(takes_strips, written))
    with progress(args, upscaler, files.source.name, planes.shape[0] * planes.shape[1], job_bar):
        upscale = _upscale_in_strips if in_strips else _upscale_whole
        write = upscale(args, upscaler, how, planes, image.icc_profile, target)
    upscale_ms = 1e3 * (time.perf_counter() - begun)

    def write_and_report() -> "tuple[Plan, dict[str, Any]]":
        begun = time.perf_counter()
        plan, stats = write()
        own_ms = upscale_ms + 1e3 * (time.perf_counter() - begun)
        time_ms = stats["time_ms"]
        time_ms |= {"read": read_ms, "write": own_ms - time_ms["total"], "total": read_ms + own_ms}
        stats["time_ms"] = {name: round(value, 3) for name, value in time_ms.items()}
        return plan, {"file": str(files.source), "output_file": str(target), **stats}

    return write_and_report


def _upscale_whole(args: argparse.Namespace, upscaler: "Upscaler", how: dict[str, Any], planes: "np.ndarray",
                   icc_profile: bytes | None, target: "Path") -> Write:  # fmt: skip
    """Upscale a picture in memory; what it returns writes it, and its heat map."""
    from ..channels import split_alpha
    from ..imaging.io import Image, write_image

    result = upscaler.upscale(planes, **how)

    def write() -> "tuple[Plan, dict[str, Any]]":
        pixels, alpha = split_alpha(result.image)
        write_image(target, Image(pixels, alpha, icc_profile))
        if args.heatmap:
            write_image(args.heatmap, Image(result.heatmap()))
        return result.plan, result.stats

    return write


def _upscale_in_strips(args: argparse.Namespace, upscaler: "Upscaler", how: dict[str, Any], planes: "np.ndarray",
                       icc_profile: bytes | None, target: "Path") -> Write:  # fmt: skip
    """As `_upscale_whole`, but from top to bottom and written as it comes, so that memory does not grow with it."""
    import numpy as np

    from ..imaging.io import write_strips
    from ..report import heat_map

    strips = upscaler.strips(planes, **how)
    height, width = (side * upscaler.scale for side in planes.shape[:2])
    channels = planes.shape[2] if planes.ndim == 3 else 1
    with ExitStack() as files:
        picture = files.enter_context(write_strips(target, (height, width, channels), planes.dtype, icc_profile))
        heat = None
        if args.heatmap:
            heat = files.enter_context(write_strips(args.heatmap, (height, width, 3), np.uint8, None))
        first = 0
        for rows in strips:
            picture.write(rows.reshape(len(rows), width, channels))
            if heat:
                heat.write(heat_map(rows, strips.plan, first))
            first += len(rows)
    return lambda: (strips.plan, strips.stats)
