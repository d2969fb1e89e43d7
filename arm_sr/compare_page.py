"""`--compare`: a page that holds a picture before and after, with a slider between; one file, nothing loaded."""

import base64
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

import cv2
import numpy as np

from .channels import split_alpha, without_hidden_colours
from .imaging.formats import Encoding
from .imaging.io import Image, encode_image, rgb8
from .report import UPSCALING, branch_colours, legend
from .scheduler import Plan

MAX_PIXELS = 64_000_000
"""Of a result; browsers fail on pages of more."""


def compare_page(lr: np.ndarray, sr: np.ndarray, plan: Plan, report: dict[str, Any], icc_profile: bytes | None = None,
                 title: str = "picture") -> str:  # fmt: skip
    """The page as HTML.

    Args:
        lr: the LR picture, channels and dtype as `Upscaler.upscale` takes it.
        sr: the result, the same channels and dtype, any size; on the other side is `lr` by the cubic interpolation of
            the bicubic branch to this size.
        plan: its plan.
        report: its report, as `Result.stats`.
        icc_profile: meaning of the colours; None is sRGB.
        title: what the page calls the picture.
    """
    height, width = sr.shape[:2]
    before = cv2.resize(without_hidden_colours(lr), (width, height), interpolation=cv2.INTER_CUBIC)
    # A pixel for every LR pixel: patches at the right and lower border may be cut.
    rows = np.arange(plan.grid.height) // plan.grid.patch
    cols = np.arange(plan.grid.width) // plan.grid.patch
    colours = branch_colours(len(plan.branches))[plan.branch_map[rows][:, cols]]
    macs, patches = report["macs"], plan.branch_map.size
    share = 100 * macs["computed"] / macs["largest"]
    time_ms = report["time_ms"]
    facts = {
        "Size": f"{plan.grid.width}x{plan.grid.height} to {width}x{height}",
        "Model": f"{plan.model}, {report['backend']}, {report['precision']}",
        "Asked for": f"{plan.kind} {plan.requested}".strip(),
        "MACs": f"{macs['computed'] / 1e9:.2f} G, {share:.1f}% of one pass of the largest sub-net",
        "Time": f"{sum(time_ms.get(stage, 0.0) for stage in UPSCALING):.0f} ms",
    }
    if report["predicted_psnr"] is not None:
        facts["Predicted PSNR"] = f"{report['predicted_psnr']:.2f} dB"
    if report["note"]:
        facts["Note"] = report["note"]
    branches = [
        f'<tr><th scope="row"><span class="swatch" style="background:{branch["colour"]}"></span>'
        f"{escape(branch['name'])}</th><td>{branch['patches']} ({100 * branch['patches'] / patches:.0f}%)</td>"
        f"<td>{branch['macs'] / 1e9:.2f}</td></tr>"
        for branch in legend(report)
    ]
    told = [f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>' for name, value in facts.items()]
    page = Template(files(__package__).joinpath("compare_page.html").read_text(encoding="utf-8"))
    return page.substitute(
        title=escape(title), width=width, height=height, before=_data(before, icc_profile),
        after=_data(sr, icc_profile), heat=_data(colours, None), facts="\n".join(told), branches="\n".join(branches),
    )  # fmt: skip


def _data(planes: np.ndarray, icc_profile: bytes | None) -> str:
    """A picture as the address of an 8-bit PNG."""
    pixels, alpha = split_alpha(planes)
    if pixels.dtype == np.uint16:
        pixels = rgb8(pixels)
        alpha = None if alpha is None else rgb8(alpha)[..., 0].copy()
    data = encode_image(Image(pixels, alpha, icc_profile if pixels.ndim == 3 else None), Encoding(".png"))
    return "data:image/png;base64," + base64.b64encode(data).decode()
