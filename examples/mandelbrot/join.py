"""All tiles as one picture: a PNG of 256 colours, made of zlib and struct alone.

To run it: `python3 join.py SIZE TILES DIRECTORY PICTURE`.
"""

import math
import struct
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path


def chunk(kind: bytes, data: bytes) -> bytes:
    """A part of a PNG: length, kind, data, checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def palette() -> bytes:
    """256 colours: black inside, outside from blue over white to gold and back."""
    colours = [(0, 0, 0)]
    for i in range(1, 256):
        turn = 2 * math.pi * math.log2(i) / 8
        colours.append(
            (
                int(127.5 - 127.5 * math.cos(turn)),
                int(120 - 110 * math.cos(turn + 0.35)),
                int(128 - 110 * math.cos(turn + 0.9)),
            )
        )
    return b"".join(struct.pack("BBB", *colour) for colour in colours)


def lines(size: int, tiles: int, directory: Path) -> Iterator[bytes]:
    """Each row of the picture behind the number of its filter, 0 for none."""
    for index in range(tiles):
        pixels = (directory / f"tile-{index}").read_bytes()
        expected = ((index + 1) * size // tiles - index * size // tiles) * size
        if len(pixels) != expected:
            sys.exit(f"tile-{index} has {len(pixels)} bytes: expected {expected}")
        for start in range(0, len(pixels), size):
            yield b"\0" + pixels[start : start + size]


def main(size: int, tiles: int, directory: Path, picture: Path) -> None:
    """Write the picture."""
    packer = zlib.compressobj(6)
    data = b"".join([*map(packer.compress, lines(size, tiles, directory)), packer.flush()])
    head = struct.pack(">IIBBBBB", size, size, 8, 3, 0, 0, 0)  # 8 bits a pixel, with a palette
    parts = [(b"IHDR", head), (b"PLTE", palette()), (b"IDAT", data), (b"IEND", b"")]
    unfinished = picture.with_name(f"{picture.name}.part")
    unfinished.write_bytes(
        b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, content) for kind, content in parts)
    )
    unfinished.replace(picture)
    print(f"{picture}: {size} x {size} pixels, {picture.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4]))
