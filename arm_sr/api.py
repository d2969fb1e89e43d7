"""`Upscaler`: the only place that wires the stages together."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from . import calibration
from .anytime import Anytime
from .backends import Backend, open_backend
from .channels import check_image, engine_picture, restore
from .cost import CostTable
from .edges import patch_scores
from .errors import ArtefactError, ModelError, UsageError
from .lut import EdgeTable, table_path
from .models import list_models, load_model
from .patches import Grid
from .report import heat_map, statistics
from .scheduler import Budget, Plan
from .scheduler.budget import parse_deadline
from .scheduler.policy import eta_rule, parse_eta
from .scheduler.solver import rank_upgrades, solve
from .scheduler.tiles import merge, merged_cost
from .stitch import interpolate, run_plan

OBJECTIVES = ("mse", "psnr")
"""`mse`: least total squared error; `psnr`: ARM's, the best mean of the PSNRs of the patches."""
END_MS = 2.0
"""Milliseconds that a deadline keeps for making the plan of what was done."""
LOADING = 0.25
"""Share of the time to a deadline after which no further sub-net is loaded."""
DEFAULT_MODEL = "plain-x4"
PATCH = 32
"""Side of a patch in LR pixels where no table says another."""


@dataclass(frozen=True)
class Result:
    """An upscaled picture and how it came about."""

    image: np.ndarray
    """Same dtype and channels as the input, `scale` times its sides."""
    plan: Plan
    """What was computed where."""
    stats: dict[str, Any]
    """The report that `--json` writes; its `time_ms` has `plan`, `infer`, `stitch`, `total`."""

    def heatmap(self) -> np.ndarray:
        """Where the compute went: uint8 RGB, height and width of `image`, one colour a branch."""
        return heat_map(self.image, self.plan)


class Upscaler:
    """A model, its table and an engine, ready for any number of pictures.

    Args:
        model: name of a model that comes with the package, or a model directory.
        backend: `auto`, `onnxruntime`, `openvino` or `pytorch`.
        lut: edge-to-PSNR table to use instead of the model's own.
        cost: cost table, or a file with one (JSON), to use instead of MACs; `%` is then a share of its largest
            sub-net.
        progress: called with the LR pixels of each finished batch of tiles.

    Raises:
        ModelError, ArtefactError, UsageError, BackendError: what is missing, damaged or unknown.
    """

    def __init__(self, model: str | Path = DEFAULT_MODEL, *, backend: str = "auto", lut: str | Path | None = None,
                 cost: str | Path | CostTable | None = None,
                 progress: Callable[[int], None] | None = None) -> None:  # fmt: skip
        self.card = load_model(str(model))
        self.backend: Backend = open_backend(backend, self.card)
        self._table = None
        if lut is not None or table_path(self.card).exists():
            self._table = EdgeTable.for_model(self.card, None if lut is None else Path(lut))
        self._given_cost = CostTable.load(Path(cost), self.card) if isinstance(cost, str | Path) else cost
        self._macs = CostTable.of_macs(self.card)
        self.progress = progress
        self._ready = 1  # branches, cheapest first, whose sub-nets a deadline may use without loading them

    @property
    def scale(self) -> int:
        """Upscaling factor."""
        return self.card.scale

    @property
    def branches(self) -> tuple[str, ...]:
        """Names of the branches, `bicubic` first, cheapest to dearest."""
        return self.card.branches

    def branch_number(self, name: str) -> int:
        """Place of a branch in `branches`; ModelError when there is none of that name."""
        if name not in self.branches:
            known = ", ".join(self.branches)
            raise ModelError(f"unknown branch '{name}'; model '{self.card.name}' has {known}")
        return self.branches.index(name)

    @property
    def table(self) -> EdgeTable:
        """The edge-to-PSNR table; ArtefactError when the model has none."""
        if self._table is None:
            raise ArtefactError(
                f"model '{self.card.name}' has no table, which a budget or eta needs; build {table_path(self.card)} "
                "with tools/build_lut.py, or use max or a width"
            )
        return self._table

    @cached_property
    def measured_cost(self) -> CostTable:
        """Milliseconds of every branch on this machine: from the cache, else measured now."""
        return calibration.cached_or_measured(self.card, self.backend)

    def plan(self, image: np.ndarray, budget: str | float | Budget | None = None, *, eta: str | float | None = None,
             width: str | None = None, objective: str | None = None) -> Plan:  # fmt: skip
        """Decide what to compute, without computing it; arguments and errors as in `upscale`."""
        given = [name for name, value in (("budget", budget), ("eta", eta), ("width", width)) if value is not None]
        if len(given) > 1:
            raise UsageError(f"{' and '.join(given)} exclude each other")
        self._objective(objective)
        rgb = engine_picture(check_image(image))
        if eta is not None:
            if objective == "mse":
                raise UsageError("eta means the psnr objective; leave the objective out or use a budget")
            eta = parse_eta(eta)
            grid, psnr, mse = self._predict(rgb, self.table)
            table = self._share_cost()
            per_patch = table.per_call + table.per_pixel * grid.patch**2
            chosen = eta_rule(psnr, per_patch / per_patch[-1], eta)
            return self._finish(grid, chosen, mse, table, "eta", "best" if np.isinf(eta) else str(eta), "psnr")
        objective = self._objective(objective)
        limit = Budget.parse("max" if budget is None else budget)
        everywhere_branch = self.branch_number(width or self.card.largest)
        if width is None and limit.kind != "max":
            grid, psnr, mse = self._predict(rgb, self.table)
            return self._within(limit, objective, grid, psnr, mse)
        # One branch everywhere needs no prediction, but tells one where there is a table.
        if self._table is None:
            grid, everywhere = Grid(rgb.shape[0], rgb.shape[1], PATCH), None
        else:
            grid, _, everywhere = self._predict(rgb, self._table)
        chosen = np.full(grid.areas.size, everywhere_branch)
        kind, requested = ("max", limit.text) if width is None else ("width", width)
        return self._finish(grid, chosen, everywhere, self._macs, kind, requested, objective)

    def _objective(self, objective: str | None) -> str:
        """The objective that was asked for, or the default; UsageError when there is none of that name."""
        if objective is not None and objective not in OBJECTIVES:
            raise UsageError(f"unknown objective '{objective}'; there are {', '.join(OBJECTIVES)}")
        return objective or OBJECTIVES[0]

    def _predict(self, rgb: np.ndarray, table: EdgeTable) -> tuple[Grid, np.ndarray, np.ndarray]:
        """The patches, and the PSNR and squared error of each under every branch: (patches, branches)."""
        grid = Grid(rgb.shape[0], rgb.shape[1], table.patch)
        rows = table.bins_of(patch_scores(rgb, grid, table.score)).ravel()
        columns = [table.branches.index(name) for name in self.branches]
        return grid, table.psnr[rows][:, columns], table.mse[rows][:, columns]

    def _within(self, limit: Budget, objective: str, grid: Grid, psnr: np.ndarray, mse: np.ndarray) -> Plan:
        """The plan that spends `limit` best."""
        areas = grid.areas.ravel()
        table = self._cost_table(limit)
        most = limit.value * (table.one_pass(-1, int(areas.sum())) if limit.kind == "share" else 1.0)
        interpolation = table.one_pass(0, int(areas.sum()))
        error = mse * areas[:, None] if objective == "mse" else -psnr

        # Merging costs at least the patches without halo and at most a tile for each patch; only between the two
        # bounds must it be done to know. The slack keeps rounding from deciding.
        halo = 2 * self.card.halo
        apart = np.outer(np.diff(grid.row_edges) + halo, np.diff(grid.col_edges) + halo).ravel()

        per_call, per_pixel = table.per_call.copy(), table.per_pixel.copy()
        per_call[0] = per_pixel[0] = 0  # interpolation is charged once

        def fits(choices: np.ndarray) -> np.ndarray:
            left = np.where(choices.all(axis=1), most, most - interpolation)
            pixel = per_pixel[choices]
            result = per_call[choices].sum(axis=1) + pixel @ apart <= left * (1 - 1e-9)
            unknown = (~result & (pixel @ areas <= left * (1 + 1e-9))).nonzero()[0]
            if len(unknown):
                maps = choices[unknown].reshape(-1, *grid.shape)
                result[unknown] = merged_cost(maps, grid, self.card.halo, table) <= left[unknown]
            return result

        chosen = solve(rank_upgrades(error, np.outer(areas, table.per_pixel)), len(areas), fits)
        # One sub-net everywhere needs no halo, and is often the best that fits a large budget.
        for branch in range(1, len(self.branches)):
            uniform = np.full(len(areas), branch)
            within = table.one_pass(branch, int(areas.sum())) <= most
            if within and _total(error, uniform) < _total(error, chosen):
                chosen = uniform
        note = ""
        if not chosen.any() and interpolation > most:
            note = (
                f"the budget of {limit.text} is below the cost of interpolation, "
                f"{interpolation:.2f} {table.unit}: the picture is interpolated"
            )
        return self._finish(grid, chosen, mse, table, limit.kind, limit.text, objective, note)

    def _cost_table(self, limit: Budget) -> CostTable:
        """The costs that a budget of this kind counts."""
        if limit.kind == "share":
            return self._share_cost()
        if limit.kind == "macs":
            return self._macs
        if self._given_cost is None:
            return self.measured_cost
        if self._given_cost.unit != "ms":
            raise UsageError(f"a budget of {limit.text} needs a cost table in ms, the given one is in MACs")
        return self._given_cost

    def _clock_cost(self) -> CostTable:
        """Milliseconds of every branch as far as they are known without measuring, else MACs."""
        if self._given_cost is not None and self._given_cost.unit == "ms":
            return self._given_cost
        return calibration.cached(self.card, self.backend) or self._macs

    def _share_cost(self) -> CostTable:
        """The costs that `%` and eta count: the given ones, else the engine's own, else MACs."""
        return self._given_cost or self.backend.cost or self._macs

    def _finish(self, grid: Grid, branches: np.ndarray, mse: np.ndarray | None, table: CostTable, kind: str,
                requested: str, objective: str, note: str = "") -> Plan:  # fmt: skip
        branch_map = branches.reshape(grid.shape)
        tiles = merge(branch_map, grid, self.card.halo, table)
        areas = grid.areas.ravel()
        pixels = int(areas.sum())
        interpolation = table.one_pass(0, pixels) if (branches == 0).any() else 0.0
        return Plan(
            model=self.card.name,
            model_sha256=self.card.sha256,
            scale=self.scale,
            branches=self.branches,
            grid=grid,
            branch_map=branch_map,
            tiles=tiles,
            kind=kind,
            requested=requested,
            objective=objective,
            cost=tiles.cost(table) + interpolation,
            cost_largest=table.one_pass(-1, pixels),
            unit=table.unit,
            macs=tiles.cost(self._macs),
            macs_largest=self._macs.one_pass(-1, pixels),
            predicted_mse=None if mse is None else _total(mse * areas[:, None], branches) / pixels,
            note=note,
        )

    def load(self) -> None:
        """Make all sub-nets ready, which the first pictures otherwise wait for."""
        self._load_until(math.inf)

    def upscale(self, image: np.ndarray, budget: str | float | Budget | None = None, *,
                eta: str | float | None = None, width: str | None = None, deadline: str | None = None,
                objective: str | None = None, plan: Plan | None = None) -> Result:  # fmt: skip
        """Upscale one picture; without any of the choices the largest sub-net runs everywhere.

        Args:
            image: uint8 or uint16: RGB (H, W, 3), RGBA (H, W, 4), grey (H, W) or grey and alpha (H, W, 2), at
                least 1x1. Alpha is interpolated. 16-bit pictures are interpolated, and the sub-nets add their
                8-bit difference.
            budget: `40%` or 0.4 of one pass of the largest sub-net, `2.5GMAC`, `150ms` or `max`.
            eta: trade-off of ARM's rule, a number or `best`.
            width: one branch everywhere, such as `w32` or `bicubic`.
            deadline: `80ms` or `1.5s` from this call on; what is there by then is returned, interpolated where
                nothing better was. Sub-nets that no call has used yet are loaded within that time, see `load`.
            objective: what a budget or deadline minimises, `mse` (default) or `psnr`.
            plan: a plan to replay instead of making one.

        Raises:
            BudgetError, ModelError, UsageError: an argument is wrong.
            ArtefactError: the plan does not belong to the model or picture.
        """
        if deadline is not None:
            if any(value is not None for value in (budget, eta, width, plan)):
                raise UsageError("a deadline excludes budget, eta, width and plan")
            *_, result = self._improve(image, parse_deadline(deadline), objective, on_the_way=False)
            return result
        if budget is not None and Budget.parse(budget).kind == "ms":
            self._cost_table(Budget.parse(budget))  # measuring costs is not part of upscaling this picture
        begun = time.perf_counter()
        image = check_image(image)
        if plan is None:
            plan = self.plan(image, budget, eta=eta, width=width, objective=objective)
        elif any(value is not None for value in (budget, eta, width, objective)):
            raise UsageError("a plan to replay excludes budget, eta, width and objective")
        else:
            self._check_belongs(plan, image)
        planned = time.perf_counter()
        for branch in np.unique(plan.tiles.branch):
            self.backend.load(self.branches[branch])
        loaded = time.perf_counter()
        rendered = run_plan(plan, engine_picture(image), self.backend, self.progress)
        sr = restore(rendered.image, image, self.scale)
        done = time.perf_counter()
        time_ms = {
            "plan": 1e3 * (planned - begun),
            "load": 1e3 * (loaded - planned),
            "infer": rendered.infer_ms,
            "stitch": 1e3 * (done - loaded) - rendered.infer_ms,
            "total": 1e3 * (done - begun),
        }
        return self._result(sr, plan, rendered.pixels, time_ms)

    def improve(self, image: np.ndarray, deadline: str | None = None, objective: str | None = None) -> Iterator[Result]:
        """The picture as it gets better: interpolated first, then after every tile, each a whole picture of its own.

        Args:
            image: as in `upscale`.
            deadline: when to stop; without one it goes on to the best that the table predicts.
            objective: as in `upscale`.
        """
        limit = Budget("ms", math.inf, "inf") if deadline is None else parse_deadline(deadline)
        return self._improve(image, limit, objective, on_the_way=True)

    def _improve(self, image: np.ndarray, limit: Budget, objective: str | None, on_the_way: bool) -> Iterator[Result]:
        """The last result, at `limit`; with `on_the_way` those before it too."""
        begun = time.perf_counter()
        objective = self._objective(objective)
        rgb = engine_picture(check_image(image))
        sr = interpolate(rgb, self.scale)
        complete = restore(sr, image, self.scale)
        stitch_ms = 1e3 * (time.perf_counter() - begun)
        # At the end the picture is copied and restored again, and the plan of what it shows is made.
        until = begun + (limit.value - 1.5 * stitch_ms - END_MS) / 1e3
        table = self._clock_cost()
        hopeless = time.perf_counter() >= until
        if hopeless:
            grid, mse = Grid(rgb.shape[0], rgb.shape[1], PATCH), None
            error = np.zeros((grid.areas.size, 1))
        else:
            grid, psnr, mse = self._predict(rgb, self.table)
            self._load_until(begun + LOADING * (until - begun))
            error = (mse * grid.areas.reshape(-1, 1) if objective == "mse" else -psnr)[:, : self._ready]
        run = Anytime(rgb, sr, grid, error, table, self.backend, self.branches, self.card.halo)
        note = "" if table.unit == "ms" else "never calibrated on this machine: paced by its own tiles"

        def result() -> Result:
            shown = self._finish(grid, run.branch_map.flatten(), mse, table, "deadline", limit.text, objective, note)
            picture = restore(run.picture(), image, self.scale) if run.branch_map.any() else complete.copy()
            total = 1e3 * (time.perf_counter() - begun)
            time_ms = {"plan": total - stitch_ms - run.infer_ms, "infer": run.infer_ms, "stitch": stitch_ms}
            return self._result(picture, shown, run.pixels, {**time_ms, "total": total})

        if on_the_way:
            yield result()
        if not hopeless:
            for _ in run.run(until):
                if on_the_way:
                    yield result()
        if not on_the_way:
            yield result()

    def _load_until(self, end: float) -> None:
        """Load sub-nets, cheapest first, as long as another begins before `end` in seconds of `perf_counter`."""
        while self._ready < len(self.branches) and time.perf_counter() < end:
            self.backend.load(self.branches[self._ready])
            self._ready += 1

    def _result(self, image: np.ndarray, plan: Plan, pixels: np.ndarray, time_ms: dict[str, float]) -> Result:
        """The picture with its report; `pixels` are those that went through each branch."""
        macs = float(pixels @ self._macs.per_pixel)
        about = {"backend": self.backend.name, "precision": self.backend.precision}
        return Result(image, plan, statistics(plan, macs=macs, time_ms=time_ms, **about))

    def _check_belongs(self, plan: Plan, image: np.ndarray) -> None:
        if (plan.grid.height, plan.grid.width) != image.shape[:2]:
            raise ArtefactError(
                f"the plan is for {plan.grid.width}x{plan.grid.height} pixels, not {image.shape[1]}x{image.shape[0]}"
            )
        if (plan.model_sha256, plan.branches, plan.scale) != (self.card.sha256, self.branches, self.scale):
            raise ArtefactError(f"the plan was made for model '{plan.model}', not for this '{self.card.name}'")


def _total(error: np.ndarray, branches: np.ndarray) -> float:
    """Sum of error (patches, branches) over the chosen branches (patches,)."""
    return float(error[np.arange(len(branches)), branches].sum())


@lru_cache(maxsize=4)
def _upscaler(model: str, backend: str) -> Upscaler:
    return Upscaler(model, backend=backend)


def upscale(image: np.ndarray, scale: int = 4, budget: str | float | Budget | None = None, *,
            backend: str = "auto", **how: Any) -> np.ndarray:  # fmt: skip
    """Upscale one picture with the model of `scale` that comes with the package.

    Args and errors as in `Upscaler.upscale`; ModelError when no model has that scale.

    Returns:
        The picture, same dtype and channels, `scale` times the sides.
    """
    return _upscaler(model_of_scale(scale), backend).upscale(image, budget, **how).image


def model_of_scale(scale: int) -> str:
    """Name of the shipped model of `scale`, the default one if it has it; ModelError when there is none."""
    scales = {name: load_model(name).scale for name in list_models()}
    fitting = [name for name, own in scales.items() if own == scale]
    if not fitting:
        raise ModelError(f"no model of scale {scale}; there are {', '.join(f'{n} (x{s})' for n, s in scales.items())}")
    return DEFAULT_MODEL if DEFAULT_MODEL in fitting else fitting[0]
