"""`refart demo`"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import refart
from refart.cli import demo_story
from refart.cli.demo_files import lake_files
from refart.errors import NotInstalledError
from refart.s3server import S3Server
from tests.cli.calls import Calls


def test_the_demo_tells_the_whole_story_and_leaves_nothing(
    cli: Calls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("AWS_PROFILE", "mine")
    stopped: list[str] = []
    stop = S3Server.stop
    monkeypatch.setattr(S3Server, "stop", lambda self: (stopped.append(self.url), stop(self)))
    before, files = dict(os.environ), sorted(tmp_path.rglob("*"))
    steps = cli("demo", "--json").document["steps"]
    assert len(stopped) == 1
    assert dict(os.environ) == before
    assert sorted(tmp_path.rglob("*")) == files
    facts = {step["code"]: step for step in steps}
    put = next(step for step in steps if step.get("created"))
    assert (put["entries"], put["copied_bytes"], put["requests"]["ListObjectVersions"]) == (120, 0, 1)
    assert sorted(facts["refart diff photos:v0 photos:v1"]["changes"].values()) == [
        "added",
        *["modified"] * 3,
        "removed",
    ]
    got = facts["refart get photos:v0 --root data"]
    assert (got["files"], got["moved_again_bytes"]) == (120, 0)
    assert [step["created"] for step in steps if "created" in step] == [True, True, False]
    assert facts["refart lineage model --up"]["versions"] == ["default/model:v0", "default/photos:v0"]
    restored = facts["refart restore photos:v1"]
    assert restored["restored_files"] == restored["requests"]["CopyObject"] == 75
    before_it, after_it = (step for step in steps if step["code"] == "refart status photos:v1")
    assert (before_it["drift"], before_it["loss"], before_it["entries"]["removed"]) == (True, False, 12)
    assert (after_it["drift"], after_it["entries"]["unchanged"]) == (False, 120)


def test_the_demo_reads_as_plain_text_in_a_process_of_its_own(tmp_path: Path) -> None:
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "PYTHONPATH": str(Path(refart.__file__).parents[1]),
        "HTTP_PROXY": "http://127.0.0.1:9",
        "AWS_PROFILE": "does-not-exist",
    }
    done = subprocess.run(
        [sys.executable, "-m", "refart", "demo"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    assert done.stdout.startswith("1. A lake with some data\n")
    assert "refart put s3://your-bucket/prefix" in done.stdout
    assert list(tmp_path.rglob("*refart*")) == []


def test_keep_keeps_a_workspace_that_can_be_looked_at(
    cli: Calls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    told = cli("demo", "--keep").stderr
    (folder,) = tmp_path.glob("*-refart")
    assert str(folder) in told
    assert [
        row["version"] for row in cli("-w", f"{folder}/workspace", "ls", "photos", "--json").documents
    ] == ["v1", "v0"]


def test_a_claim_that_does_not_hold_is_an_error(cli: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_story, "edited", lambda key, data: data)  # the bucket does not move on after all
    assert cli("demo", "--json", code=1).error["type"] == "DemoError"


def test_without_moto_the_demo_says_what_to_install(cli: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "moto.server", None)
    error = cli("demo", "--json", code=NotInstalledError.exit_code).error
    assert error["type"] == NotInstalledError.__name__
    assert "pip install 'refart[demo]'" in error["message"]


def test_the_lake_is_the_same_on_every_machine() -> None:
    files = dict(lake_files())
    assert len(files) == 120
    assert dict(lake_files()) == files
    assert files["photos/train/cat-000.png"].startswith(b"\x89PNG\r\n\x1a\n")
