"""Findings about places of every kind, and about the workspace itself."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from refart import Api, Workspace
from refart.errors import CatalogError, InvalidInputError, StoreError
from refart.sources.findings import MAX_REQUESTS, Finding
from refart.sources.registry import Sources
from refart.store.folder import FolderStore
from refart.testing import Lake as Bucket
from tests.lakes import Lake
from tests.places import Can, on_every_kind


def about(findings: list[Finding], *levels: str) -> set[str]:
    return {finding.about for finding in findings if finding.level in levels}


@on_every_kind(Can.PROXY, behind_proxy=True)
def test_a_place_that_is_well_costs_few_requests(lake: Lake) -> None:
    for n in range(3):
        lake.put(f"data/{n}.bin", b"bytes")
    uri = lake.uri_of("data/1.bin" if Can.LIST in lake.kind.lacks else "data")
    findings = Api().doctor(uri)
    assert "fail" not in {finding.level for finding in findings}
    assert {"read", "versions", "checksum"} <= about(findings, "ok", "warn")
    assert 0 < len(lake.requests) <= MAX_REQUESTS
    assert ("list" in about(findings, "ok")) == (Can.LIST not in lake.kind.lacks)


@on_every_kind()
def test_what_is_not_there_is_a_finding(lake: Lake) -> None:
    findings = Api().doctor(lake.uri_of("nothing/at/all"))
    assert about(findings, "fail", "warn") & {"access", "list"}
    assert "read" not in about(findings, "ok")


class TestVersionsAtRisk:
    @pytest.fixture
    def lake(self, versioned_lake: Bucket) -> Bucket:
        rule = {
            "ID": "tidy",
            "Status": "Enabled",
            "Filter": {"Prefix": "raw/"},
            "NoncurrentVersionExpiration": {"NoncurrentDays": 30},
        }
        versioned_lake.client.put_bucket_lifecycle_configuration(
            Bucket=versioned_lake.bucket, LifecycleConfiguration={"Rules": [rule]}
        )
        return versioned_lake

    def lifecycle(self, workspace: Workspace, uri: str) -> Finding:
        [finding] = [f for f in workspace.doctor(uri) if f.about == "lifecycle"]
        return finding

    def test_the_versions_and_the_day(self, lake: Bucket, refart_workspace: Workspace) -> None:
        with refart_workspace.init() as run:
            first = run.log_artifact(f"{lake.uri}/raw", name="raw")
            run.log_artifact(f"{lake.uri}/README.txt", name="other")
            lake.put("raw/new", b"new")
            run.log_artifact(f"{lake.uri}/raw", name="raw")
        finding = self.lifecycle(refart_workspace, lake.uri)
        assert finding.versions == ("default/raw:v0", "default/raw:v1")
        assert finding.expires_at == first.created_at + timedelta(days=30)
        assert "versions here point there: default/raw:v0, default/raw:v1;" in finding.what
        assert f"may be gone from {finding.expires_at:%Y-%m-%d} on" in finding.what
        assert self.lifecycle(refart_workspace, f"{lake.uri}/raw/2026").versions == finding.versions
        assert self.lifecycle(refart_workspace, f"{lake.uri}/raw/labels.json").versions == finding.versions

    def test_a_catalog_that_does_not_answer(
        self, lake: Bucket, refart_workspace: Workspace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object) -> None:
            raise CatalogError("the catalog is locked")

        monkeypatch.setattr(type(refart_workspace._context.catalog), "holders", fail)
        finding = self.lifecycle(refart_workspace, lake.uri)
        assert "not known: the catalog is locked" in finding.what

    def test_none(self, lake: Bucket, refart_workspace: Workspace) -> None:
        finding = self.lifecycle(refart_workspace, lake.uri)
        assert finding.versions == ()
        assert "no version here points there" in finding.what


class TestOthers:
    def test_a_source_that_cannot_be_examined(
        self, refart_workspace: Workspace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Sources, "for_uri", lambda self, uri: object())
        [finding] = refart_workspace.doctor("s3://lake")
        assert (finding.level, finding.about) == ("warn", "driver")

    @pytest.mark.parametrize("uri", ["refart://a:v0", "nowhere://x", "s3://user:secret@lake/x"])
    def test_what_nobody_reads_is_refused(self, refart_workspace: Workspace, uri: str) -> None:
        with pytest.raises(InvalidInputError) as error:
            refart_workspace.doctor(uri)
        assert "secret" not in str(error.value)


class TestWorkspace:
    def test_all_is_well_and_nothing_is_left_behind(
        self, refart_workspace: Workspace, tmp_path: Path
    ) -> None:
        findings = refart_workspace.doctor()
        assert about(findings, "ok") == {"catalog", "store", "cache", "driver"}
        assert about(findings, "fail") == set()
        (installed,) = [finding.what for finding in findings if finding.about == "driver"]
        assert "obstore " in installed
        assert "duckdb " in installed
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        refart_workspace.doctor()
        assert [path for path in tmp_path.rglob("*") if path.is_file()] == files

    def test_a_store_that_cannot_be_written(
        self, refart_workspace: Workspace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(self: FolderStore) -> None:
            raise StoreError("cannot write: no space left on device")

        monkeypatch.setattr(FolderStore, "probe", full)
        assert about(refart_workspace.doctor(), "fail") == {"store"}

    def test_a_cache_that_cannot_be_written(
        self, refart_workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "file").touch()
        monkeypatch.setenv("REFART_CACHE", str(tmp_path / "file" / "cache"))
        with Workspace.open() as workspace:
            assert "cache" in about(workspace.doctor(), "warn")

    def test_no_cache(self, monkeypatch: pytest.MonkeyPatch, refart_workspace: Workspace) -> None:
        monkeypatch.setenv("REFART_CACHE_BYTES", "0")
        with Workspace.open() as workspace:
            assert any("switched off" in finding.what for finding in workspace.doctor())

    def test_a_clock_that_is_behind(
        self, refart_workspace: Workspace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        import refart.ops.doctor as doctor

        (tmp_path / "x").touch()
        with refart_workspace.init() as run:
            run.log_artifact(tmp_path / "x")

        class Behind(doctor.datetime):  # type: ignore[misc,name-defined]
            @classmethod
            def now(cls, tz: Any = None) -> Any:
                return super().now(tz) - timedelta(hours=1)

        monkeypatch.setattr(doctor, "datetime", Behind)
        assert "clock" in about(refart_workspace.doctor(), "warn")
