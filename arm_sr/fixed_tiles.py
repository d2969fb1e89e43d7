"""Whole pictures through an engine that takes tiles of one shape only, such as a net compiled for a TPU.

The strategies are those of the deployments of ESPCN (Shi et al., 2016) on such devices:

    plain     tiles side by side
    mean      neighbours overlap and are averaged
    gaussian  neighbours overlap; a tile counts less away from its centre (nnU-Net: Isensee et al., 2021)
    crop      neighbours overlap by twice the halo, and the halo is cut off

Tiles never leave the picture: the last of a row or column is moved back until it ends at the border, so that the
net pads there as in one pass. Only a picture with a side shorter than the tile's is padded, by its mirror image, and
the result is cropped: of what was tried (mirror image with and without the border itself, its last row repeated, black)
nothing came as near to one pass.
"""

from collections.abc import Callable

import numpy as np

from .errors import BackendError, UsageError

STRATEGIES = ("plain", "mean", "gaussian", "crop")
BLENDING = ("mean", "gaussian")
"""Those that mix tiles where they overlap; with the others every pixel comes from one tile."""
BATCH = 8


def tiles_along(length: np.ndarray | int, tile: np.ndarray | int, overlap: int = 0) -> np.ndarray:
    """How many tiles cover sides of `length` pixels when neighbours overlap by at least `overlap` < `tile`."""
    return np.maximum(-((tile - np.asarray(length)) // (tile - overlap)), 0) + 1


def origins(length: int, tile: int, overlap: int = 0) -> np.ndarray:
    """First pixel of every tile along a side of `length` >= `tile` pixels: (tiles,), from 0 to `length` - `tile`."""
    return np.minimum(np.arange(int(tiles_along(length, tile, overlap))) * (tile - overlap), length - tile)


def shares(starts: np.ndarray, tile: int, scale: int, strategy: str) -> np.ndarray:
    """How much each tile counts in the pixels of the output that it covers, along one side.

    Args:
        starts: as from `origins`, in LR pixels: (tiles,).
        tile: side of a tile in LR pixels.
        scale: upscaling factor.
        strategy: one of `STRATEGIES`.

    Returns:
        float32 from 0 to 1, (tiles, scale * tile); the shares that the tiles have in one pixel sum to 1.
        0 or 1 for `plain`, where a pixel belongs to the first tile that covers it, and for `crop`, where tiles meet
        in the middle of their overlap. `gaussian` has a deviation of an eighth of the tile, as in nnU-Net.
    """
    pixels = scale * starts[:, None] + np.arange(scale * tile)
    if strategy in BLENDING:
        place = (np.arange(scale * tile) + 0.5) / (scale * tile) - 0.5
        weights = np.ones_like(place) if strategy == "mean" else np.exp(-0.5 * (8 * place) ** 2)
        weights = np.broadcast_to(weights, pixels.shape)
        return (weights / np.bincount(pixels.ravel(), weights.ravel())[pixels]).astype(np.float32)
    ends = starts[:-1] + tile
    borders = ends if strategy == "plain" else (ends + starts[1:]) // 2
    owners = np.searchsorted(scale * borders, pixels, side="right")
    return (owners == np.arange(len(starts))[:, None]).astype(np.float32)


def upscale_in_tiles(image: np.ndarray, run: Callable[[np.ndarray], np.ndarray], tile: tuple[int, int], scale: int,
                     strategy: str = "crop", overlap: int = 0, *, batch: int = BATCH,
                     fill: bool = False) -> np.ndarray:  # fmt: skip
    """Upscale a picture of any size from 1x1 up, tile by tile.

    With `crop` and an `overlap` of twice the receptive radius the result is that of one pass, but for rounding in
    the engine; where a side is shorter than the tile's, only as far from the padding as that radius.

    Args:
        image: uint8 RGB, (H, W, 3).
        run: the engine: uint8 (N, tile height, tile width, 3) to uint8 (N, scale * height, scale * width, 3).
        tile: height and width of a tile in LR pixels.
        scale: upscaling factor of the engine.
        strategy: one of `STRATEGIES`.
        overlap: LR pixels that neighbours share at least; 0 for `plain`, twice the halo for `crop`.
        batch: tiles in one call at most.
        fill: for engines with a fixed batch: complete the last one by repeating its last tile.

    Returns:
        uint8 RGB, (scale * H, scale * W, 3). Blending takes four times its memory.

    Raises:
        UsageError: an unknown strategy, or a picture, tile, overlap, scale or batch out of range.
        BackendError: the engine returned another shape.
    """
    _check(image, tile, scale, strategy, overlap, batch)
    (height, width), (tall, wide) = image.shape[:2], tile
    image = np.pad(image, ((0, max(tall - height, 0)), (0, max(wide - width, 0)), (0, 0)), mode="symmetric")
    tops, lefts = origins(image.shape[0], tall, overlap), origins(image.shape[1], wide, overlap)
    rows, columns = shares(tops, tall, scale, strategy), shares(lefts, wide, scale, strategy)
    blend = strategy in BLENDING
    sr = np.zeros((scale * image.shape[0], scale * image.shape[1], 3), np.float32 if blend else np.uint8)
    for first in range(0, len(tops) * len(lefts), batch):
        numbers = np.arange(first, min(first + batch, len(tops) * len(lefts)))
        places = list(zip(*np.divmod(numbers, len(lefts)), strict=True))
        tiles = [image[tops[i] : tops[i] + tall, lefts[j] : lefts[j] + wide] for i, j in places]
        full = np.stack(tiles + tiles[-1:] * (batch - len(tiles) if fill else 0))
        results = run(full)
        if results.shape != (len(full), scale * tall, scale * wide, 3):
            raise BackendError(f"the engine made {results.shape} of {full.shape}; check the scale of {scale}")
        for result, (i, j) in zip(results, places, strict=False):  # without the repeated ones
            top, left = scale * tops[i], scale * lefts[j]
            window = sr[top : top + scale * tall, left : left + scale * wide]
            share = rows[i][:, None, None] * columns[j][:, None]
            if blend:
                window += share * result
            else:
                np.copyto(window, result, where=share > 0)
    sr = np.ascontiguousarray(sr[: scale * height, : scale * width])
    return np.rint(sr, out=sr).astype(np.uint8) if blend else sr


def _check(image: np.ndarray, tile: tuple[int, int], scale: int, strategy: str, overlap: int, batch: int) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise UsageError(f"image must be uint8 (H, W, 3) and not empty, not {image.dtype} {image.shape}")
    if strategy not in STRATEGIES:
        raise UsageError(f"unknown strategy '{strategy}'; there are {', '.join(STRATEGIES)}")
    if strategy == "plain" and overlap:
        raise UsageError(f"overlap must be 0 for the strategy plain, not {overlap}; take mean, gaussian or crop")
    if overlap < 0 or min(tile) <= overlap:
        raise UsageError(f"overlap must be 0 or more and smaller than the tile of {tile}, not {overlap}")
    if scale < 1 or batch < 1:
        raise UsageError(f"scale and batch must be 1 or more, not {scale} and {batch}")
