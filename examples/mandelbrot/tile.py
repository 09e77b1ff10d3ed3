"""One band of rows of the Mandelbrot set, in plain Python, one byte a pixel.

To run it: `python3 tile.py SIZE TILES INDEX DIRECTORY`.

Writes DIRECTORY/tile-INDEX. A second run of the same writes the same, so a retry does no harm.
"""

import os
import sys
from pathlib import Path

#: The square of the plane that is shown: its left lower corner, and its side.
LEFT, LOW, SIDE = -2.05, -1.3, 2.6
#: Steps after which a point counts as inside.
STEPS = 100


def row(y: int, size: int) -> bytes:
    """The pixels of a row: 0 inside, else 1 to 255 by how fast the point escapes."""
    pixels = bytearray(size)
    im = LOW + SIDE * (y + 0.5) / size
    for x in range(size):
        re = LEFT + SIDE * (x + 0.5) / size
        # The two largest parts of the inside are known without trying.
        q = (re - 0.25) ** 2 + im * im
        if q * (q + re - 0.25) <= im * im / 4 or (re + 1) ** 2 + im * im <= 1 / 16:
            continue
        point = complex(re, im)
        z = point
        for step in range(STEPS):
            if abs(z) > 2:  # noqa: PLR2004 (beyond it, it escapes)
                pixels[x] = 1 + step * 254 // STEPS
                break
            z = z * z + point
    return bytes(pixels)


def main(size: int, tiles: int, index: int, directory: Path) -> None:
    """Compute one tile."""
    rows = range(index * size // tiles, (index + 1) * size // tiles)
    target = directory / f"tile-{index}"
    unfinished = directory / f"tile-{index}.{os.getpid()}"
    unfinished.write_bytes(b"".join(row(y, size) for y in rows))
    unfinished.replace(target)
    print(f"tile {index}: rows {rows.start} to {rows.stop - 1}")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
