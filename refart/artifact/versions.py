"""Artifacts, their versions and lineage, and the record of a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from refart import manifest, names, ops
from refart.artifact.building import Building
from refart.artifact.core import ttl_s_of
from refart.artifact.reading import Reading
from refart.catalog.base import (
    Direction,
    Patch,
    RunRow,
    VersionFilter,
)
from refart.errors import InvalidInputError

if TYPE_CHECKING:
    from refart.context import Context
    from refart.manifest.draft import Draft
    from refart.ops.lineage import LineageGraph
    from refart.ops.patterns import Patterns


class Artifact(Building, Reading):
    """A named, typed, versioned folder.

    `Artifact("name", "type")` is a *draft*: local and mutable. Logging it makes it a *version*: immutable, except for
    `description`, `metadata`, `aliases`, `tags` and `ttl`, which `save()` writes.
    """

    def new_draft(self) -> Artifact:
        """A draft of the same name and type with the same entries; copies and downloads nothing.

        Logging it records this version as an input of the run.
        """
        entries = manifest.draft.Draft(self._reader())
        return self._derived(self._name, entries, self.description, self.metadata)

    def select(
        self,
        name: str | None = None,
        *,
        path_prefix: str | None = None,
        include: Patterns = None,
        exclude: Patterns = None,
        sample: int | float | None = None,
        seed: int = 0,
    ) -> Artifact:
        """A draft with some of the entries: `version.select("small", include="*.jpg", sample=1000)`. Copies no byte.

        - `name`: of the new artifact; default this one's with `-subset`. The type is the same.
        - `path_prefix`, `include`, `exclude`: as in `download`.
        - `sample`: of those, so many (a whole number, exactly) or such a fraction (0.1, about a tenth). Which ones is
          decided by a hash of `seed` and path: the same everywhere, a larger sample holds a smaller one of the same
          seed, and of a later version mostly the same entries are chosen.

        Paths, URIs, pins and content ids stay; managed files are those of the store. Logging the draft records this
        version as an input of the run, and how it was chosen as `description`. Raises `NotFoundError` where nothing is
        chosen, `InvalidInputError` for a sample of more than there is.
        """
        how: dict[str, Any] = {
            "path_prefix": path_prefix,
            "include": include,
            "exclude": exclude,
            "sample": sample,
        }
        chosen = names.check_name(name or f"{self._name}-subset", "artifact name")
        pages = ops.subset.chosen(self._reader(), self._label(), seed=seed, **how)
        draft = ops.subset.subset(pages, self._label())
        told = ops.subset.described(**how, seed=None if sample is None else seed)
        return self._derived(chosen, draft, f"{self._label()}: {told or 'all'}")

    def split(
        self,
        parts: Mapping[str, float],
        name: str | None = None,
        *,
        path_prefix: str | None = None,
        include: Patterns = None,
        exclude: Patterns = None,
        sample: int | float | None = None,
        seed: int = 0,
    ) -> dict[str, Artifact]:
        """A draft for each part, by the part's name: `version.split({"train": 0.8, "val": 0.2})["train"]`.

        Every entry falls to exactly one part, by a hash of `seed` and path: the fractions, which add up to 1, are met
        about; the same entry falls to the same part everywhere, and in every later version that is split so. The
        drafts are named `name-part` (`name` is this artifact's by default). The other arguments are those of `select`,
        and so is all else. Raises `NotFoundError` where a part would be empty.
        """
        how: dict[str, Any] = {
            "path_prefix": path_prefix,
            "include": include,
            "exclude": exclude,
            "sample": sample,
        }
        for part in parts:
            names.check_name(f"{name or self._name}-{part}", "artifact name")
        pages = ops.subset.chosen(self._reader(), self._label(), seed=seed, **how)
        drafts = ops.subset.split(pages, self._label(), parts, seed)
        told = ops.subset.described(**how, seed=seed, parts=dict(parts))
        return {
            part: self._derived(f"{name or self._name}-{part}", draft, f"{part} of {self._label()}: {told}")
            for part, draft in drafts.items()
        }

    def _derived(
        self, name: str, entries: Draft, description: str | None, metadata: Mapping[str, Any] | None = None
    ) -> Artifact:
        """A draft of these entries, of which this version is an input."""
        draft = Artifact(name, self._type, description, metadata)
        draft._draft = entries
        draft._context = self._logged_context()
        draft._local = draft._context.local
        draft._inputs = (self._logged().key,)
        return draft

    def save(self) -> Artifact:
        """Write description, metadata, aliases, tags and ttl of a logged version.

        Only what you changed is written, so two processes that add different aliases both succeed. An alias that
        names another version moves here. `latest` cannot be removed, only moved by logging.
        """
        row, context = self._logged(), self._logged_context()
        wanted = names.check_aliases(self.aliases)
        aliases = [a for a in wanted if a not in row.aliases]
        gone_aliases = [a for a in row.aliases if a not in wanted]
        tags = names.check_tags(self.tags)
        metadata = names.check_metadata(self.metadata)
        ttl_s = ttl_s_of(self.ttl)
        patch = Patch(
            actor=context.actor,
            at=datetime.now(UTC),
            set_description=names.check_description(self.description) != row.description,
            description=self.description,
            metadata=metadata if metadata != dict(row.metadata) else None,
            set_ttl=ttl_s != row.ttl_s,
            ttl_s=ttl_s,
            add_aliases=tuple(aliases),
            remove_aliases=tuple(gone_aliases),
            add_tags=tuple(t for t in tags if t not in row.tags),
            remove_tags=tuple(t for t in row.tags if t not in tags),
        )
        if names.LATEST in patch.remove_aliases:
            raise InvalidInputError(
                "the alias 'latest' cannot be removed; logging or deleting a version moves it"
            )
        self._read_row(context.catalog.update(row.key, patch))
        return self

    def delete(self, delete_aliases: bool = False) -> None:
        """Delete this version. Its number is never reused; referenced bytes are never touched.

        Raises `ConflictError` where it has aliases (`latest` is one) and `delete_aliases` is False.
        """
        context = self._logged_context()
        row = context.catalog.delete(
            self._logged().key, delete_aliases=delete_aliases, actor=context.actor, at=datetime.now(UTC)
        )
        self._read_row(row)

    def link(self, target: str, aliases: Iterable[str] | None = None) -> Artifact:
        """Make this version a version of another collection too: `link("registry/name")`. Copies nothing."""
        context, row = self._logged_context(), self._logged()
        project, name = names.parse_collection_ref(target, row.key.project)
        committed = ops.commit.link(context, row, project, name, names.check_aliases(aliases))
        return Artifact._of(context, committed.version)._adopt(context, committed)

    def wait(self, timeout: float | None = None) -> Artifact:
        """Return at once: refart logs before `log_artifact` returns. For code that was written for W&B."""
        self._logged()
        return self

    def logged_by(self) -> RunRecord | None:
        """The run that logged this version first; None where it was logged outside of a run."""
        run_id = self._logged().created_by
        return (
            None
            if run_id is None
            else RunRecord(self._logged_context(), self._logged_context().catalog.run(run_id))
        )

    def used_by(self) -> list[RunRecord]:
        """The runs that used this version, oldest first."""
        context = self._logged_context()
        edges = context.catalog.edges(versions=[self._logged().key], kind="input")
        rows = context.catalog.run_rows([edge.run_id for edge in edges])
        return [RunRecord(context, row) for row in rows]

    def lineage(self, direction: Direction = "both", depth: int | None = None) -> LineageGraph:
        """The versions and runs this came from (`upstream`), that came of it (`downstream`), or both."""
        return ops.lineage.lineage(self._logged_context().catalog, self._logged().key, direction, depth)


class RunRecord:
    """A run as the catalog knows it: what it is, what it logged and used."""

    def __init__(self, context: Context, row: RunRow) -> None:
        self._context, self._row = context, row

    id = property(lambda self: self._row.id, doc="Short random id.")
    name = property(lambda self: self._row.name, doc="The name given, else `run-` and the id.")
    project = property(lambda self: self._row.project, doc="The project that its artifacts belong to.")
    job_type = property(lambda self: self._row.job_type, doc="What kind of work it is; None where not given.")
    group = property(lambda self: self._row.group, doc="The common effort it is part of, or None.")
    tags = property(lambda self: self._row.tags, doc="Its labels.")
    state = property(lambda self: self._row.state, doc="running, finished or failed.")
    created_at = property(lambda self: self._row.created_at, doc="When it began (UTC).")
    finished_at = property(lambda self: self._row.finished_at, doc="When it ended (UTC); None while it runs.")

    @property
    def config(self) -> Mapping[str, Any]:
        """The settings it was given, as plain JSON types. Read-only: they are recorded when a run begins."""
        return MappingProxyType(dict(self._row.config))

    def logged_artifacts(self) -> list[Artifact]:
        """The versions this run logged, in order, deleted ones included."""
        return self._edges("output")

    def used_artifacts(self) -> list[Artifact]:
        """The versions this run used, in order, deleted ones included."""
        return self._edges("input")

    def _edges(self, kind: Literal["input", "output"]) -> list[Artifact]:
        edges = self._context.catalog.edges(run_ids=[self._row.id], kind=kind)
        rows = self._context.catalog.version_rows([edge.version for edge in edges])
        return [Artifact._of(self._context, row) for row in rows]

    def __repr__(self) -> str:
        return f"<Run {self._row.project}/{self._row.id} {self._row.name!r}, {self._row.state}>"


def find(context: Context, project: str, name: str, selector: int | str) -> Artifact:
    """The live version that a selector names."""
    return Artifact._of(context, context.catalog.version(project, name, selector))


def list_versions(context: Context, where: VersionFilter, limit: int | None = None) -> list[Artifact]:
    return [Artifact._of(context, row) for row in context.catalog.versions(where, limit=limit)]
