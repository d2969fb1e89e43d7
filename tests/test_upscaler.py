"""`Upscaler`: any size, any budget, any model."""

import dataclasses
import json
import shutil
import time
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import arm_sr
from arm_sr import ArtefactError, BudgetError, ModelError, Plan, Upscaler, UsageError
from arm_sr.cost import CostTable
from arm_sr.planner import Planner
from arm_sr.stitch import interpolate, keep_flat_borders

DEPTHS = [
    lambda photo: photo,
    lambda photo: photo[..., 0],
    lambda photo: np.dstack([photo, photo[..., 0]]),
    lambda photo: photo[..., :2],
    lambda photo: photo.astype(np.uint16) * 257,
    lambda photo: photo[:1, :1],
]
"""A colour photo as other kinds of picture."""
BUDGETS = [0.01, 0.1, 0.25, 0.4, 0.55, 0.7, 0.85, 1.0]


@cache
def upscaler_of(model: str) -> Upscaler:
    """One `Upscaler` a model for all examples of a property."""
    return Upscaler(model)


@pytest.fixture(scope="session", params=["tiny", "plain-x4"])
def upscaler(request: pytest.FixtureRequest, tiny_model: Path) -> Upscaler:
    """A random model x2 and the shipped one."""
    return upscaler_of(str(tiny_model) if request.param == "tiny" else request.param)


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Blobs and noise, so that patches differ in detail."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 24 + 2, width // 24 + 2, 3), dtype=np.uint8)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR).astype(int)
    noise = rng.normal(0, 1, (height, width, 1)) * np.linspace(0, 40, width)[None, :, None]
    return np.clip(smooth + noise, 0, 255).astype(np.uint8)


@given(st.integers(1, 200), st.integers(1, 200), st.sampled_from(BUDGETS), st.sampled_from(["mse", "psnr"]))
@settings(max_examples=25, deadline=None)
def test_any_size_and_budget(upscaler: Upscaler, height: int, width: int, budget: float, objective: str) -> None:
    """The size is exact, every pixel is covered, and what is computed is within the budget, by a recount too."""
    image = picture(height, width)
    result = upscaler.upscale(image, budget, objective=objective)
    plan = result.plan
    plan.check()
    assert (height * upscaler.scale, width * upscaler.scale, 3) == result.image.shape
    recount = 0
    for branch, (top, left, bottom, right) in zip(plan.tiles.branch, plan.tiles.box, strict=True):
        halo = plan.tiles.halo
        rows = min(bottom + halo, height) - max(top - halo, 0)
        cols = min(right + halo, width) - max(left - halo, 0)
        recount += rows * cols * upscaler.card.subnets[plan.branches[branch]].macs_per_lr_pixel
    largest = height * width * upscaler.card.subnets[upscaler.card.largest].macs_per_lr_pixel
    assert recount == plan.macs == result.stats["macs"]["planned"]
    assert largest == plan.macs_largest
    assert recount <= budget * largest
    assert result.stats["budget"]["spent"] == pytest.approx(recount / largest)


@given(st.integers(1, 200), st.integers(1, 200), st.integers(0, 5), st.sampled_from(["mse", "psnr"]))
@settings(max_examples=15, deadline=None)
def test_larger_budgets_never_predict_worse(
    upscaler: Upscaler, height: int, width: int, seed: int, objective: str
) -> None:
    """Monotone in the objective over a fine row of budgets."""
    image = picture(height, width, seed)
    _, psnr, _ = upscaler.planner.expect(image)
    values = []
    for percent in range(2, 101, 7):
        plan = upscaler.plan(image, f"{percent}%", objective=objective)
        if objective == "mse":
            assert plan.predicted_mse is not None
            values.append(-plan.predicted_mse)
        else:
            values.append(psnr[np.arange(len(psnr)), plan.branch_map.ravel()].mean())
    assert np.all(np.diff(values) >= -1e-9)


@pytest.mark.parametrize("shape", [(16, 16), (40, 1), (1, 40), (1, 1), (5, 12_000), (12_000, 1), (1, 12_000)])
def test_extreme_shapes_work_within_every_budget(tiny_model: Path, shape: tuple[int, int]) -> None:
    """Shares, milliseconds, deadlines and every branch, whole and in strips."""
    upscaler, image = upscaler_of(str(tiny_model)), picture(*shape)
    ways: list[dict[str, Any]] = [{"budget": f"{percent}%"} for percent in (1, 5, 10, 30, 60, 100, 200)]
    ways += [{"budget": text} for text in ("max", "1ms", "1000ms", "0.00001GMAC")]
    ways += [{"width": branch} for branch in upscaler.branches]
    for how in ways:
        whole = upscaler.upscale(image, **how)
        assert (shape[0] * upscaler.scale, shape[1] * upscaler.scale, 3) == whole.image.shape
        whole.plan.check()
        strips = np.concatenate(list(upscaler.strips(image, plan=whole.plan, height=64)))
        assert np.abs(strips.astype(int) - whole.image).max() <= 1
    for deadline in ("0.1ms", "20ms", "10s"):
        result = upscaler.upscale(image, deadline=deadline)
        assert (shape[0] * upscaler.scale, shape[1] * upscaler.scale, 3) == result.image.shape
        result.plan.check()


def test_what_a_patch_is_expected_to_hold_is_what_its_neighbours_hold(tiny_model: Path) -> None:
    """A flat patch among detailed ones is expected to have a larger error than in a flat picture; a dearer branch is
    never expected to be worse; alone in the picture a patch is what the table says, but for that."""
    planner = upscaler_of(str(tiny_model)).planner
    side = planner.table.patch
    noise = np.random.default_rng(1).integers(0, 256, (3 * side, 3 * side, 3), dtype=np.uint8)
    island = noise.copy()
    island[side - 1 : 2 * side + 1, side - 1 : 2 * side + 1] = 128
    grid, psnr, mse = planner.expect(island)
    assert (3, 3) == grid.shape
    flat = planner.expect(np.full_like(island, 128))[2]
    assert np.all(mse[4] > flat[4])
    assert np.all(mse[4] < mse[0])
    assert np.all(np.diff(mse, axis=1) <= 0)
    assert np.all(np.diff(psnr, axis=1) >= 0)
    _, raw_psnr, raw_mse = planner.predict(noise[:side, :side])
    _, one_psnr, one_mse = planner.expect(noise[:side, :side])
    assert np.allclose(np.minimum.accumulate(raw_mse, axis=1), one_mse)
    assert np.allclose(np.maximum.accumulate(raw_psnr, axis=1), one_psnr)


@pytest.mark.parametrize("shape", [(1, 1), (17, 50), (120, 90)])
def test_one_branch_everywhere_is_one_pass(upscaler: Upscaler, shape: tuple[int, int]) -> None:
    """To the bit what a direct pass gives, flat borders apart, and one rectangle."""
    image = picture(*shape)
    for branch in upscaler.branches[1:]:
        result = upscaler.upscale(image, width=branch)
        assert 1 == len(result.plan.tiles.box)
        direct = upscaler.backend.run(branch, image[None])[0].copy()
        keep_flat_borders(direct, image, upscaler.scale)
        assert np.array_equal(direct, result.image)
    assert np.array_equal(interpolate(image, upscaler.scale), upscaler.upscale(image, width="bicubic").image)
    largest = upscaler.upscale(image, width=upscaler.branches[-1]).image
    assert np.array_equal(largest, upscaler.upscale(image, "max").image)
    assert np.array_equal(largest, upscaler.upscale(image).image)


def test_routed_picture_matches_the_passes_it_is_cut_from(photo: np.ndarray) -> None:
    """Away from seams an interpolated patch is interpolation itself; in the rest the picture hardly differs."""
    upscaler = upscaler_of("plain-x4")
    image = np.ascontiguousarray(photo[:200, :230])
    result = upscaler.upscale(image, "15%")
    passes = [upscaler.upscale(image, width=name).image.astype(int) for name in upscaler.branches]
    labels = np.repeat(np.repeat(result.plan.branch_map, 32, axis=0)[:200], 32, axis=1)[:, :230]
    labels = labels.repeat(4, axis=0).repeat(4, axis=1)
    expected = np.choose(labels[..., None], passes)
    difference = np.abs(result.image - expected)
    assert len(np.unique(labels)) > 1
    row, col = np.indices(labels.shape)
    inside = (np.minimum(row % 128, col % 128) > 0) & (np.maximum(row % 128, col % 128) < 127)
    assert 0 == difference[(labels == 0) & inside].max()
    assert (difference[inside] > 1).mean() < 0.015
    assert np.percentile(difference[~inside], 90) <= 8


def test_a_saved_plan_replays_to_the_bit(upscaler: Upscaler, tmp_path: Path) -> None:
    """The same picture, from a plan read back from its file."""
    image = picture(100, 140)
    first = upscaler.upscale(image, "40%")
    first.plan.save(tmp_path / "plan.json")
    again = upscaler.upscale(image, plan=Plan.load(tmp_path / "plan.json"))
    assert np.array_equal(first.image, again.image)
    assert first.stats["macs"] == again.stats["macs"]
    with pytest.raises(ArtefactError, match="140x100"):
        upscaler.upscale(image[:50], plan=first.plan)
    with pytest.raises(UsageError, match="excludes"):
        upscaler.upscale(image, "40%", plan=first.plan)


HOW = st.sampled_from([{"budget": "max"}, {"budget": "30%"}, {"budget": "70%"}, {"width": "bicubic"}, {"eta": 2.0},
                       {"eta": 2.0, "objective": "mse"}])  # fmt: skip


@given(st.integers(1, 150), st.integers(1, 150), HOW, st.integers(1, 100), st.sampled_from(range(6)))
@settings(max_examples=40, deadline=None)
def test_strips_are_the_picture(upscaler: Upscaler, height: int, width: int, how: Any, strip: int, kind: int) -> None:
    """Together they are what `upscale` gives, within rounding, of any kind of picture; the plan is the same."""
    image = np.ascontiguousarray(DEPTHS[kind](picture(height, width)))
    whole, strips = upscaler.upscale(image, **how), upscaler.strips(image, **how, height=strip)
    parts = list(strips)
    sr = np.concatenate(parts)
    step = 257 if image.dtype == np.uint16 else 1
    assert (whole.image.shape, whole.image.dtype) == (sr.shape, sr.dtype)
    assert np.abs(sr.astype(int) - whole.image).max() <= step
    assert np.array_equal(whole.plan.branch_map, strips.plan.branch_map)
    assert whole.stats.keys() == strips.stats.keys()
    patch = strips.plan.grid.patch
    assert max(len(rows) for rows in parts) <= upscaler.scale * max(patch, strip) + 1


def test_large_tiles_are_computed_in_parts(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No call has many more pixels than is allowed, and the picture is the same within rounding."""
    upscaler, image, calls = Upscaler(tiny_model), picture(120, 150), []
    whole = upscaler.upscale(image)
    monkeypatch.setattr("arm_sr.api.STRIP_LARGEST", 1000)
    run = upscaler.backend.run
    monkeypatch.setattr(upscaler.backend, "run", lambda branch, batch: calls.append(batch.shape) or run(branch, batch))
    sr = np.concatenate(list(upscaler.strips(image, height=200)))
    assert np.abs(sr.astype(int) - whole.image).max() <= 1
    assert len(calls) > 10
    context = 2 * max(subnet.receptive_radius for subnet in upscaler.card.subnets.values())
    assert all(max(shape[1:3]) <= 40 + context for shape in calls)


def test_a_plan_of_another_model_is_refused(tiny_model: Path) -> None:
    """Both models are named."""
    image = picture(64, 64)
    plan = upscaler_of(str(tiny_model)).plan(image, "40%")
    with pytest.raises(ArtefactError, match=r"tiny-x2.*plain-x4"):
        upscaler_of("plain-x4").upscale(image, plan=plan)


@pytest.mark.parametrize("how", [{"budget": "40%"}, {"width": "w64"}, {"width": "bicubic"}])
def test_grey_stays_grey(photo: np.ndarray, how: dict[str, str]) -> None:
    """A grey array gives a grey array, the same as from equal channels."""
    upscaler = upscaler_of("plain-x4")
    grey = cv2.cvtColor(photo[:100, :90], cv2.COLOR_RGB2GRAY)
    colour = upscaler.upscale(cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB), **how).image
    result = upscaler.upscale(grey, **how).image
    assert (400, 360) == result.shape
    assert np.abs(colour.astype(int).mean(axis=2) - result).max() <= 8
    assert np.abs(colour.astype(int).mean(axis=2) - result).mean() < 0.5


def test_sixteen_bits_keep_their_levels(photo: np.ndarray) -> None:
    """More than 256 levels, near 257 times the 8-bit result, and exact where it is interpolated."""
    upscaler = upscaler_of("plain-x4")
    smooth = cv2.GaussianBlur(photo[:80, :80].astype(np.float32) * 257, (0, 0), 2)
    wide = smooth.round().astype(np.uint16)
    narrow = ((wide.astype(np.uint32) + 128) // 257).astype(np.uint8)
    result = upscaler.upscale(wide, "50%").image
    eight = upscaler.upscale(narrow, "50%").image
    assert np.uint16 == result.dtype
    assert len(np.unique(result)) > 1000
    assert np.abs(result / 257 - eight).max() <= 2
    bicubic = upscaler.upscale(wide, width="bicubic").image
    assert np.array_equal(interpolate(wide, 4), bicubic)


def test_alpha_is_upscaled_with_the_picture(photo: np.ndarray) -> None:
    """RGBA in, RGBA out; colours that are seen as well as their neighbours do not depend on alpha."""
    upscaler = upscaler_of("plain-x4")
    alpha = np.tile(np.arange(64, dtype=np.uint8) * 3 + 16, (48, 1))
    rgba = np.dstack([photo[:48, :64], alpha])
    result = upscaler.upscale(rgba, "40%").image
    assert np.array_equal(upscaler.upscale(rgba[..., :3].copy(), "40%").image, result[..., :3])
    assert np.array_equal(interpolate(alpha, 4), result[..., 3])


def test_flat_pictures_stay_flat() -> None:
    """A constant colour comes out within one level under a budget."""
    for level in (0, 1, 127, 254, 255):
        image = np.full((70, 70, 3), level, np.uint8)
        result = upscaler_of("plain-x4").upscale(image, "40%").image
        assert np.abs(result.astype(int) - level).max() <= 1


def test_etas_move_from_the_cheapest_to_the_best(photo: np.ndarray) -> None:
    """eta 0 interpolates; a larger eta never costs less before merging; `best` predicts the best PSNRs."""
    upscaler = upscaler_of("plain-x4")
    image = photo[:256, :256]
    plans = [upscaler.plan(image, eta=eta) for eta in (0, 0.2, 0.5, 1, 2, 8, "best")]
    costs = [upscaler.planner.macs.per_pixel[plan.branch_map].sum() for plan in plans]
    assert 0 == costs[0]
    assert np.all(np.diff(costs) >= 0)
    assert costs[-1] > 0
    assert {"psnr"} == {plan.objective for plan in plans}


def test_eta_0_interpolates_by_measured_costs_too(measured_cost: CostTable) -> None:
    """Interpolation and planning are paid once for a picture, however many patches are interpolated."""
    upscaler = Upscaler("plain-x4", cost=measured_cost)
    assert not upscaler.plan(picture(128, 128), eta=0).branch_map.any()


@pytest.fixture
def measured_cost() -> CostTable:
    """Of plain-x4, in which planning takes longer than a patch in a sub-net."""
    branches = upscaler_of("plain-x4").branches
    calls, pixels = np.array([0.9, 0.1, 0.1, 0.1]), np.array([2e-5, 3e-4, 3e-3, 6e-3])
    return CostTable("ms", branches, calls, pixels, "by hand")


def test_a_table_of_another_model_is_in_the_way_only_where_one_is_needed(tiny_model: Path, tmp_path: Path) -> None:
    """A model of one's own may be called like one that comes with the package, whose table is found then."""
    folder = Path(shutil.copytree(tiny_model, tmp_path / "mine"))
    card = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**card, "name": "plain-x4"}))
    (folder / "lut.json").unlink(missing_ok=True)
    upscaler = Upscaler(folder)
    assert (40, 40, 3) == upscaler.upscale(picture(20, 20), width="w8").image.shape
    for how in ({"budget": "40%"}, {"eta": 1}, {"deadline": "50ms"}):
        with pytest.raises(ArtefactError, match=r"plain-x4\.json was measured on model 'plain-x4'"):
            upscaler.upscale(picture(20, 20), **how)


def expected(upscaler: Upscaler, image: np.ndarray, plan: Plan) -> np.ndarray:
    """Mean squared error that is predicted of every patch: (patches,)."""
    mse = upscaler.planner.expect(image)[2]
    return mse[np.arange(len(mse)), plan.branch_map.ravel()]


def losses(upscaler: Upscaler, image: np.ndarray, plans: list[Plan], eta: float) -> list[float]:
    """cost - eta * PSNR of plans, the PSNR by its tangent at the table's mean squared error of the largest."""
    table = upscaler.planner.table
    mean = table.mse[:, table.branches.index(upscaler.card.largest)] @ table.counts / table.counts.sum()
    areas = plans[0].grid.areas.ravel()
    errors = [expected(upscaler, image, plan) @ areas / areas.sum() for plan in plans]
    return [p.macs / p.macs_largest + eta * 10 / np.log(10) * e / mean for p, e in zip(plans, errors, strict=True)]


@pytest.mark.parametrize("eta", [0, 0.3, 1, 2, 5, 50])
def test_a_trade_off_is_no_worse_than_one_branch_everywhere(photo: np.ndarray, eta: float) -> None:
    """Nor than what ARM's rule chooses, by what the trade-off weighs."""
    upscaler = upscaler_of("plain-x4")
    image = photo[:300, :260]
    plan = upscaler.plan(image, eta=eta, objective="mse")
    others = [upscaler.plan(image, width=branch) for branch in upscaler.branches] + [upscaler.plan(image, eta=eta)]
    mine, *rivals = losses(upscaler, image, [plan, *others], eta)
    assert mine <= min(rivals) + 1e-9
    assert ("eta", "mse") == (plan.kind, plan.objective)


def test_trade_offs_move_from_the_cheapest_to_the_best(photo: np.ndarray) -> None:
    """eta 0 interpolates; a larger eta never costs less; `best` predicts the least error."""
    upscaler = upscaler_of("plain-x4")
    image = photo[:256, :256]
    plans = [upscaler.plan(image, eta=eta, objective="mse") for eta in (0, 0.2, 0.5, 1, 2, 4, 8, 1e300, "best")]
    costs = [plan.macs for plan in plans]
    assert 0 == costs[0]
    assert np.all(np.diff(costs) >= 0)
    least = upscaler.planner.expect(image)[2].min(axis=1)
    for plan in plans[-2:]:
        assert np.array_equal(least, expected(upscaler, image, plan))


def test_a_trade_off_is_worth_more_than_the_same_budget_for_each(photo: np.ndarray) -> None:
    """An easy and a difficult picture: less error in all than with equal shares that cost as much together."""
    upscaler = upscaler_of("plain-x4")
    images = [cv2.GaussianBlur(photo, (0, 0), 2)[:256, :256], photo[:256, :256]]

    def together(plans: list[Plan]) -> tuple[float, float]:
        errors = [expected(upscaler, image, plan).sum() for image, plan in zip(images, plans, strict=True)]
        return sum(errors), sum(plan.macs for plan in plans) / sum(plan.macs_largest for plan in plans)

    traded = [upscaler.plan(image, eta=5, objective="mse") for image in images]
    error, spent = together(traded)
    least, share = together([upscaler.plan(image, spent) for image in images])
    assert 0.1 < spent < 0.5
    assert share == pytest.approx(spent, rel=0.05)
    assert traded[0].macs < 0.5 * traded[1].macs
    assert error < 0.99 * least


def test_a_trade_off_weighs_the_tangent_of_psnr() -> None:
    """A single patch leaves interpolation at the eta where what it gains is worth the cheapest step of its hull."""
    upscaler = upscaler_of("plain-x4")
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    table, macs = upscaler.planner.table, upscaler.planner.macs.per_pixel
    mse = upscaler.planner.expect(image)[2][0]
    mean = np.average(table.mse[:, table.branches.index("w64")], weights=table.counts)
    switch = min(mean * np.log(10) / 10 * macs[1:] / macs[-1] / (mse[0] - mse[1:]))
    below, above = (upscaler.plan(image, eta=factor * switch, objective="mse") for factor in (0.999, 1.001))
    assert 0 == below.branch_map[0, 0] < above.branch_map[0, 0]


def test_an_eta_without_errors_to_weigh_is_refused() -> None:
    """A table of pictures that every sub-net reproduces exactly cannot say what an error is worth."""
    upscaler = upscaler_of("plain-x4")
    table = dataclasses.replace(upscaler.planner.table, mse=0 * upscaler.planner.table.mse)
    planner = Planner(upscaler.card, table, None, upscaler.backend)
    with pytest.raises(ArtefactError, match="no error anywhere"):
        planner.plan(np.zeros((8, 8, 3), np.uint8), None, 1.0, None, "mse")


def test_time_budgets_use_the_given_costs(photo: np.ndarray, tmp_path: Path) -> None:
    """With --cost, milliseconds and shares count that table; a dearer largest sub-net buys fewer patches."""
    card = upscaler_of("plain-x4").card
    per_pixel = np.array([1e-6, 1e-4, 2e-4, 4e-4])
    CostTable("ms", card.branches, np.full(4, 0.05), per_pixel, "made up").save(tmp_path / "cost.json")
    upscaler = Upscaler("plain-x4", cost=tmp_path / "cost.json")
    image = photo[200:400, 200:400]
    interpolation = 0.05 + 1e-6 * 200 * 200  # with planning, for every plan
    for budget, limit in (("8ms", 8.0), ("50%", 0.5 * (0.05 + 4e-4 * 200 * 200 + interpolation))):
        plan = upscaler.plan(image, budget)
        computed = zip(plan.tiles.branch, plan.tiles.computed_pixels, strict=True)
        recount = interpolation + sum(0.05 + per_pixel[branch] * pixels for branch, pixels in computed)
        assert pytest.approx(recount) == plan.cost
        assert 0.7 * limit < plan.cost <= limit
        assert "ms" == plan.unit
    foreign = CostTable("ms", ("bicubic", "a", "b", "c"), np.ones(4), per_pixel, "made up")
    with pytest.raises(UsageError, match=r"the cost table is of bicubic, a, b, c; 'plain-x4' has bicubic, w16"):
        Upscaler("plain-x4", cost=foreign)
    few = upscaler.plan(image, "0.01ms")
    assert "below the cost of planning, interpolation and stitching" in few.note
    assert not few.branch_map.any()
    assert "MAC" == upscaler.plan(image, "0.5GMAC").unit


def test_milliseconds_are_measured_once_and_kept(
    photo: np.ndarray, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first time budget calibrates; the next `Upscaler` reads the same costs from the cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = Upscaler(tiny_model)
    result = first.upscale(photo[:64, :64], "5ms")
    assert {"kind": "ms", "requested": "5ms"}.items() <= result.stats["budget"].items()
    assert result.stats["budget"]["spent"] > 0
    (kept,) = (tmp_path / "arm_sr").iterdir()
    again = Upscaler(tiny_model).planner.measured_cost
    assert first.planner.measured_cost.per_pixel.tolist() == again.per_pixel.tolist()
    kept.write_text("{")
    assert "ms" == Upscaler(tiny_model).planner.measured_cost.unit


@pytest.mark.parametrize(
    ("how", "error"),
    [
        ({"budget": "0"}, BudgetError),
        ({"budget": -1.0}, BudgetError),
        ({"budget": "40"}, BudgetError),
        ({"budget": "40%", "eta": 1}, UsageError),
        ({"budget": "40%", "width": "w16"}, UsageError),
        ({"eta": "much"}, UsageError),
        ({"eta": -1}, UsageError),
        ({"eta": -1, "objective": "mse"}, UsageError),
        ({"eta": 1, "objective": "ssim"}, UsageError),
        ({"eta": 1, "objective": ""}, UsageError),
        ({"objective": "ssim"}, UsageError),
        ({"width": "w17"}, ModelError),
        ({"deadline": "0ms"}, BudgetError),
        ({"deadline": "40%"}, BudgetError),
        ({"deadline": "soon"}, BudgetError),
        ({"deadline": "80ms", "budget": "40%"}, UsageError),
        ({"deadline": "80ms", "eta": 1}, UsageError),
        ({"deadline": "80ms", "width": "w16"}, UsageError),
        ({"deadline": "80ms", "objective": "ssim"}, UsageError),
    ],
)
def test_wrong_arguments_are_refused(how: dict[str, object], error: type[Exception]) -> None:
    """Each with its own kind of error, before anything is computed."""
    with pytest.raises(error):
        upscaler_of("plain-x4").upscale(np.zeros((8, 8, 3), np.uint8), **how)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "image", [np.zeros((8, 8)), np.zeros((0, 8, 3), np.uint8), np.zeros((8, 8, 5), np.uint8), [[1]]]
)
def test_what_is_no_picture_is_refused(image: object) -> None:
    """Wrong dtype, empty, wrong channels, no array."""
    with pytest.raises(UsageError, match="a picture must be"):
        upscaler_of("plain-x4").upscale(image)  # type: ignore[arg-type]


@pytest.fixture
def ready(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_model: Path) -> Upscaler:
    """The random model with its sub-nets loaded and costs given by hand."""
    rows = {"w4": {"per_call": 0.05, "per_lr_pixel": 1e-4}, "w8": {"per_call": 0.05, "per_lr_pixel": 4e-4}}
    (tmp_path / "cost.json").write_text(json.dumps({"unit": "ms", "branches": rows}))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    upscaler = Upscaler(tiny_model, cost=tmp_path / "cost.json")
    upscaler.load()
    return upscaler


@pytest.mark.parametrize("kind", DEPTHS, ids=["rgb", "grey", "rgba", "grey and alpha", "16 bit", "one pixel"])
def test_a_deadline_far_away_gives_the_best_of_every_patch(ready: Upscaler, photo: np.ndarray, kind: Any) -> None:
    """Of any kind of picture; it is nearly the picture of the plan it reports, whose tiles are larger."""
    image = np.ascontiguousarray(kind(photo[:90, :100]))
    result = ready.upscale(image, deadline="1000s")
    again = ready.upscale(image, plan=result.plan)
    assert (again.image.shape, again.image.dtype) == (result.image.shape, result.image.dtype)
    step = 257 if image.dtype == np.uint16 else 1
    assert (np.abs(again.image.astype(int) - result.image) > step).mean() < 0.05
    assert (result.plan.branch_map == 2).all()  # the table of this model says so
    assert {"kind": "deadline", "requested": "1000s", "planned": 1e6}.items() <= result.stats["budget"].items()


@pytest.mark.parametrize("kind", DEPTHS, ids=["rgb", "grey", "rgba", "grey and alpha", "16 bit", "one pixel"])
def test_a_deadline_that_is_over_gives_interpolation(ready: Upscaler, photo: np.ndarray, kind: Any) -> None:
    """Whole, and to the bit."""
    image = np.ascontiguousarray(kind(photo[:90, :100]))
    result = ready.upscale(image, deadline="0.001ms")
    assert np.array_equal(ready.upscale(image, width="bicubic").image, result.image)
    assert 0 == result.stats["macs"]["planned"] == result.plan.branch_map.max()


def test_sub_nets_are_loaded_within_the_time(tiny_model: Path, photo: np.ndarray, monkeypatch: Any) -> None:
    """A deadline that is over loads none, one that is near loads one at least; what any call has
    loaded counts."""
    upscaler, loaded = Upscaler(tiny_model), []
    load = upscaler.backend.load
    monkeypatch.setattr(upscaler.backend, "load", lambda branch: loaded.append(branch) or load(branch))
    upscaler.upscale(photo[:64, :64], deadline="0.001ms")
    assert [] == loaded
    upscaler.upscale(photo[:64, :64], width="w8")
    assert {"w8"} == set(loaded)
    monkeypatch.setattr("arm_sr.api.LOADING", 0.0)
    upscaler.upscale(photo[:64, :64], deadline="20s")
    assert {"w8", "w4"} == set(loaded)
    upscaler.load()
    result = upscaler.upscale(photo[:64, :64], deadline="20s")
    assert (result.plan.branch_map == 2).all()


def test_a_sub_net_that_is_not_loaded_is_not_waited_for(tiny_model: Path, photo: np.ndarray, monkeypatch: Any) -> None:
    """The others do what they can."""
    upscaler = Upscaler(tiny_model)
    monkeypatch.setattr("arm_sr.api.LOADING", 0.0)
    assert (upscaler.upscale(photo[:64, :64], deadline="20s").plan.branch_map == 1).all()
    assert (upscaler.upscale(photo[:64, :64], deadline="20s").plan.branch_map == 2).all()


def test_the_time_of_the_caller_is_not_reported(ready: Upscaler, photo: np.ndarray) -> None:
    """Neither between improving pictures nor between strips."""
    begun, slept = time.perf_counter(), 0.0

    def rest() -> None:
        nonlocal slept
        before = time.perf_counter()
        time.sleep(0.05)
        slept += time.perf_counter() - before

    results = []
    for result in ready.improve(photo[:90, :100]):
        results.append(result)
        rest()
    assert results[-1].stats["time_ms"]["total"] <= 1e3 * (time.perf_counter() - begun - slept)
    begun, slept = time.perf_counter(), 0.0
    strips = ready.strips(photo[:90, :100], height=16)
    for _ in strips:
        rest()
    assert strips.stats["time_ms"]["total"] <= 1e3 * (time.perf_counter() - begun - slept)


def test_a_machine_that_was_never_measured_is_not_measured_for_a_deadline(
    tiny_model: Path, photo: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The report says that it was paced by its own tiles."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    result = Upscaler(tiny_model).upscale(photo[:64, :64], deadline="20s")
    assert "never calibrated" in result.stats["note"]
    assert (result.plan.branch_map == 2).all()
    assert [] == list(tmp_path.iterdir())


def test_the_picture_improves_before_the_eyes(ready: Upscaler, photo: np.ndarray) -> None:
    """Interpolation first; every patch only climbs; no result changes afterwards; the last is that of `upscale`."""
    image = photo[:90, :100]
    results = []
    for result in ready.improve(image):
        results.append((result, result.image.copy()))
    assert np.array_equal(ready.upscale(image, width="bicubic").image, results[0][1])
    for (before, _), (after, _) in pairwise(results):
        assert (after.plan.branch_map >= before.plan.branch_map).all()
        assert (after.plan.branch_map > before.plan.branch_map).any()
    assert all(np.array_equal(result.image, copy) for result, copy in results)
    assert (results[-1][0].plan.branch_map == 2).all()
    assert results[-1][0].stats["budget"]["planned"] is None


def test_heat_map_shows_the_branches(photo: np.ndarray) -> None:
    """Size of the result; patches of different branches differ in colour, also for grey and 16 bits."""
    upscaler = upscaler_of("plain-x4")
    for image in (photo[:128, :128], photo[:128, :128, 0], photo[:128, :128].astype(np.uint16) * 257):
        result = upscaler.upscale(np.ascontiguousarray(image), "40%")
        heat = result.heatmap()
        assert (512, 512, 3) == heat.shape
        assert np.uint8 == heat.dtype
        tints = {tuple(np.round(heat[result.plan.branch_map.repeat(128, 0).repeat(128, 1) == b].mean(axis=0)
                 - heat.mean(axis=(0, 1)))) for b in np.unique(result.plan.branch_map)}  # fmt: skip
        assert len(np.unique(result.plan.branch_map)) == len(tints) > 1


def test_upscalers_may_share_an_engine(tiny_model: Path, photo: np.ndarray) -> None:
    """One that is open."""
    first = Upscaler(tiny_model)
    second = Upscaler(tiny_model, backend=first.backend)
    assert second.backend is first.backend
    lr = np.ascontiguousarray(photo[:40, :50])
    assert np.array_equal(first.upscale(lr, "30%").image, second.upscale(lr, "30%").image)


def test_an_open_engine_must_be_of_the_model(tiny_model: Path) -> None:
    """Its sub-nets would be run under the names of others; and it has its precision already."""
    with pytest.raises(UsageError, match="another model than 'tiny-x2'"):
        Upscaler(tiny_model, backend=upscaler_of("plain-x4").backend)
    with pytest.raises(UsageError, match="leave precision out"):
        Upscaler("plain-x4", backend=upscaler_of("plain-x4").backend, precision="fp32")


def test_branches_and_the_short_way(photo: np.ndarray) -> None:
    """`Upscaler.branches` is cheapest first; `arm_sr.upscale` picks the model by scale."""
    assert ("bicubic", "w16", "w48", "w64") == upscaler_of("plain-x4").branches
    image = photo[:40, :40]
    expected = upscaler_of("plain-x4").upscale(image, "40%").image
    assert np.array_equal(expected, arm_sr.upscale(image, scale=4, budget="40%"))
    with pytest.raises(ModelError, match="no model of scale 7"):
        arm_sr.upscale(image, scale=7)
    with pytest.raises(ModelError, match="unknown model"):
        Upscaler("plain-x99")
