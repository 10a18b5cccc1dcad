"""Copies and deletions that GCS makes itself: what is asked for, since fake-gcs-server looks at no condition."""

from __future__ import annotations

from typing import Any

import pytest

from refart.entries import Entry
from refart.errors import ConflictError, SourceError
from refart.sources.gcs.client import _Status
from refart.sources.gcs.writing import Writer

OLD = Entry("k", 1, "md5:" + "0" * 32, "gs://lake/k", "generation:7")
NOW = Entry("k", 2, "md5:" + "1" * 32, "gs://lake/k", "generation:9")
COPY = {"name": "k", "size": "1", "generation": "11", "md5Hash": "AAAAAAAAAAAAAAAAAAAAAA=="}


class Client:
    """Answers in turn; remembers what it was asked."""

    def __init__(self, *answers: Any) -> None:
        self.answers, self.sent = list(answers), []

    def get_json(self, what: str, bucket: str, key: str, parameters: dict[str, str]) -> dict[str, Any]:
        assert parameters["generation"] == "7"
        return {"generation": "7", "contentType": "text/x", "storageClass": "NEARLINE"}

    def send(self, method: str, what: str, path: Any, parameters: dict[str, str], body: Any) -> Any:
        self.sent.append((method, path, dict(parameters), body))
        answer = self.answers.pop(0)
        if isinstance(answer, int):
            raise SourceError("refused") from _Status(answer)
        return answer


def writer(client: Client, over: Entry | None) -> Writer:
    return Writer(client, lambda uri: None, "lake", "k", "gs://lake/k", over)  # type: ignore[arg-type]


def test_a_large_object_is_copied_by_several_requests_under_one_condition() -> None:
    client = Client({"done": False, "rewriteToken": "t"}, {"done": True, "resource": COPY})
    row = writer(client, NOW).copy(OLD, "lake", "k")
    assert (row.content_id, row.pin) == (OLD.content_id, "generation:11")
    (method, path, first, body), (_, _, second, _) = client.sent
    assert (method, path) == ("POST", ("b", "lake", "o", "k", "rewriteTo", "b", "lake", "o", "k"))
    assert (first["sourceGeneration"], first["ifGenerationMatch"]) == ("7", "9")
    assert second == {**first, "rewriteToken": "t"}
    assert body == {"contentType": "text/x", "storageClass": "NEARLINE"}


def test_nothing_must_lie_there_where_nothing_did() -> None:
    client = Client({"done": True, "resource": COPY})
    writer(client, None).copy(OLD, "lake", "k")
    assert client.sent[0][2]["ifGenerationMatch"] == "0"


@pytest.mark.parametrize("status", [404, 412])
def test_what_changed_meanwhile_is_a_conflict(status: int) -> None:
    with pytest.raises(ConflictError):
        writer(Client(status), NOW).copy(OLD, "lake", "k")
    with pytest.raises(ConflictError):
        writer(Client(status), NOW).delete()


def test_a_copy_that_never_ends_is_an_error() -> None:
    with pytest.raises(SourceError, match="neither ends"):
        writer(Client(*[{"done": False, "rewriteToken": "t"}] * 3), NOW).copy(OLD, "lake", "k")


def test_a_deletion_names_the_generation() -> None:
    client = Client({})
    writer(client, NOW).delete()
    assert client.sent == [("DELETE", ("b", "lake", "o", "k"), {"ifGenerationMatch": "9"}, None)]
