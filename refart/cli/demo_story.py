"""What `refart demo` tells: the whole story on real calls. Every claim is checked before it is told."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from refart.cli.demo_files import edited, lake_files, picture
from refart.cli.diff import sizes
from refart.cli.history import lineage_tree
from refart.cli.output import Step, branches
from refart.errors import RefartError
from refart.progress import format_bytes

if TYPE_CHECKING:
    from refart.artifact import Artifact
    from refart.ops.status import StatusSummary
    from refart.s3server import S3Server
    from refart.workspace import Workspace

_BUCKET: Final = "lake"
_LABELS: Final = "photos/labels/2026-03.csv"
_CHANGED: Final = (_LABELS, "photos/cameras/camera-07.json", "photos/train/cat-005.png")
_ADDED: Final = "photos/test/fox-000.png"
_REMOVED: Final = "photos/train/dog-003.png"
_OVERWRITTEN: Final = "photos/train/"
_DELETED: Final = "photos/labels/"
_PUT: Final = "refart put s3://lake/photos -n photos"
_GET: Final = "refart get photos:v0 --root data"


class DemoError(RefartError):
    """Something the demo claims does not hold."""


def _claim(holds: bool, what: str) -> None:
    if not holds:
        raise DemoError(f"this should hold and does not: {what}")


class Story:
    """What refart does, done to a real bucket: a lake moves on; then it has an accident."""

    def __init__(self, server: S3Server, workspace: Workspace, root: Path) -> None:
        self._server, self._s3, self._workspace, self._root = server, server.client, workspace, root
        self._files = dict(lake_files())

    def steps(self) -> Iterator[Step]:
        """The story, a step at a time, each checked before it is told."""
        yield self.a_lake()
        yield self.log()
        yield self.train()
        yield self.the_lake_moves_on()
        yield self.log_again()
        yield self.compare()
        yield self.back_to_v0()
        yield self.same_bytes_again()
        yield self.lineage()
        yield self.an_accident()
        yield self.what_is_lost()
        yield self.restore()
        yield self.as_it_was()
        yield Step(
            "Now yours",
            "refart put s3://your-bucket/prefix -n my-data\nrefart put --reference ./folder -n my-data\n"
            "refart get my-data:v0\nrefart --help",
            ["docs/concepts.md tells what happens behind these lines."],
            {},
        )

    def a_lake(self) -> Step:
        self._s3.create_bucket(Bucket=_BUCKET)
        self._s3.put_bucket_versioning(Bucket=_BUCKET, VersioningConfiguration={"Status": "Enabled"})
        for key, data in self._files.items():
            self._write(key, data)
        kinds = Counter(Path(key).suffix for key in self._files)
        size_bytes = sum(map(len, self._files.values()))
        listed = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
        lines = [
            f"{len(self._files)} files, {format_bytes(size_bytes)}: {listed}",
            "in a bucket that keeps old versions, on an S3 in this process",
        ]
        code = "aws s3 sync photos s3://lake/photos"
        return Step(
            "A lake with some data", code, lines, {"files": len(self._files), "size_bytes": size_bytes}
        )

    def log(self) -> Step:
        version, requests = self._put()
        _claim(version.created and version.version == "v0", "the first log makes v0")
        _claim(version.file_count == len(self._files), "every file is an entry")
        _claim(all(entry.pin is not None for entry in version.entries()), "every entry is pinned")
        lines = self._logged(version, requests)
        lines.append("every entry is pinned to the S3 version that was listed")
        return Step("Log it: by reference, no byte is copied", _PUT, lines, _facts(version, requests))

    def train(self) -> Step:
        model_file = self._root.with_name("model.json")
        with self._workspace.init(job_type="train") as run:
            photos = run.use_artifact("photos:v0")
            model_file.write_text(json.dumps({"trained_on": photos.digest}))
            model = run.log_artifact(model_file, name="model", type="model")
        _claim([user.id for user in photos.used_by()] == [run.id], "the run is known as a user of v0")
        code = (
            'with refart.init(job_type="train") as run:\n'
            '    photos = run.use_artifact("photos:v0")\n'
            '    run.log_artifact("model.json", name="model", type="model")'
        )
        lines = [f"{model.qualified_name}, made by run {run.id} from {photos.qualified_name}"]
        return Step(
            "Train on it; the run remembers", code, lines, {"model": model.qualified_name, "run": run.id}
        )

    def the_lake_moves_on(self) -> Step:
        for key in _CHANGED:
            self._write(key, edited(key, self._files[key]))
        self._write(_ADDED, picture(_ADDED))
        self._s3.delete_object(Bucket=_BUCKET, Key=_REMOVED)
        lines = [*(f"changed  {key}" for key in _CHANGED), f"added    {_ADDED}", f"deleted  {_REMOVED}"]
        facts = {"changed": _CHANGED, "added": [_ADDED], "deleted": [_REMOVED]}
        return Step("The lake moves on", "aws s3 cp …; aws s3 rm …", lines, facts)

    def log_again(self) -> Step:
        version, requests = self._put()
        _claim(version.created and version.version == "v1", "other content makes v1")
        return Step("Log it again", _PUT, self._logged(version, requests), _facts(version, requests))

    def compare(self) -> Step:
        changes = self._workspace.artifact("photos:v0").diff(self._workspace.artifact("photos:v1"))
        rows = [row for page in changes for row in page.to_pylist()]
        found = {f"photos/{row['path']}": row["change"] for row in rows}
        expected = dict.fromkeys(_CHANGED, "modified") | {_ADDED: "added", _REMOVED: "removed"}
        _claim(found == expected, "the diff is what was done to the bucket, no more and no less")
        width = max(len(row["path"]) for row in rows)
        lines = [f"{row['change']:8}  {row['path']:{width}}  {sizes(row)}" for row in rows]
        return Step("What changed?", "refart diff photos:v0 photos:v1", lines, {"changes": found})

    def back_to_v0(self) -> Step:
        artifact = self._workspace.artifact("photos:v0")
        with self._workspace.init(job_type="get") as run:
            report = run.use_artifact(artifact).download_report(self._root)
        here = {
            f"photos/{p.relative_to(self._root).as_posix()}": p for p in self._root.rglob("*") if p.is_file()
        }
        _claim({key: p.read_bytes() for key, p in here.items()} == self._files, "the folder holds v0's bytes")
        _claim(artifact.verify_report(self._root).ok_files == report.files, "every file verifies by its hash")
        live = self._s3.get_object(Bucket=_BUCKET, Key=_LABELS)["Body"].read()
        now, then = _first_difference(live, self._files[_LABELS])
        _claim(now != then, "the bucket holds other bytes today")
        again = artifact.download_report(self._root)
        _claim(again.moved_bytes == 0 and again.kept_files == report.files, "a second download moves nothing")
        lines = [
            f"{report.files} files, {format_bytes(report.moved_bytes)} moved, every byte verified by its hash",
            f"in the bucket today   {_LABELS}: {now}",
            f"in data, as logged    {_LABELS}: {then}",
            f"deleted in the bucket, back in data: {_REMOVED}",
            f"once more: {again.kept_files} files kept, {format_bytes(again.moved_bytes)} moved",
        ]
        facts = {
            "files": report.files,
            "moved_bytes": report.moved_bytes,
            "moved_again_bytes": again.moved_bytes,
        }
        return Step("v0 as it was, byte by byte, although the bucket moved on", _GET, lines, facts)

    def same_bytes_again(self) -> Step:
        key = "photos/cameras/camera-01.json"
        self._write(key, self._files[key])
        version, requests = self._put()
        _claim(not version.created and version.version == "v1", "the same content makes no version")
        lines = [
            f"{version.qualified_name}, unchanged: a new S3 version of {key} with the same bytes is no news"
        ]
        return Step("The same bytes again make no version", _PUT, lines, _facts(version, requests))

    def lineage(self) -> Step:
        graph = self._workspace.artifact("model").lineage("upstream")
        names = {str(row.key) for row in graph.versions}
        _claim(
            names == {"default/model:v0", "default/photos:v0"},
            "the model came from v0, not from what came later",
        )
        lines = list(branches(lineage_tree(graph, ["upstream"])))
        return Step(
            "What is this model made of?", "refart lineage model --up", lines, {"versions": sorted(names)}
        )

    # -- the second act ------------------------------------------------------------------------------

    def an_accident(self) -> Step:
        overwritten, deleted = (sorted(self._keys(prefix)) for prefix in (_OVERWRITTEN, _DELETED))
        for key in overwritten:
            self._write(key, b"")
        for key in deleted:
            self._s3.delete_object(Bucket=_BUCKET, Key=key)
        lines = [
            f"a script writes empty files over all {len(overwritten)} pictures of {_OVERWRITTEN}",
            f"and deletes all {len(deleted)} tables of {_DELETED}",
        ]
        facts = {"overwritten": len(overwritten), "deleted": len(deleted)}
        return Step("An accident in the lake", "aws s3 sync --delete …", lines, facts)

    def what_is_lost(self) -> Step:
        summary, requests = self._status()
        kept = summary.pins["superseded"]
        _claim(summary.has_drift and not summary.has_loss, "the lake drifted, and no byte is lost")
        _claim(
            kept == summary.entries["modified"] + summary.entries["removed"], "old versions keep all of it"
        )
        lines = [
            f"{summary.entries['modified']} modified, {summary.entries['removed']} removed,"
            f" {summary.entries['unchanged']} unchanged; lost for good: {summary.pins['lost']}",
            f"the bytes that were logged are kept as old versions of {kept} objects",
            f"requests to S3: {_asked(requests)}",
        ]
        return Step("What happened to photos:v1?", "refart status photos:v1", lines, _drift(summary))

    def restore(self) -> Step:
        artifact = self._workspace.artifact("photos:v1")
        plan = artifact.restore_plan()
        self._server.requests.clear()
        report = plan.execute()
        requests = dict(Counter(self._server.requests.operations))
        _claim(
            requests["CopyObject"] == report.restored_files == plan.counts["copy"], "one copy for each change"
        )
        _claim(
            "GetObject" not in requests and "PutObject" not in requests, "no byte moves through this machine"
        )
        _claim(not report.unverified and not report.conflicts, "every copy is what was logged")
        lines = [
            f"{report.restored_files} objects, {format_bytes(report.restored_bytes)} restored,"
            f" {plan.unchanged_files} left as they are",
            f"requests to S3: {_asked(requests)}; bytes through this machine: 0",
        ]
        facts = {"restored_files": report.restored_files, "requests": requests}
        return Step(
            "Bring it back: S3 copies the old versions itself", "refart restore photos:v1", lines, facts
        )

    def as_it_was(self) -> Step:
        summary, _ = self._status()
        _claim(not summary.has_drift and not summary.has_loss, "the lake is what was logged again")
        live = self._s3.get_object(Bucket=_BUCKET, Key=_OVERWRITTEN + "cat-000.png")["Body"].read()
        _claim(live == self._files[_OVERWRITTEN + "cat-000.png"], "a restored picture has its bytes")
        lines = [f"{summary.entries['unchanged']} unchanged, no drift"]
        return Step("As if nothing had happened", "refart status photos:v1", lines, _drift(summary))

    # -- what the steps share ------------------------------------------------------------------------

    def _write(self, key: str, data: bytes) -> None:
        self._s3.put_object(Bucket=_BUCKET, Key=key, Body=data)

    def _put(self) -> tuple[Artifact, dict[str, int]]:
        self._server.requests.clear()
        draft = self._workspace.draft("photos")
        draft.add_reference(f"s3://{_BUCKET}/photos")
        with self._workspace.init(job_type="put") as run:
            version = run.log_artifact(draft)
        requests = dict(Counter(self._server.requests.operations))
        _claim("GetObject" not in requests and "HeadObject" not in requests, "logging reads no object")
        _claim(version.stored_size == 0, "logging by reference stores no byte")
        return version, requests

    def _status(self) -> tuple[StatusSummary, dict[str, int]]:
        self._server.requests.clear()
        summary = self._workspace.artifact("photos:v1").status().read()
        return summary, dict(Counter(self._server.requests.operations))

    def _keys(self, prefix: str) -> list[str]:
        listed = self._s3.list_objects_v2(Bucket=_BUCKET, Prefix=prefix)
        return [found["Key"] for found in listed["Contents"]]

    def _logged(self, version: Artifact, requests: Mapping[str, int]) -> list[str]:
        return [
            f"{version.qualified_name}  {version.file_count} entries, {format_bytes(version.size)} referenced",
            f"requests to S3: {_asked(requests)}; bytes copied: {version.stored_size}",
        ]


def _facts(version: Artifact, requests: Mapping[str, int]) -> dict[str, Any]:
    return {
        "name": version.qualified_name,
        "created": version.created,
        "entries": version.file_count,
        "copied_bytes": version.stored_size,
        "requests": requests,
    }


def _drift(summary: StatusSummary) -> dict[str, Any]:
    return {"drift": summary.has_drift, "loss": summary.has_loss, "entries": dict(summary.entries)}


def _asked(requests: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in requests.items())


def _first_difference(left: bytes, right: bytes) -> tuple[str, str]:
    """The first lines that differ."""
    pairs = zip(left.decode().splitlines(), right.decode().splitlines(), strict=True)
    return next((pair for pair in pairs if pair[0] != pair[1]), ("", ""))
