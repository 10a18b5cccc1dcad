"""What a manifest of anybody's can make drivers of fsspec do: nothing but read one place."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.cached import SimpleCacheFileSystem

from refart.config import Config
from refart.entries import Entry
from refart.errors import InvalidInputError, NotInstalledError, RefartError, SourceError
from refart.sources.generic.source import GenericSource
from refart.sources.registry import Sources
from tests.sources.suite import listed, read
from tests.sources.webserver import WebServer


def refused(uri: str, match: str, config: Config | None = None) -> None:
    """Adding, looking and reading alike."""
    sources = Sources(config or Config())
    entry = Entry("a", None, "none", uri)
    for use in (
        lambda: list(sources.for_uri(uri).scan(uri).pages),
        lambda: sources.for_uri(uri).stat(uri),
        lambda: read(sources.for_uri(uri), entry),
        lambda: sources.for_uri(uri).open(entry),
    ):
        with pytest.raises(InvalidInputError, match=match):
            use()


@pytest.mark.parametrize("scheme", ["simplecache", "filecache", "blockcache", "cached"])
def test_caches_are_refused(scheme: str) -> None:
    """They give old bytes beside new times, and write where nobody looks."""
    for uri in (f"{scheme}://::memory://a", f"{scheme}://a::memory://b", f"zip://a::{scheme}://::memory://b"):
        refused(uri, f"{scheme}:// keeps bytes that may have changed")


@pytest.mark.parametrize(
    ("scheme", "why"),
    [
        ("reference", "renders the templates"),
        ("dir", "only leads on"),
        ("generic", "only leads on"),
        ("asyncwrapper", "only leads on"),
        ("dask", "reads on other machines"),
        ("data", "holds the bytes in the URI"),
        ("LOCAL", "another word for file://"),
    ],
)
def test_what_does_more_than_read_a_place_is_refused(scheme: str, why: str) -> None:
    refused(f"{scheme}://a", why)
    refused(f"zip://a::{scheme}://b", why)


def test_a_class_is_refused_under_whatever_scheme() -> None:
    class Renamed(SimpleCacheFileSystem):  # type: ignore[misc]  # fsspec has no types
        protocol = "renamed"

    fsspec.register_implementation("renamed", Renamed, clobber=True)
    refused("renamed://a", "keeps bytes that may have changed")


def test_the_references_of_a_stranger_are_not_even_fetched() -> None:
    """They would lead anywhere, and some releases of fsspec run the templates in them without a sandbox."""
    with WebServer(b'{"version": 1, "refs": {}}') as server:
        refused(f"reference://a::{server.url}/references.json", "renders the templates")
        assert not server.seen


def test_the_options_of_one_place_are_for_no_other_link_of_a_chain() -> None:
    with WebServer(b"a") as good, WebServer(b"b") as evil:
        config = Config(storage_options={good.url: {"headers": {"Authorization": "Bearer hunter2"}}})
        refused(f"zip://a::{good.url}/a.zip::{evil.url}/b", "reads no archive", config)
        refused(f"zip://a::zip://b::{good.url}/a.zip::{evil.url}/b", "reads no archive", config)
        refused(f"memory://a::{evil.url}/b", "reads no archive", config)
        assert not evil.seen


def test_a_chain_has_a_place_at_its_end_and_is_not_endless() -> None:
    refused("zip://a::tar://b", "tar://b does not say where the archive lies")
    refused("zip://a::" * 4 + "memory://b", "5 links; at most 4")
    refused("zip://a::" * 900 + "memory://b", "901 links; at most 4")


def test_fsspec_never_splits_what_is_one_name(tmp_path: Path) -> None:
    """A known scheme between `::` would be another link to it."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("in::simplecache::side", b"inside")
    source = GenericSource({})
    found = listed(source, f"zip://::file://{tmp_path}/a.zip")
    assert read(source, found["in::simplecache::side"]) == b"inside"
    refused("zip://a::memory://b::simplecache", "has '::' in its name")
    refused("zip://a::memory://b::simplecache::c", "has '::' in its name")
    refused("memory://a::simplecache/b", "do not understand '::'")


def test_every_driver_that_cannot_be_loaded_ends_in_an_error_of_ours() -> None:
    """Whatever its package is missing, down to the class that fsspec names."""
    for scheme in fsspec.available_protocols():
        try:
            fsspec.get_filesystem_class(scheme)
        except (ImportError, AttributeError):
            for uri in (f"{scheme}://127.0.0.1:9/a", f"zip://a::{scheme}://127.0.0.1:9/a"):
                with pytest.raises((SourceError, InvalidInputError, NotInstalledError)):
                    read(Sources(Config()).for_uri(uri), Entry("a", 1, "none", uri))


def _archive() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a", b"inside")
    return file.getvalue()


def test_what_is_configured_for_the_web_goes_to_no_host_that_an_archive_is_redirected_to() -> None:
    with WebServer(_archive()) as good, WebServer(_archive()) as other:
        place = good.url.replace("127.0.0.1", "localhost")
        good.locations["/a.zip"] = f"{other.url}/a.zip"

        def tried(options: dict[str, object]) -> bytes:
            sources, uri = Sources(Config(storage_options={place: options})), f"zip://a::{place}/a.zip"
            return read(sources.for_uri(uri), Entry("a", 6, "none", uri))

        assert tried({"headers": {"Authorization": "Bearer hunter2"}}) == b"inside"
        assert tried({"auth": ["me", "hunter2"]}) == b"inside"
        assert not any("Authorization" in seen.headers for seen in other.seen)
        other.seen.clear()
        for secret in (
            {"headers": {"X-Key": "hunter2"}},
            {"client_kwargs": {"headers": {"X-Key": "hunter2"}}},
        ):
            with pytest.raises(RefartError):
                tried(secret)
        assert not other.seen
        assert good.seen[-1].headers["X-Key"] == "hunter2"
