"""Real files cut anywhere: an error each, at every entrance."""

import io
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from servers import Client, serving

from arm_sr import Upscaler
from arm_sr.cli import main
from arm_sr.imaging.formats import AVIF, Encoding
from arm_sr.imaging.io import Image, encode_image

CUTS = 70
"""Of every kind of file."""


def pillow(form: str, mode: str = "RGB", **options: object) -> Callable[[np.ndarray], bytes]:
    """Files as Pillow writes them, with EXIF where it does."""

    def made(photo: np.ndarray) -> bytes:
        buffer, exif = io.BytesIO(), PIL.Image.Exif()
        exif[271] = "Maker"
        PIL.Image.fromarray(photo).convert(mode).save(buffer, form, exif=exif, **options)
        return buffer.getvalue()

    return made


def deep(suffix: str) -> Callable[[np.ndarray], bytes]:
    """Files of 16 bits."""
    return lambda photo: encode_image(Image(photo.astype(np.uint16) * 257), Encoding(suffix))


KINDS = {
    "png": pillow("PNG"),
    "png with alpha": pillow("PNG", "RGBA"),
    "png of a palette": pillow("PNG", "P"),
    "png of 16 bits": deep(".png"),
    "jpeg": pillow("JPEG", quality=90),
    "jpeg, progressive": pillow("JPEG", progressive=True),
    "jpeg, CMYK": pillow("JPEG", "CMYK"),
    "jpeg, grey": pillow("JPEG", "L"),
    "webp": pillow("WEBP"),
    "webp, lossless": pillow("WEBP", lossless=True),
    "tiff": pillow("TIFF"),
    "tiff, lzw": pillow("TIFF", compression="tiff_lzw"),
    "tiff, deflate": pillow("TIFF", compression="tiff_adobe_deflate"),
    "tiff of 16 bits": deep(".tif"),
    "bmp": pillow("BMP"),
    **({"avif": pillow("AVIF")} if AVIF else {}),
}


def cuts(data: bytes) -> list[int]:
    """Lengths that are left: headers and last bytes above all."""
    rng = np.random.default_rng(len(data))
    near = [*range(1, 16), *(len(data) - rest for rest in range(1, 16))]
    return [*near, *sorted(rng.integers(16, len(data) - 16, CUTS - len(near)).tolist())]


@pytest.fixture(scope="module")
def client(tiny_model: Path) -> Client:
    with serving({"tiny-x2": Upscaler(tiny_model)}) as started:
        yield started


def test_there_are_a_thousand() -> None:
    assert len(KINDS) * CUTS >= 1000


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_cut_is_an_error(kind: str, tiny_model: Path, client: Client, photo: np.ndarray, tmp_path: Path,
                               capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    """One sentence from the command, which writes nothing, and from the server; the whole file is a picture."""
    data = KINDS[kind](np.ascontiguousarray(photo[100:140, 200:260]))
    path, out = tmp_path / "cut", tmp_path / "sr.png"
    argv = [str(word) for word in ("upscale", path, "-m", tiny_model, "-o", out, "-q")]
    for left in cuts(data):
        path.write_bytes(data[:left])
        assert 1 == main(argv), left
        assert re.fullmatch(r"arm-sr: error: \S+: [^\n]+; [^\n;]+\n", capsys.readouterr().err), left
        reply = client.post("/upscale", data[:left])
        assert reply.status in (415, 422), left
        assert re.fullmatch(r"the picture: [^\n]+; [^\n;]+", reply.json["error"]), left
    assert ["cut"] == [file.name for file in tmp_path.iterdir()]
    path.write_bytes(data)
    assert 0 == main(argv)
    assert 200 == client.post("/upscale", data).status
