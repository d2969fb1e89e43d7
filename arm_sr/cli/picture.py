"""One picture of `arm-sr upscale`, from what was read to the file."""

import argparse
import math
import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from .files import STREAM, Files
from .upscalers import Upscalers

if TYPE_CHECKING:
    import numpy as np

    from ..api import Upscaler
    from ..imaging.io import Image
    from ..scheduler import Plan

Told: TypeAlias = tuple["Plan", dict[str, Any]]
"""Plan and report of a picture that is done."""

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

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        height, width = self.image.pixels.shape[:2]
        return height, width


@dataclass(frozen=True)
class Upscaled:
    """What became of a picture, up to its file."""

    plan: "Plan"
    stats: dict[str, Any]
    """Its report so far."""
    pixels: "np.ndarray | None" = None
    """What is left to write; None when nothing was to be written, or all is, strip by strip."""
    heat_map: "np.ndarray | None" = None
    """The same with its legend; None where nobody asked for it."""


def read(files: Files, stdin: bytes = b"", with_digest: bool = False) -> Picture:
    """Read the picture of `files`, or that in `stdin`."""
    from ..imaging import io

    begun, digest = time.perf_counter(), ""
    if files.source == STREAM:
        image = io.decode_image(stdin, "stdin")
    elif with_digest:
        image, digest = io.read_with_digest(files.source)
    else:
        image = io.read_image(files.source)
    return Picture(image, digest, 1e3 * (time.perf_counter() - begun))


def all_of_stdin() -> bytes:
    """What comes in there, to its end; ImageError when it cannot be read."""
    from ..errors import ImageError

    try:
        return sys.stdin.buffer.read()
    except (AttributeError, OSError) as error:  # there is none, or it is a folder
        raise ImageError("stdin: it cannot be read; pipe a picture into it") from error


def is_large(size: tuple[int, int], upscalers: Upscalers) -> bool:
    """Whether what is made of a picture of this height and width is too large to be in memory beside another."""
    scale = upscalers.of(size).scale
    return max(size[0] * size[1] * scale**2, math.prod(upscalers.result_of(size))) > STRIPS_FROM


@contextmanager
def progress(args: argparse.Namespace, upscaler: "Upscaler", name: str, pixels: int, job_bar: Any) -> Iterator[None]:
    """A bar over the LR pixels of a picture on a terminal, or its part of that of a whole job."""
    from tqdm import tqdm

    bar, left = job_bar, pixels
    if bar is None:
        hidden = True if args.quiet else None
        bar = tqdm(total=pixels, desc=name, unit="px", unit_scale=True, leave=False, disable=hidden)

    def advance(done: int) -> None:
        nonlocal left
        left -= done
        bar.update(done)

    upscaler.progress = advance
    try:
        yield
    finally:
        upscaler.progress = None
        if job_bar is None:
            bar.close()
        else:
            bar.update(left)  # what was interpolated, too


def upscale_picture(args: argparse.Namespace, upscalers: Upscalers, how: dict[str, Any], files: Files,
                    picture: Picture, job_bar: Any = None) -> Upscaled:  # fmt: skip
    """Upscale a picture; `write_picture` does the rest."""
    upscaler, to = upscalers.of(picture.size), upscalers.result_of(picture.size)
    begun, image = time.perf_counter(), picture.image
    planes = image.planes
    enlarged = upscalers.enlarge(picture.size)
    if not enlarged:  # no sub-net is of use
        how = {"width": upscaler.branches[0]}
    with progress(args, upscaler, files.name, math.prod(picture.size), job_bar):
        if not args.dry_run:
            _check(args, files, image, to, len(upscaler.branches))
        if args.dry_run:
            made = _plan_only(upscaler, how, planes)
        elif not enlarged:
            made = _reduce(args, upscaler, how, planes, to)
        elif is_large(picture.size, upscalers) and args.deadline is None and _take_strips(args, files):
            made = _upscale_in_strips(args, upscaler, how, planes, image, to, files)
        else:
            made = _upscale_whole(args, upscaler, how, planes, to)
    time_ms = {"resize": 0.0, "sharpen": 0.0, **made.stats["time_ms"]}
    inner_ms = time_ms["total"] + time_ms["resize"] + time_ms["sharpen"]
    own_ms = 1e3 * (time.perf_counter() - begun)
    time_ms |= {"read": picture.read_ms, "write": own_ms - inner_ms, "total": picture.read_ms + own_ms}
    output = {"width": to[1], "height": to[0]}
    return replace(made, stats=made.stats | {"time_ms": time_ms, "output": output, "sharpen": args.sharpen})


def write_picture(args: argparse.Namespace, files: Files, picture: Picture, upscaled: Upscaled) -> Told:
    """Write what is left to write of an upscaled picture; its plan and its report."""
    begun = time.perf_counter()
    if upscaled.pixels is not None:
        _write(args, files, picture.image, upscaled, upscaled.pixels)
    ms = 1e3 * (time.perf_counter() - begun)
    time_ms = upscaled.stats["time_ms"]
    time_ms = time_ms | {"write": time_ms["write"] + ms, "total": time_ms["total"] + ms}
    where = {} if args.dry_run else {"output_file": str(files.target)}
    rounded = {name: round(value, 3) for name, value in time_ms.items()}
    return upscaled.plan, {"file": str(files.source), **where, **upscaled.stats, "time_ms": rounded}


def _check(args: argparse.Namespace, files: Files, image: "Image", to: tuple[int, int], branches: int) -> None:
    """ImageError when the result, the heat map or the page could not be written; the folder of `target` is made."""
    from ..compare_page import MAX_PIXELS
    from ..errors import ImageError
    from ..imaging.formats import check_writable, format_for
    from ..report import legend_height

    (height, width), target = to, files.target
    if args.heatmap:
        tall = height + legend_height(branches, width)
        check_writable(args.heatmap, width, tall)
    if args.compare and width * height > MAX_PIXELS:
        reason = f"{width}x{height} pixels are too many for the page of --compare; leave it out"
        raise ImageError(f"{files.source}: {reason}")
    if target == STREAM:
        format_for("stdout", files.encoding.suffix, width, height, **image.needs)
        return
    if args.output is None and os.path.lexists(target):
        raise ImageError(f"{target}: exists already; remove it or name the output with -o")
    if args.output is not None and target != args.output:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            reason = f"its folder cannot be made ({error.strerror or error}); choose another place"
            raise ImageError(f"{target}: {reason}") from error
    check_writable(target, width, height, **image.needs, suffix=files.encoding.suffix)


def _take_strips(args: argparse.Namespace, files: Files) -> bool:
    """Whether all that is asked for can be written in strips."""
    from ..imaging.io import takes_strips

    whole = files.target == STREAM or args.compare or not takes_strips(files.encoding.suffix)
    return not whole and (args.heatmap is None or takes_strips(args.heatmap.suffix))


def _plan_only(upscaler: "Upscaler", how: dict[str, Any], planes: "np.ndarray") -> Upscaled:
    """Plan a picture, with nothing to write."""
    begun = time.perf_counter()
    plan = upscaler.plan(planes, **how)
    return Upscaled(plan, _planned(upscaler, plan, 1e3 * (time.perf_counter() - begun)))


def _planned(upscaler: "Upscaler", plan: "Plan", plan_ms: float) -> dict[str, Any]:
    """The report of a picture that went through no sub-net."""
    from ..report import statistics

    time_ms = {"plan": plan_ms, "load": 0.0, "infer": 0.0, "stitch": 0.0, "total": plan_ms}
    engine = {"backend": upscaler.backend.name, "precision": upscaler.backend.precision}
    return statistics(plan, time_ms=time_ms, macs=0.0, **engine)


def _reduce(args: argparse.Namespace, upscaler: "Upscaler", how: dict[str, Any], planes: "np.ndarray",
            to: tuple[int, int]) -> Upscaled:  # fmt: skip
    """Resize a picture that is to be no larger than it is."""
    from ..imaging.resample import resize

    plan = replace(upscaler.plan(planes, **how), note="no larger than the picture: resized without a sub-net")
    begun = time.perf_counter()
    result = resize(planes, *to)
    stats = _planned(upscaler, plan, 0.0)
    stats["time_ms"]["resize"] = 1e3 * (time.perf_counter() - begun)
    return _finished(args, result, plan, stats)


def _upscale_whole(args: argparse.Namespace, upscaler: "Upscaler", how: dict[str, Any], planes: "np.ndarray",
                   to: tuple[int, int]) -> Upscaled:  # fmt: skip
    """Upscale a picture in memory."""
    from ..imaging.resample import resize

    result = upscaler.upscale(planes, **how)
    pixels, stats = result.image, result.stats
    if pixels.shape[:2] != to:
        begun = time.perf_counter()
        pixels = resize(pixels, *to)
        stats["time_ms"]["resize"] = 1e3 * (time.perf_counter() - begun)
    return _finished(args, pixels, result.plan, stats)


def _finished(args: argparse.Namespace, pixels: "np.ndarray", plan: "Plan", stats: dict[str, Any]) -> Upscaled:
    """Make the heat map, and sharpen, as far as they are asked for."""
    import numpy as np

    from ..imaging.filters import sharpen
    from ..report import heat_map, legend_strip

    heat = None
    if args.heatmap:
        heat = np.vstack([heat_map(pixels, plan, height=len(pixels)), legend_strip(stats, pixels.shape[1])])
    if args.sharpen:
        begun = time.perf_counter()
        pixels = sharpen(pixels, args.sharpen)
        stats["time_ms"]["sharpen"] = 1e3 * (time.perf_counter() - begun)
    return Upscaled(plan, stats, pixels, heat)


def _write(args: argparse.Namespace, files: Files, image: "Image", upscaled: Upscaled, pixels: "np.ndarray") -> None:
    """Write the result of `image`, its heat map and the page to compare."""
    from ..atomic import write_bytes
    from ..channels import split_alpha
    from ..compare_page import compare_page
    from ..imaging.io import Image, encode_image, errors_about, write_image

    colours, alpha = split_alpha(pixels)
    whole = replace(image, pixels=colours, alpha=alpha)
    if files.target == STREAM:
        sys.stdout.buffer.write(encode_image(whole, files.encoding, name="stdout"))
        sys.stdout.buffer.flush()
    else:
        write_image(files.target, whole, files.encoding)
    if upscaled.heat_map is not None:
        write_image(args.heatmap, Image(upscaled.heat_map))
    if args.compare:
        about = (upscaled.plan, upscaled.stats, image.icc_profile, files.target.name)
        page = compare_page(image.planes, pixels, *about)
        with errors_about(args.compare):
            write_bytes(args.compare, page.encode(errors="replace"))  # a name may be no text


def _upscale_in_strips(args: argparse.Namespace, upscaler: "Upscaler", how: dict[str, Any], planes: "np.ndarray",
                       image: "Image", to: tuple[int, int], files: Files) -> Upscaled:  # fmt: skip
    """As `_upscale_whole`, but from top to bottom and written as it comes, so that memory does not grow with it."""
    import numpy as np

    from ..imaging.filters import StripSharpener
    from ..imaging.io import write_strips
    from ..imaging.resample import resize_rows
    from ..report import heat_map, legend_height, legend_strip

    sharpener, sharpen_ms = StripSharpener(args.sharpen) if args.sharpen else None, 0.0
    strips = upscaler.strips(planes, **how)
    full = (planes.shape[0] * upscaler.scale, planes.shape[1] * upscaler.scale)
    height, width = to
    channels = planes.shape[2] if planes.ndim == 3 else 1
    with ExitStack() as opened:
        target, shape, suffix = files.target, (height, width, channels), files.encoding.suffix
        about = (planes.dtype, image.icc_profile, image.exif, image.xmp, suffix)
        picture = opened.enter_context(write_strips(target, shape, *about))
        heat = None
        if args.heatmap:
            tall = height + legend_height(len(upscaler.branches), width)
            heat = opened.enter_context(write_strips(args.heatmap, (tall, width, 3), np.uint8, None))
        first = 0
        for rows in strips if full == to else resize_rows(strips, full, to):
            if heat:
                heat.write(heat_map(rows, strips.plan, first, height))
            first += len(rows)
            finished, begun = rows, time.perf_counter()
            if sharpener:
                finished = sharpener.add(rows, last=first == height)
                sharpen_ms += 1e3 * (time.perf_counter() - begun)
            picture.write(finished.reshape(len(finished), width, channels))
        if heat:
            heat.write(legend_strip(strips.stats, width))
    stats = strips.stats
    if sharpener:
        stats["time_ms"]["sharpen"] = sharpen_ms
    return Upscaled(strips.plan, stats)
