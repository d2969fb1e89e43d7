"""Training from pictures on disk to weights: data, recipe, loop, and going on after a kill."""

import json
import logging
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import skimage.data
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from skimage.metrics import peak_signal_noise_ratio

import arm_sr
from arm_sr.errors import ArtefactError, ImageError
from arm_sr.evaluation.pairs import read_pairs
from arm_sr.imaging.folders import list_images, split_hold_out
from arm_sr.imaging.resample import crop_to_multiple, lr_bicubic
from arm_sr.supernet.backbones import Supernet, build
from arm_sr.supernet.backbones.plain import Plain
from arm_sr.supernet.sampling import Sampling
from arm_sr.training import loop
from arm_sr.training.config import Recipe, Stage
from arm_sr.training.data import CropData, describe_sources
from arm_sr.training.loop import averaged_network, train, validate
from arm_sr.training.losses import LOSSES

REPOSITORY = Path(arm_sr.__file__).parents[1]

RECIPE = Recipe(
    name="tiny-x2",
    backbone="plain",
    scale=2,
    subnets={"w4": (4, 1), "w8": (8, 1)},
    stages=(Stage(steps=30, learning_rate=5e-3),),
    batch=2,
    patch=8,
    warmup=0,
    clip=1.0,
    ema=0.5,
    precision="fp32",
    validate_every=10,
)
GROWING = replace(
    RECIPE,
    subnets={"w4": (4, 1), "w8": (8, 3)},
    stages=(
        Stage(steps=14, learning_rate=5e-3, depth=1),
        Stage(steps=10, learning_rate=2e-3, sampling=Sampling("sandwich"), loss="mse", depth=2),
        Stage(steps=6, learning_rate=1e-3, revive=0.4, decay_steps=9),
    ),
    optimiser="adam",
)
"""Deeper from stage to stage; at the first border a state is written, at the second there is none."""
RECIPES = {"whole_run": RECIPE, "growing_run": GROWING, "growing_muon_run": replace(GROWING, optimiser="muon")}
"""By the fixture that has run them."""


def with_stage(**changes: Any) -> Recipe:
    """`RECIPE` with some fields of its one stage changed."""
    return replace(RECIPE, stages=(replace(RECIPE.stages[0], **changes),))


def save(path: Path, rgb: np.ndarray) -> Path:
    """Write a PNG with OpenCV, not with the code under test."""
    assert cv2.imwrite(str(path), rgb[..., ::-1])
    return path


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four photos to train on, two of them with odd sides."""
    folder = tmp_path_factory.mktemp("pictures")
    save(folder / "a.png", skimage.data.astronaut()[:121, 150:301])
    save(folder / "b.png", skimage.data.coffee()[100:220, 200:320])
    save(folder / "c.png", skimage.data.chelsea()[50:151, 100:250])
    save(folder / "d.png", skimage.data.rocket()[100:200, 250:350])
    return folder


@pytest.fixture(scope="session")
def data(pictures: Path) -> CropData:
    """Crops of the four photos, as the recipe wants them."""
    return CropData(list_images(pictures), RECIPE.scale, RECIPE.patch)


@pytest.fixture(scope="session")
def validation(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """One small picture with an odd side."""
    return [save(tmp_path_factory.mktemp("validation") / "v.png", skimage.data.astronaut()[0:61, 200:248])]


@pytest.fixture(scope="session")
def undisturbed(
    data: CropData, validation: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Recipe], tuple[Path, Supernet]]:
    """Runs a recipe in a folder of its own: that folder, and the network."""

    def run(recipe: Recipe) -> tuple[Path, Supernet]:
        torch.set_num_threads(1)
        out = tmp_path_factory.mktemp("runs") / "undisturbed"
        return out, train(recipe, data, validation, out, state_every=7)

    return run


@pytest.fixture(scope="session")
def whole_run(undisturbed: Callable[[Recipe], tuple[Path, Supernet]]) -> tuple[Path, Supernet]:
    """A run that nothing disturbed."""
    return undisturbed(RECIPE)


@pytest.fixture(scope="session")
def growing_run(undisturbed: Callable[[Recipe], tuple[Path, Supernet]]) -> tuple[Path, Supernet]:
    """As `whole_run`, of the recipe whose network grows."""
    return undisturbed(GROWING)


@pytest.fixture(scope="session")
def growing_muon_run(undisturbed: Callable[[Recipe], tuple[Path, Supernet]]) -> tuple[Path, Supernet]:
    """The same with the other optimiser."""
    return undisturbed(RECIPES["growing_muon_run"])


def log_lines(out: Path) -> list[dict[str, Any]]:
    """The log without the one number that depends on the clock."""
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def assert_same_run(whole: tuple[Path, Supernet], out: Path, net: Supernet) -> None:
    """Weights equal to the bit, and the same lines in the log."""
    assert all(torch.equal(p, q) for p, q in zip(whole[1].parameters(), net.parameters(), strict=True))
    assert log_lines(whole[0]) == log_lines(out)


def saved_step(out: Path) -> int:
    """Step of the state in a run's folder, read from the header of the file by hand."""
    blob = (out / "state.safetensors").read_bytes()
    return int(json.loads(blob[8 : 8 + int.from_bytes(blob[:8], "little")])["__metadata__"]["step"])


class TestPictures:
    """Folders of pictures."""

    def test_pictures_are_listed_by_sorted_name(self, tmp_path):
        """Any suffix that can be read, in capitals too; nothing from folders inside, and no other file."""
        for name in ("b.PNG", "a.jpg", "c.webp", "notes.txt", "manifest.csv", "d.tiff", "noextension"):
            (tmp_path / name).touch()
        (tmp_path / "folder.png").mkdir()
        assert [file.name for file in list_images(tmp_path)] == ["a.jpg", "b.PNG", "c.webp", "d.tiff"]

    def test_a_folder_that_is_missing_or_empty_is_named(self, tmp_path):
        """Before hours of training on nothing."""
        for folder in (tmp_path, tmp_path / "missing"):
            with pytest.raises(ImageError, match=str(folder)):
                list_images(folder)

    def test_every_tenth_picture_is_held_out(self):
        """By sorted name, wherever it stands in the list; the rest is trained on."""
        files = [Path(f"{i:02}.png") for i in range(1, 26)]
        trained, held_out = split_hold_out(files[::-1])
        assert [files[9], files[19]] == held_out
        assert [file for file in files if file not in held_out] == trained

    def test_fewer_than_ten_pictures_are_all_trained_on(self):
        """There is no tenth."""
        files = [Path(f"{i}.png") for i in range(9)]
        assert (files, []) == split_hold_out(files)

    def test_a_manifest_is_summarised_by_source_and_licence(self, tmp_path):
        """What stands before the colon is the source."""
        (tmp_path / "manifest.csv").write_text(
            "file,source,licence\na.png,flickr:12,CC0\nb.png,flickr:34,CC0\nc.png,commons:5,CC BY 4.0\nd.png,own,CC0\n"
        )
        expected = [
            {"source": "commons", "licence": "CC BY 4.0", "images_in_folder": 1},
            {"source": "flickr", "licence": "CC0", "images_in_folder": 2},
            {"source": "own", "licence": "CC0", "images_in_folder": 1},
        ]
        assert expected == describe_sources(tmp_path)

    def test_a_folder_without_manifest_says_so(self, tmp_path):
        """A licence is never invented."""
        (entry,) = describe_sources(tmp_path)
        assert entry["licence"] == "not stated"
        assert tmp_path.name in entry["source"]

    @pytest.mark.parametrize("text", ["file,source\na.png,flickr:1\n", "file,source,licence\na.png\n"])
    def test_a_manifest_without_a_licence_is_named(self, tmp_path, text):
        """A column or a field is missing."""
        (tmp_path / "manifest.csv").write_text(text)
        with pytest.raises(ArtefactError, match=str(tmp_path / "manifest.csv")):
            describe_sources(tmp_path)


class TestCrops:
    """Pairs of crops."""

    def test_unusable_pictures_are_named_and_skipped(self, pictures, tmp_path, caplog):
        """Damaged, cut short, empty or smaller than a crop; one side of just a crop is enough."""
        good = save(tmp_path / "good.png", skimage.data.astronaut()[:16, :40])
        bad = [tmp_path / "text.png", tmp_path / "cut.png", tmp_path / "empty.png"]
        bad[0].write_text("not a picture")
        bad[1].write_bytes((pictures / "a.png").read_bytes()[:900])
        bad[2].touch()
        small = [
            save(tmp_path / f"{h}x{w}.png", np.zeros((h, w, 3), np.uint8)) for h, w in [(15, 40), (40, 15), (1, 1)]
        ]

        with caplog.at_level(logging.WARNING):
            data = CropData([*bad, good, *small], scale=2, patch=8)

        assert [picture.shape for picture in data.pictures] == [(16, 40, 3)]
        assert len(caplog.messages) == 6
        assert all(str(file) in caplog.text for file in bad)
        assert all(file.name in caplog.text for file in small)
        assert str(good) not in caplog.text

    def test_no_usable_picture_is_an_error(self, tmp_path):
        """Nothing is left to train on."""
        small = save(tmp_path / "small.png", np.zeros((9, 9, 3), np.uint8))
        with pytest.raises(ArtefactError, match="none of 1"):
            CropData([small], scale=2, patch=8)

    @pytest.mark.parametrize("scale", [2, 3, 4])
    def test_every_pair_of_crops_is_a_place_in_a_picture(self, tmp_path, scale):
        """Some place, rotation and mirroring gives both crops exactly; LR is that of the picture cut before it."""
        patch = 12
        picture = skimage.data.astronaut()[: scale * 21 + 1, 80 : 80 + scale * 24]
        data = CropData([save(tmp_path / "a.png", picture)], scale, patch)
        (large,) = data.pictures
        lr_crops, hr_crops = data.batch(24, np.random.default_rng(scale))
        assert ((24, patch, patch, 3), np.uint8) == (lr_crops.shape, lr_crops.dtype)
        assert ((24, scale * patch, scale * patch, 3), np.uint8) == (hr_crops.shape, hr_crops.dtype)

        seen, phases, side = set(), set(), scale * patch
        for lr, hr in zip(lr_crops, hr_crops, strict=True):
            found = []
            for turns in range(4):
                for mirror in (False, True):
                    low, high = (np.rot90(c[:, ::-1] if mirror else c, -turns) for c in (lr, hr))
                    corners = large[: large.shape[0] - side + 1, : large.shape[1] - side + 1]
                    for top, left in np.argwhere((corners == high[0, 0]).all(axis=2)):
                        if np.array_equal(large[top : top + side, left : left + side], high):
                            found.append((turns, mirror))
                            phases.add((top % scale, left % scale))
                            whole = lr_bicubic(crop_to_multiple(large[top % scale :, left % scale :], scale), scale)
                            rows, columns = (slice(first // scale, first // scale + patch) for first in (top, left))
                            assert np.array_equal(whole[rows, columns], low)
            assert len(found) == 1
            seen.update(found)
        assert len(seen) >= 6
        assert len(phases) >= 4

    def test_colours_give_every_order_of_the_channels_and_negatives(self, tmp_path):
        """Six orders, each also as a negative, and of LR and HR alike."""
        plain = np.full((24, 24, 3), (20, 90, 200), np.uint8)
        data = CropData([save(tmp_path / "plain.png", plain)], scale=2, patch=12, colours=True)
        lr, hr = data.batch(200, np.random.default_rng(0))
        assert np.array_equal(lr[:, 0, 0], hr[:, 0, 0])
        kinds = np.unique(lr.reshape(200, -1, 3)[:, 0], axis=0)
        assert len(kinds) == 12
        assert {(20, 90, 200), (200, 90, 20), (235, 165, 55)} <= set(map(tuple, kinds.tolist()))

    def test_low_and_high_resolution_show_the_same(self, tmp_path):
        """On a smooth picture the LR crop is close to the mean of each block of the HR crop."""
        y, x = np.mgrid[0:90, 0:120]
        smooth = np.stack([2 * x, 2.5 * y, x + y / 2], axis=2).astype(np.uint8)
        data = CropData([save(tmp_path / "smooth.png", smooth)], scale=3, patch=10)
        lr, hr = data.batch(16, np.random.default_rng(0))
        means = hr.reshape(16, 10, 3, 10, 3, 3).mean(axis=(2, 4))
        assert np.abs(means - lr).max() < 3
        assert np.abs(means[:, ::-1] - lr).max() > 10

    def test_a_crop_can_be_the_whole_picture(self, tmp_path):
        """There is one place for it."""
        picture = skimage.data.astronaut()[100:116, 200:216]
        data = CropData([save(tmp_path / "whole.png", picture)], scale=2, patch=8)
        _, hr = data.batch(3, np.random.default_rng(0))
        assert all(np.array_equal(np.sort(picture.ravel()), np.sort(crop.ravel())) for crop in hr)

    def test_pictures_are_there_at_every_size(self, tmp_path):
        """As OpenCV shrinks them; a size with a side below a crop is left out."""
        photo = skimage.data.astronaut()[:120, :200]
        data = CropData([save(tmp_path / "a.png", photo)], scale=2, patch=24, sizes=(1.0, 0.61, 0.3))
        assert [(120, 200), (73, 122)] == [picture.shape[:2] for picture in data.pictures]
        assert np.array_equal(photo, data.pictures[0])
        assert np.array_equal(cv2.resize(photo, (122, 73), interpolation=cv2.INTER_AREA), data.pictures[1])

    def test_a_batch_is_decided_by_the_generator(self, data):
        """The same seed gives the same crops, another seed others."""
        first, again, other = (data.batch(4, np.random.default_rng(seed)) for seed in ((0, 5), (0, 5), (0, 6)))
        assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
        assert not np.array_equal(first[0], other[0])


class TestRecipe:
    """The file that decides a run."""

    def written(self, folder: Path, **changes: Any) -> Path:
        """A recipe file with some fields changed; None takes a field out."""
        fields = {**json.loads(RECIPE.to_json()), **changes}
        path = folder / "recipe.json"
        path.write_text(json.dumps({key: value for key, value in fields.items() if value is not None}))
        return path

    def test_it_reads_back_as_written(self, tmp_path):
        """Every field, stages and their sampling included."""
        polish = Stage(50, 1e-4, Sampling("sandwich", 1.5, 0.05, True), "mse")
        for stages in (RECIPE.stages, GROWING.stages, (*GROWING.stages, polish)):
            recipe = replace(GROWING, stages=stages, seed=3)
            (tmp_path / "recipe.json").write_text(recipe.to_json())
            assert recipe == Recipe.load(tmp_path / "recipe.json")

    def test_fields_left_out_have_their_defaults(self, tmp_path):
        """Only these five are required, and of a stage its steps."""
        required = {key: asdict(RECIPE)[key] for key in ("name", "backbone", "scale", "subnets")}
        (tmp_path / "recipe.json").write_text(json.dumps({**required, "stages": [{"steps": 3}, {"steps": 4}]}))
        assert Recipe(**required, stages=(Stage(3), Stage(4))) == Recipe.load(tmp_path / "recipe.json")

    @pytest.mark.parametrize(
        "path",
        sorted([*REPOSITORY.glob("checkpoints/*/recipe.json"), *REPOSITORY.glob("recipes/*.json")]),
        ids=lambda p: f"{p.parent.name}/{p.name}",
    )
    def test_every_shipped_recipe_can_be_trained(self, path):
        """It loads, is named like its folder or file, and its network can be built."""
        recipe = Recipe.load(path)
        net = build(recipe.backbone, recipe.scale, recipe.subnets)
        assert recipe.name == (path.parent.name if path.name == "recipe.json" else path.stem)
        assert recipe.subnets == net.subnets

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("wibble", 1),
            ("name", 4),
            ("name", None),
            ("backbone", ["plain"]),
            ("scale", 0),
            ("scale", 2.0),
            ("scale", "2"),
            ("batch", "16"),
            ("batch", True),
            ("patch", [8]),
            ("validate_every", 0),
            ("subnets", None),
            ("subnets", {}),
            ("subnets", [[4, 1]]),
            ("subnets", 16),
            ("subnets", "w4"),
            ("subnets", {"w4": 4}),
            ("subnets", {"w4": "48"}),
            ("subnets", {"w4": None}),
            ("subnets", {"w4": {"width": 4, "depth": 1}}),
            ("subnets", {"w4": []}),
            ("subnets", {"w4": [4]}),
            ("subnets", {"w4": [4, 1, 1]}),
            ("subnets", {"w4": [4, "8"]}),
            ("subnets", {"w4": [[4], 1]}),
            ("subnets", {"w4": [0, 1]}),
            ("subnets", {"w4": [4, -1]}),
            ("subnets", {"w4": [4.5, 1]}),
            ("subnets", {"w4": [4, 1.0]}),
            ("subnets", {"w4": [True, 1]}),
            ("subnets", {"w4": [4, True]}),
            ("subnets", {"w4": [4, 1], "w8": [8, None]}),
            ("subnets", {"w4": [4, 1], "again": [4, 1]}),
            ("stages", None),
            ("stages", {"steps": 3}),
            ("stages", 3),
            ("stages", "l1"),
            ("stage", []),
            ("steps", 30),
            ("widths", [4, 8]),
            ("warmup", "none"),
            ("warmup", -1),
            ("clip", 0),
            ("clip", {}),
            ("ema", 1.0),
            ("ema", "0.9"),
            ("precision", "fp16"),
            ("precision", 32),
            ("optimiser", "sgd"),
            ("optimiser", 1),
            ("seed", "x"),
            ("start", 3),
            ("start", "../weights.safetensors"),
            ("start", "supernet.safetensors"),
            ("start", "state.safetensors"),
            ("start", "recipe.json"),
            ("start", ""),
            ("start_share", 0.5),
            ("start_share", "0.5"),
            ("sizes", []),
            ("sizes", 0.5),
            ("sizes", [0.5, 0]),
            ("sizes", [1.5]),
            ("sizes", ["1"]),
        ],
    )
    def test_a_wrong_field_is_named_with_the_file(self, tmp_path, field, value):
        """Unknown, missing, of the wrong type or out of range."""
        path = self.written(tmp_path, **{field: value})
        with pytest.raises(ArtefactError, match=rf"{path}: .*{field}"):
            Recipe.load(path)

    @pytest.mark.parametrize("index", [0, 1])
    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("wibble", 1),
            ("steps", ...),
            ("steps", None),
            ("steps", 0),
            ("steps", -5),
            ("steps", 2.5),
            ("steps", "30"),
            ("steps", True),
            ("learning_rate", 0),
            ("learning_rate", -1),
            ("learning_rate", "0.1"),
            ("learning_rate", None),
            ("learning_rate", float("nan")),
            ("loss", "l3"),
            ("loss", None),
            ("loss", ["l1"]),
            ("depth", 0),
            ("depth", -1),
            ("depth", 1.5),
            ("depth", "1"),
            ("depth", True),
            ("revive", -0.1),
            ("revive", 1.5),
            ("revive", "all"),
            ("revive", float("nan")),
            ("decay_steps", 4),
            ("decay_steps", 6.5),
            ("decay_steps", "6"),
            ("sampling", {"rule": "club"}),
            ("sampling", {"alpha": "2"}),
            ("sampling", {"floor": 2}),
        ],
    )
    def test_a_wrong_field_of_a_stage_is_named_with_the_file(self, tmp_path, index, field, value):
        """In any stage; ... takes the field out."""
        stages = [{"steps": 5, "depth": 9, field: value} if i == index else {"steps": 5, "depth": 9} for i in (0, 1)]
        path = self.written(tmp_path, stages=[{k: v for k, v in s.items() if v is not ...} for s in stages])
        with pytest.raises(ArtefactError, match=rf"{path}: .*{field}"):
            Recipe.load(path)

    @pytest.mark.parametrize("sampling", [3, None, [], "single", {"beta": 1}])
    def test_a_sampling_that_is_none_is_named_with_the_file(self, tmp_path, sampling):
        """Two levels down: no JSON object, or one with an unknown option."""
        path = self.written(tmp_path, stages=[{"steps": 5, "sampling": sampling}])
        with pytest.raises(ArtefactError, match=rf"(?i){path}: .*sampling"):
            Recipe.load(path)

    @pytest.mark.parametrize("stages", [[], [3], [None], ["l1"], [[30]], [{"steps": 5}, []]])
    def test_a_list_of_anything_but_stages_is_refused(self, tmp_path, stages):
        """Empty, or with something that is no JSON object."""
        path = self.written(tmp_path, stages=stages)
        with pytest.raises(ArtefactError, match=rf"{path}: .*stage"):
            Recipe.load(path)

    @pytest.mark.parametrize("depths", [(2, 1), (None, 3), (1, 3, 2), (1, None, 3)])
    def test_a_depth_below_the_stage_before_is_refused(self, tmp_path, depths):
        """What was trained would be thrown away; no limit is the deepest of all."""
        path = self.written(tmp_path, stages=[{"steps": 5, "depth": depth} for depth in depths])
        with pytest.raises(ArtefactError, match=rf"{path}: .*depth"):
            Recipe.load(path)

    @pytest.mark.parametrize("depths", [(1, 1), (None, None), (1, 2, None), (3, 99)])
    def test_depths_may_stay_or_rise(self, tmp_path, depths):
        """Beyond the depth of the network too, where a limit is none."""
        path = self.written(tmp_path, stages=[{"steps": 5, "depth": depth} for depth in depths])
        assert list(depths) == [stage.depth for stage in Recipe.load(path).stages]

    @pytest.mark.parametrize("content", [b"", b"{", b"[1, 2]", b'"text"', b"null", b"\xff\xfe", b"{'name': 1}"])
    def test_a_file_that_is_no_json_object_is_named(self, tmp_path, content):
        """Cut, of another kind, or no text at all."""
        (tmp_path / "recipe.json").write_bytes(content)
        with pytest.raises(ArtefactError, match=str(tmp_path / "recipe.json")):
            Recipe.load(tmp_path / "recipe.json")

    def test_a_missing_file_is_named(self, tmp_path):
        """As ArtefactError, like any other fault of a recipe."""
        with pytest.raises(ArtefactError, match=str(tmp_path / "recipe.json")):
            Recipe.load(tmp_path / "recipe.json")


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


KILLED_RUN = """
import os, signal, sys
from pathlib import Path
import torch
from arm_sr.training.config import Recipe
from arm_sr.imaging.folders import list_images
from arm_sr.training.data import CropData
from arm_sr.training.loop import train

torch.set_num_threads(1)
recipe, pictures, validation, out = (Path(argument) for argument in sys.argv[1:])
recipe = Recipe.load(recipe)
data = CropData(list_images(pictures), recipe.scale, recipe.patch)
batch, calls = data.batch, []

def fatal_batch(size, rng):
    calls.append(size)
    if len(calls) == 19:
        os.kill(os.getpid(), signal.SIGKILL)
    return batch(size, rng)

data.batch = fatal_batch
train(recipe, data, [validation], out, state_every=7)
"""


class TestResuming:
    """A run that was stopped and goes on ends as if it had not been."""

    @pytest.mark.parametrize("run", RECIPES)
    def test_after_sigkill(self, request, run, pictures, data, validation, tmp_path):
        """From the last state, at a border too; weights are equal to the bit and the log has every line once."""
        recipe = RECIPES[run]
        (tmp_path / "recipe.json").write_text(recipe.to_json())
        out = tmp_path / "run"
        arguments = [str(path) for path in (tmp_path / "recipe.json", pictures, validation[0], out)]
        killed = subprocess.run(
            [sys.executable, "-c", KILLED_RUN, *arguments],
            cwd=REPOSITORY,
            capture_output=True,
            timeout=120,
            check=False,
        )
        assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
        assert saved_step(out) == 14

        assert_same_run(request.getfixturevalue(run), out, train(recipe, data, validation, out, state_every=7))

    @pytest.mark.parametrize(
        ("run", "call"),
        [("whole_run", n) for n in (1, 2, 12, 30)] + [("growing_run", n) for n in (15, 16, 25)],
    )
    def test_after_an_interrupt_between_steps(self, request, run, call, data, validation, tmp_path, monkeypatch):
        """The state is written on the way out, so that no step is lost; neither the first step nor one at a border."""
        recipe, calls = RECIPES[run], []

        def interrupted(size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
            calls.append(size)
            if len(calls) == call:
                raise KeyboardInterrupt
            return CropData.batch(data, size, rng)

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(data, "batch", interrupted)
            train(recipe, data, validation, tmp_path)
        assert call - 1 == saved_step(tmp_path)

        assert_same_run(request.getfixturevalue(run), tmp_path, train(recipe, data, validation, tmp_path))

    @pytest.mark.parametrize(
        ("owner", "name", "call", "expected"),
        [
            (loop, "_backward", 12, 12),
            (torch.optim.Adam, "step", 12, 12),
            (torch, "_foreach_lerp_", 12, 12),
            (torch.optim.Adam, "step", 15, 15),  # the first of the second stage
            (torch, "_foreach_lerp_", 15, 15),
            (Plain, "revive", 1, 25),
        ],
    )
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_after_a_signal_within_a_step(
        self, growing_run, data, validation, tmp_path, monkeypatch, owner, name, call, expected, number
    ):
        """The step is done and saved first, so that none is lost."""
        original, calls = getattr(owner, name), []

        def signalled(*args: Any, **kwargs: Any) -> Any:
            result = original(*args, **kwargs)
            calls.append(name)
            if len(calls) == call:
                signal.getsignal(number)(number, None)  # as if it came
            return result

        def terminate(*_: object) -> None:
            raise KeyboardInterrupt

        before = signal.signal(number, terminate)
        try:
            with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
                patch.setattr(owner, name, signalled)
                train(GROWING, data, validation, tmp_path, state_every=7)
            assert terminate is signal.getsignal(number)
        finally:
            signal.signal(number, before)
        assert expected == saved_step(tmp_path)

        assert_same_run(growing_run, tmp_path, train(GROWING, data, validation, tmp_path))

    def test_a_log_line_cut_by_the_crash_is_dropped(self, whole_run, data, validation, tmp_path):
        """As a full disk or a power cut leaves it; lines of steps that run again go too."""
        (tmp_path / "log.jsonl").write_text('{"step": 10, "validation": {}}\n{"step": 12, "lo')
        assert_same_run(whole_run, tmp_path, train(RECIPE, data, validation, tmp_path))

    def test_a_state_of_another_recipe_is_refused(self, whole_run, data, validation):
        """Any field counts; the folder stays as it was."""
        out, _ = whole_run
        before = {file.name: file.read_bytes() for file in out.iterdir()}
        wider = replace(RECIPE, subnets={"w4": (4, 1), "w16": (16, 2)})
        later = replace(RECIPE, stages=(replace(RECIPE.stages[0], loss="mse"), Stage(steps=5)))
        for recipe in (replace(RECIPE, seed=1), with_stage(steps=31), with_stage(loss="mse"), wider, later):
            with pytest.raises(ArtefactError, match=r"state\.safetensors: made by another recipe"):
                train(recipe, data, validation, out)
        assert before == {file.name: file.read_bytes() for file in out.iterdir()}

    def test_a_finished_run_goes_on_with_further_stages(self, whole_run, data, validation, tmp_path):
        """As if they had been in the recipe from the start; a stage that has begun stays as it is."""
        longer = replace(RECIPE, stages=(*RECIPE.stages, Stage(steps=6, learning_rate=1e-3, loss="mse")))
        expected = train(longer, data, validation, tmp_path / "at once")
        shutil.copytree(whole_run[0], tmp_path / "later")
        gone_on = train(longer, data, validation, tmp_path / "later")
        assert all(torch.equal(p, q) for p, q in zip(expected.parameters(), gone_on.parameters(), strict=True))
        assert longer == Recipe.load(tmp_path / "later" / "recipe.json")
        assert [True, True, False] == [
            longer.continues(RECIPE, 30),
            RECIPE.continues(longer, 30),
            RECIPE.continues(longer, 31),
        ]

    @pytest.mark.parametrize("length", [0, 1, 8, 100, -1])
    def test_a_state_cut_short_is_refused_by_name(self, whole_run, data, validation, tmp_path, length):
        """With the advice to delete it; nothing is overwritten."""
        state = (whole_run[0] / "state.safetensors").read_bytes()[:length]
        (tmp_path / "state.safetensors").write_bytes(state)
        with pytest.raises(ArtefactError, match=rf"{tmp_path}/state\.safetensors: damaged.*delete"):
            train(RECIPE, data, validation, tmp_path)
        assert state == (tmp_path / "state.safetensors").read_bytes()

    def test_a_state_without_optimiser_is_refused_by_name(self, whole_run, data, validation, tmp_path):
        """As of an earlier version, which called it otherwise."""
        shutil.copytree(whole_run[0], tmp_path, dirs_exist_ok=True)
        path = tmp_path / "state.safetensors"
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
        tensors = {key.replace("optimiser.", "adam."): value for key, value in load_file(path).items()}
        save_file(tensors, path, metadata)
        with pytest.raises(ArtefactError, match=rf"{path}: no state of the optimiser"):
            train(RECIPE, data, validation, tmp_path)

    def test_a_state_of_rubbish_is_refused_by_name(self, data, validation, tmp_path):
        """Random bytes."""
        (tmp_path / "state.safetensors").write_bytes(np.random.default_rng(0).bytes(5000))
        with pytest.raises(ArtefactError, match=str(tmp_path / "state.safetensors")):
            train(RECIPE, data, validation, tmp_path)
