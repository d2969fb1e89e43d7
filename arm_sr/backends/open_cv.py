"""OpenCV's own engine: fp32 by Winograd's convolutions (Lavin and Gray, "Fast algorithms for convolutional neural
networks", CVPR 2016), which take a fifth of the multiplications. Where a processor has no units for narrower numbers
little is faster.

They want what fits into the caches, so pictures are cut into parts; several parts are computed at once, of tiles and
sub-nets that differ too, each thread with networks of its own.
"""

import math
import os
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from functools import lru_cache
from itertools import pairwise, product
from queue import SimpleQueue
from typing import Any

import cv2
import numpy as np

from ..errors import BackendError
from ..models import ModelCard
from .base import Backend, Tile

SIDE = 120
"""LR pixels along a side of a part at most, context included; those of twice as many take twice as long a pixel."""
CONTEXT = 5
"""LR pixels around a part that are computed and cropped."""
SMALLEST = 2500
"""LR pixels of a part at least when there need not be so many: the context of smaller ones costs more than OpenCV's own
threads, which a part gets that runs alone, leave idle."""
ALONE = 2 / 3
"""A part runs alone that is more than so much of the work that is left: one thread would be at it when the others have
long done the rest. As found with two threads; with more a smaller share may be better."""
MOST_NETWORKS = 8
"""So many parts are computed at once at most; every network has its own copy of the weights."""

Part = tuple[np.ndarray, np.ndarray, int, int]
"""An LR picture with context, where its upscaled core goes, and how many LR pixels of context lie above and left."""

_RUNNING = threading.RLock()
"""Held while an engine runs: OpenCV's threads are a setting of the process. Who is given tiles one by one may use the
engine in between."""


def _before_fork() -> None:
    """A child must find no lock held, and no threads of OpenCV that stayed behind: it would wait for their end."""
    _RUNNING.acquire()
    count = cv2.getNumThreads()
    cv2.setNumThreads(1)  # ends them,
    cv2.setNumThreads(count)  # until they are used again


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_RUNNING.release, after_in_child=_RUNNING.release)


class OpenCv(Backend):
    """As many networks a sub-net as there are threads, made on first use."""

    name = "opencv"
    version: str = cv2.__version__
    precision = "fp32"

    def __init__(self, card: ModelCard, threads: int) -> None:
        self._card, self._threads, self._copies = card, threads, min(threads, MOST_NETWORKS)
        self.device, self.model_sha256 = f"{threads} threads", card.sha256
        self._networks: dict[str, list[cv2.dnn.Net]] = {}
        self._renew()

    def load(self, branch: str) -> None:
        """See `Backend.load`; raises ArtefactError for a damaged file, BackendError for an unusable one."""
        with _RUNNING:
            self._loaded(branch)

    def _loaded(self, branch: str) -> list[cv2.dnn.Net]:
        if branch not in self._networks:
            file = self._card.planes_file(branch)
            # From 5.0 on there are two engines. The newer one has no Winograd convolutions, and is taken in any case
            # for a model that is given as bytes.
            classic = [cv2.dnn.ENGINE_CLASSIC] if hasattr(cv2.dnn, "ENGINE_CLASSIC") else []
            path: Any = os.fsencode(file)  # as text it may hold what is no UTF-8, on which OpenCV crashes
            try:
                networks = [cv2.dnn.readNetFromONNX(path, *classic) for _ in range(self._copies)]
            except (cv2.error, MemoryError) as error:
                raise BackendError(f"{file}: {_words(error)}") from error
            self._networks[branch] = networks
        return self._networks[branch]

    def run(self, branch: str, batch: np.ndarray) -> np.ndarray:
        """See `Backend.run`."""
        scale = self._card.scale
        count, height, width, channels = batch.shape
        with _failures({batch.shape[1:]}):
            result = np.empty((count, scale * height, scale * width, channels), np.uint8)
            for _ in self._fill([(branch, lr) for lr in batch], list(result)):
                pass
        return result

    def run_tiles(self, tiles: Sequence[Tile]) -> Iterator[tuple[int, np.ndarray]]:
        """See `Backend.run_tiles`; all at once, so that no thread is without work as long as there is any."""
        scale = self._card.scale
        with _failures({lr.shape for _, lr in tiles}):
            results = [np.empty((scale * lr.shape[0], scale * lr.shape[1], lr.shape[2]), np.uint8) for _, lr in tiles]
            for number in self._fill(tiles, results):
                yield number, results[number]

    def _fill(self, tiles: Sequence[Tile], results: Sequence[np.ndarray]) -> Iterator[int]:
        """Upscale each of `tiles` into its result; yields the number of each that is done."""
        with _RUNNING:
            if self._process != os.getpid():  # the threads stayed behind in the process that this one was forked from
                self._renew()
            parts = [
                (number, branch, part)
                for number, ((branch, lr), sr) in enumerate(zip(tiles, results, strict=True))
                for part in _parts(lr, sr, self._card.scale)
            ]
            for branch in {branch for branch, _ in tiles}:
                self._loaded(branch)
            left = Counter(number for number, *_ in parts)
            for number in self._in_turn(parts):
                left[number] -= 1
                if not left[number]:
                    yield number

    def _in_turn(self, parts: list[tuple[int, str, Part]]) -> Iterator[int]:
        """The dearest parts first; yields the number of the tile of each that is done."""
        parts.sort(key=self._work, reverse=True)
        work = sum(map(self._work, parts))
        while parts and self._work(parts[0]) > ALONE * work:
            number, branch, part = first = parts.pop(0)
            work -= self._work(first)
            with _threads(self._threads):
                self._run_part(branch, part)
            yield number
        if parts:
            # OpenCV's own threads would get in the way of ours.
            with _threads(1):
                yield from self._at_once(parts)

    def _work(self, part: tuple[int, str, Part]) -> float:
        _, branch, (lr, *_) = part
        return self._card.subnets[branch].macs_per_lr_pixel * lr.size

    def _at_once(self, parts: list[tuple[int, str, Part]]) -> Iterator[int]:
        """Each thread takes the first part that is left; when this ends, by an error too, all have ended."""
        try:
            running = {self._pool.submit(self._run_part, branch, part): number for number, branch, part in parts}
            for future in as_completed(running):
                future.result()
                yield running[future]
        except BaseException:
            self._pool.shutdown(cancel_futures=True)
            self._renew()
            raise

    def _run_part(self, branch: str, part: Part) -> None:
        """With a network that no other thread uses."""
        number = self._free.get()
        try:
            _upscale(self._networks[branch][number], part, self._card.scale)
        finally:
            self._free.put(number)

    def _renew(self) -> None:
        """A pool, without a thread until it is needed, and networks that nobody uses."""
        self._pool, self._process = ThreadPoolExecutor(self._copies), os.getpid()
        self._free: SimpleQueue[int] = SimpleQueue()
        for number in range(self._copies):
            self._free.put(number)

    def close(self) -> None:
        """See `Backend.close`."""
        with _RUNNING:
            self._networks.clear()
            self._pool.shutdown()
            self._renew()


def _parts(lr: np.ndarray, sr: np.ndarray, scale: int) -> Iterator[Part]:
    """The parts of a picture, about equally large."""
    counts = _cuts(lr.shape[0], lr.shape[1])
    borders = [np.linspace(0, side, count + 1).astype(int) for side, count in zip(lr.shape, counts, strict=False)]
    for (top, bottom), (left, right) in product(*map(pairwise, borders)):
        above, before = min(top, CONTEXT), min(left, CONTEXT)
        around = lr[top - above : bottom + CONTEXT, left - before : right + CONTEXT]
        yield around, sr[scale * top : scale * bottom, scale * left : scale * right], above, before


@lru_cache(maxsize=1024)
def _cuts(height: int, width: int) -> tuple[int, int]:
    """Rows and columns of parts, by the size alone: pictures are the same with any number of threads."""
    least = [-(-side // (SIDE - 2 * CONTEXT)) if side > SIDE else 1 for side in (height, width)]
    most = max(math.prod(least), height * width // SMALLEST)
    choices = [cuts for cuts in product(*((n, n + 1) for n in least)) if math.prod(cuts) <= most]

    def pixels_in_turn(cuts: tuple[int, ...]) -> float:
        """Of a thread when there are two; more threads also like even numbers of parts."""
        sides = (side / n + 2 * CONTEXT * (n > 1) for side, n in zip((height, width), cuts, strict=True))
        return math.ceil(math.prod(cuts) / 2) * math.prod(sides)

    rows, columns = min(choices, key=pixels_in_turn)
    return rows, columns


def _upscale(network: cv2.dnn.Net, part: Part, scale: int) -> None:
    """Fill the target of `part`."""
    lr, target, above, before = part
    network.setInput(cv2.dnn.blobFromImage(lr, 1 / 255))
    planes = network.forward()[0]  # (scale * scale * 3, H, W), row by row
    flat = planes.reshape(-1, planes.shape[2])
    # Rounds and clips, which the graph of planes leaves out.
    levels = cv2.multiply(flat, 255.0, dtype=cv2.CV_8U)  # type: ignore[call-overload]  # the stubs know no numbers
    height, width = target.shape[0] // scale, target.shape[1] // scale
    for row, mine in enumerate(np.split(np.asarray(levels).reshape(planes.shape), scale)):
        pixels = cv2.merge(list(mine))[above : above + height, before : before + width]
        target[row::scale] = pixels.reshape(height, -1, 3)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """OpenCV with so many threads. Where it has as many anyway nothing is set, which would end those that it has."""
    before = cv2.getNumThreads()
    if before == count:
        yield
        return
    cv2.setNumThreads(count)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


@contextmanager
def _failures(shapes: set[tuple[int, ...]]) -> Iterator[None]:
    """Says what failed on LR pictures of these shapes."""
    try:
        yield
    except (cv2.error, RuntimeError, MemoryError) as error:
        raise BackendError(f"opencv failed on {', '.join(map(str, sorted(shapes)))}: {_words(error)}") from error


def _words(error: Exception) -> str:
    """What went wrong, without the place in OpenCV's source."""
    return error.err if isinstance(error, cv2.error) else str(error) or type(error).__name__


def open_backend(card: ModelCard, precision: str, threads: int) -> OpenCv:
    """OpenCV for `card`."""
    return OpenCv(card, threads)
