"""Measured costs: how long every branch takes on this machine, cached per machine and model."""

import json
import logging
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from .atomic import write_bytes
from .backends import BACKENDS, EXACT, PRECISIONS, Backend, open_backend, usable_backends
from .backends.threads import allowed_threads
from .cost import TILES, CostTable, Group, fit_cost, tile_sizes
from .errors import ArtefactError, BackendError, UsageError
from .json_text import parse_json
from .models import ModelCard, digest
from .stitch import Rendering

log = logging.getLogger(__name__)

METHOD = "10"
"""Changes when costs are measured in another way, so that those in a cache do not count any more."""
TYPICAL = 320 * 180
"""LR pixels of the picture by which engines are compared."""
ROUNDS = 14
"""How often each is timed at most, after a round that is not, every time with a row less: the tiles of plans differ,
and what an engine does once for a shape is a part of the call. The largest come first, because memory that grows would
be timed too."""
LONGEST = 4.5
"""Seconds in which a further round must end, of the sub-nets and again of all else; one is always timed."""
SHARE = "40%"
"""The budget of the pictures in which planning, interpolation and stitching are timed."""


def measure(card: ModelCard, backend: Backend) -> CostTable:
    """Time every branch on tiles of several sizes; wants an idle machine.

    Takes less than ten seconds, except on machines so slow that two rounds take longer.

    Returns:
        Milliseconds a call and an LR pixel that fit the medians best. Those of interpolation are of a whole picture:
        planning and stitching are in them.
    """
    height, width = np.max([tile for group in TILES for tile in group], axis=0) + ROUNDS
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    beside_inference = _beside_inference(card, backend)

    def tiles(group: Group, taller: int) -> list[np.ndarray]:
        return [noise[: height + taller, :width] for height, width in group]

    def inference(branch: str, group: Group, taller: int) -> float:
        begun = time.perf_counter()
        for _ in backend.run_tiles([(branch, tile) for tile in tiles(group, taller)]):
            pass
        return 1e3 * (time.perf_counter() - begun)

    # All sub-nets in turn, so that a slow moment meets them alike, and because in a plan others had the caches since: a
    # call right after its like is up to 1.3 times faster. Pictures come later, because theirs run what they like.
    subnets = _costs(lambda taller: [[inference(name, group, taller) for name in card.branches[1:]] for group in TILES])
    others = _costs(lambda taller: [[sum(map(beside_inference, tiles(group, taller)))] for group in TILES])
    per_call, per_pixel = np.concatenate([others, subnets]).T
    where = f"measured on {machine()}, {backend.name} {backend.version}"
    return CostTable("ms", card.branches, per_call, per_pixel, f"{where} {backend.precision}")


def _costs(measured: Callable[[int], list[list[float]]]) -> np.ndarray:
    """Milliseconds a call and an LR pixel that fit best what is `measured` of the groups of `TILES`, each tile so many
    rows taller: milliseconds of all groups, (groups, n) to (n, 2)."""
    rounds: list[np.ndarray] = []
    begun = ended = time.perf_counter()
    heights = range(ROUNDS // 2 + 1, -ROUNDS // 2, -1)
    for taller in tqdm(heights, desc="calibrating", unit="round", leave=False, disable=None):
        rounds.append(np.array(measured(taller)).T)
        before, ended = ended, time.perf_counter()
        if len(rounds) > 1 and ended + (ended - before) - begun > LONGEST:
            break
    times = np.median(rounds[1:], axis=0)  # the first round found a cold engine
    taller_by = ROUNDS // 2 - (len(rounds) - 2) / 2  # on average; not 0 where rounds were left out
    return np.array([fit_cost(tile_sizes(taller_by), ms) for ms in times])


def _beside_inference(card: ModelCard, backend: Backend) -> Callable[[np.ndarray], float]:
    """Says how many milliseconds everything but inference takes of an LR picture within `SHARE`; only its
    interpolation where the model has no table."""
    from .planner import Planner  # which comes here for measured costs

    planner = Planner(card, None, None, backend)
    how: dict[str, str | None] = {"budget": SHARE, "width": None}
    try:
        planner.table  # noqa: B018
    except ArtefactError as error:  # another one may be in use
        log.warning("%s; beside inference only interpolation is charged", error)
        how = {"budget": None, "width": card.branches[0]}

    def beside_inference(picture: np.ndarray) -> float:
        begun = time.perf_counter()
        plan = planner.plan(picture, eta=None, objective=None, **how)
        rendering = Rendering(plan, picture, backend, card.receptive_radius)
        rendering.whole()
        return 1e3 * (time.perf_counter() - begun) - rendering.infer_ms

    return beside_inference


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
    """Measure now and replace the cached costs; UsageError where time means nothing."""
    if backend.simulated:
        raise UsageError(f"the time that a simulator takes is not that of a {backend.name}; measure on the device")
    log.info("measuring the branches of %s with %s on this machine", card.name, backend.name)
    table = measure(card, backend)
    _keep(cache_path(card, backend), table.save)
    return table


AUTO = "auto"
"""Instead of the name of an engine: the fastest here."""
MOST_LOST = 0.01
"""dB that `auto` may lose for speed."""


def calibrate_all(card: ModelCard) -> dict[tuple[str, str], CostTable]:
    """Measure every engine and precision that is installed here, and keep them and their ranking for `fastest`."""
    tables = {}
    for backend in usable_backends(card):
        tables[backend.name, backend.precision] = calibrate(card, backend)
        backend.close()
    order = sorted(tables, key=lambda engine: tables[engine].one_pass(-1, TYPICAL))
    _keep(_ranking_path(card), lambda path: write_bytes(path, json.dumps(order).encode()))
    return tables


def loses_little(card: ModelCard, name: str, precision: str) -> bool:
    """Whether the engine and precision are known to lose at most `MOST_LOST`."""
    return (name, precision) in EXACT or card.loss_db(name, precision) <= MOST_LOST


def fastest(card: ModelCard, precision: str | None = None) -> tuple[str, str]:
    """Engine and precision for `auto`: by the last `calibrate_all` the fastest for the largest sub-net of those that
    lose at most `MOST_LOST`, or have `precision`; the default engine where nothing was measured."""
    try:
        for engine in parse_json(_ranking_path(card).read_text()):
            name, own = engine
            wanted = loses_little(card, name, own) if precision is None else own == precision
            if own in PRECISIONS[name] and wanted:
                return name, own
    except FileNotFoundError:
        pass
    except (OSError, ValueError, TypeError, KeyError) as error:
        log.warning("%s: %s; arm-sr calibrate replaces it", _ranking_path(card), error)
    precision = precision or PRECISIONS[BACKENDS[0]][0]
    return next((name for name in BACKENDS if precision in PRECISIONS[name]), BACKENDS[0]), precision


def open_engine(name: str, card: ModelCard, precision: str | None = None, bmodels: Path | None = None) -> Backend:
    """As `open_backend`; `auto` is what `fastest` names, or with a warning the default engine when that is gone."""
    if name != AUTO or bmodels is not None:
        return open_backend(name, card, precision, bmodels=bmodels)
    name, own = fastest(card, precision)
    try:
        return open_backend(name, card, own)
    except BackendError as error:
        if precision is not None or name == BACKENDS[0]:
            raise
        log.warning("%s; using %s", error, BACKENDS[0])
        return open_backend(BACKENDS[0], card)


def _keep(path: Path, write: Callable[[Path], None]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path)
        log.info("costs kept in %s", path)
    except OSError as error:
        log.warning("%s: the measured costs could not be kept (%s)", path, error.strerror or error)


def _ranking_path(card: ModelCard) -> Path:
    key = "|".join([METHOD, machine(), card.sha256])
    return _cache_folder() / f"engines-{card.name}-{digest(key.encode())[:16]}.json"


def cache_path(card: ModelCard, backend: Backend) -> Path:
    """Where the costs of this machine, allowance, engine and model are kept."""
    engine = backend.name, backend.version, backend.precision, backend.device
    key = "|".join([METHOD, machine(), *engine, cv2.__version__, card.sha256])
    return _cache_folder() / f"cost-{card.name}-{digest(key.encode())[:16]}.json"


def _cache_folder() -> Path:
    try:
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:  # a user without a home
        root = Path(tempfile.gettempdir())
    return root / "arm_sr"


def machine() -> str:
    """The processor as the system names it, with family and model, which virtual machines leave out of the name, and
    how many of its cores this process may use."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split("\n\n")[0].splitlines()
    except OSError:
        lines = []
    of = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    name = of.get("model name") or platform.processor() or "processor"
    if "cpu family" in of:
        name += f" family {of['cpu family']} model {of.get('model')}"
    return f"{name}, {platform.machine()}, {allowed_threads()} threads"
