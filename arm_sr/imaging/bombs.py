"""Files that are small and well-formed and would keep a decoder busy for minutes: told before one opens them."""

import re
import struct
from typing import BinaryIO

from ..errors import ImageError

MAX_CHUNKS = 200
"""Chunks of a PNG besides its pixels: each may inflate to a megabyte, several times."""
MAX_DATA_CHUNKS = 100_000
"""Chunks of pixels; 200 megapixels in chunks of 8 KB are fewer."""
MAX_SCANS = 100
"""Scans of a progressive JPEG, each of which walks over the whole picture; encoders make about ten."""
MAX_PAGES = 1000
"""Pages of a TIFF that are counted."""


def refuse_bombs(name: object, stream: BinaryIO) -> None:
    """ImageError about `name` when the file in `stream`, which is read from its beginning, is such a bomb; what is
    damaged is left to the decoders."""
    stream.seek(0)
    magic = stream.read(4)
    if magic == b"\x89PNG":
        _check_chunks(name, stream)
    elif magic.startswith(b"\xff\xd8\xff"):
        stream.seek(0)
        _check_scans(name, stream.read())
    elif magic in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        _check_pages(name, stream, "<" if magic[:1] == b"I" else ">", big=b"+" in magic)


_MARKER = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])")
"""Of JPEG, but for those within pixels."""


def _check_scans(name: object, data: bytes) -> None:
    place = scans = 0
    while (found := _MARKER.search(data, place)) and found[1] != b"\xd9":  # the end; what comes after it is not decoded
        place = found.end()
        if found[1] not in b"\xd8\x01":  # the others have a length
            place += int.from_bytes(data[place : place + 2], "big")
        scans += found[1] == b"\xda"
        if scans > MAX_SCANS:
            raise ImageError(f"{name}: this JPEG has over {MAX_SCANS} scans; save it anew")


def _check_chunks(name: object, stream: BinaryIO) -> None:
    stream.seek(8)
    data = others = 0
    while len(head := stream.read(8)) == 8:
        if head[4:] == b"IDAT":
            data += 1
        else:
            others += 1
        if others > MAX_CHUNKS or data > MAX_DATA_CHUNKS:
            most = f"{MAX_CHUNKS} chunks besides its pixels" if others > MAX_CHUNKS else f"{MAX_DATA_CHUNKS:,} chunks"
            raise ImageError(f"{name}: this PNG has over {most}, as animations have; save it as a plain picture")
        stream.seek(int.from_bytes(head[:4], "big") + 4, 1)


def _check_pages(name: object, stream: BinaryIO, order: str, big: bool) -> None:
    """Pillow compares every page with all those before it."""
    place, count, entry = (8, order + "Q", 20) if big else (4, order + "H", 12)
    offset = order + ("Q" if big else "I")
    stream.seek(place)
    seen: set[int] = set()
    while len(at := stream.read(struct.calcsize(offset))) == struct.calcsize(offset):
        (start,) = struct.unpack(offset, at)
        if not 0 < start < 2**62 or start in seen:
            return
        seen.add(start)
        if len(seen) > MAX_PAGES:
            raise ImageError(f"{name}: this file has over {MAX_PAGES} frames; extract one of them to a file of its own")
        stream.seek(start)
        head = stream.read(struct.calcsize(count))
        if len(head) < struct.calcsize(count):
            return
        (entries,) = struct.unpack(count, head)
        if entries > 2**32:
            return
        stream.seek(entries * entry, 1)
