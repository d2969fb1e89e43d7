"""Edge scores against plain loops."""

import cv2
import numpy as np
import pytest
import skimage.data
from hypothesis import given
from hypothesis import strategies as st
from strategies import few

from arm_sr.edges import SCORES, edge_energy, edge_map, patch_scores, window_scores
from arm_sr.patches import Grid

PHOTO = skimage.data.astronaut()[20:61, 180:233]
KERNELS = {
    "laplacian-mean": ((2, 0, 2), (0, -8, 0), (2, 0, 2)),
    "laplacian4-energy": ((0, 1, 0), (1, -4, 1), (0, 1, 0)),
}
POWERS = {"laplacian-mean": 1, "laplacian4-energy": 2}
SIZES = [(1, 1), (1, 2), (1, 9), (2, 1), (9, 1), (2, 2), (3, 5), (20, 33)]


def reflected(index: int, size: int) -> int:
    """Reflection that does not repeat the border pixel: ... 2 1 | 0 1 2 ..."""
    if size == 1:
        return 0
    while not 0 <= index < size:
        index = -index if index < 0 else 2 * (size - 1) - index
    return index


def slow_map(image: np.ndarray, score: str) -> np.ndarray:
    """The definition, pixel by pixel, of what a score is the mean of."""
    grey = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    height, width = grey.shape
    result = np.zeros(grey.shape, np.int64)
    for y in range(height):
        for x in range(width):
            total = 0
            for dy in (-1, 0, 1):
                for dx in (-1, 0, 1):
                    weight = KERNELS[score][dy + 1][dx + 1]
                    total += weight * int(grey[reflected(y + dy, height), reflected(x + dx, width)])
            result[y, x] = min(abs(total), 255) ** POWERS[score]
    return result


def slow_scores(image: np.ndarray, grid: Grid, score: str) -> np.ndarray:
    """Plain mean of every patch."""
    rows, cols = grid.shape
    values = slow_map(image, score)
    result = np.zeros(grid.shape)
    for r in range(rows):
        for c in range(cols):
            patch = values[r * grid.patch : (r + 1) * grid.patch, c * grid.patch : (c + 1) * grid.patch]
            result[r, c] = np.mean(patch)
    return result


def noise(shape, low=0, high=255):
    """Random levels."""
    return np.random.default_rng(7).integers(low, high, shape, np.uint8, endpoint=True)


@pytest.mark.parametrize("score", SCORES)
def test_maps_of_a_photo_are_the_loop_over_the_kernel(score):
    """On OpenCV's grey picture of the RGB photo."""
    np.testing.assert_array_equal(slow_map(PHOTO, score), SCORES[score](PHOTO))


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_maps_of_any_size_are_the_loop_over_the_kernel(size, score):
    """Borders reflect, down to a single pixel, and strong edges saturate."""
    grey = noise(size)
    np.testing.assert_array_equal(slow_map(grey, score), SCORES[score](grey))


def test_strong_edges_saturate():
    """One white pixel on black reaches 8 and 4 times 255, and counts 255."""
    grey = np.zeros((5, 5), np.uint8)
    grey[2, 2] = 255
    actual, energy = edge_map(grey), edge_energy(grey)
    assert (np.uint8, 255, 255, 0) == (actual.dtype, actual[2, 2], actual[1, 1], actual[2, 1])
    assert (np.uint16, 255**2, 0, 255**2) == (energy.dtype, energy[2, 2], energy[1, 1], energy[2, 1])


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("patch", [1, 8, 13, 32, 64])
def test_patch_scores_are_the_means_of_the_patches(score, patch):
    """Also where the patches at the right and bottom are cut."""
    grid = Grid(*PHOTO.shape[:2], patch)
    actual = patch_scores(PHOTO, grid, score)
    assert grid.shape == actual.shape
    np.testing.assert_allclose(actual, slow_scores(PHOTO, grid, score), rtol=1e-12)


@few
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 45), st.sampled_from(sorted(SCORES)))
def test_patch_scores_of_any_size_are_the_means(height, width, patch, score):
    """Any picture and any patch, also one larger than the picture."""
    image, grid = noise((height, width)), Grid(height, width, patch)
    expected = slow_scores(image, grid, score)
    np.testing.assert_allclose(patch_scores(image, grid, score), expected, rtol=1e-12)


@pytest.mark.parametrize("score", SCORES)
def test_overlapping_windows_have_their_own_means(score):
    """Windows need not lie on a grid."""
    image = noise((20, 30))
    values = slow_map(image, score)
    rows, cols = (np.array([0, 3, 4]), np.array([8, 11, 20])), (np.array([0, 5]), np.array([30, 6]))
    expected = [
        [np.mean(values[top:end, left:right]) for left, right in zip(*cols, strict=True)]
        for top, end in zip(*rows, strict=True)
    ]
    np.testing.assert_allclose(window_scores(image, rows, cols, score), expected, rtol=1e-12)


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("level", [0, 93, 255])
def test_a_flat_picture_scores_nothing(level, size, score):
    """No detail anywhere, the borders included."""
    grid = Grid(*size, 4)
    np.testing.assert_array_equal(np.zeros(grid.shape), patch_scores(np.full(size, level, np.uint8), grid, score))


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_grey_and_rgb_of_equal_channels_agree(size, score):
    """A grey picture may be given either way."""
    grey, grid = noise(size), Grid(*size, 4)
    expected = patch_scores(grey, grid, score)
    np.testing.assert_array_equal(expected, patch_scores(np.dstack([grey] * 3), grid, score))


def test_views_score_like_copies():
    """Crops, mirrored and strided views need not be contiguous."""
    for view in (PHOTO[::-1, ::2], PHOTO[3:, 5:], PHOTO.transpose(1, 0, 2)):
        np.testing.assert_array_equal(edge_map(np.ascontiguousarray(view)), edge_map(view))
