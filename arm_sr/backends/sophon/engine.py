"""Sub-nets on Sophgo's TPUs, or in the simulator of them that comes with the compiler.

A compiled sub-net takes pictures of one shape, so each picture is cut into tiles of it that overlap by twice the halo,
or padded where it is smaller; of several shapes it gets the one that costs least. Tiles are shared among the devices.
"""

import math
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed, wait
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np

from ...bmodels import Bmodels, Net, chip_of, covering, overlap_of
from ...errors import ArtefactError, BackendError
from ...fixed_tiles import BATCH, upscale_in_tiles
from ...models import ModelCard
from ..base import Backend, Tile
from .process import Worker

PATIENCE = 60.0
"""Seconds that any tile may take,"""
SLOWER = 100
"""and so many times what the compiler says of it on a device,"""
SIMULATED_SLOWER = 1_000_000
"""or in the simulator, where 100,000 times was seen."""

Port = dict[str, Any]
"""`dtype`, `scale` and `shape` of an input or output, as the runtime says."""


class Sophon(Backend):
    """A worker for each device, with all bmodels that were needed so far.

    Args:
        card: the model.
        bmodels: what was compiled of it.
        chip: one of `tpu.chips.CHIPS`.
        precision: one that was compiled for it, or None where there is only one.
        workers: one for each device.
        simulated: whether those are simulators.
    """

    def __init__(self, card: ModelCard, bmodels: Bmodels, chip: str, precision: str | None, workers: Sequence[Worker],
                 simulated: bool) -> None:  # fmt: skip
        self.precision, self._nets = bmodels.choose(chip, precision, card)
        self._card, self._bmodels, self._chip, self._workers = card, bmodels, chip, tuple(workers)
        self.name, self.model_sha256, self.simulated = f"sophon:{chip}", card.sha256, simulated
        self.modelled_cost = bmodels.cost_table(card, chip, self.precision)
        self._ports: dict[str, dict[str, Port]] = {}
        self._lock = threading.RLock()
        self._renew()
        versions = {self._opened(worker) for worker in self._workers}
        self.version = "; ".join([bmodels.compiler, *sorted(versions)])
        self.device = ", ".join(worker.device for worker in self._workers)

    def _opened(self, worker: Worker) -> str:
        """The version of the runtime of `worker`; BackendError when its device is no such chip."""
        runtime = worker.open()
        if runtime["chip"] != self._chip:
            worker.close()
            raise BackendError(f"{worker.device} is a {runtime['chip']}, not the {self._chip} that was asked for")
        version: str = runtime["version"]
        return version

    def _renew(self) -> None:
        """Threads, none until one is needed, and workers that nobody uses."""
        self._process, count = os.getpid(), len(self._workers)
        self._pictures, self._pieces = ThreadPoolExecutor(count), ThreadPoolExecutor(count)
        self._free: SimpleQueue[Worker] = SimpleQueue()
        for worker in self._workers:
            self._free.put(worker)

    def _own(self) -> None:
        """Threads stayed behind in the process that this one was forked from, and the workers are that one's."""
        if self._process != os.getpid():
            for worker in self._workers:
                worker.forget()
            self._lock = threading.RLock()
            self._ports.clear()
            self._renew()

    def load(self, branch: str) -> None:
        """See `Backend.load`; raises ArtefactError for a file that is damaged or not what the manifest says."""
        self._own()
        with self._lock:
            missing = [net for net in self._nets[branch] if net.net not in self._ports]
            for name in sorted({net.file for net in missing}):
                # A file is loaded as a whole, once.
                nets = [net for mine in self._nets.values() for net in mine if net.file == name]
                path = self._bmodels.checked_file(nets[0])
                if (chip := chip_of(path)) != self._chip:
                    raise ArtefactError(f"{path}: compiled for {chip}, though the manifest says {self._chip}")
                ports = self._load_file(path, nets)
                for net in nets:
                    self._check(path, net, ports[net.net])
                self._ports |= {net.net: ports[net.net] for net in nets}

    def _load_file(self, path: Path, nets: Sequence[Net]) -> dict[str, dict[str, Port]]:
        ports: dict[str, dict[str, Port]] = {}
        try:
            for worker in self._workers:
                ports = worker.load(str(path.resolve()), [net.net for net in nets])
        except BackendError:
            self.close()  # some have it, others do not
            raise
        return ports

    def _check(self, path: Path, net: Net, ports: dict[str, Port]) -> None:
        scale = self._card.scale
        for end, factor in (("input", 1), ("output", scale)):
            expected = [1, 3, factor * net.tile[0], factor * net.tile[1]]
            if (shape := ports[end]["shape"]) != expected:
                raise ArtefactError(f"{path}: the {end} of '{net.net}' is {shape}, by the manifest {expected}")

    def run(self, branch: str, batch: np.ndarray) -> np.ndarray:
        """See `Backend.run`."""
        results = dict(self.run_tiles([(branch, picture) for picture in batch]))
        return np.stack([results[number] for number in range(len(batch))])

    def run_tiles(self, tiles: Sequence[Tile]) -> Iterator[tuple[int, np.ndarray]]:
        """See `Backend.run_tiles`; as many at once as there are devices."""
        for branch in {branch for branch, _ in tiles}:
            self.load(branch)
        stop = threading.Event()
        running = {self._pictures.submit(self._upscale, stop, *tile): number for number, tile in enumerate(tiles)}
        try:
            for future in as_completed(running):
                yield running[future], future.result()
        finally:  # also when somebody has seen enough, or interrupts: tiles that have begun are waited for
            stop.set()
            for future in running:
                future.cancel()
            wait(running)

    def _upscale(self, stop: threading.Event, branch: str, picture: np.ndarray) -> np.ndarray:
        """A picture of any size: tiles of the shape that costs least."""
        halo = min(self._card.halo, self._card.subnets[branch].receptive_radius)
        net, _ = covering(self._nets[branch], picture.shape[0], picture.shape[1], halo)
        run, overlap = partial(self._run, stop, net), overlap_of(net, halo)
        batch = BATCH * len(self._workers)
        return upscale_in_tiles(picture, run, net.tile, self._card.scale, "crop", overlap, batch=batch)

    def _run(self, stop: threading.Event, net: Net, batch: np.ndarray) -> np.ndarray:
        return np.stack(list(self._pieces.map(partial(self._run_piece, stop, net), batch)))

    def _run_piece(self, stop: threading.Event, net: Net, levels: np.ndarray) -> np.ndarray:
        """One tile, on a device that nobody uses."""
        if stop.is_set():
            raise CancelledError
        patience = PATIENCE + net.ms / 1e3 * (SIMULATED_SLOWER if self.simulated else SLOWER)
        worker = self._free.get()
        try:
            return run_piece(worker, net.net, self._ports[net.net], levels, patience)
        finally:
            self._free.put(worker)

    def close(self) -> None:
        """See `Backend.close`."""
        self._own()
        with self._lock:
            for worker in self._workers:
                worker.close()
            for pool in (self._pictures, self._pieces):
                pool.shutdown()
            self._ports.clear()
            self._renew()


def run_piece(worker: Worker, net: str, ports: dict[str, Port], levels: np.ndarray, patience: float) -> np.ndarray:
    """One tile through a net that a worker has loaded.

    Args:
        worker: has it,
        net: by this name,
        ports: with this input and output.
        levels: uint8 RGB of the shape that it takes, (H, W, 3).
        patience: seconds that it may take.

    Returns:
        uint8 RGB, (scale * H, scale * W, 3), clipped and rounded.
    """
    dtype, result = worker.run(net, _encoded(levels, ports["input"]), patience)
    return _decoded(result, dtype, ports["output"], net)


def _encoded(levels: np.ndarray, port: Port) -> bytes:
    """8-bit levels (H, W, 3) as an input wants them: (1, 3, H, W), quantised where it takes whole numbers."""
    planes = np.moveaxis(levels, 2, 0)
    dtype: np.dtype[Any] = np.dtype(port["dtype"])
    if dtype.kind in "iu":
        ends = np.iinfo(dtype)
        return np.rint(planes * np.float32(port["scale"])).clip(ends.min, ends.max).astype(dtype).tobytes()
    return planes.astype(dtype).tobytes()


def _decoded(data: bytes, dtype: str, port: Port, net: str) -> np.ndarray:
    """Clipped and rounded 8-bit levels (H, W, 3) of an output; some chips leave the clip of a network out."""
    values = np.frombuffer(data, dtype)
    if values.size != math.prod(port["shape"]):
        raise BackendError(f"net '{net}' gave {values.size} numbers, not {math.prod(port['shape'])}")
    planes = values.reshape(port["shape"])[0].astype(np.float32)
    if dtype == port["dtype"] and np.dtype(dtype).kind in "iu":
        planes *= np.float32(port["scale"])
    if not np.isfinite(planes).all():
        raise BackendError(f"net '{net}' gave numbers that are none")
    levels = np.rint(planes).clip(0, 255).astype(np.uint8)
    return np.ascontiguousarray(np.moveaxis(levels, 0, 2))

