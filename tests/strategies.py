"""What several tests need: a user's call, a table, a model card in memory, and Hypothesis strategies for grids, branch
maps and costs."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

from arm_sr.backends import Backend
from arm_sr.cost import CostTable
from arm_sr.evaluation.pairs import Pair
from arm_sr.evaluation.table import build_table, measure_patches
from arm_sr.lut import EdgeTable
from arm_sr.models import ModelCard, SubNet
from arm_sr.patches import Grid

ROOT = Path(__file__).parents[1]
BRANCHES = ("bicubic", "w16", "w32", "w64")
few = settings(max_examples=30, deadline=None)
"""Enough examples to find a slip, few enough to run at every change."""


def run_python(*arguments: str | Path, timeout: float = 120) -> "subprocess.CompletedProcess[str]":
    """Python on a script or module in the clone's folder, as a user calls it."""
    command, one_thread = [sys.executable, *map(str, arguments)], os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=timeout, env=one_thread
    )


def table_with_gains(card: ModelCard, backend: Backend, pair: Pair) -> EdgeTable:
    """The measured table of an untrained model, which is worse than interpolation, as if its branches were better."""
    samples = measure_patches(card, backend, [pair], 16, 8, ["laplacian4-energy"])
    table = build_table(card, samples, score="laplacian4-energy", patch=16, bins=8, equal_width=False, data=pair.name)
    gain = np.array([1.0, 0.8, 0.7])[: len(card.branches)]
    return dataclasses.replace(table, mse=table.mse[:, :1] * gain, psnr=table.psnr[:, :1] - 10 * np.log10(gain))


def make_card(folder: Path = Path("nowhere"), name: str = "toy-x4", weights: str = "0") -> ModelCard:
    """A card of three sub-nets without files; `weights` changes its digest. The dearest sub-net is listed first."""
    subnets = {
        f"w{width}": SubNet(width, 3, 10 * width, 100 * width, 4 * width, 5, 5, f"w{width}.onnx", f"{weights}{width}")
        for width in (64, 16, 32)
    }
    return ModelCard(name, 4, "plain", 4, subnets, {"file": "s", "sha256": "0"}, {}, folder)


def make_cost(per_call: list[float], per_pixel: list[float], unit: str = "ms") -> CostTable:
    """Costs of as many of `BRANCHES` as there are numbers."""
    return CostTable(unit, BRANCHES[: len(per_call)], np.array(per_call, float), np.array(per_pixel, float), "test")


@st.composite
def grids(draw: st.DrawFn, most: int = 8) -> Grid:
    """Grids of 1 to `most` patches along each side, the last ones often cut."""
    patch = draw(st.integers(1, 7))
    rows, cols = draw(st.integers(1, most)), draw(st.integers(1, most))
    height, width = rows * patch - draw(st.integers(0, patch - 1)), cols * patch - draw(st.integers(0, patch - 1))
    return Grid(height, width, patch)


@st.composite
def routed_grids(draw: st.DrawFn, labels: int = 4) -> tuple[Grid, np.ndarray]:
    """A grid and a branch for each of its patches, from noise to large regions."""
    grid = draw(grids())
    rows, cols = grid.shape
    used = draw(st.lists(st.integers(0, labels - 1), min_size=1, max_size=labels, unique=True))
    block = draw(st.integers(1, 4))
    coarse = (-(-rows // block), -(-cols // block))
    numbers = draw(st.lists(st.sampled_from(used), min_size=coarse[0] * coarse[1], max_size=coarse[0] * coarse[1]))
    branch_map = np.array(numbers).reshape(coarse).repeat(block, axis=0).repeat(block, axis=1)
    return grid, branch_map[:rows, :cols]


@st.composite
def cost_tables(draw: st.DrawFn, branches: int = 4) -> CostTable:
    """Costs that rise along the branches, with and without a fixed part for each call."""
    per_call = draw(st.lists(st.integers(0, 200), min_size=branches, max_size=branches))
    steps = draw(st.lists(st.integers(1, 9), min_size=branches - 1, max_size=branches - 1))
    return make_cost(per_call, [draw(st.integers(0, 1)), *np.cumsum(steps).tolist()])
