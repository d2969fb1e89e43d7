"""What a job will take, told before it starts, and the trade-off that has it take no more than it may."""

import argparse
import math
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import ImageError
from .files import Files

if TYPE_CHECKING:
    from .job import Job, Size
    from .upscalers import Upscalers

SAMPLED, CROP = 6, 128
"""Pictures of which a crop of this side is upscaled to tell how long all will take."""


def spread(sizes: "dict[Files, Size]", upscalers: "Upscalers", total_ms: float,
           watched: Callable[[Sequence[Files], str], Any]) -> tuple[dict[str, Any], dict[Files, float]]:  # fmt: skip
    """The choice with which all pictures are predicted to take at most `total_ms`, and what each is to take by it.

    They are read one by one, and only what each could be had for is kept. Those that cannot be read are left out, for
    they fail when it is their turn, and those that are not enlarged, which go through no sub-net.
    """
    from ..channels import planning_picture
    from ..imaging.io import read_image
    from ..scheduler.total import eta_within

    curves = {}
    for file in watched([file for file, size in sizes.items() if upscalers.enlarge(size)], "planning"):
        try:
            planes = read_image(file.source).planes
        except ImageError:
            continue
        curves[file] = upscalers.of(sizes[file]).planner.curve(planning_picture(planes))
    eta = eta_within(list(curves.values()), total_ms)
    return {"eta": eta, "objective": "mse"}, {file: curve.cost_at(eta) for file, curve in curves.items()}


def describe(args: argparse.Namespace, job: "Job", done: int, upscalers: "Upscalers") -> str:
    """One line: how many pictures of what size are left to do, how many are done, and how long it will take."""
    inputs = sum(height * width for height, width in job.sizes.values())
    outputs = sum(height * width for height, width in map(upscalers.result_of, job.sizes.values()))
    parts = [f"{len(job.sizes)} pictures, {inputs / 1e6:.1f} to {outputs / 1e6:.1f} megapixels"]
    if job.planned_ms is not None:
        parts.append(f"{args.budget_total} asked for all, {job.planned_ms / 1e3:.2f} s planned")
    elif job.sizes and args.ray is None:  # the speed of other machines is not known
        seconds = _seconds(args, job, upscalers)
        if seconds is not None:
            parts.append(f"about {seconds:.0f} s without files" if seconds >= 1 else "under a second without files")
    parts += [f"{done} done before"] if done else []
    return f"arm-sr: {'; '.join(parts)}"


def _seconds(args: argparse.Namespace, job: "Job", upscalers: "Upscalers") -> float | None:
    """About how long the pictures will take, files not counted; None when none of those that were tried can be read.

    As crops of some of them take, upscaled as all will be; at most what each may take. Those that are not enlarged are
    taken for free.
    """
    from ..imaging.io import read_image
    from ..scheduler import Budget

    limit = Budget.parse(args.deadline or args.budget or "max")
    sizes = {file: size for file, size in job.sizes.items() if upscalers.enlarge(size)}
    if not sizes:
        return 0.0
    if limit.kind == "ms":
        return limit.value / 1e3 * len(sizes)
    sample = list(sizes)[:: -(-len(sizes) // SAMPLED)]
    pixels = spent = 0.0
    for file in sample:
        try:
            image = read_image(file.source).pixels
        except ImageError:
            continue  # it fails when it is its turn
        top, left = ((side - min(side, CROP)) // 2 for side in image.shape[:2])
        crop, upscaler = image[top : top + CROP, left : left + CROP], upscalers.of(sizes[file])
        area, how = crop.shape[0] * crop.shape[1], job.how
        if limit.kind == "macs":
            how = how | {"budget": f"{limit.value / 1e9 * area / math.prod(sizes[file]):.9f}GMAC"}
        upscaler.upscale(crop, **how)  # loads what it needs
        begun = time.perf_counter()
        upscaler.upscale(crop, **how)
        spent += time.perf_counter() - begun
        pixels += area
    return spent / pixels * sum(map(math.prod, sizes.values())) if pixels else None
