"""Several processes build one version: each puts a part, one finishes.

A part is a whole manifest in the store; the catalog only remembers its address. Finishing merges the parts by path
and logs the result like any other draft, so a crash before it leaves the parts for another try.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from refart.catalog.base import PartRow
from refart.context import Context
from refart.errors import ConflictError, NotFoundError
from refart.manifest.draft import Draft
from refart.manifest.reader import Manifest
from refart.manifest.writer import write_manifest
from refart.ops.commit import Request, upload_managed, upload_manifest


def put_part(context: Context, draft: Draft, request: Request) -> None:
    """Store the draft's entries as one part of `request.distributed_id`. The same part twice is one part."""
    assert request.distributed_id is not None
    with TemporaryDirectory(prefix="refart-manifest-") as folder:
        built = write_manifest(draft.segments(), Path(folder), draft.roots)
        upload_managed(context, draft)
        upload_manifest(context, built)
    context.catalog.add_part(
        PartRow(
            project=request.project,
            name=request.name,
            distributed_id=request.distributed_id,
            address=built.index.address,
            type=request.type,
            run_id=request.run_id,
            at=request.at,
        )
    )


def merge_parts(context: Context, request: Request, new_draft: Callable[[], Draft]) -> Draft:
    """A draft of all parts. Raises `NotFoundError` where there is none, `ConflictError` where two parts disagree."""
    assert request.distributed_id is not None
    parts = context.catalog.parts(request.project, request.name, request.distributed_id)
    if not parts:
        raise NotFoundError(
            f"{request.project}/{request.name}: no part was put under distributed_id={request.distributed_id!r};"
            " upsert_artifact puts one"
        )
    draft = new_draft()
    try:
        for part in parts:
            manifest = Manifest.open(context.store, part.address)
            draft.add(manifest.pages(), roots=manifest.index.roots)
    except ConflictError as error:
        draft.close()
        raise ConflictError(f"two parts of {request.project}/{request.name} disagree: {error}") from None
    except BaseException:
        draft.close()
        raise
    return draft
