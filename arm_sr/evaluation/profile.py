"""What every sub-net of a model costs and reaches: the table of the efficient super-resolution challenges."""

import statistics
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..backends import usable_backends
from ..errors import UsageError
from ..imaging.folders import list_images
from ..models import SubNet, load_model
from .arms import Engine, Upscale, interpolation_arm, static_arms
from .pairs import read_pairs
from .processes import peak_rss
from .quality import finite, score_picture, summarise
from .timing import interleaved

OUTPUT = (720, 1280)
"""Rows and columns of the result that costs are told for."""
Rows = list[dict[str, Any]]


def profile(model: str, folders: Sequence[Path], rounds: int) -> Rows:
    """Costs and quality of interpolation and every sub-net, each in one pass.

    Costs are those of a result of `OUTPUT`, cut to a multiple of the scale.

    Args:
        model: name or directory.
        folders: of pictures with ground truth.
        rounds: how often each is timed, all in turn.

    Returns:
        A row a branch, cheapest first: `model`, `scale`, `branch`, `params`, `macs`, `activations` (values that the
        convolutions put out), `convs`, `receptive_field` (side in LR pixels); `peak_rss_mib` of a process of its own on
        ONNX Runtime; `ms` by engine and precision, all that work here, medians over the rounds; `psnr_y` (dB) and
        `ssim_y` by the name of the folder, means over its pictures by the protocol; None for pictures under 11 pixels.

    Raises:
        UsageError: two folders have the same name.
        ImageError: a picture cannot be read.
    """
    card = load_model(model)
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) < len(names):
        raise UsageError(f"folders of pictures must have different names, not {', '.join(names)}")
    pairs = {
        name: list(read_pairs(list_images(folder), card.scale)) for name, folder in zip(names, folders, strict=True)
    }
    height, width = (side // card.scale for side in OUTPUT)
    lr = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    engines = [Engine(model, backend.name, backend.precision) for backend in usable_backends(card)]
    arms = [interpolation_arm(card.scale), *(arm for engine in engines for arm in static_arms(engine))]
    times = interleaved([partial(_ms, arm.open(), lr) for arm in arms], rounds)
    upscaler = engines[0].upscaler()
    rows: Rows = []
    for branch in card.branches:
        mine = [number for number, arm in enumerate(arms) if arm.value == branch]
        reached = {
            name: finite(summarise([score_picture(upscaler, pair, {"width": branch}) for pair in those]))
            for name, those in pairs.items()
        }
        rows.append({
            "model": card.name,
            "scale": card.scale,
            "branch": branch,
            **_size(card.subnets.get(branch), height * width),
            "peak_rss_mib": peak_rss(arms[mine[0]], lr),
            "ms": {arms[number].engine: statistics.median(times[number]) for number in mine},
            "psnr_y": {name: figures["psnr_y"] for name, figures in reached.items()},
            "ssim_y": {name: figures["ssim_y"] for name, figures in reached.items()},
        })  # fmt: skip
    return rows


def _ms(upscale: Upscale, lr: np.ndarray) -> float:
    return upscale(lr)[1]


def _size(subnet: SubNet | None, pixels: int) -> dict[str, int]:
    """What is counted of a sub-net, or of interpolation, for so many LR pixels."""
    if subnet is None:
        return {"params": 0, "macs": 0, "activations": 0, "convs": 0, "receptive_field": 4}
    return {
        "params": subnet.params,
        "macs": subnet.macs_per_lr_pixel * pixels,
        "activations": subnet.activations_per_lr_pixel * pixels,
        "convs": subnet.convs,
        "receptive_field": 2 * subnet.receptive_radius + 1,
    }


def markdown(rows: Rows) -> str:
    """The rows of `profile`, of one model or several, as a table in Markdown."""
    engines = list(dict.fromkeys(engine for row in rows for engine in row["ms"]))
    sets = list(dict.fromkeys(name for row in rows for name in row["psnr_y"]))
    titles = ["model", "branch", "params, K", "GMACs", "activations, M", "convs", "receptive field", "peak RSS, MiB"]
    titles += [f"{name}, Y PSNR / SSIM" for name in sets] + [f"{engine}, ms" for engine in engines]
    lines = ["| " + " | ".join(titles) + " |", "|---" * len(titles) + "|"]
    for row in rows:
        cells = [row["model"], row["branch"], f"{row['params'] / 1e3:.1f}", f"{row['macs'] / 1e9:.2f}"]
        cells += [f"{row['activations'] / 1e6:.1f}", str(row["convs"]), str(row["receptive_field"])]
        cells += ["" if row["peak_rss_mib"] is None else f"{row['peak_rss_mib']:.0f}"]
        for name in sets:
            psnr, ssim = row["psnr_y"].get(name), row["ssim_y"].get(name)
            cells.append(f"{'' if psnr is None else f'{psnr:.2f}'} / {'' if ssim is None else f'{ssim:.4f}'}")
        cells += [f"{row['ms'][engine]:.1f}" if engine in row["ms"] else "" for engine in engines]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
