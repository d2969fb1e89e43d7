"""Reading and writing picture files.

Pillow decodes, because it notices cut files; what it reduces to 8 bits (16-bit colour) is decoded once
more by OpenCV. A file is hostile until decoded: whatever goes wrong is an `ImageError` of one sentence.
"""

import hashlib
import io
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import cv2
import numpy as np
import PIL.Image
from PIL import ImageCms
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile, PngInfo
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from ..atomic import replacing, write_bytes
from ..errors import ArmSRError, ImageError
from .bombs import refuse_bombs
from .formats import AVIF, FORMATS, Encoding, Format, check_writable, format_for
from .metadata import exif_of, is_of_grey, png_xmp, sized_exif, xmp_of
from .strip_files import WRITERS, StripWriter

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]

MAX_PIXELS = 200_000_000
"""Pictures with more pixels are refused before decoding: a file of a few bytes can claim any size."""


# Plugins are called directly: PIL.Image.open has a size limit of its own, kept in a global, and would try
# every format it knows. The plain JPEG plugin also reads the phones' multi-picture files: their first one.
_DECODERS: tuple[tuple[tuple[bytes, ...], type[ImageFile]], ...] = (
    ((b"\x89PNG\r\n\x1a\n",), PngImageFile),
    ((b"\xff\xd8\xff",), JpegImageFile),
    ((b"RIFF",), WebPImageFile),
    ((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), TiffImageFile),
    ((b"BM",), BmpImageFile),
)
_KNOWN = "PNG, JPEG, WebP, TIFF or BMP"
if AVIF:
    _KNOWN = "PNG, JPEG, WebP, TIFF, BMP or AVIF"

_TROUBLE: tuple[tuple[type[Exception], str], ...] = (
    (FileNotFoundError, "no such file; check the name"),
    (PermissionError, "no permission to read this file; change its permissions"),
    (PIL.Image.DecompressionBombError, "the picture is too large to decode; cut it into smaller ones"),
    (MemoryError, "not enough memory to decode the picture; cut it into smaller ones"),
)

# Warning filters and OpenCV's log level belong to the process, so one thread at a time silences them.
_SILENCE = threading.Lock()


@dataclass(frozen=True)
class Image:
    """A picture in memory. Raises ValueError when shapes or dtypes do not fit together."""

    pixels: Array
    """uint8 or uint16, (H, W) grey or (H, W, 3) RGB."""
    alpha: Array | None = None
    """(H, W) of the dtype of `pixels`, not premultiplied; None when opaque."""
    icc_profile: bytes | None = None
    """Meaning of the colours; None is sRGB."""
    exif: bytes | None = None
    """EXIF block, whose orientation is the normal one; None when there is none."""
    xmp: bytes | None = None
    """XMP packet, or None."""

    def __post_init__(self) -> None:
        shape, dtype = self.pixels.shape, self.pixels.dtype
        if dtype not in (np.uint8, np.uint16) or 0 in shape or not (len(shape) == 2 or shape[2:] == (3,)):
            raise ValueError(f"a picture is uint8 or uint16, (H, W) or (H, W, 3), not {dtype} {shape}")
        if self.alpha is not None and (self.alpha.shape != shape[:2] or self.alpha.dtype != dtype):
            raise ValueError(f"alpha {self.alpha.dtype} {self.alpha.shape} does not fit pixels {dtype} {shape}")

    @property
    def planes(self) -> Array:
        """The pixels with alpha as their last channel, where there is one."""
        return self.pixels if self.alpha is None else np.dstack([self.pixels, self.alpha])

    @property
    def needs(self) -> dict[str, Any]:
        """What a file format must have room for, as `format_for` takes it."""
        metadata = max(len(self.exif or b""), 29 + len(self.xmp) if self.xmp else 0)
        return {
            "sixteen_bit": self.pixels.dtype == np.uint16, "alpha": self.alpha is not None, "metadata": metadata,
        }  # fmt: skip

    def rgb8(self) -> Array:
        """See `rgb8`."""
        return rgb8(self.pixels)


_NARROW = ((np.arange(65536) + 128) // 257).astype(np.uint8)


def rgb8(pixels: Array) -> Array:
    """The 8-bit RGB that tables and sub-nets see: grey (H, W) repeated, 16 bits rounded to 8; contiguous."""
    if pixels.dtype == np.uint16:
        pixels = _NARROW[pixels]
    return np.ascontiguousarray(pixels) if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)


def read_image(path: str | os.PathLike[str]) -> Image:
    """Read a PNG, JPEG, WebP, TIFF, BMP or (where Pillow has it) AVIF file, recognised by its content.

    Grey stays grey and 16 bits stay 16; palettes and other colour models become RGB (CMYK through its ICC
    profile, into sRGB); the EXIF orientation is applied. Raises ImageError: the file cannot be opened, is
    not such a picture, is damaged or cut short, has several frames, over MAX_PIXELS or another depth.
    """
    with _opened(Path(path)) as stream:
        return _decode(Path(path), stream)


def read_with_digest(path: str | os.PathLike[str]) -> tuple[Image, str]:
    """As `read_image`, and the SHA-256 of the file in hexadecimal."""
    with _opened(Path(path)) as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        stream.seek(0)
        return _decode(Path(path), stream), digest


def image_size(source: str | os.PathLike[str] | bytes, name: str = "picture") -> tuple[int, int]:
    """Height and width of the picture that `read_image` would give, by the header of the file or of its bytes, which
    errors call `name`; raises ImageError."""
    if isinstance(source, bytes):
        with _decoding(name):
            return _size(name, io.BytesIO(source))
    with _opened(Path(source)) as stream:
        return _size(Path(source), stream)


def decode_image(data: bytes, name: str) -> Image:
    """The picture in the bytes of a file, as `read_image` gives it; errors speak of `name`."""
    with _decoding(name):
        return _decode(name, io.BytesIO(data))


@contextmanager
def _opened(path: Path) -> Iterator[io.BufferedReader]:
    """The file for reading; whatever its decoder raises is an ImageError."""
    with _decoding(path):
        if path.exists() and not path.is_file():  # opening a pipe would wait for ever
            kind = "a folder" if path.is_dir() else "a device"
            raise ImageError(f"{path}: this is {kind}, not a picture; name a picture file")
        with path.open("rb") as stream:
            yield stream


@contextmanager
def _decoding(name: object) -> Iterator[None]:
    """Whatever is raised by it is an ImageError about `name`."""
    try:
        with _SILENCE, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except ImageError:
        raise
    except Exception as error:  # decoders raise anything on rubbish
        reason = f"the picture is damaged or cut short ({error!r}); copy it again"
        if isinstance(error, OSError) and error.strerror:  # not of a decoder
            reason = f"the file cannot be read ({error.strerror}); check its name and the disk"
        if "unknown pixel mode" in str(error):
            reason = "its depth or layout of channels is not supported; save it as interleaved 8 or 16 bit RGB"
        reason = next((text for kind, text in _TROUBLE if isinstance(error, kind)), reason)
        raise ImageError(f"{name}: {reason}") from error


def _identified(name: object, stream: BinaryIO) -> tuple[ImageFile, bytes]:
    """The picture, not yet decoded, and the first bytes of its file."""
    header = stream.read(32)
    if not header:
        raise ImageError(f"{name}: the file is empty; copy it again")
    plugin = next((plugin for magics, plugin in _DECODERS if header.startswith(magics)), None)
    if AVIF and header[4:12] in (b"ftypavif", b"ftypavis", b"ftypmif1", b"ftypmsf1"):
        plugin = AvifImageFile
    if plugin is None:
        raise ImageError(f"{name}: this is not a {_KNOWN} picture; convert it to one of these")
    refuse_bombs(name, stream)
    stream.seek(0)
    image = plugin(stream)
    if image.width * image.height > MAX_PIXELS:
        size = f"{image.width}x{image.height}"
        raise ImageError(f"{name}: {size} is over {MAX_PIXELS:,} pixels; cut the picture into smaller ones")
    return image, header


def _size(name: object, stream: BinaryIO) -> tuple[int, int]:
    image, _ = _identified(name, stream)
    turned = not isinstance(image, TiffImageFile) and _orientation(image) in (5, 6, 7, 8)  # their size is upright
    return (image.width, image.height) if turned else (image.height, image.width)


def _decode(name: object, stream: BinaryIO) -> Image:
    image, header = _identified(name, stream)
    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        raise ImageError(f"{name}: this file has {frames} frames; extract one of them to a file of its own")
    png, white_is_zero, bits = isinstance(image, PngImageFile), False, 8
    if png:
        bits = header[24] if header[12:16] == b"IHDR" else 0
        image.verify()  # checksums of the chunks: decoding alone forgives a lost tail
        if len(stream.read(4)) < 4:
            raise EOFError("no end mark")
        stream.seek(0)
        image = PngImageFile(stream)
    elif isinstance(image, TiffImageFile):
        bits = max(image.tag_v2.get(258, (1,)))
        white_is_zero = image.tag_v2.get(262) == 0
    image.load()

    if bits == 16 and image.mode.startswith("I;16"):
        planes = np.asarray(image).astype(np.uint16)
        planes = 65535 - planes if white_is_zero else planes  # Pillow inverts up to 8 bits only
    elif bits == 16 and image.mode in ("RGB", "RGBA"):
        planes = _colour16(np.asarray(image), stream)
        if png and header[25] == 4:  # both decoders spread grey + alpha to RGBA
            planes = planes[..., 2:]
    elif bits in (1, 2, 4, 8):
        planes = np.asarray(_plain_mode(image))
    else:
        kind = f"{bits} bits a channel as {image.mode}"
        raise ImageError(f"{name}: {kind} is not a supported depth; save it as 8 or 16 bit RGB")
    planes = _upright(np.atleast_3d(planes), image)
    alpha = planes[..., -1] if planes.shape[2] in (2, 4) else None
    pixels = planes[..., 0] if planes.shape[2] < 3 else planes[..., :3]
    if png and alpha is None and image.mode != "P":
        alpha = _colour_key(pixels, image, bits)
    icc = None if image.mode in ("CMYK", "LAB") else image.info.get("icc_profile") or None
    alpha = None if alpha is None else np.ascontiguousarray(alpha)
    return Image(np.ascontiguousarray(pixels), alpha, icc, exif_of(image), xmp_of(image))


def _plain_mode(image: ImageFile) -> PIL.Image.Image:
    """`image` as L, LA, RGB or RGBA."""
    if image.mode in ("L", "LA", "RGB", "RGBA"):
        return image
    if image.mode == "CMYK" and image.info.get("icc_profile"):
        try:
            profile = ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"]))
            converted = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
            return converted or image.convert("RGB")
        except (ImageCms.PyCMSError, OSError):
            pass  # a profile that cannot be used is no reason to refuse the picture
    transparent = image.mode in ("PA", "RGBa") or (image.mode == "P" and "transparency" in image.info)
    return image.convert("L" if image.mode == "1" else "RGBA" if transparent else "RGB")


def _colour16(narrow: Array, stream: BinaryIO) -> Array:
    """RGB or RGBA of 16 bits, of which Pillow decoded only `narrow`, the high bytes."""
    stream.seek(0)
    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        wide: Array | None = cv2.imdecode(np.frombuffer(stream.read(), np.uint8), cv2.IMREAD_UNCHANGED)
    finally:
        cv2.utils.logging.setLogLevel(level)
    if wide is None or wide.dtype != np.uint16 or wide.ndim != 3:
        raise ValueError("unknown pixel mode of 16-bit colours")
    rgb = wide[..., [2, 1, 0, 3][: narrow.shape[2]]]
    if not np.array_equal(rgb >> 8, narrow):  # OpenCV reads separate planes, for one, as noise
        raise ValueError("unknown pixel mode: two decoders disagree on its 16-bit colours")
    return rgb


def _colour_key(pixels: Array, image: ImageFile, bits: int) -> Array | None:
    """Alpha of a PNG that declares one colour transparent."""
    key = image.info.get("transparency")
    if key is None:
        return None
    if 1 < bits < 8:  # Pillow spreads the pixels over 0..255, and leaves the key as it is in the file
        key = key * 255 // (2**bits - 1)
    match = (np.atleast_3d(pixels) == np.array(key)).all(axis=2)
    return np.where(match, 0, np.iinfo(pixels.dtype).max).astype(pixels.dtype)


def _upright(planes: Array, image: ImageFile) -> Array:
    """`planes` turned as EXIF says; Pillow and OpenCV do so themselves for TIFF, and then EXIF says nothing."""
    orientation = _orientation(image)
    planes = planes.swapaxes(0, 1) if orientation in (5, 6, 7, 8) else planes
    planes = planes[:, ::-1] if orientation in (2, 3, 6, 7) else planes
    return planes[::-1] if orientation in (3, 4, 7, 8) else planes


def _orientation(image: ImageFile) -> int:
    """As EXIF has it, 1 where rubbish stands in its place."""
    try:
        return image.getexif().get(274, 1)
    except Exception:
        return 1


def write_image(path: str | os.PathLike[str], image: Image, encoding: Encoding | None = None) -> None:
    """Write a picture in the format of the suffix, or of `encoding`, all at once or not at all; raises ImageError."""
    path = Path(path)
    encoding = encoding or Encoding(path.suffix)
    height, width = image.pixels.shape[:2]
    check_writable(path, width, height, **image.needs, suffix=encoding.suffix)
    data = encode_image(image, encoding, name=str(path))
    with errors_about(path):
        write_bytes(path, data)


@contextmanager
def errors_about(path: Path) -> Iterator[None]:
    """What goes wrong with writing a file is an ImageError about it."""
    try:
        yield
    except ArmSRError:
        raise
    except OSError as error:
        reason = error.strerror or error
        raise ImageError(f"{path}: cannot be written ({reason}); choose another folder or free some space") from error


def takes_strips(suffix: str) -> bool:
    """Whether files of this suffix can be written by `write_strips`."""
    found = FORMATS.get(suffix.lower())
    return found is not None and found.name in WRITERS


@contextmanager
def write_strips(path: str | os.PathLike[str], shape: tuple[int, int, int], dtype: Any, icc_profile: bytes | None,
                 exif: bytes | None = None, xmp: bytes | None = None,
                 suffix: str | None = None) -> Iterator[StripWriter]:  # fmt: skip
    """A file, PNG or TIFF by its suffix, that takes rows (rows, W, C) from top to bottom; raises ImageError.

    It replaces what was there when all rows are written; ValueError when they were not. `shape` is height, width and
    channels, `dtype` uint8 or uint16; the rest as in `Image`. `suffix` says the format instead of the path.
    """
    path = Path(path)
    suffix = path.suffix if suffix is None else suffix
    height, width, channels = shape
    wide = np.dtype(dtype) == np.uint16
    check_writable(path, width, height, sixteen_bit=wide, alpha=channels in (2, 4), suffix=suffix)
    exif = sized_exif(exif, width, height) if exif else None
    with errors_about(path), replacing(path) as stream:
        writer = WRITERS[FORMATS[suffix.lower()].name](stream, shape, dtype, icc_profile, exif, xmp)
        yield writer
        writer.close()


def encode_image(image: Image, encoding: Encoding, *, name: str = "picture") -> bytes:
    """The file of a picture; errors speak of `name`.

    Without a quality all are lossless but JPEG and AVIF (quality 95, 4:4:4). ICC profile, EXIF and XMP are kept, except
    in BMP; WebP has no grey, and TIFF stores grey with alpha as RGBA where it is of 16 bits or has EXIF or XMP. Raises
    ImageError when the format cannot hold the picture.
    """
    height, width = image.pixels.shape[:2]
    wide = image.pixels.dtype == np.uint16
    found = format_for(name, encoding.suffix, width, height, **image.needs)
    planes = image.planes
    try:
        buffer = io.BytesIO()
        if wide or (found.name == "TIFF" and (image.exif or image.xmp)):  # Pillow writes no EXIF to a compressed TIFF
            planes = np.atleast_3d(planes)
            exif = sized_exif(image.exif, width, height) if image.exif else None
            about = (image.icc_profile, exif, image.xmp)
            writer = WRITERS[found.name](buffer, planes.shape, planes.dtype, *about)
            writer.write(planes)
            writer.close()
        else:
            options = encoding.options(planes.shape[2] if planes.ndim == 3 else 1)
            picture = PIL.Image.fromarray(planes)
            picture.save(buffer, found.name, **options, **(_metadata(image, found) if found.metadata else {}))
        return buffer.getvalue()
    except Exception as error:  # encoders, too, raise anything
        reason = f"cannot be written as {found.name} ({error!r})"
        raise ImageError(f"{name}: {reason}; try another format") from error


def _metadata(image: Image, found: Format) -> dict[str, Any]:
    """What Pillow's encoders take of it."""
    height, width = image.pixels.shape[:2]
    taken: dict[str, Any] = {}
    if image.icc_profile and (found.grey or not is_of_grey(image.icc_profile)):
        taken["icc_profile"] = image.icc_profile
    if image.exif:
        taken["exif"] = sized_exif(image.exif, width, height)
    if image.xmp and found.name == "PNG":
        taken["pnginfo"] = PngInfo()
        taken["pnginfo"].add(b"iTXt", png_xmp(image.xmp))
    elif image.xmp:
        taken["xmp"] = image.xmp
    return taken
