#!/usr/bin/env python3
"""Compare edge scores by the squared error that their plans lose against an oracle, and by rank correlation.

    tools/compare_scores.py --train photos/ --data val/

For each score a table is built from every tenth file of TRAIN, and the pictures of DATA are planned with it: at shares
of the MACs of the largest sub-net that are the same for all pictures, and by trade-offs, which spend as much in all
where it is worth most. The oracle's plans know the squared error of every patch. Besides the scores of the package
there are candidates that it does without.
"""

import argparse
import logging
from pathlib import Path

import cv2
import numpy as np
import scipy.stats
from tqdm import tqdm

from arm_sr.backends import BACKENDS, Backend, open_backend
from arm_sr.cli import run_tool
from arm_sr.edges import SCORES, edge_map, patch_scores
from arm_sr.evaluation.pairs import Pair, read_pairs, readable_pairs
from arm_sr.evaluation.table import build_table, measure_patches, one_pass
from arm_sr.imaging.folders import list_images, split_hold_out
from arm_sr.models import ModelCard, load_model
from arm_sr.patches import Grid
from arm_sr.planner import PATCH, Planner
from arm_sr.stitch import interpolate

SHARES = np.arange(10, 90, 10) / 100
ETAS = np.geomspace(0.1, 100, 40)


class Expecting(Planner):
    """Plans for one picture whose squared errors are foretold."""

    def __init__(self, like: Planner, backend: Backend, mse: np.ndarray) -> None:
        super().__init__(like.card, like.table, None, backend)
        self._mse = mse

    def expect(self, rgb: np.ndarray) -> tuple[Grid, np.ndarray, np.ndarray]:
        """What was foretold."""
        return Grid(rgb.shape[0], rgb.shape[1], PATCH), -self._mse, self._mse


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, required=True, help="the folder of training pictures, for the tables")
    parser.add_argument("--data", type=Path, required=True, help="folder of HR pictures to plan")
    parser.add_argument("-m", "--model", default="plain-x4", help="name or directory of the model")
    parser.add_argument("--bins", type=int, default=64, help="bins (default %(default)s)")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    card = load_model(args.model)
    backend = open_backend(BACKENDS[0], card)
    narrow = card.branches[1]

    def residual(lr: np.ndarray) -> np.ndarray:
        return _squared(backend.run(narrow, lr[None])[0], interpolate(lr, card.scale), card.scale)

    SCORES["laplacian-energy"] = lambda lr: np.square(edge_map(lr).astype(np.float64))
    SCORES["gradient-energy"] = gradient_energy
    SCORES["self-similarity"] = lambda lr: _squared(lr, down_and_up(lr, card.scale), 1)
    SCORES[f"{narrow}-residual"] = residual
    held_out = readable_pairs(tqdm(split_hold_out(list_images(args.train))[1], desc="tables"), card.scale)
    samples = measure_patches(card, backend, held_out, PATCH, 8, SCORES)
    planners = {
        score: Planner(card, build_table(card, samples, score=score, patch=PATCH, bins=args.bins, equal_width=False,
                                         data=args.train.name), None, backend)
        for score in SCORES
    }  # fmt: skip
    pairs = tqdm(list(read_pairs(list_images(args.data), card.scale)), desc="plans")
    rows = [compared(card, backend, planners, pair) for pair in pairs]
    scores, mse = np.concatenate([row[2] for row in rows], axis=1), np.concatenate([row[3] for row in rows])
    within = np.sum([row[0] for row in rows], axis=0)  # (scores and the oracle, shares)
    error, macs, largest = np.sum([row[1] for row in rows], axis=0).transpose(2, 0, 1)  # (scores and the oracle, etas)
    curves = zip(macs / largest, error, strict=True)
    traded = np.stack([np.interp(SHARES, *curve, left=np.nan, right=np.nan) for curve in curves])
    columns = " | ".join(f"{share:.0%}" for share in SHARES)
    for title, errors in (("within a share of each picture", within), ("by a trade-off", traded)):
        print(f"| {title} | {columns} |\n|---{'|---' * len(SHARES)}|")
        for name, mine in zip(planners, errors, strict=False):
            cells = ["" if np.isnan(lost) else f"{lost:.2%}" for lost in mine / errors[-1] - 1]
            print(f"| {name} | {' | '.join(cells)} |")
        print()
    print("| rank correlation | with PSNR | with the gain in squared error |\n|---|---|---|")
    for name, values in zip(planners, scores, strict=True):
        rank = [scipy.stats.spearmanr(values, column).statistic for column in (mse[:, -1], mse[:, 0] - mse[:, -1])]
        print(f"| {name} | {-rank[0]:.3f} | {rank[1]:.3f} |")
    about = f"{len(rows)} pictures of {args.data.name}, {len(mse)} patches"
    print(f"\nsquared error above the oracle's by the same rule; {about}")


def compared(card: ModelCard, backend: Backend, planners: dict[str, Planner],
             pair: Pair) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """One picture: the squared error of the plans of every planner and, last, the oracle for all shares, (planners + 1,
    shares); for all trade-offs squared error, MACs and those of the largest sub-net, (planners + 1, etas, 3); the
    scores of its patches, (planners, patches); their mean squared errors, (patches, branches)."""
    grid = Grid(pair.lr.shape[0], pair.lr.shape[1], PATCH)
    passes = (one_pass(card, backend, branch, pair.lr) for branch in card.branches)
    mse = np.stack([grid.means(_squared(sr, pair.hr, card.scale)).ravel() for sr in passes], axis=1)
    foretold = [(planner, planner.expect(pair.lr)[2]) for planner in planners.values()]
    within, traded = [], []
    for planner in (Expecting(like, backend, expected) for like, expected in [*foretold, (foretold[0][0], mse)]):
        plans = [planner.plan(pair.lr, share, None, None, None) for share in SHARES]
        within.append([_error(plan.branch_map, mse, grid) for plan in plans])
        plans = [planner.plan(pair.lr, None, eta, None, "mse") for eta in ETAS]
        traded.append([(_error(plan.branch_map, mse, grid), plan.macs, plan.macs_largest) for plan in plans])
    scores = np.stack([patch_scores(pair.lr, grid, name).ravel() for name in planners])
    return np.array(within), np.array(traded), scores, mse


def _error(branch_map: np.ndarray, mse: np.ndarray, grid: Grid) -> float:
    return float(mse[np.arange(len(mse)), branch_map.ravel()] @ grid.areas.ravel())


def _squared(first: np.ndarray, second: np.ndarray, scale: int) -> np.ndarray:
    """Mean squared difference of two RGB pictures on every square of `scale` pixels: float64 (H / scale, W / scale)."""
    squared = np.square(first.astype(np.float64) - second).mean(axis=2)
    height, width = squared.shape
    return squared.reshape(height // scale, scale, width // scale, scale).mean(axis=(1, 3))


def gradient_energy(lr: np.ndarray) -> np.ndarray:
    """Squared gradient of the grey picture by Sobel's kernels: float64 (H, W)."""
    grey = cv2.cvtColor(lr, cv2.COLOR_RGB2GRAY) if lr.ndim == 3 else lr
    return np.square(cv2.Sobel(grey, cv2.CV_64F, 1, 0)) + np.square(cv2.Sobel(grey, cv2.CV_64F, 0, 1))


def down_and_up(lr: np.ndarray, scale: int) -> np.ndarray:
    """The picture made smaller by `scale` and interpolated again: what differs has no equal at the next scale."""
    height, width = lr.shape[:2]
    small = cv2.resize(lr, (-(-width // scale), -(-height // scale)), interpolation=cv2.INTER_AREA)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


if __name__ == "__main__":
    run_tool(main)
