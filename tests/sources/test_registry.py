"""Which source serves which URI."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from unittest.mock import call, patch

import fsspec.config
import pytest
from fsspec.registry import _registry

from refart.config import Config
from refart.errors import InvalidInputError, NotInstalledError, SourceError
from refart.sources import registry
from refart.sources.azure import uris as azure_uris
from refart.sources.gcs import source as gcs
from refart.sources.registry import Sources
from refart.sources.s3 import source as s3


class Elsewhere:
    """A third party's source."""

    def __init__(self, options: dict[str, object]) -> None:
        self.options = options

    def scan(self) -> None: ...

    def stat(self) -> None: ...

    def fetch(self) -> None: ...

    def open(self) -> None: ...


class WithoutFetch(Elsewhere):
    fetch = None  # type: ignore[assignment]


class Picky(Elsewhere):
    def __init__(self, options: dict[str, object]) -> None:
        raise ValueError("no catalogue is configured")


@pytest.fixture
def plug_in(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [
        EntryPoint("elsewhere", "elsewhere_package:Elsewhere", registry.ENTRY_POINT_GROUP),
        EntryPoint("broken", "no_such_package.sources:Source", registry.ENTRY_POINT_GROUP),
        EntryPoint("half", "elsewhere_package:WithoutFetch", registry.ENTRY_POINT_GROUP),
        EntryPoint("nameless", "elsewhere_package:Nobody", registry.ENTRY_POINT_GROUP),
        EntryPoint("picky", "elsewhere_package:Picky", registry.ENTRY_POINT_GROUP),
        EntryPoint("memory", "elsewhere_package:Elsewhere", registry.ENTRY_POINT_GROUP),
        EntryPoint("s3", "elsewhere_package:Elsewhere", registry.ENTRY_POINT_GROUP),
    ]
    package = ModuleType("elsewhere_package")
    for source in (Elsewhere, WithoutFetch, Picky):
        setattr(package, source.__name__, source)
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


@pytest.mark.parametrize("uri", ["memory://b/k", "zip://inside::s3://lake/k.zip", "MEMORY://b/k"])
def test_whatever_fsspec_has_a_driver_for_is_generic(uri: str) -> None:
    assert type(Sources(Config()).for_uri(uri)).__name__ == "GenericSource"


def test_refart_is_no_place_where_bytes_lie() -> None:
    with pytest.raises(InvalidInputError, match="refart:// stands for a version"):
        Sources(Config()).for_uri("refart://b/k")


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
        NotInstalledError,
        match=r"the plug-in for broken:// .* needs no_such_package, which is not installed: ",
    ):
        Sources(Config()).for_uri("broken://b/k")


@pytest.mark.parametrize(
    ("scheme", "said"),
    [
        ("half", r"has no method fetch\(\); a source has scan, stat, fetch, open"),
        ("nameless", "cannot be used: AttributeError: .*Nobody"),
        ("picky", "cannot be used: ValueError: no catalogue is configured"),
    ],
)
def test_a_plug_in_that_is_no_source(plug_in: None, scheme: str, said: str) -> None:
    with pytest.raises(SourceError, match=rf"the plug-in for {scheme}:// \(elsewhere_package:.*\) .*{said}"):
        Sources(Config()).for_uri(f"{scheme}://b/k")


def test_a_plug_in_goes_before_a_driver_of_fsspec(plug_in: None) -> None:
    assert isinstance(Sources(Config()).for_uri("memory://b/k"), Elsewhere)


def test_links_of_a_chain_have_the_options_of_their_own_prefix() -> None:
    """An archive in a bucket is read by the options of the bucket."""
    config = Config(storage_options={"memory://lake": {"global_store": True}})
    source = Sources(config).for_uri("zip://inside::memory://lake/k.zip")
    with patch("fsspec.url_to_fs", side_effect=OSError("reached")) as made, pytest.raises(SourceError):
        source.stat("zip://inside::memory://lake/k.zip")
    assert made.call_args == call("memory://lake/", skip_instance_cache=True, global_store=True)


def test_a_driver_gets_its_password_as_it_wants_it() -> None:
    """HTTP clients want a tuple, which neither TOML nor JSON can write."""
    config = Config(storage_options={"memory://": {"auth": ["me", "pw"], "other": ["a", "b"]}})
    with patch("fsspec.url_to_fs", side_effect=OSError("reached")) as made, pytest.raises(SourceError):
        Sources(config).for_uri("memory://lake/k").stat("memory://lake/k")
    assert made.call_args == call(
        "memory://lake/", skip_instance_cache=True, auth=("me", "pw"), other=["a", "b"]
    )


@pytest.mark.parametrize("split", [s3.split, gcs.split, lambda uri: [azure_uris.split(uri)[0].root]])
def test_a_scheme_is_recorded_in_lower_case(split: Callable[[str], Sequence[str]]) -> None:
    """`S3://b/k` and `s3://b/k` are one object, and so one entry."""
    assert split("S3://bucket/k")[0] == "s3://bucket/"


# -- fsspec's configuration --------------------------------------------------------------------------------------


def test_options_lie_above_those_of_fsspec(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        fsspec.config.conf, "s3", {"endpoint_url": "https://s3.example.org", "profile": "everyday"}
    )
    monkeypatch.setitem(fsspec.config.conf, "s3a", {"anon": True})
    config = Config(storage_options={"s3://lake": {"profile": "lake"}})
    with patch("refart.sources.s3.source.S3Source") as made:
        Sources(config).for_uri("s3://lake/k")
        Sources(config).for_uri("s3a://other/k")
    endpoint = "https://s3.example.org"
    assert made.call_args_list == [
        call({"endpoint_url": endpoint, "anon": True, "profile": "lake"}),
        call({"endpoint_url": endpoint, "anon": True, "profile": "everyday"}),
    ]


def test_fsspec_reads_its_variables_in_a_new_process() -> None:
    code = "from refart.sources.registry import fsspec_options; print(fsspec_options('gs'))"
    environment = {**os.environ, "FSSPEC_GCS_PROJECT": "lake", "FSSPEC_GS": '{"token": "anon"}'}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout == "{'token': 'anon', 'project': 'lake'}\n"


def test_drivers_that_fsspec_makes_have_its_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(fsspec.config.conf, "memory", {"global_store": False})
    fsspec.filesystem("memory", global_store=True).pipe_file("/configured", b"shared by all")
    try:
        assert Sources(Config()).for_uri("memory://configured").stat("memory://configured") is None
        given = Sources(Config(storage_options={"memory://": {"global_store": True}}))
        assert given.for_uri("memory://configured").stat("memory://configured") is not None
    finally:
        fsspec.filesystem("memory", global_store=True).rm_file("/configured")


def test_a_missing_driver_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "botocore", None)
    for module in [name for name in sys.modules if name.startswith("refart.sources.s3.")]:
        monkeypatch.delitem(sys.modules, module)
    with pytest.raises(NotInstalledError, match=r"s3:// needs botocore.*pip install 'refart\[s3\]'"):
        Sources(Config()).for_uri("s3://b/k")


@pytest.mark.parametrize(
    ("scheme", "module", "needed", "what_to_do"),
    [
        ("sftp", "fsspec.implementations.sftp", "paramiko", r"pip install 'refart\[sftp\]'"),
        ("webdav", "webdav4.fsspec", "webdav4", r"pip install 'refart\[webdav\]'"),
        ("wandb", "wandbfs", "wandbfs", "Install wandbfs to access wandb"),
    ],
)
def test_a_missing_driver_of_fsspec(
    monkeypatch: pytest.MonkeyPatch, scheme: str, module: str, needed: str, what_to_do: str
) -> None:
    monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, needed, None)
    with (
        patch.dict(_registry, clear=True),
        pytest.raises(NotInstalledError, match=rf"{scheme}:// needs {needed}.*not installed: {what_to_do}"),
    ):
        Sources(Config()).for_uri(f"{scheme}://b/k")


def test_nothing_heavy_is_imported_before_it_is_needed(tmp_path: Path) -> None:
    code = """
import sys
from refart.config import Config
from refart.sources.registry import Sources
sources = Sources(Config())
print([name for name in ("botocore", "boto3", "s3fs", "fsspec", "pyarrow") if name in sys.modules])
sources.for_uri("s3://b/k")
print([name for name in ("aiobotocore", "boto3", "s3fs", "fsspec") if name in sys.modules])
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FSSPEC_")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**environment, "HOME": str(tmp_path)},  # where fsspec looks for configuration
    )
    assert done.stdout == "[]\n[]\n"


def test_defaults_of_fsspec_are_found_wherever_they_can_be(tmp_path: Path) -> None:
    (tmp_path / ".config" / "fsspec").mkdir(parents=True)
    (tmp_path / ".config" / "fsspec" / "lake.json").write_text('{"s3": {"profile": "lake"}}')
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FSSPEC_")}
    for code, extra in (
        ("", {"HOME": str(tmp_path)}),
        ("", {"FSSPEC_CONFIG_DIR": str(tmp_path / ".config" / "fsspec")}),
        ("import fsspec; fsspec.config.conf['s3'] = {'profile': 'lake'}; ", {}),
    ):
        code += "from refart.sources.registry import fsspec_options; print(fsspec_options('s3'))"
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={**environment, **extra},
        )
        assert done.stdout == "{'profile': 'lake'}\n"
