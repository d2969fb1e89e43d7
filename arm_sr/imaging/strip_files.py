"""PNG and TIFF files written from top to bottom, 8 or 16 bits a channel.

For pictures too large for memory, and for 16-bit colour: neither Pillow nor OpenCV writes it with its ICC profile.
"""

import itertools
import struct
import zlib
from abc import ABC, abstractmethod
from functools import partial
from typing import Any, BinaryIO, TypeAlias

import numpy as np
from PIL.PngImagePlugin import putchunk

from .metadata import is_of_grey, png_exif, png_xmp, tiff_directory

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]


LEVEL, STRATEGY = 1, zlib.Z_RLE
"""How pixels are deflated: in the differences of photographs little repeats but runs of one value. zlib's default takes
four to six times as long for 0 to 13% fewer bytes."""
_deflater = partial(zlib.compressobj, LEVEL, strategy=STRATEGY)
CHUNK = 1 << 20
"""Bytes of a chunk of PNG data."""
BLOCK = 64
"""Rows that are compressed at once, so that copies of them stay small; a strip of a TIFF has as many."""


class StripWriter(ABC):
    """A picture file that takes rows from top to bottom.

    Args:
        stream: where it is written to; it stays open.
        shape: height, width and channels: grey, grey + alpha, RGB or RGBA.
        dtype: uint8 or uint16.
        icc_profile: meaning of the colours; None is sRGB.
        exif: an EXIF block, or None.
        xmp: an XMP packet, or None.
    """

    def __init__(self, stream: BinaryIO, shape: tuple[int, int, int], dtype: Any, icc_profile: bytes | None,
                 exif: bytes | None = None, xmp: bytes | None = None) -> None:  # fmt: skip
        self._stream, self._shape, self._bits, self._icc = stream, shape, 8 * np.dtype(dtype).itemsize, icc_profile
        self._exif, self._xmp = exif, xmp
        self._left = shape[0]
        self._begin()

    def write(self, planes: Array) -> None:
        """The next rows: (rows, W, C)."""
        self._left -= len(planes)
        self._add(planes)

    def close(self) -> None:
        """After the last row; ValueError when rows are missing or too many."""
        if self._left:
            raise ValueError(f"{abs(self._left)} rows {'are missing' if self._left > 0 else 'too many'}")
        self._end()

    @abstractmethod
    def _begin(self) -> None: ...

    @abstractmethod
    def _add(self, planes: Array) -> None: ...

    @abstractmethod
    def _end(self) -> None: ...


class PngWriter(StripWriter):
    """PNG, deflated with differences from the row above."""

    def _begin(self) -> None:
        height, width, channels = self._shape
        self._deflate, self._data = _deflater(), bytearray()
        self._above = np.zeros((1, width * channels * self._bits // 8), np.uint8)
        colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
        self._stream.write(b"\x89PNG\r\n\x1a\n")
        putchunk(self._stream, b"IHDR", struct.pack(">IIBBBBB", width, height, self._bits, colour_type, 0, 0, 0))
        if self._icc:
            putchunk(self._stream, b"iCCP", b"ICC profile\0\0" + zlib.compress(self._icc))
        if self._exif:
            putchunk(self._stream, b"eXIf", png_exif(self._exif))
        if self._xmp:
            putchunk(self._stream, b"iTXt", png_xmp(self._xmp))

    def _add(self, planes: Array) -> None:
        for first in range(0, len(planes), BLOCK):
            block = planes[first : first + BLOCK]
            rows = block.astype(block.dtype.newbyteorder(">")).reshape(len(block), -1).view(np.uint8)
            filtered = np.pad(rows, ((0, 0), (1, 0)), constant_values=2)  # filter 2: difference from the row above
            filtered[0, 1:] -= self._above[0]
            filtered[1:, 1:] -= rows[:-1]
            self._above = rows[-1:].copy()
            self._data += self._deflate.compress(filtered.data)
            self._put(CHUNK)

    def _end(self) -> None:
        self._data += self._deflate.flush()
        self._put(1)
        putchunk(self._stream, b"IEND", b"")

    def _put(self, least: int) -> None:
        """Write chunks as long as there are `least` bytes for one."""
        while len(self._data) >= least:
            putchunk(self._stream, b"IDAT", bytes(self._data[:CHUNK]))
            del self._data[:CHUNK]


class TiffWriter(StripWriter):
    """TIFF, deflated with horizontal differences.

    Grey with alpha, which few programs read, is stored as RGBA. The directory stands before the last strip, so that a
    file that was cut short never looks whole; the stream must be one that can seek.
    """

    def _begin(self) -> None:
        self._start = self._stream.tell()
        self._sizes = list[int]()
        self._waiting: list[Array] = []  # rows that do not fill a strip yet
        self._last = b""  # the strip that is not written yet
        self._stream.write(b"II*\0\0\0\0\0")

    def _add(self, planes: Array) -> None:
        rows = np.concatenate([*self._waiting, planes])
        whole = len(rows) if not self._left else len(rows) - len(rows) % BLOCK
        for first in range(0, whole, BLOCK):
            self._strip(rows[first : min(first + BLOCK, whole)])
        self._waiting = [rows[whole:].copy()]

    def _strip(self, planes: Array) -> None:
        if planes.shape[2] == 2:
            planes = planes[..., [0, 0, 0, 1]]
        differences = planes.copy()
        differences[:, 1:] -= planes[:, :-1]
        self._stream.write(self._last)
        deflate = _deflater()
        self._last = deflate.compress(differences.astype(planes.dtype.newbyteorder("<")).tobytes()) + deflate.flush()
        self._sizes.append(len(self._last))

    def _end(self) -> None:
        self._stream.write(b"\0" * (self._stream.tell() % 2))  # a directory begins at an even byte
        place = self._stream.tell() - self._start
        size = len(self._directory(place, 0))
        self._stream.write(self._directory(place, place + size) + self._last)
        self._stream.seek(self._start + 4)
        self._stream.write(struct.pack("<I", place))
        self._stream.seek(0, 2)

    def _directory(self, place: int, last: int) -> bytes:
        """The directory with its values, for `place` in the file; the last strip stands at `last`."""
        height, width, channels = self._shape
        channels = 4 if channels == 2 else channels
        offsets = list(itertools.accumulate(self._sizes[:-1], initial=8))
        short, long, undefined = (3, "H"), (4, "I"), (7, "B")
        tags: dict[int, tuple[tuple[int, str], Any]] = {
            256: (long, [width]),
            257: (long, [height]),
            258: (short, [self._bits] * channels),
            259: (short, [8]),  # Deflate
            262: (short, [1 if channels == 1 else 2]),  # grey, RGB
            273: (long, [*offsets[:-1], last]),
            277: (short, [channels]),
            278: (long, [min(BLOCK, height)]),
            279: (long, self._sizes),
            317: (short, [2]),  # horizontal differences
        }
        if channels == 4:
            tags[338] = (short, [2])  # the fourth is alpha, not premultiplied
        if self._icc and (channels == 1 or not is_of_grey(self._icc)):
            tags[34675] = (undefined, self._icc)
        metadata = tiff_directory(self._exif, self._xmp)
        entries, beyond = [], b""
        end = place + 2 + 12 * (len(tags) + len(metadata)) + 4
        for tag, ((kind, letter), values) in tags.items():
            data = struct.pack(f"<{len(values)}{letter}", *values)
            if len(data) > 4:
                data, beyond = struct.pack("<I", end + len(beyond)), beyond + data + b"\0" * (len(data) % 2)
            entries.append(struct.pack("<HHI", tag, kind, len(values)) + data.ljust(4, b"\0"))
        if metadata:
            head = 2 + 12 * len(metadata) + 4  # what its values stand behind there; here they come last
            block = metadata.tobytes(end + len(beyond) - head)
            entries += [block[first : first + 12] for first in range(2, head - 4, 12)]
            beyond += block[head:]
        entries.sort(key=lambda entry: struct.unpack("<H", entry[:2]))
        return struct.pack("<H", len(entries)) + b"".join(entries) + struct.pack("<I", 0) + beyond


WRITERS: dict[str, type[StripWriter]] = {"PNG": PngWriter, "TIFF": TiffWriter}
"""By name of the format."""
