"""Measured costs: how long every branch takes on this machine, cached per machine and model."""

import logging
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from .backends import Backend
from .backends.base import allowed_threads
from .cost import CostTable
from .errors import ArtefactError
from .models import ModelCard, digest
from .stitch import interpolate

log = logging.getLogger(__name__)

SIDES = (48, 192)
"""Sides in LR pixels of the two tiles that are timed."""
REPEATS = 5


def measure(card: ModelCard, backend: Backend) -> CostTable:
    """Time every branch on two tile sizes; takes a few seconds and wants an idle machine.

    Returns:
        Milliseconds a call and an LR pixel, from the medians.
    """
    noise = np.random.default_rng(0).integers(0, 256, (1, SIDES[1], SIDES[1], 3), dtype=np.uint8)
    per_call, per_pixel = [], []
    for branch in tqdm(card.branches, desc="calibrating", unit="branch", leave=False, disable=None):
        runs: list[Callable[[], object]] = []
        for side in SIDES:
            tile = np.ascontiguousarray(noise[:, :side, :side])
            if branch == card.branches[0]:
                runs.append(lambda tile=tile[0]: interpolate(tile, card.scale))  # type: ignore[misc]
            else:
                runs.append(lambda tile=tile, branch=branch: backend.run(branch, tile))  # type: ignore[misc]
        small, large = (_median_ms(run) for run in runs)
        slope = max(large - small, 0.0) / (SIDES[1] ** 2 - SIDES[0] ** 2)
        per_pixel.append(slope)
        per_call.append(max(small - slope * SIDES[0] ** 2, 0.0))
    where = f"measured on {machine()}, {backend.name} {backend.version}"
    return CostTable("ms", card.branches, np.array(per_call), np.array(per_pixel), f"{where} {backend.precision}")


def _median_ms(run: Callable[[], object]) -> float:
    run()
    times = []
    for _ in range(REPEATS):
        begun = time.perf_counter()
        run()
        times.append(1e3 * (time.perf_counter() - begun))
    return statistics.median(times)


def cached_or_measured(card: ModelCard, backend: Backend) -> CostTable:
    """The cached costs of this machine, model and engine; measured and cached when there are none."""
    path = cache_path(card, backend)
    if path.is_file():
        try:
            return CostTable.load(path, card)
        except ArtefactError as error:
            log.warning("%s; measuring again", error)
    return calibrate(card, backend)


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
