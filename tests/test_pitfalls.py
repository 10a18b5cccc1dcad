"""What goes wrong in the systems people use today, each a test that it does not go wrong here.

Named after a list of pitfalls that were met in other artifact stores; a docstring says what users must never meet.
Those of references are in `test_reference_pitfalls.py`, for every kind of place; here is what S3 is asked for.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from refart import Artifact, Run, Workspace
from refart.cli import main as command_line
from refart.errors import (
    ChecksumError,
    InvalidInputError,
    ReferenceChangedError,
)
from refart.progress import Task
from refart.testing import Lake, S3Requests, S3Server
from tests.artifacts import contents, paths, referring
from tests.children import good, run_python, start_python
from tests.faults import FaultProxy
from tests.footprints import files_below, store_files


@pytest.fixture
def run(refart_workspace: Workspace) -> Iterator[Run]:
    with refart_workspace.init(job_type="test") as run:
        yield run


# -- references -------------------------------------------------------------------------------------


def test_pitfall_05_300_objects_cost_one_listing_and_no_head(
    versioned_lake: Lake, s3_requests: S3Requests
) -> None:
    """Never one HEAD an object: the listing tells the version ids."""
    for number in range(300):
        versioned_lake.put(f"many/{number:03d}", b"x")
    s3_requests.clear()
    artifact = referring(f"{versioned_lake.uri}/many")
    assert s3_requests.count("ListObjectVersions") == 1
    assert s3_requests.count() - s3_requests.count("GetBucketVersioning") == 1
    assert artifact.file_count == 300
    assert all((entry.pin or "").startswith("version:") for entry in artifact.entries())


@pytest.mark.parametrize("kind", ["versioned", "unversioned"])
def test_pitfall_06_a_download_costs_one_get_an_object(
    run: Run, request: pytest.FixtureRequest, s3_requests: S3Requests, tmp_path: Path, kind: str
) -> None:
    """Never a HEAD before, after or beside the one conditional GET."""
    lake: Lake = request.getfixturevalue(f"{kind}_lake")
    artifact = run.log_artifact(referring(lake.uri))
    s3_requests.clear()
    root = artifact.download(tmp_path / "root")
    assert s3_requests.operations == ["GetObject"] * artifact.file_count
    s3_requests.clear()
    artifact.download(root)
    assert s3_requests.operations == []


def test_pitfall_06_a_changed_object_is_noticed_by_that_one_get(
    run: Run, unversioned_lake: Lake, s3_requests: S3Requests, tmp_path: Path
) -> None:
    """Never other bytes than those logged: the condition of the GET fails."""
    artifact = run.log_artifact(referring(f"{unversioned_lake.uri}/README.txt"))
    unversioned_lake.put("README.txt", b"A large lake.\n")
    s3_requests.clear()
    with pytest.raises(ReferenceChangedError, match=r"README\.txt.*s3://unversioned-lake/README\.txt"):
        artifact.download(tmp_path / "root")
    assert s3_requests.count("GetObject") == 1
    assert contents(tmp_path / "root") == {}


@pytest.mark.parametrize(
    "unasked", [(), ("x-amz-checksum-mode",)], ids=["with the server's checksum", "by the ETag alone"]
)
def test_pitfall_07_garbled_bytes_of_the_right_size_never_pass(
    run: Run,
    versioned_lake: Lake,
    s3_server: S3Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    unasked: tuple[str, ...],
) -> None:
    """Never bytes that were not hashed on arrival, whatever their size and pin say."""
    artifact = run.log_artifact(referring(f"{versioned_lake.uri}/README.txt"))
    with faulty(s3_server, monkeypatch) as proxy:
        proxy.add("GetObject", garble=True, ignored=unasked)
        with pytest.raises(ChecksumError, match=r"README\.txt.*s3://versioned-lake/README\.txt"):
            artifact.download(tmp_path / "root")
        with pytest.raises(ChecksumError, match=r"expected md5:[0-9a-f]{32}, found md5:"):
            artifact.open("README.txt").read()
    assert contents(tmp_path / "root") == {}


@contextmanager
def faulty(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """A proxy before the server, which all requests go through from now on."""
    proxy = FaultProxy(server.url)
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
    try:
        yield proxy
    finally:
        proxy.close()


# -- files, cache, versions -------------------------------------------------------------------------


def cached_files() -> list[Path]:
    return [path for path in Path(os.environ["REFART_CACHE"], "objects").rglob("*") if path.is_file()]


def test_pitfall_18_a_corrupted_cache_file_is_never_served(
    run: Run, versioned_lake: Lake, s3_requests: S3Requests, tmp_path: Path
) -> None:
    """Never a cache hit that means "same size" or "same time": cached bytes are hashed whenever they are used."""
    artifact = run.log_artifact(referring(f"{versioned_lake.uri}/README.txt"))
    artifact.download(tmp_path / "first", link="copy")
    [cached] = cached_files()
    stat = cached.stat()
    cached.chmod(0o644)
    cached.write_bytes(b"A large lake.\n")
    os.utime(cached, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert cached.stat().st_size == stat.st_size

    s3_requests.clear()
    report = artifact.download_report(tmp_path / "second")
    assert contents(report.root) == {"README.txt": b"A small lake.\n"}
    assert s3_requests.operations == ["GetObject"]
    s3_requests.clear()
    assert artifact.download_report(tmp_path / "third").cached_files == 1
    assert contents(tmp_path / "third") == {"README.txt": b"A small lake.\n"}
    assert s3_requests.operations == []


def test_pitfall_18_an_edited_file_with_an_older_mtime_is_noticed(
    run: Run, versioned_lake: Lake, tmp_path: Path
) -> None:
    """Never "unchanged" because the modified time did not grow."""
    artifact = run.log_artifact(referring(f"{versioned_lake.uri}/README.txt"))
    file = Path(artifact.download(tmp_path / "root", link="copy"), "README.txt")
    file.write_bytes(b"A large lake.\n")
    os.utime(file, (1_000_000_000, 1_000_000_000))
    assert artifact.verify_report(tmp_path / "root").modified == ["README.txt"]
    artifact.download(tmp_path / "root")
    assert file.read_bytes() == b"A small lake.\n"


def test_pitfall_18_an_edited_file_with_an_older_mtime_is_added_with_its_new_bytes(
    run: Run, tmp_path: Path
) -> None:
    """Never the remembered hash of what a file held before."""
    file = tmp_path / "file"
    file.write_text("before")
    first = run.log_artifact(file, name="things")
    file.write_text("behind")
    os.utime(file, (1_000_000_000, 1_000_000_000))
    second = run.log_artifact(file, name="things")
    assert (first.version, second.version) == ("v0", "v1")
    assert second.open("file").read() == b"behind"


def test_pitfall_18_one_download_without_the_cache_spoils_no_later_one(
    run: Run, versioned_lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never the wrong file after the cache was switched off once."""
    artifact = run.log_artifact(referring(f"{versioned_lake.uri}/raw"))
    with monkeypatch.context() as without:
        without.setenv("REFART_CACHE_BYTES", "0")
        with Workspace.open() as workspace:
            uncached = contents(workspace.artifact("things").download(tmp_path / "uncached"))
    assert cached_files() == []
    assert contents(artifact.download(tmp_path / "first")) == uncached
    assert contents(artifact.download(tmp_path / "second")) == uncached


def test_pitfall_19_bytes_are_held_once(run: Run, versioned_lake: Lake, tmp_path: Path) -> None:
    """Never two or three copies (cache, staging, target) where the file system can link."""
    artifact = run.log_artifact(referring(f"{versioned_lake.uri}/raw"))
    roots = [Path(artifact.download(tmp_path / name, link="hardlink")) for name in ("one", "two")]
    cached = {path.stat().st_ino for path in cached_files()}
    for root in roots:
        inodes = {path.stat().st_ino for path in root.rglob("*") if path.is_file()}
        assert inodes == cached
    assert {path.stat().st_nlink for path in cached_files()} == {3}
    below = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path for path in below if path.name.startswith(".refart-")] == []


def test_pitfall_19_the_cache_has_a_bound(
    run: Run, versioned_lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never a cache that grows without end."""
    for number in range(10):
        versioned_lake.put(f"big/{number}", bytes([number]) * 1000)
    run.log_artifact(referring(f"{versioned_lake.uri}/big"))
    monkeypatch.setenv("REFART_CACHE_BYTES", "3500")
    with Workspace.open() as workspace:
        root = workspace.artifact("things").download(tmp_path / "root")
    assert len(contents(root)) == 10
    assert 0 < sum(path.stat().st_size for path in cached_files()) <= 3500


def test_pitfall_20_foreign_files_stay_unless_pruning_is_asked_for(
    run: Run, versioned_lake: Lake, tmp_path: Path
) -> None:
    """Never a file of the user deleted without asking."""
    artifact = run.log_artifact(referring(versioned_lake.uri))
    root = tmp_path / "root"
    (root / "raw/mine").mkdir(parents=True)
    (root / "raw/mine/notes.txt").write_text("mine")
    artifact.download(root)
    artifact.checkout(root)
    assert (root / "raw/mine/notes.txt").read_text() == "mine"
    artifact.checkout(root, prune=True)
    assert sorted(contents(root)) == paths(artifact)


def test_pitfall_20_pruning_is_refused_where_it_would_hurt(
    run: Run, versioned_lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never a home or working folder emptied, not even on request."""
    artifact = run.log_artifact(referring(versioned_lake.uri))
    here = tmp_path / "a/b"
    here.mkdir(parents=True)
    monkeypatch.chdir(here)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    before = files_below(tmp_path / "a")
    for root in (".", "..", tmp_path, tmp_path / "home", "/"):
        with pytest.raises(InvalidInputError, match="removes no files there"):
            artifact.download_report(root, prune=lambda _: pytest.fail("it would have been pruned"))
    assert files_below(tmp_path / "a") == before


def test_pitfall_21_the_default_folder_is_a_plain_name_on_every_system(
    run: Run, versioned_lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never a colon in the name of a folder."""
    artifact = run.log_artifact(referring(versioned_lake.uri))
    monkeypatch.chdir(tmp_path)
    assert artifact.download() == "./artifacts/things-v0"
    assert Path("artifacts/things-v0/README.txt").is_file()


def test_pitfall_22_logging_unchanged_content_keeps_what_the_run_said(
    refart_workspace: Workspace, versioned_lake: Lake
) -> None:
    """Never the metadata or the output edge of a run dropped because it found nothing new."""
    runs = []
    for number in range(2):
        with refart_workspace.init() as run:
            artifact = Artifact("things", "dataset", f"said by {number}", {"run": number})
            artifact.add_reference(versioned_lake.uri)
            logged = run.log_artifact(artifact, aliases=[f"alias-{number}"], tags=[f"tag-{number}"])
            runs.append(run)
    assert (logged.version, logged.created) == ("v0", False)
    found = refart_workspace.artifact("things")
    assert (found.description, found.metadata) == ("said by 1", {"run": 1})
    assert sorted(found.aliases) == ["alias-0", "alias-1", "latest"]
    assert sorted(found.tags) == ["tag-0", "tag-1"]
    for run in runs:
        assert [a.qualified_name for a in run.logged_artifacts()] == ["default/things:v0"]
    [old, *_] = [row.detail for row in refart_workspace.audit() if row.action == "version.log_again"]
    assert old["metadata"] == {"old": {"run": 0}, "new": {"run": 1}}


LOG_AT_ONCE = """
import sys, refart
with refart.init() as run:
    print("ready", flush=True)
    sys.stdin.readline()
    for name, text in (("differing", sys.argv[1]), ("same", "the same in all")):
        artifact = refart.Artifact(name, "dataset")
        with artifact.new_file("file.txt") as file:
            file.write(text)
        run.log_artifact(artifact)
"""


def test_pitfall_23_logging_at_the_same_time_loses_and_doubles_nothing(refart_workspace: Workspace) -> None:
    """Never "rebase required", never a lost or a second version of the same content."""
    children = [start_python(LOG_AT_ONCE, f"content {number}") for number in range(4)]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n", child.finished().stderr
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    for child in children:
        good(child.finished())

    versions = refart_workspace.artifacts("differing")
    assert sorted(a.version for a in versions) == ["v0", "v1", "v2", "v3"]
    assert sorted(a.open("file.txt").read() for a in versions) == [b"content %d" % n for n in range(4)]
    assert [a.version for a in refart_workspace.artifacts("same")] == ["v0"]
    logged = [[a.qualified_name for a in run.logged_artifacts()] for run in refart_workspace.runs()]
    assert all("default/same:v0" in names for names in logged)
    assert len(logged) == 4


PLUGIN = '''
import pyarrow as pa
from refart.entries import SCHEMA
from refart.sources.base import Scan

ROWS, PAGE = 200_000, 10_000


class Endless:
    """A source of many objects that exist nowhere."""

    def __init__(self, options):
        pass

    def scan(self, uri, *, identify="best", keep=None, on_page=None):
        def pages():
            for start in range(0, ROWS, PAGE):
                # Not in the order of their paths, as some servers list them.
                paths = [f"{n * 7919 % ROWS:08d}/part-{n:024x}.parquet" for n in range(start, start + PAGE)]
                columns = {
                    "path": paths,
                    "size": range(start, start + PAGE),
                    "content_id": [f"md5:{n:032x}" for n in range(start, start + PAGE)],
                    "uri": [f"{uri}/{path}" for path in paths],
                    "pin": [f"version:{n:032x}" for n in range(start, start + PAGE)],
                }
                yield pa.RecordBatch.from_pydict(columns, schema=SCHEMA)

        return Scan(False, pages())

    def stat(self, uri):
        return None

    def fetch(self, entry):
        raise NotImplementedError

    open = fetch
'''

LOG_MANY = """
import resource, refart
from refart.sources import registry
import plugin

def peak_bytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

with refart.init() as run:
    small = refart.Artifact("small", "dataset")
    with small.new_file("file.txt") as file:
        file.write("everything that is needed is loaded now")
    run.log_artifact(small)
    next(iter(plugin.Endless({}).scan("endless://x").pages))
    before = peak_bytes()
    many = refart.Artifact("many", "dataset")
    many.add_reference("endless://x")
    logged = run.log_artifact(many)
    print(logged.file_count, peak_bytes() - before)
"""


def test_pitfall_24_memory_and_manifest_stay_small(refart_workspace: Workspace, tmp_path: Path) -> None:
    """Never 2 KB of memory and 260 bytes on disk an entry: 200,000 entries took a gigabyte elsewhere."""
    (tmp_path / "plugin.py").write_text(PLUGIN)
    info = tmp_path / "endless-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: endless\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[refart.sources]\nendless = plugin:Endless\n")
    count, grown_bytes = good(run_python(LOG_MANY, cwd=tmp_path)).split()
    assert int(count) == 200_000
    assert int(grown_bytes) < 200 << 20
    stored_bytes = sum(size for size, _, _ in store_files(refart_workspace).values())
    assert stored_bytes / 200_000 < 60


def test_pitfall_25_include_and_exclude_on_add_and_download(
    run: Run, versioned_lake: Lake, s3_requests: S3Requests, tmp_path: Path
) -> None:
    """Never all or nothing."""
    artifact = run.log_artifact(referring(versioned_lake.uri, include=["*.csv", "*.json"], exclude="b.csv"))
    assert paths(artifact) == ["raw/2026/a.csv", "raw/labels.json"]
    s3_requests.clear()
    root = artifact.download(tmp_path / "root", include="raw/", exclude="*.json")
    assert set(contents(root)) == {"raw/2026/a.csv"}
    assert s3_requests.operations == ["GetObject"]


def test_pitfall_25_a_diff_has_a_summary(run: Run, versioned_lake: Lake) -> None:
    """Never two lists for the user to compare."""
    before = run.log_artifact(referring(versioned_lake.uri))
    versioned_lake.put("README.txt", b"A lake that grew.\n")
    versioned_lake.put("new.txt", b"12345")
    versioned_lake.delete("raw/labels.json")
    after = run.log_artifact(referring(versioned_lake.uri))
    diff = before.diff(after)
    changes = [row for page in diff for row in zip(*page.to_pydict().values(), strict=True)]
    assert [row[:2] for row in changes] == [
        ("README.txt", "modified"),
        ("new.txt", "added"),
        ("raw/labels.json", "removed"),
    ]
    summary = diff.summary
    assert (summary.added, summary.removed, summary.modified, summary.relocated) == (1, 1, 1, 0)
    assert (summary.added_bytes, summary.removed_bytes) == (5, 15)
    assert (summary.old_modified_bytes, summary.new_modified_bytes) == (14, 18)


def test_pitfall_25_uris_are_listed_without_a_download(
    run: Run, versioned_lake: Lake, s3_requests: S3Requests
) -> None:
    """Never a byte moved to see where the bytes lie."""
    artifact = run.log_artifact(referring(f"{versioned_lake.uri}/raw"))
    s3_requests.clear()
    uris = [entry.ref_target() for entry in artifact.entries("2026")]
    assert uris == [f"{versioned_lake.uri}/raw/2026/{name}.csv" for name in "ab"]
    assert s3_requests.operations == []


def test_pitfall_25_versions_are_found_by_metadata_and_use(
    run: Run, versioned_lake: Lake, refart_workspace: Workspace
) -> None:
    """Never a search through every version by hand."""
    for number, key in enumerate(("README.txt", "raw/labels.json")):
        artifact = Artifact("things", "dataset", metadata={"number": number, "kind": "test"})
        artifact.add_reference(f"{versioned_lake.uri}/{key}")
        run.log_artifact(artifact)
    found = refart_workspace.artifacts(metadata={"number": 0, "kind": "test"})
    assert [a.version for a in found] == ["v0"]
    with refart_workspace.init(job_type="reader") as reader:
        reader.use_artifact("things:v0")
    assert [user.id for user in found[0].used_by()] == [reader.id]


class Listening:
    """A reporter that remembers what it was told."""

    def __init__(self) -> None:
        self.told: dict[str, list[int]] = {}
        self.totals: dict[str, int | None] = {}

    @contextmanager
    def task(self, label: str, *, total: int | None = None, unit: str = "entries") -> Iterator[Task]:
        told = self.told.setdefault(label, [0, 0])
        self.totals[label] = total

        class Told:
            def advance(self, count: int = 1, *, size_bytes: int = 0) -> None:
                told[0] += count
                told[1] += size_bytes

        yield Told()


def test_pitfall_25_long_work_reports_its_progress(
    refart_workspace: Workspace, versioned_lake: Lake, tmp_path: Path
) -> None:
    """Never silence for hours."""
    reporter = Listening()
    (tmp_path / "file").write_bytes(b"x" * 100)
    with Workspace.open(refart_workspace.url, reporter=reporter) as workspace, workspace.init() as run:
        artifact = workspace.draft("things")
        artifact.add_reference(versioned_lake.uri, name="lake")
        artifact.add_file(tmp_path / "file")
        logged = run.log_artifact(artifact)
        root = logged.download(tmp_path / "root")
        logged.verify(root)
    lake_bytes = logged.referenced_size
    assert reporter.told == {
        f"Listing {versioned_lake.uri}": [4, 0],
        "Storing files": [1, 100],
        f"Downloading to {root}": [5, lake_bytes + 100],
        f"Verifying {root}": [5, lake_bytes + 100],
    }
    assert reporter.totals[f"Downloading to {root}"] == 5


READ = """
import sys, refart
artifact = refart.Api(sys.argv[1]).artifact("things:v0")
print(*(entry.uri for entry in artifact.entries()))
print(artifact.download("root"))
"""


def test_pitfall_26_reading_needs_the_folder_and_nothing_else(
    run: Run, refart_workspace: Workspace, tmp_path: Path
) -> None:
    """Never a server to start or ask: a copy of the workspace's folder reads alike, anywhere."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "a").write_text("bytes")
    run.log_artifact(referring(source))
    run.finish()
    refart_workspace.close()
    shutil.move(refart_workspace.url, tmp_path / "moved")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    done = run_python(
        READ, tmp_path / "moved", cwd=elsewhere, REFART_URL="", REFART_CACHE=str(elsewhere / "cache")
    )
    assert good(done).split() == [f"file://{source}/a", "root"]
    assert contents(elsewhere / "root") == {"a": b"bytes"}
    assert not Path(refart_workspace.url).exists()


def test_pitfall_27_one_rule_for_names_wherever_they_are_typed(
    run: Run,
    refart_workspace: Workspace,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Never a name that one face takes and another refuses, nor one that fails without a word."""
    (tmp_path / "file").write_text("x")
    long = "n" * 129
    said = set()
    for attempt in (
        lambda: Artifact(long, "dataset"),
        lambda: run.log_artifact(tmp_path / "file", name=long),
        lambda: run.use_artifact(long),
        lambda: refart_workspace.artifact(f"{long}:latest"),
        lambda: refart_workspace.draft(long),
    ):
        with pytest.raises(InvalidInputError, match="1 to 128 of the characters") as error:
            attempt()
        said.add(str(error.value))
    assert len(said) == 1
    monkeypatch.setattr("sys.argv", ["refart", "put", str(tmp_path / "file"), "-n", long])
    with pytest.raises(SystemExit) as exit_info:
        command_line()
    assert exit_info.value.code == InvalidInputError.exit_code
    assert "1 to 128 of the characters" in " ".join(capsys.readouterr().err.split())
