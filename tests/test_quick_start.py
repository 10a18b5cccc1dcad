"""The quick start of W&B Artifacts runs with its import changed; each snippet is a program of its own."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from refart import Workspace
from tests.children import good, run_python
from tests.footprints import store_files

LOG = """
run = wandb.init(job_type="dataset-creation")
artifact = wandb.Artifact('my-dataset', type='dataset')
artifact.add_file('my-dataset.txt')
run.log_artifact(artifact)
"""

USE = """
run = wandb.init(job_type="model-training")
artifact = run.use_artifact('my-dataset:latest')
artifact_dir = artifact.download()
"""

IMPORT = "import refart as wandb\n"


@pytest.fixture
def folder(tmp_path: Path, refart_workspace: Workspace) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "my-dataset.txt").write_text("one line of data\n")
    return folder


def run_snippet(snippet: str, folder: Path, more: str = "") -> str:
    return good(run_python(IMPORT + snippet + more, cwd=folder)).strip()


def test_logging_makes_v0(folder: Path, refart_workspace: Workspace) -> None:
    run_snippet(LOG, folder)
    artifact = refart_workspace.artifact("my-dataset:latest")
    assert (artifact.version, artifact.type) == ("v0", "dataset")
    assert [entry.path for entry in artifact.entries()] == ["my-dataset.txt"]


def test_using_gives_the_folder(folder: Path, refart_workspace: Workspace) -> None:
    run_snippet(LOG, folder)
    artifact_dir = run_snippet(USE, folder, "print(artifact_dir)")
    assert (folder / artifact_dir / "my-dataset.txt").read_text() == "one line of data\n"
    assert [run.job_type for run in refart_workspace.artifact("my-dataset").used_by()] == ["model-training"]


def test_logging_again_unchanged_makes_no_version_and_stores_nothing(
    folder: Path, refart_workspace: Workspace
) -> None:
    run_snippet(LOG, folder)
    stored = store_files(refart_workspace)
    run_snippet(LOG, folder)
    assert [a.version for a in refart_workspace.artifacts("my-dataset")] == ["v0"]
    assert store_files(refart_workspace) == stored


def test_logging_after_an_edit_makes_v1_and_latest_moves(folder: Path, refart_workspace: Workspace) -> None:
    run_snippet(LOG, folder)
    (folder / "my-dataset.txt").write_text("two lines\nof data\n")
    run_snippet(LOG, folder)
    versions = {a.version: a.aliases for a in refart_workspace.artifacts("my-dataset")}
    assert versions == {"v0": [], "v1": ["latest"]}
    artifact_dir = run_snippet(USE, folder, "print(artifact_dir)")
    assert (folder / artifact_dir / "my-dataset.txt").read_text() == "two lines\nof data\n"


INIT = IMPORT + "import sys\nrun = wandb.init()\n"


def ended(code: str, workspace: Workspace) -> tuple[subprocess.CompletedProcess[str], str]:
    """Run a program that begins one run; how it ended, and the run's state."""
    done = run_python(code)
    [run] = workspace.runs()
    assert run.finished_at is not None
    return done, run.state


def test_a_script_that_never_calls_finish_leaves_a_finished_run(refart_workspace: Workspace) -> None:
    done, state = ended(INIT, refart_workspace)
    assert (done.returncode, state) == (0, "finished")


def test_a_script_that_dies_by_an_exception_leaves_a_failed_run(refart_workspace: Workspace) -> None:
    done, state = ended(INIT + "1 / 0", refart_workspace)
    assert (done.returncode, state) == (1, "failed")
    assert "ZeroDivisionError" in done.stderr, "the traceback is still shown"


def test_a_script_that_exits_with_0_leaves_a_finished_run(refart_workspace: Workspace) -> None:
    done, state = ended(INIT + "sys.exit(0)", refart_workspace)
    assert (done.returncode, state) == (0, "finished")


def test_a_script_that_is_interrupted_leaves_a_failed_run(refart_workspace: Workspace) -> None:
    done, state = ended(INIT + "import signal; signal.raise_signal(signal.SIGINT)", refart_workspace)
    assert done.returncode != 0
    assert state == "failed"


@pytest.mark.parametrize(
    ("body", "state"),
    [("pass", "finished"), ("1 / 0", "failed"), ("sys.exit(0)", "finished"), ("sys.exit(3)", "failed")],
)
def test_a_run_as_context_manager_ends_with_its_block(
    refart_workspace: Workspace, body: str, state: str
) -> None:
    assert ended(f"{IMPORT}import sys\nwith wandb.init() as run:\n    {body}", refart_workspace)[1] == state
