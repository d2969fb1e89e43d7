"""Measured costs: how long every branch takes on this machine, cached per machine and model."""

import logging
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import scipy.optimize
from tqdm import tqdm

from .backends import Backend
from .backends.base import allowed_threads
from .cost import CostTable
from .errors import ArtefactError
from .models import ModelCard, digest
from .stitch import interpolate

log = logging.getLogger(__name__)

BATCHES = ((1, 38, 38), (6, 38, 38), (1, 38, 134), (1, 70, 102), (1, 134, 134), (1, 134, 262), (1, 262, 262))
"""Tiles that are timed: how many in a call, height and width in LR pixels. Patches with halo, alone and merged."""
ROUNDS = 7
"""How often each is timed,"""
LONGEST = 1.5
"""unless the tiles of one branch took so many seconds already; three rounds are always done."""


def measure(card: ModelCard, backend: Backend) -> CostTable:
    """Time every branch on tiles of several sizes; takes less than ten seconds and wants an idle machine.

    Returns:
        Milliseconds a call and an LR pixel that fit the medians best.
    """
    height, width = max(h for _, h, _ in BATCHES), max(w for *_, w in BATCHES)
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    batches = [np.repeat(noise[None, :h, :w], count, axis=0) for count, h, w in BATCHES]
    canvas = np.empty((height * card.scale, width * card.scale, 3), np.uint8)
    fits = []
    for branch in tqdm(card.branches, desc="calibrating", unit="branch", leave=False, disable=None):

        def run(batch: np.ndarray, branch: str = branch) -> None:
            if branch == card.branches[0]:
                results = [interpolate(tile, card.scale) for tile in batch]
            else:
                results = list(backend.run(branch, np.stack(list(batch))))
            for result in results:  # stitching is part of the cost
                canvas[: result.shape[0], : result.shape[1]] = result

        fits.append(fit_cost(BATCHES, _median_ms(run, batches)))
    where = f"measured on {machine()}, {backend.name} {backend.version}"
    per_call, per_pixel = np.array(fits).T
    return CostTable("ms", card.branches, per_call, per_pixel, f"{where} {backend.precision}")


def fit_cost(batches: Sequence[tuple[int, int, int]], ms: Sequence[float]) -> tuple[float, float]:
    """Cost of a tile and of an LR pixel, both 0 or more, with the least squared relative error.

    Args:
        batches: tiles in a call, their height and width in LR pixels.
        ms: what each call took.
    """
    tiles = np.array([(count, count * height * width) for count, height, width in batches], dtype=float)
    per_call, per_pixel = scipy.optimize.nnls(tiles / np.array(ms)[:, None], np.ones(len(tiles)))[0]
    return float(per_call), float(per_pixel)


def _median_ms(run: Callable[[np.ndarray], None], batches: list[np.ndarray]) -> list[float]:
    """Median time of each batch; they are run in turn, so that a slow moment meets all of them."""
    times: list[list[float]] = [[] for _ in batches]
    for batch in batches:
        run(batch)
    begun = time.perf_counter()
    for done in range(ROUNDS):
        if done >= 3 and time.perf_counter() - begun > LONGEST:
            break
        for batch, mine in zip(batches, times, strict=True):
            start = time.perf_counter()
            run(batch)
            mine.append(1e3 * (time.perf_counter() - start))
    return [statistics.median(mine) for mine in times]


def cached(card: ModelCard, backend: Backend) -> CostTable | None:
    """The cached costs of this machine, model and engine, or None; a damaged file is named in the log."""
    path = cache_path(card, backend)
    if path.is_file():
        try:
            return CostTable.load(path, card)
        except ArtefactError as error:
            log.warning("%s; arm-sr calibrate replaces it", error)
    return None


def cached_or_measured(card: ModelCard, backend: Backend) -> CostTable:
    """The cached costs; measured and cached when there are none."""
    return cached(card, backend) or calibrate(card, backend)


def calibrate(card: ModelCard, backend: Backend) -> CostTable:
    """Measure now and replace the cached costs."""
    log.info("measuring the branches of %s with %s on this machine", card.name, backend.name)
    table = measure(card, backend)
    path = cache_path(card, backend)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        table.save(path)
        log.info("costs kept in %s", path)
    except OSError as error:
        log.warning("%s: the measured costs could not be kept (%s)", path, error.strerror or error)
    return table


def cache_path(card: ModelCard, backend: Backend) -> Path:
    """Where the costs of this machine, allowance, engine and model are kept."""
    key = "|".join(
        [machine(), backend.name, backend.version, backend.precision, cv2.__version__, card.sha256]
    )
    try:
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:  # a user without a home
        root = Path(tempfile.gettempdir())
    return root / "arm_sr" / f"cost-{card.name}-{digest(key.encode())[:16]}.json"


def machine() -> str:
    """The processor as the system names it, and how many of its cores this process may use."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.processor() or "processor"
    return f"{name}, {platform.machine()}, {allowed_threads()} threads"
