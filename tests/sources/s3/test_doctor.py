"""What an examination of S3 finds, and what it costs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from refart.errors import InvalidInputError
from refart.sources.findings import MAX_REQUESTS, DiagnosableSource, Expiry, Finding, clock
from refart.sources.s3.source import S3Source
from refart.testing import Lake, S3Requests, S3Server
from tests.faults import FaultProxy, s3_error

DENIED = s3_error(403, "AccessDenied", "Access Denied")
AT_ONCE = {"config_kwargs": {"retries": {"max_attempts": 0}}}


@pytest.fixture
def proxy(s3: Any, s3_server: S3Server) -> Iterator[FaultProxy]:
    proxy = FaultProxy(s3_server.url)
    yield proxy
    proxy.close()


@pytest.fixture
def source(proxy: FaultProxy) -> S3Source:
    return S3Source({"endpoint_url": proxy.url, **AT_ONCE})


def found(source: S3Source, uri: str) -> list[Finding]:
    return list(source.diagnose(uri))


def levels(findings: list[Finding], about: str) -> list[str]:
    return [finding.level for finding in findings if finding.about == about]


def one(findings: list[Finding], about: str, level: str) -> Finding:
    [finding] = [f for f in findings if (f.about, f.level) == (about, level)]
    return finding


def test_a_versioned_bucket_is_fine(source: S3Source, versioned_lake: Lake, s3_requests: S3Requests) -> None:
    s3_requests.clear()
    findings = found(source, versioned_lake.uri)
    assert {finding.level for finding in findings} == {"ok"}
    assert s3_requests.operations == [
        *("GetBucketVersioning", "HeadBucket", "ListObjectVersions", "GetObject", "HeadObject"),
        *("GetBucketLifecycleConfiguration", "GetBucketEncryption"),
    ]
    assert "by its version id" in one(findings, "read", "ok").what
    assert isinstance(source, DiagnosableSource)


def test_without_versions_nothing_is_kept(
    source: S3Source, unversioned_lake: Lake, s3_requests: S3Requests
) -> None:
    findings = found(source, unversioned_lake.uri)
    assert "versioning is off" in one(findings, "versions", "warn").what
    assert s3_requests.count("ListObjectsV2") == 1
    unversioned_lake.client.put_bucket_versioning(
        Bucket=unversioned_lake.bucket, VersioningConfiguration={"Status": "Suspended"}
    )
    suspended = one(found(source, unversioned_lake.uri), "versions", "warn")
    assert "versioning is suspended: existing versions are kept" in suspended.what
    assert "those of version null are pinned by their ETags" in suspended.why


def test_where_nothing_but_reading_is_allowed(
    source: S3Source, versioned_lake: Lake, proxy: FaultProxy
) -> None:
    """Each question is asked once more at most, and each refusal is a finding."""
    for operation in ("GetBucketVersioning", "ListObjectVersions", "GetBucketLifecycleConfiguration"):
        proxy.add(operation, **DENIED)
    proxy.add("GetBucketEncryption", **DENIED)
    findings = found(source, versioned_lake.uri)
    assert levels(findings, "versions") == levels(findings, "lifecycle") == ["warn"]
    assert levels(findings, "list") == ["warn", "ok"]
    assert levels(findings, "read") == ["ok"]
    assert len(proxy.requests.operations) <= MAX_REQUESTS


def test_where_versions_may_not_be_read(source: S3Source, versioned_lake: Lake, proxy: FaultProxy) -> None:
    proxy.add("GetObject", times=1, **DENIED)
    findings = found(source, versioned_lake.uri)
    assert "s3:GetObjectVersion" in one(findings, "read", "fail").advice
    assert "no version of it" in one(findings, "read", "warn").what
    assert len(proxy.requests.operations) <= MAX_REQUESTS


def test_where_everything_is_denied(source: S3Source, versioned_lake: Lake, proxy: FaultProxy) -> None:
    proxy.add("*", **DENIED)
    findings = found(source, versioned_lake.uri)
    assert levels(findings, "list") == ["warn", "fail"]
    assert len(proxy.requests.operations) <= MAX_REQUESTS


@pytest.mark.parametrize(
    ("code", "status", "about"),
    [
        ("InvalidAccessKeyId", 403, "access"),
        ("SignatureDoesNotMatch", 403, "access"),
        ("RequestTimeTooSkewed", 403, "clock"),
        ("AuthorizationHeaderMalformed", 400, "region"),
        ("NoSuchBucket", 404, "access"),
    ],
)
def test_one_answer_that_tells_it_all(
    source: S3Source, versioned_lake: Lake, proxy: FaultProxy, code: str, status: int, about: str
) -> None:
    proxy.add("GetBucketVersioning", **s3_error(status, code, "AKIAOFNOBODYATALL Signature=secret"))
    [finding] = found(source, versioned_lake.uri)
    assert (finding.level, finding.about) == ("fail", about)
    assert "secret" not in repr(finding)


def test_no_server_at_all(s3: Any) -> None:
    [finding] = found(S3Source({"endpoint_url": "http://127.0.0.1:1", **AT_ONCE}), "s3://lake")
    assert (finding.level, finding.about) == ("fail", "access")


def test_an_empty_prefix(source: S3Source, versioned_lake: Lake) -> None:
    assert "nothing lies at" in one(found(source, f"{versioned_lake.uri}/nothing"), "list", "warn").what


def test_another_region(source: S3Source, versioned_lake: Lake, proxy: FaultProxy) -> None:
    proxy.add(
        "HeadBucket", edit=lambda headers, body: headers.update({"x-amz-bucket-region": "eu-north-1"}) or body
    )
    finding = one(found(source, versioned_lake.uri), "region", "warn")
    assert "eu-north-1" in finding.what
    assert "AWS_REGION=eu-north-1" in finding.advice


class TestLifecycle:
    RULES = (
        {
            "ID": "tidy",
            "Status": "Enabled",
            "Filter": {"Prefix": "raw/"},
            "NoncurrentVersionExpiration": {"NoncurrentDays": 30},
            "Transitions": [{"Days": 90, "StorageClass": "DEEP_ARCHIVE"}],
        },
        {
            "ID": "old",
            "Status": "Enabled",
            "Filter": {"And": {"Prefix": "", "Tags": [{"Key": "keep", "Value": "no"}]}},
            "Expiration": {"Days": 365},
        },
        {"ID": "off", "Status": "Disabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 1}},
    )

    def put(self, lake: Lake) -> None:
        lake.client.put_bucket_lifecycle_configuration(
            Bucket=lake.bucket, LifecycleConfiguration={"Rules": self.RULES}
        )

    def test_rules_that_matter_here(self, source: S3Source, versioned_lake: Lake) -> None:
        self.put(versioned_lake)
        findings = found(source, f"{versioned_lake.uri}/raw/2026")
        old, current = (f for f in findings if f.about == "lifecycle")
        assert "'tidy' on s3://versioned-lake/raw/ removes versions 30 days after" in old.what
        assert old.expiry == Expiry("s3://versioned-lake/raw/", 30, None)
        assert "(tag keep=no) turns objects into old versions 365 days after" in current.what
        assert "DEEP_ARCHIVE" in one(findings, "archive", "warn").what
        elsewhere = found(source, f"{versioned_lake.uri}/README.txt")
        assert [f.expiry for f in elsewhere if f.about == "lifecycle"] == [None]

    def test_on_an_unversioned_bucket_they_delete(self, source: S3Source, unversioned_lake: Lake) -> None:
        self.put(unversioned_lake)
        [finding] = [f for f in found(source, unversioned_lake.uri) if f.about == "lifecycle"]
        assert "deletes objects for good 365 days after" in finding.what

    def test_newer_versions_that_protect(
        self, source: S3Source, versioned_lake: Lake, proxy: FaultProxy
    ) -> None:
        rule = (
            b"<LifecycleConfiguration><Rule><ID>a</ID><Status>Enabled</Status><Prefix></Prefix>"
            b"<NoncurrentVersionExpiration><NoncurrentDays>1</NoncurrentDays>"
            b"<NewerNoncurrentVersions>5</NewerNoncurrentVersions></NoncurrentVersionExpiration>"
            b"</Rule></LifecycleConfiguration>"
        )
        proxy.add("GetBucketLifecycleConfiguration", status=200, body=rule)
        finding = one(found(source, versioned_lake.uri), "lifecycle", "warn")
        assert "1 day after they were overwritten, but for the newest 5" in finding.what
        assert finding.expiry == Expiry("s3://versioned-lake/", 1, 5)


class TestBytes:
    def test_archived_objects(self, source: S3Source, versioned_lake: Lake) -> None:
        versioned_lake.client.put_object(
            Bucket=versioned_lake.bucket, Key="a", Body=b"x", StorageClass="GLACIER"
        )
        finding = one(found(source, versioned_lake.uri), "archive", "warn")
        assert "1 of the first 5 objects and versions are archived (GLACIER)" in finding.what

    def test_encrypted_objects(self, source: S3Source, versioned_lake: Lake) -> None:
        versioned_lake.client.put_object(
            Bucket=versioned_lake.bucket, Key="A", Body=b"x", ServerSideEncryption="aws:kms"
        )
        versioned_lake.client.put_bucket_encryption(
            Bucket=versioned_lake.bucket,
            ServerSideEncryptionConfiguration={
                "Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms"}}]
            },
        )
        warnings = [f.what for f in found(source, versioned_lake.uri) if f.level == "warn"]
        assert [what.partition(" ")[0] for what in warnings] == ["objects", "new"]
        assert all("no MD5s" in what for what in warnings)

    def test_a_stored_checksum(self, source: S3Source, versioned_lake: Lake) -> None:
        versioned_lake.client.put_object(
            Bucket=versioned_lake.bucket, Key="A", Body=b"x", ChecksumAlgorithm="SHA256"
        )
        assert any("keeps a sha256" in f.what for f in found(source, versioned_lake.uri))


class TestClock:
    NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)

    @pytest.mark.parametrize(
        ("seconds", "level"),
        [(0, "ok"), (-59, "ok"), (120, "warn"), (-120, "warn"), (1000, "fail"), (-1000, "fail")],
    )
    def test_how_far_it_is_off(self, seconds: int, level: str) -> None:
        headers = {"date": format_datetime(self.NOW - timedelta(seconds=seconds), usegmt=True)}
        finding = clock(headers, self.NOW)
        assert finding is not None
        assert finding.level == level
        if level != "ok":
            assert ("ahead of" if seconds > 0 else "behind") in finding.what

    @pytest.mark.parametrize(
        "said", ["", "yesterday", "Thu, 99 Jan 2026 12:00:00 GMT", "Thu, 1 Jan 2026 12:00:00"]
    )
    def test_a_server_that_does_not_say(self, said: str) -> None:
        assert clock({"Date": said}, self.NOW) is None
        assert clock({}, self.NOW) is None


def test_a_uri_without_a_bucket_is_no_finding(source: S3Source) -> None:
    with pytest.raises(InvalidInputError):
        source.diagnose("s3:///key")
