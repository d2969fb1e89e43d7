"""PSNR and SSIM by the protocol of the literature: `border` pixels cropped, Y of BT.601 or RGB."""

import cv2
import numpy as np

_BT601 = np.array([65.481, 128.553, 24.966]) / 255


def luma(image: np.ndarray) -> np.ndarray:
    """Y of BT.601 (studio swing, 16..235) of a uint8 picture (H, W, 3) RGB or (H, W) grey, as float64."""
    if image.ndim == 2:
        return image.astype(np.float64) * _BT601.sum() + 16
    return image.astype(np.float64) @ _BT601 + 16


def crop_border(image: np.ndarray, border: int) -> np.ndarray:
    """`image` without `border` pixels on every side; pictures too small for that stay whole."""
    height, width = image.shape[:2]
    if border == 0 or min(height, width) <= 2 * border:
        return image
    return image[border : height - border, border : width - border]


def squared_error(first: np.ndarray, second: np.ndarray, border: int = 0) -> tuple[float, int]:
    """Total squared error and number of values of two pictures of one shape, border cropped."""
    if first.shape != second.shape:
        raise ValueError(f"pictures differ in shape: {first.shape} and {second.shape}")
    first, second = crop_border(first, border), crop_border(second, border)
    difference = first.astype(np.float64) - second
    return float(np.square(difference).sum()), difference.size


def psnr_of_mse(mse: float, peak: float = 255.0) -> float:
    """PSNR in dB of a mean squared error; infinite for zero."""
    return float("inf") if mse <= 0 else float(10 * np.log10(peak**2 / mse))


def psnr(first: np.ndarray, second: np.ndarray, border: int = 0) -> float:
    """PSNR in dB over all channels of two uint8 pictures of one shape."""
    total, count = squared_error(first, second, border)
    return psnr_of_mse(total / count)


def psnr_y(first: np.ndarray, second: np.ndarray, border: int = 0) -> float:
    """PSNR in dB on Y of BT.601, peak 255."""
    return psnr(luma(first), luma(second), border)


def ssim(first: np.ndarray, second: np.ndarray, border: int = 0) -> float:
    """SSIM of two single-channel pictures (H, W), range 0..255.

    Wang et al., "Image quality assessment", 2004: 11x11 Gaussian window of sigma 1.5, K1 = 0.01,
    K2 = 0.03, averaged where the window fits. Pictures under 11 pixels raise ValueError.
    """
    x, y = (crop_border(image, border).astype(np.float64) for image in (first, second))
    if x.shape != y.shape or x.ndim != 2 or min(x.shape) < 11:
        raise ValueError(f"SSIM needs two grey pictures of one shape, 11 pixels or more: {x.shape} and {y.shape}")

    def mean(image: np.ndarray) -> np.ndarray:
        blurred = cv2.GaussianBlur(image, (11, 11), 1.5, borderType=cv2.BORDER_REFLECT)
        return blurred[5:-5, 5:-5]

    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mean_x, mean_y = mean(x), mean(y)
    variance_x = mean(x * x) - mean_x**2
    variance_y = mean(y * y) - mean_y**2
    covariance = mean(x * y) - mean_x * mean_y
    similarity = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    similarity /= (mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2)
    return float(similarity.mean())


def ssim_y(first: np.ndarray, second: np.ndarray, border: int = 0) -> float:
    """SSIM on Y of BT.601 of two pictures."""
    return ssim(luma(first), luma(second), border)
