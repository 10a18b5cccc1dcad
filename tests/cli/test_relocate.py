"""`refart relocate`"""

from __future__ import annotations

from refart.testing import Lake
from tests.cli.calls import Calls


def test_a_new_version_points_where_the_data_went(cli: Calls, versioned_lake: Lake) -> None:
    old, new = f"{versioned_lake.uri}/raw", f"{versioned_lake.uri}/new"
    cli("put", old, "-n", "raw")
    assert "nothing lies there" in cli("relocate", "raw", old, new, code=5).stderr
    cli("restore", "raw:v0", "--to", new, "--yes")
    done = cli("relocate", "raw", old, new, "--json").document
    assert (done["created"], done["version"], done["moved_entries"]) == (True, "v1", 3)
    assert {row["uri"].rpartition("/raw/")[0] for row in cli("ls", "raw:v1", "--json").documents} == {""}
    assert cli("diff", "raw:v0", "raw:v1", "--stat", "--json").document["relocated"] == 3
    cli("status", "raw:v1")
    again = cli("relocate", "raw:v0", old, new).stdout
    assert again.startswith("default/raw:v1 unchanged: this content is logged already, no version was made\n")
