"""Fresh processes, for what a process is given once: its processors and its peak of memory."""

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from pathlib import Path
from typing import TypeVar

import numpy as np

from ..backends.threads import allowed_threads
from ..errors import ArmSRError, BackendError, UsageError
from .arms import Arm

log = logging.getLogger(__name__)
T = TypeVar("T")


def in_fresh_process(run: Callable[..., T], *args: object) -> T:
    """What `run` returns, or raises, in a new interpreter, which ends with this one; BackendError when it dies."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=end_with_parent) as pool:
        try:
            return pool.submit(run, *args).result()
        except BrokenProcessPool as error:
            raise BackendError("a process of its own died; there may be too little memory") from error
        except KeyboardInterrupt:  # a signal; leaving waits for what is running
            for child in multiprocessing.active_children():
                child.terminate()
            raise


def end_with_parent() -> None:
    """End this process when the one that started it is killed, and unwind it when that one terminates it."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def with_threads(threads: int, run: Callable[..., T], *args: object) -> T:
    """As `in_fresh_process`, on so many of the processors that this process may use.

    Every engine, OpenCV and the cache of measured costs then take that number for the whole machine.
    """
    if not hasattr(os, "sched_setaffinity"):
        raise UsageError("--threads needs a system that can keep a process to some of its processors, such as Linux")
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, sorted(allowed)[:threads])  # a new process inherits it
        return in_fresh_process(run, *args)
    finally:
        os.sched_setaffinity(0, allowed)


def checked_threads(counts: Sequence[int]) -> list[int]:
    """Numbers of threads, fewest first; UsageError when there are not so many processors."""
    if min(counts) < 1 or max(counts) > allowed_threads():
        raise UsageError(f"--threads must be from 1 to {allowed_threads()}, the processors that this process may use")
    return sorted(set(counts))


def peak_rss(arm: Arm, lr: np.ndarray) -> float | None:
    """MiB of memory that a process needs at most to upscale one LR picture, uint8 RGB (H, W, 3), with nothing but
    `arm`; None where the system does not tell, or kills it."""
    try:
        return in_fresh_process(_peak_after, arm, lr)
    except (ArmSRError, MemoryError) as error:
        log.warning("peak memory of %s %s %s is not known: %s", arm.engine, arm.rule, arm.value, error)
        return None


def _peak_after(arm: Arm, lr: np.ndarray) -> float | None:
    arm.open()(lr)
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
    except OSError:
        return None
    # Not ru_maxrss, which begins with the memory of the process that started this one.
    return next((int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM")), None)
