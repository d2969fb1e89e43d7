"""Quality, cost and time of one setting on pictures with ground truth."""

import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..api import Upscaler
from ..errors import ImageError
from ..imaging.filters import sharpen
from ..imaging.metrics import psnr_of_mse, psnr_y, squared_error, ssim_y
from ..imaging.niqe import niqe
from ..scheduler import Plan
from .pairs import Pair


@dataclass(frozen=True)
class Score:
    """What one setting reached on one picture."""

    picture: str
    """File name."""
    psnr_rgb: float
    """dB, border of `scale` pixels cropped."""
    psnr_y: float
    """dB on Y of BT.601."""
    ssim_y: float
    """On Y; NaN for pictures under 11 pixels."""
    squared_error: float
    """Total over all RGB values."""
    values: int
    """How many RGB values."""
    macs: float
    """Multiply-accumulates computed, halo included."""
    macs_largest: float
    """Of one pass of the largest sub-net."""
    ms: float
    """Milliseconds of planning, inference, stitching and sharpening, median of the repeats."""
    seam: float
    """See `seam_step`."""
    seam_pixels: int
    """Pixels along the borders of the tiles."""
    niqe: float | None = None
    """On Y, border cropped; None where it was not asked for."""


def score_picture(upscaler: Upscaler, pair: Pair, how: dict[str, Any], repeats: int = 1, *,
                  sharpening: str | None = None, with_niqe: bool = False) -> Score:  # fmt: skip
    """Upscale `pair.lr` with `Upscaler.upscale(**how)`, filter it by `sharpening` (see `sharpen`), and compare with
    `pair.hr`. ImageError, when NIQE is asked for, for a picture that has none."""
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        result = upscaler.upscale(pair.lr, **how)
        sr = sharpen(result.image, sharpening) if sharpening else result.image
        times.append(1e3 * (time.perf_counter() - begun))
    scale = upscaler.scale
    error, values = squared_error(sr, pair.hr, scale)
    seam, seam_pixels = seam_step(sr, result.plan)
    try:
        no_reference = niqe(sr, scale) if with_niqe else None
    except ValueError as reason:
        raise ImageError(f"{pair.name}: {reason}; leave it out or evaluate without --niqe") from reason
    large_enough = min(sr.shape[:2]) >= 11 + 2 * scale
    return Score(
        picture=pair.name,
        psnr_rgb=psnr_of_mse(error / values),
        psnr_y=psnr_y(sr, pair.hr, scale),
        ssim_y=ssim_y(sr, pair.hr, scale) if large_enough else float("nan"),
        squared_error=error,
        values=values,
        macs=result.stats["macs"]["computed"],
        macs_largest=result.stats["macs"]["largest"],
        ms=statistics.median(times),
        seam=seam,
        seam_pixels=seam_pixels,
        niqe=no_reference,
    )


def contest_score(niqe: float, seconds: float) -> float:
    """sqrt(7 - NIQE) / seconds * 200, the score of the contest on a device for which ESPCN was deployed, of means over
    pictures or of one; 0 where NIQE is over 7."""
    return math.sqrt(max(0.0, 7 - niqe)) / seconds * 200


def summarise(scores: Sequence[Score]) -> dict[str, float]:
    """Figures of one setting over several pictures.

    `psnr_rgb`, `psnr_y`, `ssim_y`: means over pictures; `psnr_rgb_all`: of the squared error over all
    pixels; `macs_share`: of one pass of the largest sub-net; `ms`: sum; `seam`: mean over all border pixels
    in 8-bit levels, NaN where there are none. With the NIQE of all pictures also `niqe`, their mean, and
    `contest_score`, of it and of the mean time.
    """
    rows = [asdict(score) for score in scores]

    def mean(name: str) -> float:
        known = [row[name] for row in rows if not np.isnan(row[name])]
        return float(np.mean(known)) if known else float("nan")

    border = sum(s.seam_pixels for s in scores)
    figures = {
        "psnr_rgb": mean("psnr_rgb"),
        "psnr_y": mean("psnr_y"),
        "ssim_y": mean("ssim_y"),
        "psnr_rgb_all": psnr_of_mse(sum(s.squared_error for s in scores) / sum(s.values for s in scores)),
        "macs_share": sum(s.macs for s in scores) / sum(s.macs_largest for s in scores),
        "ms": sum(s.ms for s in scores),
        "seam": sum(s.seam * s.seam_pixels for s in scores) / border if border else float("nan"),
    }
    values = [score.niqe for score in scores if score.niqe is not None]
    if len(values) == len(scores):
        figures["niqe"] = statistics.fmean(values)
        figures["contest_score"] = contest_score(figures["niqe"], figures["ms"] / len(scores) / 1e3)
    return figures


def finite(figures: dict[str, Any]) -> dict[str, Any]:
    """The same with None for NaN and infinity, which JSON does not have."""
    return {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in figures.items()}


def seam_step(sr: np.ndarray, plan: Plan) -> tuple[float, int]:
    """How visible the borders of the tiles are.

    The mean absolute step between the pixels on either side of a border, less the mean step one
    pixel further inside on both sides, in 8-bit levels; 0 where there is no border. With it the number of
    pixels along the borders.
    """
    across, inside = [], []
    for axis, after, piece in plan.seams():
        beside = np.moveaxis(sr, axis, 0)[after - 2 : after + 2, piece].astype(np.float64)
        before, at, behind = np.abs(np.diff(beside, axis=0)).reshape(3, beside.shape[1], -1).mean(axis=2)
        across.append(at)
        inside.append((before + behind) / 2)
    count = sum(map(len, across))
    if not count:
        return 0.0, 0
    return float((np.concatenate(across) - np.concatenate(inside)).mean()), count
