"""The worker as its engine sees it: a process that may crash, hang or be killed, and is then started once more."""

import logging
import os
import queue
import subprocess
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from signal import Signals
from typing import Any, BinaryIO, TypeVar

from ...errors import BackendError
from .worker import read_frame, write_frame

log = logging.getLogger(__name__)

LOG_LINES = 20
"""Of a worker's log that are told when it is lost."""
START = 120.0
"""Seconds that a worker may take to open its runtime, and to load a bmodel."""
END = 0.5
"""Seconds that it gets to end by itself."""
KILLED = 5.0
"""Seconds in which one that was killed is gone, unless it hangs in a driver."""

Frame = tuple[int, dict[str, Any], bytes]
"""Number, description and bytes."""
_Result = TypeVar("_Result")


class Lost(Exception):
    """The process crashed, hung or was killed; says how."""


class Process:
    """One process and its pipes. Threads write and read them, so that neither a full nor a silent pipe blocks who asks.

    Args:
        command: of the worker; the number of the pipe for its answers is appended.
        environment: of the process.
        log_file: gets what it prints.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log_file: Path) -> None:
        self._log_file, self._number = log_file, 0
        ours, theirs = os.pipe()
        answers = os.fdopen(ours, "rb")
        try:
            with log_file.open("wb") as printed:
                popen = subprocess.Popen(
                    [*command, str(theirs)], stdin=subprocess.PIPE, stdout=printed, stderr=printed,
                    pass_fds=(theirs,), env=dict(environment), start_new_session=True,  # an interrupt is ours alone
                )  # fmt: skip
        except OSError as error:
            answers.close()
            raise BackendError(f"{command[0]}: {error.strerror or error}; no worker could be started") from error
        finally:
            os.close(theirs)
        assert popen.stdin is not None
        self._popen = popen
        self._asked: queue.SimpleQueue[Frame | None] = queue.SimpleQueue()
        self._answered: queue.SimpleQueue[Frame | None] = queue.SimpleQueue()
        threading.Thread(target=_write, args=(popen.stdin, self._asked), daemon=True).start()
        threading.Thread(target=_read, args=(answers, self._answered), daemon=True).start()
        self.end = weakref.finalize(self, _end, popen, self._asked, os.getpid())
        """Ends the process; also called when nobody has this any more."""

    def ask(self, what: dict[str, Any], body: bytes, patience: float) -> tuple[dict[str, Any], bytes]:
        """The answer to a request, by its number: what comes late of an earlier one is passed over.

        Raises `Lost` when there is none within `patience` seconds.
        """
        self._number += 1
        self._asked.put((self._number, what, body))
        until = time.monotonic() + patience
        while True:
            try:
                answer = self._answered.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                raise Lost(f"did not answer within {patience:.0f} s") from None
            if answer is None:
                raise Lost(self._how_it_ended())
            number, told, result = answer
            if number == self._number:
                return told, result
            if number > self._number:
                raise Lost(f"answered request {number} when {self._number} was the last one")

    def printed(self) -> list[str]:
        """The last lines of its log."""
        try:
            text = self._log_file.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return []
        return [line for line in text.splitlines() if line.strip()][-LOG_LINES:]

    def _how_it_ended(self) -> str:
        """Its answers have ended; mostly it has, too."""
        try:
            status = self._popen.wait(KILLED)
        except subprocess.TimeoutExpired:
            return "broke off its answers"
        if status >= 0:
            return f"ended with status {status}"
        with suppress(ValueError):
            return f"was ended by {Signals(-status).name}"
        return f"was ended by signal {-status}"


def _write(pipe: BinaryIO, asked: "queue.SimpleQueue[Frame | None]") -> None:
    """Requests as they come, until there is a None or nobody reads them."""
    with suppress(OSError, ValueError), pipe:
        while (request := asked.get()) is not None:
            write_frame(pipe, *request)


def _read(pipe: BinaryIO, answered: "queue.SimpleQueue[Frame | None]") -> None:
    """Answers as they come, and a None after the last."""
    with suppress(OSError, ValueError), pipe:
        while (answer := read_frame(pipe)) is not None:
            answered.put(answer)
    answered.put(None)


def _end(popen: "subprocess.Popen[bytes]", asked: "queue.SimpleQueue[Frame | None]", owner: int) -> None:
    if os.getpid() != owner:  # it belongs to the process that this one was forked from
        return
    asked.put(None)
    try:
        popen.wait(END)
    except subprocess.TimeoutExpired:
        popen.kill()
        with suppress(subprocess.TimeoutExpired):
            popen.wait(KILLED)


class Worker:
    """A process for one device, and what it must know: one that is lost is started once more and told the same.

    Args:
        device: which one, in words.
        command, environment: of the process.
        log_file: gets what it prints.
        opening: the request that opens its runtime.
    """

    def __init__(self, device: str, command: Sequence[str], environment: Mapping[str, str], log_file: Path,
                 opening: dict[str, Any]) -> None:  # fmt: skip
        self.device, self.name = device, f"the worker of {device}"
        self._command, self._environment, self._log_file = command, environment, log_file
        self._opening, self._lock = opening, threading.Lock()
        self._loads: list[dict[str, Any]] = []
        self._process: Process | None = None
        self._runtime: dict[str, Any] = {}

    def open(self) -> dict[str, Any]:
        """Chip and version of the runtime; the process is started if there is none."""
        return self._try("opening the runtime", lambda process: self._runtime)

    def load(self, file: str, nets: Sequence[str]) -> dict[str, Any]:
        """Load a bmodel; returns what the runtime says of its `nets`."""
        request = {"do": "load", "file": file, "nets": list(nets)}
        told, _ = self._try(f"loading {file}", lambda process: process.ask(request, b"", START))
        if "error" in told:
            raise BackendError(f"{file}: {told['error']}")
        self._loads.append(request)
        found: dict[str, Any] = told["nets"]
        return found

    def run(self, net: str, data: bytes, patience: float) -> tuple[str, bytes]:
        """Dtype and bytes of the output of a net, within `patience` seconds."""
        request = {"do": "run", "net": net}
        told, result = self._try(f"running {net}", lambda process: process.ask(request, data, patience))
        if "error" in told:
            raise BackendError(f"{self.name}: {told['error']}")
        return told["dtype"], result

    def close(self) -> None:
        """End the process; the next one has to be told anew what to load."""
        with self._lock:
            self._drop()
            self._loads.clear()

    def forget(self) -> None:
        """Leave the process to the one that this one was forked from."""
        self._process, self._lock = None, threading.Lock()
        self._loads.clear()

    def _try(self, doing: str, work: Callable[[Process], _Result]) -> _Result:
        """`work` with the process. One that is lost is reported with its log and replaced once. Raises BackendError."""
        with self._lock:
            try:
                return work(self._process or self._start())
            except Lost as lost:
                self._report(doing, lost)
                log.warning("%s is started once more", self.name)
            try:
                return work(self._start())
            except Lost as lost:
                printed = self._report(doing, lost)
                last = f"; the last that it printed: {printed[-1].strip()}" if printed else ""
                raise BackendError(f"{self.name} {lost} while {doing}, for the second time{last}") from lost

    def _start(self) -> Process:
        self._process = Process(self._command, self._environment, self._log_file)
        for request in (self._opening, *self._loads):
            told, _ = self._process.ask(request, b"", START)
            if "error" in told:
                self._drop()
                raise BackendError(f"{request.get('file', self.name)}: {told['error']}")
            if request is self._opening:
                self._runtime = told
        return self._process

    def _report(self, doing: str, lost: Lost) -> list[str]:
        """Tell of a process that is lost, and end what is left of it; returns the end of its log."""
        printed = self._process.printed() if self._process else []
        self._drop()
        log.warning("%s %s while %s; its log ends:\n%s", self.name, lost, doing, "\n".join(printed) or "(empty)")
        return printed

    def _drop(self) -> None:
        if self._process is not None:
            self._process.end()
            self._process = None
