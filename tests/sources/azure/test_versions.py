"""Azure accounts that keep versions, and other things that Azurite has not, on the account of `account.py`."""

from __future__ import annotations

import gzip
from collections.abc import Iterator

import pytest

from refart.entries import Entry
from refart.errors import InvalidInputError, NotFoundError, ReferenceChangedError, ReferenceMissingError
from refart.sources.azure.client import PIECE_BYTES
from refart.sources.azure.source import AzureSource
from tests.sources.azure.account import Account
from tests.sources.azure.test_source import AzureSuite
from tests.sources.suite import listed, read, read_checked


@pytest.fixture
def account() -> Iterator[Account]:
    account = Account()
    yield account
    account.close()


@pytest.fixture
def source(account: Account) -> AzureSource:
    return AzureSource(account.storage_options)


def logged(source: AzureSource, account: Account) -> Entry:
    [entry] = listed(source, f"{account.uri}/d").values()
    return entry


class TestSuite(AzureSuite):
    """The shared suite where versions are kept."""

    held = "version"
    keeps_versions = True
    odd_keys = (*AzureSuite.odd_keys, "back\\slash", "not of XML \ufffe", "bell\x07")

    @pytest.fixture
    def source(self, account: Account) -> AzureSource:
        return AzureSource(account.storage_options)

    @pytest.fixture
    def stranger(self) -> None:
        """This account lets everybody in."""

    @pytest.fixture
    def place(self, account: Account) -> Account:
        return account


class TestListing:
    def test_versions_cost_no_request_of_their_own(self, source: AzureSource, account: Account) -> None:
        for n in range(2_500):
            account.put(f"d/{n}", b"x")
        assert len(listed(source, f"{account.uri}/d/")) == 2_500
        assert account.requests == ["List"]

    def test_an_object_or_prefix_is_told_by_the_same_listing(
        self, source: AzureSource, account: Account
    ) -> None:
        account.put("d/a", b"x")
        assert logged(source, account).pin is not None
        assert source.scan(f"{account.uri}/d/a").is_object
        assert account.requests == ["List", "List"]

    def test_old_and_deleted_versions_are_not_entries(self, source: AzureSource, account: Account) -> None:
        account.put("d/a", b"old")
        new = account.put("d/a", b"newer")
        account.put("d/gone", b"x")
        account.delete("d/gone")
        entry = logged(source, account)
        assert (entry.size, entry.pin) == (5, f"version:{new.version}")

    def test_writes_from_before_and_after_versioning_are_pinned_by_etag(
        self, source: AzureSource, account: Account
    ) -> None:
        account.keeps_versions = False
        before = account.put("d/before", b"1")
        account.keeps_versions = True
        account.put("d/after", b"2")
        account.keeps_versions = False
        after = account.put("d/after", b"3")
        found = listed(source, f"{account.uri}/d")
        assert {path: entry.pin for path, entry in found.items()} == {
            "before": f"etag:{before.etag}",
            "after": f"etag:{after.etag}",
        }
        assert read(source, found["after"]) == b"3"

    def test_an_object_behind_a_page_of_its_own_old_versions_is_found(
        self, source: AzureSource, account: Account
    ) -> None:
        account.page_blobs = 3
        for n in range(5):
            account.put("d/a", b"%d" % n)
        account.put("d/a2", b"x")
        [entry] = listed(source, f"{account.uri}/d/a").values()
        assert (entry.path, read(source, entry)) == ("a", b"4")

    def test_pages_without_anything_current_are_passed_over(
        self, source: AzureSource, account: Account
    ) -> None:
        account.page_blobs = 2
        for key in ("d/a", "d/b", "d/c"):
            for n in range(4):
                account.put(key, b"%d" % n)
        account.delete("d/b")
        assert {path: read(source, e) for path, e in listed(source, f"{account.uri}/d").items()} == {
            "a": b"3",
            "c": b"3",
        }

    def test_where_versions_cannot_be_listed_etags_pin(self, source: AzureSource, account: Account) -> None:
        account.refuses_versions = True
        blob = account.put("d/a", b"x")
        assert logged(source, account).pin == f"etag:{blob.etag}"
        assert read(source, logged(source, account)) == b"x"
        assert account.requests == ["List", "List", "List", "GET"], "versions are asked for once"

    def test_folders_of_a_hierarchical_namespace_are_not_entries(
        self, source: AzureSource, account: Account
    ) -> None:
        account.put("d", b"", metadata={"hdi_isfolder": "true"})
        account.put("d/a", b"x")
        account.put("d/by-type", b"", resource_type="directory", has_md5=False)
        account.put("d/sub", b"", metadata={"Hdi_isfolder": "true"})
        account.put("d/sub/b", b"y")
        assert listed(source, f"{account.uri}/d").keys() == {"a", "sub/b"}
        assert listed(source, account.uri).keys() == {"d/a", "d/sub/b"}
        assert source.stat(f"{account.uri}/d") is None
        assert not source.scan(f"{account.uri}/d/sub").is_object


class TestByHand:
    def test_a_version_is_named_behind_the_uri(self, source: AzureSource, account: Account) -> None:
        old = account.put("d/a", b"old")
        account.put("d/a", b"new")
        uri = f"{account.uri}/d/a"
        [entry] = listed(source, f"{uri}?versionid={old.version}").values()
        assert (entry.path, entry.uri, entry.pin) == ("a", uri, f"version:{old.version}")
        assert read(source, entry) == b"old"

    def test_a_url_names_it_in_its_query(self, source: AzureSource, account: Account) -> None:
        old = account.put("d/a b", b"old")
        account.put("d/a b", b"new")
        uri = "https://devstoreaccount1.blob.core.windows.net/kept/d/a%20b"
        [entry] = listed(source, f"{uri}?versionid={(old.version or '').replace(':', '%3A')}").values()
        assert (entry.uri, entry.pin) == (uri, f"version:{old.version}")
        assert read(source, entry) == b"old"

    def test_a_blob_of_that_literal_name_comes_first(self, source: AzureSource, account: Account) -> None:
        old = account.put("d/a", b"old")
        account.put(f"d/a?versionid={old.version}", b"literal")
        [entry] = listed(source, f"{account.uri}/d/a?versionid={old.version}").values()
        assert read(source, entry) == b"literal"

    @pytest.mark.parametrize("version", ["2020-01-01T00:00:00.0000000Z", "null"])
    def test_a_version_that_is_not_there(self, source: AzureSource, account: Account, version: str) -> None:
        account.put("d/a", b"x")
        with pytest.raises(NotFoundError, match=f"has no version '{version}'"):
            source.scan(f"{account.uri}/d/a?versionid={version}")

    @pytest.mark.parametrize("keeps_versions", [True, False])
    def test_a_blob_that_is_a_prefix_too_can_be_named_as_the_error_says(
        self, source: AzureSource, account: Account, keeps_versions: bool
    ) -> None:
        account.keeps_versions = keeps_versions
        account.put("d", b"blob")
        account.put("d/a", b"x")
        with pytest.raises(InvalidInputError, match="also a prefix of others") as error:
            source.scan(f"{account.uri}/d")
        uri = next(word for word in str(error.value).split() if "?versionid=" in word)
        [entry] = listed(source, uri).values()
        assert (entry.uri, read(source, entry)) == (f"{account.uri}/d", b"blob")


class TestReading:
    def test_a_large_blob_comes_in_pieces_of_one_version(self, source: AzureSource, account: Account) -> None:
        data = bytes(range(256)) * (2 * PIECE_BYTES // 256) + b"end"
        account.put("d/a", data)
        entry = logged(source, account)
        account.put("d/a", b"newer")
        account.requests.clear()
        assert read(source, entry) == data
        assert account.requests == ["GET"] * 3

    def test_a_small_blob_costs_one_get(self, source: AzureSource, account: Account) -> None:
        account.put("d/a", b"x" * PIECE_BYTES)
        entry = logged(source, account)
        account.requests.clear()
        read(source, entry)
        assert account.requests == ["GET"]

    def test_a_purged_version_whose_bytes_are_there_again(
        self, source: AzureSource, account: Account
    ) -> None:
        old = account.put("d/a", b"same")
        entry = logged(source, account)
        account.put("d/a", b"same")
        account.purge("d/a", old.version or "")
        data, checked = read_checked(source, entry)
        assert (data, checked.rung) == (b"same", "md5")

    def test_a_purged_version_whose_bytes_are_not(self, source: AzureSource, account: Account) -> None:
        old = account.put("d/a", b"same")
        entry = logged(source, account)
        account.put("d/a", b"else")
        account.purge("d/a", old.version or "")
        with pytest.raises(ReferenceChangedError):
            read(source, entry)
        account.delete("d/a")
        with pytest.raises(ReferenceMissingError):
            read(source, entry)

    def test_bytes_come_as_they_are_stored(self, source: AzureSource, account: Account) -> None:
        """`Content-Encoding: gzip` says what the bytes are, not how they travel."""
        data = gzip.compress(b"text")
        account.put("d/a", data, content_encoding="gzip")
        assert read(source, logged(source, account)) == data

    def test_a_blob_without_md5_is_known_by_its_etag(self, source: AzureSource, account: Account) -> None:
        blob = account.put("d/a", b"blocks", has_md5=False)
        entry = logged(source, account)
        assert (entry.content_id, entry.pin) == (f"etag:{blob.etag}", f"version:{blob.version}")
        account.put("d/a", b"others", has_md5=False)
        data, checked = read_checked(source, entry)
        assert (data, checked.rung) == (b"blocks", "etag")

    def test_an_append_blob_that_grows_has_changed(self, source: AzureSource, account: Account) -> None:
        """It keeps its version id, so only its ETag can pin it."""
        blob = account.put("d/log", b"line\n", blob_type="AppendBlob", has_md5=False)
        entry = logged(source, account)
        assert (entry.content_id, entry.pin) == (f"etag:{blob.etag}", None)
        assert read(source, entry) == b"line\n"
        account.append("d/log", b"more\n")
        with pytest.raises(ReferenceChangedError):
            read(source, entry)
