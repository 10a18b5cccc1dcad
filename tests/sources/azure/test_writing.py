"""Copies and deletions that Azure makes itself."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from refart.entries import Entry
from refart.errors import ConflictError, ReferenceMissingError, SourceError
from refart.sources.azure import writing as azure_writing
from refart.sources.azure.source import AzureSource
from tests.servers import Azurite


@pytest.fixture
def container(azurite: Azurite):
    return azurite.container()


@pytest.fixture
def source(azurite: Azurite) -> AzureSource:
    return AzureSource(azurite.storage_options)


def test_a_copy_has_the_metadata_and_leaves_what_came_between(container, source) -> None:
    container.client.get_blob_client("k").upload_blob(b"1", metadata={"by": "me"})
    entry = source.stat(f"{container.uri}/k")
    copied = source.copy(entry, f"{container.uri}/copy", over=None)
    assert (copied.size, copied.content_id) == (entry.size, entry.content_id)
    assert container.client.get_blob_client("copy").get_blob_properties().metadata == {"by": "me"}
    with pytest.raises(ConflictError):
        source.copy(entry, f"{container.uri}/copy", over=None)
    container.put("copy", b"other")
    with pytest.raises(ConflictError):
        source.copy(entry, f"{container.uri}/copy", over=copied)
    with pytest.raises(ConflictError):
        source.delete(copied)
    source.delete(source.stat(f"{container.uri}/copy"))
    assert source.stat(f"{container.uri}/copy") is None


def test_what_was_overwritten_cannot_be_copied(container, source) -> None:
    container.put("k", b"1")
    entry = source.stat(f"{container.uri}/k")
    container.delete("k")
    with pytest.raises(ReferenceMissingError):
        source.copy(entry, f"{container.uri}/copy", over=None)


class Client:
    """An account that goes on with a copy after its answer."""

    def __init__(self, *states: str, tier: str = "Cool") -> None:
        self.states, self.tier = list(states), tier

    def properties(self, *_: Any, **__: Any) -> Any:
        copied = SimpleNamespace(id="c", status=self.states.pop(0) if self.states else None)
        return SimpleNamespace(etag='"e"', blob_tier=self.tier, blob_tier_inferred=False, copy=copied)

    def start_copy(self, *_: Any, **asked: Any) -> dict[str, Any]:
        assert asked["standard_blob_tier"].value == "Cool"
        return {"copy_status": "pending", "copy_id": "c"}


def test_a_copy_that_takes_long_is_waited_for(monkeypatch) -> None:
    monkeypatch.setattr(azure_writing, "POLL_S", 0)
    entry = Entry("k", 1, "etag:e", "az://c/k")

    def writer(*states: str) -> azure_writing.Writer:
        return azure_writing.Writer(
            Client("of the source", *states), lambda _: entry, None, "k", "az://c/k", None
        )  # type: ignore[arg-type]

    assert writer("pending", "success").copy(entry, None, "k") == entry  # type: ignore[arg-type]
    with pytest.raises(SourceError, match="gave the copy up"):
        writer("failed").copy(entry, None, "k")  # type: ignore[arg-type]


def test_what_is_archived_is_named() -> None:
    entry = Entry("k", 1, "etag:e", "az://c/k")
    client = Client(tier="Archive")
    writer = azure_writing.Writer(client, lambda _: entry, None, "k", "az://c/k", None)  # type: ignore[arg-type]
    with pytest.raises(SourceError, match=r"az://c/k.* is archived \(Archive\): move it to an online tier"):
        writer.copy(entry, None, "k")  # type: ignore[arg-type]
