"""Many single objects of a bucket: never more requests than objects, and few where they lie close together."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refart.errors import NotFoundError, PermissionDeniedError
from refart.sources import lookup
from refart.sources.listed import Row, batch_of, listed
from refart.sources.splitting import Ranged


class Server:
    """Keys in order, told by pages from any key on; counts what it is asked."""

    def __init__(self, keys, page: int = 1000, error: Exception | None = None) -> None:
        self.keys, self.page, self.error = sorted(keys), page, error
        self.lists = self.heads = 0

    def ask(self, after: str, following: object):
        assert following is None
        self.lists += 1
        if self.error is not None:
            raise self.error
        rest = [key for key in self.keys if key > after]
        rows = [row(key) for key in rest[: self.page]]
        return listed(batch_of(rows), [r.key for r in rows], "more" if len(rest) > self.page else None)

    def head(self, key: str) -> Row | None:
        self.heads += 1
        return row(key) if key in self.keys else None

    def look(self, wanted, prefix: str = ""):
        ranged = Ranged(self.ask, prefix, "listing", at_once=1, give_up=lambda: None)
        with ThreadPoolExecutor(2) as pool:
            return dict(lookup.rows(ranged, wanted, self.head, pool, window=4))


def row(key: str) -> Row:
    return Row(key, len(key), "md5:" + "0" * 32, None)


keys = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=4)


@given(there=st.sets(keys, max_size=60), wanted=st.sets(keys, max_size=60), page=st.integers(1, 30))
def test_all_are_told_apart_by_no_more_requests_than_keys(there, wanted, page):
    server = Server(there, page)
    wanted |= set(sorted(there)[::2])
    assert server.look(list(wanted)) == {key: row(key) if key in there else None for key in wanted}
    # One response that told of few is followed by requests for many; what it told to be missing first is asked about.
    assert server.heads <= len(wanted)
    assert server.lists <= len(wanted) // lookup.FEW + 1


class Forgetful(Server):
    """Loses the first key after the one where a listing begins (moto, of versions)."""

    def ask(self, after: str, following: object):
        told = super().ask(after, following)
        return listed(told.objects.slice(1), told.keys[1:], told.following)


def test_a_key_that_a_server_loses_is_found():
    server = Forgetful([f"{n:03}" for n in range(100)])
    assert None not in server.look([f"{n:03}" for n in range(100)]).values()
    assert (server.lists, server.heads) == (1, 1)


def test_objects_close_together_cost_a_listing():
    server = Server([f"data/{n:06}" for n in range(10_000)])
    found = server.look([f"data/{n:06}" for n in range(3000, 8000, 2)], "data/")
    assert len(found) == 2500
    assert None not in found.values()
    assert (server.lists, server.heads) == (5, 0)


def test_what_lies_between_is_passed_over():
    server = Server([f"a/{n:06}" for n in range(5000)] + [f"z/{n:06}" for n in range(5000)])
    found = server.look([*(f"a/{n:06}" for n in range(900)), *(f"z/{n:06}" for n in range(900))])
    assert None not in found.values()
    assert (server.lists, server.heads) == (2, 0)


def test_objects_far_apart_are_asked_about_one_by_one():
    server = Server([f"{n:06}" for n in range(100_000)])
    server.look([f"{n:06}" for n in range(0, 100_000, 500)])
    assert server.heads > 180
    assert server.lists <= 3


def test_few_objects_are_asked_about_one_by_one():
    server = Server(["a", "b"])
    server.look(["a", "b", "c"])
    assert (server.lists, server.heads) == (0, 3)


@pytest.mark.parametrize(
    ("error", "heads", "found"),
    [(PermissionDeniedError("no"), 100, row("05")), (NotFoundError("no such bucket"), 0, None)],
)
def test_where_nothing_can_be_listed(error, heads, found):
    server = Server([f"{n:02}" for n in range(100)], error=error)
    told = server.look([f"{n:02}" for n in range(100)])
    assert told["05"] == found
    assert (server.lists, server.heads) == (1, heads)
