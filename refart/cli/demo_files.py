"""The files of the demo's lake, the same on every machine: small pictures, tables and documents."""

from __future__ import annotations

import json
import random
import struct
import zlib
from collections.abc import Iterator


def lake_files() -> Iterator[tuple[str, bytes]]:
    """Keys and bytes, 120 of them."""
    for folder, kind, count in (
        ("train", "cat", 32),
        ("train", "dog", 32),
        ("test", "cat", 16),
        ("test", "dog", 16),
    ):
        for number in range(count):
            key = f"photos/{folder}/{kind}-{number:03}.png"
            yield key, picture(key)
    for month in range(1, 13):
        chance = _chance(f"month {month}")
        rows = "".join(f"{month:02}-{number:03},{chance.choice(['cat', 'dog'])}\n" for number in range(60))
        yield f"photos/labels/2026-{month:02}.csv", f"photo,label\n{rows}".encode()
    for number in range(1, 13):
        camera = {"camera": number, "lens_mm": 18 + number, "calibrated": True}
        yield f"photos/cameras/camera-{number:02}.json", json.dumps(camera, indent=2).encode()


def edited(key: str, data: bytes) -> bytes:
    """What someone made of a file since."""
    if key.endswith(".png"):
        return picture(f"another {key}")
    return data.replace(b",dog", b",cat").replace(b"true", b"false")


def picture(seed: str, side: int = 24) -> bytes:
    """A grey PNG (https://www.w3.org/TR/png-3/): signature, header, pixels, end."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    chance = _chance(seed)
    rows = b"".join(b"\0" + chance.randbytes(side) for _ in range(side))
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def _chance(seed: str) -> random.Random:
    return random.Random(seed)  # noqa: S311  # pictures, not secrets
