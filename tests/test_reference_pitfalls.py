"""What goes wrong with references in the systems people use today, on every kind of place that it could go wrong in.

Named after a list of pitfalls that were met in other artifact stores; a docstring says what users must never meet.
What a kind of place cannot do, and which pitfalls can therefore not touch it, is declared in `tests/places.py`; how
many requests S3 is asked for is in `test_pitfalls.py`, and several places in one artifact in `test_many_places.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from refart import Artifact, Run, Workspace, checksums
from refart.errors import (
    ChecksumError,
    ConflictError,
    InvalidInputError,
    NotFoundError,
    RefartError,
    ReferenceChangedError,
    ReferenceMissingError,
    SourceError,
)
from refart.ops import stream
from refart.ops.identify import Checksum
from refart.ops.stream import COMPARED
from refart.sources.registry import BUILT_IN
from tests.artifacts import contents, paths, referring
from tests.cli.calls import Calls
from tests.lakes import Lake
from tests.places import KINDS, Can, on_every_kind
from tests.servers import Nginx
from tests.sources.suite import put_many

cli = Calls()


@pytest.fixture
def run(lake: Lake) -> Iterator[Run]:
    with Workspace.open() as workspace, workspace.init(job_type="test") as run:
        yield run


def below(lake: Lake, folder: str, names: list[str], *, checksum: Checksum = True) -> Artifact:
    """A draft that points at these objects below a folder: by the folder where it can be listed, else one by one."""
    artifact = Artifact("things", "dataset")
    if lake.kind.can(Can.LIST):
        artifact.add_reference(lake.uri_of(folder), checksum=checksum)
    else:
        uris = [lake.uri_of(f"{folder}/{name}") for name in names]
        artifact.add_references(uris, base=lake.uri_of(folder), checksum=checksum)
    return artifact


def known_again(lake: Lake) -> Checksum:
    """The checksum by which bytes that are written again are known there."""
    return True if lake.kind.can(Can.RECOGNISE) else "sha256"


def compared(lake: Lake) -> Checksum:
    """The checksum with which every byte is compared there."""
    return True if lake.kind.can(Can.HASH) else "sha256"


# -- 1: versions in the URI


@on_every_kind(Can.PIN_OLD)
def test_pitfall_01_a_version_in_the_uri_pins_that_version(lake: Lake, run: Run, tmp_path: Path) -> None:
    """Never the current object in place of the version that the URI asks for."""
    old = lake.put("d/k", b"old bytes")
    lake.put("d/k", b"new bytes, longer")
    uri = lake.uri_of("d/k")
    artifact = run.log_artifact(referring(f"{uri}{lake.kind.by_hand}{old}"))
    [entry] = artifact.entries()
    assert (entry.path, entry.uri, entry.size) == ("k", uri, 9)
    assert (entry.pin or "").partition(":")[2] == old
    assert contents(artifact.download(tmp_path / "root")) == {"k": b"old bytes"}


@on_every_kind(Can.PIN)
def test_pitfall_01_a_version_that_does_not_exist_is_an_error(lake: Lake) -> None:
    """Never the current object, nor a reference to nothing; where nothing has versions, it is another name."""
    lake.put("d/k", b"bytes")
    for version in ("12345", "2020-01-01T00:00:00.0000000Z", "no-such-version"):
        artifact = Artifact("things", "dataset")
        with pytest.raises(NotFoundError, match="d/k"):
            artifact.add_reference(f"{lake.uri_of('d/k')}{lake.kind.by_hand}{version}")
        assert paths(artifact) == []


# -- 2: prefixes


@on_every_kind()
def test_pitfall_02_prefixes_are_whole_path_components(lake: Lake, run: Run, tmp_path: Path) -> None:
    """Never the siblings `data2/` and `data.csv` of the prefix `data`, nor `ab/…` for `path_prefix="a"`."""
    for key in ("data/a/x", "data/ab/x", "data/a.csv", "data2/x", "data.csv", "data-x"):
        lake.put(key, key.encode())
    artifact = run.log_artifact(below(lake, "data", ["a/x", "ab/x", "a.csv"]))
    assert paths(artifact) == ["a.csv", "a/x", "ab/x"]
    assert contents(artifact.download(tmp_path / "root", path_prefix="a")) == {"a/x": b"data/a/x"}
    assert [entry.path for entry in artifact.entries("a")] == ["a/x"]


# -- 3, 17: nothing, and next to nothing


@on_every_kind()
def test_pitfall_03_nothing_found_is_an_error(lake: Lake) -> None:
    """Never an empty artifact without a word."""
    lake.put("emptied/x", b"x")
    lake.delete("emptied/x")
    artifact = Artifact("things", "dataset")
    # For a folder that is empty, a web server may have a page, which is an object like any other.
    for name in ("emptied/x", "no-such-prefix", *["emptied"] * lake.kind.can(Can.LIST)):
        with pytest.raises(NotFoundError, match=name):
            artifact.add_reference(lake.uri_of(name))
    assert paths(artifact) == []


@on_every_kind()
def test_pitfall_03_empty_objects_are_entries(lake: Lake, run: Run, tmp_path: Path) -> None:
    """Never a zero-byte object dropped."""
    lake.put("flags/_SUCCESS", b"")
    for artifact in (below(lake, "flags", ["_SUCCESS"]), referring(lake.uri_of("flags/_SUCCESS"))):
        logged = run.log_artifact(artifact)
        assert contents(logged.download(tmp_path / "root")) == {"_SUCCESS": b""}


@on_every_kind(Can.MARK)
def test_pitfall_03_folder_markers_are_no_entries(lake: Lake, run: Run, tmp_path: Path) -> None:
    """Never a file in the place of a folder, nor a marker that makes a prefix of nothing look like something."""
    lake.put("marker/", b"")
    lake.put("flags/", b"")
    lake.put("flags/x", b"x")
    for nothing in ("marker", "marker/"):
        with pytest.raises(NotFoundError, match=f"{nothing} matches no object.*allow_empty=True"):
            referring(lake.uri_of(nothing))
        assert paths(referring(lake.uri_of(nothing), allow_empty=True)) == []
    artifact = run.log_artifact(referring(lake.uri_of("flags")))
    assert contents(artifact.download(tmp_path / "root")) == {"x": b"x"}


# -- 4: limits


@on_every_kind(Can.LIST)
def test_pitfall_04_max_objects_is_an_error_not_a_cut(lake: Lake) -> None:
    """Never a part of the objects in place of all."""
    for name in ("a.txt", "b.csv", "c/d.csv", "e.csv"):
        lake.put(f"data/{name}", b"x")
    artifact, uri = Artifact("things", "dataset"), lake.uri_of("data")
    with pytest.raises(InvalidInputError, match=r"more than max_objects=3 .*nothing was added"):
        artifact.add_reference(uri, max_objects=3)
    assert paths(artifact) == []
    assert len(artifact.add_reference(uri, max_objects=4)) == 4
    assert len(referring(uri, max_objects=1, include="*.txt")) == 1


# -- 5, 6: requests


@on_every_kind(behind_proxy=True)
def test_pitfall_05_300_objects_cost_no_request_each(lake: Lake) -> None:
    """Never one HEAD for every object that was listed. Where nothing can be listed, one each, and no GET."""
    names = [f"{number:03d}" for number in range(300 if lake.kind.can(Can.LIST) else 30)]
    put_many(lake, {f"many/{name}": b"x" for name in names})
    artifact = below(lake, "many", names)
    assert artifact.file_count == len(names)
    asked = [operation for operation in lake.requests if operation != "GetBucketVersioning"]
    if not lake.kind.can(Can.LIST):
        assert asked == ["HEAD"] * 30
    elif lake.kind.name == "webdav":
        assert asked == ["LIST"] * 3  # what is there, and the folder, which the driver asks for twice
    else:
        assert asked == ["LIST"]


@on_every_kind(behind_proxy=True)
def test_pitfall_06_a_download_costs_one_get_an_object(lake: Lake, run: Run, tmp_path: Path) -> None:
    """Never a HEAD before, after or beside the one conditional GET; and nothing for what is there already."""
    for name in "abc":
        lake.put(f"data/{name}", name.encode())
    artifact = run.log_artifact(below(lake, "data", list("abc")))
    lake.proxy.requests.clear()
    root = artifact.download(tmp_path / "root")
    # Nothing pins a file of a driver's, so that it is looked at before and after.
    looks = 0 if lake.kind.name != "webdav" else 3 * 3
    assert sorted(lake.requests) == ["GET"] * 3 + ["LIST"] * looks
    lake.proxy.requests.clear()
    artifact.download(root)
    if lake.kind.rung != "weak":
        assert lake.requests == []


@on_every_kind()
def test_pitfall_06_a_changed_object_is_noticed(lake: Lake, run: Run, tmp_path: Path) -> None:
    """Never other bytes than those logged, though they are as many: the logged ones, or an error."""
    lake.put("d/k", b"logged")
    artifact = run.log_artifact(referring(lake.uri_of("d/k")))
    lake.put("d/k", b"LOGGED")
    if lake.kind.can(Can.KEEP):
        assert contents(artifact.download(tmp_path / "root")) == {"k": b"logged"}
        return
    with pytest.raises(ReferenceChangedError) as error:
        artifact.download(tmp_path / "root")
    assert lake.uri_of("d/k") in str(error.value)
    assert contents(tmp_path / "root") == {}


# -- 7: bytes that are not hashed


@on_every_kind(behind_proxy=True)
def test_pitfall_07_garbled_bytes_of_the_right_size_never_pass(lake: Lake, run: Run, tmp_path: Path) -> None:
    """Never bytes that were not hashed on arrival, whatever their size and pin say."""
    lake.put("d/k", b"some bytes")
    artifact = run.log_artifact(referring(lake.uri_of("d/k"), checksum=compared(lake)))
    lake.spoil("GET", garble=True)
    for attempt in (lambda: artifact.download(tmp_path / "root"), lambda: artifact.open("k").read()):
        with pytest.raises((ChecksumError, ReferenceChangedError), match="d/k"):
            attempt()
    assert contents(tmp_path / "root") == {}


@on_every_kind(behind_proxy=True)
def test_pitfall_07_bytes_that_nothing_can_be_compared_with_are_not_called_compared(
    lake: Lake, run: Run, tmp_path: Path
) -> None:
    """Never "verified" for bytes of which only the server's word was heard."""
    lake.put("d/k", b"some bytes")
    artifact = run.log_artifact(referring(lake.uri_of("d/k")))
    [entry] = artifact.entries()
    assert checksums.split(entry.content_id)[0] == lake.kind.algo
    if lake.kind.can(Can.HASH):
        report = artifact.download_report(tmp_path / "root")
        assert report.checked_by == {"md5": 1}
        return
    lake.spoil("GET", garble=True)
    report = artifact.download_report(tmp_path / "root")
    assert set(report.checked_by) == {lake.kind.rung}
    assert lake.kind.rung not in COMPARED
    assert report.confirmed_by_server + report.weakly_confirmed == 1


@on_every_kind(behind_proxy=True)
def test_pitfall_07_a_body_that_breaks_off_is_continued_or_an_error(
    lake: Lake, run: Run, tmp_path: Path
) -> None:
    """Never the first part of an object as the whole."""
    lake.put("d/k", b"some bytes")
    artifact = run.log_artifact(referring(lake.uri_of("d/k")))
    lake.spoil("GET", cut_at=5, times=1)
    if lake.kind.name == "webdav":  # nothing pins what would follow
        with pytest.raises(SourceError):
            artifact.download(tmp_path / "root")
        assert contents(tmp_path / "root") == {}
    assert contents(artifact.download(tmp_path / "root")) == {"k": b"some bytes"}


@on_every_kind(behind_proxy=True)
def test_pitfall_07_an_answer_that_is_too_short_is_an_error(lake: Lake, run: Run, tmp_path: Path) -> None:
    """Never fewer bytes than were logged, though the answer is whole in itself."""
    lake.put("d/k", b"some bytes")
    artifact = run.log_artifact(referring(lake.uri_of("d/k")))
    lake.spoil("GET", edit=lambda headers, body: body[:-1])
    with pytest.raises((ChecksumError, ReferenceChangedError, SourceError), match="k"):
        artifact.download(tmp_path / "root")
    assert contents(tmp_path / "root") == {}


@on_every_kind()
def test_pitfall_07_verify_reads_references_too(lake: Lake, run: Run, tmp_path: Path) -> None:
    """Never "verified" for a reference whose file was altered or removed since the download."""
    names = ["altered", "gone", "kept"]
    for name in names:
        lake.put(f"d/{name}", name.encode())
    artifact = run.log_artifact(below(lake, "d", names, checksum=compared(lake)))
    root = Path(artifact.download(tmp_path / "root", link="copy"))
    assert artifact.verify(root).ok_files == 3
    (root / "altered").write_bytes(b"ALTERED")
    (root / "gone").unlink()
    with pytest.raises(ChecksumError, match=r"altered \(modified\), gone \(missing\)"):
        artifact.verify(root)


# -- 8, 9, 10: the same bytes


@on_every_kind()
def test_pitfall_08_the_same_bytes_elsewhere_are_a_new_version_with_an_equal_digest(
    lake: Lake, run: Run
) -> None:
    """Never an artifact that cannot be pointed to where its data moved."""
    there = lake.elsewhere()
    there.kind = lake.kind
    for place in (lake, there):
        place.put("d/k", b"the same bytes")
    logged = [
        run.log_artifact(referring(place.uri_of("d/k"), checksum=compared(lake))) for place in (lake, there)
    ]
    assert [(artifact.version, artifact.created) for artifact in logged] == [("v0", True), ("v1", True)]
    assert logged[0].digest == logged[1].digest
    assert logged[0].manifest_digest != logged[1].manifest_digest
    diff = logged[0].diff(logged[1])
    list(diff)
    assert (diff.summary.relocated, diff.summary.modified) == (1, 0)


@on_every_kind()
def test_pitfall_09_the_same_bytes_written_again_make_no_version_and_replace_a_purged_pin(
    lake: Lake, run: Run, tmp_path: Path
) -> None:
    """Never a version that cannot be downloaded although the very same bytes are current."""
    first = lake.put("d/k", b"the same bytes")
    artifact = run.log_artifact(referring(lake.uri_of("d/k"), checksum=known_again(lake)))
    lake.put("d/k", b"the same bytes")
    again = run.log_artifact(referring(lake.uri_of("d/k"), checksum=known_again(lake)))
    assert (again.version, again.created) == ("v0", False)
    if lake.kind.can(Can.PURGE):
        lake.purge("d/k", first)
    assert contents(artifact.download(tmp_path / "root")) == {"k": b"the same bytes"}


@on_every_kind(Can.PURGE)
def test_pitfall_09_other_bytes_in_place_of_a_purged_pin_are_an_error(
    lake: Lake, run: Run, tmp_path: Path
) -> None:
    """Never what happens to be current in place of a version that is gone, whatever identifies it."""
    first = lake.put("d/k", b"some bytes")
    artifact = run.log_artifact(referring(lake.uri_of("d/k"), checksum="sha256"))
    lake.put("d/k", b"more bytes")
    lake.purge("d/k", first)
    with pytest.raises(ReferenceChangedError) as error:
        artifact.download(tmp_path / "root")
    assert lake.uri_of("d/k") in str(error.value)
    assert contents(tmp_path / "root") == {}


@on_every_kind(Can.EDIT)
def test_pitfall_10_an_edit_of_metadata_breaks_no_pin(lake: Lake, run: Run, tmp_path: Path) -> None:
    """Never an entry that is lost, or a version that is made, because somebody put a label on an object."""
    lake.put("d/k", b"the same bytes")
    artifact = run.log_artifact(referring(lake.uri_of("d/k")))
    lake.edit("d/k")
    assert run.log_artifact(referring(lake.uri_of("d/k"))).created is False
    assert contents(artifact.download(tmp_path / "root")) == {"k": b"the same bytes"}


@on_every_kind(Can.PARTS)
def test_pitfall_10_one_content_however_it_was_uploaded(lake: Lake, run: Run, tmp_path: Path) -> None:
    """Never an ETag taken for a hash of the bytes; asked for sha256, both uploads are one content."""
    data = b"the same bytes" * 1000
    lake.put("single/k", data)
    lake.put_in_parts("parts/k", data)
    [single] = referring(lake.uri_of("single")).entries()
    [parts] = referring(lake.uri_of("parts")).entries()
    assert single.content_id.startswith("md5:")
    assert parts.content_id.startswith("etag:")

    strong = [
        run.log_artifact(referring(lake.uri_of(prefix), checksum="sha256")) for prefix in ("single", "parts")
    ]
    assert strong[0].digest == strong[1].digest
    by_etag = run.log_artifact(referring(lake.uri_of("parts")))
    assert contents(by_etag.download(tmp_path / "by-etag")) == {"k": data}
    assert contents(strong[1].download(tmp_path / "strong")) == {"k": data}


# -- 11: keys


@on_every_kind()
def test_pitfall_11_awkward_keys_are_added_and_downloaded(lake: Lake, run: Run, tmp_path: Path) -> None:
    """Never a key that can be added but not downloaded, nor one that spoils its prefix, nor one that leads out."""
    keys = lake.kind.awkward
    for key in keys:
        lake.put(f"keys/{key}", key.encode())
    artifact = run.log_artifact(below(lake, "keys", list(keys)))
    assert {entry.uri for entry in artifact.entries()} == {lake.uri_of(f"keys/{key}") for key in keys}
    root = Path(artifact.download(tmp_path / "outer/root"))
    assert sorted(contents(root).values()) == sorted(key.encode() for key in keys)
    assert list((tmp_path / "outer").iterdir()) == [root]


# -- 12: no checksum


@on_every_kind()
def test_pitfall_12_references_without_checksum_can_be_downloaded(
    lake: Lake, run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Never a version that can be logged and not downloaded, nor bytes taken for right when nothing confirms them."""
    lake.put("d/k", b"bytes")
    artifact = run.log_artifact(referring(lake.uri_of("d/k"), checksum=False))
    assert [entry.content_id for entry in artifact.entries()] == ["none"]
    report = artifact.download_report(tmp_path / "root")
    assert contents(report.root) == {"k": b"bytes"}
    assert report.checked_by == {lake.kind.unidentified_rung: 1}
    is_unverified = lake.kind.unidentified_rung == "unverified"
    assert report.unverified == ["k"] * is_unverified
    artifact.download(tmp_path / "other-root")
    assert ("1 files could not be verified" in caplog.text) == is_unverified


# -- 13: the web


def test_pitfall_13_a_change_is_noticed_without_an_etag(
    refart_workspace: Workspace, nginx: Nginx, tmp_path: Path
) -> None:
    """Never a change that goes unnoticed without a word: by its time; else only a hash tells, and that is said."""
    site = nginx.site()
    site.put("k", b"logged")
    with refart_workspace.init() as run:
        by_time = run.log_artifact(referring(site.url("k", location="noetag")))
        by_nothing = run.log_artifact(referring(site.url("k", location="noetag-nolm")))
        by_hash = run.log_artifact(referring(site.url("k", location="noetag-nolm"), checksum="sha256"))
    assert (by_time.weak_count, by_nothing.weak_count, by_hash.weak_count) == (1, 1, 0)
    site.put("k", b"LOGGED")
    for artifact in (by_time, by_hash):
        with pytest.raises(ReferenceChangedError):
            artifact.download(tmp_path / artifact.version)
        assert contents(tmp_path / artifact.version) == {}
    assert by_nothing.download_report(tmp_path / "root").unverified == ["k"]


def test_pitfall_13_signatures_land_in_no_name_and_no_manifest(
    refart_workspace: Workspace, nginx: Nginx, tmp_path: Path
) -> None:
    """Never a signed query stored, or shown in an error; the rest of a query is part of the URI, never of the name."""
    site = nginx.site()
    site.put("k.csv", b"bytes")
    signed = site.url("k.csv") + "?part=1&X-Amz-Signature=5ec2e7&X-Amz-Credential=AKIA5ec2e7"
    refused = cli("put", signed, "-n", "things", code=InvalidInputError.exit_code)
    assert "5ec2e7" not in refused.stdout + refused.stderr
    cli("put", signed, "-n", "things", "--strip-signature")
    [entry] = cli("ls", "things:v0", "--json").documents
    assert (entry["path"], entry["uri"]) == ("k.csv", site.url("k.csv") + "?part=1")
    root = tmp_path / "root"
    cli("get", "things", "--root", str(root))
    assert contents(root) == {"k.csv": b"bytes"}


# -- 14: schemes


@on_every_kind()
def test_pitfall_14_every_scheme_that_can_be_tracked_can_be_downloaded(lake: Lake, tmp_path: Path) -> None:
    """Never a URI that is accepted and can only be looked at."""
    lake.put("d/k", b"bytes")
    own, _, rest = lake.uri_of("d/k").partition("://")
    assert own in lake.kind.schemes
    for scheme in lake.kind.schemes:
        cli("put", f"{scheme}://{rest}", "-n", f"by-{scheme}")
        cli("get", f"by-{scheme}", "--root", str(tmp_path / scheme))
        assert contents(tmp_path / scheme) == {"k": b"bytes"}


def test_pitfall_14_plain_paths_are_tracked_too(refart_workspace: Workspace, tmp_path: Path) -> None:
    """Nor a path, of a file or a folder."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "a").write_bytes(b"bytes")
    with refart_workspace.init() as run:
        for number, path in enumerate((source, str(source), source / "a", f"file://{source}/a")):
            artifact = run.log_artifact(referring(path))
            assert contents(artifact.download(tmp_path / f"root-{number}")) == {"a": b"bytes"}


def test_pitfall_14_no_scheme_is_left_out() -> None:
    """Nor a scheme that the test above does not try, but for https://, which is http:// with certificates."""
    assert BUILT_IN.keys() - {"https"} <= {scheme for kind in KINDS for scheme in kind.schemes}


def test_pitfall_14_what_cannot_be_read_is_refused_when_it_is_added(refart_workspace: Workspace) -> None:
    """Nor one that nobody reads."""
    with pytest.raises(InvalidInputError, match=r"gopher:// is not a scheme.*it reads .*file://.*s3://"):
        referring("gopher://host/a")


# -- 15: what is missing, what changed


@on_every_kind(Can.PURGE)
def test_pitfall_15_allow_missing_references_hides_nothing_that_changed(
    lake: Lake, run: Run, tmp_path: Path
) -> None:
    """Never a changed object left out in silence, because missing ones may be; alike for every kind of place."""
    names = ["gone", "changed", "kept"]
    versions = {name: lake.put(f"data/{name}", name.encode()) for name in names}
    artifact = run.log_artifact(below(lake, "data", names, checksum=known_again(lake)))
    lake.delete("data/gone")
    lake.put("data/changed", b"CHANGED")
    for name in ("gone", "changed"):
        lake.purge(f"data/{name}", versions[name])
    with pytest.raises(ReferenceChangedError, match="changed"):
        artifact.download(tmp_path / "root", allow_missing_references=True)
    assert "changed" not in contents(tmp_path / "root")

    lake.put("data/changed", b"changed")
    with pytest.raises(ReferenceMissingError, match="gone"):
        artifact.download(tmp_path / "root")
    report = artifact.download_report(tmp_path / "root", allow_missing_references=True)
    assert report.missing == ["gone"]
    assert contents(report.root) == {"changed": b"changed", "kept": b"kept"}


# -- 16: names that meet


@on_every_kind()
def test_pitfall_16_two_references_of_one_basename_never_replace_each_other(lake: Lake) -> None:
    """Never the second URI in place of the first without a word."""
    uris = [lake.uri_of(f"{folder}/part.csv") for folder in ("one", "two")]
    for folder in ("one", "two"):
        lake.put(f"{folder}/part.csv", b"the same bytes")
    artifact = Artifact("things", "dataset")
    with pytest.raises(
        InvalidInputError, match=r"one/part\.csv.*two/part\.csv.*meet in the path 'part\.csv'"
    ):
        artifact.add_references(uris)
    assert paths(artifact) == []
    artifact.add_reference(uris[0])
    with pytest.raises(ConflictError, match=r"part\.csv.*overwrite"):
        artifact.add_reference(uris[1])
    assert [entry.uri for entry in artifact.entries()] == uris[:1]

    by_base = Artifact("things", "dataset")
    by_base.add_references(uris, base=lake.uri)
    assert paths(by_base) == ["one/part.csv", "two/part.csv"]


# -- overwritten while it is downloaded

OLD, NEW = b"o" * 17_000_000, b"n" * 17_000_000
"""More than any source asks for at once, and than any server has on its way."""


def logged_bytes_or_nothing(artifact: Artifact, root: Path) -> None:
    allowed: list[dict[str, bytes]] = [{}]
    with suppress(RefartError):
        artifact.download(root)
        allowed = [{"k": OLD}]
    is_allowed = contents(root) in allowed  # outside of the assert, which would show what differs in 17 MB
    assert is_allowed


@on_every_kind()
@pytest.mark.parametrize("checksum", [True, False, "sha256"], ids=["as listed", "unchecked", "sha256"])
def test_an_object_overwritten_while_it_is_downloaded(
    lake: Lake, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checksum: Checksum
) -> None:
    """The logged bytes or an error: never a mix, never the new bytes under the old name.

    A server that breaks its word itself, and mixes two writes in one answer, is caught by a hash alone.
    """
    lake.put("d/k", OLD)
    artifact = run.log_artifact(referring(lake.uri_of("d/k"), checksum=checksum))
    overwrite = lake.overwrite if checksum == "sha256" or lake.kind.can(Can.WHOLE) else lake.put
    chunks: list[int] = []

    def overwrite_once() -> None:
        chunks.append(1)
        if len(chunks) == 1:
            overwrite("d/k", NEW)

    monkeypatch.setattr(stream, "check_stopped", overwrite_once)  # passed between any two chunks
    logged_bytes_or_nothing(artifact, tmp_path / "root")
    assert chunks


@on_every_kind(behind_proxy=True)
@pytest.mark.parametrize("checksum", [True, False], ids=["as listed", "unchecked"])
def test_an_object_overwritten_where_its_download_breaks_off(
    lake: Lake, run: Run, tmp_path: Path, checksum: Checksum
) -> None:
    """What follows comes from the same object, or not at all."""
    lake.put("d/k", OLD)
    artifact = run.log_artifact(referring(lake.uri_of("d/k"), checksum=checksum))
    lake.spoil("GET", times=1, cut_at=5_000_000, then=lambda: lake.overwrite("d/k", NEW))
    logged_bytes_or_nothing(artifact, tmp_path / "root")
