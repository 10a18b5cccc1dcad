"""Versions, aliases and deletions beside a model made of dictionaries."""

from __future__ import annotations

import itertools

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from refart.catalog.base import Catalog, VersionFilter, VersionKey
from refart.errors import ConflictError, NotFoundError
from tests.catalog.suite import NOW, patch, request

ALIASES = st.sampled_from(["best", "stable"])
_projects = itertools.count()


class CatalogModel(RuleBasedStateMachine):
    """One collection; a new project for each example."""

    def __init__(self, catalog: Catalog) -> None:
        super().__init__()
        self.catalog = catalog
        self.project = f"p{next(_projects)}"
        self.live: dict[int, str] = {}
        self.deleted: dict[int, str] = {}
        self.aliases: dict[str, int] = {}

    def key(self, number: int) -> VersionKey:
        return VersionKey(self.project, "cats", number)

    @rule(digest=st.sampled_from("abcd"), aliases=st.lists(ALIASES, max_size=2))
    def commit(self, digest: str, aliases: list[str]) -> None:
        known = [number for number, found in self.live.items() if found == digest]
        number = known[0] if known else len(self.live) + len(self.deleted)
        self.live[number] = digest
        self.aliases |= dict.fromkeys(["latest", *aliases], number)
        committed = self.catalog.commit(request(digest, project=self.project, aliases=tuple(aliases)))
        assert (self.key(number), not known) == (committed.version.key, committed.created)

    @precondition(lambda self: self.live)
    @rule(data=st.data(), delete_aliases=st.booleans())
    def delete(self, data: st.DataObject, delete_aliases: bool) -> None:
        number = data.draw(st.sampled_from(sorted(self.live)))
        mine = [alias for alias, owner in self.aliases.items() if owner == number]
        arguments = {"delete_aliases": delete_aliases, "actor": "ada", "at": NOW}
        if mine and not delete_aliases:
            with_aliases = _raises(ConflictError, lambda: self.catalog.delete(self.key(number), **arguments))
            assert all(alias in with_aliases for alias in mine)
            return
        self.catalog.delete(self.key(number), **arguments)
        self.deleted[number] = self.live.pop(number)
        for alias in mine:
            del self.aliases[alias]
        if "latest" in mine and self.live:
            self.aliases["latest"] = max(self.live)

    @precondition(lambda self: self.live)
    @rule(data=st.data(), alias=ALIASES, add=st.booleans())
    def change_alias(self, data: st.DataObject, alias: str, add: bool) -> None:
        number = data.draw(st.sampled_from(sorted(self.live)))
        if add:
            self.catalog.update(self.key(number), patch(add_aliases=(alias,)))
            self.aliases[alias] = number
        elif self.aliases.get(alias) == number:
            self.catalog.update(self.key(number), patch(remove_aliases=(alias,)))
            del self.aliases[alias]
        else:
            change = patch(remove_aliases=(alias,))
            _raises(NotFoundError, lambda: self.catalog.update(self.key(number), change))

    @invariant()
    def the_live_versions_and_their_aliases_are_those_of_the_model(self) -> None:
        rows = self.catalog.versions(VersionFilter(project=self.project))
        assert sorted(self.live, reverse=True) == [row.key.number for row in rows]
        assert self.aliases == {alias: row.key.number for row in rows for alias in row.aliases}
        digests = {row.key.number: row.manifest.manifest_digest for row in rows}
        assert {number: f"sha256:{digest}" for number, digest in self.live.items()} == digests

    @invariant()
    def every_number_is_there_once_deleted_or_not(self) -> None:
        rows = self.catalog.versions(VersionFilter(project=self.project, name="cats", include_deleted=True))
        assert list(reversed(range(len(self.live) + len(self.deleted)))) == [row.key.number for row in rows]

    @invariant()
    def the_collection_counts_the_live_versions(self) -> None:
        for row in self.catalog.collections(self.project):
            assert (len(self.live), self.aliases.get("latest")) == (row.version_count, row.latest)


def _raises(family: type[Exception], call: object) -> str:
    try:
        call()  # type: ignore[operator]
    except family as error:
        return str(error)
    raise AssertionError(f"no {family.__name__}")


def test_the_catalog_agrees_with_the_model(catalog: Catalog) -> None:
    run_state_machine_as_test(
        lambda: CatalogModel(catalog),
        settings=settings(
            max_examples=6, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
