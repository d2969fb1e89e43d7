"""Sophgo's TPUs: `engine` cuts pictures into tiles, `process` talks to the workers, `worker` is one of those, and
`libraries` says what they run on."""

import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ...bmodels import Bmodels
from ...models import ModelCard
from .engine import Sophon, run_piece
from .libraries import find_devices, find_runtime, worker_command
from .process import Worker

LONGEST = 600.0
"""Seconds that a tile may take where nothing is known of the net."""
Keep = Callable[[Sophon], Sophon]


def open_backend(card: ModelCard, chip: str, precision: str | None, folder: Path) -> Sophon:
    """The sub-nets of `card` in `folder` on the devices here, or in the simulator.

    Raises ArtefactError, UsageError for what is wrong with the folder, BackendError where there is no runtime or no
    such chip.
    """
    bmodels = Bmodels.load(folder)
    bmodels.choose(chip, precision, card)
    with _workers(chip, bmodels.libraries, find_devices()) as (workers, simulated, keep):
        return keep(Sophon(card, bmodels, chip, precision, workers, simulated))


@contextmanager
def open_net(chip: str, libraries: Path, bmodel: Path, net: str) -> Iterator[Callable[[np.ndarray], np.ndarray]]:
    """One net of a bmodel that no manifest names, on the first device here or in the simulator.

    Args:
        chip: that it was compiled for.
        libraries: of the compiler, with the simulator.
        bmodel: the file.
        net: name in it.

    Yields:
        A function from uint8 RGB of the shape that the net takes, (N, H, W, 3), to uint8 RGB (N, h, w, 3).

    Raises:
        BackendError: there is no runtime or no such chip, or it failed.
    """
    with _workers(chip, str(libraries), find_devices()[:1]) as ((worker,), _, _):
        try:
            worker.open()
            ports = worker.load(str(bmodel.resolve()), [net])[net]
            yield lambda batch: np.stack([run_piece(worker, net, ports, tile, LONGEST) for tile in batch])
        finally:
            worker.close()


@contextmanager
def _workers(chip: str, libraries: str, devices: Sequence[int]) -> Iterator[tuple[list[Worker], bool, Keep]]:
    """Workers for devices, and whether those are simulated; what they need is there to the end, or as long as what was
    handed to the third."""
    runtime = find_runtime(chip, libraries)
    own = Path(tempfile.mkdtemp(prefix="arm-sr-sophon-"))
    kept = False

    def keep(engine: Sophon) -> Sophon:
        nonlocal kept
        kept = True
        weakref.finalize(engine, shutil.rmtree, own, ignore_errors=True)
        return engine

    try:
        environment = runtime.environment(chip, own)
        kind = "simulated device" if runtime.simulator else "device"
        workers = [
            Worker(
                f"{kind} {device}", worker_command(), environment, own / f"{number}.log",
                {"do": "open", "runtime": runtime.kind, "libraries": str(runtime.folder), "device": device},
            )
            for number, device in enumerate(devices)
        ]  # fmt: skip
        yield workers, bool(runtime.simulator), keep
    finally:
        if not kept:
            shutil.rmtree(own, ignore_errors=True)


__all__ = ["Sophon", "open_backend", "open_net"]
