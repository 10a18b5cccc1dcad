"""S3 by the shared suite on a server that no one here wrote: SeaweedFS, with and without versions."""

from __future__ import annotations

import pytest

from refart.sources.s3 import S3Source
from refart.testing import Lake
from tests.servers import SeaweedFS
from tests.sources.suite import SourceSuite


class SeaweedSuite(SourceSuite):
    content_algo = "md5"
    rung = "md5"
    missing_prefix_is_error = False
    refuses_changed = True
    has_folder_markers = True
    object_beside_prefix = True
    # Keys are paths of its file system: it refuses `.` and `..` and components beyond 255 bytes, and stores `a//b` and
    # `back\slash` as `a/b` and `back/slash`. moto holds all of these: test_s3.py.
    odd_keys = (
        *(key for key in SourceSuite.odd_keys if key != "back\\slash"),
        "/".join(["k" * 200] * 5),
        "c:drive",
        "%2F",
        "tab\tin",
        "query?versionId=abc",
        "delete\x7f",
    )

    @pytest.fixture
    def source(self, seaweed: SeaweedFS) -> S3Source:
        return S3Source(seaweed.storage_options)

    @pytest.fixture
    def stranger(self, seaweed: SeaweedFS) -> S3Source:
        return S3Source({**seaweed.storage_options, "secret": "not the secret"})


class TestVersioned(SeaweedSuite):
    held = "version"
    keeps_versions = True

    @pytest.fixture
    def place(self, seaweed: SeaweedFS) -> Lake:
        return seaweed.bucket(versioned=True)


class TestUnversioned(SeaweedSuite):
    held = "etag"
    keeps_versions = False

    @pytest.fixture
    def place(self, seaweed: SeaweedFS) -> Lake:
        return seaweed.bucket(versioned=False)
