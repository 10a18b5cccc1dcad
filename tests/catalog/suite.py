"""What every catalog must do: subclass `CatalogSuite` and give it a `catalog` fixture that yields an empty one."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from refart.catalog.base import (
    Catalog,
    Commit,
    Direction,
    EdgeRow,
    Holder,
    ManifestInfo,
    PartRow,
    Patch,
    RunRow,
    ShardUris,
    Snapshot,
    Taken,
    VersionFilter,
    VersionKey,
    VersionRow,
)
from refart.errors import ConflictError, InvalidInputError, NotFoundError

NOW = datetime(2026, 3, 1, 12, 30, 15, 123456, tzinfo=UTC)


def manifest(digest: str = "m", **changes: Any) -> ManifestInfo:
    fields = {
        "address": f"address-{digest}",
        "content_digest": f"sha256:content-{digest}",
        "manifest_digest": f"sha256:{digest}",
        "entry_count": 3,
        "size_bytes": 2**40,
        "referenced_bytes": 2**40 - 7,
        "managed_bytes": 7,
    }
    return ManifestInfo(**(fields | changes))


def request(digest: str = "m", **changes: Any) -> Commit:
    fields = {
        "project": "vision",
        "name": "cats",
        "type": "dataset",
        "manifest": manifest(digest),
        "run_id": None,
        "actor": "ada",
        "at": NOW,
    }
    return Commit(**(fields | changes))


def run_row(run_id: str = "r1", **changes: Any) -> RunRow:
    fields: dict[str, Any] = {
        "id": run_id,
        "project": "vision",
        "name": f"run-{run_id}",
        "job_type": "train",
        "group": "sweep",
        "config": {"lr": 0.1, "layers": [1, 2]},
        "tags": ("b", "a"),
        "state": "running",
        "created_at": NOW,
        "finished_at": None,
        "user": "ada",
        "host": "node1",
        "pid": 4321,
    }
    return RunRow(**(fields | changes))


def key(number: int, name: str = "cats", project: str = "vision") -> VersionKey:
    return VersionKey(project, name, number)


def patch(**changes: Any) -> Patch:
    return Patch(actor="ada", at=NOW, **changes)


def delete(catalog: Catalog, number: int, *, delete_aliases: bool = True) -> VersionRow:
    return catalog.delete(key(number), delete_aliases=delete_aliases, actor="ada", at=NOW)


class CatalogSuite:
    # -- commit ----------------------------------------------------------------------------------

    def test_first_commit_makes_v0_and_the_row_comes_back_whole(self, catalog: Catalog) -> None:
        catalog.save_run(run_row())
        committed = catalog.commit(
            request(
                run_id="r1",
                aliases=("best", "a-first"),
                tags=("night", "day"),
                description="Cats 🐈",
                metadata={"epochs": 3},
                ttl_s=86_400,
            )
        )
        expected = VersionRow(
            key=key(0),
            type="dataset",
            manifest=manifest(),
            aliases=("a-first", "best", "latest"),
            tags=("day", "night"),
            description="Cats 🐈",
            metadata={"epochs": 3},
            ttl_s=86_400,
            created_at=NOW,
            created_by="r1",
        )
        assert committed.created
        assert expected == committed.version == catalog.version("vision", "cats", 0)

    def test_numbers_count_up_within_each_collection(self, catalog: Catalog) -> None:
        numbers = [
            catalog.commit(request(digest, name=name)).version.key.number
            for digest, name in [("a", "cats"), ("b", "cats"), ("a", "dogs"), ("c", "cats")]
        ]
        assert numbers == [0, 1, 0, 2]

    def test_unchanged_content_makes_no_version(self, catalog: Catalog) -> None:
        first = catalog.commit(request("a", description="old", metadata={"x": 1}))
        catalog.commit(request("b"))
        again = catalog.commit(request("a", manifest=manifest("a", address="elsewhere")))
        assert not again.created
        assert first.version.key == again.version.key
        assert again.version.aliases == ("latest",), "latest moves to what was logged last"
        assert (again.version.description, again.version.metadata) == ("old", {"x": 1}), "None keeps them"
        assert len(catalog.versions(VersionFilter())) == 2

    def test_logging_unchanged_content_writes_what_was_passed_and_keeps_old_values_in_the_audit_log(
        self, catalog: Catalog
    ) -> None:
        """W&B drops metadata and output edge of such a run."""
        catalog.save_run(run_row("r1"))
        catalog.save_run(run_row("r2"))
        catalog.commit(request(run_id="r1", description="old", metadata={"x": 1}, tags=("t1",), ttl_s=5))
        row = catalog.commit(
            request(run_id="r2", description="new", metadata={"x": True}, tags=("t2",), aliases=("best",))
        ).version
        assert (row.description, row.metadata, row.tags, row.ttl_s) == ("new", {"x": True}, ("t1", "t2"), 5)
        assert row.metadata["x"] is True
        assert row.created_by == "r1"
        assert {"r1", "r2"} == {edge.run_id for edge in catalog.edges(versions=[key(0)], kind="output")}
        newest = catalog.audit()[0]
        assert (newest.action, newest.subject) == ("version.log_again", "vision/cats:v0")
        assert newest.detail == {
            "description": {"old": "old", "new": "new"},
            "metadata": {"old": {"x": 1}, "new": {"x": True}},
            "tag t2": {"old": False, "new": True},
            "alias best": {"old": None, "new": 0},
        }

    def test_latest_and_given_aliases_move_while_others_stay(self, catalog: Catalog) -> None:
        catalog.commit(request("a", aliases=("best", "stable")))
        catalog.commit(request("b", aliases=("best",)))
        aliases = {row.key.number: row.aliases for row in catalog.versions(VersionFilter())}
        assert aliases == {0: ("stable",), 1: ("best", "latest")}

    def test_another_type_is_a_conflict_that_changes_nothing(self, catalog: Catalog) -> None:
        catalog.commit(request("a"))
        with pytest.raises(ConflictError, match="vision/cats has type 'dataset', not 'model'"):
            catalog.commit(request("b", type="model"))
        assert [key(0)] == [row.key for row in catalog.versions(VersionFilter())]
        assert len(catalog.audit()) == 1

    def test_an_unknown_run_is_refused_and_leaves_nothing(self, catalog: Catalog) -> None:
        with pytest.raises(NotFoundError, match="no run 'ghost'"):
            catalog.commit(request(run_id="ghost"))
        assert catalog.projects() == []

    def test_an_unknown_input_is_refused_and_leaves_nothing(self, catalog: Catalog) -> None:
        catalog.save_run(run_row())
        with pytest.raises(NotFoundError, match="no artifact 'ghost'"):
            catalog.commit(request(run_id="r1", inputs=(key(0, "ghost"),)))
        assert catalog.collections() == []

    def test_inputs_and_source_are_recorded(self, catalog: Catalog) -> None:
        catalog.save_run(run_row())
        catalog.commit(request(name="raw"))
        linked = catalog.commit(
            request(name="clean", run_id="r1", source=key(0, "raw"), inputs=(key(0, "raw"), key(0, "raw")))
        )
        assert key(0, "raw") == linked.version.source
        edges = {(edge.version.name, edge.kind) for edge in catalog.edges(run_ids=["r1"])}
        assert {("raw", "input"), ("clean", "output")} == edges

    def test_a_version_is_no_input_of_the_run_that_logs_it(self, catalog: Catalog) -> None:
        catalog.save_run(run_row())
        catalog.commit(request(name="raw"))
        catalog.commit(request())
        again = catalog.commit(request(run_id="r1", inputs=(key(0), key(0, "raw"))))
        assert (again.created, again.version.key) == (False, key(0))
        edges = {(edge.version.name, edge.kind) for edge in catalog.edges(run_ids=["r1"])}
        assert {("raw", "input"), ("cats", "output")} == edges

    def test_a_linked_version_is_not_made_twice(self, catalog: Catalog) -> None:
        catalog.commit(request(name="raw"))
        made = [catalog.commit(request(name="shelf", source=key(0, "raw"))).created for _ in range(2)]
        assert made == [True, False]

    def test_each_commit_leaves_one_audit_row(self, catalog: Catalog) -> None:
        for digest in "aab":
            catalog.commit(request(digest))
        rows = catalog.audit("vision")
        assert [row.action for row in rows] == ["version.create", "version.log_again", "version.create"]
        assert [row.subject for row in rows] == ["vision/cats:v1", "vision/cats:v0", "vision/cats:v0"]
        assert (rows[0].at, rows[0].actor) == (NOW, "ada")

    # -- metadata --------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        "metadata",
        [
            {},
            {"nothing": None, "yes": True, "no": False, "nested": {"list": [1, [2, {"k": []}]]}},
            {"huge": 10**400, "negative": -(2**63) - 1, "float": 1e-300, "whole": 1.0, "minus zero": -0.0},
            {"": "empty key", "quote\"'\\": "%s :x ?", "нет": "日本語 🐈", "line\n": "\t"},
            {"nul": "a\x00b", "lone surrogate": "\ud800"},
            {"z": 1, "a": 2, "long": "x" * 100_000},
        ],
        ids=["empty", "nested", "numbers", "text", "nul", "order"],
    )
    def test_metadata_comes_back_as_it_went_in(self, catalog: Catalog, metadata: dict[str, Any]) -> None:
        catalog.commit(request(metadata=metadata))
        found = catalog.version("vision", "cats", "latest").metadata
        assert repr(metadata) == repr(found), "repr tells 1 from True from 1.0, and sees the order of keys"

    @pytest.mark.parametrize(
        ("wanted", "numbers"),
        [
            ({"a": 1}, [3, 0]),
            ({"a": 1.0}, [3, 0]),
            ({"a": True}, [1]),
            ({"a": "1"}, [2]),
            ({"a": 0.5}, [4]),
            ({"a": 1, "b": "x"}, [3]),
            ({"b": "y"}, []),
            ({"c": 10**30}, [4]),
            ({"quote'\"%": "ü" * 5000}, [4]),
        ],
    )
    def test_versions_are_found_by_metadata(
        self, catalog: Catalog, wanted: dict[str, Any], numbers: list[int]
    ) -> None:
        """Numbers are equal however written; a boolean is no number, and text is neither."""
        for number, metadata in enumerate(
            [
                {"a": 1},
                {"a": True, "nested": {"a": 1}},
                {"a": "1", "list": [1]},
                {"a": 1.0, "b": "x"},
                {"a": 0.5, "c": 10**30, "quote'\"%": "ü" * 5000, "nothing": None},
            ]
        ):
            catalog.commit(request(str(number), metadata=metadata))
        found = catalog.versions(VersionFilter(metadata=wanted))
        assert numbers == [row.key.number for row in found]

    def test_metadata_is_found_by_its_new_value_after_an_update(self, catalog: Catalog) -> None:
        catalog.commit(request(metadata={"a": 1, "b": 2}))
        catalog.update(key(0), patch(metadata={"a": 3}))
        counts = [
            len(catalog.versions(VersionFilter(metadata=wanted))) for wanted in ({"a": 3}, {"a": 1}, {"b": 2})
        ]
        assert counts == [1, 0, 0]

    def test_metadata_cannot_be_searched_for_a_list(self, catalog: Catalog) -> None:
        with pytest.raises(InvalidInputError, match="not list"):
            catalog.versions(VersionFilter(metadata={"a": [1]}))  # type: ignore[dict-item]

    # -- finding versions ------------------------------------------------------------------------

    def test_times_come_back_in_utc(self, catalog: Catalog) -> None:
        offset = NOW.astimezone(datetime.fromisoformat("2026-01-01T00:00:00+05:45").tzinfo)
        row = catalog.commit(request(at=offset)).version
        assert (NOW, timedelta(0)) == (row.created_at, row.created_at.utcoffset())

    def test_a_time_without_zone_is_refused(self, catalog: Catalog) -> None:
        with pytest.raises(InvalidInputError, match="time zone"):
            catalog.commit(request(at=NOW.replace(tzinfo=None)))

    @pytest.mark.parametrize(
        ("where", "found"),
        [
            (VersionFilter(), ["dogs:v0", "cats:v1", "cats:v0", "birds:v0"]),
            (VersionFilter(project="vision"), ["dogs:v0", "cats:v1", "cats:v0"]),
            (VersionFilter(name="cats"), ["cats:v1", "cats:v0"]),
            (VersionFilter(project="vision", name="cats"), ["cats:v1", "cats:v0"]),
            (VersionFilter(type="model"), ["dogs:v0"]),
            (VersionFilter(alias="best"), ["cats:v0", "birds:v0"]),
            (VersionFilter(tag="night"), ["dogs:v0", "cats:v0"]),
            (VersionFilter(tag="night", type="dataset"), ["cats:v0"]),
            (VersionFilter(manifest_digest="sha256:m"), ["birds:v0"]),
            (VersionFilter(content_digest="sha256:content-b"), ["cats:v1"]),
            (VersionFilter(name="CATS"), []),
            (VersionFilter(name="cat%"), []),
        ],
    )
    def test_versions_are_filtered(self, catalog: Catalog, where: VersionFilter, found: list[str]) -> None:
        catalog.commit(request(project="audio", name="birds", aliases=("best",)))
        catalog.commit(request("a", aliases=("best",), tags=("night", "x")))
        # Made by a machine whose clock is behind: order is by creation, not by clocks.
        catalog.commit(request("b", at=NOW - timedelta(days=1)))
        catalog.commit(request("c", name="dogs", type="model", tags=("night",)))
        rows = catalog.versions(where)
        assert found == [f"{row.key.name}:v{row.key.number}" for row in rows]

    @pytest.mark.parametrize("where", [VersionFilter(project="vision", name="cats"), VersionFilter()])
    def test_pages_of_versions_join_without_gap_or_overlap(
        self, catalog: Catalog, where: VersionFilter
    ) -> None:
        for number in range(7):
            catalog.commit(request(str(number)))
        pages: list[list[int]] = []
        before = None
        while page := catalog.versions(where, limit=3, before=before):
            pages.append([row.key.number for row in page])
            before = page[-1].key
        assert pages == [[6, 5, 4], [3, 2, 1], [0]]

    def test_a_page_cannot_go_on_after_an_unknown_version(self, catalog: Catalog) -> None:
        catalog.commit(request())
        with pytest.raises(NotFoundError, match="vision/cats:v9"):
            catalog.versions(VersionFilter(), before=key(9))

    def test_rows_of_keys_keep_the_order_and_leave_out_unknown_ones(self, catalog: Catalog) -> None:
        for digest in "abc":
            catalog.commit(request(digest))
            catalog.commit(request(digest, project="audio", name="birds"))
        delete(catalog, 1)
        wanted = [key(2), key(0, "birds", "audio"), key(9), key(1), key(0, "birds"), key(10**30), key(2)]
        rows = catalog.version_rows(wanted)
        assert [wanted[0], wanted[1], wanted[3], wanted[6]] == [row.key for row in rows]
        assert rows[2].deleted_at == NOW

    def test_rows_of_runs_keep_the_order_and_leave_out_unknown_ones(self, catalog: Catalog) -> None:
        for run_id in ("r1", "r2"):
            catalog.save_run(run_row(run_id))
        assert [row.id for row in catalog.run_rows(["r2", "nobody", "r1"])] == ["r2", "r1"]
        assert len(catalog.run_rows([f"x{n}" for n in range(1500)] + ["r1"])) == 1

    def test_many_keys_and_edges_are_found_at_once(self, catalog: Catalog) -> None:
        """More than the variables one SQLite statement takes (999 in old ones)."""
        catalog.save_run(run_row())
        for number in range(30):
            catalog.commit(request(str(number), run_id="r1"))
        keys = [key(number) for number in range(1500)]
        assert len(catalog.version_rows(keys)) == 30
        assert len(catalog.edges(versions=keys, run_ids=["r1", *(f"x{n}" for n in range(1500))])) == 30

    # -- what is not there -----------------------------------------------------------------------

    @pytest.mark.parametrize(
        ("project", "name", "selector", "message"),
        [
            ("visoin", "cats", 0, "there is no project 'visoin': did you mean 'vision'?"),
            ("zzz", "cats", 0, "there is no project 'zzz': the catalog has 'vision'"),
            ("vision", "cat", 0, "project 'vision' has no artifact 'cat': did you mean 'cats'?"),
            ("vision", "cats", 7, "there is no vision/cats:v7: there are v2, v0"),
            ("vision", "cats", -1, "there is no vision/cats:v-1: there are v2, v0"),
            ("vision", "cats", 2**70, f"there is no vision/cats:v{2**70}: there are v2, v0"),
            ("vision", "cats", 1, "vision/cats:v1 was deleted on 2026-03-01: there are v2, v0"),
            ("vision", "cats", "bset", "vision/cats has no alias 'bset': did you mean 'best'?"),
            ("vision", "cats", "q", "vision/cats has no alias 'q': it has 'best', 'latest'"),
        ],
    )
    def test_what_is_missing_is_named_beside_what_exists(
        self, catalog: Catalog, project: str, name: str, selector: int | str, message: str
    ) -> None:
        for digest in "abc":
            catalog.commit(request(digest, aliases=("best",)))
        delete(catalog, 1)
        with pytest.raises(NotFoundError) as caught:
            catalog.version(project, name, selector)
        assert message == str(caught.value)

    def test_an_empty_catalog_says_that_it_is_empty(self, catalog: Catalog) -> None:
        with pytest.raises(NotFoundError, match="there is no project 'vision': the catalog has none"):
            catalog.version("vision", "cats", "latest")
        assert (catalog.projects(), catalog.collections(), catalog.versions(VersionFilter())) == ([], [], [])

    # -- update ----------------------------------------------------------------------------------

    def test_update_changes_only_what_is_named(self, catalog: Catalog) -> None:
        before = catalog.commit(request(description="old", metadata={"a": 1}, ttl_s=5, tags=("t",))).version
        catalog.update(key(0), patch())
        assert before == catalog.version("vision", "cats", 0)
        after = catalog.update(key(0), patch(set_description=True, set_ttl=True, metadata={"b": [2]}))
        assert (
            after.description,
            after.ttl_s,
            after.metadata,
            after.tags,
        ) == (None, None, {"b": [2]}, ("t",))
        assert after == catalog.version("vision", "cats", 0)
        actions = [row.action for row in catalog.audit(subject="vision/cats:v0")]
        assert actions == ["version.update", "version.create"], "a patch that changes nothing leaves no row"

    def test_update_moves_aliases_and_tags(self, catalog: Catalog) -> None:
        catalog.commit(request("a", aliases=("best", "old"), tags=("x",)))
        catalog.commit(request("b"))
        row = catalog.update(
            key(1), patch(add_aliases=("best", "new"), add_tags=("y", "y"), remove_aliases=())
        )
        assert (row.aliases, row.tags) == (("best", "latest", "new"), ("y",))
        row = catalog.update(key(0), patch(remove_aliases=("old",), remove_tags=("x",)))
        assert (row.aliases, row.tags) == ((), ())
        assert catalog.audit()[0].detail == {
            "alias old": {"old": 0, "new": None},
            "tag x": {"old": True, "new": False},
        }

    def test_latest_can_be_given_to_another_version_but_not_removed(self, catalog: Catalog) -> None:
        catalog.commit(request("a"))
        catalog.commit(request("b"))
        catalog.update(key(0), patch(add_aliases=("latest",)))
        assert key(0) == catalog.version("vision", "cats", "latest").key
        with pytest.raises(InvalidInputError, match="'latest' of vision/cats:v0 cannot be removed"):
            catalog.update(key(0), patch(remove_aliases=("latest",)))

    @pytest.mark.parametrize("change", [{"remove_aliases": ("bset",)}, {"remove_tags": ("nihgt",)}])
    def test_removing_what_is_not_there_is_refused_and_changes_nothing(
        self, catalog: Catalog, change: dict[str, Any]
    ) -> None:
        before = catalog.commit(request(aliases=("best",), tags=("night",))).version
        with pytest.raises(NotFoundError, match=r"did you mean '(best|night)'"):
            catalog.update(key(0), patch(set_description=True, description="lost", **change))
        assert before == catalog.version("vision", "cats", 0)

    def test_only_live_versions_can_be_updated(self, catalog: Catalog) -> None:
        with pytest.raises(NotFoundError, match="no project"):
            catalog.update(key(0), patch())
        catalog.commit(request())
        delete(catalog, 0)
        with pytest.raises(NotFoundError, match="was deleted on 2026-03-01"):
            catalog.update(key(0), patch(set_description=True))

    # -- delete ----------------------------------------------------------------------------------

    def test_deleting_a_version_that_has_aliases_needs_a_word(self, catalog: Catalog) -> None:
        catalog.commit(request(aliases=("best",)))
        with pytest.raises(ConflictError, match="vision/cats:v0 has the aliases best, latest"):
            delete(catalog, 0, delete_aliases=False)
        assert catalog.version("vision", "cats", 0).aliases == ("best", "latest")

    def test_a_deleted_version_keeps_its_row_for_lineage(self, catalog: Catalog) -> None:
        catalog.save_run(run_row())
        catalog.commit(request("a", run_id="r1"))
        catalog.commit(request("b"))
        row = delete(catalog, 0, delete_aliases=False)
        assert (row.deleted_at, row.aliases) == (NOW, ())
        assert [row] == catalog.version_rows([key(0)])
        assert [key(0)] == [edge.version for edge in catalog.edges(run_ids=["r1"])]
        assert [key(1)] == [found.key for found in catalog.versions(VersionFilter())]
        with_deleted = catalog.versions(VersionFilter(include_deleted=True))
        assert [key(1), key(0)] == [found.key for found in with_deleted]
        assert catalog.audit()[0].action == "version.delete"

    def test_latest_falls_back_to_the_newest_live_version(self, catalog: Catalog) -> None:
        for digest in "abc":
            catalog.commit(request(digest))
        delete(catalog, 2)
        assert key(1) == catalog.version("vision", "cats", "latest").key
        delete(catalog, 0, delete_aliases=False)
        delete(catalog, 1)
        with pytest.raises(NotFoundError, match="all its versions were deleted"):
            catalog.version("vision", "cats", "latest")

    def test_numbers_are_never_reused_and_deleted_content_is_a_new_version(self, catalog: Catalog) -> None:
        catalog.commit(request("a"))
        delete(catalog, 0)
        committed = catalog.commit(request("a"))
        assert (True, key(1)) == (committed.created, committed.version.key)

    def test_deleting_twice_says_when_it_was_deleted(self, catalog: Catalog) -> None:
        catalog.commit(request())
        delete(catalog, 0)
        with pytest.raises(NotFoundError, match="was deleted on 2026-03-01: all its versions were deleted"):
            delete(catalog, 0)

    # -- collections and projects ----------------------------------------------------------------

    def test_collections_are_listed_with_their_counts(self, catalog: Catalog) -> None:
        for digest in "abc":
            catalog.commit(request(digest))
        catalog.commit(request(project="audio", name="Birds", type="model"))
        catalog.commit(request(project="audio", name="ants"))
        delete(catalog, 2)
        found = [(row.project, row.name, row.version_count, row.latest) for row in catalog.collections()]
        assert found == [("audio", "Birds", 1, 0), ("audio", "ants", 1, 0), ("vision", "cats", 2, 1)]
        assert [row.name for row in catalog.collections("audio", "model")] == ["Birds"]
        assert [(row.type, row.created_at) for row in catalog.collections("vision")] == [("dataset", NOW)]
        assert catalog.projects() == ["audio", "vision"]

    def test_a_collection_without_live_versions_has_no_latest(self, catalog: Catalog) -> None:
        catalog.commit(request())
        delete(catalog, 0)
        (row,) = catalog.collections()
        assert (row.version_count, row.latest) == (0, None)

    def test_a_collection_has_one_type(self, catalog: Catalog) -> None:
        catalog.commit(request(type="model"))
        delete(catalog, 0)
        assert catalog.collection_type("vision", "cats") == "model"
        assert catalog.collection_type("vision", "Cats") is None
        assert catalog.collection_type("audio", "cats") is None

    # -- runs and edges --------------------------------------------------------------------------

    def test_a_run_is_created_and_replaced(self, catalog: Catalog) -> None:
        catalog.save_run(run_row())
        assert run_row() == catalog.run("r1")
        finished = run_row(state="finished", finished_at=NOW + timedelta(hours=1), project="audio", pid=None)
        catalog.save_run(finished)
        assert finished == catalog.run("r1")
        assert [finished] == catalog.runs()

    def test_runs_are_listed_newest_first(self, catalog: Catalog) -> None:
        for number in range(3):
            catalog.save_run(run_row(f"r{number}", created_at=NOW + timedelta(seconds=number)))
        catalog.save_run(run_row("other", project="audio"))
        assert [run.id for run in catalog.runs("vision")] == ["r2", "r1", "r0"]
        assert [run.id for run in catalog.runs(limit=2)] == ["r2", "r1"]
        assert catalog.runs("nowhere") == []

    def test_an_unknown_run_is_not_found(self, catalog: Catalog) -> None:
        with pytest.raises(NotFoundError, match="no run 'ghost'"):
            catalog.run("ghost")

    def test_using_a_version_twice_is_one_edge(self, catalog: Catalog) -> None:
        catalog.save_run(run_row())
        catalog.commit(request())
        catalog.record_use("r1", key(0), NOW)
        catalog.record_use("r1", key(0), NOW + timedelta(hours=1))
        (edge,) = catalog.edges(run_ids=["r1"])
        assert ("r1", key(0), "input", NOW) == (edge.run_id, edge.version, edge.kind, edge.at)

    def test_using_needs_a_known_run_and_version(self, catalog: Catalog) -> None:
        catalog.commit(request())
        with pytest.raises(NotFoundError, match="no run 'ghost'"):
            catalog.record_use("ghost", key(0), NOW)
        catalog.save_run(run_row())
        with pytest.raises(NotFoundError, match="there is no vision/cats:v9: there is v0"):
            catalog.record_use("r1", key(9), NOW)
        assert catalog.edges(versions=[key(0)]) == []

    def test_edges_are_found_from_both_sides_oldest_first(self, catalog: Catalog) -> None:
        catalog.save_run(run_row("r1"))
        catalog.save_run(run_row("r2"))
        catalog.commit(request("a", run_id="r1", at=NOW + timedelta(minutes=2)))
        catalog.commit(request("b", run_id="r2", at=NOW + timedelta(minutes=3)))
        catalog.record_use("r2", key(0), NOW)
        shown = [
            (edge.run_id, edge.version.number, edge.kind) for edge in catalog.edges(run_ids=["r1", "r2"])
        ]
        assert shown == [("r2", 0, "input"), ("r1", 0, "output"), ("r2", 1, "output")]
        assert [edge.run_id for edge in catalog.edges(versions=[key(0)])] == ["r2", "r1"]
        assert [edge.run_id for edge in catalog.edges(versions=[key(0)], kind="input")] == ["r2"]
        either = catalog.edges(run_ids=["r1"], versions=[key(0), key(1)], kind="output")
        assert [edge.version.number for edge in either] == [0, 1], "an edge found twice is listed once"
        assert [] == catalog.edges() == catalog.edges(run_ids=[], versions=[key(9)])

    def test_lineage_goes_from_version_to_version_through_runs(self, catalog: Catalog) -> None:
        """raw → made → used, and one run that only looks at what was made; the other version is nobody's."""
        for minute, (run_id, uses, logs) in enumerate(
            [("r1", None, "raw"), ("r2", "raw", "made"), ("r3", "made", "used"), ("r4", "made", None)]
        ):
            catalog.save_run(run_row(run_id, created_at=NOW + timedelta(minutes=minute)))
            if uses is not None:
                catalog.record_use(run_id, key(0, uses), NOW)
            if logs is not None:
                catalog.commit(request(logs, name=logs, run_id=run_id))
        catalog.commit(request("raw again", name="raw"))

        def met(direction: Direction, depth: int | None) -> tuple[list[str], list[str], int]:
            found = catalog.lineage(key(0, "made"), direction, depth)
            assert {edge.run_id for edge in found.edges} <= {run.id for run in found.runs}
            assert {edge.version for edge in found.edges} <= {row.key for row in found.versions}
            return [r.key.name for r in found.versions], [r.id for r in found.runs], len(found.edges)

        assert met("upstream", None) == (["made", "raw"], ["r1", "r2"], 3)
        assert met("upstream", 1) == (["made", "raw"], ["r2"], 2)
        assert met("downstream", 1) == (["made", "used"], ["r3", "r4"], 3)
        assert met("both", None) == (["made", "raw", "used"], ["r1", "r2", "r3", "r4"], 6)
        assert met("both", 0) == (["made"], [], 0)

    def test_lineage_takes_a_linked_version_and_its_source_for_one(self, catalog: Catalog) -> None:
        catalog.commit(request("a"))
        linked = [key(0, name, "registry") for name in ("best", "golden")]
        for project, name, _ in linked:
            catalog.commit(request("a", project=project, name=name, source=key(0)))
        catalog.delete(linked[1], delete_aliases=True, actor="ada", at=NOW)

        def met(start: VersionKey, direction: Direction) -> list[VersionKey]:
            return [row.key for row in catalog.lineage(start, direction, None).versions]

        assert met(linked[0], "upstream") == [linked[0], key(0)]
        assert met(key(0), "upstream") == [key(0)]
        assert met(key(0), "downstream") == [key(0), *linked]
        assert met(linked[1], "downstream") == [linked[1], key(0), linked[0]]

    def test_lineage_of_an_unknown_version_is_empty(self, catalog: Catalog) -> None:
        catalog.commit(request())
        assert catalog.lineage(key(7), "both", None) == ([], [], [])

    # -- parts, settings, audit ------------------------------------------------------------------

    def part(self, address: str = "p1", **changes: Any) -> PartRow:
        fields: dict[str, Any] = {
            "project": "vision",
            "name": "cats",
            "distributed_id": "job-7",
            "address": address,
            "type": "dataset",
            "run_id": None,
            "at": NOW,
        }
        return PartRow(**(fields | changes))

    def test_parts_wait_for_the_commit_that_joins_them(self, catalog: Catalog) -> None:
        catalog.save_run(run_row())
        for part in (self.part("p1", run_id="r1"), self.part("p2"), self.part("p1")):
            catalog.add_part(part)
        catalog.add_part(self.part("p1", distributed_id="other"))
        assert [self.part("p1", run_id="r1"), self.part("p2")] == catalog.parts("vision", "cats", "job-7")
        catalog.commit(request(distributed_id="job-7"))
        assert catalog.parts("vision", "cats", "job-7") == []
        assert len(catalog.parts("vision", "cats", "other")) == 1

    def test_parts_have_one_type(self, catalog: Catalog) -> None:
        catalog.add_part(self.part())
        with pytest.raises(ConflictError, match="vision/cats has type 'dataset', not 'model'"):
            catalog.add_part(self.part("p2", type="model"))
        catalog.commit(request(name="dogs"))
        with pytest.raises(ConflictError, match="vision/dogs has type 'dataset', not 'model'"):
            catalog.add_part(self.part("p2", name="dogs", type="model"))

    def test_the_first_writer_of_a_setting_wins(self, catalog: Catalog) -> None:
        assert catalog.setting("store") is None
        assert catalog.put_setting("store", "s3://a") == "s3://a"
        assert catalog.put_setting("store", "s3://b") == "s3://a"
        assert catalog.setting("store") == "s3://a"

    def test_the_audit_log_is_read_newest_first(self, catalog: Catalog) -> None:
        catalog.commit(request("a"))
        catalog.commit(request("b", actor="bob"))
        catalog.commit(request("a", project="audio"))
        assert [row.project for row in catalog.audit()] == ["audio", "vision", "vision"]
        assert [row.actor for row in catalog.audit("vision")] == ["bob", "ada"]
        assert [row.subject for row in catalog.audit("vision", limit=1)] == ["vision/cats:v1"]
        assert [row.actor for row in catalog.audit(subject="vision/cats:v1")] == ["bob"]
        of_collection = catalog.audit(subject="vision/cats")
        assert [row.subject for row in of_collection] == ["vision/cats:v1", "vision/cats:v0"]
        assert [*catalog.audit(subject="vision/cat"), *catalog.audit(subject="vision/Cats")] == []

    @pytest.mark.parametrize("field", ["description", "actor"])
    def test_text_that_is_not_unicode_is_refused(self, catalog: Catalog, field: str) -> None:
        with pytest.raises(InvalidInputError, match="cannot store a value"):
            catalog.commit(request(**{field: "\ud800"}))
        assert catalog.projects() == []

    def test_a_number_that_is_too_large_is_refused(self, catalog: Catalog) -> None:
        with pytest.raises(InvalidInputError, match="cannot store a value"):
            catalog.commit(request(ttl_s=2**63))
        assert catalog.projects() == []

    # -- where URIs are found ----------------------------------------------------------------------

    def test_holders_are_the_live_versions_whose_shards_may_hold_a_uri(self, catalog: Catalog) -> None:
        low, high = ShardUris("k1", [("s3://b/a", "s3://b/c")]), ShardUris("k2", [("s3://b/x", "s3://b/é")])
        catalog.commit(request("a", uris=[low, high]))
        catalog.commit(request("b", uris=[ShardUris("k1", None)]))
        catalog.commit(request("c", uris=[]))
        assert [*catalog.without_uris(), *catalog.holders("s3://b/d", "s3://b/w")] == []
        assert catalog.holders("s3://b/b", "s3://b/b\0") == [
            Holder("address-a", ("k1",), (key(0),)),
            Holder("address-b", ("k1",), (key(1),)),
        ]
        assert catalog.holders("s3://b/b", "s3://c") == [
            Holder("address-a", ("k1", "k2"), (key(0),)),
            Holder("address-b", ("k1",), (key(1),)),
        ]
        assert catalog.holders("s3://b/é", "s3://b/ü") == [Holder("address-a", ("k2",), (key(0),))]
        assert catalog.holders("s3://b/", "s3://b/a") == [], "the end is not within"
        delete(catalog, 0)
        assert catalog.holders("s3://b/x", "s3://b/y") == []

    def test_a_manifest_is_one_for_all_its_versions(self, catalog: Catalog) -> None:
        shards = [ShardUris("k1", [("s3://b/a", "s3://b/c")])]
        catalog.commit(request("a", uris=shards))
        catalog.commit(request("a", name="dogs", uris=shards))
        catalog.commit(request("a", name="links", source=key(0)))
        (holder,) = catalog.holders("s3://b/a", "s3://b/b")
        assert holder.versions == (key(0), key(0, "dogs"), key(0, "links"))

    def test_a_manifest_with_a_shard_that_was_never_told_of_waits_for_its_uris(
        self, catalog: Catalog
    ) -> None:
        catalog.commit(request("a"))
        catalog.commit(request("b", uris=[ShardUris("k1", None), ShardUris("k2", [("x://y", "x://z")])]))
        assert catalog.without_uris() == ["address-a", "address-b"]
        assert catalog.holders("x://y", "x://z") == []
        assert catalog.shards_with_uris(["k1", "k2"]) == {"k2"}
        for _ in range(2):
            catalog.add_uris("address-b", [ShardUris("k1", []), ShardUris("k2", None)])
        assert catalog.without_uris() == ["address-a"]
        assert catalog.holders("x://y", "x://z") == [Holder("address-b", ("k2",), (key(1),))]

    # -- taking over from another catalog ----------------------------------------------------------

    def test_a_snapshot_is_taken_over_once_under_its_numbers(self, catalog: Catalog) -> None:
        rows = [
            VersionRow(
                key(number),
                "dataset",
                manifest(str(number)),
                aliases=("best", "latest") if number == 4 else (),
                tags=("t",),
                description=None,
                metadata={"n": number},
                ttl_s=None,
                created_at=NOW,
                created_by="r1",
                source=key(0, "base") if number == 5 else None,
                deleted_at=NOW if number == 3 else None,
            )
            for number in (3, 4, 5)
        ]
        catalog.commit(request("base", name="base"))
        snapshot = Snapshot(
            rows,
            [run_row("r1")],
            [
                EdgeRow("r1", key(4), "output", NOW),
                EdgeRow("r1", key(0, "base"), "input", NOW),
                EdgeRow("r1", key(9, "base"), "input", NOW),
            ],
            {key(0, "base"): "sha256:base", key(9, "base"): "sha256:x"},
            {"address-4": [ShardUris("k", [("s3://b/a", "s3://b/c")])]},
        )
        taken = catalog.take(snapshot, actor="ada", at=NOW)
        assert taken == Taken((key(3), key(4), key(5)), (), (), (), 1)
        assert catalog.take(snapshot, actor="ada", at=NOW) == Taken((), taken.created, (), (), 1)
        assert catalog.version_rows([key(3), key(4), key(5)]) == rows
        assert len(catalog.audit("vision", "vision/cats")) == 3
        assert [edge.version for edge in catalog.edges(run_ids=["r1"])] == [key(4), key(0, "base")]
        assert [each.versions for each in catalog.holders("s3://b/b", "s3://b/c")] == [(key(4),)]
        assert catalog.versions(VersionFilter(metadata={"n": 4}))[0].key == key(4)
        assert catalog.commit(request("new")).version.key == key(6)

    def test_a_snapshot_that_contradicts_what_is_here_is_not_taken_at_all(self, catalog: Catalog) -> None:
        mine = catalog.commit(request("a")).version
        theirs = replace(mine, manifest=manifest("b"))
        other = replace(mine, key=key(0, "other"))
        for rows, said in (
            ([other, theirs], "vision/cats:v0 is another version here"),
            ([other, replace(mine, key=key(1))], "vision/cats:v1 holds what v0 holds here"),
            ([other, replace(theirs, type="model")], "has type 'dataset', not 'model'"),
        ):
            with pytest.raises(ConflictError, match=said):
                catalog.take(Snapshot(rows, [], [], {}, {}), actor="ada", at=NOW)
            assert [row.key for row in catalog.versions(VersionFilter(include_deleted=True))] == [key(0)]
