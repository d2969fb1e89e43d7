"""From measured times to costs, and to the engine that `auto` takes."""

import dataclasses
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from arm_sr import UsageError, calibration, stitch
from arm_sr.backends import BACKENDS, PRECISIONS, Backend, open_backend, usable_backends
from arm_sr.backends.base import Tile
from arm_sr.calibration import TILES, _ranking_path, calibrate_all, fastest, fit_cost, open_engine
from arm_sr.cost import CostTable
from arm_sr.models import ModelCard
from arm_sr.planner import Planner
from arm_sr.scheduler import Plan

SIZES = [(6, 8000), (4, 16458), (2, 27304), (1, 57000)]
"""Numbers of tiles and of their LR pixels."""


@pytest.mark.parametrize(("call", "pixel"), [(0.5, 0.002), (0.0, 0.002), (0.5, 0.0)])
def test_exact_costs_are_found_again(call, pixel):
    """Times that are a sum of calls and pixels give those back."""
    ms = [call * count + pixel * pixels for count, pixels in SIZES]
    assert (call, pixel) == pytest.approx(fit_cost(SIZES, ms), abs=1e-9)


def test_no_cost_is_negative():
    """Though small tiles ran faster for each pixel."""
    call, pixel = fit_cost(SIZES, [0.002 * pixels**1.2 for _, pixels in SIZES])
    assert call == 0
    assert pixel > 0


def test_small_tiles_count_like_large_ones():
    """The fit is to relative errors: with 5% noise every time is met within 20%."""
    noise = np.random.default_rng(0).normal(1, 0.05, len(SIZES))
    ms = [(0.5 * count + 0.002 * pixels) * n for (count, pixels), n in zip(SIZES, noise, strict=True)]
    call, pixel = fit_cost(SIZES, ms)
    for (count, pixels), took in zip(SIZES, ms, strict=True):
        assert call * count + pixel * pixels == pytest.approx(took, rel=0.2)


@pytest.fixture
def card(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelCard:
    """Of the small model, with an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return ModelCard.load(tiny_model)


class Machine(Backend):
    """A clock, an engine and a planner in one: time passes as they say."""

    name, version, precision, cost = "made up", "1", "fp32", None

    def __init__(self, card: ModelCard) -> None:
        self.card, self.now, self.seen = card, 0.0, set()

    def run(self, branch: str, batch: np.ndarray) -> np.ndarray:
        count, height, width, _ = batch.shape
        self.now += count * (0.5 + 0.002 * height * width) + (0 if (branch, batch.shape) in self.seen else 3)
        self.seen.add((branch, batch.shape))
        return np.zeros((count, self.card.scale * height, self.card.scale * width, 3), np.uint8)

    def planning(self, picture: np.ndarray) -> None:
        self.now += 2 + 0.0005 * picture.shape[0] * picture.shape[1]


@pytest.fixture
def measured(card: ModelCard, monkeypatch: pytest.MonkeyPatch) -> Callable[[Machine], CostTable]:
    """The costs of a machine, by a clock that only it moves, which has time for all rounds."""
    monkeypatch.setattr(calibration, "LONGEST", 99.0)

    def by(machine: Machine) -> CostTable:
        monkeypatch.setattr(calibration.time, "perf_counter", lambda: machine.now / 1e3)
        plan = Planner.plan

        def slow_plan(planner: Planner, picture: np.ndarray, **how: str | None) -> Plan:
            machine.planning(picture)
            return plan(planner, picture, **how)

        monkeypatch.setattr(Planner, "plan", slow_plan)
        return calibration.measure(card, machine)

    return by


def test_a_call_is_charged_with_its_new_shape_and_interpolation_with_all_beside_inference(card, measured):
    """To the millisecond, on a clock that only they move."""
    machine = Machine(card)
    table = measured(machine)
    assert [2, 3.5, 3.5] == pytest.approx(table.per_call.tolist(), rel=0.01)
    assert [0.0005, 0.002, 0.002] == pytest.approx(table.per_pixel.tolist(), rel=0.01)


def test_rounds_that_are_left_out_change_no_cost(card, measured):
    """A machine so slow that one round is all there is time for: its tiles were taller than those of all rounds."""

    class Slow(Machine):
        def run(self, branch: str, batch: np.ndarray) -> np.ndarray:
            before = self.now
            result = super().run(branch, batch)
            self.now += 99 * (self.now - before)
            return result

    machine = Slow(card)
    table = measured(machine)
    shapes = {shape for _, shape in machine.seen}
    tiles = [tile for group in TILES for tile in group]
    first = calibration.ROUNDS // 2 + 1
    rounds = [n for n in range(-first, first + 1) if all((1, high + n, wide, 3) in shapes for high, wide in tiles)]
    assert [first - 1, first] == rounds
    assert [350, 350] == pytest.approx(table.per_call[1:].tolist(), rel=0.01)
    assert [0.2, 0.2] == pytest.approx(table.per_pixel[1:].tolist(), rel=0.01)


def test_a_call_is_timed_after_other_branches(card, measured):
    """In a plan others had the caches before it: a machine that repeats a branch at half the cost does not show it."""

    class Caching(Machine):
        last = ""

        def run_tiles(self, tiles: Sequence[Tile]) -> Iterator[tuple[int, np.ndarray]]:
            before, again, self.last = self.now, tiles[0][0] == self.last, tiles[0][0]
            yield from super().run_tiles(tiles)
            self.now -= (self.now - before) / 2 if again else 0

    machine = Caching(card)
    table = measured(machine)
    assert [3.5, 3.5] == pytest.approx(table.per_call[1:].tolist(), rel=0.01)
    assert [0.002, 0.002] == pytest.approx(table.per_pixel[1:].tolist(), rel=0.01)


def test_engines_that_cannot_open_the_model_are_left_out(card, tmp_path, caplog):
    """Torch reads weights that an exported model may come without."""
    copy = shutil.copytree(card.folder, tmp_path / "copy")
    (copy / "supernet.safetensors").unlink()
    with caplog.at_level("INFO"):
        engines = {backend.name for backend in usable_backends(ModelCard.load(copy))}
    assert "onnxruntime" in engines
    assert "pytorch" not in engines
    assert "supernet.safetensors" in caplog.text


def test_all_beside_inference_is_timed(card, tmp_path, caplog, monkeypatch):
    """Planning, where there is a table, and stitching, but not the engine's time. A damaged table, which --lut may
    replace, is told."""
    card = ModelCard.load(shutil.copytree(card.folder, tmp_path / "copy"))
    backend, picture = open_backend("onnxruntime", card), np.zeros((40, 40, 3), np.uint8)
    now, plans = [0.0], []
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def later(run, seconds, results=None):
        def run_later(*args, **kwargs):
            now[0] += seconds
            result = run(*args, **kwargs)
            if results is not None:
                results.append(result)
            return result

        return run_later

    monkeypatch.setattr(backend, "run_tiles", later(backend.run_tiles, 64))
    monkeypatch.setattr(Planner, "plan", later(Planner.plan, 4, plans))
    monkeypatch.setattr(stitch, "soften_seams", later(stitch.soften_seams, 2))
    assert calibration._beside_inference(card, backend)(picture) == 6000
    (card.folder / "lut.json").write_text("{}")
    assert calibration._beside_inference(card, backend)(picture) == 6000
    assert "lut.json" in caplog.text
    assert [("share", True), ("width", False)] == [(plan.kind, plan.branch_map.any()) for plan in plans]


def rank(card: ModelCard, *engines: tuple[str, str]) -> None:
    """As if these had been measured, the fastest first."""
    _ranking_path(card).parent.mkdir(exist_ok=True)
    _ranking_path(card).write_text(json.dumps(engines))


BF16 = ("openvino", "bf16")


def test_without_measurements_the_default_engine_is_taken(card):
    """Or the first that has the precision that was asked for."""
    assert ("onnxruntime", "fp32") == fastest(card) == fastest(card, "fp32")
    assert BF16 == fastest(card, "bf16")


@pytest.mark.parametrize(("loss", "taken"), [(-0.02, True), (0.0, True), (0.01, True), (0.011, False), (None, False)])
def test_the_fastest_that_loses_little_is_taken(card, loss, taken):
    """By the card; of an engine that no card speaks of it is unknown what it loses, unless it is exact."""
    if loss is not None:
        card = dataclasses.replace(card, precisions={"openvino bf16": {"levels": 2, "loss_db": loss}})
    rank(card, BF16, ("openvino", "fp32"), ("onnxruntime", "fp32"))
    assert (BF16 if taken else ("openvino", "fp32")) == fastest(card)
    assert BF16 == fastest(card, "bf16")
    assert ("openvino", "fp32") == fastest(card, "fp32")


@pytest.mark.parametrize(("loss", "taken"), [(0.001, True), (0.011, False), (None, False)])
def test_an_engine_that_cuts_pictures_must_be_measured(card, loss, taken):
    """Fp32 alone does not make it exact."""
    if loss is not None:
        card = dataclasses.replace(card, precisions={"opencv fp32": {"levels": 9, "loss_db": loss}})
    rank(card, ("opencv", "fp32"), ("onnxruntime", "fp32"))
    assert ("opencv" if taken else "onnxruntime") == fastest(card)[0]


def test_an_engine_without_its_files_is_left_out(card, tmp_path, caplog):
    """As for a model of an earlier version, which has no planes."""
    card = ModelCard.load(shutil.copytree(card.folder, tmp_path / "copy"))
    for subnet in card.subnets.values():
        (card.folder / subnet.planes).unlink()
    with caplog.at_level("INFO"):
        engines = {name for name, _ in calibrate_all(card)}
    assert "onnxruntime" in engines and "opencv" not in engines
    assert "planes.onnx" in caplog.text


def test_a_damaged_ranking_is_told_and_ignored(card, caplog):
    """Whatever it holds."""
    for text in ("{", "[3]", '[["gone", "fp32"]]', '{"a": 1}'):
        rank(card)
        _ranking_path(card).write_text(text)
        caplog.clear()
        assert ("onnxruntime", "fp32") == fastest(card)
        assert str(_ranking_path(card)) in caplog.text


def test_an_engine_that_is_gone_is_told(card, caplog, monkeypatch):
    """And the default one taken, unless its precision was asked for."""
    monkeypatch.setitem(sys.modules, "arm_sr.backends.open_vino", None)
    rank(card, ("openvino", "fp32"))
    assert "onnxruntime" == open_engine("auto", card).name
    assert "not installed" in caplog.text
    with pytest.raises(UsageError, match="no precision 'int4'"):
        open_engine("auto", card, "int4")


def test_costs_are_of_a_number_of_threads(card):
    """Those of an engine on one thread are not taken for those of another on two."""
    one, two = (open_backend("onnxruntime", card, threads=threads) for threads in (1, 2))
    calibration._keep(calibration.cache_path(card, one), CostTable.of_macs(card).save)
    assert calibration.cached(card, one) is not None
    assert calibration.cached(card, two) is None


def test_all_engines_are_measured_and_ranked(card):
    """Those that are installed; each is there with its costs, and the fastest is first."""
    tables = calibrate_all(card)
    assert {(name, "fp32") for name in BACKENDS} <= set(tables)
    ranking = [tuple(engine) for engine in json.loads(_ranking_path(card).read_text())]
    assert sorted(ranking) == sorted(tables)
    assert all(precision in PRECISIONS[name] for name, precision in ranking)
    costs = [tables[engine].one_pass(-1, 320 * 180) for engine in ranking]
    assert costs == sorted(costs)
