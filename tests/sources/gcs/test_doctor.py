"""What an examination of GCS reads from what the API says about a bucket."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from refart.errors import NotFoundError, PermissionDeniedError
from refart.sources.findings import Expiry, Finding
from refart.sources.gcs import doctor as gcs_doctor


class Client:
    """A bucket without objects, of which the API says `about`."""

    def __init__(self, about: Mapping[str, Any] | Exception, listing: Exception | None = None) -> None:
        self._about, self._listing = about, listing

    def bucket_json(self, what: str, bucket: str, fields: str) -> Mapping[str, Any]:
        if isinstance(self._about, Exception):
            raise self._about
        return self._about

    def get_json(
        self, what: str, bucket: str, key: str | None, asked: Mapping[str, str]
    ) -> Mapping[str, Any]:
        if self._listing is not None:
            raise self._listing
        return {}


def found(
    about: Mapping[str, Any] | Exception, key: str = "", listing: Exception | None = None
) -> list[Finding]:
    client: Any = Client(about, listing)
    return list(gcs_doctor.diagnose(client, "gs://lake/", "lake", key))


def lifecycle(rule: Mapping[str, Any], key: str = "") -> list[Finding]:
    findings = found({"versioning": {"enabled": True}, "lifecycle": {"rule": [rule]}}, key)
    return [finding for finding in findings if finding.about == "lifecycle"]


def test_soft_delete_is_no_version() -> None:
    [finding] = [
        f
        for f in found({"softDeletePolicy": {"retentionDurationSeconds": "604800"}})
        if f.about == "versions"
    ]
    assert finding.level == "warn"
    assert "for 7 days" in finding.what


@pytest.mark.parametrize(
    ("condition", "expiry"),
    [
        ({"daysSinceNoncurrentTime": 30}, Expiry("gs://lake/", 30, None)),
        ({"numNewerVersions": 3}, Expiry("gs://lake/", None, 3)),
        ({"isLive": False, "age": 10}, Expiry("gs://lake/", None, None)),
        ({"age": 10}, None),
    ],
)
def test_rules_that_delete(condition: Mapping[str, Any], expiry: Expiry | None) -> None:
    [finding] = lifecycle({"action": {"type": "Delete"}, "condition": condition})
    assert finding.level == "warn"
    assert finding.expiry == expiry
    assert ("old generations" in finding.what) == (expiry is not None)


def test_rules_for_other_prefixes_and_other_actions_do_not_matter() -> None:
    [finding] = lifecycle(
        {"action": {"type": "Delete"}, "condition": {"age": 1, "matchesPrefix": ["logs/"]}}, "raw/"
    )
    assert finding.level == "ok"
    [finding] = lifecycle({"action": {"type": "SetStorageClass"}, "condition": {"age": 1}})
    assert finding.level == "ok"


def test_what_may_not_be_asked() -> None:
    findings = found(
        PermissionDeniedError("gs://lake: access is denied"), listing=PermissionDeniedError("denied")
    )
    assert [(f.level, f.about) for f in findings] == [("warn", "versions"), ("fail", "list")]
    [finding] = found(NotFoundError("gs://lake: the bucket does not exist"))
    assert (finding.level, finding.about) == ("fail", "access")
