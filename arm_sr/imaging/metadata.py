"""EXIF and XMP: what is kept of a picture's for its result, and how PNG and TIFF store it."""

import re

import PIL.Image
from PIL import ExifTags
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import ImageFileDirectory_v2

ORIENTATION = ExifTags.Base.Orientation
_NESTED = frozenset({ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo})
_INTEROP = ExifTags.IFD.Interop
_XMP = 700
# Tags of TIFF that say how the pixels of one file are stored or coloured, which those of another are not.
_LAYOUT = frozenset({
    *range(254, 260), *range(262, 267), 273, *range(277, 282), 284, *range(288, 294), 297, 301, *range(317, 326), 330,
    *range(332, 335), *range(336, 348), *range(512, 522), *range(529, 533), _XMP, 33723, 34377, 34675,
})  # fmt: skip


def exif_of(image: ImageFile) -> bytes | None:
    """EXIF of a picture that was decoded and is turned upright, as a file's EXIF block; None when it has none.

    The orientation, where it says one, becomes the normal one; the thumbnail is left out. Rubbish is no EXIF.
    """
    try:
        exif = image.getexif()
        for tag in _NESTED & exif.keys():
            exif.get_ifd(tag)  # read now, as long as the file is open
        for tag in _LAYOUT & exif.keys():
            del exif[tag]
        if ORIENTATION in exif:
            exif[ORIENTATION] = 1
        exif.bigtiff = False  # as that of a TIFF over 4 GB may be; an EXIF block never is
        return exif.tobytes() if len(exif) else None
    except Exception:
        return None


def xmp_of(image: ImageFile) -> bytes | None:
    """XMP of a picture that was turned upright, with the normal orientation; None when it has none."""
    xmp = image.info.get("xmp")
    if isinstance(xmp, str):
        xmp = xmp.encode()
    if not isinstance(xmp, bytes) or not xmp:
        return None
    return re.sub(rb"(tiff:Orientation(?:\s*=\s*[\"']|>)\s*)[2-8]", rb"\g<1>1", xmp)


def is_of_grey(icc_profile: bytes) -> bool:
    """Whether a profile tells what grey means, which is nothing for RGB."""
    return icc_profile[16:20] == b"GRAY"


def sized_exif(block: bytes, width: int, height: int) -> bytes:
    """An EXIF block for a picture of this size, where it tells one."""
    exif = _loaded(block)
    own = exif.get_ifd(ExifTags.IFD.Exif) if ExifTags.IFD.Exif in exif else {}
    for tag, side in ((ExifTags.Base.ExifImageWidth, width), (ExifTags.Base.ExifImageHeight, height)):
        if tag in own:
            own[tag] = side
    return exif.tobytes()


def png_exif(exif: bytes) -> bytes:
    """What the chunk eXIf of a PNG file holds of it."""
    return exif.removeprefix(b"Exif\0\0")


def png_xmp(xmp: bytes) -> bytes:
    """What a chunk iTXt of a PNG file holds of it."""
    return b"XML:com.adobe.xmp\0\0\0\0\0" + xmp


def tiff_directory(exif: bytes | None, xmp: bytes | None) -> ImageFileDirectory_v2:
    """The tags of a little-endian TIFF file that hold them."""
    directory = ImageFileDirectory_v2(b"II*\0\0\0\0\0")
    if exif is not None:
        loaded = _loaded(exif)
        for tag in loaded:
            if tag not in _NESTED:
                directory[tag] = loaded[tag]
                continue
            nested = loaded.get_ifd(tag)
            if _INTEROP in nested:  # a directory in this one, which would stand elsewhere in the block
                nested = nested | {_INTEROP: loaded.get_ifd(_INTEROP)}
            directory[tag], directory.tagtype[tag] = nested, 4
    if xmp is not None:
        directory[_XMP] = xmp
        directory.tagtype[_XMP] = 1
    return directory


def _loaded(block: bytes) -> PIL.Image.Exif:
    exif = PIL.Image.Exif()
    exif.load(block)
    return exif
