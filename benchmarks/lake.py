"""A simulated bucket: millions of objects rendered beforehand as the XML that S3 lists them by.

Keys ascend in UTF-8 order and are made in that order, so nothing is sorted and memory holds only where each fragment
begins (8 bytes). Everything follows from the arguments: the same lake every time.
"""

from __future__ import annotations

import base64
import hashlib
import mmap
import random
import re
import tempfile
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from itertools import accumulate, islice
from typing import Final
from urllib.parse import unquote_to_bytes

BATCH_KEYS: Final = 10_000
TAIL_BYTES: Final = 32
"""How many bytes at the end of an object are its own; all others are the same in every object."""

DAY_HOUR_KEYS: Final = 100
HOT_SHARE: Final = 0.9


def flat(objects: int, noise: random.Random) -> Iterator[str]:
    """Keys like UUIDs, spread evenly: nothing to split a listing by but the key itself."""
    step = (1 << 128) // objects
    for number in range(objects):
        yield f"{number * step + noise.getrandbits(128) % step:032x}"


def hot(objects: int, noise: random.Random) -> Iterator[str]:
    """One folder with nine of ten keys, among up to 1,000 with the rest."""
    rest = objects - round(objects * HOT_SHARE)
    folders = max(1, min(1_000, rest // 10))
    for folder in range(folders + 1):
        before = folder - (folder > folders // 2)
        keys = (rest * (before + 1) // folders) - (rest * before // folders)
        if folder == folders // 2:
            keys = objects - rest
        for number in range(keys):
            yield f"folder-{folder:04d}/part-{number:08d}.parquet"


def dates(objects: int, noise: random.Random) -> Iterator[str]:
    """Partitions of a day and an hour, 100 files each."""
    start = datetime(2024, 1, 1)
    for number in range(objects):
        hour, part = divmod(number, DAY_HOUR_KEYS)
        if part == 0:
            folder = f"{start + timedelta(hours=hour):date%%3D%Y-%m-%d/hour%%3D%H}"
        yield f"{folder}/part-{part:06d}.parquet"


LAYOUTS: Final[dict[str, Callable[[int, random.Random], Iterator[str]]]] = {
    layout.__name__: layout for layout in (flat, hot, dates)
}
"""Each makes keys in ascending order, URL-encoded as S3 does where it is asked to."""


class Records:
    """Fragments of XML, one a key (or version), in the order of the keys. As a sequence: the keys."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  # has no name; `seal` closes it
        self._offsets = array("Q", [0])

    def extend(self, fragments: list[str]) -> None:
        self._offsets.extend(accumulate(map(len, fragments), initial=self._offsets.pop()))  # they are ASCII
        self._file.write("".join(fragments).encode("ascii"))

    def seal(self) -> None:
        """Nothing is added any more; from now on they can be read."""
        self._file.flush()
        self._text = mmap.mmap(self._file.fileno(), 0, prot=mmap.PROT_READ)
        self._file.close()  # the map has it
        self._view = memoryview(self._text)

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __getitem__(self, index: int) -> bytes:
        start = self._text.find(b"<Key>", self._offsets[index]) + len(b"<Key>")
        return unquote_to_bytes(self._text[start : self._text.find(b"<", start)])

    def slice(self, start: int, end: int) -> memoryview:
        return self._view[self._offsets[start] : self._offsets[end]]

    def field(self, index: int, name: bytes) -> str:
        """The text of one element of a fragment; `""` where it has none such."""
        found = re.search(rb"<%s>([^<]*)<" % name, self.slice(index, index + 1))
        return found[1].decode() if found else ""

    def first_at(self, key: bytes) -> int:
        return bisect_left(self, key)

    def first_after(self, key: bytes) -> int:
        return bisect_right(self, key)

    def first_beyond(self, prefix: bytes) -> int:
        """The first record whose key is greater than all that begin with `prefix`."""
        stem = prefix.rstrip(b"\xff")
        return bisect_left(self, stem[:-1] + bytes([stem[-1] + 1])) if stem else len(self)


@dataclass(frozen=True)
class Lake:
    prefix: str
    objects: Records
    """As ListObjectsV2 tells them."""
    versions: Records | None
    """As ListObjectVersions tells them; None without versioning."""
    total_bytes: int
    shared: bytes
    """What all objects begin with; empty where they cannot be read."""


def tail(key: bytes, age: int) -> bytes:
    """What only this version of an object ends with; `age` is 0 for the current one."""
    return hashlib.md5(b"%d %b" % (age, key), usedforsecurity=False).hexdigest().encode()


def render(
    objects: int,
    *,
    layout: str = "flat",
    versioned: bool = False,
    noncurrent: int = 0,
    deleted: int = 0,
    size_bytes: int | None = None,
    prefix: str = "warehouse/events/",
) -> Lake:
    """Make a lake of `objects` current objects.

    A versioned one has `noncurrent` old versions behind each of them, and `deleted` keys more whose latest version is
    a delete marker. With `size_bytes` (at least `TAIL_BYTES`) objects can be read and ETags are their MD5; without,
    sizes and ETags are made up.
    """
    if objects < 1 or (size_bytes or TAIL_BYTES) < TAIL_BYTES:
        raise ValueError(f"a lake has objects, and they have at least {TAIL_BYTES} bytes")
    if not versioned and (noncurrent or deleted):
        raise ValueError("only versioned buckets have old versions and delete markers")
    noise = random.Random(objects)
    shared = _random_bytes(noise, size_bytes - TAIL_BYTES) if size_bytes else b""
    shared_md5 = hashlib.md5(shared, usedforsecurity=False)
    current, versions, total_bytes = Records(), Records() if versioned else None, 0

    def facts(key: str, number: int, age: int) -> str:
        """What follows the key (and the version id) of an object."""
        if size_bytes:
            md5 = shared_md5.copy()
            md5.update(tail(unquote_to_bytes(key), age))
            etag, size = md5.hexdigest(), size_bytes
        else:
            etag, size = f"{noise.getrandbits(128):032x}", noise.getrandbits(20)
        nonlocal total_bytes
        total_bytes += 0 if age else size
        return (
            f"<LastModified>{_time(number, age)}</LastModified><ETag>&quot;{etag}&quot;</ETag>"
            "<ChecksumAlgorithm>CRC64NVME</ChecksumAlgorithm><ChecksumType>FULL_OBJECT</ChecksumType>"
            f"<Size>{size}</Size><StorageClass>STANDARD</StorageClass>"
        )

    def head(key: str, *, latest: bool) -> str:
        version = base64.b64encode(noise.randbytes(24), b"._").decode()
        return f"<Key>{key}</Key><VersionId>{version}</VersionId><IsLatest>{str(latest).lower()}</IsLatest>"

    keys = objects + deleted
    names = enumerate(LAYOUTS[layout](keys, noise))
    while batch := list(islice(names, BATCH_KEYS)):
        contents: list[str] = []
        histories: list[str] = []
        for number, name in batch:
            key = prefix + name
            is_deleted = (number + 1) * deleted // keys > number * deleted // keys  # spread evenly
            if is_deleted:
                written = f"<LastModified>{_time(number, 0)}</LastModified>"
                histories.append(f"<DeleteMarker>{head(key, latest=True)}{written}{_OWNER}</DeleteMarker>")
            else:
                known = facts(key, number, 0)
                contents.append(f"<Contents><Key>{key}</Key>{known}</Contents>")
                if versions is not None:
                    histories.append(f"<Version>{head(key, latest=True)}{known}{_OWNER}</Version>")
            for age in range(1, max(noncurrent, is_deleted) + 1):
                old = facts(key, number, age)
                histories.append(f"<Version>{head(key, latest=False)}{old}{_OWNER}</Version>")
        current.extend(contents)
        if versions is not None:
            versions.extend(histories)
    current.seal()
    if versions is not None:
        versions.seal()
    return Lake(prefix, current, versions, total_bytes, shared)


def _random_bytes(noise: random.Random, size_bytes: int) -> bytes:
    """`Random.randbytes`, of which one call cannot make 256 MiB."""
    most = 1 << 27
    return b"".join(noise.randbytes(min(most, size_bytes - at)) for at in range(0, size_bytes, most))


def _time(number: int, age: int) -> str:
    """When an object was written: at some time of a day, old versions on the days before."""
    return f"{_day(age)}T{_CLOCK[number % len(_CLOCK)]}.000Z"


@cache
def _day(age: int) -> str:
    return f"{datetime(2026, 6, 30) - timedelta(days=age):%Y-%m-%d}"


_CLOCK: Final = [f"{datetime(2026, 6, 30) + timedelta(seconds=86 * n):%H:%M:%S}" for n in range(997)]
_OWNER: Final = f"<Owner><ID>{hashlib.sha256(b'owner').hexdigest()}</ID></Owner>"
