"""PSNR and SSIM against scikit-image."""

import math

import numpy as np
import pytest
import skimage.data
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from arm_sr.imaging import metrics


def damaged(picture: np.ndarray, strength: int) -> np.ndarray:
    """`picture` with noise of known seed."""
    noise = np.random.default_rng(strength).integers(-strength, strength + 1, picture.shape)
    return np.clip(picture.astype(int) + noise, 0, 255).astype(np.uint8)


PICTURES = {
    "astronaut": skimage.data.astronaut()[:200, :251],
    "coffee": skimage.data.coffee()[100:231, 100:300],
    "camera": skimage.data.camera()[:129, 200:],
}


@pytest.fixture(params=sorted(PICTURES))
def picture(request):
    """Two colour pictures and a grey one."""
    return PICTURES[request.param]


def reference_luma(picture: np.ndarray) -> np.ndarray:
    """BT.601, studio swing, as the standard prints it."""
    red, green, blue = (picture if picture.ndim == 3 else np.dstack([picture] * 3)).astype(float).transpose(2, 0, 1)
    return 16 + 65.481 * red / 255 + 128.553 * green / 255 + 24.966 * blue / 255


def reference_ssim(first: np.ndarray, second: np.ndarray) -> float:
    """scikit-image with the parameters of Wang et al., 2004."""
    return structural_similarity(
        first, second, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255
    )


def test_luma_is_bt601(picture):
    """Y of colour, and of grey as if repeated."""
    assert np.abs(reference_luma(picture) - metrics.luma(picture)).max() < 1e-9


def test_luma_spans_16_to_235():
    """Black and white of the studio swing."""
    assert [16.0, 235.0] == pytest.approx(list(metrics.luma(np.array([[0, 255]], np.uint8))[0]))


@pytest.mark.parametrize("strength", [1, 10, 80])
def test_psnr_equals_scikit_image(picture, strength):
    """Over all channels."""
    expected = peak_signal_noise_ratio(picture, damaged(picture, strength), data_range=255)
    assert expected == pytest.approx(metrics.psnr(picture, damaged(picture, strength)), abs=1e-9)


def test_psnr_y_equals_scikit_image(picture):
    """On Y, with a border."""
    other = damaged(picture, 10)
    first, second = (reference_luma(image)[4:-4, 4:-4] for image in (picture, other))
    expected = peak_signal_noise_ratio(first, second, data_range=255)
    assert expected == pytest.approx(metrics.psnr_y(picture, other, border=4), abs=1e-9)


@pytest.mark.parametrize("strength", [1, 10, 80])
@pytest.mark.parametrize("border", [0, 3])
def test_ssim_y_equals_scikit_image(picture, strength, border):
    """Which averages where the window fits, too."""
    other = damaged(picture, strength)
    height, width = picture.shape[:2]
    inside = np.s_[border : height - border, border : width - border]
    expected = reference_ssim(reference_luma(picture)[inside], reference_luma(other)[inside])
    assert expected == pytest.approx(metrics.ssim_y(picture, other, border), abs=1e-6)


def test_ssim_of_the_smallest_picture():
    """11x11: one position of the window."""
    first = PICTURES["camera"][60:71, 60:71]
    second = damaged(first, 30)
    assert reference_ssim(first, second) == pytest.approx(metrics.ssim(first, second), abs=1e-6)


def test_border_is_cropped(picture):
    """Damage within the border does not count; one pixel further in does."""
    framed, further = picture.copy(), picture.copy()
    framed[:4] = framed[-4:] = 0
    framed[:, :4] = framed[:, -4:] = 0
    further[4, 4] = 255 - further[4, 4]
    assert math.inf == metrics.psnr(picture, framed, border=4)
    assert math.inf > metrics.psnr(picture, further, border=4)
    assert metrics.crop_border(picture, 4).shape[:2] == (picture.shape[0] - 8, picture.shape[1] - 8)


def test_pictures_too_small_for_the_border_stay_whole():
    """A metric of nothing is not a number."""
    small = np.zeros((8, 40), np.uint8)
    assert small.shape == metrics.crop_border(small, 4).shape


def test_identical_pictures(picture):
    """Infinite PSNR, SSIM of one."""
    assert math.inf == metrics.psnr(picture, picture.copy())
    assert math.inf == metrics.psnr_y(picture, picture.copy())
    assert 1.0 == pytest.approx(metrics.ssim_y(picture, picture.copy()))


def test_squared_error_adds_up(picture):
    """Sums and counts of two parts give the PSNR of the whole, as the evaluation uses them."""
    other = damaged(picture, 10)
    parts = [metrics.squared_error(picture[rows], other[rows]) for rows in (np.s_[:50], np.s_[50:])]
    total, count = (sum(column) for column in zip(*parts, strict=True))
    assert metrics.psnr(picture, other) == pytest.approx(metrics.psnr_of_mse(total / count))


@pytest.mark.parametrize("metric", [metrics.psnr, metrics.psnr_y, metrics.ssim_y])
def test_shapes_must_agree(metric):
    """Pictures are never broadcast or cropped to match."""
    with pytest.raises(ValueError, match="shape"):
        metric(np.zeros((20, 20, 3), np.uint8), np.zeros((20, 21, 3), np.uint8))


def test_ssim_needs_eleven_pixels():
    """Smaller than the window."""
    with pytest.raises(ValueError, match="11 pixels"):
        metrics.ssim(np.zeros((10, 30), np.uint8), np.zeros((10, 30), np.uint8))
