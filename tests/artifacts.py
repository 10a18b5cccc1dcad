"""Small artifacts, and what they and their downloads hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from refart import Artifact


def referring(uri: str | Path, **options: Any) -> Artifact:
    """A draft, `things`, of one reference."""
    artifact = Artifact("things", "dataset")
    artifact.add_reference(uri, **options)
    return artifact


def paths(artifact: Artifact) -> list[str]:
    return [entry.path for entry in artifact.entries()]


def contents(root: str | Path) -> dict[str, bytes]:
    """The bytes of every file below a folder, by relative path; none where there is no folder."""
    return {str(p.relative_to(root)): p.read_bytes() for p in Path(root).rglob("*") if p.is_file()}
