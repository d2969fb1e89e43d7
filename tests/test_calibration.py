"""From measured times to costs, and to the engine that `auto` takes."""

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from arm_sr import UsageError
from arm_sr.backends import PRECISIONS
from arm_sr.calibration import BATCHES, _ranking_path, calibrate_all, fastest, fit_cost, open_fastest
from arm_sr.models import ModelCard


@pytest.mark.parametrize(("call", "pixel"), [(0.5, 0.002), (0.0, 0.002), (0.5, 0.0)])
def test_exact_costs_are_found_again(call, pixel):
    """Times that are a sum of calls and pixels give those back."""
    ms = [count * (call + pixel * height * width) for count, height, width in BATCHES]
    assert (call, pixel) == pytest.approx(fit_cost(BATCHES, ms), abs=1e-9)


def test_no_cost_is_negative():
    """Though small tiles ran faster for each pixel."""
    ms = [0.002 * (count * height * width) ** 1.2 for count, height, width in BATCHES]
    call, pixel = fit_cost(BATCHES, ms)
    assert call == 0
    assert pixel > 0


def test_small_tiles_count_like_large_ones():
    """The fit is to relative errors: with 5% noise every time is met within 20%."""
    noise = np.random.default_rng(0).normal(1, 0.05, len(BATCHES))
    ms = [count * (0.5 + 0.002 * height * width) * n for (count, height, width), n in zip(BATCHES, noise, strict=True)]
    call, pixel = fit_cost(BATCHES, ms)
    for (count, height, width), took in zip(BATCHES, ms, strict=True):
        assert count * (call + pixel * height * width) == pytest.approx(took, rel=0.2)


@pytest.fixture
def card(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelCard:
    """Of the small model, with an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return ModelCard.load(tiny_model)


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
    """By the card; an engine that no card speaks of loses nothing in fp32 and is unknown in bf16."""
    if loss is not None:
        card = dataclasses.replace(card, precisions={"openvino bf16": {"levels": 2, "loss_db": loss}})
    rank(card, BF16, ("openvino", "fp32"), ("onnxruntime", "fp32"))
    assert (BF16 if taken else ("openvino", "fp32")) == fastest(card)
    assert BF16 == fastest(card, "bf16")
    assert ("openvino", "fp32") == fastest(card, "fp32")


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
    assert "onnxruntime" == open_fastest(card).name
    assert "not installed" in caplog.text
    with pytest.raises(UsageError, match="no precision 'int4'"):
        open_fastest(card, "int4")


def test_all_engines_are_measured_and_ranked(card):
    """Those that are installed; each is there with its costs, and the fastest is first."""
    tables = calibrate_all(card)
    assert {("onnxruntime", "fp32"), ("openvino", "fp32"), ("pytorch", "fp32")} <= set(tables)
    ranking = [tuple(engine) for engine in json.loads(_ranking_path(card).read_text())]
    assert sorted(ranking) == sorted(tables)
    assert all(precision in PRECISIONS[name] for name, precision in ranking)
    costs = [tables[engine].one_pass(-1, 320 * 180) for engine in ranking]
    assert costs == sorted(costs)
