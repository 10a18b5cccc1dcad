"""S3 by the shared suite, on a versioned and an unversioned bucket."""

from __future__ import annotations

from typing import Any

import pytest

from refart.sources.s3.source import S3Source
from refart.testing import Lake
from tests.sources.suite import SourceSuite


class S3Suite(SourceSuite):
    content_algo = "md5"
    rung = "md5"
    many = 1_100  # moto takes seconds a page beyond that; the servers that keep objects outside Python list 2,500
    missing_prefix_is_error = False
    refuses_changed = True
    has_folder_markers = True
    object_beside_prefix = True
    odd_keys = (
        # moto routes no URL with a line feed; test_s3_listing.py and test_s3_faults.py have such keys.
        *(key for key in SourceSuite.odd_keys if "\n" not in key),
        "k" * 1000,
        "a//b",
        "./dot",
        "dot/./inside",
        "dot/../up",
        "../up",
        "c:drive",
        "%2F",
        "tab\tin",
        "query?versionId=abc",
        "https://example.org/x",
        "delete\x7f",
    )

    @pytest.fixture
    def source(self, s3: Any) -> S3Source:
        return S3Source({})


class TestVersioned(S3Suite):
    held = "version"
    keeps_versions = True
    # moto ignores EncodingType in ListObjectVersions, and XML cannot carry a bare carriage return.
    odd_keys = tuple(key for key in S3Suite.odd_keys if "\r" not in key)

    @pytest.fixture
    def place(self, s3: Any) -> Lake:
        s3.create_bucket(Bucket="kept")
        s3.put_bucket_versioning(Bucket="kept", VersioningConfiguration={"Status": "Enabled"})
        return Lake("kept", s3)


class TestUnversioned(S3Suite):
    held = "etag"
    keeps_versions = False

    @pytest.fixture
    def place(self, s3: Any) -> Lake:
        s3.create_bucket(Bucket="replaced")
        return Lake("replaced", s3)
