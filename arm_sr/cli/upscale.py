"""Upscale pictures within a compute budget.

Without -o the result is NAME_x4.EXT beside the input and must not exist yet; files named by -o, --heatmap
and --json are replaced in one step. Exit status: 0, 1 when some pictures failed, 2 for wrong usage.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from .options import (
    add_choice,
    add_model,
    add_sharpen,
    add_talk,
    choice_of,
    measure_first,
    open_upscaler,
    report_file,
)
from .pipeline import overlapped

if TYPE_CHECKING:
    import numpy as np

    from ..api import Upscaler
    from ..imaging.io import Image
    from ..scheduler import Plan

Write: TypeAlias = Callable[[], "tuple[Plan, dict[str, Any]]"]
"""What is left to do for an upscaled picture: write it; returns plan and report."""

STRIPS_FROM = 64_000_000
"""Pixels of a result from which on no other picture is in memory beside it, and it is computed and written in strips
where its format allows."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `arm-sr upscale`."""
    parser.add_argument("inputs", nargs="+", type=Path, metavar="INPUT", help="picture files")
    parser.add_argument("-o", "--output", type=Path, metavar="OUT", help="file for one input, directory for several")
    parser.add_argument("-s", "--scale", type=int, help="upscaling factor (default: the model's)")
    add_model(parser, default=None)
    add_choice(parser)
    add_sharpen(parser)
    parser.add_argument("--heatmap", type=Path, metavar="FILE", help="write a picture of where the compute went")
    parser.add_argument("--compare", type=Path, metavar="FILE.html", help="write a page to compare with bicubic")
    parser.add_argument("--json", metavar="FILE|-", help="write the report, one JSON object a line; - is stdout")
    parser.add_argument("--dry-run", action="store_true", help="print the plan and compute nothing")
    add_talk(parser, verbose="print the plan of every picture too")


def run(args: argparse.Namespace) -> int:
    """Upscale every input; returns the exit status."""
    from ..api import model_of_scale
    from ..atomic import writable, write_bytes
    from ..errors import BackendError, ImageError, ModelError, UsageError

    how, report_to = choice_of(args), report_file(args.json)
    if args.heatmap and len(args.inputs) > 1:
        raise UsageError("--heatmap takes one input, because it writes one file")
    if args.compare and len(args.inputs) > 1:
        raise UsageError("--compare takes one input, because it writes one page")
    if args.compare and not writable(args.compare):
        raise UsageError(f"--compare {args.compare}: no file can be written there; name another place")
    if args.deadline and args.dry_run:
        raise UsageError("--dry-run has no plan for a deadline: what is computed depends on the clock")
    model = args.model or (model_of_scale(args.scale) if args.scale is not None else None)
    upscaler = open_upscaler(args, model or "plain-x4")
    if args.scale not in (None, upscaler.scale):
        name, scale = upscaler.card.name, upscaler.scale
        raise ModelError(f"model '{name}' has scale {scale}, not {args.scale}; leave -s or -m out")
    if args.width is not None:
        upscaler.card.branch_number(args.width)  # a wrong name is usage, said before any picture is read
    # What is done once is no part of the time of the first picture.
    if args.deadline:
        upscaler.load()
    in_ms = measure_first(args, upscaler)
    # Threads that read and write would take the time that a picture was given.
    by_clock = in_ms or args.deadline is not None

    def work(files: tuple[Path, Path], read: "tuple[Image, float]") -> Write:
        return _one(args, upscaler, how, *files, *read)

    def alone(read: "tuple[Image, float]") -> bool:
        return by_clock or len(args.inputs) == 1 or _is_large(read[0], upscaler.scale)

    files = list(zip(args.inputs, _targets(args, upscaler.scale), strict=True))
    lines: list[str] = []
    failed = 0
    with ExitStack() as at_the_end:
        if report_to:  # also when it ends before its time
            at_the_end.callback(lambda: write_bytes(report_to, "".join(line + "\n" for line in lines).encode()))
        outcomes = at_the_end.enter_context(closing(overlapped(files, _read, work, alone)))
        for source in args.inputs:
            try:
                plan, report = next(outcomes)()  # an outcome with a name would keep its picture in memory
            except (ImageError, BackendError) as error:
                failed += 1
                print(f"arm-sr: error: {error}", file=sys.stderr)
            except MemoryError:
                failed += 1
                print(f"arm-sr: error: {source}: not enough memory; cut the picture into smaller ones", file=sys.stderr)
            else:
                lines.append(json.dumps(report))
                _tell(args, plan, report, lines[-1])
    if failed and len(args.inputs) > 1:
        print(f"arm-sr: {failed} of {len(args.inputs)} pictures failed", file=sys.stderr)
    return 1 if failed else 0


def _targets(args: argparse.Namespace, scale: int) -> list[Path]:
    """Output file of every input; UsageError when two are the same or one would replace an input."""
    from ..errors import UsageError

    def default_name(source: Path) -> str:
        return f"{source.stem}_x{scale}{source.suffix or '.png'}"

    if args.output is None:
        targets = [source.parent / default_name(source) for source in args.inputs]
    elif len(args.inputs) == 1 and not os.path.isdir(args.output):
        targets = [args.output]
    elif os.path.exists(args.output) and not os.path.isdir(args.output):
        raise UsageError(f"-o {args.output} must be a directory, because there are {len(args.inputs)} inputs")
    else:
        targets = [args.output / default_name(source) for source in args.inputs]
    others = args.heatmap, args.compare, args.json and args.json != "-" and Path(args.json)
    named = [*targets, *(path for path in others if path)]
    seen: dict[str, Path] = {}
    for path in named:
        place = os.path.realpath(path)
        if place in seen:
            raise UsageError(f"{path} would be written twice; give the outputs different names")
        seen[place] = path
    for source in args.inputs:
        if os.path.realpath(source) in seen:
            raise UsageError(f"{source} would be replaced by an output; give another name with -o")
    return targets


def _read(files: tuple[Path, Path]) -> "tuple[Image, float]":
    """The picture of the first of `files`, and the milliseconds that reading it took."""
    from ..imaging.io import read_image

    begun = time.perf_counter()
    image = read_image(files[0])
    return image, 1e3 * (time.perf_counter() - begun)


def _is_large(image: "Image", scale: int) -> bool:
    """Whether the result is too large to be in memory beside another."""
    height, width = image.pixels.shape[:2]
    return height * width * scale**2 > STRIPS_FROM


def _one(args: argparse.Namespace, upscaler: "Upscaler", how: dict[str, Any], source: Path, target: Path,
         image: "Image", read_ms: float) -> Write:  # fmt: skip
    """Upscale the picture of `source`; what it returns writes `target`."""
    import numpy as np

    from ..compare_page import MAX_PIXELS
    from ..errors import ImageError
    from ..imaging.io import check_writable, takes_strips
    from ..report import legend_height, statistics

    begun = time.perf_counter()
    if args.dry_run:
        planned = upscaler.plan(image.pixels, **how)
        plan_ms = 1e3 * (time.perf_counter() - begun)
        time_ms = {"read": read_ms, "plan": plan_ms, "infer": 0.0, "stitch": 0.0, "write": 0.0,
                   "total": read_ms + plan_ms}  # fmt: skip
        stats = statistics(planned, time_ms=time_ms, macs=0.0, backend=upscaler.backend.name,
                           precision=upscaler.backend.precision)  # fmt: skip
        report = {"file": str(source), **stats, "sharpen": args.sharpen}
        return lambda: (planned, report)
    if args.output is None and os.path.lexists(target):
        raise ImageError(f"{target}: exists already; remove it or name the output with -o")
    if args.output is not None and len(args.inputs) > 1:
        args.output.mkdir(parents=True, exist_ok=True)
    height, width = (side * upscaler.scale for side in image.pixels.shape[:2])
    depth = {"sixteen_bit": image.pixels.dtype.itemsize == 2, "alpha": image.alpha is not None}
    check_writable(target, width, height, **depth)
    if args.heatmap:
        legend = legend_height(len(upscaler.branches), width)
        check_writable(args.heatmap, width, height + legend, sixteen_bit=False, alpha=False)
    if args.compare and width * height > MAX_PIXELS:
        raise ImageError(f"{source}: {width}x{height} pixels are too many for the page of --compare; leave it out")
    planes = image.pixels if image.alpha is None else np.dstack([image.pixels, image.alpha])
    files = [target, *([args.heatmap] if args.heatmap else [])]
    in_strips = _is_large(image, upscaler.scale) and args.deadline is None and all(takes_strips(file) for file in files)
    bar = _progress_bar(args, upscaler, source, image.pixels.shape)
    try:
        upscale = _upscale_in_strips if in_strips else _upscale_whole
        write = upscale(args, upscaler, how, planes, image.icc_profile, target)
    finally:
        bar.close()
    upscale_ms = 1e3 * (time.perf_counter() - begun)

    def write_and_report() -> "tuple[Plan, dict[str, Any]]":
        begun = time.perf_counter()
        plan, stats = write()
        own_ms = upscale_ms + 1e3 * (time.perf_counter() - begun)
        time_ms = stats["time_ms"]
        write_ms = own_ms - time_ms["total"] - time_ms.get("sharpen", 0.0)
        time_ms |= {"read": read_ms, "write": write_ms, "total": read_ms + own_ms}
        stats["time_ms"] = {name: round(value, 3) for name, value in time_ms.items()}
        return plan, {"file": str(source), "output_file": str(target), **stats, "sharpen": args.sharpen}

    return write_and_report


def _upscale_whole(args: argparse.Namespace, upscaler: "Upscaler", how: dict[str, Any], planes: "np.ndarray",
                   icc_profile: bytes | None, target: Path) -> Write:  # fmt: skip
    """Upscale a picture in memory; what it returns writes it, and its heat map."""
    import numpy as np

    from ..atomic import write_bytes
    from ..channels import split_alpha
    from ..compare_page import compare_page
    from ..imaging.filters import sharpen
    from ..imaging.io import Image, write_image
    from ..report import legend_strip

    result = upscaler.upscale(planes, **how)
    finished = result.image
    if args.sharpen:
        begun = time.perf_counter()
        finished = sharpen(finished, args.sharpen)
        result.stats["time_ms"]["sharpen"] = 1e3 * (time.perf_counter() - begun)

    def write() -> "tuple[Plan, dict[str, Any]]":
        pixels, alpha = split_alpha(finished)
        write_image(target, Image(pixels, alpha, icc_profile))
        if args.heatmap:
            strip = legend_strip(result.stats, result.image.shape[1])
            write_image(args.heatmap, Image(np.vstack([result.heatmap(), strip])))
        if args.compare:
            page = compare_page(planes, finished, result.plan, result.stats, icc_profile, target.name)
            write_bytes(args.compare, page.encode())
        return result.plan, result.stats

    return write


def _upscale_in_strips(args: argparse.Namespace, upscaler: "Upscaler", how: dict[str, Any], planes: "np.ndarray",
                       icc_profile: bytes | None, target: Path) -> Write:  # fmt: skip
    """As `_upscale_whole`, but from top to bottom and written as it comes, so that memory does not grow with it."""
    import numpy as np

    from ..imaging.filters import StripSharpener
    from ..imaging.io import write_strips
    from ..report import heat_map, legend_height, legend_strip

    sharpener, sharpen_ms = StripSharpener(args.sharpen) if args.sharpen else None, 0.0
    strips = upscaler.strips(planes, **how)
    height, width = (side * upscaler.scale for side in planes.shape[:2])
    channels = planes.shape[2] if planes.ndim == 3 else 1
    with ExitStack() as files:
        picture = files.enter_context(write_strips(target, (height, width, channels), planes.dtype, icc_profile))
        heat = None
        if args.heatmap:
            tall = height + legend_height(len(upscaler.branches), width)
            heat = files.enter_context(write_strips(args.heatmap, (tall, width, 3), np.uint8, None))
        first = 0
        for rows in strips:
            if heat:
                heat.write(heat_map(rows, strips.plan, first))
            first += len(rows)
            if sharpener:
                begun = time.perf_counter()
                finished = sharpener.add(rows, last=first == height)
                sharpen_ms += 1e3 * (time.perf_counter() - begun)
            else:
                finished = rows
            picture.write(finished.reshape(len(finished), width, channels))
        if heat:
            heat.write(legend_strip(strips.stats, width))
    stats = strips.stats
    if sharpener:
        stats["time_ms"]["sharpen"] = sharpen_ms
    return lambda: (strips.plan, stats)


def _tell(args: argparse.Namespace, plan: "Plan", report: dict[str, Any], line: str) -> None:
    """Print what is said of a picture that is done; `line` is the report as JSON."""
    if args.dry_run:
        if args.json != "-":
            print(plan)
    else:
        if args.verbose:
            print(plan, file=sys.stderr)
        if not args.quiet:
            print(f"{report['file']} -> {report['output_file']}: {_summary(report)}", file=sys.stderr)
    if args.json == "-":
        print(line, flush=True)


def _summary(stats: dict[str, Any]) -> str:
    """One line: size, cost, branches, time."""
    planned, largest = stats["macs"]["planned"], stats["macs"]["largest"]
    patches = sum(stats["branches"].values())
    shares = ", ".join(f"{name} {100 * n / patches:.0f}%" for name, n in stats["branches"].items() if n)
    time_ms = stats["time_ms"]
    own_ms = sum(time_ms.get(stage, 0.0) for stage in ("plan", "infer", "stitch", "sharpen"))
    text = (
        f"{stats['output']['width']}x{stats['output']['height']}, {planned / 1e9:.2f} GMAC "
        f"({100 * planned / largest:.1f}% of one pass of the largest sub-net), patches: {shares}; "
        f"{own_ms:.0f} ms and {time_ms['total']:.0f} ms with files"
    )
    budget = stats["budget"]
    if budget["kind"] == "ms":
        text += f"; {budget['requested']} asked, {budget['planned']:.0f} ms planned"
    if budget["kind"] == "deadline":
        text += f"; {budget['requested']} asked, {budget['spent']:.0f} ms taken"
    return text + (f"; {stats['note']}" if stats["note"] else "")


def _progress_bar(args: argparse.Namespace, upscaler: "Upscaler", source: Path, shape: tuple[int, ...]) -> Any:
    """A bar over LR pixels on a terminal, silent elsewhere."""
    from tqdm import tqdm

    disable = True if args.quiet else None
    bar = tqdm(total=shape[0] * shape[1], desc=source.name, unit="px", unit_scale=True, leave=False, disable=disable)
    upscaler.progress = bar.update
    return bar
