"""`Upscaler`: the only place that wires the stages together."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from .anytime import STEP_MS, Anytime, next_pace
from .backends import Backend
from .calibration import AUTO, open_engine
from .channels import check_image, engine_picture, planning_picture, restore, without_hidden_colours
from .cost import CostTable
from .errors import ArtefactError, ModelError, UsageError
from .lut import EdgeTable
from .models import list_models, load_model
from .patches import PATCH, Grid
from .planner import Planner, checked_objective
from .report import heat_map, statistics
from .scheduler import Budget, Plan
from .scheduler.budget import parse_deadline
from .stitch import LARGEST, Rendering, interpolate

END_MS = 0.5
"""Milliseconds that a deadline keeps for making the plan of what was done."""
STRIP = 256
"""LR rows of a strip,"""
STRIP_LARGEST = 1 << 17
"""and LR pixels that go through a sub-net at once in one, so that memory stays small."""
LOADING = 0.25
"""Share of the time to a deadline after which no further sub-net is loaded."""
DEFAULT_MODEL = "plain-x4"


@dataclass(frozen=True)
class Result:
    """An upscaled picture and how it came about."""

    image: np.ndarray
    """Same dtype and channels as the input, `scale` times its sides."""
    plan: Plan
    """What was computed where."""
    stats: dict[str, Any]
    """The report that `--json` writes; its `time_ms` has `plan`, `load`, `infer`, `stitch`, `total`."""

    def heatmap(self) -> np.ndarray:
        """Where the compute went: uint8 RGB, height and width of `image`, one colour a branch."""
        return heat_map(self.image, self.plan)


class Upscaler:
    """A model, its table and an engine, ready for any number of pictures.

    Args:
        model: name of a model that comes with the package, or a model directory.
        backend: `onnxruntime`, `openvino`, `pytorch`, `opencv`, or `auto`: by the last `arm-sr calibrate` the fastest
            of those that lose at most 0.01 dB, onnxruntime where nothing was measured. Or an engine that is open with
            the model's sub-nets, which several upscalers may share.
        precision: arithmetic, `fp32` or `bf16` (default: fp32, of `auto` what it takes); `auto` then takes the fastest
            engine that has it, whatever that loses.
        bmodels: folder with the sub-nets that were compiled for a TPU, for the backend `sophon:CHIP[:PRECISION]`. `%`
            is then a share of its time, as measured there or else as the compiler models it.
        lut: edge-to-PSNR table to use instead of the model's own.
        cost: cost table, or a file with one (JSON), to use instead of MACs; `%` is then a share of what a picture
            costs by it with the largest sub-net everywhere, that of `bicubic` included.
        progress: called with the LR pixels of each finished tile, without the context that was computed around it.

    Raises:
        ModelError, ArtefactError, UsageError, BackendError: what is missing, damaged or unknown.
    """

    def __init__(self, model: str | Path = DEFAULT_MODEL, *, backend: str | Backend = AUTO,
                 precision: str | None = None, bmodels: str | Path | None = None, lut: str | Path | None = None,
                 cost: str | Path | CostTable | None = None,
                 progress: Callable[[int], None] | None = None) -> None:  # fmt: skip
        self.card = load_model(str(model))
        if not isinstance(backend, str):
            if precision is not None or bmodels is not None:
                raise UsageError("an open engine has its precision and sub-nets; leave precision out, and bmodels")
            if backend.model_sha256 != self.card.sha256:
                raise UsageError(f"the open engine has the sub-nets of another model than '{self.card.name}'")
        if isinstance(backend, str):
            folder = None if bmodels is None else Path(bmodels)
            backend = open_engine(backend, self.card, precision, folder)
        self.backend = backend
        given_cost = CostTable.load(Path(cost), self.card) if isinstance(cost, str | Path) else cost
        if given_cost is not None and given_cost.branches != self.card.branches:
            named = ", ".join(given_cost.branches)
            raise UsageError(f"the cost table is of {named}; '{self.card.name}' has {', '.join(self.card.branches)}")
        table = None if lut is None else EdgeTable.for_model(self.card, Path(lut))
        self.planner = Planner(self.card, table, given_cost, self.backend)
        with suppress(ArtefactError):  # raised where a table is needed
            self.planner.table  # noqa: B018  read now, so that no picture waits for it
        self.progress = progress
        # Milliseconds that a unit of cost took in the last calls with a deadline; nothing is known of MACs at first.
        self._pace: dict[str, float | None] = {"ms": 1.0, "MAC": None}
        self._ready = {0}  # numbers of the branches that are loaded

    @property
    def scale(self) -> int:
        """Upscaling factor."""
        return self.card.scale

    @property
    def branches(self) -> tuple[str, ...]:
        """Names of the branches, `bicubic` first, cheapest to dearest."""
        return self.card.branches

    def plan(self, image: np.ndarray, budget: str | float | Budget | None = None, *, eta: str | float | None = None,
             width: str | None = None, objective: str | None = None) -> Plan:  # fmt: skip
        """Decide what to compute, without computing it; arguments and errors as in `upscale`."""
        return self.planner.plan(planning_picture(check_image(image)), budget, eta, width, objective)

    def load(self) -> None:
        """Make all sub-nets ready, which the first pictures otherwise wait for."""
        self._load_until(math.inf)

    def upscale(self, image: np.ndarray, budget: str | float | Budget | None = None, *,
                eta: str | float | None = None, width: str | None = None, deadline: str | None = None,
                objective: str | None = None, plan: Plan | None = None) -> Result:  # fmt: skip
        """Upscale one picture; without any of the choices the largest sub-net runs everywhere.

        Args:
            image: uint8 or uint16: RGB (H, W, 3), RGBA (H, W, 4), grey (H, W) or grey and alpha (H, W, 2), at
                least 1x1. Alpha is interpolated; colours of transparent pixels do not bleed into those that are seen.
                16-bit pictures are interpolated, and the sub-nets add their 8-bit difference.
            budget: `40%` or 0.4 of one pass of the largest sub-net, `2.5GMAC`, `150ms` or `max`.
            eta: trade-off, a number or `best`: ARM's rule, or with the objective `mse` the largest eta * PSNR - cost,
                where the largest sub-net costs 1 and PSNR is over all pixels of pictures like the table's.
            width: one branch everywhere, such as `w48` or `bicubic`.
            deadline: `80ms` or `1.5s` from this call on, opening the model not counted; what is there by then is
                returned, interpolated where nothing better was. Sub-nets that no call has used yet are loaded within
                that time, see `load`.
            objective: what a choice optimises, total squared error (`mse`, the default of a budget and a deadline) or
                ARM's mean of the PSNRs of patches (`psnr`, the default of eta).
            plan: a plan to replay instead of making one.

        Raises:
            BudgetError, ModelError, UsageError: an argument is wrong.
            ArtefactError: the plan does not belong to the model or picture.
        """
        if deadline is not None:
            if any(value is not None for value in (budget, eta, width, plan)):
                raise UsageError("a deadline excludes budget, eta, width and plan")
            limit, objective = parse_deadline(deadline), checked_objective(objective)
            *_, result = self._improve(check_image(image), limit, objective, on_the_way=False)
            return result
        begun, image, plan, rendering, time_ms = self._begin(image, budget, eta, width, objective, plan)
        sr = restore(rendering.whole(), image, self.scale)
        done = 1e3 * (time.perf_counter() - begun)
        time_ms["stitch"] = done - rendering.infer_ms - sum(time_ms.values())
        return self._result(sr, plan, rendering.pixels, time_ms | {"infer": rendering.infer_ms, "total": done})

    def strips(self, image: np.ndarray, budget: str | float | Budget | None = None, *, eta: str | float | None = None,
               width: str | None = None, objective: str | None = None, plan: Plan | None = None,
               height: int = STRIP) -> "Strips":  # fmt: skip
        """As `upscale`, for pictures whose result is too large for memory: from top to bottom, in strips of about
        `height` LR rows. Where a strip cuts a tile some rows are computed twice, up to a tenth more than planned."""
        _, image, plan, rendering, time_ms = self._begin(image, budget, eta, width, objective, plan, STRIP_LARGEST)
        return Strips(self, image, plan, rendering, time_ms, height)

    def _begin(self, image: np.ndarray, budget: str | float | Budget | None, eta: str | float | None,
               width: str | None, objective: str | None, plan: Plan | None,
               largest: int = LARGEST) -> tuple[float, np.ndarray, Plan, Rendering, dict[str, float]]:  # fmt: skip
        """Plan, and load what the plan needs: when it began, the picture without hidden colours, the plan, its
        rendering, and the time of planning and loading."""
        check_image(image)
        if plan is not None and any(value is not None for value in (budget, eta, width, objective)):
            raise UsageError("a plan to replay excludes budget, eta, width and objective")
        if budget is not None and eta is None and width is None and Budget.parse(budget).kind == "ms":
            self.planner.cost_of(Budget.parse(budget))  # measuring costs is not part of upscaling this picture
        begun = time.perf_counter()
        image = without_hidden_colours(image)
        rgb = engine_picture(image)
        if plan is None:
            plan = self.planner.plan(rgb, budget, eta, width, objective)
        else:
            self._check_belongs(plan, image)
        planned = time.perf_counter()
        for branch in sorted(set(plan.tiles.branch.tolist())):
            self.backend.load(self.branches[branch])
            self._ready.add(branch)
        loaded = time.perf_counter()
        rendering = Rendering(plan, rgb, self.backend, self.card.receptive_radius, self.progress, largest)
        return begun, image, plan, rendering, {"plan": 1e3 * (planned - begun), "load": 1e3 * (loaded - planned)}

    def improve(self, image: np.ndarray, deadline: str | None = None, objective: str | None = None) -> Iterator[Result]:
        """The picture as it gets better: interpolated first, then after every tile, each a whole picture of its own.

        Args:
            image: as in `upscale`.
            deadline: when to stop, from the first picture that is asked for on; without one it goes on to the best that
                the table predicts. The time between the pictures counts.
            objective: as in `upscale`.
        """
        limit = Budget("ms", math.inf, "inf") if deadline is None else parse_deadline(deadline)
        return self._improve(check_image(image), limit, checked_objective(objective), on_the_way=True)

    def _improve(self, image: np.ndarray, limit: Budget, objective: str, on_the_way: bool) -> Iterator[Result]:
        """The last result, at `limit`; with `on_the_way` those before it too."""
        begun = time.perf_counter()
        image = without_hidden_colours(image)
        rgb = engine_picture(image)
        sr = interpolate(rgb, self.scale)
        complete = restore(sr, image, self.scale)
        stitch_ms = 1e3 * (time.perf_counter() - begun)
        # At the end seams are softened, the picture is restored again, and the plan of what it shows is made.
        until = begun + (limit.value - stitch_ms - END_MS) / 1e3
        table = self.planner.clock_cost
        hopeless, load_ms, away = time.perf_counter() >= until, 0.0, 0.0
        if hopeless:
            grid, mse = Grid(rgb.shape[0], rgb.shape[1], PATCH), None
            error = np.zeros((grid.areas.size, len(self.branches)))
        else:
            grid, psnr, mse = self.planner.expect(rgb)
            loading = time.perf_counter()
            self._load_until(begun + LOADING * (until - begun))
            load_ms = 1e3 * (time.perf_counter() - loading)
            error = mse * grid.areas.reshape(-1, 1) if objective == "mse" else -psnr
            missing = [number for number in range(len(self.branches)) if number not in self._ready]
            error[:, missing] = np.inf  # no better than the one before
            error = np.minimum.accumulate(error, axis=1)
        step_ms = STEP_MS if on_the_way else math.inf
        pace = self._pace[table.unit]
        run = Anytime(
            rgb, sr, grid, error, table, self.backend, self.branches, self.card.halo, pace, step_ms, self.progress
        )
        note = "" if table.unit == "ms" else "never calibrated on this machine: paced by its own tiles"

        def result() -> Result:
            shown = self.planner.finish(
                grid, run.branch_map.flatten(), mse, table, "deadline", limit.text, objective, note
            )
            if run.branch_map.any():
                picture = restore(run.picture(copy=on_the_way), image, self.scale)
            else:
                picture = complete.copy() if on_the_way else complete
            total = 1e3 * (time.perf_counter() - begun - away)
            time_ms = {"load": load_ms, "infer": run.infer_ms, "stitch": stitch_ms}
            time_ms |= {"plan": total - sum(time_ms.values()), "total": total}
            return self._result(picture, shown, run.pixels, time_ms)

        try:
            for _ in chain([None], () if hopeless else run.run(until)):
                if on_the_way:
                    so_far, shown_at = result(), time.perf_counter()
                    yield so_far
                    away += time.perf_counter() - shown_at
        finally:  # whoever looks on may have seen enough
            self._pace[table.unit] = next_pace(pace, run.pace, table.unit, ran=bool(run.pixels.any()))
        if not on_the_way:
            yield result()

    def _load_until(self, end: float) -> None:
        """Load sub-nets, cheapest first, as long as another begins before `end` in seconds of `perf_counter`; one at
        least, so that call by call all become ready."""
        for number, branch in enumerate(self.branches):
            if number not in self._ready:
                self.backend.load(branch)
                self._ready.add(number)
                if time.perf_counter() >= end:
                    return

    def _result(self, image: np.ndarray, plan: Plan, pixels: np.ndarray, time_ms: dict[str, float]) -> Result:
        return Result(image, plan, self._report(plan, pixels, time_ms))

    def _report(self, plan: Plan, pixels: np.ndarray, time_ms: dict[str, float]) -> dict[str, Any]:
        """What is told of a picture; `pixels` are those that went through each branch."""
        macs = pixels * self.planner.macs.per_pixel
        about = {"backend": self.backend.name, "precision": self.backend.precision}
        return statistics(plan, macs=macs, time_ms=time_ms, **about)

    def _check_belongs(self, plan: Plan, image: np.ndarray) -> None:
        if (plan.grid.height, plan.grid.width) != image.shape[:2]:
            raise ArtefactError(
                f"the plan is for {plan.grid.width}x{plan.grid.height} pixels, not {image.shape[1]}x{image.shape[0]}"
            )
        if (plan.model_sha256, plan.branches, plan.scale) != (self.card.sha256, self.branches, self.scale):
            raise ArtefactError(f"the plan was made for model '{plan.model}', not for this '{self.card.name}'")


class Strips:
    """An upscaled picture from top to bottom; iterate once. See `Upscaler.strips`."""

    def __init__(self, upscaler: Upscaler, image: np.ndarray, plan: Plan, rendering: Rendering,
                 time_ms: dict[str, float], height: int) -> None:  # fmt: skip
        self._upscaler, self._image, self._rendering, self._height = upscaler, image, rendering, height
        self._time_ms = {**time_ms, "stitch": 0.0}
        self.plan = plan
        """What is computed where."""

    def __iter__(self) -> Iterator[np.ndarray]:
        """Rows of the upscaled picture, dtype and channels of the input."""
        first, begun, before = 0, time.perf_counter(), 0.0
        for rows in self._rendering.strips(self._height):
            sr = restore(rows, self._image, self._upscaler.scale, first)
            first += len(rows)
            spent, before = self._rendering.infer_ms - before, self._rendering.infer_ms
            self._time_ms["stitch"] += 1e3 * (time.perf_counter() - begun) - spent
            yield sr
            begun = time.perf_counter()

    @property
    def stats(self) -> dict[str, Any]:
        """The report of what was done so far, as `Result.stats`; the time of whoever iterates is not in it."""
        time_ms = {**self._time_ms, "infer": self._rendering.infer_ms}
        time_ms["total"] = sum(time_ms.values())
        return self._upscaler._report(self.plan, self._rendering.pixels, time_ms)


@lru_cache(maxsize=4)
def _upscaler(model: str, backend: str) -> Upscaler:
    return Upscaler(model, backend=backend)


def upscale(image: np.ndarray, scale: int = 4, budget: str | float | Budget | None = None, *,
            backend: str = AUTO, **how: Any) -> np.ndarray:  # fmt: skip
    """Upscale one picture with the model of `scale` that comes with the package.

    Args and errors as in `Upscaler.upscale`; ModelError when no model has that scale.

    Returns:
        The picture, same dtype and channels, `scale` times the sides.
    """
    return _upscaler(model_of_scale(scale), backend).upscale(image, budget, **how).image


def models_by_scale() -> dict[int, str]:
    """The scales of the shipped models, ascending, with a model of each: the default one if it has it."""
    names = sorted(list_models(), key=lambda name: name != DEFAULT_MODEL)
    scales = {load_model(name).scale: name for name in reversed(names)}
    return dict(sorted(scales.items()))


def model_of_scale(scale: int) -> str:
    """Name of the shipped model of `scale`; ModelError when there is none."""
    scales = models_by_scale()
    if scale not in scales:
        raise ModelError(f"no model of scale {scale}; there are {', '.join(f'{n} (x{s})' for s, n in scales.items())}")
    return scales[scale]
