"""Files are replaced in one step: written under a temporary name beside the target, then renamed."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` as `replacing` does. Raises OSError."""
    with replacing(path) as stream:
        stream.write(data)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A stream whose contents become the file `path` at the end, so that no reader, and no kill, ever sees half of it.

    A link keeps pointing where it does; a device such as /dev/stdout is written to as it is. Raises OSError; after an
    error the old file is there.
    """
    path = Path(os.path.realpath(path))
    if _is_device(path):
        with path.open("wb") as stream:
            yield stream
        return
    temporary = path.with_name(f".{path.name[:40]}.{secrets.token_hex(4)}.tmp")
    try:
        stream = temporary.open("xb")
    except OSError as error:
        error.filename = str(path)  # not that of a file that nobody asked for
        raise
    try:
        with stream:
            yield stream
        temporary.replace(path)
    except BaseException:
        temporary.unlink()
        raise


def writable(path: Path) -> bool:
    """Whether `replacing` can begin to write `path`, told before there is anything to write."""
    path = Path(os.path.realpath(path))
    if _is_device(path):
        return os.access(path, os.W_OK)
    return not path.is_dir() and os.access(path.parent, os.W_OK | os.X_OK)


def _is_device(path: Path) -> bool:
    return path.exists() and not path.is_file() and not path.is_dir()
