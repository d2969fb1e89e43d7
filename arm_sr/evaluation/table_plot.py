"""The picture of an edge-to-PSNR table."""

import io
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..atomic import write_bytes
from ..lut import EdgeTable
from .table import Samples


def draw_table(table: EdgeTable, samples: Samples, path: Path) -> None:
    """Write a PNG: score against PSNR, one curve a branch over a sample of the patches."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    scores = samples.scores[table.score]
    some = np.random.default_rng(0).permutation(len(scores))[:3000]
    axes.plot(np.maximum(scores[some], 1e-2), samples.psnr[some, -1], ".", color="0.8", markersize=2, zorder=0)
    middles = (table.edges[:-1] + table.edges[1:]) / 2
    for column, name in enumerate(table.branches):
        axes.plot(np.maximum(middles, 1e-2), table.psnr[:, column], label=name, linewidth=1.2)
    axes.set_xscale("log")
    axes.set_xlabel(f"edge score, {table.score} of {table.patch}x{table.patch} LR pixels")
    axes.set_ylabel(f"PSNR of the patch, dB (dots: {table.branches[-1]})")
    axes.set_title(f"{table.model}: {table.data['patches']} patches of {table.data['pictures']} pictures")
    axes.grid(alpha=0.3)
    axes.legend()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    write_bytes(path, buffer.getvalue())
