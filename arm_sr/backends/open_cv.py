"""OpenCV's own engine: fp32 by Winograd's convolutions (Lavin and Gray, "Fast algorithms for convolutional neural
networks", CVPR 2016), which take a fifth of the multiplications. Where a processor has no units for narrower numbers
little is faster.

They want what fits into the caches, so pictures are cut into parts, and every thread has parts and a network of its
own.
"""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise, product

import cv2
import numpy as np

from ..errors import BackendError
from ..models import ModelCard

SIDE = 120
"""LR pixels along a side of a part at most, context included; those of twice as many take twice as long a pixel."""
CONTEXT = 5
"""LR pixels around a part that are computed and cropped."""
MOST_THREADS = 8
"""Every one of them has its own copy of the weights."""

Part = tuple[np.ndarray, np.ndarray, int, int]
"""An LR picture with context, where its upscaled core goes, and how many LR pixels of context lie above and left."""


class OpenCv:
    """A network a sub-net and thread, made on first use."""

    name = "opencv"
    version: str = cv2.__version__
    precision = "fp32"

    def __init__(self, card: ModelCard, threads: int) -> None:
        self._card, self._threads = card, min(threads, MOST_THREADS)
        self.model_sha256 = card.sha256
        self._networks: dict[str, list[cv2.dnn.Net]] = {}
        self._pool, self._lock = ThreadPoolExecutor(self._threads), threading.Lock()

    def load(self, branch: str) -> None:
        """See `Backend.load`; raises ArtefactError for a damaged file, BackendError for an unusable one."""
        if branch in self._networks:
            return
        file = self._card.planes_file(branch)
        # From 5.0 on there are two engines. The newer one has no Winograd convolutions, and is taken in any case for a
        # model that is given as bytes.
        classic = [cv2.dnn.ENGINE_CLASSIC] if hasattr(cv2.dnn, "ENGINE_CLASSIC") else []
        try:
            networks = [cv2.dnn.readNetFromONNX(str(file), *classic) for _ in range(self._threads)]
        except cv2.error as error:
            raise BackendError(f"{file}: {error.err}") from error
        self._networks[branch] = networks

    def run(self, branch: str, batch: np.ndarray) -> np.ndarray:
        """See `Backend.run`."""
        self.load(branch)
        scale = self._card.scale
        count, height, width, channels = batch.shape
        result = np.empty((count, scale * height, scale * width, channels), np.uint8)
        each = -(-self._threads // count)
        parts = [part for pair in zip(batch, result, strict=True) for part in _parts(*pair, scale, each)]

        def work(number: int) -> None:
            network = self._networks[branch][number]
            for lr, target, above, before in parts[number :: self._threads]:
                _arrange(_planes(network, lr), target, scale, above, before)

        try:
            with self._lock, _one_thread():  # a network is for one at a time
                list(self._pool.map(work, range(min(self._threads, len(parts)))))
        except cv2.error as error:
            raise BackendError(f"opencv failed on a batch of {batch.shape}: {error.err}") from error
        return result

    def close(self) -> None:
        """See `Backend.close`."""
        self._networks.clear()
        self._pool.shutdown()
        self._pool = ThreadPoolExecutor(self._threads)  # without a thread until it is needed again


def _parts(lr: np.ndarray, sr: np.ndarray, scale: int, least: int) -> Iterator[Part]:
    """The parts of a picture, about equally large: `least` of them, if they do not become too small."""
    cuts = [-(-side // (SIDE - 2 * CONTEXT)) if side > SIDE else 1 for side in lr.shape[:2]]
    while cuts[0] * cuts[1] < least:
        sides = [side / count for side, count in zip(lr.shape, cuts, strict=False)]
        if max(sides) < 4 * CONTEXT:
            break
        cuts[sides.index(max(sides))] += 1
    borders = [np.linspace(0, side, count + 1).astype(int) for side, count in zip(lr.shape, cuts, strict=False)]
    for (top, bottom), (left, right) in product(*map(pairwise, borders)):
        above, before = min(top, CONTEXT), min(left, CONTEXT)
        around = lr[top - above : bottom + CONTEXT, left - before : right + CONTEXT]
        yield around, sr[scale * top : scale * bottom, scale * left : scale * right], above, before


def _planes(network: cv2.dnn.Net, lr: np.ndarray) -> np.ndarray:
    """The sub-pixels of an LR picture (H, W, 3): uint8 (scale * scale * 3, H, W)."""
    network.setInput(cv2.dnn.blobFromImage(lr, 1 / 255))
    planes = network.forward()[0]
    flat = planes.reshape(-1, planes.shape[2])
    eight_bit = cv2.multiply(flat, 255.0, dtype=cv2.CV_8U)  # type: ignore[call-overload]  # the stubs know no numbers
    return np.asarray(eight_bit).reshape(planes.shape)


def _arrange(planes: np.ndarray, target: np.ndarray, scale: int, above: int, before: int) -> None:
    """Put sub-pixels (scale * scale * 3, H, W), row by row, into their places in `target` (scale * h, scale * w, 3),
    which begins at the LR pixel (above, before)."""
    height, width = target.shape[0] // scale, target.shape[1] // scale
    for row, mine in enumerate(np.split(planes, scale)):
        pixels = cv2.merge(list(mine))[above : above + height, before : before + width]
        target[row::scale] = pixels.reshape(height, -1, 3)


@contextmanager
def _one_thread() -> Iterator[None]:
    """OpenCV with the thread that calls it alone, which is a setting of the whole process."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def open_backend(card: ModelCard, precision: str, threads: int) -> OpenCv:
    """OpenCV for `card`."""
    return OpenCv(card, threads)
