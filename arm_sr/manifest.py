"""The manifest of an output folder: what was finished there, so that a job that was stopped can go on.

A file of JSON lines, hidden in the folder it speaks of, so that both move together. A line is added after its output
has its name; a kill can only tear the last one, which then does not count.
"""

import hashlib
import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from .errors import ImageError
from .json_text import parse_json

try:
    import fcntl
except ImportError:  # a system without it; there two jobs in one folder are the user's affair
    fcntl = None  # type: ignore[assignment]

NAME = ".arm-sr.jsonl"
"""Of the file, in the output folder."""


@dataclass(frozen=True)
class Entry:
    """One finished output."""

    output: str
    """Path within the output folder, with slashes."""
    input: str
    """Path of its picture within the folder that was given, or its name."""
    input_sha256: str
    """Of the picture's file."""
    settings: str
    """See `settings_digest`."""
    output_sha256: str
    """Of the output's file, so that one that was damaged or edited is made again."""


def settings_digest(settings: dict[str, Any]) -> str:
    """SHA-256 of everything a result depends on besides its picture; plain data."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file in hexadecimal; ImageError when it cannot be read."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except FileNotFoundError as error:
        raise ImageError(f"{path}: no such file; check the name") from error
    except OSError as error:
        reason = f"the file cannot be read ({error.strerror or error})"
        raise ImageError(f"{path}: {reason}; check its name and the disk") from error


class Manifest:
    """The entries of an output folder, the last one of every output.

    Args:
        folder: the output folder; it need not exist.

    Raises ImageError when the manifest is there and cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self.path = folder, folder / NAME
        self._entries: dict[str, Entry] = {}
        self._descriptor: int | None = None
        self._torn = False
        try:
            text = self.path.read_bytes() if self.path.exists() else b""
        except OSError as error:
            raise self._trouble("read", error) from error
        for line in text.splitlines():
            with suppress(ValueError, TypeError):  # torn by a kill, or of another version
                entry = Entry(**parse_json(line))
                self._entries[entry.output] = entry
        self._torn = not text.endswith(b"\n") and bool(text)

    def is_done(self, output: str, source: Path, settings: str) -> bool:
        """Whether `output` was made of just this file with these settings and is still as it was then.

        Raises ImageError when one of the two files cannot be read; an output that is missing is not done.
        """
        entry = self._entries.get(output)
        if entry is None or entry.settings != settings or not (self._folder / output).exists():
            return False
        return (file_digest(source), file_digest(self._folder / output)) == (entry.input_sha256, entry.output_sha256)

    def __enter__(self) -> "Manifest":
        """Open it for `add`, alone: ImageError when another process has it, or it cannot be written."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            if fcntl:
                self._lock(self._descriptor)
        except OSError as error:
            if isinstance(error, ImageError):
                raise
            raise self._trouble("written", error) from error
        return self

    def _lock(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self.__exit__(None, None, None)
            raise ImageError(f"{self._folder}: another arm-sr is writing here; wait for it to end") from error
        except OSError:
            pass  # a file system without locks

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:  # fmt: skip
        """Close it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor = None

    def add(self, entry: Entry) -> None:
        """Add the entry of an output that was just finished; ImageError when it cannot be written."""
        assert self._descriptor is not None, "the manifest is not open"
        line = (b"\n" if self._torn else b"") + json.dumps(asdict(entry)).encode() + b"\n"
        self._torn = True  # until all of it is there
        try:
            while line:
                line = line[os.write(self._descriptor, line) :]
        except OSError as error:
            raise self._trouble("written", error) from error
        self._torn = False
        self._entries[entry.output] = entry

    def _trouble(self, what: str, error: OSError) -> ImageError:
        return ImageError(f"{self.path}: cannot be {what} ({error.strerror or error}); check the folder and the disk")
