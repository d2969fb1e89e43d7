"""What lies between any picture and an engine that takes 8-bit RGB: dtypes, grey and alpha."""

import cv2
import numpy as np

from .errors import UsageError
from .imaging.io import rgb8
from .stitch import CONTEXT, interpolate


def check_image(image: np.ndarray) -> np.ndarray:
    """`image` itself when it is a picture that can be upscaled, else UsageError."""
    if not isinstance(image, np.ndarray) or image.dtype not in (np.uint8, np.uint16):
        kind = image.dtype if isinstance(image, np.ndarray) else type(image).__name__
        raise UsageError(f"a picture must be a uint8 or uint16 array, not {kind}")
    if image.ndim not in (2, 3) or image.size == 0 or (image.ndim == 3 and image.shape[2] not in (2, 3, 4)):
        raise UsageError(f"a picture must be (H, W) or (H, W, 2 to 4) and not empty, not {image.shape}")
    return image


def split_alpha(image: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Colours (H, W, 3) or grey (H, W), and alpha (H, W) or None, of a picture that `check_image` takes."""
    if image.ndim == 2 or image.shape[2] == 3:
        return np.ascontiguousarray(image), None
    colour = image[..., 0] if image.shape[2] == 2 else image[..., :3]
    return np.ascontiguousarray(colour), np.ascontiguousarray(image[..., -1])


def without_hidden_colours(image: np.ndarray) -> np.ndarray:
    """A picture that `check_image` takes, in which the colours of transparent pixels go on from those that are seen.

    So they do not bleed into edges when they are upscaled or interpolated. A pixel keeps its colour when it is at least
    half as opaque as its neighbours; the less it is, the more it takes of theirs, weighted by alpha (premultiplied),
    from as far away as nothing is seen nearer by: pull-push interpolation (Gortler et al., "The Lumigraph", 1996).
    Alpha stays; where it is the same everywhere, so does everything.
    """
    colour, alpha = split_alpha(image)
    if alpha is None or (alpha == alpha.flat[0]).all():
        return image
    weight = alpha.astype(np.float32) / np.iinfo(alpha.dtype).max
    planes = np.atleast_3d(colour).astype(np.float32)
    most = cv2.dilate(weight, np.ones((3, 3), np.uint8))
    own = np.minimum(np.divide(2 * weight, most, out=np.zeros_like(weight), where=most > 0), 1)[..., None]
    filled = own * planes + (1 - own) * _pull_push(planes * weight[..., None], weight)
    levels = np.rint(filled).clip(0, np.iinfo(image.dtype).max).astype(image.dtype)
    return np.dstack([levels, alpha])


def _pull_push(weighted: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Colours for every pixel from `weighted` ones (H, W, C), float32, with their `weight` (H, W): where it is little,
    from half the resolution, and so on."""
    height, width = weight.shape
    near = cv2.GaussianBlur(np.dstack([weighted, weight]), (3, 3), 0, borderType=cv2.BORDER_REPLICATE)
    total = near[..., -1:]
    colours = near[..., :-1] / np.maximum(total, 1e-6)
    if max(height, width) == 1:
        return colours
    half = ((width + 1) // 2, (height + 1) // 2)
    coarse = cv2.resize(near, half, interpolation=cv2.INTER_AREA).reshape(half[1], half[0], -1)
    far = _pull_push(np.ascontiguousarray(coarse[..., :-1]), np.ascontiguousarray(coarse[..., -1]))
    far = cv2.resize(far, (width, height), interpolation=cv2.INTER_LINEAR).reshape(colours.shape)
    known = np.minimum(total * 16, 1)  # what a sixteenth of the light says counts fully
    return known * colours + (1 - known) * far


def engine_picture(image: np.ndarray) -> np.ndarray:
    """What an engine sees of a picture that `check_image` takes: uint8 RGB (H, W, 3)."""
    return rgb8(split_alpha(image)[0])


def planning_picture(image: np.ndarray) -> np.ndarray:
    """What plans are made of, for a picture that `check_image` takes: what an engine is to see of it."""
    return engine_picture(without_hidden_colours(image))


def restore(sr: np.ndarray, image: np.ndarray, scale: int, first: int = 0) -> np.ndarray:
    """The upscaled picture, or some rows of it, with dtype and channels of its LR picture.

    Args:
        sr: rows of the upscaled `engine_picture(image)`, uint8 RGB (rows, scale * W, 3).
        image: the whole LR picture, as `without_hidden_colours` gives it. Its alpha is interpolated; a 16-bit
            picture is interpolated in 16 bit, and the 8-bit difference of `sr` from interpolation is added.
        scale: integer factor.
        first: number of the first row of `sr`.
    """
    above = max(0, first // scale - CONTEXT)
    below = -(-(first + len(sr)) // scale) + CONTEXT
    rows = slice(first - scale * above, first - scale * above + len(sr))
    colour, alpha = split_alpha(image[above:below])
    if colour.ndim == 2:
        sr = cv2.cvtColor(sr, cv2.COLOR_RGB2GRAY)
    if colour.dtype == np.uint16:
        rgb = rgb8(colour)
        narrow = rgb if colour.ndim == 3 else np.ascontiguousarray(rgb[..., 0])
        difference = sr.astype(np.int32) - interpolate(narrow, scale)[rows]
        sr = np.clip(interpolate(colour, scale)[rows] + 257 * difference, 0, 65535).astype(np.uint16)
    return sr if alpha is None else np.dstack([sr, interpolate(alpha, scale)[rows]])
