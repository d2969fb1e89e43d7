"""Where the runtime of a TPU is: on a device its own, elsewhere the simulator that comes with the compiler."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from ...errors import BackendError, UsageError

LIBRARIES = "ARM_SR_SOPHON_LIB"
"""Environment variable with the folder of the libraries."""
DEVICES = "ARM_SR_SOPHON_DEVICES"
"""Environment variable with the numbers of the devices."""
INSTALLED = Path("/opt/sophon/libsophon-current/lib")
"""Where the vendor's packages put them on a device."""


@dataclass(frozen=True)
class Runtime:
    """What runs bmodels here."""

    kind: str
    """`bmrt`, the C libraries in `folder`, or `sail`, the vendor's Python package."""
    folder: Path = Path()
    """Of the libraries."""
    simulator: str = ""
    """The library that stands for the chip, empty where there is a device."""

    def environment(self, chip: str, links: Path) -> Mapping[str, str]:
        """Of the worker's process; `links` is an empty folder for what stands for the chip in the simulator."""
        if self.kind != "bmrt":
            return os.environ
        folders = [str(self.folder)]
        if self.simulator:
            own = self.folder / f"libbmlib_{chip}.so.0"
            # One folder for each chip: the compiler's tools change the links in their own.
            (links / "libcmodel.so").symlink_to(self.folder / self.simulator)
            (links / "libbmlib.so.0").symlink_to(own if own.exists() else self.folder / "libbmlib.so.0")
            folders = [str(links)]  # the others find each other, and bring libraries that do not fit this system
        given = os.environ.get("LD_LIBRARY_PATH")
        return {**os.environ, "LD_LIBRARY_PATH": os.pathsep.join([*folders, *([given] if given else [])])}


def find_runtime(chip: str, compiled_with: str) -> Runtime:
    """What there is: the folder that the environment names, else `sophon.sail`, else the vendor's installation, else
    the compiler's simulator.

    Args:
        chip: for which chip.
        compiled_with: the compiler's folder of libraries, empty where there is none.

    Raises:
        BackendError: there is nothing, or no runtime in the folder.
    """
    named = os.environ.get(LIBRARIES)
    if named:
        return _in_folder(Path(named), chip)
    if _has_sail():
        return Runtime("sail")
    for folder in (INSTALLED, *([Path(compiled_with)] if compiled_with else [])):
        if folder.is_dir():
            return _in_folder(folder, chip)
    raise BackendError(
        f"no runtime of Sophgo's TPUs here: set {LIBRARIES} to the folder with libbmrt.so, {INSTALLED} on a device or "
        "tpu_mlir/lib of the compiler for its simulator"
    )


def _has_sail() -> bool:
    try:
        return find_spec("sophon.sail") is not None
    except ModuleNotFoundError:
        return False


def _in_folder(folder: Path, chip: str) -> Runtime:
    for name in ("libbmrt.so", "libbmlib.so.0"):
        if not (folder / name).exists():
            raise BackendError(f"{folder / name}: no such library; set {LIBRARIES} to the folder of the TPU's runtime")
    model = f"libcmodel_{chip}.so"
    if (folder / model).exists():
        return Runtime("bmrt", folder, model)
    if any(folder.glob("libcmodel*.so")):
        raise BackendError(f"{folder / model}: no such library, so the simulator there knows no {chip}")
    return Runtime("bmrt", folder)


def find_devices() -> tuple[int, ...]:
    """Numbers of the devices to use, by the environment; the first one otherwise."""
    text = os.environ.get(DEVICES, "0")
    try:
        devices = tuple(int(number) for number in text.split(","))
    except ValueError:
        devices = ()
    if not devices or min(devices) < 0:
        raise UsageError(f"{DEVICES} must be numbers of devices such as 0 or 0,1, not '{text}'")
    return devices


def worker_command() -> list[str]:
    """How its process is started; `-P` because its folder holds no modules for it to import."""
    return [sys.executable, "-P", str(Path(__file__).with_name("worker.py"))]
