"""Export and import: another workspace gets the same versions, and nothing that is not what its name says."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from refart.catalog.base import Patch, VersionFilter, VersionKey, VersionRow
from refart.errors import ConflictError, FormatError, InvalidInputError, NotFoundError
from refart.ops import interchange
from refart.workspace import Workspace
from tests.ops.support import tree

Member = tuple[str, bytes]


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Workspace]:
    with Workspace.open(tmp_path / "other") as workspace:
        yield workspace


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "a.txt").write_text("a")
    (folder / "b.txt").write_text("b")
    return folder


@pytest.fixture
def project(refart_workspace: Workspace, data: Path) -> Workspace:
    """`vision`: raw v0 and v1 (references), v2 deleted; a model of managed files; one run used raw of `vision` and a
    version of another project."""
    workspace = refart_workspace
    with workspace.init(project="elsewhere") as run:
        base = run.log_artifact(data / "a.txt", name="base")
    with workspace.init(project="vision", job_type="ingest") as run:
        for n in range(3):
            (data / "b.txt").write_text(f"b{n}")
            draft = workspace.draft("raw", project="vision", description=f"ümlaut {n}", metadata={"n": n})
            draft.add_reference(data)
            run.log_artifact(draft, aliases=[f"a{n}"], tags=["t"])
    workspace.artifact("vision/raw:v2").delete(delete_aliases=True)
    with workspace.init(project="vision", job_type="train", config={"lr": 1}) as run:
        run.use_artifact("raw:v1")
        run.use_artifact(base)
        draft = workspace.draft("model", "model", project="vision")
        with draft.new_file("weights.bin") as file:
            file.write("weights")
        run.log_artifact(draft)
    workspace.artifact("vision/raw:v0").link("registry/raw")
    return workspace


def rows(workspace: Workspace, project: str) -> dict[str, VersionRow]:
    found = workspace._context.catalog.versions(VersionFilter(project=project, include_deleted=True))
    return {str(row.key): row for row in found}


def members(file: Path) -> list[Member]:
    with tarfile.open(file) as tar:
        return [(info.name, tar.extractfile(info).read()) for info in tar]  # type: ignore[union-attr]


def write(file: Path, content: list[Member]) -> Path:
    with tarfile.open(file, "w") as tar:
        for name, data in content:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return file


def test_a_project_arrives_whole(project: Workspace, other: Workspace, tmp_path: Path) -> None:
    file = tmp_path / "vision.tar"
    written = project.export_tar("vision", file)
    assert (written.versions, written.manifests, written.blobs) == (3, 3, 1)
    taken = other.import_tar(file)
    assert taken.created == ("vision/model:v0", "vision/raw:v0", "vision/raw:v1", "vision/raw:v2")
    assert (taken.present, taken.dropped_edges, taken.missing_blobs) == ((), 1, 0)
    assert rows(other, "vision") == rows(project, "vision")
    assert [run.config for run in other.runs("vision")] == [{"lr": 1}, {}]
    assert other.artifact("vision/raw:latest").version == "v1"
    with pytest.raises(NotFoundError, match="was deleted"):
        other.artifact("vision/raw:v2")


def test_what_was_imported_can_be_downloaded_walked_searched_and_logged_on(
    project: Workspace, other: Workspace, data: Path, tmp_path: Path
) -> None:
    file = tmp_path / "vision.tar"
    project.export_tar("vision", file)
    other.import_tar(file)
    model = other.artifact("vision/model")
    model.download(tmp_path / "out")
    assert tree(tmp_path / "out") == {"weights.bin": b"weights"}
    graph = model.lineage("upstream")
    assert [str(row.key) for row in graph.versions] == ["vision/model:v0", "vision/raw:v1"]
    assert [str(each.version.key) for each in other.who(data / "b.txt").holdings] == [
        "vision/raw:v1",
        "vision/raw:v0",
    ]
    assert other._context.catalog.without_uris() == []
    draft = other.draft("raw", project="vision")
    draft.add_reference(data / "a.txt")
    with other.init(project="vision") as run:
        assert run.log_artifact(draft).version == "v3", "numbers go on, deleted ones too"


def test_equal_versions_make_equal_files_and_an_import_is_done_once(
    project: Workspace, other: Workspace, tmp_path: Path
) -> None:
    first, second = tmp_path / "1.tar", tmp_path / "2.tar"
    project.export_tar("vision", first)
    other.import_tar(first)
    before = rows(other, "vision"), other.audit("vision")
    again = other.import_tar(first)
    assert (again.created, len(again.present)) == ((), 4)
    assert (rows(other, "vision"), other.audit("vision")) == before
    assert {row.action for row in before[1]} == {"version.import"}
    project.export_tar("vision", second)
    assert first.read_bytes() == second.read_bytes()


def test_a_later_export_brings_what_is_new(
    project: Workspace, other: Workspace, data: Path, tmp_path: Path
) -> None:
    file = tmp_path / "vision.tar"
    project.export_tar("vision/raw", file)
    assert len(other.import_tar(file).created) == 3
    (data / "b.txt").write_text("later")
    draft = project.draft("raw", project="vision")
    draft.add_reference(data)
    with project.init(project="vision") as run:
        run.log_artifact(draft, aliases=["a0"])
    project.export_tar("vision/raw", file, overwrite=True)
    assert other.import_tar(file).created == ("vision/raw:v3",)
    assert other.artifact("vision/raw:v3").aliases == ["a0", "latest"], "aliases of new versions move to them"


def test_aliases_that_move_are_told_and_audited(
    project: Workspace, other: Workspace, data: Path, tmp_path: Path
) -> None:
    file = tmp_path / "vision.tar"
    project.export_tar("vision/raw", file)
    assert other.import_tar(file).moved_aliases == (), "no alias had a version before"
    mine = other.artifact("vision/raw:v0")
    mine.aliases.append("production")
    mine.save()
    for text, aliases in (("later", ["a1"]), ("latest", ["production"])):
        (data / "b.txt").write_text(text)
        draft = project.draft("raw", project="vision")
        draft.add_reference(data)
        with project.init(project="vision") as run:
            run.log_artifact(draft, aliases=aliases, tags=["new"])
    project.export_tar("vision/raw", file, overwrite=True)
    assert sorted(other.import_tar(file).moved_aliases) == [
        "vision/raw:a1: v1 -> v3",
        "vision/raw:latest: v1 -> v4",
        "vision/raw:production: v0 -> v4",
    ]
    last = other.audit("vision", "vision/raw:v4")[0]
    assert last.detail["alias production"] == {"old": 0, "new": 4}
    assert last.detail["tag new"] == {"old": False, "new": True}
    assert other.import_tar(file).moved_aliases == ()


def test_what_was_deleted_here_stays_so_and_is_told_apart(
    project: Workspace, other: Workspace, tmp_path: Path
) -> None:
    file = tmp_path / "vision.tar"
    project.export_tar("vision", file)
    project.artifact("vision/model:v0").delete(delete_aliases=True)
    taken = project.import_tar(file)
    assert (taken.created, taken.deleted_here) == ((), ("vision/model:v0",))
    assert taken.present == ("vision/raw:v0", "vision/raw:v1", "vision/raw:v2"), (
        "v2 is a deleted one in the file too"
    )
    with pytest.raises(NotFoundError, match="was deleted"):
        project.artifact("vision/model:v0")
    project.import_tar(file, as_project="back")
    project.artifact("back/model:v0").download(tmp_path / "out")
    assert tree(tmp_path / "out") == {"weights.bin": b"weights"}


def test_one_version_keeps_its_number(project: Workspace, other: Workspace, tmp_path: Path) -> None:
    file = tmp_path / "one.tar"
    project.export_tar("vision/raw:a1", file)
    assert other.import_tar(file).created == ("vision/raw:v1",)
    assert other.artifact("vision/raw").version == "v1"
    assert [run.job_type for run in other.runs()] == ["train", "ingest"], "who logged it and who used it"
    project.export_tar("vision/raw", file, overwrite=True)
    assert other.import_tar(file).created == ("vision/raw:v0", "vision/raw:v2")


def test_a_link_finds_its_source_where_that_is_there(
    project: Workspace, other: Workspace, tmp_path: Path
) -> None:
    link, vision = tmp_path / "link.tar", tmp_path / "vision.tar"
    project.export_tar("registry", link)
    project.export_tar("vision", vision)
    other.import_tar(vision)
    other.import_tar(link)
    assert other.artifact("registry/raw").source_version == "vision/raw:v0"


def test_a_number_that_is_taken_is_a_conflict_and_another_project_is_the_way_out(
    project: Workspace, other: Workspace, data: Path, tmp_path: Path
) -> None:
    file = tmp_path / "vision.tar"
    project.export_tar("vision", file)
    with other.init(project="vision") as run:
        run.log_artifact(data / "b.txt", name="raw")
    with pytest.raises(ConflictError, match=r"vision/raw:v0 is another version here .* nothing was imported"):
        other.import_tar(file)
    assert list(rows(other, "vision")) == ["vision/raw:v0"]
    assert len(other.runs()) == 1
    taken = other.import_tar(file, as_project="copy")
    assert taken.created == ("copy/model:v0", "copy/raw:v0", "copy/raw:v1", "copy/raw:v2")
    assert [str(row.key) for row in other.artifact("copy/model").lineage("upstream").versions] == [
        "copy/model:v0",
        "copy/raw:v1",
    ]


def test_content_that_another_number_has_is_a_conflict(
    project: Workspace, other: Workspace, tmp_path: Path
) -> None:
    file = tmp_path / "v1.tar"
    project.export_tar("vision/raw:v1", file)
    other.import_tar(file)
    content = dict(members(file))
    content["catalog.jsonl"] = content["catalog.jsonl"].replace(b"vision/raw:v1", b"vision/raw:v5")
    with pytest.raises(ConflictError, match="vision/raw:v5 holds what v1 holds here"):
        other.import_tar(write(file, list(content.items())))


def test_another_run_of_the_same_id_is_a_conflict(
    project: Workspace, other: Workspace, tmp_path: Path
) -> None:
    file = tmp_path / "vision.tar"
    project.export_tar("vision", file)
    mine = project.runs("vision")[0]
    other._context.catalog.save_run(replace(mine._row, name="another"))
    with pytest.raises(ConflictError, match=f"another run has the id {mine.id} here"):
        other.import_tar(file)
    assert rows(other, "vision") == {}


def test_blobs_can_stay_behind_and_are_counted_where_nobody_has_them(
    project: Workspace, other: Workspace, tmp_path: Path
) -> None:
    file = tmp_path / "model.tar"
    assert project.export_tar("vision/model:v0", file, blobs=False).blobs == 0
    assert other.import_tar(file).missing_blobs == 1
    with pytest.raises(NotFoundError):
        other.artifact("vision/model").download(tmp_path / "out")
    project.export_tar("vision/model:v0", file, overwrite=True)
    assert other.import_tar(file).missing_blobs == 0
    other.artifact("vision/model").download(tmp_path / "out")


def spoilt(name: str, change: Callable[[bytes], bytes]) -> Callable[[list[Member]], list[Member]]:
    return lambda content: [(n, change(d) if n.startswith(name) else d) for n, d in content]


def _line(**record: Any) -> Callable[[list[Member]], list[Member]]:
    return spoilt("catalog", lambda data: data + json.dumps(record).encode() + b"\n")


HEX = "0" * 64


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda content: content[1:], "does not begin with refart-export.json"),
        (lambda content: [], "does not begin with"),
        (lambda content: content[:1], "expected catalog.jsonl"),
        (lambda content: content[:-1], "it ends early: blob"),
        (lambda content: [m for m in content if not m[0].startswith("shards")], "belongs to no managed file"),
        (lambda content: content[:2], "it ends early"),
        (lambda content: [*content, content[-1]], "is there twice, or out of order"),
        (lambda content: [*content, ("../evil", b"")], "does not belong into an export"),
        (lambda content: [*content, ("/etc/passwd", b"")], "does not belong into an export"),
        (lambda content: [*content, (f"blobs/../{HEX}", b"")], "does not belong into an export"),
        (lambda content: [*content, ("blobs/" + "f" * 64, b"x")], "has other bytes than its name says"),
        (
            spoilt("refart", lambda d: d.replace(b"export/1", b"export/2")),
            "has the format refart.export/2.*upgrade",
        ),
        (spoilt("refart", lambda d: d + b" " * 70_000), "is too large"),
        (spoilt("manifests", lambda d: d + b" "), "has other bytes than its name says"),
        (spoilt("shards", lambda d: d[:-1]), "is damaged"),
        (spoilt("shards", lambda d: d[:60] + b"\xff" + d[61:]), "is damaged"),
        (spoilt("blobs", lambda d: b"Weights"), "has other bytes than its name says"),
        (
            spoilt("catalog", lambda d: d.replace(b'"entry_count": 1', b'"entry_count": 2')),
            "is not that of a version",
        ),
        (spoilt("catalog", lambda d: b"[]\n"), "line 1 of the catalog"),
        (spoilt("catalog", lambda d: b"\xff"), "codec can't decode"),
        (
            spoilt("catalog", lambda d: d.replace(b'"aliases": ["latest"]', b'"aliases": ["v7"]')),
            "alias 'v7'",
        ),
        (_line(kind="who"), "unknown kind 'who'"),
        (_line(kind="elsewhere", key=f"a/b:v{10**17}", manifest_digest=f"sha256:{HEX}"), "names no version"),
        (_line(kind="elsewhere", key="a/b:v0", manifest_digest="md5:1"), "is not allowed"),
        (
            _line(kind="input", run_id="nobody", version="vision/model:v0", at="2026-01-01T00:00:00Z"),
            "is not there",
        ),
    ],
)
def test_a_file_that_is_not_an_export_changes_nothing(
    project: Workspace,
    other: Workspace,
    tmp_path: Path,
    change: Callable[[list[Member]], list[Member]],
    said: str,
) -> None:
    file = tmp_path / "model.tar"
    project.export_tar("vision/model:v0", file)
    write(file, change(members(file)))
    with pytest.raises(FormatError, match=f"model.tar cannot be imported, nothing was: .*{said}"):
        other.import_tar(file)
    assert (other.projects(), other.runs()) == ([], [])


@pytest.mark.parametrize(
    ("kind", "field", "value", "said"),
    [
        ("version", "ttl_s", 1 << 62, "a ttl of"),
        ("version", "ttl_s", 0, "a ttl of 0 s"),
        ("version", "created_at", "0001-01-01T00:00:00+23:59", "not in the years 2 to 9998"),
        ("version", "deleted_at", "9999-12-31T23:59:59+00:00", "not in the years"),
        ("run", "created_at", "9999-12-31T23:59:59-23:00", "not in the years"),
        ("run", "finished_at", "0001-01-01T00:00:00Z", "not in the years"),
        ("run", "pid", 1 << 63, "no whole number"),
        ("output", "at", "9999-12-31T23:59:59-23:00", "not in the years"),
    ],
)
def test_a_value_that_nobody_could_read_again_is_refused(
    project: Workspace, other: Workspace, tmp_path: Path, kind: str, field: str, value: Any, said: str
) -> None:
    def change(data: bytes) -> bytes:
        records = [json.loads(line) for line in data.splitlines()]
        changed = [{**record, field: value} if record["kind"] == kind else record for record in records]
        return b"".join(json.dumps(record).encode() + b"\n" for record in changed)

    file = tmp_path / "model.tar"
    project.export_tar("vision/model:v0", file)
    write(file, spoilt("catalog", change)(members(file)))
    with pytest.raises(FormatError, match=f"nothing was: line .*{said}"):
        other.import_tar(file)
    assert (other.projects(), other.runs()) == ([], [])


def test_the_longest_ttl_travels_and_a_longer_one_in_the_catalog_is_read_as_it(
    project: Workspace, other: Workspace, tmp_path: Path
) -> None:
    """An older refart let in a time to live that no `timedelta` holds."""
    model = project.artifact("vision/model")
    model.ttl = timedelta.max
    model.save()
    longest = timedelta(seconds=timedelta.max // timedelta(seconds=1))
    project.export_tar("vision/model", tmp_path / "model.tar")
    other.import_tar(tmp_path / "model.tar")
    assert other.artifact("vision/model").ttl == longest
    catalog = other._context.catalog
    patch = Patch("ada", datetime.now(UTC), set_ttl=True, ttl_s=1 << 62)
    catalog.update(VersionKey("vision", "model", 0), patch)
    assert [each.ttl for each in other.artifacts("vision/model")] == [longest]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE])
def test_links_and_folders_are_refused(other: Workspace, tmp_path: Path, kind: bytes) -> None:
    file = tmp_path / "evil.tar"
    with tarfile.open(file, "w") as tar:
        info = tarfile.TarInfo(interchange.HEADER)
        info.type, info.linkname = kind, "/etc/passwd"
        tar.addfile(info)
    with pytest.raises(FormatError, match="does not belong into an export"):
        other.import_tar(file)


@pytest.mark.parametrize("keep", [0, 100, 700, 0.3, 0.6, 0.9])
def test_a_file_that_was_cut_short_changes_nothing(
    project: Workspace, other: Workspace, tmp_path: Path, keep: float
) -> None:
    file = tmp_path / "vision.tar"
    project.export_tar("vision", file)
    whole = file.read_bytes().rstrip(b"\0")
    file.write_bytes(whole[: keep if isinstance(keep, int) else int(len(whole) * keep)])
    with pytest.raises(FormatError, match="cannot be imported, nothing was"):
        other.import_tar(file)
    assert other.projects() == []


def test_what_lies_there_is_only_overwritten_on_request(project: Workspace, tmp_path: Path) -> None:
    precious, link = tmp_path / "precious.txt", tmp_path / "link.tar"
    precious.write_text("precious")
    link.symlink_to(precious)
    (tmp_path / "dangling.tar").symlink_to(tmp_path / "nowhere")
    for taken in (precious, link, tmp_path / "dangling.tar", tmp_path):
        with pytest.raises(ConflictError, match="exists already, nothing was written"):
            project.export_tar("vision", taken)
    with pytest.raises(InvalidInputError, match="is no file, and only a file is overwritten"):
        project.export_tar("vision", tmp_path, overwrite=True)
    project.export_tar("vision", link, overwrite=True)
    assert not link.is_symlink()
    assert tarfile.is_tarfile(link)
    assert precious.read_text() == "precious", "what the link led to"
    project.export_tar("vision", precious, overwrite=True)
    assert precious.read_bytes() == link.read_bytes()


def test_a_file_that_appears_meanwhile_is_kept(
    project: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "x.tar"
    monkeypatch.setattr(interchange, "_check_free", lambda target, **_: target.write_text("theirs"))
    with pytest.raises(ConflictError, match="exists already"):
        project.export_tar("vision", file)
    assert [
        (each.name, each.read_text())
        for each in tmp_path.iterdir()
        if each.is_file() and each.suffix != ".toml"
    ] == [("x.tar", "theirs")]


def test_names_that_say_nothing_are_refused(project: Workspace, other: Workspace, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="there is no version in nobody"):
        project.export_tar("nobody", tmp_path / "x.tar")
    with pytest.raises(NotFoundError, match=r"NAME:VERSION; did you mean registry/raw or vision/raw\?"):
        project.export_tar("raw", tmp_path / "x.tar")
    with pytest.raises(InvalidInputError, match="cannot be written"):
        project.export_tar("vision", tmp_path / "no" / "x.tar")
    with pytest.raises(InvalidInputError, match="project 'a b' is not allowed"):
        other.import_tar(tmp_path / "x.tar", as_project="a b")
    with pytest.raises(NotFoundError, match="does not exist"):
        other.import_tar(tmp_path / "x.tar")
    assert list(tmp_path.glob("*.tar")) == []
