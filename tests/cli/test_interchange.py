"""`refart export` and `refart import`"""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.cli.calls import Calls
from tests.cli.test_docs import DOCS, table

MANIFEST = {
    "version": 1,
    "contents": {"a": {"digest": "0" * 32, "ref": "s3://lake/a", "size": 1, "extra": {"versionID": "v"}}},
}


def test_an_export_is_imported_by_another_workspace(cli: Calls, folder: Path) -> None:
    cli("put", "data", "-a", "golden")
    written = cli("export", "data:golden", "--to", "data.tar", "--json").document
    assert (written["file"], written["versions"], written["blobs"]) == ("data.tar", 1, 3)
    rows = table((DOCS / "cli.md").read_text(), "## JSON")
    assert set(written) == set(re.findall(r"`(\w+)`", rows["export"][0]))
    taken = cli("import", "data.tar", "-w", "elsewhere", "--json").document
    assert set(taken) <= set(re.findall(r"`(\w+)`", rows["import"][0]))
    assert taken == {
        "created": ["default/data:v0"],
        "present": [],
        "deleted_here": [],
        "moved_aliases": [],
        "dropped_edges": 0,
        "missing_blobs": 0,
    }
    assert cli("show", "data:golden", "-w", "elsewhere", "--json").document["entries"] == 3
    again = cli("import", "data.tar", "-w", "elsewhere").stdout
    assert again.startswith("0 versions imported, 1 were here")
    cli("import", "data.tar", "-w", "elsewhere", "--as-project", "copy")
    cli("get", "copy/data", "-w", "elsewhere", "--root", "out")
    assert Path("out/labels.json").read_text() == '["cat", "dog"]'


def test_what_stays_deleted_and_which_aliases_move_is_said(cli: Calls, folder: Path) -> None:
    cli("put", "data")
    cli("export", "data:v0", "--to", "v0.tar")
    (folder / "labels.json").write_text("[]")
    cli("put", "data")
    cli("export", "data:v1", "--to", "v1.tar")
    cli("import", "v0.tar", "-w", "elsewhere")
    told = cli("import", "v1.tar", "-w", "elsewhere").stdout
    assert re.search(r"moved aliases +default/data:latest: v0 -> v1\n", told)
    cli("rm", "data:v0", "--delete-aliases", "--yes")
    again = cli("import", "v0.tar")
    assert again.stdout.startswith("0 versions imported, 0 were here, 1 were deleted here and stay so\n")
    assert "default/data:v0 of the file were deleted here: --as-project NAME" in again.stderr


def test_a_file_is_replaced_on_request_and_none_is_called_dash(cli: Calls, folder: Path) -> None:
    cli("put", "data")
    Path("mine.tar").write_text("mine")
    assert "--force" in cli("export", "data:v0", "--to", "mine.tar", code=4).stderr
    assert Path("mine.tar").read_text() == "mine"
    cli("export", "data:v0", "--to", "mine.tar", "--force")
    cli("import", "mine.tar", "-w", "elsewhere")
    cli("export", "data:v0", "--to", "-", code=2)
    assert not Path("-").exists()
    assert "did you mean default/data?" in cli("export", "data", "--to", "x.tar", code=3).stderr


def test_what_is_missing_is_said(cli: Calls, folder: Path) -> None:
    cli("put", "data")
    cli("export", "default", "--to", "default.tar", "--no-blobs")
    assert "3 managed files have no bytes here" in cli("import", "default.tar", "-w", "elsewhere").stderr


def test_a_manifest_of_wandb_is_logged(cli: Calls) -> None:
    Path("wandb_manifest.json").write_text(json.dumps(MANIFEST))
    told = cli("import", "wandb_manifest.json", "-n", "vision/images", "--json").document
    assert (told["name"], told["entries"], told["created"]) == ("vision/images:v0", 1, True)
    assert cli("ls", "vision/images:v0", "--json").document["pin"] == "version:v"


def test_a_dvc_file_is_logged_under_its_name(cli: Calls) -> None:
    Path("x.csv.dvc").write_text(
        "deps:\n- {path: 's3://lake/x.csv', size: 1, version_id: v}\nouts:\n- {path: x.csv}\n"
    )
    assert cli("import", "x.csv.dvc", "--json").document["name"] == "default/x.csv:v0"


def test_options_that_do_not_go_together_are_refused(cli: Calls) -> None:
    Path("x.bin").write_text("")
    assert "--format tar, wandb or dvc" in cli("import", "x.bin", code=2).stderr
    cli("import", "x.tar", "-n", "name", code=2)
    cli("import", "x.json", "--as-project", "name", code=2)
    cli("import", "x.bin", "--format", "tar", code=9)
