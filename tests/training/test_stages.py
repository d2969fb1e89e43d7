"""Networks that grow from stage to stage, begin with weights or have channels revived."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from training_runs import GROWING, RECIPE, log_lines, saved_step, with_stage

from arm_sr.supernet.backbones import build
from arm_sr.supernet.sampling import Sampling
from arm_sr.training.config import Stage
from arm_sr.training.loop import train
from arm_sr.training.losses import LOSSES


def from_identity(layer: torch.nn.Module) -> float:
    """Largest distance of a weight or bias from the layer that gives what it gets."""
    weight = layer.weight.detach().clone()
    weight[range(len(weight)), range(len(weight)), 1, 1] -= 1
    return float(max(weight.abs().max(), layer.bias.detach().abs().max()))


class TestStages:
    """A run of several stages."""

    def test_each_stage_has_its_steps_and_a_schedule_of_its_own(self):
        """Warmup and cosine begin again; sampling, loss and depth change at the border."""
        stages = (
            Stage(200, 1.0, Sampling(alpha=1), "l1", 1),
            Stage(100, 0.5, Sampling("sandwich"), "mse", 2),
            Stage(1, 0.2),
        )
        recipe = replace(RECIPE, stages=stages, warmup=10)
        assert 301 == recipe.steps
        schedule = [recipe.at(step) for step in range(301)]
        assert [stages[0]] * 200 + [stages[1]] * 100 + [stages[2]] == [stage for stage, _ in schedule]
        rates = np.array([rate for _, rate in schedule])
        for start, end, peak in [(0, 200, 1.0), (200, 300, 0.5)]:
            own = rates[start:end]
            assert own[0] == pytest.approx(peak / 11)
            assert np.all(np.diff(own[:10]) > 0)
            assert np.all(np.diff(own[10:]) < 0)
            assert own[len(own) // 2] == pytest.approx(peak / 2)
            assert 0 < own[-1] < 1e-3 * peak
        assert rates[300] == pytest.approx(0.2 / 11)

    def test_a_stage_may_end_before_its_cosine(self):
        """Its learning rates are the first of those of a longer stage."""
        long, short = (replace(with_stage(steps=n, decay_steps=80), warmup=10) for n in (80, 50))
        assert [long.at(step)[1] for step in range(50)] == [short.at(step)[1] for step in range(50)]
        assert replace(with_stage(steps=80), warmup=10).at(49)[1] == short.at(49)[1] > 0

    def test_a_stage_trains_what_it_says(self, data, validation, tmp_path, monkeypatch):
        """Sampling and loss of every step, as they are asked for."""
        drawn, losses = [], []
        draw = Sampling.draw
        monkeypatch.setattr(Sampling, "draw", lambda self, *args: drawn.append(self) or draw(self, *args))
        for name, loss in list(LOSSES.items()):
            monkeypatch.setitem(LOSSES, name, lambda *args, n=name, f=loss: losses.append(n) or f(*args))
        stages = (Stage(3, sampling=Sampling(floor=0.2)), Stage(2, loss="mse"), Stage(1, sampling=Sampling("sandwich")))
        train(replace(RECIPE, stages=stages), data, validation, tmp_path)
        assert [stage.sampling for stage in stages for _ in range(stage.steps)] == drawn[:6]
        assert ["l1"] * 3 + ["mse"] * 2 + ["l1"] * 2 == losses

    def test_a_stage_goes_on_from_the_one_before(self, data, validation, tmp_path):
        """From its weights: the same first stage, and then another network than without a second."""
        recipe, first = replace(RECIPE, ema=0), Stage(6, 5e-3)
        weights = []
        for number, rest in enumerate([(), (Stage(6, 1e-12),), (Stage(6, 1e-3),)]):
            net = train(replace(recipe, stages=(first, *rest)), data, validation, tmp_path / str(number))
            weights.append(torch.cat([p.flatten() for p in net.parameters()]))
        assert 12 == saved_step(tmp_path / "2") == log_lines(tmp_path / "2")[-1]["step"]
        assert (weights[0] - weights[1]).abs().max() < 1e-6
        assert (weights[0] - weights[2]).abs().max() > 1e-4

    def test_a_shallow_stage_trains_no_deep_layer(self, data, validation, tmp_path):
        """The first layer of the body learns, the others stay as they were after one step."""
        stage = GROWING.stages[0]
        one, many = (
            train(replace(GROWING, stages=(replace(stage, steps=n),)), data, validation, tmp_path / str(n))
            for n in (1, 6)
        )
        for layers, same in ((slice(1), False), (slice(1, None), True)):
            pairs = zip(one.body[layers].parameters(), many.body[layers].parameters(), strict=True)
            assert {same} == {torch.equal(p, q) for p, q in pairs}

    def test_growing_changes_no_picture(self, data, validation, tmp_path):
        """With a second stage that hardly moves, every sub-net gives what it gave at the depth of the first."""
        recipe = replace(GROWING, subnets={"w4": (4, 3), "w6": (6, 1), "w8": (8, 2)}, ema=0)
        stages = (GROWING.stages[0], Stage(steps=4, learning_rate=1e-12))
        first = train(replace(recipe, stages=stages[:1]), data, validation, tmp_path / "first")
        grown = train(replace(recipe, stages=stages), data, validation, tmp_path / "grown")
        x = torch.from_numpy(data.batch(4, np.random.default_rng(5))[0]).permute(0, 3, 1, 2) / 255
        with torch.no_grad():
            for width, depth in recipe.subnets.values():
                assert (first(x, width, 1) - grown(x, width, depth)).abs().max() < 1e-6
            assert (first(x, 8, 1) - build("plain", 2, recipe.subnets)(x, 8, 1)).abs().max() > 1e-3

    @pytest.mark.parametrize("ema", [0, 0.5])
    def test_new_layers_are_the_identity_and_what_was_learned(self, data, validation, tmp_path, ema):
        """Adam moves a weight by little more than its learning rate, so that the distance has a bound."""
        stages = (GROWING.stages[0], Stage(steps=5, learning_rate=1e-3, sampling=Sampling("sandwich")))
        recipe = replace(GROWING, stages=stages, ema=ema)
        net = train(recipe, data, validation, tmp_path)
        bound = 1.5 * sum(recipe.at(step)[1] for step in range(14, 19))
        assert from_identity(net.body[0]) > 10 * bound
        for layer in net.body[1:]:
            assert bound / 100 < from_identity(layer) < bound

    def test_every_new_layer_starts_from_the_stage_before_it(self, data, validation, tmp_path):
        """Two borders: the second keeps what the stage between has learned, and adds the third layer."""
        stages = (GROWING.stages[0], replace(GROWING.stages[1], steps=12), Stage(steps=2, learning_rate=1e-12))
        recipe = replace(GROWING, stages=stages, ema=0)
        between = train(replace(recipe, stages=stages[:2]), data, validation, tmp_path / "between")
        net = train(recipe, data, validation, tmp_path / "all")
        for mine, before in zip(net.body[:2].parameters(), between.body[:2].parameters(), strict=True):
            assert (mine - before).abs().max() < 1e-6
        assert from_identity(net.body[1]) > 1e-3
        assert from_identity(net.body[2]) < 1e-6

    def test_a_stage_of_the_same_depth_grows_nothing(self, data, validation, tmp_path):
        """A limit at or beyond the depth of the network is none."""
        nets = []
        for number, depths in enumerate([(None, None), (1, 1), (1, 99), (3, None)]):
            recipe = replace(RECIPE, stages=tuple(Stage(steps=3, depth=depth) for depth in depths))
            nets.append(train(recipe, data, validation, tmp_path / str(number)))
        for other in nets[1:]:
            assert all(torch.equal(p, q) for p, q in zip(nets[0].parameters(), other.parameters(), strict=True))
