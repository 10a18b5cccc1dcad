"""Which pinned writes a bucket still keeps: many at once, and never a loss that is none."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from refart import Artifact, Workspace
from refart.errors import PermissionDeniedError
from refart.sources import kept
from refart.sources.kept import Kept, Write
from refart.testing import Lake, S3Requests
from tests.places import Can, on_every_kind

OBJECTS = 40


class Server:
    """All writes in order, told by pages that may end between two writes of a key."""

    def __init__(self, writes: set[Write], page: int, error: Exception | None = None) -> None:
        self.writes, self.page, self.error = sorted(writes), page, error
        self.lists = self.heads = 0

    def listing(self, prefix: str, first: str) -> Kept:
        self.lists += 1
        if self.error is not None:
            raise self.error
        rest = [write for write in self.writes if write.key >= first and write.key.startswith(prefix)]
        told = rest[: self.page]
        return Kept(set(told), told[-1].key if len(rest) > self.page else None)

    def ask(self, write: Write) -> bool | None:
        self.heads += 1
        return True if write in self.writes else None

    def which(self, wanted: set[Write]) -> dict[Write, Any]:
        with ThreadPoolExecutor(2) as pool:
            return dict(kept.which(self.listing, list(wanted), self.ask, pool, 4))


writes = st.sets(
    st.builds(Write, st.text("ab/", min_size=1, max_size=4), st.sampled_from("123")), max_size=60
)


@given(there=writes, wanted=writes, page=st.integers(1, 20))
def test_every_write_is_told_by_no_more_requests_than_writes(
    there: set[Write], wanted: set[Write], page: int
) -> None:
    server = Server(there, page)
    assert server.which(wanted) == {write: True if write in there else None for write in wanted}
    assert server.heads + server.lists <= 1.2 * len(wanted) + 1


def test_a_key_with_more_versions_than_a_response_tells() -> None:
    there = {Write("k", f"{number:04}") for number in range(3000)} | {Write("z", "1")}
    server = Server(there, 1000)
    wanted = {write for write in there if int(write.pin) % 30 == 0} | {Write("k", "x")}
    assert [write for write, found in server.which(wanted).items() if not found] == [Write("k", "x")]


def test_where_versions_may_not_be_listed_each_is_asked_about() -> None:
    there = {Write(f"{number:03}", "1") for number in range(100)}
    server = Server(there, 1000, PermissionDeniedError("no"))
    assert all(server.which(there).values())
    assert (server.lists, server.heads) == (1, 100)


def logged(workspace: Workspace, uri: str) -> Artifact:
    draft = Artifact("data", "dataset")
    draft.add_reference(uri)
    with workspace.init() as run:
        return run.log_artifact(draft)


@on_every_kind(Can.KEEP)
def test_old_versions_of_every_kind_of_place_are_found(lake: Any) -> None:
    versions = {key: lake.put(f"d/{key}", key.encode()) for key in (f"{n:02}" for n in range(OBJECTS))}
    with Workspace.open() as workspace:
        artifact = logged(workspace, lake.uri_of("d"))
        for key in list(versions)[1:]:
            lake.put(f"d/{key}", b"other bytes")
        lake.delete("d/03")
        assert artifact.verify_remote().pins["superseded"] == OBJECTS - 1
        if lake.kind.can(Can.PURGE):
            lake.purge("d/05", versions["05"])
            assert artifact.verify_remote().lost == ["05"]


def test_many_versions_cost_a_listing(
    refart_workspace: Workspace, versioned_lake: Lake, s3_requests: S3Requests
) -> None:
    for number in range(OBJECTS):
        versioned_lake.put(f"d/{number:02}", b"1")
    artifact = logged(refart_workspace, f"{versioned_lake.uri}/d")
    for number in range(OBJECTS):
        versioned_lake.put(f"d/{number:02}", b"22")
    s3_requests.clear()
    assert artifact.status().read().pins["superseded"] == OBJECTS
    assert s3_requests.count("ListObjectVersions") == 2, "what lies there now, and what is kept"
    assert s3_requests.count("HeadObject") <= 1
