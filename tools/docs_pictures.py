#!/usr/bin/env python3
"""Make the pictures of docs/README.md from photos that come with scikit-image.

    tools/docs_pictures.py -o docs/pictures

heatmap.png: a photo upscaled within 40%, beside where the compute went. curve.png: PSNR against MACs of a few photos.
"""

import argparse
import io
from pathlib import Path

import numpy as np
import PIL.Image
import skimage.data

from arm_sr import Upscaler
from arm_sr.atomic import write_bytes
from arm_sr.cli import run_tool
from arm_sr.evaluation.sweep import settings_of, sweep

BUDGETS = ["5%", "10%", "20%", "30%", "40%", "60%", "80%"]
PHOTOS = ["astronaut.png", "chelsea.png", "coffee.png"]
COLOURS = 128
"""Of the picture with the heat map, so that its file is small."""


def heat_map(upscaler: Upscaler) -> bytes:
    """PNG of the rocket, upscaled, beside its heat map."""
    result = upscaler.upscale(skimage.data.rocket(), "40%")
    print(result.plan)
    both = PIL.Image.fromarray(np.hstack([result.image, result.heatmap()]))
    both = both.resize((960, 960 * both.height // both.width), PIL.Image.Resampling.LANCZOS).quantize(COLOURS)
    stream = io.BytesIO()
    both.save(stream, "png", optimize=True)
    return stream.getvalue()


def curve(upscaler: Upscaler) -> bytes:
    """PNG of PSNR over all RGB pixels against the share of MACs."""
    from matplotlib.figure import Figure

    folder = Path(skimage.data.data_dir)
    rows = sweep(settings_of(upscaler, BUDGETS, [], None), [folder / name for name in PHOTOS], repeats=1)
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.add_subplot()
    for rule, mark, label in (("static", "s", "one branch everywhere"), ("budget", "o-", "routed within a budget")):
        points = [(100 * row["macs_share"], row["psnr_rgb_all"]) for row in rows if row["rule"] == rule]
        axes.plot(*zip(*points, strict=True), mark, label=label)
    for row in rows:
        if row["rule"] == "static":
            at = (100 * row["macs_share"], row["psnr_rgb_all"])
            axes.annotate(row["value"], at, xytext=(4, -11), textcoords="offset points")
    axes.set(xlabel="% of the MACs of the largest sub-net", ylabel="RGB PSNR, dB", title=", ".join(PHOTOS))
    axes.set_xlim(-5, 110)
    axes.legend(loc="lower right")
    axes.grid(alpha=0.3)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=100)
    return stream.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of the pictures")
    args = parser.parse_args()
    upscaler = Upscaler("plain-x4", backend="onnxruntime")
    args.output.mkdir(parents=True, exist_ok=True)
    for picture in (heat_map, curve):
        write_bytes(args.output / f"{picture.__name__.replace('_', '')}.png", picture(upscaler))


if __name__ == "__main__":
    run_tool(main)
