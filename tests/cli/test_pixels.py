"""What `arm-sr upscale` keeps of a picture: metadata, profile, alpha, depth, orientation, colours; in every format."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL.Image
import pytest
import skimage.data
import tifffile
from PIL import ImageCms

from arm_sr import Upscaler
from arm_sr.cli import main
from arm_sr.imaging.formats import FORMATS

ROOT = Path(__file__).parents[2]
Run = Callable[..., tuple[int, bytes, bytes]]
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6" dc:title="caf\xc3\xa9"/></x:xmpmeta>'
MAKE, ORIENTATION, EXIF_IFD, GPS_IFD, TAKEN, WIDE, HIGH = 271, 274, 0x8769, 0x8825, 0x9003, 0xA002, 0xA003
INTEROP_IFD = 0xA005


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]) -> Run:
    """Run `arm-sr upscale` quietly with interpolation in an empty folder: (status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def call(*argv: object, how: tuple[object, ...] = ("--width", "bicubic")) -> tuple[int, bytes, bytes]:
        capsysbinary.readouterr()
        status = main(["upscale", *map(str, argv), *map(str, how), "-q"])
        return status, *capsysbinary.readouterr()

    return call


def exif_block() -> bytes:
    """EXIF of a camera that was held upright, with a place."""
    exif = PIL.Image.Exif()
    exif[MAKE], exif[ORIENTATION] = "Maker", 6
    exif.get_ifd(EXIF_IFD).update({TAKEN: "2024:05:06 07:08:09", WIDE: 30, HIGH: 20, INTEROP_IFD: {1: "R98"}})
    exif.get_ifd(GPS_IFD).update({1: "N", 2: (48.0, 12.0, 30.0)})
    return exif.tobytes()


def opened(path: str | Path) -> PIL.Image.Image:
    """As Pillow's own command would open it."""
    image = PIL.Image.open(io.BytesIO(Path(path).read_bytes()))
    image.load()
    return image


def kind(path: str | Path) -> str | None:
    """Format of a file, by its content."""
    with PIL.Image.open(path) as image:
        return image.format


SUFFIXES = [".png", ".jpg", ".webp", ".tif", *([".avif"] if ".avif" in FORMATS else [])]


@pytest.mark.parametrize("strips", [False, True], ids=["whole", "strips"])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_metadata_are_copied(run: Run, photo: np.ndarray, monkeypatch: Any, suffix: str, strips: bool) -> None:
    """EXIF with place and time, ICC and XMP, from JPEG and from its own kind; upright, with the size it has now."""
    if strips:
        monkeypatch.setattr("arm_sr.cli.picture.STRIPS_FROM", 0)
    PIL.Image.fromarray(photo[:20, 100:130]).save("a.jpg", exif=exif_block(), icc_profile=SRGB, xmp=XMP)
    assert 0 == run("a.jpg", "-o", f"b{suffix}", "-s", "2")[0]
    assert 0 == run(f"b{suffix}", "-o", f"c{suffix}", "-s", "2")[0]
    for name, size in ((f"b{suffix}", (40, 60)), (f"c{suffix}", (80, 120))):
        image = opened(name)
        exif = image.getexif()
        assert size == image.size
        assert ("Maker", "N", (48.0, 12.0, 30.0)) == (exif[MAKE], exif.get_ifd(GPS_IFD)[1], exif.get_ifd(GPS_IFD)[2])
        assert exif.get(ORIENTATION, 1) == 1
        own = exif.get_ifd(EXIF_IFD)
        assert ("2024:05:06 07:08:09", *size) == (own[TAKEN], own[WIDE], own[HIGH])
        assert {1: "R98"} == exif.get_ifd(INTEROP_IFD)
        assert SRGB == image.info["icc_profile"]
        assert XMP.replace(b'="6"', b'="1"') == image.info["xmp"]
    if suffix == ".tif":
        with tifffile.TiffFile("b.tif") as file:
            tags = file.pages[0].tags
            assert "Maker" == tags["Make"].value
            assert {"DateTimeOriginal": "2024:05:06 07:08:09"}.items() <= tags["ExifTag"].value.items()
            assert SRGB == tags["InterColorProfile"].value


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_keep_their_metadata(run: Run, photo: np.ndarray, suffix: str) -> None:
    """And their levels, read by another library."""
    wide = photo[:20, 100:130].astype(np.uint16) * 200 + 77
    extra = [(MAKE, 2, 6, "Maker", True), (ORIENTATION, 3, 1, 6, True), (700, 1, len(XMP), XMP, True)]
    tifffile.imwrite("a.tif", wide, photometric="rgb", extratags=extra)
    assert 0 == run("a.tif", "-o", f"b{suffix}", "-s", "2")[0]
    read = cv2.imread(f"b{suffix}", cv2.IMREAD_UNCHANGED)[..., ::-1]
    assert (np.uint16, (60, 40, 3)) == (read.dtype, read.shape)
    upright = np.ascontiguousarray(np.rot90(wide, -1))
    assert np.array_equal(cv2.resize(upright, (40, 60), interpolation=cv2.INTER_CUBIC), read)
    image = opened(f"b{suffix}")
    exif = image.getexif()
    assert ("Maker", 1) == (exif[MAKE], exif.get(ORIENTATION, 1))
    assert (True, False) == (b"caf\xc3\xa9" in image.info["xmp"], b'Orientation="6"' in image.info["xmp"])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_big_tiff_is_read(run: Run, photo: np.ndarray, suffix: str) -> None:
    """Whose directory counts in 64 bits; its metadata become a usual EXIF block."""
    piece = photo[:20, 100:130]
    tifffile.imwrite("a.tif", piece, photometric="rgb", bigtiff=True, extratags=[(MAKE, 2, 6, "Maker", True)])
    assert 0 == run("a.tif", "-o", f"b{suffix}", "-s", "2")[0]
    result = opened(f"b{suffix}")
    assert ((60, 40), "Maker") == (result.size, result.getexif()[MAKE])
    if suffix not in (".jpg", ".avif"):
        assert np.array_equal(cv2.resize(piece, (60, 40), interpolation=cv2.INTER_CUBIC), np.asarray(result))


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".bmp"])
def test_every_format_there_and_back(run: Run, photo: np.ndarray, suffix: str) -> None:
    """Under names of any letters; lossy ones nearly."""
    name = f"Фото 写真 é{suffix}"
    PIL.Image.fromarray(photo[:20, 100:130]).save("a.png")
    assert 0 == run("a.png", "-o", name, "-s", "2")[0]
    expected = cv2.resize(photo[:20, 100:130], (60, 40), interpolation=cv2.INTER_CUBIC)
    error = np.abs(expected.astype(int) - np.asarray(opened(name)))
    assert error.mean() < 2 if suffix in (".jpg", ".avif") else error.max() == 0
    assert 0 == run(name, "-s", "2")[0]
    assert (120, 80) == opened(f"Фото 写真 é_x2{suffix}").size


def test_quality_and_subsampling(run: Run, photo: np.ndarray) -> None:
    """Of those formats that have them; said where they mean nothing."""
    PIL.Image.fromarray(photo[:60, 100:180]).save("a.png")
    sizes = {}
    for suffix in ("jpg", "webp", *(["avif"] if ".avif" in FORMATS else [])):
        for options in ((), ("--quality", "60"), ("--quality", "60", "--subsampling", "4:2:0")):
            if suffix != "webp" or len(options) < 4:
                assert 0 == run("a.png", "-s", "2", "-o", f"b.{suffix}", *options)[0]
                sizes[suffix, options[1:]] = Path(f"b.{suffix}").stat().st_size
        assert sizes[suffix, ("60",)] < 0.7 * sizes[suffix, ()]
    assert 0 == run("a.png", "-s", "2", "-o", "b.jpg", "--subsampling", "4:2:0")[0]
    assert (2, 2) == opened("b.jpg").layer[0][1:3]  # type: ignore[attr-defined]
    for argv in (("--quality", "60"), ("--subsampling", "4:2:0"), ("--quality", "0", "--format", "jpg")):
        assert 2 == run("a.png", "-s", "2", *argv)[0]


def test_formats_are_asked_for(run: Run, photo: np.ndarray) -> None:
    """In a folder and for a file without suffix; not against a name."""
    Path("in").mkdir()
    for name in ("a.jpg", "b.bmp"):
        PIL.Image.fromarray(photo[:8, :9]).save(f"in/{name}")
    assert 0 == run("in", "-o", "out", "--format", "webp")[0]
    assert [("a.webp", "WEBP"), ("b.webp", "WEBP")] == sorted((p.name, kind(p)) for p in Path("out").glob("*.webp"))
    assert 0 == run("in/a.jpg", "-o", "plain", "--format", "tiff")[0]
    assert "TIFF" == kind("plain")
    status, _, err = run("in/a.jpg", "-o", "c.png", "--format", "jpg")
    assert (2, True) == (status, b"c.png" in err)
    PIL.Image.fromarray(photo[:8, :9]).save("in/a.png")
    status, _, err = run("in", "-o", "out2", "--format", "png")
    assert (2, True) == (status, b"out2/a.png would be written twice, of in/a.jpg and of in/a.png" in err)


def test_stdin_and_stdout(run: Run, photo: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """PNG, or the format that is asked for; nothing else goes there."""
    buffer = io.BytesIO()
    PIL.Image.fromarray(photo[:20, 100:130]).save(buffer, "PNG")
    expected = cv2.resize(photo[:20, 100:130], (60, 40), interpolation=cv2.INTER_CUBIC)

    def feed(data: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))

    calls = ((["-"], "PNG"), (["-", "-o", "-", "--format", "bmp"], "BMP"), (["-", "--format", "tiff"], "TIFF"))
    for argv, expected_kind in calls:
        feed(buffer.getvalue())
        status, out, err = run(*argv, "-s", "2")
        image = PIL.Image.open(io.BytesIO(out))
        assert (0, b"", expected_kind) == (status, err, image.format)
        assert np.array_equal(expected, np.asarray(image))
    feed(buffer.getvalue())
    assert (0, b"") == run("-", "-o", "b.webp", "-s", "2")[:2]
    assert np.array_equal(expected, np.asarray(opened("b.webp")))
    status, out, _ = run("b.webp", "-o", "-", "-s", "2", "--json", "r.json")
    report = json.loads(Path("r.json").read_text())
    assert (0, (120, 80), "-") == (status, PIL.Image.open(io.BytesIO(out)).size, report["output_file"])
    for data, word in ((b"", b"stdin: the file is empty"), (buffer.getvalue()[:-40], b"stdin: the picture is damaged")):
        feed(data)
        status, out, err = run("-")
        assert (1, b"", True) == (status, out, word in err)
    for argv in (["-", "-"], ["-", "--json", "-"], ["b.webp", "b.webp", "-o", "-"]):
        assert 2 == run(*argv)[0]


def test_closed_streams_are_said(photo: np.ndarray, tmp_path: Path) -> None:
    """As a daemon may have them."""
    PIL.Image.fromarray(photo[:8, :9]).save(tmp_path / "a.png")
    command = f"{sys.executable} -m arm_sr upscale --width bicubic"
    output, source = ("a.png -o - >&-", 2, "stdout is closed"), ("- -o b.png <&-", 1, "stdin: it cannot be read")
    for more, status, words in (output, source):
        done = subprocess.run(
            f"{command} {more}", shell=True, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (status, 1) == (done.returncode, done.stderr.count("\n"))
        assert words in done.stderr


@pytest.mark.parametrize("how", [("--width", "w16"), ("--width", "bicubic"), ("-s", "2.5", "--width", "w16")], ids=str)
@pytest.mark.parametrize("wide", [False, True])
def test_what_is_not_seen_does_not_bleed(run: Run, photo: np.ndarray, how: tuple[str, ...], wide: bool) -> None:
    """The same result whatever lies under transparent pixels; near an edge it has the colours of what is seen."""
    rows, columns = np.ogrid[:40, :50]
    alpha = np.clip(255 - 60 * (np.hypot(rows - 20, columns - 25) - 12), 0, 255).astype(np.uint8)
    results = []
    for hidden in (0, 255):
        colour = np.where(alpha[..., None] == 0, np.uint8(hidden), np.array([200, 120, 60], np.uint8))
        planes = np.dstack([colour, alpha])
        planes = planes[..., [2, 1, 0, 3]]
        cv2.imwrite("a.png", planes.astype(np.uint16) * 257 if wide else planes)
        assert 0 == run("a.png", "-o", "b.png", how=how)[0]
        results.append(cv2.imread("b.png", cv2.IMREAD_UNCHANGED))
    assert np.array_equal(*results)
    levels = results[0].astype(float) / (257 if wide else 1)
    assert np.abs(levels[levels[..., 3] > 0][:, :3] - [60, 120, 200]).max() <= 2


@pytest.mark.parametrize("level", [0, 1, 128, 254, 255])
def test_constant_alpha_is_passed_through(run: Run, photo: np.ndarray, level: int) -> None:
    """To the level, with the colours of the opaque picture."""
    piece = photo[:20, 100:130]
    PIL.Image.fromarray(np.dstack([piece, np.full((20, 30), level, np.uint8)])).save("a.png")
    PIL.Image.fromarray(piece).save("opaque.png")
    for scale in ("2", "2.5"):
        how = ("-s", scale, "--width", "w16")
        assert 0 == run("a.png", "-o", "b.png", how=how)[0]
        assert 0 == run("opaque.png", "-o", "c.png", how=how)[0]
        result, opaque = np.asarray(opened("b.png")), np.asarray(opened("c.png")).astype(int)
        assert {level} == set(result[..., 3].ravel().tolist())
        if scale == "2" or level > 0:
            assert np.abs(result[..., :3] - opaque).max() <= (0 if scale == "2" else 1)


@pytest.mark.parametrize(("name", "levels"), [("plain-x2", 1), ("plain-x4", 1), ("fsrcnn-x4", 4)])
def test_flat_colours_stay(name: str, levels: int) -> None:
    """Exactly under a budget; by every sub-net within one level, also where the picture ends. FSRCNN as shipped is off
    by more."""
    upscaler = Upscaler(name)
    for colour in ((0, 0, 0), (255, 255, 255), (255, 0, 0), (3, 130, 250), (128, 128, 128)):
        flat = np.full((28, 28, 3), colour, np.uint8)
        for width in upscaler.card.subnets:
            assert np.abs(upscaler.upscale(flat, width=width).image.astype(int) - colour).max() <= levels
        assert np.array_equal([colour], np.unique(upscaler.upscale(flat, "40%").image.reshape(-1, 3), axis=0))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["plain-x2", "plain-x4"])
@pytest.mark.parametrize("how", [{}, {"budget": "40%"}], ids=["largest", "budget"])
def test_the_mean_colour_hardly_moves(name: str, how: dict[str, str]) -> None:
    """Of photographs, by less than a quarter of a level in each channel."""
    upscaler = Upscaler(name)
    for photo in (skimage.data.astronaut(), skimage.data.coffee(), skimage.data.chelsea(), skimage.data.rocket()):
        picture = np.ascontiguousarray(photo[:200, 60:300])
        moved = upscaler.upscale(picture, **how).image.mean(axis=(0, 1)) - picture.mean(axis=(0, 1))
        assert np.abs(moved).max() < 0.25
