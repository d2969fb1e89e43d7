"""NIQE against its published definition, written plainly, and what a quality measure must do."""

import json
from math import gamma
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest
import scipy.optimize
import scipy.stats
import skimage.data
from strategies import run_python

from arm_sr.errors import ArtefactError
from arm_sr.imaging import niqe as module
from arm_sr.imaging.niqe import PristineModel, block_features, fit_aggd, niqe, normalise, sharp_features, shipped_model
from arm_sr.imaging.resample import shrink

PHOTOS = {
    "astronaut": skimage.data.astronaut(),
    "coffee": np.ascontiguousarray(skimage.data.coffee()[:384, :576]),
    "camera": skimage.data.camera(),
}


@pytest.fixture(params=sorted(PHOTOS))
def picture(request) -> np.ndarray:
    """Two in colour, one in grey."""
    return PHOTOS[request.param]


def noisy(picture: np.ndarray, sigma: float) -> np.ndarray:
    """`picture` with Gaussian noise of known seed."""
    noise = np.random.default_rng(1).normal(0, sigma, picture.shape)
    return np.clip(np.rint(picture + noise), 0, 255).astype(np.uint8)


def plain_moments(samples: np.ndarray) -> tuple[float, float, float]:
    """Shape, left and right scale of one set of samples: the moment equation solved by bisection."""
    left = np.sqrt(np.mean(samples[samples < 0] ** 2))
    right = np.sqrt(np.mean(samples[samples > 0] ** 2))
    skew = left / right
    ratio = np.mean(np.abs(samples)) ** 2 / np.mean(samples**2) * (skew**3 + 1) * (skew + 1) / (skew**2 + 1) ** 2
    shape = scipy.optimize.brentq(lambda a: gamma(2 / a) ** 2 / gamma(1 / a) / gamma(3 / a) - ratio, 0.2, 10)
    scale = np.sqrt(gamma(1 / shape) / gamma(3 / shape))
    return shape, left * scale, right * scale


def plain_mscn(y: np.ndarray) -> np.ndarray:
    """Equations 1 to 3, pixel by pixel."""
    at = np.arange(-3, 4)
    window = np.exp(-(at[:, None] ** 2 + at**2) / (2 * (7 / 6) ** 2))
    window /= window.sum()
    padded, out = np.pad(y, 3, mode="edge"), np.empty_like(y)
    for row, column in np.ndindex(*y.shape):
        around = padded[row : row + 7, column : column + 7]
        mean = (window * around).sum()
        deviation = np.sqrt((window * (around - mean) ** 2).sum())
        difference = y[row, column] - mean
        out[row, column] = difference / (deviation + 1) if abs(difference) > 1e-4 else 0  # rounding has no sign
    return out


def plain_features(block: np.ndarray) -> list[float]:
    """The 18 features of one block at one scale."""
    shape, left, right = plain_moments(block)
    features = [shape, (left + right) / 2]
    for down, across in ((0, 1), (1, 0), (1, 1), (1, -1)):
        side = len(block)
        products = np.array([
            block[row, column] * block[row + down, column + across]
            for row, column in np.ndindex(side, side)
            if row + down < side and 0 <= column + across < side
        ])  # fmt: skip
        shape, left, right = plain_moments(products)
        features += [shape, (right - left) * gamma(2 / shape) / gamma(1 / shape), left, right]
    return features


@pytest.mark.parametrize("shape", [0.5, 1.0, 2.0, 4.0])
@pytest.mark.parametrize("scale", [0.3, 2.0])
def test_parameters_of_samples_are_found(shape: float, scale: float) -> None:
    """Symmetric: SciPy's generalised Gaussian."""
    samples = scipy.stats.gennorm.rvs(shape, scale=scale, size=100_000, random_state=3)
    found = np.array(fit_aggd(samples[None])).ravel()
    assert [shape, scale, scale] == pytest.approx(found, rel=0.05)


@pytest.mark.parametrize("shape", [0.7, 1.0, 2.5])
@pytest.mark.parametrize(("left", "right"), [(1.0, 2.0), (0.6, 0.2)])
def test_parameters_of_asymmetric_samples_are_found(shape: float, left: float, right: float) -> None:
    """A side is as likely as it is wide; both sets of one call are fitted on their own."""
    size = 200_000
    sizes = np.abs(scipy.stats.gennorm.rvs(shape, size=size, random_state=5))
    is_left = np.random.default_rng(6).random(size) < left / (left + right)
    samples = np.where(is_left, -left * sizes, right * sizes)
    found = np.array(fit_aggd(np.stack([samples, -samples])))
    assert [shape, left, right] == pytest.approx(found[:, 0], rel=0.05)
    assert [shape, right, left] == pytest.approx(found[:, 1], rel=0.05)


def test_the_whole_is_the_published_definition() -> None:
    """Pixel by pixel and block by block: two scales, blocks that fit, mean and covariance, distance."""
    picture, block = PHOTOS["camera"][400:472, 300:410], 32
    y = np.rint(picture[:64, :96] * (65.481 + 128.553 + 24.966) / 255 + 16)
    rows = []
    scales = [(plain_mscn(y), block), (plain_mscn(shrink(y, 2).astype(float)), block // 2)]
    for top, left in np.ndindex(2, 3):
        cuts = [mscn[top * side : (top + 1) * side, left * side : (left + 1) * side] for mscn, side in scales]
        rows.append(plain_features(cuts[0]) + plain_features(cuts[1]))
    features = np.array(rows)
    root = np.random.default_rng(2).normal(size=(36, 36))
    model = PristineModel(np.linspace(0, 1, 36), root @ root.T + np.eye(36), {}, block)
    away = model.mean - features.mean(axis=0)
    expected = np.sqrt(away @ np.linalg.inv((model.covariance + np.cov(features.T)) / 2) @ away)
    assert expected == pytest.approx(niqe(picture, model=model), rel=1e-4)


def test_features_of_a_block_are_those_of_a_loop() -> None:
    """Coefficients and the 18 features, of a block of a photo."""
    y = PHOTOS["camera"][200:240, 200:240].astype(float)
    mscn, deviation = normalise(y)
    assert np.abs(plain_mscn(y) - mscn).max() < 1e-6
    assert np.all(deviation >= 0)
    assert plain_features(mscn) == pytest.approx(block_features(mscn[None])[0], abs=2e-4)


def test_distance_by_hand() -> None:
    """Two blocks away along one feature: mean 2, variance 2; with 1 of the model the mean variance is 1.5."""
    model = PristineModel(np.zeros(36), np.eye(36), {})
    features = np.zeros((2, 36))
    features[:, 7] = 1, 3
    assert 2 / np.sqrt(1.5) == pytest.approx(model.distance(features))


def test_damage_is_seen(picture: np.ndarray) -> None:
    """The more noise or blur the worse, and worst after bicubic interpolation."""
    assert sorted(figures := [niqe(noisy(picture, sigma)) for sigma in (0, 10, 20, 40)]) == figures
    blurred = [picture, *(cv2.GaussianBlur(picture, (0, 0), sigma) for sigma in (1, 2, 3))]
    assert sorted(figures := [niqe(image) for image in blurred]) == figures
    height, width = picture.shape[:2]
    small = cv2.resize(picture, (width // 4, height // 4), interpolation=cv2.INTER_AREA)
    interpolated = cv2.resize(small, (width // 4 * 4, height // 4 * 4), interpolation=cv2.INTER_CUBIC)
    assert niqe(picture) + 2 < niqe(interpolated)


def test_what_makes_no_difference(picture: np.ndarray) -> None:
    """Three equal channels, pixels beyond the last block, a cropped border; little: mirroring and brightness."""
    here = np.ascontiguousarray(picture[:384, :480])
    value = niqe(here)
    grey = here if here.ndim == 2 else here[..., 1]
    assert niqe(grey) == pytest.approx(niqe(np.dstack([grey] * 3)), abs=1e-9)
    assert value == niqe(np.pad(here, [(4, 4), (4, 4), (0, 0)][: here.ndim]), border=4)
    beyond = np.pad(here, [(0, 50), (0, 95), (0, 0)][: here.ndim], mode="edge")
    assert value == pytest.approx(niqe(beyond), abs=1e-9)
    assert value == pytest.approx(niqe(np.ascontiguousarray(here[:, ::-1])), rel=0.1)
    dark = here // 2 + 20
    assert niqe(dark) == pytest.approx(niqe(dark + 51), rel=0.02)


def test_flat_parts_do_not_count() -> None:
    """Blocks of one level have no statistics; the figure is that of the others."""
    photo = PHOTOS["coffee"]
    for level in (0, 131, 255):
        beside = np.pad(photo, ((0, 192), (0, 192), (0, 0)), constant_values=level)
        assert niqe(photo) == pytest.approx(niqe(beside), rel=0.03)


@pytest.mark.parametrize(("height", "width", "border"), [(95, 300, 0), (96, 191, 0), (199, 99, 4), (20, 20, 0)])
def test_too_small_pictures_are_refused(height: int, width: int, border: int) -> None:
    """One block has no covariance."""
    with pytest.raises(ValueError, match="two blocks of 96x96"):
        niqe(PHOTOS["camera"][:height, :width], border)
    assert niqe(PHOTOS["camera"][: 192 + 2 * border, : 96 + 2 * border], border) > 0


def test_flat_pictures_are_refused() -> None:
    """They have no statistics."""
    with pytest.raises(ValueError, match="not flat"):
        niqe(np.full((300, 300, 3), 128, np.uint8))


def test_the_pristine_model_takes_sharp_blocks() -> None:
    """Of a picture whose left half is out of focus those of the right half."""
    texture = np.random.default_rng(4).integers(60, 200, (192, 384), dtype=np.uint8)
    texture[:, :192] = cv2.GaussianBlur(texture[:, :192], (0, 0), 2)
    right = np.ascontiguousarray(texture[:, 192:])
    assert (4, 36) == sharp_features(texture).shape
    assert np.abs(sharp_features(right) - sharp_features(texture)).max() < 0.05
    assert (0, 36) == sharp_features(texture[:90]).shape
    assert (0, 36) == sharp_features(np.zeros((200, 200, 3), np.uint8)).shape


def test_a_model_is_fitted_saved_and_used(tmp_path: Path) -> None:
    """By the tool: mean and covariance of all blocks; pictures that are too small are counted."""
    folder = tmp_path / "photos"
    folder.mkdir()
    rng, features = np.random.default_rng(8), []
    for number, size in enumerate([(480, 480), (384, 480, 3), (60, 300)]):
        texture = rng.integers(40, 220, size, dtype=np.uint8)
        PIL.Image.fromarray(texture).save(folder / f"{number}.png")
        features.append(sharp_features(texture))
    blocks = np.concatenate(features)
    done = run_python("tools/fit_niqe.py", "--data", folder, "-o", tmp_path / "model.json")
    assert (0, f"{tmp_path / 'model.json'}: 2 pictures, 1 left out, 45 blocks\n") == (done.returncode, done.stdout)
    model = PristineModel.load(tmp_path / "model.json")
    assert blocks.mean(axis=0) == pytest.approx(model.mean, rel=1e-8)
    assert np.cov(blocks.T).ravel() == pytest.approx(model.covariance.ravel(), rel=1e-8)
    assert (2, 1, 45, 96) == (*(model.data[name] for name in ("pictures", "left_out", "blocks")), model.block)
    assert niqe(noisy(np.full((300, 300), 128), 40), model=model) < niqe(PHOTOS["camera"], model=model)
    (folder / "0.png").unlink()
    done = run_python("tools/fit_niqe.py", "--data", folder, "-o", tmp_path / "other.json")
    assert 2 == done.returncode
    assert "20 blocks are too few" in done.stderr
    assert not (tmp_path / "other.json").exists()


def test_the_shipped_model_describes_itself() -> None:
    """How many photos and blocks, and from where."""
    model = shipped_model()
    assert 96 == model.block
    assert model.data["blocks"] > 1000
    assert model.data["pictures"] > 100
    assert all(source["licence"] for source in model.data["sources"])
    file = json.loads(Path(module.__file__).with_name("niqe.json").read_text())
    assert {"mean", "covariance", "data", "block", "schema"} == set(file)


@pytest.mark.parametrize("change", [
    {"schema": 2}, {"block": 95}, {"mean": [1.0] * 35}, {"covariance": [[1.0] * 36] * 36}, {"mean": None}, {"more": 1},
    {"covariance": [[float("nan")] * 36] * 36},
])  # fmt: skip
def test_damaged_models_are_refused(tmp_path: Path, change: dict[str, object]) -> None:
    """One sentence with the file's name."""
    PristineModel(np.zeros(36), np.eye(36), {}).save(tmp_path / "m.json")
    whole = json.loads((tmp_path / "m.json").read_text())
    (tmp_path / "m.json").write_text(json.dumps(whole | change))
    with pytest.raises(ArtefactError, match=r"m\.json.*fit_niqe"):
        PristineModel.load(tmp_path / "m.json")
    with pytest.raises(ArtefactError, match=r"none\.json"):
        PristineModel.load(tmp_path / "none.json")
