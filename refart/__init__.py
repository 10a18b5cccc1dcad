"""Version the data you already have.

    import refart

    with refart.init(job_type="ingest") as run:
        artifact = refart.Artifact("images", type="dataset")
        artifact.add_reference("s3://bucket/images")
        run.log_artifact(artifact)

Names are loaded when they are first used: `import refart` loads no driver, no pyarrow, no SQLAlchemy.
"""

from __future__ import annotations

from importlib import import_module

__version__ = "0.1.0"

TYPE_CHECKING = (
    False  # true to type checkers by its name; to import `typing` takes as long as to start Python
)
if TYPE_CHECKING:
    from refart.artifact.versions import Artifact
    from refart.errors import (
        CatalogError,
        ChecksumError,
        ConflictError,
        FinalizedError,
        FormatError,
        InvalidInputError,
        NotFoundError,
        NotInstalledError,
        PermissionDeniedError,
        RefartError,
        ReferenceChangedError,
        ReferenceMissingError,
        SourceError,
        StoreError,
    )
    from refart.fs import filesystem
    from refart.handles import ArtifactEntry
    from refart.run import Run, finish
    from refart.workspace import Api, Workspace, init

_HOME = {
    "Api": "refart.workspace",
    "Artifact": "refart.artifact.versions",
    "ArtifactEntry": "refart.handles",
    "filesystem": "refart.fs",
    "Run": "refart.run",
    "Workspace": "refart.workspace",
    "finish": "refart.run",
    "init": "refart.workspace",
    "CatalogError": "refart.errors",
    "ChecksumError": "refart.errors",
    "ConflictError": "refart.errors",
    "FinalizedError": "refart.errors",
    "FormatError": "refart.errors",
    "InvalidInputError": "refart.errors",
    "NotFoundError": "refart.errors",
    "NotInstalledError": "refart.errors",
    "PermissionDeniedError": "refart.errors",
    "RefartError": "refart.errors",
    "ReferenceChangedError": "refart.errors",
    "ReferenceMissingError": "refart.errors",
    "SourceError": "refart.errors",
    "StoreError": "refart.errors",
}

__all__ = [
    "Api",
    "Artifact",
    "ArtifactEntry",
    "CatalogError",
    "ChecksumError",
    "ConflictError",
    "FinalizedError",
    "FormatError",
    "InvalidInputError",
    "NotFoundError",
    "NotInstalledError",
    "PermissionDeniedError",
    "RefartError",
    "ReferenceChangedError",
    "ReferenceMissingError",
    "Run",
    "SourceError",
    "StoreError",
    "Workspace",
    "__version__",
    "filesystem",
    "finish",
    "init",
]


def __getattr__(name: str) -> object:
    if name in _HOME:
        value = getattr(import_module(_HOME[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'refart' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
