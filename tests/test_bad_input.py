"""Bad input and bad surroundings: each gets an error of its own that says what, where and what to do, and leaves
nothing half done."""

from __future__ import annotations

import errno
import functools
import math
import os
import resource
import socket
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from refart import Api, Artifact, Run, Workspace, files, names
from refart.catalog.sql import open_catalog
from refart.errors import (
    CatalogError,
    ConflictError,
    FormatError,
    InvalidInputError,
    NotFoundError,
    PermissionDeniedError,
    RefartError,
    StoreError,
)
from refart.ops import targets
from refart.testing import Lake, S3Server
from tests.faults import FaultProxy, s3_error
from tests.footprints import files_below, nothing_done, store_files


@pytest.fixture
def run(refart_workspace: Workspace) -> Iterator[Run]:
    with refart_workspace.init(job_type="test") as run:
        yield run


@pytest.fixture
def logged(run: Run) -> Artifact:
    """`things:v0`, which has the one managed file `file.txt`."""
    return run.log_artifact(with_file())


def with_file(name: str = "things", text: str = "some text\n") -> Artifact:
    artifact = Artifact(name, "dataset")
    with artifact.new_file("file.txt") as file:
        file.write(text)
    return artifact


def paths(artifact: Artifact) -> list[str]:
    return [entry.path for entry in artifact.entries()]


HOSTILE = st.text(max_size=300) | st.binary(max_size=3) | st.none() | st.integers() | st.just("x" * 100_000)


def refused_or_returned(check: Callable[[object], object], value: object) -> object:
    """What a check returns; where it refuses, that its message is short and printable whatever it was given."""
    try:
        return check(value)
    except InvalidInputError as error:
        said = str(error)
    assert len(said) < 500
    assert said.isprintable()
    return None


# -- names, types, aliases, tags --------------------------------------------------------------------

BAD_NAMES = ["", ".", "..", "a/b", "a:b", "a b", "é", "a\n", "a\x00", "n" * 129, None, 3, b"name"]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_names_and_types_are_refused_where_they_are_typed(name: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"artifact name .* is not allowed: use 1 to 128 of"):
        Artifact(name, "dataset")
    with pytest.raises(InvalidInputError, match=r"artifact type .* is not allowed: use 1 to 128 of"):
        Artifact("things", name)


@pytest.mark.parametrize("name", [name for name in BAD_NAMES if name is not None])
def test_a_project_with_a_bad_name_begins_no_run(refart_workspace: Workspace, name: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"project .* is not allowed"):
        refart_workspace.init(project=name)
    assert refart_workspace.runs() == []
    assert refart_workspace.projects() == []


@pytest.mark.parametrize("what", ["job_type", "name", "group"])
@pytest.mark.parametrize("value", ["", "x" * 129, "a\nb", "a\x00b", 3])
def test_words_about_a_run_are_refused_before_it_begins(
    refart_workspace: Workspace, what: str, value: Any
) -> None:
    with pytest.raises(InvalidInputError, match="must be 1 to 128 printable characters"):
        refart_workspace.init(**{what: value})
    assert refart_workspace.runs() == []


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("", "artifact name ''"),
        ("things:", "alias ''"),
        ("things:a:b", "alias 'a:b'"),
        ("a/b/things", "'a/b/things' has too many parts"),
        ("things:v01", "'v01'.*version number"),
        (7, "named by text such as"),
        ("x" * 100_000, "artifact name"),
    ],
)
def test_what_names_no_version_is_refused(run: Run, reference: Any, said: str) -> None:
    with pytest.raises(InvalidInputError, match=said) as error:
        run.use_artifact(reference)
    assert len(str(error.value)) < 500
    assert run.used_artifacts() == []


BAD_ALIASES = ["", " a", "a ", "a/b", "a:b", "a\nb", "v3", "v007", "a" * 129, 3]
BAD_TAGS = ["", " a", "a ", "a/b", "a\tb", "a.b", "a" * 129, 3]


@pytest.mark.parametrize("aliases", [*([a] for a in BAD_ALIASES), ["good", ""], "best"])
def test_bad_aliases_log_nothing(
    run: Run, logged: Artifact, refart_workspace: Workspace, aliases: Any
) -> None:
    draft = with_file(text="other text\n")
    with nothing_done(refart_workspace):
        with pytest.raises(InvalidInputError, match="alias"):
            run.log_artifact(draft, aliases=aliases)
        with pytest.raises(InvalidInputError, match="alias"):
            logged.link("other/things", aliases=aliases)
        logged.aliases = aliases
        logged.description = "not written"
        with pytest.raises(InvalidInputError, match="alias"):
            logged.save()
    assert draft.state == "draft"


@pytest.mark.parametrize("tags", [*([t] for t in BAD_TAGS), ["good", ""], "clean"])
def test_bad_tags_log_nothing(run: Run, logged: Artifact, refart_workspace: Workspace, tags: Any) -> None:
    draft = with_file(text="other text\n")
    with nothing_done(refart_workspace):
        with pytest.raises(InvalidInputError, match="tag"):
            run.log_artifact(draft, tags=tags)
        logged.tags = tags
        logged.description = "not written"
        with pytest.raises(InvalidInputError, match="tag"):
            logged.save()
    assert draft.state == "draft"


@given(HOSTILE)
def test_whatever_is_given_as_a_name_the_answer_is_short(value: object) -> None:
    for check in (functools.partial(names.check_name, what="name"), names.check_alias, names.check_tag):
        assert refused_or_returned(check, value) in (None, value)


def test_latest_cannot_be_taken_away(logged: Artifact, refart_workspace: Workspace) -> None:
    logged.aliases = []
    with nothing_done(refart_workspace), pytest.raises(InvalidInputError, match="'latest' cannot be removed"):
        logged.save()


# -- metadata and description -----------------------------------------------------------------------


def circular() -> dict[str, Any]:
    value: dict[str, Any] = {}
    value["self"] = value
    return value


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ({"é": "é" * (names.MAX_METADATA_BYTES // 2)}, r"metadata is 1,0\d\d,\d\d\d bytes of JSON; at most 1,048,576"),
        ({"loss": math.nan}, "cannot be stored as JSON"),
        ({"loss": [1.0, -math.inf]}, "cannot be stored as JSON"),
        ({"when": object()}, "cannot be stored as JSON"),
        ({"nul": "a\x00b"}, "NUL character"),
        ({"half": "\ud800"}, "cannot be stored as JSON"),
        (circular(), "cannot be stored as JSON"),
        ({"deep": [{1: "one", "1": "another"}]}, "keys that JSON cannot tell apart"),
        ([("a", 1)], "must be a mapping, not list"),
        ("text", "must be a mapping, not str"),
    ],
    ids=["large", "nan", "infinite", "object", "nul", "surrogate", "circular", "keys", "list", "text"],
)  # fmt: skip
def test_bad_metadata_is_written_nowhere(
    run: Run, logged: Artifact, refart_workspace: Workspace, metadata: Any, said: str
) -> None:
    with nothing_done(refart_workspace):
        with pytest.raises(InvalidInputError, match=said):
            Artifact("things", "dataset", metadata=metadata)
        draft = with_file(text="other text\n")
        draft.metadata = metadata
        with pytest.raises(InvalidInputError, match=said):
            run.log_artifact(draft)
        logged.metadata = metadata
        with pytest.raises(InvalidInputError, match=said):
            logged.save()


def test_metadata_is_bounded_in_bytes_not_in_keys(run: Run) -> None:
    draft = with_file()
    draft.metadata = {f"key {number}": number for number in range(10_000)}
    assert run.log_artifact(draft).metadata["key 9999"] == 9999


@pytest.mark.parametrize("description", ["a\x00b", "é" * 40_000, 3, "\ud800"])
def test_a_bad_description_is_written_nowhere(
    run: Run, logged: Artifact, refart_workspace: Workspace, description: Any
) -> None:
    with nothing_done(refart_workspace):
        with pytest.raises(InvalidInputError, match="description"):
            Artifact("things", "dataset", description=description)
        draft = with_file(text="other text\n")
        draft.description = description
        with pytest.raises(InvalidInputError, match="description"):
            run.log_artifact(draft)
        logged.description = description
        with pytest.raises(InvalidInputError, match="description"):
            logged.save()


@pytest.mark.parametrize("ttl", [0, -1, 3600, "1 day"])
def test_a_ttl_that_is_no_duration_is_written_nowhere(
    logged: Artifact, refart_workspace: Workspace, ttl: Any
) -> None:
    logged.ttl = ttl
    with nothing_done(refart_workspace), pytest.raises(InvalidInputError, match="ttl must be a timedelta"):
        logged.save()


# -- paths ------------------------------------------------------------------------------------------

BAD_PATHS = ["", "/", "/etc/passwd", "..", "../up", "a/../b", ".", "./a", "a/.", "a//b", "a/", "C:", "c:/x"]
BAD_PATHS += ["a\x00b", "a\nb", "a\x7f", "x" * 4097, "é" * 2049, "\ud800"]


@pytest.mark.parametrize("path", BAD_PATHS)
def test_bad_paths_are_added_nowhere(logged: Artifact, tmp_path: Path, path: str) -> None:
    (tmp_path / "file").write_text("x")
    draft = logged.new_draft()
    for add in (
        lambda: draft.add_file(tmp_path / "file", name=path),
        lambda: draft.add_dir(tmp_path, name=path),
        lambda: draft.add_reference(tmp_path, name=path),
        lambda: draft.new_file(path).__enter__(),
        lambda: draft.get_entry(path),
    ):
        with pytest.raises(InvalidInputError) as error:
            add()
        assert len(str(error.value)) < 500
    assert paths(draft) == ["file.txt"]
    assert draft.digest == logged.digest


@given(HOSTILE)
@example("a" * 4096)
@example("a" * 4097)
def test_whatever_is_given_as_a_path_the_answer_is_short(value: object) -> None:
    accepted = refused_or_returned(names.check_path, value)
    assert accepted in (None, value)
    if isinstance(accepted, str):
        assert not accepted.startswith("/")
        assert not {"", ".", ".."} & set(accepted.split("/"))
        assert len(accepted.encode()) <= 4096


@given(st.text(st.sampled_from("./:%\x00\nCa"), min_size=1, max_size=12))
def test_every_key_has_a_path_that_leads_nowhere_else(key: str) -> None:
    assert names.check_path(names.path_from_key(key))


@pytest.mark.parametrize("prefix", ["../up", "/etc", "a//b", "a\x00"])
def test_a_bad_prefix_downloads_nothing(logged: Artifact, tmp_path: Path, prefix: str) -> None:
    with pytest.raises(InvalidInputError, match=r"path_prefix .* is not allowed"):
        logged.download(tmp_path / "root", path_prefix=prefix)
    assert not (tmp_path / "root").exists()


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ({"path_prefix": "file"}, "things:v0 has no entry for path_prefix='file'"),
        ({"include": "*.jpg"}, r"things:v0 has no entry for include='\*\.jpg'"),
        ({"include": ["*.txt", "*.csv"], "path_prefix": "a"}, "no entry for path_prefix='a' and include="),
    ],
)
def test_a_choice_that_matches_nothing_is_no_success(
    logged: Artifact, tmp_path: Path, choice: dict[str, Any], said: str
) -> None:
    with pytest.raises(NotFoundError, match=said):
        logged.download(tmp_path / "root", **choice)
    assert not (tmp_path / "root").exists()


@pytest.mark.parametrize(
    ("keys", "said", "without", "left"),
    [
        (["a", "a-", "a/b"], r"'a' is both a file and a folder.*exclude=", "a/", {"a", "a-"}),
        (["d/a/b", "d/a", "z"], "'d/a' is both a file and a folder", "d/a/", {"d/a", "z"}),
        (["é" * 130, "short"], r"260 bytes cannot be a file name.*exclude=", "é*", {"short"}),
    ],
    ids=["file and folder", "deep", "long"],
)
def test_paths_that_cannot_all_be_files_download_nothing(
    run: Run, versioned_lake: Lake, tmp_path: Path, keys: list[str], said: str, without: str, left: set[str]
) -> None:
    for key in keys:
        versioned_lake.put(f"keys/{key}", b"x")
    draft = Artifact("things", "dataset")
    draft.add_reference(f"{versioned_lake.uri}/keys/")
    artifact = run.log_artifact(draft)
    with pytest.raises(InvalidInputError, match=said):
        artifact.download(tmp_path / "root")
    assert not (tmp_path / "root").exists()
    assert set(files_below(Path(artifact.download(tmp_path / "root", exclude=without)))) == left


@pytest.mark.parametrize("pair", [("A.txt", "a.txt"), ("sub/É", "sub/é"), ("e\u0301", "\u00e9")])
def test_paths_that_differ_by_case_download_nothing_where_case_is_folded(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pair: tuple[str, str]
) -> None:
    draft = Artifact("things", "dataset")
    for name in pair:
        with draft.new_file(name) as file:
            file.write(name)
    artifact = run.log_artifact(draft)
    assert len(files_below(Path(artifact.download(tmp_path / "as usual")))) == 2
    monkeypatch.setattr(targets, "_folds_case", lambda folder: True)
    with pytest.raises(InvalidInputError, match="are one file on this case-insensitive file system") as error:
        artifact.download(tmp_path / "root")
    assert all(repr(name) in str(error.value) for name in pair)
    assert not (tmp_path / "root").exists()


# -- the download root ------------------------------------------------------------------------------


@pytest.fixture
def nested(run: Run) -> Artifact:
    """A version with `file.txt` and `sub/inner.txt`."""
    draft = with_file("nested")
    with draft.new_file("sub/inner.txt") as file:
        file.write("inner\n")
    return run.log_artifact(draft)


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder beside the download root that must not change."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "precious.txt").write_text("precious\n")
    return folder


def test_a_link_to_a_folder_outside_is_not_written_through(
    nested: Artifact, tmp_path: Path, outside: Path
) -> None:
    before = files_below(outside)
    (tmp_path / "root").mkdir()
    (tmp_path / "root/sub").symlink_to(outside)
    with pytest.raises(ConflictError, match=r"root/sub is a symbolic link.*remove it or"):
        nested.download(tmp_path / "root")
    assert files_below(outside) == before


def test_a_link_in_place_of_a_file_is_replaced_not_followed(
    nested: Artifact, tmp_path: Path, outside: Path
) -> None:
    before = files_below(outside)
    (tmp_path / "root").mkdir()
    link = tmp_path / "root/file.txt"
    link.symlink_to(outside / "precious.txt")
    nested.download(tmp_path / "root")
    assert files_below(outside) == before
    assert not link.is_symlink()
    assert link.read_text() == "some text\n"


def test_a_link_to_the_very_bytes_outside_is_no_downloaded_file(
    nested: Artifact, tmp_path: Path, outside: Path
) -> None:
    """It is right today, but whoever owns the target can change it."""
    (outside / "same.txt").write_text("some text\n")
    (tmp_path / "root").mkdir()
    link = tmp_path / "root/file.txt"
    nested.download(tmp_path / "root")
    link.unlink()
    link.symlink_to(outside / "same.txt")
    assert nested.verify_report(tmp_path / "root").modified == ["file.txt"]
    nested.download(tmp_path / "root")
    assert not link.is_symlink()


def test_pruning_removes_links_and_not_what_they_lead_to(
    nested: Artifact, tmp_path: Path, outside: Path
) -> None:
    before = files_below(outside)
    root = Path(nested.download(tmp_path / "root"))
    (root / "link").symlink_to(outside)
    nested.checkout(root, prune=True)
    assert files_below(outside) == before
    assert set(files_below(root)) == {"file.txt", "sub/inner.txt"}


def test_a_file_where_a_folder_is_needed_is_named_and_kept(nested: Artifact, tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root/sub").write_text("mine")
    with pytest.raises(ConflictError, match="root/sub is a file where the artifact has a folder"):
        nested.download(tmp_path / "root")
    assert (tmp_path / "root/sub").read_text() == "mine"


def test_a_folder_where_a_file_is_needed_is_named_and_kept(nested: Artifact, tmp_path: Path) -> None:
    (tmp_path / "root/file.txt").mkdir(parents=True)
    (tmp_path / "root/file.txt/mine").write_text("mine")
    with pytest.raises(ConflictError, match=r"root/file\.txt is a folder where the artifact has a file"):
        nested.download(tmp_path / "root")
    assert (tmp_path / "root/file.txt/mine").read_text() == "mine"
    assert [name for name in files_below(tmp_path / "root") if ".refart-" in name] == []


def test_a_root_that_is_a_file_is_refused_and_kept(nested: Artifact, tmp_path: Path) -> None:
    (tmp_path / "root").write_text("mine")
    for root in (tmp_path / "root", tmp_path / "root/below"):
        with pytest.raises(InvalidInputError, match="root"):
            nested.download(root)
    assert (tmp_path / "root").read_text() == "mine"


def test_verifying_a_folder_that_does_not_exist_creates_none(nested: Artifact, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="root does not exist"):
        nested.verify(tmp_path / "root")
    assert not (tmp_path / "root").exists()


@pytest.mark.parametrize("link", ["symlink", "", None])
def test_an_unknown_way_to_link_downloads_nothing(nested: Artifact, tmp_path: Path, link: Any) -> None:
    with pytest.raises(InvalidInputError, match="link must be one of auto, reflink, hardlink, copy"):
        nested.download(tmp_path / "root", link=link)
    assert not (tmp_path / "root").exists()


def test_a_full_disk_under_the_root_leaves_no_part_of_a_file(run: Run, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"x" * (8 << 20))
    draft = Artifact("large", "dataset")
    draft.add_reference(tmp_path / "large")
    artifact = run.log_artifact(draft)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4 << 20, hard))
    try:
        with pytest.raises(StoreError, match=r"large: cannot write .*root/large: File too large"):
            artifact.download(tmp_path / "root")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert files_below(tmp_path / "root") == {}
    artifact.verify(artifact.download(tmp_path / "root"))


# -- references -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "uri",
    [
        "s3://AKIAKEY:SECRET@bucket/key",
        "s3://SECRET@bucket/key",
        "https://user:SECRET@example.org/data.csv",
        "https://bucket.s3.amazonaws.com/key?X-Amz-Credential=a&X-Amz-Signature=SECRET",
        "https://storage.googleapis.com/b/k?X-Goog-Signature=SECRET",
        "https://account.blob.core.windows.net/c/b?sv=2024&sig=SECRET",
        "https://example.org/data?access_token=SECRET",
        "sftp://user:SECRET@host/file",
        "abfs://container:SECRET@account.dfs.core.windows.net/path",
    ],
)
def test_a_uri_with_credentials_is_refused_and_never_shown(
    run: Run, refart_workspace: Workspace, uri: str
) -> None:
    draft = Artifact("things", "dataset")
    with nothing_done(refart_workspace):
        for attempt in (
            lambda: draft.add_reference(uri),
            lambda: draft.add_references([uri]),
            lambda: draft.add_references(["s3://bucket/key"], base=uri),
            lambda: draft.add_file(uri),
            lambda: draft.add_dir(uri),
            lambda: run.log_artifact(uri, name="things"),
        ):
            with pytest.raises(InvalidInputError) as error:
                attempt()
            assert "SECRET" not in str(error.value)
    assert paths(draft) == []


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("", "needs a URI such as"),
        ("s3://", "names no bucket"),
        ("s3:///key", "names no bucket"),
        ("gs://", "names no bucket"),
        ("gs://Not_A_Bucket/key", "is not the name of a bucket"),
        ("nonsense://x", "nonsense:// is not a scheme that refart knows"),
        ("file://relative/path", "names no absolute path"),
        ("s3://bucket/a\x00b", "NUL character"),
        ("s3://bucket/" + "x" * 8192, "more than 8,192 bytes"),
    ],
)
def test_what_is_no_reference_adds_nothing(s3: Any, uri: str, said: str) -> None:
    draft = Artifact("things", "dataset")
    with pytest.raises(InvalidInputError, match=said) as error:
        draft.add_reference(uri)
    assert len(str(error.value)) < 500
    assert paths(draft) == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_objects": 0}, "max_objects must be at least 1, not 0"),
        ({"checksum": "md5"}, "checksum must be True, False, 'sha256', 'stored' or 'stat', not 'md5'"),
        ({"include": ""}, "include pattern '' is empty"),
        ({"exclude": ["!x"]}, "exclude pattern '!x' is negated; give it as include"),
        ({"include": [3]}, "include pattern 3"),
        ({"include": "*.jpg"}, "matches no object .after include and exclude.; nothing was added"),
    ],
)
def test_options_that_make_no_sense_add_nothing(
    versioned_lake: Lake, options: dict[str, Any], said: str
) -> None:
    draft = Artifact("things", "dataset")
    with pytest.raises((InvalidInputError, NotFoundError), match=said):
        draft.add_reference(versioned_lake.uri, **options)
    assert paths(draft) == []


def test_a_bucket_that_does_not_exist_is_named(s3: Any) -> None:
    draft = Artifact("things", "dataset")
    for uri in ("s3://no-such-bucket", "s3://no-such-bucket/prefix"):
        with pytest.raises(NotFoundError, match=f"{uri}.*the bucket does not exist"):
            draft.add_reference(uri)
    with pytest.raises(NotFoundError, match="no-such-bucket"):
        draft.add_references(["s3://no-such-bucket/key"])
    assert paths(draft) == []


def test_prefixes_and_folders_without_anything_are_refused(versioned_lake: Lake, tmp_path: Path) -> None:
    (tmp_path / "empty/within").mkdir(parents=True)
    draft = Artifact("things", "dataset")
    for attempt in (
        lambda: draft.add_reference(f"{versioned_lake.uri}/raw2"),
        lambda: draft.add_reference(tmp_path / "empty"),
        lambda: draft.add_dir(tmp_path / "empty"),
    ):
        with pytest.raises(NotFoundError, match=r"matches no object.*nothing was added.*allow_empty=True"):
            attempt()
    with pytest.raises(NotFoundError, match="missing"):
        draft.add_reference(tmp_path / "missing")
    assert paths(draft) == []
    assert len(draft.add_dir(tmp_path / "empty", allow_empty=True)) == 0


def test_one_bad_uri_among_many_adds_none(versioned_lake: Lake) -> None:
    draft = Artifact("things", "dataset")
    for bad, said in (
        (f"{versioned_lake.uri}/missing", "no object at s3://versioned-lake/missing"),
        (f"{versioned_lake.uri}/raw", "raw is a prefix; add_references takes single objects"),
        ("s3://elsewhere/key", "does not lie below base="),
    ):
        with pytest.raises((InvalidInputError, NotFoundError), match=said):
            draft.add_references([f"{versioned_lake.uri}/README.txt", bad], base=versioned_lake.uri)
    with pytest.raises(InvalidInputError, match="takes a list of URIs"):
        draft.add_references(f"{versioned_lake.uri}/README.txt")
    assert paths(draft) == []


@pytest.fixture
def proxy(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """A proxy before the S3 server, where requests can be denied."""
    proxy = FaultProxy(s3_server.url)
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
    yield proxy
    proxy.close()


def test_a_bucket_that_may_not_be_listed_adds_nothing(versioned_lake: Lake, proxy: FaultProxy) -> None:
    for operation in ("GetBucketVersioning", "ListObjectVersions", "ListObjectsV2", "HeadObject"):
        proxy.add(operation, **s3_error(403, "AccessDenied"))
    draft = Artifact("things", "dataset")
    with pytest.raises(PermissionDeniedError, match=f"{versioned_lake.uri}/raw.*access is denied"):
        draft.add_reference(f"{versioned_lake.uri}/raw")
    assert paths(draft) == []


def test_an_object_that_may_not_be_read_downloads_nothing(
    run: Run, versioned_lake: Lake, proxy: FaultProxy, tmp_path: Path
) -> None:
    draft = Artifact("things", "dataset")
    draft.add_reference(f"{versioned_lake.uri}/raw")
    artifact = run.log_artifact(draft)
    proxy.add("GetObject", **s3_error(403, "AccessDenied"))
    with pytest.raises(PermissionDeniedError, match=r"s3://versioned-lake/raw/.*access is denied"):
        artifact.download(tmp_path / "root", allow_missing_references=True)
    assert files_below(tmp_path / "root") == {}


# -- files of this machine --------------------------------------------------------------------------


def test_what_is_no_file_or_folder_adds_nothing(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("x")
    os.mkfifo(tmp_path / "pipe")
    draft = Artifact("things", "dataset")
    for add, error, said in (
        (lambda: draft.add_file(tmp_path / "missing"), NotFoundError, "missing' does not exist"),
        (lambda: draft.add_file(tmp_path / "folder"), InvalidInputError, "is a folder: add_dir"),
        (lambda: draft.add_file(tmp_path / "pipe"), InvalidInputError, "pipe' is no regular file"),
        (lambda: draft.add_file("a\0b"), InvalidInputError, "NUL character"),
        (lambda: draft.add_file("~nobody-here/file"), NotFoundError, "does not exist"),
        (lambda: draft.add_dir(tmp_path / "missing"), NotFoundError, "missing does not exist"),
        (lambda: draft.add_dir(tmp_path / "file"), InvalidInputError, "is a file: add_file"),
        (lambda: draft.add_dir(tmp_path), InvalidInputError, "pipe.*only files hold bytes"),
        (lambda: draft.add_file("s3://bucket/key"), InvalidInputError, "s3://.*add_reference"),
        (lambda: draft.add_dir("s3://bucket/key"), InvalidInputError, "s3://.*add_reference"),
    ):
        with pytest.raises(error, match=said):
            add()
    assert paths(draft) == []


def test_a_file_that_changed_since_it_was_added_is_not_logged(
    run: Run, refart_workspace: Workspace, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.write_text("before")
    draft = Artifact("things", "dataset")
    draft.add_file(file)
    for change in (lambda: file.write_text("behind"), file.unlink):
        change()
        with nothing_done(refart_workspace), pytest.raises(ConflictError, match="file"):
            run.log_artifact(draft)
    assert draft.state == "draft"


@pytest.mark.parametrize("mode", ["a", "r", "w+", "", None])
def test_a_new_file_is_only_written(mode: Any) -> None:
    draft = Artifact("things", "dataset")
    with pytest.raises(InvalidInputError, match="mode must be w, wb, x or xb"), draft.new_file("x", mode):
        pass
    assert paths(draft) == []


def test_a_new_file_whose_block_fails_is_not_added() -> None:
    draft = Artifact("things", "dataset")
    with pytest.raises(ZeroDivisionError), draft.new_file("x") as file:
        file.write(str(1 / 0))
    assert paths(draft) == []


# -- versions, aliases, runs that do not exist ------------------------------------------------------


def test_an_unknown_alias_is_answered_with_the_known_ones(run: Run, logged: Artifact) -> None:
    logged.aliases += ["best", "production"]
    logged.save()
    for wanted, said in (
        ("things:nothing-like-it", "default/things has no alias.*'best', 'latest', 'production'"),
        ("things:prodction", "did you mean 'production'"),
        ("things:v7", r"no default/things:v7: there is v0"),
        ("thongs", "no artifact 'thongs': did you mean 'things'"),
        ("defualt/things", "no project 'defualt': did you mean 'default'"),
    ):
        with pytest.raises(NotFoundError, match=said):
            run.use_artifact(wanted)
    assert run.used_artifacts() == []


def test_an_artifact_of_another_type_is_not_used(run: Run, logged: Artifact) -> None:
    with pytest.raises(InvalidInputError, match="default/things:v0 has the type 'dataset', not 'model'"):
        run.use_artifact("things", type="model")
    assert run.used_artifacts() == []


def test_an_entry_that_does_not_exist_is_named(logged: Artifact) -> None:
    for attempt in (logged.get_entry, logged.open, logged.new_draft().remove):
        with pytest.raises(NotFoundError, match=r"things.* has no entry 'other\.txt'"):
            attempt("other.txt")


def test_an_unknown_run_is_named(refart_workspace: Workspace) -> None:
    with pytest.raises(NotFoundError, match="no run 'abc'"):
        refart_workspace.run("abc")


def test_a_run_that_ended_logs_nothing(run: Run, logged: Artifact, refart_workspace: Workspace) -> None:
    run.finish()
    with nothing_done(refart_workspace), pytest.raises(ConflictError, match=r"is finished; refart\.init"):
        run.log_artifact(with_file(text="other text\n"))


def test_an_artifact_of_another_workspace_is_not_logged_here(
    run: Run, refart_workspace: Workspace, tmp_path: Path
) -> None:
    with Workspace.open(tmp_path / "other") as other, other.init() as there:
        foreign = there.log_artifact(with_file())
        for attempt in (run.log_artifact, run.use_artifact):
            with (
                nothing_done(refart_workspace),
                pytest.raises(ConflictError, match="belongs to the workspace"),
            ):
                attempt(foreign)


# -- the store --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "error_class", "said"),
    [
        (errno.ENOSPC, StoreError, "No space left on device; nothing was stored: free space there and try again"),
        (errno.EDQUOT, StoreError, "free space there"),
        (errno.EROFS, PermissionDeniedError, "Read-only file system; name a store that can be written"),
        (errno.EACCES, PermissionDeniedError, "Permission denied"),
        (errno.EIO, StoreError, "Input/output error"),
    ],
)  # fmt: skip
def test_a_store_that_takes_nothing_logs_nothing(
    run: Run,
    logged: Artifact,
    refart_workspace: Workspace,
    monkeypatch: pytest.MonkeyPatch,
    code: int,
    error_class: type[RefartError],
    said: str,
) -> None:
    draft = with_file(text="other text\n")
    with nothing_done(refart_workspace), monkeypatch.context() as patch:
        patch.setattr(files, "copy_hashed", failing(code))
        with pytest.raises(error_class, match=f"cannot write blobs/.* in the store at .*: .*{said}"):
            run.log_artifact(draft)
    assert draft.state == "draft"
    assert run.log_artifact(draft).version == "v1"


@pytest.mark.parametrize("after", [1, 2], ids=["the shard", "the index"])
def test_a_store_that_fills_up_halfway_makes_no_version(
    run: Run, logged: Artifact, refart_workspace: Workspace, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    draft = with_file(text="other text\n")
    with monkeypatch.context() as patch:
        patch.setattr(files, "copy_hashed", failing(errno.ENOSPC, after=after))
        with pytest.raises(StoreError, match=r"cannot write (shards|manifests)/"):
            run.log_artifact(draft)
    assert [a.version for a in refart_workspace.artifacts("things")] == ["v0"]
    assert [name for name in store_files(refart_workspace) if name.startswith("tmp/")] == []
    again = run.log_artifact(draft)
    assert (again.version, again.open("file.txt").read()) == ("v1", b"other text\n")


def failing(code: int, after: int = 0) -> Callable[..., str]:
    """A `copy_hashed` that works `after` times, then fails halfway as a file system does."""
    good, calls = files.copy_hashed, iter(range(1_000))

    def copy(source: Any, target: Any) -> str:
        if next(calls) < after:
            return good(source, target)
        target.write(source.read(4))
        raise OSError(code, os.strerror(code))

    return copy


# -- the catalog and the workspace ------------------------------------------------------------------


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give up on a locked catalog at once."""
    monkeypatch.setattr("refart.catalog.sql.open_catalog", functools.partial(open_catalog, deadline_s=0.05))


@pytest.mark.usefixtures("impatient")
def test_a_locked_catalog_logs_nothing_and_the_draft_can_be_logged_later(refart_workspace: Workspace) -> None:
    database = Path(refart_workspace.url, "catalog.sqlite")
    with Workspace.open(refart_workspace.url) as workspace, workspace.init() as run:
        draft = with_file()
        with closing(sqlite3.connect(database, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            for attempt in (lambda: run.log_artifact(draft), workspace.init):
                with pytest.raises(CatalogError, match=r"catalog\.sqlite is locked by .*try again") as error:
                    attempt()
                assert error.value.transient
            assert workspace.artifacts() == []
            assert len(workspace.runs()) == 1
        assert run.log_artifact(draft).version == "v0"


def closed(workspace: Workspace) -> Path:
    workspace.close()
    return Path(workspace.url)


def test_a_catalog_of_a_newer_refart_is_left_alone(refart_workspace: Workspace) -> None:
    folder = closed(refart_workspace)
    with closing(sqlite3.connect(folder / "catalog.sqlite")) as database, database:
        database.execute("UPDATE schema_version SET version = 99")
    before = (folder / "catalog.sqlite").read_bytes()
    for attempt in (Workspace.open, Api):
        with pytest.raises(FormatError, match=r"catalog\.sqlite has schema 99.*upgrade refart"):
            attempt(folder)
    assert (folder / "catalog.sqlite").read_bytes() == before


def test_a_store_of_a_newer_refart_is_left_alone(refart_workspace: Workspace) -> None:
    folder = closed(refart_workspace)
    marker = folder / "store/refart-store.json"
    marker.chmod(0o644)
    marker.write_text('{"format": 99}')
    before = files_below(folder / "store")
    with pytest.raises(FormatError, match=r"store has store format 99.*upgrade refart"):
        Workspace.open(folder)
    assert files_below(folder / "store") == before


def test_a_catalog_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    data = b"this is no database\n" * 100
    (tmp_path / "catalog.sqlite").write_bytes(data)
    with pytest.raises(FormatError, match=r"catalog\.sqlite is not a SQLite database"):
        Workspace.open(tmp_path)
    assert (tmp_path / "catalog.sqlite").read_bytes() == data
    assert os.listdir(tmp_path) == ["catalog.sqlite"]


def test_a_damaged_manifest_is_never_read_as_a_smaller_version(
    run: Run, logged: Artifact, refart_workspace: Workspace, tmp_path: Path
) -> None:
    for kind in ("shards", "manifests"):
        [file] = [path for path in Path(refart_workspace.url, "store", kind).rglob("*") if path.is_file()]
        good = file.read_bytes()
        file.chmod(0o644)
        for bad in (good[: len(good) // 2], b"", good.replace(b"file.txt", b"evil.txt")):
            file.write_bytes(bad)
            with pytest.raises(FormatError, match=file.name[:12]):
                refart_workspace.artifact("things").download(tmp_path / "root")
        file.write_bytes(good)
    assert files_below(tmp_path / "root") == {}


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("s3://bucket/workspace", r"a workspace is a folder or postgresql://…, not s3://; .*add_reference"),
        ("mysql://host/database", "not mysql://"),
    ],
)
def test_what_cannot_be_a_workspace_is_refused(url: str, said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        Workspace.open(url)


def test_a_workspace_that_is_not_to_be_created_is_not(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"there is no refart workspace in .*/new"):
        Workspace.open(tmp_path / "new", create=False)
    assert os.listdir(tmp_path) == []


def test_a_workspace_in_place_of_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for url in (tmp_path / "file", tmp_path / "file/below"):
        with pytest.raises(InvalidInputError, match="is a file, or lies below one"):
            Workspace.open(url)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_folder_workspace_takes_no_second_store(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="keeps its bytes inside"):
        Workspace.open(tmp_path / "new", store="s3://bucket/store")
    assert os.listdir(tmp_path) == []


def test_the_password_of_a_workspace_is_never_shown() -> None:
    with socket.socket() as taken:  # bound, not listening
        taken.bind(("127.0.0.1", 0))
        url = f"postgresql://user:SECRET@127.0.0.1:{taken.getsockname()[1]}/database"
        with pytest.raises(CatalogError, match=r"127\.0\.0\.1.*cannot be reached") as error:
            Workspace.open(url, store="memory://store")
    assert "SECRET" not in str(error.value)
    for bad in (
        "postgresql://user:SECRET@:not-a-port/database",
        "postgresql://user:SECRET@host:1:2/database",
    ):
        with pytest.raises(InvalidInputError) as refused:
            Workspace.open(bad)
        assert "SECRET" not in str(refused.value)
