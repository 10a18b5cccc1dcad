"""OpenLineage events of runs, as a server gets them; and runs that go on without one."""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from openlineage.client import OpenLineageClient

from refart.errors import ConflictError
from refart.ops import openlineage
from refart.workspace import Workspace

Event = dict[str, Any]


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Event]]:
    """The events that a server was sent, in their order; switched on for this test."""
    received: list[Event] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(201)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("REFART_OPENLINEAGE", "true")
    monkeypatch.setenv("OPENLINEAGE_URL", f"http://127.0.0.1:{server.server_port}")
    yield received
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a").write_text("a")
    return tmp_path / "data"


def opened(workspace: Workspace) -> Workspace:
    """The same workspace with the configuration as it is now."""
    return Workspace.open(workspace.url)


def names(datasets: list[Event]) -> list[tuple[str, str, str | None]]:
    return [
        (d["namespace"], d["name"], d["facets"].get("version", {}).get("datasetVersion")) for d in datasets
    ]


def test_a_run_tells_what_it_used_and_logged(
    refart_workspace: Workspace, events: list[Event], data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(refart_workspace) as workspace:
        with workspace.init(project="lake", job_type="ingest") as ingest:
            draft = workspace.draft("raw", project="lake")
            draft.add_reference(data)
            ingest.log_artifact(draft)
        monkeypatch.setenv("OPENLINEAGE_NAMESPACE", "team")
        with workspace.init(project="lake", job_type="train") as train:
            train.use_artifact("raw")
            train.log_artifact(data / "a", name="model")
        raw = openlineage._workspace(workspace.url), "lake/raw", "v0"
    assert [event["eventType"] for event in events] == [
        *("START", "RUNNING", "COMPLETE"),
        *("START", "RUNNING", "RUNNING", "COMPLETE"),
    ]
    place = "file", str(data), None
    assert names(events[1]["outputs"]) == names(events[2]["outputs"]) == [raw, place]
    assert [event["inputs"] for event in events[:3]] == [[], [], []]
    end = events[-1]
    assert names(end["inputs"]) == [raw, place]
    assert names(end["outputs"]) == [(raw[0], "lake/model", "v0")]
    assert (events[0]["job"]["namespace"], events[0]["job"]["name"]) == ("refart", "lake.ingest")
    assert (end["job"]["namespace"], end["job"]["name"]) == ("team", "lake.train")
    assert len({UUID(event["run"]["runId"]) for event in events}) == 2
    assert end["run"]["runId"] == openlineage.run_id(train._row)


def test_a_run_that_fails_says_so(refart_workspace: Workspace, events: list[Event]) -> None:
    with opened(refart_workspace) as workspace, pytest.raises(ConflictError), workspace.init():
        raise ConflictError("no")
    assert [event["eventType"] for event in events] == ["START", "FAIL"]


def test_nothing_is_sent_unless_it_is_switched_on(
    refart_workspace: Workspace, events: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REFART_OPENLINEAGE")
    with opened(refart_workspace) as workspace, workspace.init():
        pass
    assert events == []


def test_a_run_goes_on_where_nobody_listens_and_says_so_once(
    refart_workspace: Workspace,
    events: list[Event],
    data: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("OPENLINEAGE_URL", "http://127.0.0.1:1")
    with (
        caplog.at_level(logging.WARNING, "refart"),
        opened(refart_workspace) as workspace,
        workspace.init() as run,
    ):
        assert run.log_artifact(data).version == "v0"
        run.use_artifact("data")
    said = [record.getMessage() for record in caplog.records if record.name == "refart.openlineage"]
    assert len([line for line in said if "could not be sent" in line]) == 1
    assert run.state == "finished"


@pytest.mark.parametrize(
    ("configured", "timeout_s", "tries"),
    [({}, openlineage.TIMEOUT_S, 0), ({"TIMEOUT": "30", "RETRY": '{"total": 2}'}, 30, 2)],
)
@pytest.mark.parametrize("place", ["TRANSPORT", "TRANSPORT__TRANSPORTS__DEFAULT_HTTP"])
def test_a_server_that_is_not_there_holds_no_run_for_long(
    monkeypatch: pytest.MonkeyPatch, configured: dict[str, str], timeout_s: float, tries: int, place: str
) -> None:
    """Unless the client is configured to wait."""
    for name, value in {"TYPE": "http", "URL": "http://127.0.0.1:1", **configured}.items():
        monkeypatch.setenv(f"OPENLINEAGE__{place}__{name}", value)
    if place != "TRANSPORT":
        monkeypatch.setenv("OPENLINEAGE__TRANSPORT__TYPE", "composite")
    transport: Any = OpenLineageClient().transport
    openlineage._be_brief(transport)
    (http,) = getattr(transport, "transports", [transport])
    assert (http.timeout, http.session.get_adapter(http.url).max_retries.total) == (timeout_s, tries)


def test_a_run_goes_on_without_the_client(
    refart_workspace: Workspace,
    events: list[Event],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setitem(sys.modules, "openlineage.client", None)
    with caplog.at_level(logging.WARNING, "refart"), opened(refart_workspace) as workspace, workspace.init():
        pass
    (said,) = [record.getMessage() for record in caplog.records if record.name == "refart.openlineage"]
    assert "pip install 'refart[openlineage]'" in said


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("s3://lake/photos/train", ("s3://lake", "photos/train")),
        ("s3a://lake/photos/", ("s3://lake", "photos")),
        ("s3://lake", ("s3://lake", "/")),
        ("gcs://lake/x", ("gs://lake", "x")),
        ("abfss://c@account.dfs.core.windows.net/x", ("abfss://c@account.dfs.core.windows.net", "x")),
        ("https://example.org/x.csv", ("https://example.org", "x.csv")),
        ("file:///data", ("file", "/data")),
    ],
)
def test_names_follow_the_specification(uri: str, name: tuple[str, str]) -> None:
    assert openlineage.name_of(uri) == name


@pytest.mark.parametrize(
    ("url", "namespace"),
    [
        ("postgresql://ada:***@db.example.org:5433/refart", "postgres://db.example.org:5433/refart"),
        ("postgresql://db/refart", "postgres://db:5432/refart"),
    ],
)
def test_a_workspace_is_named_without_its_user(url: str, namespace: str) -> None:
    assert openlineage._workspace(url) == namespace


def test_single_objects_are_told_by_the_folders_they_lie_in() -> None:
    assert openlineage._folder("s3://lake/photos/a/1", "s3://lake/photos/b/2") == "s3://lake/photos"
    assert openlineage._folder("s3://lake/a", "s3://lake/b") == "s3://lake"
