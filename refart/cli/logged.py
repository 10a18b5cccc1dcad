"""The last step of every command that makes versions: log them in one run, and tell what became of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from refart import names
from refart.cli.shapes import version_record
from refart.errors import NotFoundError

if TYPE_CHECKING:
    from refart.artifact import Artifact
    from refart.cli.common import Settings
    from refart.workspace import Workspace

HIDDEN: Final = ("created", "name", "version", "created_at", "manifest_digest", "source_version")
"""What the headline says, or only programs want."""


@dataclass(frozen=True, slots=True)
class Logged:
    """A version, and the run that logged it: None where nothing was to be logged."""

    version: Artifact
    run_id: str | None

    @property
    def record(self) -> dict[str, Any]:
        return {"created": self.version.created, "run": self.run_id, **version_record(self.version)}

    @property
    def headline(self) -> str:
        if self.version.created:
            news = "created"
        elif self.run_id is None:
            news = "unchanged: nothing was logged"
        else:
            news = "unchanged: this content is logged already, no version was made"
        return f"{self.version.qualified_name} {news}"


def log(
    settings: Settings,
    workspace: Workspace,
    drafts: Sequence[Artifact],
    *,
    project: str,
    job_type: str,
    base: Artifact | None = None,
    aliases: Sequence[str] = (),
    tags: Sequence[str] = (),
    description: str | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> list[Logged]:
    """Log drafts; `base` is the version that they were made from. A description and metadata add to their own.

    A draft that is still its base is not logged: no run, no edge, and `latest` stays where it is. What was asked for
    besides (aliases, tags, description, metadata) is given to the base. Where `latest` goes elsewhere than from the
    newest version to the next, a note says so.
    """
    names.check_aliases(aliases), names.check_tags(tags)  # all before a run exists, which would fail
    names.check_description(description), names.check_metadata(metadata)
    if base is not None and all(_is_still(draft, base, project) for draft in drafts):
        if aliases or tags or description or metadata:
            base.aliases, base.tags = [*base.aliases, *aliases], [*base.tags, *tags]
            _describe(base, description, metadata)
            base.save()
        return [Logged(base, None) for _ in drafts]
    logged = []
    with workspace.init(project, job_type=job_type) as run:
        for draft in drafts:
            _describe(draft, description, metadata)
            before = _latest(workspace, f"{project}/{draft.name}")
            version = run.log_artifact(draft, aliases=aliases, tags=tags)
            logged.append(Logged(version, run.id))
            if before is not None and before.version != version.version:
                _tell_latest(settings, before, version, base)
    return logged


def _is_still(draft: Artifact, base: Artifact, project: str) -> bool:
    same_collection = (project, draft.name) == (base.project, base.name)
    return same_collection and draft.manifest_digest == base.manifest_digest


def _describe(artifact: Artifact, description: str | None, metadata: Mapping[str, Any] | None) -> None:
    artifact.description = description or artifact.description
    artifact.metadata |= metadata or {}


def _latest(workspace: Workspace, collection: str) -> Artifact | None:
    try:
        return workspace.artifact(f"{collection}:{names.LATEST}")
    except NotFoundError:
        return None


def _tell_latest(settings: Settings, before: Artifact, version: Artifact, base: Artifact | None) -> None:
    here = base is not None and (base.project, base.name) == (version.project, version.name)
    if version.created and (base is None or not here or base.version == before.version):
        return  # a next version, as everybody expects
    made = "" if base is None else f" (made from {base.version if here else base.qualified_name})"
    settings.output.note(f"latest: {before.version} → {version.version}{made}")
