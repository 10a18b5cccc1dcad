"""Web servers as a source: what every source does, on nginx with strong ETags and without any."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from refart.sources.http.source import HTTPSource
from tests.servers import Nginx, Site
from tests.sources.suite import SourceSuite


@dataclass(frozen=True)
class Location:
    """A folder as one location of nginx gives it out; each `put` takes another second."""

    site: Site
    location: str = ""

    @property
    def uri(self) -> str:
        return self.uri_of("")

    def uri_of(self, key: str) -> str:
        return self.site.url(key, location=self.location)

    def put(self, key: str, data: bytes) -> object:
        return self.site.put(key, data)

    def delete(self, key: str) -> None:
        self.site.delete(key)


class _OnNginx(SourceSuite):
    lists = False
    keeps_versions = False
    refuses_changed = True
    recognises_bytes = False
    missing_prefix_is_error = True
    odd_keys = (*SourceSuite.odd_keys, "%2F", "%252F", "~tilde", "a//b")

    @pytest.fixture
    def source(self) -> HTTPSource:
        return HTTPSource({})


class TestStrongETags(_OnNginx):
    held = "etag"
    content_algo = "etag"
    rung = "etag"

    @pytest.fixture
    def place(self, nginx: Nginx) -> Location:
        return Location(nginx.site())


class TestLastModifiedOnly(_OnNginx):
    held = "current"
    content_algo = "stat"
    rung = "weak"
    is_weak = True

    @pytest.fixture
    def place(self, nginx: Nginx) -> Location:
        return Location(nginx.site(), "noetag")


class TestBehindAToken(_OnNginx):
    held = "etag"
    content_algo = "etag"
    rung = "etag"

    @pytest.fixture
    def place(self, nginx: Nginx) -> Location:
        return Location(nginx.site(), "auth")

    @pytest.fixture
    def source(self, nginx: Nginx) -> HTTPSource:
        return HTTPSource({"client_kwargs": {"headers": nginx.authorization}})

    @pytest.fixture
    def stranger(self) -> HTTPSource:
        return HTTPSource({"headers": {"Authorization": "Bearer nobody"}})
