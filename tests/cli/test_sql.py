"""`refart sql` and `refart presign`"""

from __future__ import annotations

import csv
from pathlib import Path
from urllib.request import urlopen

from refart.testing import Lake
from tests.cli.calls import Calls


def test_sql_answers_as_text_json_and_csv(cli: Calls, folder: Path) -> None:
    cli("put", "data")
    ask = "select path, size from entries where path like 'train/%' order by path"
    assert cli("sql", "data", ask).stdout.splitlines() == [
        "path         size",
        "train/a.txt  1",
        "train/b.txt  2",
    ]
    assert cli("sql", "data:v0", ask, "--json").documents == [
        {"path": "train/a.txt", "size": 1},
        {"path": "train/b.txt", "size": 2},
    ]
    rows = list(csv.reader(cli("sql", "data", ask, "--csv").stdout.splitlines()))
    assert rows == [["path", "size"], ["train/a.txt", "1"], ["train/b.txt", "2"]]


def test_sql_prints_every_type_as_json(cli: Calls, folder: Path) -> None:
    cli("put", "data")
    ask = (
        "select sum(size) as bytes, avg(size) as mean, 1.50::decimal(4,2) as part, null as nothing, true as yes,"
        " date '2026-01-02' as day, timestamp '2026-01-02 03:04:05' as at, 'ab'::blob as raw, [1, 2] as list,"
        " {'a': 1::hugeint} as pair, 'nan'::double as nan, uuid '00000000-0000-0000-0000-000000000001' as id"
        " from entries"
    )
    assert cli("sql", "data", ask, "--json").document == {
        "bytes": 17,
        "mean": 17 / 3,
        "part": 1.5,
        "nothing": None,
        "yes": True,
        "day": "2026-01-02",
        "at": "2026-01-02T03:04:05",
        "raw": "6162",
        "list": [1, 2],
        "pair": {"a": 1},
        "nan": None,
        "id": "00000000-0000-0000-0000-000000000001",
    }


def test_sql_says_what_is_wrong(cli: Calls, folder: Path) -> None:
    cli("put", "data")
    error = cli("sql", "data", "select siz from entries", "--json", code=2).error
    assert error["type"] == "InvalidInputError"
    assert "siz" in error["message"]
    assert "SELECT" in cli("sql", "data", "drop view entries", code=2).stderr
    assert "one name" in cli("sql", "data", "select path as a, size as a from entries", code=2).stderr
    assert "exclude each other" in cli("sql", "data", "select 1", "--csv", "--json", code=2).error["message"]
    cli("sql", "nothing", "select 1", code=3)
    cli("sql", "data", "", code=2)


def test_presign_prints_a_url_of_the_logged_bytes(cli: Calls, versioned_lake: Lake) -> None:
    cli("put", f"{versioned_lake.uri}/raw", "-n", "raw")
    versioned_lake.put("raw/labels.json", b"other")
    url = cli("presign", "raw:v0/labels.json").stdout.strip()
    assert urlopen(url).read() == b'["cat", "dog"]\n'
    document = cli("presign", "raw:v0/labels.json", "--expires", "60", "--json").document
    assert (document["name"], document["path"], document["expires_s"]) == (
        "default/raw:v0",
        "labels.json",
        60,
    )
    assert "Expires=60" in document["url"]
    cli("presign", "raw:v0", code=2)
    cli("presign", "raw:v0/nothing", code=3)
    cli("presign", "raw:v0/labels.json", "--expires", "0", code=2)
