"""What is told about an upscaled picture: the statistics and the heat map."""

import math
from typing import Any

import cv2
import numpy as np

from .scheduler import Plan
from .scheduler.budget import parse_deadline

INFERENCE = ("plan", "infer", "stitch")
"""Stages of a report's `time_ms` that a budget is of."""
UPSCALING = (*INFERENCE, "resize", "sharpen")
"""All of them but those of files."""


def branch_colours(count: int) -> np.ndarray:
    """One RGB colour a branch, dark blue for the cheapest to red for the dearest: uint8 (count, 3)."""
    levels = np.linspace(20, 235, count).round().astype(np.uint8)
    return cv2.cvtColor(cv2.applyColorMap(levels[:, None], cv2.COLORMAP_TURBO), cv2.COLOR_BGR2RGB)[:, 0]


def heat_map(image: np.ndarray, plan: Plan, first: int = 0, height: int | None = None) -> np.ndarray:
    """The picture in grey under the colours of its branches.

    Args:
        image: the upscaled picture as `Result.image`, resized or not, or some rows of it.
        plan: its plan.
        first: number of the first row of `image`.
        height: of the whole picture; default: as it was upscaled.

    Returns:
        uint8 RGB, height and width of `image`.
    """
    grey = image if image.ndim == 2 else image[..., 0]
    if image.ndim == 3 and image.shape[2] > 2:
        grey = cv2.cvtColor(np.ascontiguousarray(image[..., :3]), cv2.COLOR_RGB2GRAY)
    if grey.dtype == np.uint16:
        grey = (grey // 257).astype(np.uint8)
    grid = plan.grid
    row = np.arange(first, first + len(image)) * grid.height // (height or grid.height * plan.scale) // grid.patch
    col = np.arange(image.shape[1]) * grid.width // image.shape[1] // grid.patch
    colours = branch_colours(len(plan.branches))[plan.branch_map[row][:, col]]
    return cv2.addWeighted(cv2.cvtColor(np.ascontiguousarray(grey), cv2.COLOR_GRAY2RGB), 0.5, colours, 0.5, 0)


def legend(report: dict[str, Any]) -> list[dict[str, Any]]:
    """What the colours of the heat map stand for, from the report that `statistics` makes.

    For every branch its `name`, its `colour` as #rrggbb, how many `patches` it has, and the `macs` that were computed
    for them, halo included.
    """
    counts, macs = report["branches"], report["macs"]["branches"]
    colours = ["#" + bytes(colour).hex() for colour in branch_colours(len(counts))]
    return [
        {"name": name, "colour": colour, "patches": count, "macs": macs[name]}
        for (name, count), colour in zip(counts.items(), colours, strict=True)
    ]


def legend_height(branches: int, width: int) -> int:
    """Rows of `legend_strip`."""
    return branches * _line_height(width)


def legend_strip(report: dict[str, Any], width: int) -> np.ndarray:
    """The legend as a picture to stand below a heat map: a line a branch, uint8 RGB (`legend_height`, `width`, 3)."""
    rows, line = legend(report), _line_height(width)
    strip = np.full((legend_height(len(rows), width), width, 3), 255, np.uint8)
    patches = sum(row["patches"] for row in rows)
    texts = [
        f"{row['name']}: {row['patches']} patches ({100 * row['patches'] / patches:.0f}%), {row['macs'] / 1e9:.2f} GMAC"
        for row in rows
    ]
    font = cv2.FONT_HERSHEY_SIMPLEX
    longest = max(cv2.getTextSize(text, font, 1.0, 1)[0][0] for text in texts)
    swatch = min(line, width // 4)
    size = min(line / 40, (width - swatch) * 0.9 / longest)
    for number, (text, colour) in enumerate(zip(texts, branch_colours(len(rows)), strict=True)):
        strip[number * line : (number + 1) * line, :swatch] = colour
        place = (swatch + max(1, line // 4), (number + 1) * line - line // 3)
        cv2.putText(strip, text, place, font, size, (0, 0, 0), max(1, line // 24), cv2.LINE_AA)
    return strip


def _line_height(width: int) -> int:
    """Readable where the picture is looked at as a whole."""
    return max(20, width // 60)


def statistics(plan: Plan, *, macs: np.ndarray | float, time_ms: dict[str, float], backend: str,
               precision: str) -> dict[str, Any]:  # fmt: skip
    """The report of one picture, ready for JSON.

    Args:
        plan: what was planned.
        macs: multiply-accumulates that were really computed for each branch: (branches,), or one number for all.
        time_ms: milliseconds by stage.
        backend: name of the engine.
        precision: arithmetic of the engine.
    """
    height, width = plan.grid.height, plan.grid.width
    of_branches = np.broadcast_to(macs, len(plan.branches)).tolist()
    computed = float(sum(of_branches))
    spent_ms = sum(time_ms.get(stage, 0.0) for stage in INFERENCE)
    planned: float | None
    if plan.kind == "ms":
        planned, spent = plan.cost, spent_ms
    elif plan.kind == "deadline":
        planned = None if plan.requested == "inf" else parse_deadline(plan.requested).value
        spent = time_ms["total"]
    elif plan.kind == "share":
        # By the table that the share counts; what runs is exactly the plan's tiles.
        planned = plan.cost / plan.cost_largest
        spent = planned * (computed / plan.macs if plan.macs else 1.0)
    else:
        planned, spent = plan.macs, computed
    eta = None
    if plan.kind == "eta":
        eta = plan.requested if plan.requested == "best" else float(plan.requested)
    predicted = plan.predicted_psnr
    return {
        "model": plan.model,
        "scale": plan.scale,
        "input": {"width": width, "height": height},
        "output": {"width": width * plan.scale, "height": height * plan.scale},
        "budget": {"kind": plan.kind, "requested": plan.requested, "planned": planned, "spent": spent},
        "branches": plan.counts,
        "macs": {
            "planned": plan.macs,
            "computed": computed,
            "largest": plan.macs_largest,
            "branches": dict(zip(plan.branches, of_branches, strict=True)),
        },
        "time_ms": {name: round(value, 3) for name, value in time_ms.items()},
        "eta": eta,
        "objective": plan.objective,
        "predicted_psnr": predicted if predicted is None or math.isfinite(predicted) else None,
        "backend": backend,
        "precision": precision,
        "note": plan.note,
    }
