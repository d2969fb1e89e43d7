"""PNG and TIFF files of 16 bits a channel.

Neither Pillow nor OpenCV writes 16-bit colour together with its ICC profile; both files are simple enough.
"""

import io
import struct
import zlib
from typing import Any, TypeAlias

import numpy as np
from PIL.PngImagePlugin import putchunk
from PIL.TiffImagePlugin import ImageFileDirectory_v2

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]


def png16(planes: Array, icc_profile: bytes | None) -> bytes:
    """PNG of (H, W, C) uint16: grey, grey + alpha, RGB or RGBA."""
    height, width, channels = planes.shape
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = planes.astype(">u2").view(np.uint8).reshape(height, -1)
    filtered = np.pad(rows, ((0, 0), (1, 0)), constant_values=2)  # filter 2: difference from the row above
    filtered[1:, 1:] -= rows[:-1]
    data = zlib.compress(filtered.data)
    out = io.BytesIO()
    out.write(b"\x89PNG\r\n\x1a\n")
    putchunk(out, b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0))
    if icc_profile:
        putchunk(out, b"iCCP", b"ICC profile\0\0" + zlib.compress(icc_profile))
    for start in range(0, len(data), 2**20):
        putchunk(out, b"IDAT", data[start : start + 2**20])
    putchunk(out, b"IEND", b"")
    return out.getvalue()


def tiff16(planes: Array, icc_profile: bytes | None) -> bytes:
    """TIFF of (H, W, C) uint16, deflated with horizontal differences, in one strip."""
    if planes.shape[2] == 2:  # which few programs read
        planes = planes[..., [0, 0, 0, 1]]
    height, width, channels = planes.shape
    differences = planes.copy()
    differences[:, 1:] -= planes[:, :-1]
    strip = zlib.compress(differences.astype("<u2").tobytes())
    bits, colours = (16,) * channels, 1 if channels == 1 else 2
    tags = {256: width, 257: height, 258: bits, 259: 8, 262: colours, 273: 0, 277: channels, 278: height}
    tags |= {279: len(strip), 317: 2}
    if channels == 4:
        tags[338] = 2  # the fourth is alpha, not premultiplied
    if icc_profile:
        tags[34675] = icc_profile
    directory = ImageFileDirectory_v2(b"II*\0\x08\0\0\0")
    for tag, value in tags.items():
        directory[tag] = value
    out = io.BytesIO()
    directory.save(out)
    out.write(strip)
    return out.getvalue()
