"""Sophgo's TPUs: `engine` cuts pictures into tiles, `process` talks to the workers, `worker` is one of those, and
`libraries` says what they run on."""

import shutil
import tempfile
import weakref
from pathlib import Path

from ...bmodels import Bmodels
from ...models import ModelCard
from .engine import Sophon
from .libraries import find_devices, find_runtime, worker_command
from .process import Worker


def open_backend(card: ModelCard, chip: str, precision: str | None, folder: Path) -> Sophon:
    """The sub-nets of `card` in `folder` on the devices here, or in the simulator.

    Raises ArtefactError, UsageError for what is wrong with the folder, BackendError where there is no runtime or no
    such chip.
    """
    bmodels, devices = Bmodels.load(folder), find_devices()
    bmodels.choose(chip, precision, card)
    runtime = find_runtime(chip, bmodels.libraries)
    own = Path(tempfile.mkdtemp(prefix="arm-sr-sophon-"))
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
        engine = Sophon(card, bmodels, chip, precision, workers, bool(runtime.simulator))
    except BaseException:
        shutil.rmtree(own, ignore_errors=True)
        raise
    weakref.finalize(engine, shutil.rmtree, own, ignore_errors=True)
    return engine


__all__ = ["Sophon", "open_backend"]
