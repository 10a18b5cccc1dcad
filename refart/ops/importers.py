"""Take over what W&B and DVC recorded of objects in the cloud: references with the versions that they pin.

Nothing is asked of the source: entries are what the file says. Bytes that lie in W&B's own storage or in DVC's cache
are no objects that a reference could name; a file with such entries is refused.
"""

from __future__ import annotations

import base64
import configparser
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from types import NoneType
from typing import Any, Final

from refart import checksums, names
from refart.entries import BATCH_ROWS, Entry, check_page, page_of
from refart.errors import FormatError, InvalidInputError, NotFoundError, NotInstalledError
from refart.files import open_for_reading
from refart.manifest.draft import Added, Draft
from refart.sources.local.source import canonical_uri

_MD5_BASE64: Final = re.compile(r"[A-Za-z0-9+/]{22}==\Z")
_MD5_HEX: Final = re.compile(r"[0-9a-f]{32}\Z")
_S3: Final = ("s3", "s3a")
_GCS: Final = ("gs", "gcs")
_OTHER_DIGEST: Final = "alg"
"""In `extra`, where the digest is no MD5."""


def add_wandb_manifest(draft: Draft, file: str | os.PathLike[str], *, overwrite: bool = False) -> Added:
    """Add the references of a `wandb_manifest.json`. See `Artifact.add_wandb_manifest`."""
    path = os.fspath(file)
    try:
        manifest = json.loads(_read(path))
        contents = dict(manifest["contents"])
        if manifest["version"] != 1 or not all(isinstance(e, dict) for e in contents.values()):
            raise ValueError
    except (ValueError, KeyError, TypeError, RecursionError):
        raise FormatError(f"{path} is no manifest of W&B (version 1)") from None
    own = [name for name, entry in contents.items() if "ref" not in entry]
    if own:
        raise InvalidInputError(
            f"{path}: {len(own):,} of {len(contents):,} entries, such as {own[0][:200]!r}, are files in W&B's own"
            " storage and no references; nothing was added: download the artifact with wandb and add its folder"
        )
    return _add(draft, path, (_of_wandb(path, *item) for item in contents.items()), overwrite)


def _of_wandb(path: str, name: str, entry: Mapping[str, Any]) -> Entry:
    """An entry as the handlers of wandb write it: of S3, GCS, Azure and HTTP the digest is the ETag, of files the MD5
    in base64; the reference itself where checksums were off."""
    uri, digest = _field(entry, "ref", str), _field(entry, "digest", str)
    extra = _field(entry, "extra", dict, NoneType) or {}
    scheme = names.uri_scheme(uri)
    if scheme == "wandb-artifact":
        raise InvalidInputError(
            f"{path}: {name[:200]!r} is an entry of another artifact of W&B ({uri[:200]}); nothing was added: import"
            " that one"
        )
    version = _field(extra, "versionID", str, int, NoneType)
    if version is not None:  # said by the reference as well, where it was given by hand
        uri = re.sub(r"\?versionId=.*|#[0-9]+$", "", uri, flags=re.IGNORECASE | re.DOTALL)
    md5 = None
    if _MD5_BASE64.match(digest) and _OTHER_DIGEST not in extra:
        md5 = base64.b64decode(digest).hex()
    etag = _field(extra, "etag", str, NoneType) or (
        digest if md5 is None and digest != entry["ref"] else None
    )
    return _entry(names.path_from_key(name), uri, _field(entry, "size", int, NoneType), md5, etag, version)


def add_dvc(
    draft: Draft, file: str | os.PathLike[str], *, remote: str | None = None, overwrite: bool = False
) -> Added:
    """Add what a `.dvc` file records of objects in the cloud. See `Artifact.add_dvc`."""
    try:
        import yaml
    except ImportError as error:
        raise NotInstalledError.of("a .dvc file", error, extra="dvc") from error
    path = os.fspath(file)
    try:
        stage = yaml.safe_load(_read(path))
        outs, deps = list(stage["outs"]), list(stage.get("deps") or ())
        entries = list(_of_dvc(Path(path), outs, deps, remote))
    except (yaml.YAMLError, KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, InvalidInputError):
            raise
        raise FormatError(f"{path} is no .dvc file ({type(error).__name__}: {str(error)[:200]})") from None
    return _add(draft, path, entries, overwrite)


def _of_dvc(
    path: Path, outs: list[dict[str, Any]], deps: list[dict[str, Any]], remote: str | None
) -> Iterator[Entry]:
    """The entries of all outputs: below their names where they are several.

    An output that was imported is known by its dependency, which names the objects; any other by the remote with cloud
    versions that it was pushed to, where it has its path in the repository.
    """
    imported = [dep for dep in deps if "://" in _field(dep, "path", str)]
    if imported and len(imported) != len(outs):
        raise ValueError(f"{len(outs)} outputs of {len(imported)} imported dependencies")
    for number, out in enumerate(outs):
        out_path = _field(out, "path", str)
        where = f"{out_path}/" if len(outs) > 1 else ""
        dep = imported[number] if imported else out
        uri = _resolved(path, dep["path"], remote) if imported else _pushed_to(path, out, remote)
        records = _field(dep, "files", list, NoneType)
        plain = dep.get("hash") == "md5"  # before DVC 3, an MD5 of text was one of other line ends
        for record in records if records is not None else [dep]:
            cloud = next(iter(record.get("cloud", {}).values()), {}) if not imported else record
            relpath = _field(record, "relpath", str, NoneType)
            name = relpath if relpath is not None else Path(out_path).name
            md5 = _field(record, "md5", str, NoneType)
            yield _checked(
                path,
                _entry(
                    names.path_from_key(f"{where if relpath is not None else ''}{name}"),
                    uri if relpath is None else f"{uri.rstrip('/')}/{relpath}",
                    _field(record, "size", int, NoneType),
                    md5 if plain and md5 is not None and _MD5_HEX.match(md5) else None,
                    _field(cloud, "etag", str, NoneType),
                    _field(cloud, "version_id", str, int, NoneType),
                ),
            )


def _checked(path: Path, entry: Entry) -> Entry:
    if entry.pin is None and entry.content_id == checksums.NONE:
        raise InvalidInputError(
            f"{path}: {entry.path!r} has neither a version id nor an ETag; nothing was added: with DVC, only"
            " `import-url --version-aware` and remotes with version_aware record them"
        )
    return entry


def _pushed_to(path: Path, out: Mapping[str, Any], remote: str | None) -> str:
    """The URI of an output in a remote with cloud versions."""
    first = next(iter(out.get("files") or [out]), out)
    if not first.get("cloud"):
        raise InvalidInputError(
            f"{path}: {str(out['path'])[:200]!r} was not pushed to a remote with cloud versions, so that its bytes lie"
            " in DVC's cache under their hash; nothing was added: `dvc pull` it and add the folder"
        )
    root = _repository(path)
    inside = Path(os.path.relpath(path.absolute().parent, root), str(out["path"])).as_posix()
    base = remote if remote is not None else _remote_url(root, next(iter(first["cloud"])))
    return f"{base.rstrip('/')}/{os.path.normpath(inside)}"


def _resolved(path: Path, uri: str, remote: str | None) -> str:
    """`remote://name/rest` as DVC's configuration has it; any other URI as it is."""
    if not uri.startswith("remote://"):
        return uri
    name, _, rest = uri.removeprefix("remote://").partition("/")
    base = remote if remote is not None else _remote_url(_repository(path), name)
    return f"{base.rstrip('/')}/{rest}"


def _repository(path: Path) -> Path:
    for folder in path.absolute().parents:
        if (folder / ".dvc").is_dir():
            return folder
    raise NotFoundError(f"{path} lies in no DVC repository, which would name its remote; nothing was added")


def _remote_url(root: Path, name: str) -> str:
    config = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        config.read([root / ".dvc" / "config", root / ".dvc" / "config.local"], encoding="utf-8")
        url = config[f"'remote \"{name}\"'"]["url"]
    except (configparser.Error, KeyError, UnicodeDecodeError):
        raise NotFoundError(
            f"the configuration of DVC in {root} has no URL of the remote {name!r}; nothing was added: pass remote="
        ) from None
    return url if names.uri_scheme(url) is not None else os.path.normpath(root / ".dvc" / url)


def _field(record: Mapping[str, Any], name: str, *types: type) -> Any:
    """What a record says under a name, if it is of one of these types (a boolean is no number); None is what is not
    there."""
    value = record.get(name)
    if type(value) not in types or value == "":
        shown = "empty" if value == "" else "missing" if value is None else type(value).__name__
        raise TypeError(f"{name!r} is {shown}")
    return value


def _entry(
    path: str, uri: str, size: int | None, md5: str | None, etag: str | None, version: str | int | None
) -> Entry:
    """A reference as our own sources would record it."""
    scheme = names.uri_scheme(uri)
    if scheme in (None, "file"):
        uri = canonical_uri(uri)
    pin = None
    if version is not None:
        pin = f"generation:{version}" if scheme in _GCS else f"version:{version}"
    content_id = checksums.NONE
    if md5 is not None:
        content_id = f"md5:{md5}"
    elif scheme in _GCS and pin is not None:
        content_id = pin
    elif etag and scheme in _S3:
        content_id = checksums.from_etag(etag)
    elif etag and scheme not in _GCS:
        content_id = "etag:" + etag.replace('"', "")
    return Entry(path, size, content_id, uri, pin)


def _add(draft: Draft, path: str, entries: Iterable[Entry], overwrite: bool) -> Added:
    def checked() -> Iterator[Entry]:
        for entry in entries:
            names.check_uri(entry.uri)
            yield entry

    try:
        rows = checked()
        pages = [check_page(page_of(some), path) for some in iter(lambda: list(islice(rows, BATCH_ROWS)), [])]
    except (TypeError, ValueError, OverflowError) as error:
        if isinstance(error, InvalidInputError):
            raise
        raise FormatError(f"{path} holds a value of another kind: {error}") from None
    return draft.add(pages, overwrite=overwrite)


def _read(path: str) -> bytes:
    with open_for_reading(Path(path).expanduser()) as file:
        return file.read()
