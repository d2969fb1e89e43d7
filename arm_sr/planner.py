"""`Planner`: from a picture and what it may cost to a plan, by the model's table."""

import math
from collections.abc import Callable
from functools import cached_property

import cv2
import numpy as np

from . import calibration
from .backends import Backend
from .cost import CostTable
from .edges import patch_scores
from .errors import ArtefactError, UsageError
from .lut import EdgeTable, table_path
from .models import ModelCard
from .patches import PATCH, Grid
from .scheduler import Budget, Plan
from .scheduler.policy import eta_rule, parse_eta
from .scheduler.solver import or_everywhere, solve, total_error, trade_off, trade_off_curve
from .scheduler.tiles import affordable, merge, merged_cost
from .scheduler.total import MOST_ETA, Curve
from .scheduler.upgrades import joined_upgrades

OBJECTIVES = ("mse", "psnr")
"""`mse`: least total squared error; `psnr`: ARM's, the best mean of the PSNRs of the patches."""

NEIGHBOURHOOD = np.array([[1, 2, 1], [2, 8, 2], [1, 2, 1]]) / 20
"""Weights of a patch and those around it in what is expected of it."""


def checked_objective(objective: str | None, default: str = OBJECTIVES[0]) -> str:
    """The objective that was asked for, or the default; UsageError when there is none of that name."""
    if objective is not None and objective not in OBJECTIVES:
        raise UsageError(f"unknown objective '{objective}'; there are {', '.join(OBJECTIVES)}")
    return objective or default


class Planner:
    """Decides for pictures of one model on one engine.

    Args:
        card: the model.
        table: its edge-to-PSNR table, or None for the one beside it or shipped, which is read when it is needed.
        given_cost: costs to count instead of MACs, or None.
        backend: the engine, for its costs.
    """

    def __init__(self, card: ModelCard, table: EdgeTable | None, given_cost: CostTable | None,
                 backend: Backend) -> None:  # fmt: skip
        self.card, self._table, self._given_cost, self._backend = card, table, given_cost, backend
        self.macs = CostTable.of_macs(card)
        """Multiply-accumulates of every branch."""
        self._measured: CostTable | None = None

    @property
    def has_table(self) -> bool:
        """Whether there is a table, be it damaged."""
        return self._table is not None or table_path(self.card).exists()

    @property
    def table(self) -> EdgeTable:
        """The edge-to-PSNR table; ArtefactError when the model has none, or one that is damaged or of another model."""
        if self._table is None:
            if not self.has_table:
                raise ArtefactError(
                    f"model '{self.card.name}' has no table, which a budget, deadline or eta needs; build "
                    f"{table_path(self.card)} with tools/build_lut.py, or use max or a width"
                )
            self._table = EdgeTable.for_model(self.card)
        return self._table

    @property
    def measured_cost(self) -> CostTable:
        """Milliseconds of every branch on this machine: from the cache, else measured now."""
        if self._measured is None:
            self._measured = self._cached_cost or calibration.cached_or_measured(self.card, self._backend)
        return self._measured

    @property
    def share_cost(self) -> CostTable:
        """The costs that `%` and eta count: the given ones, on a TPU milliseconds, measured or else as its compiler
        models them, and MACs otherwise."""
        if self._given_cost is None and (modelled := self._backend.modelled_cost) is not None:
            return self._measured or self._cached_cost or modelled
        return self._given_cost or self.macs

    @property
    def clock_cost(self) -> CostTable:
        """Milliseconds of every branch as far as they are known without measuring, else MACs."""
        if self._given_cost is not None and self._given_cost.unit == "ms":
            return self._given_cost
        return self._measured or self._cached_cost or self.macs

    @cached_property
    def _cached_cost(self) -> CostTable | None:
        return calibration.cached(self.card, self._backend)

    def cost_of(self, limit: Budget) -> CostTable:
        """The costs that a budget of this kind counts."""
        if limit.kind == "share":
            return self.share_cost
        if limit.kind == "macs":
            return self.macs
        if self._given_cost is None:
            # What a simulator takes would be a plan for no machine.
            return (self._backend.modelled_cost if self._backend.simulated else None) or self.measured_cost
        if self._given_cost.unit != "ms":
            raise UsageError(f"a budget of {limit.text} needs a cost table in ms, the given one is in MACs")
        return self._given_cost

    def predict(self, rgb: np.ndarray) -> tuple[Grid, np.ndarray, np.ndarray]:
        """The patches, and the PSNR and squared error of each under every branch: (patches, branches)."""
        table = self.table
        grid = Grid(rgb.shape[0], rgb.shape[1], table.patch)
        rows = table.bins_of(patch_scores(rgb, grid, table.score)).ravel()
        columns = [table.branches.index(name) for name in self.card.branches]
        return grid, table.psnr[rows][:, columns], table.mse[rows][:, columns]

    def expect(self, rgb: np.ndarray) -> tuple[Grid, np.ndarray, np.ndarray]:
        """As `predict`, averaged over the neighbourhood of a patch, and no branch worse than the one before it.

        What a patch holds its neighbours often hold too: this predicts better than the patch alone, and makes larger
        tiles.
        """
        grid, psnr, mse = self.predict(rgb)
        maps = np.concatenate([psnr, mse], axis=1).reshape(*grid.shape, -1)
        smooth = cv2.filter2D(maps, -1, NEIGHBOURHOOD, borderType=cv2.BORDER_REPLICATE)
        psnr, mse = np.split(smooth.reshape(len(psnr), -1), 2, axis=1)
        return grid, np.maximum.accumulate(psnr, axis=1), np.minimum.accumulate(mse, axis=1)

    def plan(self, rgb: np.ndarray, budget: str | float | Budget | None, eta: str | float | None, width: str | None,
             objective: str | None) -> Plan:  # fmt: skip
        """The plan for an LR picture, uint8 RGB (H, W, 3); the other arguments and errors as in `Upscaler.upscale`."""
        given = [name for name, value in (("budget", budget), ("eta", eta), ("width", width)) if value is not None]
        if len(given) > 1:
            raise UsageError(f"{' and '.join(given)} exclude each other")
        if eta is not None:
            rule = self._arm_rule if checked_objective(objective, "psnr") == "psnr" else self._trade_off
            return rule(rgb, parse_eta(eta))
        objective = checked_objective(objective)
        kind, requested = ("max", "max") if width is None else ("width", width)
        if width is None and budget is not None and (limit := Budget.parse(budget)).kind != "max":
            grid, psnr, mse = self.expect(rgb)
            return self._within(limit, objective, grid, psnr, mse)
        # One branch everywhere needs no prediction, which would take a hundredth of the time of a narrow sub-net.
        grid = Grid(rgb.shape[0], rgb.shape[1], PATCH)
        chosen = np.full(math.prod(grid.shape), self.card.branch_number(width or self.card.largest))
        return self.finish(grid, chosen, None, self.macs, kind, requested, objective)

    def _arm_rule(self, rgb: np.ndarray, eta: float) -> Plan:
        """The plan by ARM's rule, patch by patch."""
        table = self.share_cost
        grid, psnr, mse = self.predict(rgb)
        per_call, per_pixel = table.added
        per_patch = per_call + per_pixel * grid.patch**2
        return self.finish(grid, eta_rule(psnr, per_patch / per_patch[-1], eta), mse, table, "eta", _name(eta), "psnr")

    def _trade_off(self, rgb: np.ndarray, eta: float) -> Plan:
        """The plan of the largest eta * PSNR - cost, where the PSNR is over all pixels of pictures like the table's.

        A squared error is worth the same in all pictures: what PSNR loses by it at the mean of the table's pictures. So
        difficult ones get more than easy ones.
        """
        grid, _, mse = self.expect(rgb)
        worth, cost = self._worth(grid, mse)
        error = min(eta, MOST_ETA) * worth
        chosen = trade_off(joined_upgrades(error, grid, self.card.halo, self.share_cost), error, cost)
        return self.finish(grid, chosen, mse, self.share_cost, "eta", _name(eta), "mse")

    def curve(self, rgb: np.ndarray) -> Curve:
        """What the trade-offs of squared error choose among for an LR picture, uint8 RGB (H, W, 3), for all eta."""
        grid, _, mse = self.expect(rgb)
        worth, cost = self._worth(grid, mse)
        points = trade_off_curve(joined_upgrades(worth, grid, self.card.halo, self.share_cost), worth, cost)
        return Curve(points[:, 0], points[:, 1] + self.share_cost.one_pass(0, int(grid.areas.sum())))

    def _worth(self, grid: Grid, mse: np.ndarray) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
        """What the error of every patch under every branch is worth at an eta of 1, (patches, branches) in units of
        `share_cost`, and what several choices (choices, patches) cost."""
        table = self.share_cost
        db_per_mse = 10 / np.log(10) / self.table.mean_mse(self.card.largest)
        largest = table.one_pass(-1, grid.patch**2) / grid.patch**2  # for a pixel, as ARM's rule counts it

        def cost(choices: np.ndarray) -> np.ndarray:
            return merged_cost(choices.reshape(-1, *grid.shape), grid, self.card.halo, table)

        return db_per_mse * mse * grid.areas.reshape(-1, 1) * largest, cost

    def _within(self, limit: Budget, objective: str, grid: Grid, psnr: np.ndarray, mse: np.ndarray) -> Plan:
        """The plan that spends `limit` best."""
        areas = grid.areas.ravel()
        table = self.cost_of(limit)
        pixels = int(areas.sum())
        interpolation = table.one_pass(0, pixels)
        passes = [table.one_pass(branch, pixels) + interpolation for branch in range(1, len(self.card.branches))]
        most = limit.value * (passes[-1] if limit.kind == "share" else 1.0)
        error = mse * areas[:, None] if objective == "mse" else -psnr
        fits = affordable(grid, self.card.halo, table, most - interpolation)
        upgrades = joined_upgrades(error, grid, self.card.halo, table)
        everywhere = [np.full(len(areas), branch) for branch, cost in enumerate(passes, 1) if cost <= most]
        chosen = or_everywhere(error, solve(upgrades, len(areas), fits), everywhere)
        note = ""
        if not chosen.any() and interpolation > most:
            note = (
                f"the budget of {limit.text} is below the cost of planning, interpolation and stitching, "
                f"{interpolation:.2f} {table.unit}: the picture is interpolated"
            )
        return self.finish(grid, chosen, mse, table, limit.kind, limit.text, objective, note)

    def finish(self, grid: Grid, branches: np.ndarray, mse: np.ndarray | None, table: CostTable, kind: str,
               requested: str, objective: str, note: str = "") -> Plan:  # fmt: skip
        """The plan of a choice of branches (patches,), merged by the costs in `table`."""
        branch_map = branches.reshape(grid.shape)
        tiles = merge(branch_map, grid, self.card.halo, table)
        pixels = grid.height * grid.width
        cost = tiles.cost(table)
        if not note and table is self._backend.modelled_cost:
            note = f"costs {table.source}"
        interpolation = table.one_pass(0, pixels)
        return Plan(
            model=self.card.name,
            model_sha256=self.card.sha256,
            scale=self.card.scale,
            branches=self.card.branches,
            grid=grid,
            branch_map=branch_map,
            tiles=tiles,
            kind=kind,
            requested=requested,
            objective=objective,
            cost=cost + interpolation,
            cost_largest=table.one_pass(-1, pixels) + interpolation,
            unit=table.unit,
            macs=cost if table is self.macs else tiles.cost(self.macs),
            macs_largest=self.macs.one_pass(-1, pixels),
            predicted_mse=None if mse is None else total_error(mse * grid.areas.reshape(-1, 1), branches) / pixels,
            note=note,
        )


def _name(eta: float) -> str:
    """As it is asked for."""
    return "best" if np.isinf(eta) else str(eta)
