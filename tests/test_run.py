"""Runs: what they log and use, how they end, and what they refuse."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import refart
from refart import Artifact, Run, Workspace
from refart.errors import CatalogError, ConflictError, InvalidInputError, NotFoundError
from refart.run import current_user, default_name
from tests.children import good, run_python
from tests.ops.support import write


@pytest.fixture
def run(refart_workspace: Workspace) -> Any:
    with refart_workspace.init() as run:
        yield run


def text_draft(workspace: Workspace, name: str, text: str, type: str | None = None) -> Artifact:
    draft = workspace.draft(name, type)
    with draft.new_file("text") as file:
        file.write(text)
    return draft


# -- what a run is ----------------------------------------------------------------------------------------


def test_a_run_is_recorded_when_it_begins(refart_workspace: Workspace) -> None:
    before = datetime.now(UTC)
    run = refart_workspace.init(
        "vision", "train", "first try", config={"lr": 0.1}, tags=["night"], group="sweep"
    )
    found = refart_workspace.run(run.id)
    assert (found.project, found.job_type, found.name) == ("vision", "train", "first try")
    with pytest.raises(TypeError):
        found.config["lr"] = 0.2  # type: ignore[index]  # must not be lost in silence
    assert (found.config, found.tags, found.group) == ({"lr": 0.1}, ("night",), "sweep")
    assert (found.state, found.finished_at) == ("running", None)
    assert before <= found.created_at <= datetime.now(UTC)
    assert found._row.pid == os.getpid()
    assert repr(found) == f"<Run vision/{run.id} 'first try', running>"
    run.finish()


def test_a_user_without_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that runs under a number of its own."""

    def unknown() -> str:
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setattr("getpass.getuser", unknown)
    assert current_user() == "unknown"


def test_a_run_needs_no_arguments(run: Run) -> None:
    assert (run.project, run.job_type, run.name) == ("default", None, f"run-{run.id}")


@pytest.mark.parametrize(
    "arguments",
    [
        {"project": "a/b"},
        {"name": "a\nb"},
        {"name": ""},
        {"job_type": "x" * 129},
        {"group": 3},
        {"tags": "night"},
        {"config": {"x": float("nan")}},
    ],
)
def test_a_run_that_cannot_be_recorded_does_not_begin(
    refart_workspace: Workspace, arguments: dict[str, Any]
) -> None:
    with pytest.raises(InvalidInputError):
        refart_workspace.init(**arguments)
    assert refart_workspace.runs() == []


# -- how it ends --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("exit_code", "state"), [(None, "finished"), (0, "finished"), (1, "failed")])
def test_finish_ends_it_once(refart_workspace: Workspace, exit_code: int | None, state: str) -> None:
    run = refart_workspace.init()
    run.finish(exit_code)
    ended = refart_workspace.run(run.id)
    assert (run.state, ended.state) == (state, state)
    run.finish(1 - (exit_code or 0))
    assert refart_workspace.run(run.id)._row == ended._row


@pytest.mark.parametrize(
    ("error", "state"),
    [(None, "finished"), (ValueError(), "failed"), (KeyboardInterrupt(), "failed"), (SystemExit(), "finished"),
     (SystemExit(0), "finished"), (SystemExit(2), "failed"), (SystemExit("no"), "failed")],
)  # fmt: skip
def test_the_block_decides_how_it_ends(
    refart_workspace: Workspace, error: BaseException | None, state: str
) -> None:
    run = refart_workspace.init()
    assert not run.__enter__().__exit__(type(error) if error else None, error, None), "an error goes on"
    assert refart_workspace.run(run.id).state == state


def test_a_run_whose_end_could_not_be_recorded_can_be_ended_again(
    refart_workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = refart_workspace.init()

    def locked(row: object) -> None:
        raise CatalogError("locked", transient=True)

    with monkeypatch.context() as patch:
        patch.setattr(refart_workspace._context.catalog, "save_run", locked)
        with pytest.raises(CatalogError):
            run.finish()
    assert run.state == "running"
    run.finish()
    assert refart_workspace.run(run.id).state == "finished"


def test_the_module_ends_the_run_begun_last(refart_workspace: Workspace) -> None:
    first, second = refart.init(), refart.init()
    refart.finish()
    assert (first.state, second.state) == ("running", "finished")
    refart.finish(exit_code=1)
    assert first.state == "failed"
    refart.finish()


@pytest.mark.parametrize(
    ("ending", "state"),
    [("", "finished"), ("raise ValueError", "failed"), ("raise KeyboardInterrupt", "failed")],
)
def test_every_run_still_active_ends_with_its_program(
    refart_workspace: Workspace, ending: str, state: str
) -> None:
    run_python(f"import refart\nrefart.init(name='a'); refart.init(name='b')\n{ending}")
    assert {run.name: run.state for run in refart_workspace.runs()} == {"a": state, "b": state}


def test_the_hook_of_the_program_is_still_called(refart_workspace: Workspace) -> None:
    done = run_python("import sys, refart\nsys.excepthook = lambda *_: print('mine')\nrefart.init()\n1 / 0")
    assert (done.returncode, done.stdout) == (1, "mine\n")
    assert [run.state for run in refart_workspace.runs()] == ["failed"]


@pytest.mark.parametrize(
    "child",
    [
        "pass",  # ends by itself, at the end of the program
        "run.finish()",
        "refart.finish()",
        "raise ValueError('the child dies')",
    ],
)
def test_a_forked_child_does_not_end_its_parents_run(refart_workspace: Workspace, child: str) -> None:
    program = f"""
import os, refart
with refart.init(name="parent") as run:
    if os.fork() == 0:
        {child}
    else:
        os.wait()
        print(refart.Api().run(run.id).state)
"""
    assert good(run_python(program)).splitlines()[-1] == "running"
    assert [run.state for run in refart_workspace.runs()] == ["finished"]


def test_a_forked_child_has_runs_of_its_own(refart_workspace: Workspace) -> None:
    program = """
import os, sys, refart
run = refart.init(name="parent")
if os.fork() == 0:
    refart.init(name="child")
    sys.exit()
os.wait()
raise ValueError
"""
    run_python(program)
    assert {run.name: run.state for run in refart_workspace.runs()} == {
        "parent": "failed",
        "child": "finished",
    }


def test_a_run_that_ended_logs_and_uses_nothing(refart_workspace: Workspace, run: Run) -> None:
    logged = run.log_artifact(text_draft(refart_workspace, "a", "1"))
    run.finish()
    for attempt in (
        lambda: run.log_artifact(text_draft(refart_workspace, "a", "2")),
        lambda: run.upsert_artifact(text_draft(refart_workspace, "a", "2"), distributed_id="x"),
        lambda: run.use_artifact("a:v0"),
        lambda: run.use_artifact(logged),
    ):
        with pytest.raises(ConflictError, match=r"is finished; refart.init\(\) begins a new one"):
            attempt()
    assert run.used_artifacts() == []
    assert len(refart_workspace.artifacts("a")) == 1


# -- logging ----------------------------------------------------------------------------------------------------


def test_logging_a_folder_a_file_or_a_uri(refart_workspace: Workspace, run: Run, tmp_path: Path) -> None:
    folder = write(tmp_path / "my data", {"a": b"1", "deep/b": b"2"})
    managed = run.log_artifact(folder)
    assert (managed.name, managed.type, managed.stored_size) == ("my-data", "dataset", 2)
    single = run.log_artifact(str(folder / "a"), name="one", type="thing", aliases=["x"], tags=["t"])
    assert (single.name, single.type, single.aliases, single.tags) == ("one", "thing", ["latest", "x"], ["t"])
    referenced = run.log_artifact(f"file://{folder}")
    assert (referenced.version, referenced.stored_size, referenced.referenced_size) == ("v1", 0, 2)


def test_a_path_takes_the_type_that_its_collection_has(
    refart_workspace: Workspace, run: Run, tmp_path: Path
) -> None:
    run.log_artifact(text_draft(refart_workspace, "a", "1", "model"))
    assert run.log_artifact(write(tmp_path / "a", {"x": b""})).type == "model"
    with pytest.raises(ConflictError, match="has the type 'model', not 'dataset'"):
        run.log_artifact(write(tmp_path / "a", {"x": b""}), type="dataset")


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("s3://bucket/raw/images/", "images"),
        ("s3://bucket", "bucket"),
        ("s3://bucket/a b?versionId=x", "a-b"),
        ("data/größe.csv", "gr--e.csv"),
        ("/", "data"),
        ("s3://bucket/..", "data"),
        ("x" * 300, "x" * 128),
    ],
)
def test_the_name_of_what_lies_at_a_path(source: str, name: str) -> None:
    assert default_name(source) == name


def test_the_name_of_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert default_name(".") == default_name("./") == "here"


def test_arguments_that_contradict_the_artifact(refart_workspace: Workspace, run: Run) -> None:
    draft = text_draft(refart_workspace, "a", "1")
    for contradiction in ({"name": "b"}, {"type": "model"}):
        with pytest.raises(InvalidInputError, match="contradicts it"):
            run.log_artifact(draft, **contradiction)
    assert run.log_artifact(draft, name="a", type="dataset").version == "v0"


@pytest.mark.parametrize("labels", [{"aliases": ["v3"]}, {"aliases": "best"}, {"tags": ["a:b"]}])
def test_labels_that_are_not_accepted_log_nothing(
    refart_workspace: Workspace, run: Run, labels: dict[str, Any]
) -> None:
    draft = text_draft(refart_workspace, "a", "1")
    with pytest.raises(InvalidInputError):
        run.log_artifact(draft, **labels)
    assert draft.state == "draft"
    assert refart_workspace.artifacts() == []


def test_unchanged_content_is_the_version_that_is_there(refart_workspace: Workspace, run: Run) -> None:
    first = run.log_artifact(text_draft(refart_workspace, "a", "1"))
    run.log_artifact(text_draft(refart_workspace, "a", "2"))
    again = run.log_artifact(text_draft(refart_workspace, "a", "1"), aliases=["best"])
    assert (first.created, again.created, again.version) == (True, False, "v0")
    assert refart_workspace.artifact("a:latest").aliases == ["best", "latest"]
    assert [a.version for a in run.logged_artifacts()] == ["v0", "v1"]


def test_logging_a_version_again_moves_its_aliases(refart_workspace: Workspace, run: Run) -> None:
    first = run.log_artifact(text_draft(refart_workspace, "a", "1"))
    run.log_artifact(text_draft(refart_workspace, "a", "2"))
    again = run.log_artifact(first, aliases=["best"])
    assert (again.version, again.created, again.aliases) == ("v0", False, ["best", "latest"])


def test_a_version_of_another_project_cannot_be_logged_here(refart_workspace: Workspace, run: Run) -> None:
    with refart_workspace.init("other") as other:
        logged = other.log_artifact(text_draft(refart_workspace, "a", "1"))
    with pytest.raises(ConflictError, match="belongs to another project; link_artifact"):
        run.log_artifact(logged)


def test_an_artifact_of_another_workspace_is_refused(
    refart_workspace: Workspace, run: Run, tmp_path: Path
) -> None:
    with Workspace.open(tmp_path / "elsewhere") as elsewhere:
        with elsewhere.init() as other:
            foreign = other.log_artifact(text_draft(elsewhere, "a", "1"))
        for attempt in (run.log_artifact, run.use_artifact):
            with pytest.raises(ConflictError, match="belongs to the workspace"):
                attempt(foreign)
        with pytest.raises(ConflictError, match="belongs to the workspace"):
            run.log_artifact(foreign.new_draft())


# -- using ----------------------------------------------------------------------------------------------------


def test_use_takes_every_way_to_name_a_version(refart_workspace: Workspace, run: Run) -> None:
    logged = run.log_artifact(text_draft(refart_workspace, "a", "1"), aliases=["best"])
    with refart_workspace.init() as reader:
        for name in ("a", "a:latest", "a:best", "a:v0", "default/a", "default/a:v0", logged):
            assert reader.use_artifact(name).qualified_name == "default/a:v0"
        assert [a.qualified_name for a in reader.used_artifacts()] == ["default/a:v0"], "recorded once"
    assert [record.id for record in logged.used_by()] == [reader.id]


def test_using_a_draft_logs_it_first_any_number_of_times(refart_workspace: Workspace, run: Run) -> None:
    draft = text_draft(refart_workspace, "a", "1")
    for _ in range(2):
        assert run.use_artifact(draft).version == "v0"
    assert [a.version for a in run.logged_artifacts()] == ["v0"]
    assert [a.version for a in run.used_artifacts()] == ["v0"]


def test_use_checks_the_type_and_records_nothing_when_it_differs(
    refart_workspace: Workspace, run: Run
) -> None:
    run.log_artifact(text_draft(refart_workspace, "a", "1"))
    assert run.use_artifact("a", type="dataset").version == "v0"
    with refart_workspace.init() as reader:
        with pytest.raises(InvalidInputError, match="has the type 'dataset', not 'model'"):
            reader.use_artifact("a", type="model")
        with pytest.raises(InvalidInputError, match="b has the type 'dataset', not 'model'"):
            reader.use_artifact(text_draft(refart_workspace, "b", "1"), type="model")
        assert reader.used_artifacts() == reader.logged_artifacts() == []


@pytest.mark.parametrize("name", ["b", "a:v1", "a:best", "other/a"])
def test_what_does_not_exist_cannot_be_used(refart_workspace: Workspace, run: Run, name: str) -> None:
    run.log_artifact(text_draft(refart_workspace, "a", "1"))
    with pytest.raises(NotFoundError):
        run.use_artifact(name)
    assert run.used_artifacts() == []


def test_linking_a_draft_logs_it_first(refart_workspace: Workspace, run: Run) -> None:
    draft = text_draft(refart_workspace, "a", "1")
    linked = run.link_artifact(draft, "registry/a", aliases=["prod"])
    assert (draft.qualified_name, linked.qualified_name) == ("default/a:v0", "registry/a:v0")
    assert linked.source_version == draft.qualified_name


def test_a_draft_that_is_still_its_version_is_no_input_of_the_run(
    refart_workspace: Workspace, tmp_path: Path
) -> None:
    """Else the lineage would go round in circles."""
    (tmp_path / "data").write_text("a")
    with refart_workspace.init() as run:
        version = run.log_artifact(tmp_path / "data", "data")
    with refart_workspace.init() as run:
        again = run.log_artifact(version.new_draft())
    assert (again.created, again.version) == (False, "v0")
    assert run.used_artifacts() == []
    assert [logged.version for logged in run.logged_artifacts()] == ["v0"]
