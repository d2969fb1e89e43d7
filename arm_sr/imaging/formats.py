"""The file formats that are written: what each can hold, and how its encoder is asked for it."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import features

from ..errors import ImageError
from .strip_files import LEVEL, STRATEGY


@dataclass(frozen=True)
class Format:
    """What a file format can hold, and how Pillow is asked for it."""

    name: str
    max_side: int = 1_000_000  # libpng reads no more, nor does OpenCV much more
    max_bytes: int = 2**63  # of the pixels, uncompressed
    alpha: bool = True
    grey: bool = True
    sixteen_bit: bool = False
    metadata: bool = True  # ICC profile, EXIF and XMP
    max_metadata: int = 2**31  # bytes of EXIF, and of XMP with the 29 that stand before it
    options: dict[str, Any] = field(default_factory=dict)
    lossy: dict[str, Any] = field(default_factory=dict)  # instead, where a quality is asked for
    takes_quality: bool = False
    takes_subsampling: bool = False


_OFFSETS_END = 2**32 - 2**20  # TIFF and BMP count bytes in 32 bits; the rest is for their headers
_FINE = {"quality": 95, "subsampling": "4:4:4"}
_PNG = Format("PNG", sixteen_bit=True, options={"compress_level": LEVEL, "compress_type": STRATEGY})
_JPEG = Format("JPEG", 65500, alpha=False, max_metadata=65533, options=_FINE, lossy=_FINE, takes_quality=True,
               takes_subsampling=True)  # fmt: skip
_WEBP = Format("WebP", 16383, grey=False, options={"lossless": True, "exact": True}, lossy={"exact": True},
               takes_quality=True)  # fmt: skip
_TIFF = Format("TIFF", max_bytes=_OFFSETS_END, sixteen_bit=True, options={"compression": "tiff_lzw"})
_BMP = Format("BMP", max_bytes=_OFFSETS_END, alpha=False, metadata=False)
_AVIF = Format("AVIF", 32768, 3 * 2**28, options=_FINE, lossy=_FINE, takes_quality=True, takes_subsampling=True)
FORMATS = {".png": _PNG, ".jpg": _JPEG, ".jpeg": _JPEG, ".webp": _WEBP, ".tif": _TIFF, ".tiff": _TIFF, ".bmp": _BMP}
"""By lower-case suffix."""
AVIF = features.check("avif")
"""Whether Pillow reads and writes it here; in 8 bits, whatever its file has."""
if AVIF:
    FORMATS[".avif"] = _AVIF

IMAGE_SUFFIXES = frozenset(FORMATS)
"""Lower-case suffixes of the pictures that are read and written."""


@dataclass(frozen=True)
class Encoding:
    """How a picture is to be written."""

    suffix: str
    """Of a file of the format, such as `.png`."""
    quality: int | None = None
    """1 to 100, of formats that lose something; those that need not do so where it is given."""
    subsampling: str | None = None
    """Of colours, `4:4:4`, `4:2:2` or `4:2:0`, where the format has it."""

    @property
    def format(self) -> Format | None:
        """None where there is none with this suffix."""
        return FORMATS.get(self.suffix.lower())

    def options(self, channels: int) -> dict[str, Any]:
        """What Pillow's encoder takes, for a picture of so many channels."""
        assert self.format is not None
        found = self.format
        lossy = self.quality is not None and found.takes_quality
        options = {**found.lossy, "quality": self.quality} if lossy else dict(found.options)
        if found.takes_subsampling and self.subsampling:
            options["subsampling"] = self.subsampling
        if channels < 3:
            options.pop("subsampling", None)  # there is nothing to take fewer samples of
        return options


def format_for(where: str, suffix: str, width: int, height: int, *, sixteen_bit: bool = False, alpha: bool = False,
               metadata: int = 0) -> Format:  # fmt: skip
    """The format of a suffix; raises ImageError, about `where`, when it is unknown or cannot hold such a picture.

    `Image.needs` has what is asked of a format beside the size.
    """
    found = FORMATS.get(suffix.lower())
    if found is None:
        raise ImageError(f"{where}: cannot write {suffix or 'a name without suffix'}; use {', '.join(FORMATS)}")
    if alpha and not found.alpha:
        raise ImageError(f"{where}: {found.name} has no transparency; write .png instead")
    if sixteen_bit and not found.sixteen_bit:
        raise ImageError(f"{where}: {found.name} has no 16-bit channels; write .png or .tiff instead")
    size = width * height * (3 + alpha) * (1 + sixteen_bit)
    if max(width, height) > found.max_side or size > found.max_bytes:
        advice = "write .png instead" if max(width, height) <= _PNG.max_side else "ask for fewer pixels"
        raise ImageError(f"{where}: {width}x{height} is too large for {found.name}; {advice}")
    if metadata > found.max_metadata:
        reason = f"its EXIF or XMP of {metadata:,} bytes is too large for {found.name}"
        raise ImageError(f"{where}: {reason}; write .png instead")
    return found


def check_writable(
    path: str | os.PathLike[str], width: int, height: int, *, suffix: str | None = None, **needs: Any
) -> None:
    """Raise ImageError, before anything is computed, when such a picture cannot be written to `path`.

    The format (that of `suffix`, default: of the path) does not exist or cannot hold it (see `format_for`), `path` is a
    folder, or its folder is missing or read-only.
    """
    path = Path(path)
    format_for(str(path), path.suffix if suffix is None else suffix, width, height, **needs)
    if "\0" in str(path):
        raise ImageError(f"{path}: cannot be written, because its name has a null byte; choose another name")
    if os.path.isdir(path):  # unlike Path.is_dir, takes any name
        raise ImageError(f"{path}: this is a folder; name a file in it")
    if not os.path.isdir(path.parent):
        raise ImageError(f"{path}: there is no folder {path.parent}; create it first")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise ImageError(f"{path}: no permission to write in {path.parent}; choose another folder")
