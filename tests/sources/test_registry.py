"""Which source serves which URI."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import EntryPoint
from types import ModuleType

import pytest

from refart.config import Config
from refart.errors import InvalidInputError, SourceError
from refart.sources import registry
from refart.sources.registry import Sources


class Elsewhere:
    """A third party's source."""

    def __init__(self, options: dict[str, object]) -> None:
        self.options = options


@pytest.fixture
def plug_in(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [
        EntryPoint("elsewhere", "elsewhere_package:Elsewhere", registry.ENTRY_POINT_GROUP),
        EntryPoint("broken", "no_such_package.sources:Source", registry.ENTRY_POINT_GROUP),
        EntryPoint("s3", "elsewhere_package:Elsewhere", registry.ENTRY_POINT_GROUP),
    ]
    package = ModuleType("elsewhere_package")
    package.Elsewhere = Elsewhere  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, package.__name__, package)
    monkeypatch.setattr(registry, "entry_points", lambda group: points)


@pytest.mark.parametrize(
    "uri", ["file:///data/x", "FILE:///data/x", "/data/x", "data/x", "a#b?c", "s3:/one-slash"]
)
def test_paths_and_file_uris_are_local(uri: str) -> None:
    assert type(Sources(Config()).for_uri(uri)).__name__ == "LocalSource"


@pytest.mark.parametrize("uri", ["s3://b/k", "s3a://b/k", "S3://b/k"])
def test_s3(uri: str) -> None:
    assert type(Sources(Config()).for_uri(uri)).__name__ == "S3Source"


def test_one_source_serves_one_set_of_options() -> None:
    """PITFALLS 17: buckets in two places stand beside each other."""
    options = {"endpoint_url": "https://s3.example.org", "client_kwargs": {"region_name": "eu"}}
    sources = Sources(Config(storage_options={"s3://lake": options, "s3://same": dict(options)}))
    lake = sources.for_uri("s3://lake/x")
    assert sources.for_uri("s3://lake/y") is sources.for_uri("s3://same/x") is lake
    assert sources.for_uri("s3://lake2/x") is not lake
    assert sources.for_uri("s3://other/x") is sources.for_uri("s3a://another")


def test_threads_get_the_same_source() -> None:
    sources = Sources(Config())
    with ThreadPoolExecutor(8) as pool:
        assert len(set(map(id, pool.map(sources.for_uri, ["s3://b/k"] * 50)))) == 1


@pytest.mark.parametrize("scheme", ["az", "refart"])
def test_a_scheme_that_is_to_come_says_so(scheme: str) -> None:
    with pytest.raises(InvalidInputError, match=rf"{scheme}:// is not supported yet .* it reads .*s3://"):
        Sources(Config()).for_uri(f"{scheme}://b/k")


def test_an_unknown_scheme_lists_the_known_ones(plug_in: None) -> None:
    with pytest.raises(
        InvalidInputError, match=r"gopher:// is not a scheme .* elsewhere://, file://, .*s3://, s3a://"
    ):
        Sources(Config()).for_uri("gopher://b/k")


def test_a_third_party_adds_a_scheme_and_gets_its_options(plug_in: None) -> None:
    sources = Sources(Config(storage_options={"elsewhere://b": {"user": "me"}}))
    source = sources.for_uri("elsewhere://b/k")
    assert isinstance(source, Elsewhere)
    assert source.options == {"user": "me"}


def test_a_built_in_scheme_cannot_be_replaced(plug_in: None) -> None:
    assert type(Sources(Config()).for_uri("s3://b/k")).__name__ == "S3Source"


def test_a_plug_in_that_cannot_be_imported(plug_in: None) -> None:
    with pytest.raises(
        SourceError, match=r"broken:// needs no_such_package, which is not installed: .*plug-in"
    ):
        Sources(Config()).for_uri("broken://b/k")


def test_a_missing_driver_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "botocore", None)
    for module in [name for name in sys.modules if name.startswith("refart.sources.s3")]:
        monkeypatch.delitem(sys.modules, module)
    with pytest.raises(SourceError, match=r"s3:// needs botocore.*pip install 'refart\[s3\]'"):
        Sources(Config()).for_uri("s3://b/k")


def test_nothing_heavy_is_imported_before_it_is_needed() -> None:
    code = """
import sys
from refart.config import Config
from refart.sources.registry import Sources
Sources(Config())
print([name for name in ("botocore", "boto3", "s3fs", "fsspec") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
