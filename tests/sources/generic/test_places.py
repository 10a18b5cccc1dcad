"""The way from a URI to a driver's path, and back."""

from __future__ import annotations

import re

import fsspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from refart.errors import InvalidInputError
from refart.names import links
from refart.sources.generic.places import Place
from tests.sources.repositories import RepositoryFileSystem

DRIVERS = {
    "memory": fsspec.get_filesystem_class("memory"),
    "sftp": fsspec.get_filesystem_class("sftp"),
    "webdav": fsspec.get_filesystem_class("webdav"),
    "ftp": fsspec.get_filesystem_class("ftp"),
    "zip": fsspec.get_filesystem_class("zip"),
    "repository": RepositoryFileSystem,
}


def place(uri: str) -> Place:
    return Place.of(uri, DRIVERS[uri.partition("://")[0].lower()])


@pytest.mark.parametrize(
    ("uri", "path", "folder"),
    [
        ("memory://bucket/a/b", "/bucket/a/b", "/bucket/a/b/"),
        ("memory://bucket/a/", "/bucket/a", "/bucket/a/"),
        ("memory://bucket", "/bucket", "/bucket/"),
        ("memory:///bucket/a", "/bucket/a", "/bucket/a/"),
        ("memory://", "", "/"),
        ("MEMORY://Bucket/a", "/Bucket/a", "/Bucket/a/"),
        ("sftp://user@host:22/abs/path", "/abs/path", "/abs/path/"),
        ("sftp://host/", "/", "/"),
        ("sftp://host", "/", "/"),
        ("webdav://folder/a", "folder/a", "folder/a/"),
        ("ftp://host/pub/a", "/pub/a", "/pub/a/"),
        ("zip://inside/a.txt::file:///x/y.zip", "inside/a.txt", "inside/a.txt/"),
        ("zip://a.txt::file:///x/y.zip", "a.txt", "a.txt/"),
        ("zip://::file:///x/y.zip", "", ""),
        ("zip:///inside/a.txt::file:///x/y.zip", "inside/a.txt", "inside/a.txt/"),
        ("repository://org:repo@sha/docs/a#b?c=%41", "docs/a#b?c=%41", "docs/a#b?c=%41/"),
        ("repository://org:repo@sha/", "", ""),
    ],
)
def test_a_uri_leads_to_a_path_in_the_words_of_the_driver(uri: str, path: str, folder: str) -> None:
    assert (place(uri).path, place(uri).folder) == (path, folder)


@pytest.mark.parametrize(
    "uri",
    [
        "memory://bucket/a//",  # the driver drops slashes at the end
        "ftp://host/a//",
        "sftp://[host/a",
    ],
)
def test_what_a_driver_would_take_for_something_else_is_refused(uri: str) -> None:
    with pytest.raises(InvalidInputError, match=re.escape(uri)):
        place(uri)


ROOTS = [
    "memory://bucket/data",
    "memory://",
    "sftp://user@host:22/data",
    "sftp://host",
    "webdav://folder",
    "ftp://host/pub/",
    "zip://inside::file:///x/y.zip",
    "zip://::s3://lake/y.zip",
    "repository://org:repo@sha/docs",
    "repository://org:repo@sha",
]


@given(
    st.sampled_from(ROOTS),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1),
)
@example("memory://bucket", "a?b#c%41")
@example("zip://::file:///x/y.zip", "/absolute")
@example("zip://inside::file:///x/y.zip", "a::memory://b")
@example("sftp://host", "https://example.org/x")
@example("webdav://folder", "webdav://x")
@example("memory://", "a")
def test_the_uri_of_a_listed_name_leads_back_to_it_or_is_refused(root: str, name: str) -> None:
    scheme = root.partition("://")[0]
    listed = place(root)
    path = listed.folder + name
    if listed.problem_of(path, DRIVERS[scheme]) is not None:
        # Only what a driver changes in a path, or what reads as a link of a chain.
        stripped = DRIVERS[scheme]._strip_protocol(path)
        assert stripped != path or len(links(name)) > 1 or path.startswith("/") > listed.base.startswith("/")
        return
    uri = listed.uri_of(path)
    assert place(uri).path == path
    assert uri.endswith(f"{name}{listed.tail}")
