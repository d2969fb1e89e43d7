"""Training pictures and the crops from them."""

import logging
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
from training_runs import save

from arm_sr.errors import ArtefactError, ImageError
from arm_sr.imaging.folders import list_images, split_hold_out
from arm_sr.imaging.resample import crop_to_multiple, lr_bicubic
from arm_sr.training.data import CropData, describe_sources


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
