"""Reading and writing real picture files, whole and broken."""

import io
import os
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import PIL.Image
import pytest
import skimage.data
import tifffile
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import ImageCms, ImageOps

from arm_sr.errors import ImageError
from arm_sr.imaging import io as picture_io
from arm_sr.imaging.formats import IMAGE_SUFFIXES, Encoding, check_writable, format_for
from arm_sr.imaging.io import Image, encode_image, read_image, write_image

PHOTO = skimage.data.astronaut()[:70, 160:251]
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
few = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def noise(shape, dtype=np.uint8, seed=0):
    """Values over the whole range of `dtype`."""
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def assert_same(expected: Image, actual: Image):
    """Same values, dtypes and profile."""
    assert expected.pixels.dtype == actual.pixels.dtype
    np.testing.assert_array_equal(expected.pixels, actual.pixels)
    assert (expected.alpha is None) == (actual.alpha is None)
    if expected.alpha is not None:
        assert expected.alpha.dtype == actual.alpha.dtype
        np.testing.assert_array_equal(expected.alpha, actual.alpha)
    assert expected.icc_profile == actual.icc_profile


def assert_one_sentence(error, path):
    """The message names the file and is a single line that says what to do."""
    message = str(error.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert ";" in message


def png_bytes(planes, bits, colour_type, *chunks, size=None):
    """A PNG written by hand: `planes` holds the packed bytes of the rows."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    width, height = size or (planes.shape[1], planes.shape[0])
    body = b"".join(b"\0" + row.tobytes() for row in planes)
    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(body)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(name, data) for name, data in parts)


def saved(path, picture, **options):
    """`path` after Pillow has written `picture` there."""
    picture = picture if isinstance(picture, PIL.Image.Image) else PIL.Image.fromarray(picture)
    picture.save(path, **options)
    return path


# What is written is read back


@pytest.mark.parametrize("profile", [None, SRGB], ids=["", "icc"])
@pytest.mark.parametrize("alpha", [False, True], ids=["opaque", "alpha"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("colour", [(), (3,)], ids=["grey", "rgb"])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".TIFF", ".webp", ".bmp"])
def test_lossless_round_trip(tmp_path, suffix, colour, dtype, alpha, profile):
    """Every value, the grey, the depth, the alpha and the profile - or one sentence on why not."""
    image = Image(noise((13, 7, *colour), dtype), noise((13, 7), dtype, 1) if alpha else None, profile)
    path = tmp_path / f"picture{suffix}"
    if (suffix == ".bmp" and alpha) or (suffix in (".webp", ".bmp") and dtype == np.uint16):
        with pytest.raises(ImageError) as error:
            write_image(path, image)
        assert_one_sentence(error, path)
        assert [] == list(tmp_path.iterdir())
        return
    write_image(path, image)
    pixels, stored = image.pixels, profile
    wide_tiff_alpha = suffix.lower() in {".tif", ".tiff"} and alpha and dtype == np.uint16
    if not colour and (suffix == ".webp" or wide_tiff_alpha):
        pixels = np.dstack([pixels] * 3)
    if suffix == ".bmp":
        stored = None
    assert_same(Image(pixels, image.alpha, stored), read_image(path))


@few
@given(rows=st.integers(1, 40), columns=st.integers(1, 40), channels=st.integers(1, 4), wide=st.booleans())
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_round_trip_of_any_size(tmp_path, suffix, rows, columns, channels, wide):
    """Down to a single pixel."""
    planes = noise((rows, columns, channels), np.uint16 if wide else np.uint8)
    pixels = planes[..., :3] if channels > 2 else planes[..., 0]
    image = Image(pixels, planes[..., -1] if channels == 4 else None)
    write_image(tmp_path / f"a{suffix}", image)
    assert_same(image, read_image(tmp_path / f"a{suffix}"))


@pytest.mark.parametrize("suffix", [".jpg", ".JPEG"])
@pytest.mark.parametrize("pixels", [PHOTO, PHOTO[..., 1]], ids=["rgb", "grey"])
def test_jpeg_round_trip(tmp_path, suffix, pixels):
    """Close in every pixel, with its profile, and full colour resolution (4:4:4)."""
    path = tmp_path / f"a{suffix}"
    write_image(path, Image(pixels, icc_profile=SRGB))
    actual = read_image(path)
    assert pixels.shape == actual.pixels.shape
    assert 2 > np.abs(pixels.astype(int) - actual.pixels).mean()
    assert SRGB == actual.icc_profile
    with PIL.Image.open(path) as picture:
        assert {(1, 1)} == {layer[1:3] for layer in picture.layer}


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bit_files_are_read_by_others(channels):
    """Pillow and tifffile agree with what was written, profile included."""
    planes = noise((9, 14, channels), np.uint16)
    pixels = planes[..., 0] if channels == 1 else planes[..., :3]
    image = Image(pixels, planes[..., 3] if channels == 4 else None, SRGB)
    tiff, png = encode_image(image, Encoding(".tif")), encode_image(image, Encoding(".png"))
    with tifffile.TiffFile(io.BytesIO(tiff)) as file:
        tags = file.pages[0].tags
        assert (9, 14) == (tags["ImageLength"].value, tags["ImageWidth"].value)
        assert SRGB == tags[34675].value
    for data in (tiff, png):
        with PIL.Image.open(io.BytesIO(data)) as picture:
            high = np.asarray(picture)
            np.testing.assert_array_equal(planes.squeeze() >> (0 if channels == 1 else 8), high)
            assert SRGB == picture.info["icc_profile"]


def test_alpha_keeps_the_colour_underneath(tmp_path):
    """WebP would drop the colour of transparent pixels, unless told otherwise."""
    image = Image(PHOTO, np.zeros(PHOTO.shape[:2], np.uint8))
    write_image(tmp_path / "a.webp", image)
    assert_same(image, read_image(tmp_path / "a.webp"))


def test_long_thin_picture(tmp_path):
    """30,000 x 1, in both directions."""
    for shape in ((1, 30000, 3), (30000, 1, 3)):
        image = Image(noise(shape))
        write_image(tmp_path / "thin.png", image)
        assert_same(image, read_image(tmp_path / "thin.png"))


# Image


def test_rgb8():
    """Grey repeated, 16 bits rounded to the nearest of 257 steps, alpha ignored."""
    grey = Image(np.array([[0, 128, 129, 65535 - 129, 65535 - 128, 65535]], np.uint16), np.zeros((1, 6), np.uint16))
    assert [[[0] * 3, [0] * 3, [1] * 3, [254] * 3, [255] * 3, [255] * 3]] == grey.rgb8().tolist()
    assert np.uint8 == grey.rgb8().dtype
    np.testing.assert_array_equal(PHOTO, Image(PHOTO).rgb8())


@pytest.mark.parametrize(
    ("pixels", "alpha"),
    [
        (np.zeros((4, 4), np.float32), None),
        (np.zeros((4, 4, 4), np.uint8), None),
        (np.zeros((0, 4), np.uint8), None),
        (np.zeros(4, np.uint8), None),
        (np.zeros((4, 4), np.uint8), np.zeros((4, 5), np.uint8)),
        (np.zeros((4, 4), np.uint8), np.zeros((4, 4), np.uint16)),
    ],
)
def test_image_checks_its_arrays(pixels, alpha):
    """Wrong shapes and dtypes are found where they enter."""
    with pytest.raises(ValueError, match=r"a picture is|alpha"):
        Image(pixels, alpha)


# Kinds of pictures


@pytest.mark.parametrize(
    ("mode", "expected_mode"),
    [("1", "L"), ("L", "L"), ("P", "RGB"), ("RGB", "RGB"), ("LA", "LA"), ("RGBA", "RGBA")],
)
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_modes(tmp_path, suffix, mode, expected_mode):
    """What Pillow converts without loss: 1 bit to grey, palettes to colour."""
    picture = PIL.Image.fromarray(PHOTO).convert(mode)
    path = saved(tmp_path / f"a{suffix}", picture)
    expected = np.atleast_3d(np.asarray(picture.convert(expected_mode)))
    actual = read_image(path)
    planes = actual.pixels if actual.alpha is None else np.dstack((actual.pixels, actual.alpha))
    assert (actual.pixels.ndim == 2) == (expected_mode in ("L", "LA"))
    np.testing.assert_array_equal(expected, np.atleast_3d(planes))


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_bmp_modes(tmp_path, mode):
    """The same for BMP."""
    picture = PIL.Image.fromarray(PHOTO).convert(mode)
    actual = read_image(saved(tmp_path / "a.bmp", picture))
    np.testing.assert_array_equal(np.asarray(picture.convert("RGB")), actual.rgb8())


@pytest.mark.parametrize("transparency", [3, bytes(range(0, 240, 16))], ids=["one colour", "a table"])
def test_transparent_palette(tmp_path, transparency):
    """Becomes RGB and alpha."""
    picture = PIL.Image.fromarray(PHOTO).quantize(16)
    path = saved(tmp_path / "a.png", picture, transparency=transparency)
    table = np.full(256, 255, np.uint8)
    if isinstance(transparency, int):
        table[transparency] = 0
    else:
        table[: len(transparency)] = list(transparency)
    expected = Image(np.asarray(picture.convert("RGB")), table[np.asarray(picture)])
    assert_same(expected, read_image(path))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
def test_transparent_colour(tmp_path, channels, dtype):
    """The tRNS colour of grey and RGB becomes alpha; a colour that only shares the high bytes does not."""
    planes = noise((5, 6, channels), dtype)
    planes[4, :2] = planes[0, 0]
    planes[4, 1, 0] ^= 1
    bits = 8 * planes.itemsize
    key = struct.pack(f">{channels}H", *planes[0, 0].tolist())
    data = png_bytes(planes.astype(f">u{planes.itemsize}"), bits, 0 if channels == 1 else 2, (b"tRNS", key))
    (tmp_path / "a.png").write_bytes(data)
    alpha = np.full((5, 6), np.iinfo(dtype).max, dtype)
    alpha[(planes == planes[0, 0]).all(axis=2)] = 0
    assert alpha[4].tolist()[:2] == [0, np.iinfo(dtype).max]
    assert_same(Image(planes.squeeze(), alpha), read_image(tmp_path / "a.png"))


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_transparent_grey_of_few_bits(tmp_path, bits):
    """The key is in units of the file, the pixels are spread over 0..255."""
    levels = 2**bits
    packed = np.array([[(0b00011011 if bits == 2 else 0x0F if bits == 4 else 0b01010101)]], np.uint8)
    values = {1: [0, 1] * 4, 2: [0, 1, 2, 3], 4: [0, 15]}[bits]
    key = (b"tRNS", struct.pack(">H", levels - 1))
    (tmp_path / "a.png").write_bytes(png_bytes(packed, bits, 0, key, size=(8 // bits, 1)))
    grey = np.array([values], np.uint8) * (255 // (levels - 1))
    assert_same(Image(grey, np.where(grey == 255, 0, 255).astype(np.uint8)), read_image(tmp_path / "a.png"))


@pytest.mark.parametrize(("channels", "colour_type"), [(1, 0), (2, 4), (3, 2), (4, 6)])
def test_sixteen_bit_png(tmp_path, channels, colour_type):
    """All 65,536 levels survive, of a file made by hand."""
    planes = np.arange(256 * 256 * channels).astype(np.uint16).reshape(256, 256, channels)
    planes = (planes * 40503 + 7).astype(np.uint16)
    (tmp_path / "a.png").write_bytes(png_bytes(planes.astype(">u2"), 16, colour_type))
    actual = read_image(tmp_path / "a.png")
    assert 256 < len(np.unique(actual.pixels))
    pixels = planes[..., 0] if channels < 3 else planes[..., :3]
    assert_same(Image(pixels, planes[..., -1] if channels in (2, 4) else None), actual)


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bit_tiff(tmp_path, channels, byteorder, compression):
    """Of another writer, in both byte orders."""
    planes = noise((31, 17, channels), np.uint16)
    tifffile.imwrite(
        tmp_path / "a.tif",
        planes.squeeze(),
        byteorder=byteorder,
        compression=compression,
        photometric="minisblack" if channels == 1 else "rgb",
        extrasamples=["unassalpha"] if channels == 4 else None,
    )
    pixels = planes[..., 0] if channels == 1 else planes[..., :3]
    assert_same(Image(pixels, planes[..., 3] if channels == 4 else None), read_image(tmp_path / "a.tif"))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_white_is_zero(tmp_path, dtype):
    """Inverted grey, which Pillow inverts at 8 bits only."""
    grey = noise((5, 6), dtype)
    tifffile.imwrite(tmp_path / "a.tif", np.iinfo(dtype).max - grey, photometric="miniswhite")
    assert_same(Image(grey), read_image(tmp_path / "a.tif"))


def test_sixteen_bit_planes_are_never_noise(tmp_path):
    """Separate 16-bit planes, which OpenCV decodes wrongly, are refused."""
    tifffile.imwrite(tmp_path / "a.tif", noise((3, 9, 9), np.uint16), photometric="rgb", planarconfig="separate")
    with pytest.raises(ImageError, match="layout of channels is not supported") as error:
        read_image(tmp_path / "a.tif")
    assert_one_sentence(error, tmp_path / "a.tif")


@pytest.mark.parametrize(
    ("dtype", "channels"), [(np.float32, 1), (np.float32, 3), (np.int32, 1), (np.int16, 1), (np.uint32, 3)]
)
def test_other_depths_are_refused(tmp_path, dtype, channels):
    """Floats, and integers of 32 bits or with a sign."""
    path = tmp_path / "a.tif"
    photometric = "rgb" if channels == 3 else "minisblack"
    tifffile.imwrite(path, np.zeros((4, 5, channels), dtype).squeeze(), photometric=photometric)
    with pytest.raises(ImageError, match=r"depth.* supported") as error:
        read_image(path)
    assert_one_sentence(error, path)


@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
@pytest.mark.parametrize("profile", [None, b"rubbish"], ids=["no profile", "a rubbish profile"])
def test_cmyk(tmp_path, suffix, profile):
    """As Pillow converts it; Adobe's inverted JPEGs, which Pillow writes, come out right."""
    picture = PIL.Image.fromarray(PHOTO).convert("CMYK")
    actual = read_image(saved(tmp_path / f"a{suffix}", picture, icc_profile=profile))
    assert actual.icc_profile is None
    assert 4 > np.abs(PHOTO.astype(int) - actual.pixels).mean()


def test_cmyk_profile_is_used(tmp_path, monkeypatch):
    """The colours are those of the profile, in sRGB, and the profile is spent."""
    converted = np.zeros((*PHOTO.shape[:2], 3), np.uint8)
    asked = []

    def convert(image, profile, target, outputMode):
        asked.append((image.mode, outputMode))
        return PIL.Image.fromarray(converted)

    monkeypatch.setattr(ImageCms, "profileToProfile", convert)
    picture = PIL.Image.fromarray(PHOTO).convert("CMYK")
    actual = read_image(saved(tmp_path / "a.jpg", picture, icc_profile=SRGB))
    assert [("CMYK", "RGB")] == asked
    assert_same(Image(converted), actual)


@pytest.mark.parametrize("mode", ["YCbCr", "LAB"])
def test_other_colour_models_become_rgb(tmp_path, mode):
    """YCbCr and LAB TIFF."""
    picture = PIL.Image.fromarray(PHOTO)
    if mode == "LAB":
        lab = ImageCms.createProfile("LAB")
        picture = ImageCms.profileToProfile(picture, ImageCms.createProfile("sRGB"), lab, outputMode="LAB")
    else:
        picture = picture.convert(mode)
    actual = read_image(saved(tmp_path / "a.tif", picture))
    assert actual.icc_profile is None
    assert 4 > np.abs(PHOTO.astype(int) - actual.pixels).mean()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_orientation(tmp_path, suffix, orientation):
    """All eight, as Pillow turns them; the alpha turns along."""
    picture = PIL.Image.fromarray(PHOTO)
    if suffix != ".jpg":
        picture.putalpha(PIL.Image.fromarray(PHOTO[..., 1]))
    exif = PIL.Image.Exif()
    exif[274] = orientation
    path = saved(tmp_path / f"a{suffix}", picture, exif=exif)
    with PIL.Image.open(saved(tmp_path / f"plain{suffix}", picture)) as picture:
        picture.load()
    # Set only now: Pillow 13 turns a TIFF while loading, and wrongly where it maps the file into memory.
    picture.getexif()[274] = orientation
    expected = np.asarray(ImageOps.exif_transpose(picture))
    actual = read_image(path)
    np.testing.assert_array_equal(expected[..., :3], actual.pixels)
    if suffix != ".jpg":
        np.testing.assert_array_equal(expected[..., 3], actual.alpha)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_orientation_of_sixteen_bits(tmp_path, suffix, channels, orientation):
    """The same turns for the pictures that OpenCV decodes."""
    high = PHOTO if channels == 3 else PHOTO[..., 1]
    planes = high.astype(np.uint16) * 256 + 77
    exif = PIL.Image.Exif()
    exif[274] = orientation
    if suffix == ".png":
        body = np.atleast_3d(planes).astype(">u2")
        data = png_bytes(body, 16, 0 if channels == 1 else 2, (b"eXIf", exif.tobytes()[6:]))
        (tmp_path / "a.png").write_bytes(data)
    else:
        photometric = "rgb" if channels == 3 else "minisblack"
        tag = [(274, 3, 1, orientation, True)]
        tifffile.imwrite(tmp_path / "a.tif", planes, photometric=photometric, extratags=tag)
    upright = PIL.Image.fromarray(high)
    upright.getexif()[274] = orientation
    expected = np.asarray(ImageOps.exif_transpose(upright)).astype(np.uint16) * 256 + 77
    np.testing.assert_array_equal(expected, read_image(tmp_path / f"a{suffix}").pixels)


def test_rubbish_in_exif_does_not_matter(tmp_path):
    """The pixels are whole."""
    path = saved(tmp_path / "a.png", PHOTO, exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_same(Image(PHOTO), read_image(path))


def test_suffix_does_not_matter_when_reading(tmp_path):
    """The content decides."""
    saved(tmp_path / "a.png", PHOTO)
    (tmp_path / "a.png").rename(tmp_path / "a.jpg")
    assert_same(Image(PHOTO), read_image(tmp_path / "a.jpg"))


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
def test_animations_are_refused(tmp_path, suffix):
    """The sentence says how many frames there are."""
    frames = [PIL.Image.fromarray(PHOTO[:, ::step].copy()).resize((20, 20)) for step in (1, -1, 2)]
    path = saved(tmp_path / f"a{suffix}", frames[0], save_all=True, append_images=frames[1:])
    with pytest.raises(ImageError, match="3 frames; extract one") as error:
        read_image(path)
    assert_one_sentence(error, path)


def test_threads(tmp_path):
    """Many at once decode the same pictures, and leave the warning filters as they were."""
    image = Image(noise((40, 50, 3), np.uint16))
    write_image(tmp_path / "a.png", image)
    before = list(warnings.filters)
    with ThreadPoolExecutor(4) as pool:
        for actual in pool.map(read_image, [tmp_path / "a.png"] * 16):
            assert_same(image, actual)
    assert before == list(warnings.filters)


# Files that are not a whole picture


def rejected(path, match):
    """Reading `path` fails in one sentence."""
    with pytest.raises(ImageError, match=match) as error:
        read_image(path)
    assert_one_sentence(error, path)


def test_missing(tmp_path):
    """No file, or a file where a folder should be."""
    rejected(tmp_path / "a.png", "no such file")
    (tmp_path / "file").touch()
    rejected(tmp_path / "file" / "a.png", "Not a directory")


def test_folder(tmp_path):
    """A folder with the name of a picture."""
    (tmp_path / "a.png").mkdir()
    rejected(tmp_path / "a.png", "a folder")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_pipe(tmp_path):
    """Does not wait for a writer."""
    os.mkfifo(tmp_path / "a.png")
    rejected(tmp_path / "a.png", "a device")


@pytest.mark.parametrize("name", ["x" * 300 + ".png", "a\0b.png"], ids=["too long", "zero byte"])
def test_impossible_names(tmp_path, name):
    """Neither read nor written."""
    rejected(tmp_path / name, "cannot be read|damaged")
    with pytest.raises(ImageError, match="cannot be written") as error:
        write_image(tmp_path / name, Image(PHOTO))
    assert_one_sentence(error, tmp_path / name)
    assert [] == list(tmp_path.iterdir())


def test_phone_jpeg(tmp_path):
    """A multi-picture JPEG, as phones write with a gain map, is its first picture."""
    path = tmp_path / "a.jpg"
    saved(path, PHOTO, format="MPO", save_all=True, append_images=[PIL.Image.fromarray(PHOTO[::2].copy())])
    assert PHOTO.shape == read_image(path).pixels.shape


def test_empty(tmp_path):
    """Zero bytes."""
    (tmp_path / "a.png").touch()
    rejected(tmp_path / "a.png", "empty")


def test_text(tmp_path):
    """A text file in disguise."""
    (tmp_path / "a.png").write_text("not a picture at all\n" * 5)
    rejected(tmp_path / "a.png", "not a PNG, JPEG")


def test_no_permission(tmp_path, monkeypatch):
    """Simulated, since the tests may run as root."""

    def refuse(*_arguments):
        raise PermissionError(13, "Permission denied")

    path = saved(tmp_path / "a.png", PHOTO)
    monkeypatch.setattr(picture_io.Path, "open", refuse)
    rejected(path, "no permission")


def test_no_memory(tmp_path, monkeypatch):
    """A picture under the limit can still be too much for the machine."""

    def refuse(*_arguments):
        raise MemoryError

    path = saved(tmp_path / "a.png", PHOTO)
    monkeypatch.setattr(picture_io, "_plain_mode", refuse)
    rejected(path, "not enough memory")


def test_bomb(tmp_path):
    """A header that claims 100,000 x 100,000 pixels is refused by its header."""
    (tmp_path / "a.png").write_bytes(png_bytes(np.zeros((1, 1), np.uint8), 8, 0, size=(100_000, 100_000)))
    rejected(tmp_path / "a.png", "100000x100000 is over 200,000,000 pixels")


@pytest.mark.parametrize("canvas", [16384, 2**24])
def test_webp_bomb(tmp_path, canvas):
    """The decoder would allocate the canvas while it opens the file."""
    side = (canvas - 1).to_bytes(3, "little")
    chunk = b"VP8X" + struct.pack("<I", 10) + b"\0\0\0\0" + side + side
    (tmp_path / "a.webp").write_bytes(b"RIFF" + struct.pack("<I", len(chunk) + 4) + b"WEBP" + chunk)
    rejected(tmp_path / "a.webp", "too large|damaged")


def test_limit_is_ours(tmp_path, monkeypatch):
    """Between Pillow's warning and ours a picture is read in silence; above ours it is refused."""
    path = saved(tmp_path / "a.png", np.zeros((30, 30), np.uint8))
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 100)
    assert (30, 30) == read_image(path).pixels.shape
    monkeypatch.setattr(picture_io, "MAX_PIXELS", 899)
    rejected(path, "30x30 is over 899 pixels")


WHOLE = {
    "png": (".png", {}),
    "jpeg": (".jpg", {"quality": 90}),
    "progressive": (".jpg", {"progressive": True}),
    "webp": (".webp", {}),
    "lossless": (".webp", {"lossless": True}),
    "tiff": (".tif", {}),
    "lzw": (".tif", {"compression": "tiff_lzw"}),
    "deflate": (".tif", {"compression": "tiff_adobe_deflate"}),
}


@pytest.mark.parametrize("kind", [*WHOLE, "png16", "tiff16"])
@pytest.mark.parametrize("left", [0.02, 0.3, 0.5, 0.9, 0.99, -30, -12, -4, -1])
def test_cut_files_are_errors(tmp_path, kind, left):
    """At any point: after the header, in the middle, in the last bytes."""
    if kind.endswith("16"):
        data = encode_image(Image(PHOTO.astype(np.uint16) * 257), Encoding(f".{kind[:-2]}"))
        path = tmp_path / f"a.{kind[:-2]}"
    else:
        suffix, options = WHOLE[kind]
        path = saved(tmp_path / f"a{suffix}", PHOTO, **options)
        data = path.read_bytes()
    path.write_bytes(data)
    read_image(path)
    path.write_bytes(data[: left if left < 0 else int(left * len(data))])
    rejected(path, r"damaged or cut short|not a PNG")


@few
@given(
    magic=st.sampled_from([magic for magics, _ in picture_io._DECODERS for magic in magics]),
    rest=st.binary(max_size=300),
)
@example(magic=b"RIFF", rest=b"\0\0\0\0WEBPVP8 ")
@example(magic=b"BM", rest=b" is how a text may begin, and a long one at that, of more than sixty-four letters.")
def test_garbage_is_an_image_error(tmp_path, magic, rest):
    """Whatever follows the first bytes."""
    path = tmp_path / "garbage"
    path.write_bytes(magic + rest)
    with pytest.raises(ImageError) as error:
        read_image(path)
    assert_one_sentence(error, path)


@settings(few, max_examples=60)
@given(kind=st.sampled_from([*WHOLE, "png16", "tiff16"]), seed=st.integers(0, 10**6))
def test_damage_never_raises_anything_else(tmp_path, kind, seed):
    """A file with some bytes changed is read or refused, never anything else."""
    if kind.endswith("16"):
        data = bytearray(encode_image(Image(PHOTO[:16, :16].astype(np.uint16) * 257), Encoding(f".{kind[:-2]}")))
    else:
        suffix, options = WHOLE[kind]
        data = bytearray(saved(tmp_path / f"whole{suffix}", PHOTO[:16, :16], **options).read_bytes())
    random = np.random.default_rng(seed)
    for position in random.integers(0, min(len(data), random.choice([40, 200, 10**6])), random.integers(1, 8)):
        data[position] = random.integers(0, 256)
    path = tmp_path / "damaged"
    path.write_bytes(data)
    try:
        read_image(path)
    except ImageError as error:
        assert str(error).startswith(f"{path}: ")


def test_nothing_is_printed(tmp_path, capfd):
    """Not by Pillow, nor by OpenCV about a file that it cannot read (libtiff does, about a cut TIFF)."""
    wide = encode_image(Image(PHOTO.astype(np.uint16) * 257), Encoding(".png"))
    (tmp_path / "a.png").write_bytes(wide[: len(wide) // 2])
    rejected(tmp_path / "a.png", "damaged")
    path = saved(tmp_path / "a.png", PHOTO, exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    read_image(path)
    with pytest.raises(ValueError, match="unknown pixel mode"):
        picture_io._colour16(PHOTO, io.BytesIO(wide[: len(wide) // 2]))
    assert ("", "") == capfd.readouterr()


# Files that cannot be written


@pytest.mark.parametrize(
    ("name", "size", "sixteen_bit", "alpha", "match"),
    [
        ("a.jpg", (65501, 1), False, False, "too large for JPEG"),
        ("a.webp", (1, 16384), False, False, "too large for WebP"),
        ("a.bmp", (40000, 40000), False, False, "too large for BMP"),
        ("a.tif", (30000, 30000), True, False, "too large for TIFF; write .png"),
        ("a.png", (1_000_001, 1), False, False, "1000001x1 is too large for PNG; ask for fewer pixels"),
        ("a.jpg", (9, 9), False, True, "JPEG has no transparency; write .png"),
        ("a.bmp", (9, 9), False, True, "BMP has no transparency"),
        ("a.jpeg", (9, 9), True, False, "JPEG has no 16-bit channels; write .png or .tiff"),
        ("a.webp", (9, 9), True, False, "WebP has no 16-bit channels"),
        ("a.gif", (9, 9), False, False, r"cannot write .gif; use .png, .jpg, .jpeg, .webp, .tif, .tiff, .bmp"),
        ("a", (9, 9), False, False, "a name without suffix"),
        ("folder.png", (9, 9), False, False, "is a folder"),
        ("missing/a.png", (9, 9), False, False, "no folder"),
        ("file/a.png", (9, 9), False, False, "no folder"),
    ],
)
def test_what_cannot_be_written(tmp_path, name, size, sixteen_bit, alpha, match):
    """Known before anything is computed."""
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(ImageError, match=match) as error:
        check_writable(tmp_path / name, *size, sixteen_bit=sixteen_bit, alpha=alpha)
    assert_one_sentence(error, tmp_path / name)


@pytest.mark.parametrize("suffix", sorted(IMAGE_SUFFIXES))
def test_what_can_be_written(tmp_path, suffix):
    """Every suffix, in capitals too, takes a picture at the limits of its format; nothing is created."""
    side = {".jpg": 65500, ".jpeg": 65500, ".webp": 16383}.get(suffix, 20000)
    check_writable(tmp_path / f"a{suffix.upper()}", side, 10)
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize(("suffix", "side"), [(".jpg", 65500), (".webp", 16383)])
def test_limits_are_those_of_the_encoders(suffix, side):
    """The largest side is really written; one more is refused with our sentence."""
    assert encode_image(Image(np.zeros((1, side), np.uint8)), Encoding(suffix))
    with pytest.raises(ImageError, match="too large"):
        encode_image(Image(np.zeros((1, side + 1), np.uint8)), Encoding(suffix))


@pytest.mark.parametrize(("kind", "most"), [("exif", 65532), ("xmp", 65504)])
def test_limits_of_metadata_are_those_of_the_encoder(kind, most):
    """JPEG has one block of 64 KB for each; the others have room for more."""

    def picture(size):
        block = bytes(size) if kind == "xmp" else exif_of_size(size + size % 2)
        return Image(np.zeros((9, 9, 3), np.uint8), **{kind: block})

    data = encode_image(picture(most), Encoding(".jpg"))
    assert most == len(PIL.Image.open(io.BytesIO(data)).info[kind])
    with pytest.raises(ImageError, match=r"its EXIF or XMP of 65,534 bytes is too large for JPEG; write \.png"):
        format_for("a.jpg", ".jpg", 9, 9, **picture(most + 1).needs)
    for suffix in IMAGE_SUFFIXES - {".jpg", ".jpeg"}:
        assert encode_image(picture(most + 1), Encoding(suffix))


def exif_of_size(size):
    """An EXIF block of `size` bytes, an even number."""
    exif = PIL.Image.Exif()
    exif[0x010E] = "x" * 9  # the description of the picture
    exif[0x010E] = "x" * (9 + size - len(exif.tobytes()))
    assert size == len(exif.tobytes())
    return exif.tobytes()


def test_what_comes_after_a_jpeg_is_no_part_of_it(tmp_path):
    """Phones append films, in which there are bytes like those of a scan; in EXIF too."""
    buffer = io.BytesIO()
    PIL.Image.fromarray(PHOTO).save(buffer, "JPEG", progressive=True, exif=b"Exif\0\0" + b"\xff\xda" * 200)
    path = tmp_path / "a.jpg"
    path.write_bytes(buffer.getvalue() + b"\xff\xda" * 200)
    assert read_image(path).pixels.shape == PHOTO.shape


def test_unwritable_folder(tmp_path, monkeypatch):
    """Simulated, since root may write anywhere."""
    monkeypatch.setattr(os, "access", lambda *_arguments: False)
    with pytest.raises(ImageError, match="no permission to write in"):
        check_writable(tmp_path / "a.png", 9, 9)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_read_only_folder(tmp_path):
    """The real thing."""
    tmp_path.chmod(0o500)
    with pytest.raises(ImageError, match="no permission to write in"):
        write_image(tmp_path / "a.png", Image(PHOTO))
    tmp_path.chmod(0o700)


def test_full_disk(tmp_path, monkeypatch):
    """The old file stays as it was, and nothing is left beside it."""

    def full(*_arguments):
        raise OSError(28, "No space left on device")

    path = saved(tmp_path / "a.png", PHOTO)
    before = path.read_bytes()
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(ImageError, match="No space left on device") as error:
        write_image(path, Image(PHOTO[::-1]))
    assert_one_sentence(error, path)
    assert [path] == list(tmp_path.iterdir())
    assert before == path.read_bytes()


def test_failed_encoding_leaves_nothing(tmp_path, monkeypatch):
    """No half-written file, and an ImageError, whatever the encoder raises."""

    def fail(*_arguments, **_options):
        raise struct.error("argument out of range")

    monkeypatch.setattr(PIL.Image.Image, "save", fail)
    with pytest.raises(ImageError, match="cannot be written as PNG") as error:
        write_image(tmp_path / "a.png", Image(PHOTO))
    assert_one_sentence(error, tmp_path / "a.png")
    assert [] == list(tmp_path.iterdir())
