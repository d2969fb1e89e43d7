"""Small files that claim much: what a decoder must refuse, or bear without much time and memory."""

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import cache

import numpy as np
import PIL.Image

Chunk = tuple[bytes, bytes]
MEGABYTE = 1 << 20


def png(width: int, height: int, *chunks: Chunk, bits: int = 8, colour: int = 2, idat: bytes = b"",
        tail: bytes | None = None, interlaced: int = 0) -> bytes:  # fmt: skip
    """A PNG with a header that need not be true."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlaced)
    body = [(b"IHDR", header), *chunks, (b"IDAT", idat or zlib.compress(bytes(100)))]
    end = png_chunk(b"IEND", b"") if tail is None else tail
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in body) + end


def png_chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def flat_png(width: int, height: int, *chunks: Chunk) -> bytes:
    """A whole PNG of black."""
    deflate = zlib.compressobj(9)
    row = bytes(1 + 3 * width)
    return png(width, height, *chunks, idat=b"".join(deflate.compress(row) for _ in range(height)) + deflate.flush())


@cache
def zeros(megabytes: int) -> bytes:
    """So many megabytes deflated, less than a hundredth of them."""
    deflate, block = zlib.compressobj(1), bytes(MEGABYTE)
    return b"".join(deflate.compress(block) for _ in range(megabytes)) + deflate.flush()


def encoded(kind: str, size: tuple[int, int] = (64, 48), mode: str = "RGB", **options: object) -> bytes:
    """A real picture by Pillow."""
    buffer = io.BytesIO()
    PIL.Image.new(mode, size).save(buffer, kind, **options)
    return buffer.getvalue()


def jpeg(width: int, height: int, **options: object) -> bytes:
    """A JPEG whose header claims this size."""
    data = bytearray(encoded("JPEG", **options))
    frame = next(place for mark in (b"\xff\xc0", b"\xff\xc2") if (place := data.find(mark)) >= 0)
    data[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def jpeg_with(*segments: bytes) -> bytes:
    """A small JPEG with further segments, each at most 64 KB."""
    data = encoded("JPEG")
    return data[:2] + b"".join(part[:2] + struct.pack(">H", len(part)) + part[2:] for part in segments) + data[2:]


def jpeg_of_scans(width: int, height: int, scans: int) -> bytes:
    """A progressive JPEG that walks over all its blocks again and again."""
    data = jpeg(width, height, progressive=True)
    first = data.rfind(b"\xff\xda")
    length = struct.unpack(">H", data[first + 2 : first + 4])[0]
    last = data[first : first + 2 + length] + data[first + 2 + length :].split(b"\xff\xd9")[0]
    return data[:first] + last * scans + b"\xff\xd9"


def webp(chunk: bytes, *more: bytes) -> bytes:
    body = chunk + b"".join(more)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def webp_canvas(width: int, height: int, *more: bytes, flags: int = 0) -> bytes:
    side = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return webp(b"VP8X" + struct.pack("<IB3x", 10, flags) + side, *more)


def webp_lossless(width: int, height: int) -> bytes:
    head = b"\x2f" + struct.pack("<I", (width - 1) | (height - 1) << 14)
    return webp(b"VP8L" + struct.pack("<I", 20) + head + bytes(15))


def tiff(*directories: dict[int, tuple[int, int, int]], loop: bool = False, big_endian: bool = False) -> bytes:
    """A TIFF of these directories, tag: (type, count, value)."""
    order = ">" if big_endian else "<"
    data = bytearray((b"MM\0*" if big_endian else b"II*\0") + struct.pack(order + "I", 8))
    for number, directory in enumerate(directories):
        entries = b"".join(
            struct.pack(order + "HHII", tag, *value) for tag, value in sorted(directory.items())
        )
        end = len(data) + 2 + len(entries) + 4
        following = end if number + 1 < len(directories) else 8 if loop else 0
        data += struct.pack(order + "H", len(directory)) + entries + struct.pack(order + "I", following)
    return bytes(data)


def page(width: int, height: int, **more: tuple[int, int, int]) -> dict[int, tuple[int, int, int]]:
    """A directory of a grey page; `more` replaces tags, `t273=...`."""
    tags = {256: (4, 1, width), 257: (4, 1, height), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1), 273: (4, 1, 8),
            277: (3, 1, 1), 278: (4, 1, height), 279: (4, 1, min(width * height, 2**32 - 1))}  # fmt: skip
    return tags | {int(name[1:]): value for name, value in more.items()}


def bmp(width: int, height: int, bits: int = 24, compression: int = 0) -> bytes:
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, 0, 2835, 2835, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + 300, 0, 0, 54) + head + bytes(300)


def frames(kind: str, count: int) -> bytes:
    """A real animation of small frames that differ."""
    pictures = [PIL.Image.new("RGB", (8, 8), (n % 256, n // 256, 0)) for n in range(count)]
    buffer = io.BytesIO()
    pictures[0].save(buffer, kind, save_all=True, append_images=pictures[1:])
    return buffer.getvalue()


def exif(count: int) -> bytes:
    """A block of EXIF with an entry that claims `count` numbers, and a directory that comes after itself."""
    return b"Exif\0\0II*\0\x08\0\0\0\x02\0" + struct.pack("<HHII", 0x112, 4, count, 8) + struct.pack(
        "<HHII", 0x8769, 4, 1, 8
    ) + struct.pack("<I", 8)  # fmt: skip


GIANTS = [(100_000, 100_000), (2**31 - 1, 2**31 - 1), (2**31 - 1, 1), (1, 2**31 - 1), (20_000, 20_000)]


def bombs() -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Name and maker of every bomb; a file is at most 8 MB."""
    for width, height in GIANTS:
        for bits, colour in ((8, 2), (16, 6), (1, 0)):
            yield f"png {width}x{height} {bits}-{colour}", lambda w=width, h=height, b=bits, c=colour: png(
                w, h, bits=b, colour=c
            )  # fmt: skip
        yield f"tiff {width}x{height}", lambda w=width, h=height: tiff(page(w, h))
        yield f"bmp {width}x{height}", lambda w=width, h=height: bmp(w, h)
        yield f"bmp {width}x-{height} rle", lambda w=width, h=height: bmp(w, -h, 8, 1)
    yield "png interlaced 50000x50000", lambda: png(50_000, 50_000, interlaced=1)
    yield "png of no size", lambda: png(0, 0)
    yield "png whose data go on", lambda: png(8, 8, idat=zeros(200))
    yield "png cut at a chunk of 2 GB", lambda: png(8, 8)[:-12] + struct.pack(">I", 2**31 - 1) + b"IDAT"
    for name, start in ((b"iCCP", b"p\0\0"), (b"zTXt", b"k\0\0"), (b"iTXt", b"k\0\1\0\0\0")):
        text = (name, start + zeros(200))
        many = (name, start + zeros(1)[:-6])
        title = name.decode()
        yield f"png {title} of 200 MB", lambda c=text: flat_png(8, 8, c)
        yield f"png {title} of 200 MB at the end", lambda c=text: flat_png(8, 8)[:-12] + png_chunk(*c) + png_chunk(
            b"IEND", b""
        )  # fmt: skip
        yield f"png {title} a thousand times", lambda c=many: flat_png(8, 8, *[c] * 1000)
    for name in (b"tEXt", b"tIME", b"gAMA", b"abCd"):
        part = (name, b"k\0v" if name == b"tEXt" else bytes(7) if name == b"tIME" else bytes(4))
        title = name.decode()
        yield f"png {title} 50,000 times", lambda c=part: flat_png(8, 8, *[c] * 50_000)
    yield "png of 200,000 empty IDAT", lambda: flat_png(8, 8)[:-12] + png_chunk(b"IDAT", b"") * 200_000 + png_chunk(
        b"IEND", b""
    )  # fmt: skip
    yield "apng of 2^31 frames", lambda: flat_png(8, 8, (b"acTL", struct.pack(">II", 2**31 - 1, 0)))
    yield "apng of 1500 frames", lambda: frames("PNG", 1500)
    for width, height in ((65_500, 65_500), (65_500, 4000), (1, 65_500), (65_500, 1)):
        yield f"jpeg {width}x{height}", lambda w=width, h=height: jpeg(w, h)
        yield f"jpeg {width}x{height} progressive", lambda w=width, h=height: jpeg(w, h, progressive=True)
    yield "jpeg of 10,000 scans", lambda: jpeg_of_scans(1900, 1200, 10_000)
    yield "jpeg of 100,000 comments", lambda: jpeg_with(*[b"\xff\xfe" + bytes(60)] * 100_000)
    yield "jpeg of 120 full segments of ICC", lambda: jpeg_with(
        *[b"\xff\xe2ICC_PROFILE\0" + bytes([n + 1, 120]) + bytes(65_000) for n in range(120)]
    )
    yield "jpeg with EXIF of 4 G numbers", lambda: jpeg_with(b"\xff\xe1" + exif(2**32 - 1))
    yield "jpeg with EXIF in a circle", lambda: jpeg_with(b"\xff\xe1" + exif(1))
    for width, height in ((16_384, 16_384), (2**24, 2**24), (2**24, 1), (12_000, 12_000)):
        yield f"webp canvas {width}x{height}", lambda w=width, h=height: webp_canvas(w, h)
        yield f"webp animated canvas {width}x{height}", lambda w=width, h=height: webp_canvas(
            w, h, b"ANIM\x06\0\0\0" + bytes(6), flags=2
        )  # fmt: skip
    yield "webp lossless 16383x16383", lambda: webp_lossless(16_383, 16_383)
    yield "webp of 1500 frames", lambda: frames("WEBP", 1500)
    yield "tiff of 20,000 pages", lambda: tiff(*[page(1, 1)] * 20_000)
    yield "tiff of empty pages", lambda: tiff(page(1, 1), *[{}] * 50_000)
    yield "tiff in a circle", lambda: tiff(page(8, 8), page(8, 8), loop=True)
    for tag in (258, 273, 279, 320, 34675, 700):
        yield f"tiff with 4 G values of {tag}", lambda t=tag: tiff(page(64, 64, **{f"t{t}": (4, 2**32 - 1, 8)}))
    yield "tiff big-endian 60000x60000", lambda: tiff(page(60_000, 60_000), big_endian=True)
    yield "tiff deflated 9000x9000", lambda: tiff(page(9000, 9000, t259=(3, 1, 8), t279=(4, 1, 100)))
    yield "tiff of a tile 60000x60000", lambda: tiff(page(8, 8, t322=(4, 1, 60_000), t323=(4, 1, 60_000)))
    yield "tiff of a million channels", lambda: tiff(page(8, 8, t277=(3, 1, 65_535)))
    yield "png 1x100000", lambda: flat_png(1, 100_000)
    yield "png 100000x1", lambda: flat_png(100_000, 1)
    yield "tiff 1x100000", lambda: encoded("TIFF", (1, 100_000))
    yield "gif of 1500 frames", lambda: frames("GIF", 1500)
    yield "deflated zeros", lambda: zeros(200)
    yield "zeros", lambda: bytes(4 * MEGABYTE)
    yield "noise with a PNG's name", lambda: b"\x89PNG\r\n\x1a\n" + np.random.default_rng(0).bytes(MEGABYTE)
    entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 12))
    yield "svg of entities", f'<?xml version="1.0"?><!DOCTYPE s [{entities}]><svg>&e11;</svg>'.encode
