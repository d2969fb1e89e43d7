"""Files are replaced in one step: written under a temporary name beside the target, then renamed."""

import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` as `replacing` does. Raises OSError."""
    with replacing(path) as stream:
        stream.write(data)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A stream whose contents become the file `path` at the end, so that no reader, and no kill, ever sees half of it.

    A link keeps pointing where it does, and a file that was there keeps its permissions; a device such as /dev/stdout
    is written to as it is. Raises OSError, which names `path`; after an error the old file is there. The contents are
    on the disk before the file has its name, so that it is whole even after a power cut.
    """
    place = _place(path)
    temporary = place.with_name(f".{place.name[:40]}.{secrets.token_hex(4)}.tmp")
    try:
        with place.open("wb") if _is_device(place) else _whole_or_not(place, temporary) as stream:
            yield stream
    except OSError as error:
        if error.errno is not None and error.filename in (None, temporary, str(temporary)):  # nobody asked for that one
            error.filename = str(path)
        raise


@contextmanager
def _whole_or_not(path: Path, temporary: Path) -> Iterator[BinaryIO]:
    stream = temporary.open("xb")
    try:
        with stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        with suppress(FileNotFoundError):
            shutil.copymode(path, temporary)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)  # an interrupt may come when it has its name
        raise


_TEMPORARY = re.compile(r"\.(.{1,40})\.[0-9a-f]{8}\.tmp", re.DOTALL)


def remove_leftovers(paths: Iterable[Path]) -> None:
    """Remove what killed processes left of `replacing` any of these files; no other process may be writing them now.
    Raises OSError."""
    names: dict[Path, set[str]] = {}
    for path in map(Path, map(os.path.realpath, paths)):
        names.setdefault(path.parent, set()).add(path.name[:40])
    for folder, ours in names.items():
        for entry in os.scandir(folder) if folder.is_dir() else ():
            if (match := _TEMPORARY.fullmatch(entry.name)) and match[1] in ours:
                Path(entry.path).unlink()


def writable(path: Path) -> bool:
    """Whether `replacing` can begin to write `path`, told before there is anything to write."""
    path = _place(path)
    if _is_device(path):
        return os.access(path, os.W_OK)
    return not path.is_dir() and os.access(path.parent, os.W_OK | os.X_OK)


def _place(path: Path) -> Path:
    """What a link points to; a pipe, to which /dev/stdout may be one, has no name of its own."""
    return path if _is_device(path) else Path(os.path.realpath(path))


def _is_device(path: Path) -> bool:
    return path.exists() and not path.is_file() and not path.is_dir()
