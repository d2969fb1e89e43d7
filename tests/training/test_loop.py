"""What a run does to the network, and what it writes."""

import json
from dataclasses import replace
from itertools import pairwise

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from skimage.metrics import peak_signal_noise_ratio
from training_runs import RECIPE, log_lines, saved_step, with_stage

from arm_sr.errors import ArtefactError
from arm_sr.evaluation.pairs import read_pairs
from arm_sr.imaging.resample import lr_bicubic
from arm_sr.supernet.backbones import build
from arm_sr.supernet.sampling import Sampling
from arm_sr.training.config import Recipe
from arm_sr.training.loop import averaged_network, train, validate


class TestLoop:
    """A run that nothing disturbs."""

    def test_training_lowers_the_loss(self, data, validation, tmp_path):
        """On crops of a generator of their own, for every sub-net, against the weights it began with."""
        trained = train(with_stage(steps=200), data, validation, tmp_path)
        torch.manual_seed(RECIPE.seed)
        before = build("plain", 2, RECIPE.subnets)
        lr, hr = (
            torch.from_numpy(crops).permute(0, 3, 1, 2) / 255 for crops in data.batch(64, np.random.default_rng(99))
        )
        with torch.no_grad():
            for shape in RECIPE.subnets.values():
                old, new = (F.l1_loss(net(lr, *shape), hr) for net in (before, trained))
                assert new < old

    def test_the_log_has_the_loss_and_a_validation_of_each_sub_net(self, whole_run, validation):
        """Validation every ten steps, and the loss at the end; the last is of the network that is returned."""
        out, net = whole_run
        lines = log_lines(out)
        reports = {line["step"]: line["validation"] for line in lines if "validation" in line}
        assert list(reports) == [10, 20, 30]
        assert [line["step"] for line in lines if "loss" in line] == [30]
        for report in reports.values():
            assert list(report) == ["w4", "w8"]
            assert all({"psnr_y", "psnr_rgb", "psnr_rgb_all"} == set(numbers) for numbers in report.values())
        assert reports[30] == validate(net, list(read_pairs(validation, 2)))

    def test_the_folder_keeps_recipe_and_state(self, whole_run):
        """And no temporary file."""
        out, net = whole_run
        assert {"recipe.json", "log.jsonl", "state.safetensors"} == {file.name for file in out.iterdir()}
        assert Recipe.load(out / "recipe.json") == RECIPE
        assert (net.width, net.depth, saved_step(out)) == (8, 1, 30)

    def test_the_average_can_be_taken_from_the_state(self, whole_run, tmp_path):
        """To write a checkpoint of a run that has ended, or was stopped; a folder without state is named."""
        out, net = whole_run
        again = averaged_network(out, RECIPE)
        assert all(torch.equal(p, q) for p, q in zip(net.parameters(), again.parameters(), strict=True))
        with pytest.raises(ArtefactError, match=str(tmp_path)):
            averaged_network(tmp_path, RECIPE)

    def test_a_finished_run_is_not_trained_further(self, whole_run, data, validation, tmp_path):
        """Starting it again returns the same network."""
        first = train(with_stage(steps=3), data, validation, tmp_path)
        log = (tmp_path / "log.jsonl").read_bytes()
        again = train(with_stage(steps=3), data, validation, tmp_path)
        assert all(torch.equal(p, q) for p, q in zip(first.parameters(), again.parameters(), strict=True))
        assert log == (tmp_path / "log.jsonl").read_bytes()

    def test_validation_agrees_with_scikit_image(self, validation):
        """Nearest-neighbour enlargement, which a net with zero weights is; the border of the protocol is cut off."""
        net = build("plain", 2, {"w4": (4, 0)})
        with torch.no_grad():
            for p in net.parameters():
                p.zero_()
        hr = cv2.imread(str(validation[0]))[:60, :48, ::-1]
        sr = lr_bicubic(hr, 2).repeat(2, axis=0).repeat(2, axis=1)
        expected = peak_signal_noise_ratio(hr[2:-2, 2:-2], sr[2:-2, 2:-2], data_range=255)
        report = validate(net, list(read_pairs(validation, 2)))
        assert report["w4"]["psnr_rgb"] == report["w4"]["psnr_rgb_all"] == pytest.approx(expected, abs=1e-4)

    def test_validation_is_of_each_sub_net_at_its_own_shape(self, validation):
        """The figures of a sub-net are those of the module taken out, and no two are the same."""
        torch.manual_seed(1)
        net = build("plain", 2, {"w8": (8, 3), "w4": (4, 1), "w8d1": (8, 1), "w4d3": (4, 3)})
        torch.nn.init.normal_(net.tail.weight, std=0.02)
        pairs = list(read_pairs(validation, 2))
        report = validate(net, pairs)
        assert {name: validate(net.subnet(name), pairs)[name] for name in net.subnets} == report
        assert len(net.subnets) == len({numbers["psnr_rgb"] for numbers in report.values()})

    @pytest.mark.parametrize("precision", ["fp32", "bf16"])
    def test_a_sandwich_with_distillation_trains(self, data, validation, tmp_path, precision):
        """Three sub-nets a step; the others learn from the largest one's output, so the weights differ."""
        nets = []
        for distil in (False, True):
            recipe = with_stage(steps=4, sampling=Sampling("sandwich", distil=distil))
            recipe = replace(recipe, subnets={"w2": (2, 1), **RECIPE.subnets}, precision=precision)
            nets.append(train(recipe, data, validation, tmp_path / str(distil)))
        assert all(torch.isfinite(p).all() for net in nets for p in net.parameters())
        assert not torch.equal(nets[0].head.weight, nets[1].head.weight)

    def test_a_run_starts_from_the_weights_it_names(self, whole_run, data, validation, tmp_path):
        """Of a shallower net; with a learning rate of next to nothing each sub-net gives what the first net gave."""
        recipe = replace(with_stage(steps=2, learning_rate=1e-12), subnets={"w4": (4, 3), "w8": (8, 2)}, ema=0)
        recipe = replace(recipe, start="first.safetensors")
        with pytest.raises(ArtefactError, match=str(tmp_path / "first.safetensors")):
            train(recipe, data, validation, tmp_path)
        save_file(whole_run[1].state_dict(), tmp_path / "first.safetensors")
        net = train(recipe, data, validation, tmp_path)
        x = torch.rand(1, 3, 12, 12)
        with torch.no_grad():
            for width, depth in recipe.subnets.values():
                assert (whole_run[1](x, width, 1) - net(x, width, depth)).abs().max() < 1e-6

    def test_a_share_of_the_start_is_kept(self, whole_run, data, validation, tmp_path):
        """In what a run returns, exports and validates last; layers that it added were the identity there."""
        recipe = replace(with_stage(steps=3), subnets={"w4": (4, 1), "w8": (8, 2)}, start="first.safetensors")
        results = {}
        for share in (0.0, 0.25):
            out = tmp_path / str(share)
            out.mkdir()
            save_file(whole_run[1].state_dict(), out / "first.safetensors")
            shared = replace(recipe, start_share=share)
            results[share] = net = train(shared, data, validation, out)
            for mine, again in zip(net.parameters(), averaged_network(out, shared).parameters(), strict=True):
                assert torch.equal(mine, again)
            *_, last = (json.loads(line) for line in (out / "log.jsonl").read_text().splitlines())
            assert last["validation"] == validate(net, list(read_pairs(validation, recipe.scale)))
        first = build(recipe.backbone, recipe.scale, recipe.subnets)
        first.start_from(whole_run[1].state_dict())
        moved = False
        for name, begun in first.state_dict().items():
            plain, mixed = (results[share].state_dict()[name] for share in (0.0, 0.25))
            assert torch.allclose(mixed, 0.25 * begun + 0.75 * plain, atol=1e-6)
            moved |= not torch.equal(plain, begun)
        assert moved

    def test_weights_to_start_from_that_do_not_fit_are_named(self, whole_run, data, validation, tmp_path):
        """Of another width, or no weights at all."""
        recipe = replace(with_stage(steps=2), subnets={"w9": (9, 3)}, start="first.safetensors")
        save_file(whole_run[1].state_dict(), tmp_path / "first.safetensors")
        with pytest.raises(ArtefactError, match=rf"{tmp_path / 'first.safetensors'}: .*weight '"):
            train(recipe, data, validation, tmp_path)
        (tmp_path / "first.safetensors").write_bytes(b"weights")
        with pytest.raises(ArtefactError, match=str(tmp_path / "first.safetensors")):
            train(recipe, data, validation, tmp_path)

    def test_a_loss_that_is_not_finite_stops_the_run(self, data, validation, tmp_path):
        """The message says at which step, and what to do."""
        recipe = replace(with_stage(steps=5, learning_rate=1e30), clip=1e30)
        with pytest.raises(ArtefactError, match=r"step 5.*learning rate"):
            train(recipe, data, validation, tmp_path)

    def test_the_learning_rate_rises_and_falls(self):
        """Linear through the warmup, then half a cosine down to zero."""
        recipe = replace(with_stage(steps=1000, learning_rate=1.0), warmup=100)
        rates = [recipe.at(step)[1] for step in range(1000)]
        assert rates[0] == pytest.approx(1 / 101)
        assert all(a < b for a, b in pairwise(rates[:90]))
        assert rates[500] == pytest.approx(0.5)
        assert all(a > b for a, b in pairwise(rates[100:]))
        assert rates[-1] == pytest.approx(0, abs=1e-5)
