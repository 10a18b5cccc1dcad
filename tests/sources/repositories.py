"""A driver like that of GitHub: trees behind `org:repo@revision`, files known by the hash of their content."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from typing import Any, ClassVar

from fsspec import AbstractFileSystem
from fsspec.utils import infer_storage_options


class RepositoryFileSystem(AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
    """Keeps what `Repository` puts into it, in this process."""

    protocol = "repository"
    files: ClassVar[dict[tuple[str, str, str], dict[str, bytes]]] = {}

    def __init__(self, org: str, repo: str, sha: str, **options: Any) -> None:
        super().__init__(**options)
        self.tree = self.files[org, repo, sha]

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        options = infer_storage_options(path)
        path = options["path"] if "username" in options else super()._strip_protocol(path)
        return str(path).lstrip("/")

    @staticmethod
    def _get_kwargs_from_urls(path: str) -> dict[str, str]:
        options = infer_storage_options(path)
        return {"org": options["username"], "repo": options["password"], "sha": options["host"]}

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        path = self._strip_protocol(path)
        if path in self.tree:
            return [self._info(path)]
        below = f"{path}/" if path else ""
        children = {name[len(below) :].partition("/") for name in self.tree if name.startswith(below)}
        if path and not children:
            raise FileNotFoundError(path)
        found = [
            self._info(below + name) if not slash else {"name": below + name, "size": 0, "type": "directory"}
            for name, slash in {(name, slash) for name, slash, _ in children}
        ]
        return found if detail else [info["name"] for info in found]

    def _info(self, path: str) -> dict[str, Any]:
        data = self.tree[path]
        return {"name": path, "size": len(data), "type": "file", "sha": hashlib.sha1(data).hexdigest()}

    def _open(self, path: str, mode: str = "rb", **_: Any) -> io.BytesIO:
        return io.BytesIO(self.tree[path])


@dataclass(frozen=True)
class Repository:
    """One revision of one repository."""

    name: str

    def __post_init__(self) -> None:
        RepositoryFileSystem.files["org", self.name, "main"] = {}

    @property
    def uri(self) -> str:
        return f"repository://org:{self.name}@main"

    def put(self, key: str, data: bytes) -> None:
        RepositoryFileSystem.files["org", self.name, "main"][key] = data

    def delete(self, key: str) -> None:
        del RepositoryFileSystem.files["org", self.name, "main"][key]
