"""Several processes build one version: parts are put in any order, merged by path, and logged once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from refart.artifact import Artifact
from refart.errors import ConflictError, InvalidInputError, NotFoundError
from refart.run import Run
from refart.workspace import Workspace
from tests.ops.support import tree


@pytest.fixture
def run(refart_workspace: Workspace) -> Any:
    with refart_workspace.init(group="effort") as run:
        yield run


def part(workspace: Workspace, type: str = "dataset", **files: str) -> Artifact:
    artifact = workspace.draft("data", type)
    for name, text in files.items():
        with artifact.new_file(name) as file:
            file.write(text)
    return artifact


def parts(workspace: Workspace, distributed_id: str = "effort") -> int:
    return len(workspace._context.catalog.parts("default", "data", distributed_id))


def test_parts_become_one_version(refart_workspace: Workspace, run: Run, tmp_path: Path) -> None:
    for files in ({"b": "2", "shared": "s"}, {"a": "1", "shared": "s"}):
        draft = run.upsert_artifact(part(refart_workspace, **files))
        assert draft.state == "draft"
    assert refart_workspace.artifacts("data") == []
    logged = run.finish_artifact(part(refart_workspace, c="3"), aliases=["whole"])
    assert (logged.version, logged.aliases) == ("v0", ["latest", "whole"])
    root = Path(logged.download(tmp_path / "root"))
    assert tree(root) == {"a": b"1", "b": b"2", "c": b"3", "shared": b"s"}
    assert parts(refart_workspace) == 0


def test_the_order_of_parts_does_not_matter(refart_workspace: Workspace, run: Run) -> None:
    digests = set()
    for order in (("a", "b"), ("b", "a")):
        for name in order:
            run.upsert_artifact(part(refart_workspace, **{name: name}))
        digests.add(run.finish_artifact(part(refart_workspace)).digest)
    assert len(digests) == 1
    assert len(refart_workspace.artifacts("data")) == 1


def test_the_same_part_twice_is_one_part(refart_workspace: Workspace, run: Run) -> None:
    for _ in range(2):
        run.upsert_artifact(part(refart_workspace, a="1"))
    assert parts(refart_workspace) == 1


def test_efforts_do_not_mix(refart_workspace: Workspace, run: Run) -> None:
    run.upsert_artifact(part(refart_workspace, a="1"), distributed_id="one")
    run.upsert_artifact(part(refart_workspace, b="2"), distributed_id="two")
    logged = run.finish_artifact(part(refart_workspace), distributed_id="two")
    assert [entry.path for entry in logged.entries()] == ["b"]
    assert parts(refart_workspace, "one") == 1


def test_parts_that_disagree_are_an_error_that_keeps_them(refart_workspace: Workspace, run: Run) -> None:
    run.upsert_artifact(part(refart_workspace, a="1"))
    run.upsert_artifact(part(refart_workspace, a="2"))
    with pytest.raises(ConflictError, match="two parts of default/data disagree: 'a' is there already"):
        run.finish_artifact(part(refart_workspace))
    assert parts(refart_workspace) == 2
    assert refart_workspace.artifacts("data") == []


def test_a_lost_part_is_an_error_that_keeps_the_others(refart_workspace: Workspace, run: Run) -> None:
    for name in ("a", "b"):
        run.upsert_artifact(part(refart_workspace, **{name: name}))
    store = refart_workspace._context.store
    lost = next(store.keys("manifests")).key
    Path(store.local_path("manifests", lost) or "").unlink()
    with pytest.raises(NotFoundError, match=lost):
        run.finish_artifact(part(refart_workspace))
    assert parts(refart_workspace) == 2


def test_nothing_to_finish(refart_workspace: Workspace, run: Run) -> None:
    with pytest.raises(NotFoundError, match="no part was put under distributed_id='effort'"):
        run.finish_artifact(part(refart_workspace))


def test_parts_of_another_type_are_refused(refart_workspace: Workspace, run: Run) -> None:
    run.upsert_artifact(part(refart_workspace, a="1"))
    with pytest.raises(ConflictError, match="type"):
        run.upsert_artifact(part(refart_workspace, "model", b="2"))


def test_an_effort_needs_a_name(refart_workspace: Workspace) -> None:
    with (
        refart_workspace.init() as run,
        pytest.raises(InvalidInputError, match="pass distributed_id=, or give the runs a group"),
    ):
        run.upsert_artifact(part(refart_workspace, a="1"))
