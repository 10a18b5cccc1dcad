"""A part of a version as a draft of its own: chosen by path, sampled or split. No byte is copied.

Which entry is sampled, and which part it falls to, is decided by a hash of the seed and its path alone: the same on
every machine and in every order, and for an entry that is there it stays so when others come and go.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from fractions import Fraction
from functools import partial
from itertools import accumulate, pairwise
from typing import Final, TypeAlias

import pyarrow as pa

from refart import names
from refart.entries import Page
from refart.errors import InvalidInputError, NotFoundError
from refart.manifest.draft import Draft
from refart.manifest.reader import Manifest
from refart.ops.patterns import Patterns
from refart.ops.select import selection

Pages: TypeAlias = Callable[[], Iterator[Page]]
"""Streams the same pages as often as it is called."""

_END: Final = 1 << 256
"""One past the largest SHA-256, as a number."""

_BUCKET_BYTES: Final = 2
"""Digests are counted by their first bytes: 65,536 counters, and two passes find any rank among them."""


def subset(pages: Pages, label: str) -> Draft:
    """The chosen entries as a draft. Raises `NotFoundError` where none was."""
    draft = Draft()
    try:
        draft.add(pages())
        if not len(draft):
            raise NotFoundError(f"no entry of {label} was chosen; choose more, or try another seed")
    except BaseException:
        draft.close()
        raise
    return draft


def split(pages: Pages, label: str, parts: Mapping[str, float], seed: int) -> dict[str, Draft]:
    """A draft for each part, which together hold every entry once. See `Artifact.split`."""
    drafts: dict[str, Draft] = {}
    try:
        for name, (low, high) in _bounds(parts).items():
            drafts[name] = subset(
                partial(_between, pages, _key("split", seed), low, high), f"{label} for {name!r}"
            )
    except BaseException:
        for draft in drafts.values():
            draft.close()
        raise
    return drafts


def chosen(
    manifest: Manifest,
    label: str,
    *,
    path_prefix: str | None,
    include: Patterns,
    exclude: Patterns,
    sample: int | float | None,
    seed: int,
) -> Pages:
    """The pages of a selection, or of a sample of it. Raises `NotFoundError` as `selection` does, and
    `InvalidInputError` for a sample that cannot be drawn."""
    pages = selection(manifest, label, path_prefix=path_prefix, include=include, exclude=exclude)
    key = _key("sample", seed)
    if sample is None:
        return pages
    if isinstance(sample, bool) or not isinstance(sample, int | float) or not 0 < sample < float("inf"):
        raise InvalidInputError(
            f"sample must be a number of entries (1 or more) or a fraction (more than 0.0, up to 1.0), not {sample!r}"
        )
    if isinstance(sample, int):
        return partial(_between, pages, key, 0, _end_of(pages, key, sample, label))
    if sample > 1:
        raise InvalidInputError(
            f"a fraction of {sample} cannot be sampled; a number of entries is a whole number"
        )
    return partial(_between, pages, key, 0, int(_exact(sample) * _END))


def described(**choice: object) -> str:
    """How entries were chosen, for a description."""
    return ", ".join(f"{name}={value!r}" for name, value in choice.items() if value not in (None, ()))


def _key(purpose: str, seed: int) -> bytes:
    """What is hashed before a path. Another one to split by than to sample by, or a sample would be of one part."""
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise InvalidInputError(f"seed must be a whole number, not {seed!r}")
    return f"refart/1 {purpose} {seed}\n".encode()


def _digests(pages: Iterable[Page], key: bytes) -> Iterator[tuple[Page, list[bytes]]]:
    sha256 = hashlib.sha256
    for page in pages:
        paths = page["path"].cast(pa.binary()).to_pylist()
        yield page, [sha256(key + path).digest() for path in paths]


def _between(pages: Pages, key: bytes, low: int, high: int) -> Iterator[Page]:
    """The rows whose hash is in a range: low <= hash < high."""
    least, end = low.to_bytes(33, "big"), high.to_bytes(33, "big")  # one more byte, for the end of all
    for page, digests in _digests(pages(), key):
        found = page.filter(pa.array([least <= b"\0" + digest < end for digest in digests], pa.bool_()))
        if found.num_rows:
            yield found


def _end_of(pages: Pages, key: bytes, count: int, label: str) -> int:
    """One past the `count`-th smallest hash; holds counters, and the hashes of one bucket."""
    buckets: Counter[bytes] = Counter()
    for _, digests in _digests(pages(), key):
        buckets.update(digest[:_BUCKET_BYTES] for digest in digests)
    if count > buckets.total():
        raise InvalidInputError(
            f"sample={count:,} asks for more entries than the {buckets.total():,} of {label} to choose from"
        )
    below = 0
    for bucket in sorted(buckets):
        if below + buckets[bucket] >= count:
            break
        below += buckets[bucket]
    inside = sorted(d for _, digests in _digests(pages(), key) for d in digests if d.startswith(bucket))
    return int.from_bytes(inside[count - below - 1], "big") + 1


def _bounds(parts: Mapping[str, float]) -> dict[str, tuple[int, int]]:
    """The range of hashes of each part, in their order."""
    if not isinstance(parts, Mapping) or not parts:
        raise InvalidInputError(
            "parts must be a mapping of names to fractions, such as {'train': 0.8, 'val': 0.2}"
        )
    for name, part in parts.items():
        names.check_name(name, "part")
        if isinstance(part, bool) or not isinstance(part, int | float) or not 0 < part <= 1:
            raise InvalidInputError(f"part {name!r} must be a fraction (more than 0, up to 1), not {part!r}")
    ends = list(accumulate(map(_exact, parts.values())))
    if abs(ends[-1] - 1) > Fraction(1, 10**9):
        raise InvalidInputError(
            f"the parts {described(**parts)} add up to {float(ends[-1]):g}, not to 1: every entry falls to one of them"
        )
    ends[-1] = Fraction(1)
    return dict(zip(parts, pairwise([0, *(int(end * _END) for end in ends)]), strict=True))


def _exact(fraction: float) -> Fraction:
    """As it is written: 0.1 is a tenth."""
    return Fraction(str(fraction))
