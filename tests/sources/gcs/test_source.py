"""GCS by the shared suite, on a versioned and an unversioned bucket."""

from __future__ import annotations

import pytest

from refart.sources.gcs.source import GCSSource
from tests.servers import FakeGCS, GCSBucket
from tests.sources.suite import SourceSuite


class GCSSuite(SourceSuite):
    """fake-gcs-server lets everybody in, so no stranger is turned away here; `test_gcs_faults.py` has what GCS says."""

    held = "generation"
    content_algo = "md5"
    rung = "md5"
    missing_prefix_is_error = False
    refuses_changed = True
    has_folder_markers = True
    object_beside_prefix = True
    odd_keys = (
        *SourceSuite.odd_keys,
        "k" * 1000,
        "한" * 330,
        "a//b",
        "./dot",
        "dot/./inside",
        "dot/../up",
        "../up",
        "c:drive",
        "%2F",
        "tab\tin",
        "key#123",
        "key#123?generation=4",
        "https://example.org/x",
        "delete\x7f",
    )

    @pytest.fixture
    def source(self, fake_gcs: FakeGCS) -> GCSSource:
        return GCSSource(fake_gcs.storage_options)


class TestVersioned(GCSSuite):
    keeps_versions = True

    @pytest.fixture
    def place(self, fake_gcs: FakeGCS) -> GCSBucket:
        return fake_gcs.bucket(versioned=True)


class TestUnversioned(GCSSuite):
    keeps_versions = False

    @pytest.fixture
    def place(self, fake_gcs: FakeGCS) -> GCSBucket:
        return fake_gcs.bucket(versioned=False)
