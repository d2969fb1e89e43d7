"""Files written from top to bottom, read by other decoders."""

import cv2
import numpy as np
import PIL.Image
import pytest
import skimage.data

from arm_sr.errors import ImageError
from arm_sr.imaging.io import read_image, takes_strips, write_strips

PHOTO = skimage.data.astronaut()[100:301, 200:230]
PLANES = {
    "grey": PHOTO[..., :1],
    "grey and alpha": PHOTO[..., :2],
    "RGB": PHOTO,
    "RGBA": np.dstack([PHOTO, PHOTO[..., 0]]),
}


def write(path, planes, heights, icc=None):
    """Write `planes` in strips of these heights; the last one takes the rest."""
    with write_strips(path, planes.shape, planes.dtype, icc) as writer:
        first = 0
        for height in [*heights, len(planes)]:
            if first < len(planes):
                writer.write(planes[first : first + height])
                first += height


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("heights", [[], [200], [64, 64], [63, 64, 65], [1] * 130, [7, 150]])
@pytest.mark.parametrize("wide", [False, True], ids=["8 bit", "16 bit"])
@pytest.mark.parametrize("kind", PLANES)
def test_strips_become_one_picture(tmp_path, suffix, heights, wide, kind):
    """Pillow or OpenCV reads what was written, whatever the strips, and so do we."""
    planes = PLANES[kind].astype(np.uint16) * 257 - PLANES[kind] if wide else PLANES[kind]
    path = tmp_path / f"a{suffix}"
    write(path, planes, heights)
    if kind == "grey and alpha" and suffix == ".tif":
        planes = planes[..., [0, 0, 0, 1]]
    if wide:
        read = np.atleast_3d(cv2.imread(str(path), cv2.IMREAD_UNCHANGED))
        if kind == "grey and alpha" and suffix == ".png":  # OpenCV spreads it
            planes = planes[..., [0, 0, 0, 1]]
        read = read if read.shape[2] == 1 else read[..., [2, 1, 0, 3][: read.shape[2]]]
    else:
        with PIL.Image.open(path) as image:
            read = np.atleast_3d(np.asarray(image))
    assert np.array_equal(planes, read)
    ours = read_image(path)
    again = np.atleast_3d(ours.pixels) if ours.alpha is None else np.dstack([ours.pixels, ours.alpha])
    assert np.array_equal(planes[..., [0, 3]] if again.shape[2] < planes.shape[2] else planes, again)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_the_profile_is_kept(tmp_path, suffix):
    """To the byte."""
    profile = bytes(range(256)) * 3
    write(tmp_path / f"a{suffix}", PHOTO, [30, 60], profile)
    with PIL.Image.open(tmp_path / f"a{suffix}") as image:
        assert profile == image.info["icc_profile"]


@pytest.mark.parametrize(("kind", "kept"), [("grey", True), ("grey and alpha", False)])
def test_a_profile_of_grey_stays_with_grey(tmp_path, kind, kept):
    """TIFF stores grey with alpha as RGBA, of which it would tell nothing."""
    profile = b"\0" * 16 + b"GRAY" + b"\0" * 108
    write(tmp_path / "a.tif", PLANES[kind], [], profile)
    with PIL.Image.open(tmp_path / "a.tif") as image:
        assert kept == ("icc_profile" in image.info)


def test_a_run_that_fails_leaves_the_old_file(tmp_path):
    """Nothing else stays behind."""
    (tmp_path / "a.png").write_bytes(b"old")
    with pytest.raises(RuntimeError), write_strips(tmp_path / "a.png", PHOTO.shape, np.uint8, None) as writer:
        writer.write(PHOTO[:10])
        raise RuntimeError
    assert b"old" == (tmp_path / "a.png").read_bytes()
    assert 1 == len(list(tmp_path.iterdir()))


@pytest.mark.parametrize("rows", [200, 202])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_another_number_of_rows_is_no_picture(tmp_path, suffix, rows):
    """Neither fewer nor more."""
    path = tmp_path / f"a{suffix}"
    with pytest.raises(ValueError, match="1 rows"), write_strips(path, PHOTO.shape, np.uint8, None) as writer:
        writer.write(np.resize(PHOTO, (rows, *PHOTO.shape[1:])))
    assert [] == list(tmp_path.iterdir())


def test_only_png_and_tiff_take_strips(tmp_path):
    """The others are refused, as is a folder that does not exist."""
    assert [True, True, True, False, False, False] == [
        takes_strips(suffix) for suffix in (".png", ".TIF", ".tiff", ".jpg", ".webp", "")
    ]
    with (
        pytest.raises(ImageError, match="there is no folder"),
        write_strips(tmp_path / "b" / "a.png", PHOTO.shape, np.uint8, None),
    ):
        pass
