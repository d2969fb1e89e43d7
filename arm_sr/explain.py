"""Why a patch gets its branch: what the table says of it, and what the scheduler made of that."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .edges import patch_scores
from .errors import ArtefactError
from .planner import Planner
from .scheduler import Budget, Plan
from .scheduler.policy import parse_eta
from .scheduler.solver import rank_upgrades
from .scheduler.upgrades import pixel_costs


@dataclass(frozen=True)
class BranchView:
    """A branch as the scheduler sees it for one patch."""

    name: str
    table_psnr: float
    """dB that the table has for the edge score of the patch."""
    psnr: float
    """The same averaged over the neighbourhood, never below that of a cheaper branch."""
    mse: float
    """Mean squared error that is expected, averaged like it."""
    cost: float
    """In the unit of the plan, of the patch without halo; interpolation is free."""


@dataclass(frozen=True)
class PatchView:
    """A patch with its branches and the reason of its own one."""

    row: int
    col: int
    box: tuple[int, int, int, int]
    """Left, top, width and height in LR pixels."""
    score: float
    """Edge score."""
    table_row: int
    """Of the table, from 0."""
    branches: tuple[BranchView, ...]
    branch: int
    """Number of the one it has in the plan."""
    reason: str


class Explanation:
    """A plan and what it came from.

    Args:
        planner: of the model.
        rgb: the LR picture, uint8 (H, W, 3).
        budget, eta, width, objective: as of `Planner.plan`, whose errors are raised.

    Raises:
        ArtefactError: the model has no table.
    """

    def __init__(self, planner: Planner, rgb: np.ndarray, budget: str | None = None, eta: str | None = None,
                 width: str | None = None, objective: str | None = None) -> None:  # fmt: skip
        if not planner.has_table:
            reason = "has no table, which is what is explained; build it with tools/build_lut.py"
            raise ArtefactError(f"model '{planner.card.name}' {reason}")
        self.plan: Plan = planner.plan(rgb, budget, eta, width, objective)
        """What was decided."""
        table = planner.table
        self.grid, self._table_psnr, _ = planner.predict(rgb)
        """The patches of the table's size."""
        self._psnr, self._mse = planner.expect(rgb)[1:]
        self.scores = patch_scores(rgb, self.grid, table.score)
        """Edge score of every patch: (rows, cols)."""
        self.table_rows = table.bins_of(self.scores)
        """Row of the table of every patch: (rows, cols)."""
        self.table_length = len(table.counts)
        """How many rows the table has."""
        self._eta = None if eta is None else parse_eta(eta)
        if self.plan.kind in ("share", "macs", "ms"):
            costs = planner.cost_of(Budget.parse(self.plan.requested))
        else:
            costs = planner.share_cost if eta is not None else planner.macs
        self._cost = pixel_costs(self.grid, costs)
        per_call, per_pixel = costs.added
        whole = per_call + per_pixel * self.grid.patch**2
        self._eta_cost = whole / whole[-1]
        everywhere = self.plan.kind in ("max", "width")  # and then on a grid that is not the table's
        branch = self.plan.branch_map[0, 0]
        self.branch_map = np.full(self.grid.shape, branch) if everywhere else self.plan.branch_map
        """Branch of every patch: (rows, cols)."""
        self._chosen = self.branch_map.ravel()
        self.price: float | None = None
        """Error that the last upgrade saved for a unit of cost, where patches compete for a budget or are worth it."""
        self._alone = self._chosen
        if self.is_routed:
            self._compete()

    @property
    def is_routed(self) -> bool:
        """Whether patches compete; ARM's rule and one branch everywhere decide otherwise."""
        by_rule = self.plan.kind == "eta" and self.plan.objective == "psnr"
        return self.plan.kind not in ("max", "width") and not by_rule

    def _compete(self) -> None:
        """What every patch would have if as much were spent on patches that do not look at their neighbours."""
        areas = self.grid.areas.ravel()
        error = self._mse * areas[:, None] if self.plan.objective == "mse" else -self._psnr
        upgrades = rank_upgrades(error, self._cost)
        spent = self._cost[np.arange(len(self._chosen)), self._chosen].sum()
        taken = int(np.searchsorted(np.cumsum(upgrades.cost), spent * (1 + 1e-9), side="right"))
        alone = np.zeros_like(self._chosen)
        np.maximum.at(alone, upgrades.patch[:taken], upgrades.branch[:taken])
        self._alone = alone
        if taken:
            self.price = float(upgrades.gain[taken - 1] / max(upgrades.cost[taken - 1], 1e-12))

    def patches(self, region: tuple[int, int, int, int] | None = None) -> Iterator[PatchView]:
        """The patches that touch a region (left, top, width, height in LR pixels), all by default, row by row."""
        left, top, width, height = region or (0, 0, self.grid.width, self.grid.height)
        side = self.grid.patch
        for row in range(top // side, -(-(top + height) // side)):
            for col in range(left // side, -(-(left + width) // side)):
                yield self._patch(row, col)

    def _patch(self, row: int, col: int) -> PatchView:
        number = row * self.grid.shape[1] + col
        (top, bottom), (left, right) = self.grid.row_edges[row : row + 2], self.grid.col_edges[col : col + 2]
        columns = zip(
            self.plan.branches, self._table_psnr[number], self._psnr[number], self._mse[number], self._cost[number],
            strict=True,
        )  # fmt: skip
        return PatchView(
            row,
            col,
            (int(left), int(top), int(right - left), int(bottom - top)),
            float(self.scores[row, col]),
            int(self.table_rows[row, col]),
            tuple(BranchView(name, *map(float, values)) for name, *values in columns),
            int(self._chosen[number]),
            self._reason(row, col, number),
        )

    def _reason(self, row: int, col: int, number: int) -> str:
        chosen, alone, names = int(self._chosen[number]), int(self._alone[number]), self.plan.branches
        if self.plan.kind in ("max", "width"):
            return "one branch everywhere was asked for"
        if not self.is_routed:
            worth = (self._eta or 0.0) * self._table_psnr[number] - self._eta_cost
            if np.isinf(worth).any() or np.isnan(worth).any():
                return "ARM's rule: the highest PSNR, whatever it costs"
            listed = ", ".join(f"{name} {value:.3f}" for name, value in zip(names, worth, strict=True))
            return f"ARM's rule: the largest eta * PSNR - cost of {listed}"
        if chosen and (self._chosen == chosen).all():
            return f"{names[chosen]} everywhere, which needs no halo and is predicted best or as good as a mixture"
        around = self._neighbours(row, col)
        level = int((around == chosen).sum())
        if chosen > alone:
            beside = f"{level} of {len(around)} neighbours have {names[chosen]}"
            return f"moved up from {names[alone]}: {beside}, and their tile takes it in, or budget was left over"
        if chosen < alone:
            beside = f"{int((around >= alone).sum())} of {len(around)} neighbours keep it company there"
            return f"moved down from {names[alone]}: {beside}, and a tile with halo of its own costs more"
        if not chosen:
            return "stayed at the foot of its hull: no branch saves enough for its cost"
        merged = f"; merged with {level} of {len(around)} neighbours" if level else "; a tile of its own"
        return f"climbed its hull to {names[chosen]}: what that saves is worth its cost{merged}"

    def _neighbours(self, row: int, col: int) -> np.ndarray:
        """Branches of the up to four neighbours."""
        rows, cols = self.grid.shape
        around = [(row - 1, col), (row + 1, col), (row, col - 1), (row, col + 1)]
        return np.array([self.branch_map[r, c] for r, c in around if 0 <= r < rows and 0 <= c < cols], dtype=int)
