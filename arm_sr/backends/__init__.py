"""Engines that run sub-nets, by name; each is imported when it is asked for."""

import logging
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from ..errors import ArtefactError, BackendError, UsageError
from ..models import ModelCard
from .base import Backend
from .fixed_shapes import FixedShapes
from .threads import allowed_threads

log = logging.getLogger(__name__)

_MODULES = {"onnxruntime": ".onnx_runtime", "openvino": ".open_vino", "pytorch": ".pytorch", "opencv": ".open_cv"}
_EXTRAS = {"openvino": "arm-sr[openvino]", "pytorch": "arm-sr[train]"}
BACKENDS = tuple(_MODULES)
"""Names, the default first."""
TPU = "sophon"
"""Name of the engine that runs compiled sub-nets; never chosen by itself."""
PRECISIONS = {"onnxruntime": ("fp32",), "openvino": ("fp32", "bf16"), "pytorch": ("fp32",), "opencv": ("fp32",)}
"""Arithmetic that each can be asked for, the default first."""
EXACT = (("onnxruntime", "fp32"), ("openvino", "fp32"), ("pytorch", "fp32"))
"""Engines and precisions that differ by rounding alone, whatever the model; what the others change is in its card."""


def open_backend(name: str, card: ModelCard, precision: str | None = None, threads: int | None = None,
                 bmodels: Path | None = None) -> Backend:  # fmt: skip
    """The engine `name` for the model `card`; see `calibration.open_engine` for `auto`.

    It computes with `threads` threads where they help, by default one for each processor that this process may use.
    A TPU has none of the names in `BACKENDS`, because it wants sub-nets that were compiled for it: `sophon:CHIP`, or
    `sophon:CHIP:PRECISION`, with the folder `bmodels`.

    Raises UsageError for an unknown name or precision, BackendError when the engine is not installed or the processor
    lacks the precision.
    """
    if name.partition(":")[0] == TPU:
        return _open_tpu(name, card, precision, bmodels)
    if bmodels is not None:
        raise UsageError(f"bmodels are for the backend {TPU}:CHIP[:PRECISION], not for '{name}'")
    if name not in _MODULES:
        raise UsageError(f"unknown backend '{name}'; there are {', '.join(BACKENDS)} and {TPU}:CHIP[:PRECISION]")
    precision = precision or PRECISIONS[name][0]
    if precision not in PRECISIONS[name]:
        raise UsageError(f"backend '{name}' has no precision '{precision}', only {', '.join(PRECISIONS[name])}")
    try:
        module = import_module(_MODULES[name], __name__)
    except ImportError as error:
        missing = error.name or name
        package = _EXTRAS.get(name, "arm-sr")
        raise BackendError(
            f"backend '{name}' needs '{missing}', which is not installed: pip install '{package}'"
        ) from error
    backend: Backend = module.open_backend(card, precision, threads or allowed_threads())
    return FixedShapes(backend, card) if any(any(net.shape) for net in card.subnets.values()) else backend


def _open_tpu(name: str, card: ModelCard, precision: str | None, bmodels: Path | None) -> Backend:
    from ..tpu.chips import CHIPS

    _, chip, own, *more = [*name.split(":"), "", ""]
    if chip not in CHIPS or any(more):
        raise UsageError(f"the backend '{name}' should be {TPU}:CHIP[:PRECISION], with a CHIP of {', '.join(CHIPS)}")
    if precision is not None:
        raise UsageError(f"the precision of a TPU is part of its name, {TPU}:{chip}:PRECISION; leave precision out")
    if bmodels is None:
        raise UsageError(f"the backend '{name}' needs the folder of its compiled sub-nets: bmodels, or --bmodels DIR")
    from . import sophon

    return sophon.open_backend(card, chip, own or None, bmodels)


def usable_backends(card: ModelCard) -> Iterator[Backend]:
    """Every engine and precision that works here with the files of `card`, opened one after the other; the others are
    named in the log."""
    for name in BACKENDS:
        for precision in PRECISIONS[name]:
            try:
                backend = open_backend(name, card, precision)
                for branch in card.branches[1:]:
                    backend.load(branch)
            except (ArtefactError, BackendError) as error:
                log.info("left out: %s", error)
            else:
                yield backend


__all__ = ["BACKENDS", "EXACT", "PRECISIONS", "Backend", "open_backend", "usable_backends"]
