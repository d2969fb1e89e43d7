"""NIQE: how far the statistics of a picture are from those of good photographs, without a ground truth.

Mittal, Soundararajan, Bovik, "Making a 'Completely Blind' Image Quality Analyzer", IEEE Signal Processing Letters,
2013. Lower is better. Figures of different pristine models cannot be compared: the one that comes with this package
(`niqe.json`, made by tools/fit_niqe.py) is not the authors' own.
"""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from scipy.special import gamma

from ..atomic import write_bytes
from ..errors import ArtefactError
from ..json_text import parse_json
from .metrics import crop_border, luma
from .resample import shrink

SCHEMA = 1
BLOCK = 96
"""Side of a block in pixels."""
FEATURES = 36
"""Of a block: 18 at either of two scales."""
SHARP = 0.75
"""The pristine model takes the blocks whose sharpness is over this share of the picture's sharpest one."""
ROUNDING = 1e-4
"""Levels that the arithmetic of floats may leave between a pixel and the mean of equal ones: counted as none."""

_SHAPES = np.arange(0.2, 10, 0.001)
_RATIOS = gamma(2 / _SHAPES) ** 2 / (gamma(1 / _SHAPES) * gamma(3 / _SHAPES))  # ascending


@dataclass(frozen=True)
class PristineModel:
    """Multivariate Gaussian of the features of sharp blocks of good photographs."""

    mean: np.ndarray
    """(36,)"""
    covariance: np.ndarray
    """(36, 36), positive definite."""
    data: dict[str, Any]
    """Number of pictures, of those left out as too small or flat, and of blocks; sources and licences."""
    block: int = BLOCK
    """Side of a block in pixels."""
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        if self.schema != SCHEMA:
            raise ValueError(f"schema {self.schema}, this version reads {SCHEMA}")
        if not isinstance(self.block, int) or self.block < 8 or self.block % 2:
            raise ValueError("block must be an even number from 8 on")
        if self.mean.shape != (FEATURES,) or self.covariance.shape != (FEATURES, FEATURES):
            raise ValueError(f"mean must be {FEATURES} numbers and covariance {FEATURES} rows of them")
        if not np.all(np.isfinite(self.mean)) or not np.all(np.isfinite(self.covariance)):
            raise ValueError("mean and covariance must be finite")
        if np.any(self.covariance != self.covariance.T) or np.linalg.eigvalsh(self.covariance)[0] <= 0:
            raise ValueError("covariance must be symmetric and positive definite; more blocks are needed")

    @classmethod
    def fit(cls, features: Sequence[np.ndarray], data: dict[str, Any]) -> "PristineModel":
        """The model of blocks of several pictures, see `sharp_features`; ValueError when they are too few."""
        blocks = np.concatenate(features)
        if len(blocks) <= FEATURES:
            raise ValueError(f"{len(blocks)} blocks are too few for a covariance of {FEATURES} features")
        return cls(blocks.mean(axis=0), np.cov(blocks, rowvar=False), data | {"blocks": len(blocks)})

    def distance(self, features: np.ndarray) -> float:
        """From the blocks of one picture, (blocks, 36), two or more: equation 10 of the paper."""
        away = features.mean(axis=0) - self.mean
        covariance = (self.covariance + np.cov(features, rowvar=False)) / 2
        return float(np.sqrt(away @ np.linalg.solve(covariance, away)))

    def save(self, path: Path) -> None:
        """Write the model as JSON in one step."""
        data = dataclasses.asdict(self)
        for name in ("mean", "covariance"):
            data[name] = np.vectorize(lambda value: float(f"{value:.9g}"))(data[name]).tolist()
        write_bytes(path, (json.dumps(data, separators=(",", ":")) + "\n").encode())

    @classmethod
    def load(cls, path: Path) -> "PristineModel":
        """Read a model; ArtefactError names the file and what is wrong."""
        try:
            data = parse_json(Path(path).read_text(encoding="utf-8"))
            for name in ("mean", "covariance"):
                data[name] = np.array(data[name], dtype=np.float64)
            return cls(**data)
        except OSError as error:
            raise ArtefactError(f"{path}: {error.strerror or error}; fit one with tools/fit_niqe.py") from error
        except KeyError as error:
            raise ArtefactError(f"{path}: field {error} is missing; fit it again with tools/fit_niqe.py") from error
        except (ValueError, TypeError) as error:
            raise ArtefactError(
                f"{path}: not a pristine model of NIQE ({error}); fit it again with tools/fit_niqe.py"
            ) from error


@lru_cache(maxsize=1)
def shipped_model() -> PristineModel:
    """The pristine model that comes with the package."""
    return PristineModel.load(Path(__file__).with_name("niqe.json"))


def niqe(image: np.ndarray, border: int = 0, model: PristineModel | None = None) -> float:
    """NIQE of a picture, on Y of BT.601 (16..235) rounded to whole levels.

    Args:
        image: uint8, (H, W, 3) RGB or (H, W) grey.
        border: pixels that are cropped on every side first.
        model: what it is compared with (default: the shipped one).

    Raises:
        ValueError: fewer than two whole blocks, or fewer than two that are not flat: there is no covariance then.
    """
    model = model or shipped_model()
    image = crop_border(image, border)
    height, width = image.shape[:2]
    if (height // model.block) * (width // model.block) < 2:
        blocks = f"two blocks of {model.block}x{model.block} pixels"
        raise ValueError(f"NIQE needs {blocks} within the border, not {width}x{height} pixels")
    features, _ = _blocks(image, model.block)
    if len(features) < 2:
        raise ValueError("NIQE needs two blocks that are not flat")
    return model.distance(features)


def sharp_features(image: np.ndarray, block: int = BLOCK) -> np.ndarray:
    """Features of the blocks of a good photograph that are sharp enough for the pristine model (section 2.3).

    Sharpness is the mean local deviation. Returns (blocks, 36), none for a picture that is smaller than a block.
    """
    features, sharpness = _blocks(image, block)
    return features[sharpness > SHARP * sharpness.max(initial=0)]


def _blocks(image: np.ndarray, block: int) -> tuple[np.ndarray, np.ndarray]:
    """Features of the blocks, (blocks, 36), and the sharpness of each, (blocks,), without blocks that are flat or where
    all coefficients, or all products, have one sign."""
    height, width = (side - side % block for side in image.shape[:2])
    if not height or not width:
        return np.zeros((0, FEATURES)), np.zeros(0)
    y = np.rint(luma(image[:height, :width]))
    mscn, deviation = normalise(y)
    half_mscn, _ = normalise(shrink(y, 2).astype(np.float64))
    scales = (_cut(mscn, block), _cut(half_mscn, block // 2))
    features = np.concatenate([block_features(blocks) for blocks in scales], axis=1)
    known = np.isfinite(features).all(axis=1)
    return features[known], _cut(deviation, block).mean(axis=(1, 2))[known]


def normalise(y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean-subtracted contrast-normalised coefficients and local deviation (equations 1 to 3), of levels up to 255.

    The window is a 7x7 Gaussian of sigma 7/6; beyond the border the last pixel is repeated. float64, (H, W) both.
    """

    def local_mean(values: np.ndarray) -> np.ndarray:
        return cv2.GaussianBlur(values, (7, 7), 7 / 6, borderType=cv2.BORDER_REPLICATE)

    mean = local_mean(y)
    deviation = np.sqrt(np.maximum(local_mean(y * y) - mean * mean, 0))
    difference = y - mean
    difference[np.abs(difference) < ROUNDING] = 0
    return difference / (deviation + 1), deviation


def block_features(mscn: np.ndarray) -> np.ndarray:
    """The 18 features of blocks at one scale: (blocks, side, side) to (blocks, 18); NaN where undefined.

    Shape and scale of the coefficients, then shape, mean, left and right scale of the products of neighbours in four
    directions (equations 4 to 9): right, below, below right, below left, all within the block.
    """
    shape, left, right = fit_aggd(mscn)
    features = [shape, (left + right) / 2]
    pairs = (
        mscn[:, :, :-1] * mscn[:, :, 1:],
        mscn[:, :-1] * mscn[:, 1:],
        mscn[:, :-1, :-1] * mscn[:, 1:, 1:],
        mscn[:, :-1, 1:] * mscn[:, 1:, :-1],
    )
    for products in pairs:
        shape, left, right = fit_aggd(products)
        features += [shape, (right - left) * gamma(2 / shape) / gamma(1 / shape), left, right]
    return np.stack(features, axis=1)


def fit_aggd(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Asymmetric generalised Gaussians by matching moments (Lasmar, Stitou, Berthoumieu, 2009).

    Args:
        samples: (sets, ...), one fit for each set.

    Returns:
        Shape within 0.2..10, left and right scale, each (sets,). NaN where a set has no value on either side of 0.
    """
    samples = samples.reshape(len(samples), -1)

    def deviation(side: np.ndarray) -> np.ndarray:
        return np.sqrt(np.sum(samples * samples * side, axis=1) / np.sum(side, axis=1))

    with np.errstate(divide="ignore", invalid="ignore"):
        left, right = deviation(samples < 0), deviation(samples > 0)
        skew = left / right
        ratio = np.abs(samples).mean(axis=1) ** 2 / np.square(samples).mean(axis=1)
        ratio *= (skew**3 + 1) * (skew + 1) / (skew**2 + 1) ** 2
        shape = np.interp(ratio, _RATIOS, _SHAPES)
        scale = np.sqrt(gamma(1 / shape) / gamma(3 / shape))
    return shape, left * scale, right * scale


def _cut(plane: np.ndarray, block: int) -> np.ndarray:
    """(H, W) to (blocks, block, block); sides are multiples of `block`."""
    height, width = plane.shape
    return plane.reshape(height // block, block, width // block, block).swapaxes(1, 2).reshape(-1, block, block)
