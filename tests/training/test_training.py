"""Training from pictures on disk to weights: data, recipe, loop, and going on after a kill."""

import json
import logging
import signal
import subprocess
import sys
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
from skimage.metrics import peak_signal_noise_ratio

import arm_sr
from arm_sr.errors import ArtefactError, ImageError
from arm_sr.evaluation.pairs import read_pairs
from arm_sr.imaging.folders import list_images, split_hold_out
from arm_sr.imaging.resample import lr_bicubic
from arm_sr.supernet.backbones import Supernet, build
from arm_sr.supernet.sampling import Sampling
from arm_sr.training.config import Polish, Recipe
from arm_sr.training.data import CropData, describe_sources
from arm_sr.training.loop import averaged_network, train, validate

REPOSITORY = Path(arm_sr.__file__).parents[1]

RECIPE = Recipe(
    name="tiny-x2",
    backbone="plain",
    scale=2,
    widths=(4, 8),
    steps=30,
    backbone_options={"depth": 1},
    batch=2,
    patch=8,
    learning_rate=5e-3,
    warmup=0,
    clip=1.0,
    ema=0.5,
    precision="fp32",
    validate_every=10,
)


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
def whole_run(
    data: CropData, validation: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Supernet]:
    """The folder and the network of a run that nothing disturbed."""
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("runs") / "whole"
    return out, train(RECIPE, data, validation, out, state_every=7)


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

        assert [(pair.lr.shape, pair.hr.shape) for pair in data.pairs] == [((8, 20, 3), (16, 40, 3))]
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
    def test_every_pair_of_crops_is_a_place_in_a_picture(self, pictures, scale):
        """Some picture, place, rotation and mirroring gives both crops exactly; many kinds occur."""
        patch = 30
        (file, *_) = list_images(pictures)
        data = CropData([file], scale, patch)
        (pair,) = data.pairs
        small, large = pair.lr, pair.hr
        assert np.array_equal(lr_bicubic(large, scale), small)
        lr_crops, hr_crops = data.batch(24, np.random.default_rng(scale))
        assert ((24, patch, patch, 3), np.uint8) == (lr_crops.shape, lr_crops.dtype)
        assert ((24, scale * patch, scale * patch, 3), np.uint8) == (hr_crops.shape, hr_crops.dtype)

        seen = set()
        first_pixels = small[: small.shape[0] - patch + 1, : small.shape[1] - patch + 1]
        for lr, hr in zip(lr_crops, hr_crops, strict=True):
            found = []
            for turns in range(4):
                for mirror in (False, True):
                    undone = [np.rot90(c[:, ::-1] if mirror else c, -turns) for c in (lr, hr)]
                    for top, left in np.argwhere((first_pixels == undone[0][0, 0]).all(axis=2)):
                        high = large[scale * top : scale * (top + patch), scale * left : scale * (left + patch)]
                        places = (small[top : top + patch, left : left + patch], high)
                        if all(np.array_equal(place, crop) for place, crop in zip(places, undone, strict=True)):
                            found.append((turns, mirror))
            assert len(found) == 1
            seen.update(found)
        assert len(seen) >= 6

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
        """Every field, sampling included."""
        recipe = replace(RECIPE, sampling=Sampling("sandwich", 1.5, 0.05, True), seed=3)
        (tmp_path / "recipe.json").write_text(recipe.to_json())
        assert recipe == Recipe.load(tmp_path / "recipe.json")

    def test_fields_left_out_have_their_defaults(self, tmp_path):
        """Only these five are required."""
        required = {key: asdict(RECIPE)[key] for key in ("name", "backbone", "scale", "widths", "steps")}
        (tmp_path / "recipe.json").write_text(json.dumps(required))
        assert Recipe(**required) == Recipe.load(tmp_path / "recipe.json")

    @pytest.mark.parametrize("path", sorted(REPOSITORY.glob("checkpoints/*/recipe.json")), ids=lambda p: p.parent.name)
    def test_every_shipped_recipe_can_be_trained(self, path):
        """It loads, is named like its folder, and its network can be built."""
        recipe = Recipe.load(path)
        net = build(recipe.backbone, scale=recipe.scale, widths=recipe.widths, **recipe.backbone_options)
        assert path.parent.name == recipe.name
        assert tuple(sorted(recipe.widths)) == net.widths

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
            ("steps", None),
            ("steps", True),
            ("steps", -5),
            ("batch", "16"),
            ("patch", [8]),
            ("validate_every", 0),
            ("widths", None),
            ("widths", []),
            ("widths", 16),
            ("widths", "48"),
            ("widths", [4, "8"]),
            ("widths", [0, 4]),
            ("widths", [4.5]),
            ("widths", [4, 4]),
            ("widths", [True, 4]),
            ("learning_rate", "0.1"),
            ("learning_rate", 0),
            ("learning_rate", float("nan")),
            ("warmup", "none"),
            ("warmup", -1),
            ("clip", 0),
            ("clip", {}),
            ("ema", 1.0),
            ("ema", "0.9"),
            ("precision", "fp16"),
            ("precision", 32),
            ("seed", "x"),
            ("backbone_options", [1]),
            ("sampling", 3),
            ("sampling", {"rule": "club"}),
            ("sampling", {"alpha": "2"}),
            ("sampling", {"floor": 2}),
        ],
    )
    def test_a_wrong_field_is_named_with_the_file(self, tmp_path, field, value):
        """Unknown, missing, of the wrong type or out of range."""
        path = self.written(tmp_path, **{field: value})
        with pytest.raises(ArtefactError, match=rf"{path}: .*{field}"):
            Recipe.load(path)

    def test_an_unknown_option_of_sampling_is_named_with_the_file(self, tmp_path):
        """One level down."""
        path = self.written(tmp_path, sampling={"beta": 1})
        with pytest.raises(ArtefactError, match=rf"{path}: .*beta"):
            Recipe.load(path)

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

    def test_training_lowers_the_loss(self, whole_run, data):
        """On crops of a generator of their own, for every width, against the weights it began with."""
        torch.manual_seed(RECIPE.seed)
        before = build("plain", scale=2, widths=RECIPE.widths, depth=1)
        lr, hr = (
            torch.from_numpy(crops).permute(0, 3, 1, 2) / 255 for crops in data.batch(64, np.random.default_rng(99))
        )
        with torch.no_grad():
            for width in RECIPE.widths:
                old, new = (F.l1_loss(net(lr, width), hr) for net in (before, whole_run[1]))
                assert new < old

    def test_the_log_has_the_loss_and_a_validation_of_each_width(self, whole_run, validation):
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
        assert (net.widths[-1], saved_step(out)) == (8, 30)

    def test_the_average_can_be_taken_from_the_state(self, whole_run, tmp_path):
        """To write a checkpoint of a run that has ended, or was stopped; a folder without state is named."""
        out, net = whole_run
        again = averaged_network(out, RECIPE)
        assert all(torch.equal(p, q) for p, q in zip(net.parameters(), again.parameters(), strict=True))
        with pytest.raises(ArtefactError, match=str(tmp_path)):
            averaged_network(tmp_path, RECIPE)

    def test_a_finished_run_is_not_trained_further(self, whole_run, data, validation, tmp_path):
        """Starting it again returns the same network."""
        first = train(replace(RECIPE, steps=3), data, validation, tmp_path)
        log = (tmp_path / "log.jsonl").read_bytes()
        again = train(replace(RECIPE, steps=3), data, validation, tmp_path)
        assert all(torch.equal(p, q) for p, q in zip(first.parameters(), again.parameters(), strict=True))
        assert log == (tmp_path / "log.jsonl").read_bytes()

    def test_validation_agrees_with_scikit_image(self, validation):
        """Nearest-neighbour enlargement, which a net with zero weights is; the border of the protocol is cut off."""
        net = build("plain", scale=2, widths=(4,), depth=0)
        with torch.no_grad():
            for p in net.parameters():
                p.zero_()
        hr = cv2.imread(str(validation[0]))[:60, :48, ::-1]
        sr = lr_bicubic(hr, 2).repeat(2, axis=0).repeat(2, axis=1)
        expected = peak_signal_noise_ratio(hr[2:-2, 2:-2], sr[2:-2, 2:-2], data_range=255)
        report = validate(net, list(read_pairs(validation, 2)))
        assert report["w4"]["psnr_rgb"] == report["w4"]["psnr_rgb_all"] == pytest.approx(expected, abs=1e-4)

    @pytest.mark.parametrize("precision", ["fp32", "bf16"])
    def test_a_sandwich_with_distillation_trains(self, data, validation, tmp_path, precision):
        """Three widths a step; the narrow ones learn from the widest one's output, so the weights differ."""
        recipe = replace(RECIPE, widths=(2, 4, 8), steps=4, precision=precision)
        nets = [
            train(
                replace(recipe, sampling=Sampling("sandwich", distil=distil)), data, validation, tmp_path / str(distil)
            )
            for distil in (False, True)
        ]
        assert all(torch.isfinite(p).all() for net in nets for p in net.parameters())
        assert not torch.equal(nets[0].head.weight, nets[1].head.weight)

    def test_a_loss_that_is_not_finite_stops_the_run(self, data, validation, tmp_path):
        """The message says at which step, and what to do."""
        recipe = replace(RECIPE, steps=5, learning_rate=1e30, clip=1e30)
        with pytest.raises(ArtefactError, match=r"step 5.*learning rate"):
            train(recipe, data, validation, tmp_path)

    def test_the_learning_rate_rises_and_falls(self):
        """Linear through the warmup, then half a cosine down to zero."""
        recipe = replace(RECIPE, steps=1000, warmup=100, learning_rate=1.0)
        rates = [recipe.phase(step)[2] for step in range(1001)]
        assert rates[0] == pytest.approx(1 / 101)
        assert all(a < b for a, b in pairwise(rates[:90]))
        assert rates[500] == pytest.approx(0.5)
        assert all(a > b for a, b in pairwise(rates[100:]))
        assert rates[-1] == pytest.approx(0)


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

    def test_after_sigkill(self, whole_run, pictures, data, validation, tmp_path):
        """From the last state; weights are equal to the bit and the log has every line once."""
        (tmp_path / "recipe.json").write_text(RECIPE.to_json())
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

        assert_same_run(whole_run, out, train(RECIPE, data, validation, out, state_every=7))

    @pytest.mark.parametrize("call", [1, 2, 12, 30])
    def test_after_an_interrupt_between_steps(self, whole_run, data, validation, tmp_path, monkeypatch, call):
        """The state is written on the way out, so that no step is lost; the first step is no exception."""
        calls = []

        def interrupted(size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
            calls.append(size)
            if len(calls) == call:
                raise KeyboardInterrupt
            return CropData.batch(data, size, rng)

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(data, "batch", interrupted)
            train(RECIPE, data, validation, tmp_path)
        assert call - 1 == saved_step(tmp_path)

        assert_same_run(whole_run, tmp_path, train(RECIPE, data, validation, tmp_path))

    @pytest.mark.parametrize("place", ["torch.optim.Adam.step", "torch._foreach_lerp_"])
    def test_after_an_interrupt_within_a_step(self, whole_run, data, validation, tmp_path, monkeypatch, place):
        """Weights already changed but the step not yet counted: the state before it is the one to go on from."""
        module, name = place.rsplit(".", 1)
        owner = torch.optim.Adam if module.endswith("Adam") else torch
        original, calls = getattr(owner, name), []

        def interrupted(*args: Any, **kwargs: Any) -> Any:
            original(*args, **kwargs)
            calls.append(name)
            if len(calls) == 12:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(owner, name, interrupted)
            train(RECIPE, data, validation, tmp_path, state_every=7)
        assert saved_step(tmp_path) == 7

        assert_same_run(whole_run, tmp_path, train(RECIPE, data, validation, tmp_path))

    def test_a_log_line_cut_by_the_crash_is_dropped(self, whole_run, data, validation, tmp_path):
        """As a full disk or a power cut leaves it; lines of steps that run again go too."""
        (tmp_path / "log.jsonl").write_text('{"step": 10, "validation": {}}\n{"step": 12, "lo')
        assert_same_run(whole_run, tmp_path, train(RECIPE, data, validation, tmp_path))

    def test_a_state_of_another_recipe_is_refused(self, whole_run, data, validation):
        """Any field counts; the folder stays as it was."""
        out, _ = whole_run
        before = {file.name: file.read_bytes() for file in out.iterdir()}
        for recipe in (replace(RECIPE, seed=1), replace(RECIPE, steps=31), replace(RECIPE, widths=(4, 16))):
            with pytest.raises(ArtefactError, match=r"state\.safetensors: made by another recipe"):
                train(recipe, data, validation, out)
        assert before == {file.name: file.read_bytes() for file in out.iterdir()}

    @pytest.mark.parametrize("length", [0, 1, 8, 100, -1])
    def test_a_state_cut_short_is_refused_by_name(self, whole_run, data, validation, tmp_path, length):
        """With the advice to delete it; nothing is overwritten."""
        state = (whole_run[0] / "state.safetensors").read_bytes()[:length]
        (tmp_path / "state.safetensors").write_bytes(state)
        with pytest.raises(ArtefactError, match=rf"{tmp_path}/state\.safetensors: damaged.*delete"):
            train(RECIPE, data, validation, tmp_path)
        assert state == (tmp_path / "state.safetensors").read_bytes()

    def test_a_state_of_rubbish_is_refused_by_name(self, data, validation, tmp_path):
        """Random bytes."""
        (tmp_path / "state.safetensors").write_bytes(np.random.default_rng(0).bytes(5000))
        with pytest.raises(ArtefactError, match=str(tmp_path / "state.safetensors")):
            train(RECIPE, data, validation, tmp_path)


def test_a_polish_is_a_second_cosine_with_its_own_sampling_and_loss(tmp_path: Path) -> None:
    """Schedule, sampling and loss change at the right step, and the recipe comes back from its file."""
    sampling = Sampling(alpha=6, floor=0.05)
    recipe = replace(RECIPE, steps=100, warmup=0, polish=Polish(steps=50, learning_rate=1e-3, sampling=sampling))
    assert 150 == recipe.total_steps
    assert (RECIPE.sampling, "l1") == recipe.phase(99)[:2]
    assert (sampling, "mse", pytest.approx(1e-3)) == recipe.phase(100)
    rates = [recipe.phase(step)[2] for step in range(150)]
    assert all(a > b for a, b in pairwise(rates[:100]))
    assert all(a > b for a, b in pairwise(rates[100:]))
    assert rates[99] < rates[100]
    (tmp_path / "recipe.json").write_text(recipe.to_json())
    assert recipe == Recipe.load(tmp_path / "recipe.json")
    data = json.loads(recipe.to_json())
    for wrong in ({"steps": 0}, {"loss": "l3"}, {"speed": 1}, {"learning_rate": -1}):
        (tmp_path / "recipe.json").write_text(json.dumps({**data, "polish": {**data["polish"], **wrong}}))
        with pytest.raises(ArtefactError, match=r"recipe\.json.*(polish|speed)"):
            Recipe.load(tmp_path / "recipe.json")


def test_a_polish_follows_the_first_steps(tmp_path: Path, data: CropData, validation: list[Path]) -> None:
    """It runs after the first steps and changes the weights; the last state is its end."""
    recipe = replace(RECIPE, steps=6, polish=Polish(steps=6, learning_rate=1e-3))
    whole = train(recipe, data, validation, tmp_path / "whole")
    lines = [json.loads(line) for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    assert 12 == lines[-1]["step"]
    assert whole.state_dict().keys() == averaged_network(tmp_path / "whole", recipe).state_dict().keys()
    rest = replace(recipe, polish=None)
    first = train(rest, data, validation, tmp_path / "first")
    assert any(not torch.equal(a, b) for a, b in zip(first.parameters(), whole.parameters(), strict=True))
