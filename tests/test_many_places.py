"""Many places in one artifact, each by its own options; credentials that are found, wrong or shown; missing drivers."""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from refart import Artifact, Workspace
from refart.errors import NotInstalledError, PermissionDeniedError
from tests import lakes
from tests.artifacts import contents
from tests.children import run_python
from tests.cli.calls import Calls
from tests.faults import FaultProxy, s3_error
from tests.gcs import gcs_error, service_account
from tests.lakes import Lake
from tests.places import nobody
from tests.servers import SFTP, Azurite, FakeGCS, Nginx, SeaweedFS

cli = Calls()

GOOGLE_TOKEN = "ya29.of-nobody"  # has the form of Google's
MOTO_KEY, MOTO_SECRET = "AKIAOFNOBODYATALL", "the secret of nobody at all"


@dataclass(frozen=True)
class World:
    """One lake of each kind, and everything that must be known to reach them."""

    lakes: Mapping[str, Lake]
    options: Mapping[str, Mapping[str, Any]]
    """By URI prefix; none for the local folder."""
    secrets: Mapping[str, str]

    def assert_no_secret(self, text: str, where: object) -> None:
        for whose, secret in self.secrets.items():
            assert secret not in text, (whose, where)


@pytest.fixture
def world(
    request: pytest.FixtureRequest,
    refart_workspace: Workspace,
    monkeypatch: pytest.MonkeyPatch,
    seaweed: SeaweedFS,
    azurite: Azurite,
    nginx: Nginx,
    sftp: SFTP,
) -> Iterator[World]:
    nobody(monkeypatch)
    monkeypatch.setenv("FETCH_RAW_TOKEN_EXPIRY", "false")  # gcsfs would ask Google about the token
    makers = {
        "moto": lakes.moto(versioned=True),
        "seaweed": lakes.seaweed(versioned=False),
        "gcs": lakes.gcs(versioned=True),
        "azure": lakes.azurite,
        "http": lakes.nginx("auth"),
        "sftp": lakes.sftp,
        "local": lakes.local,
    }
    with ExitStack() as stack:
        made = {name: make(request, stack, name in ("moto", "gcs")) for name, make in makers.items()}
        options = {lake.uri: next(iter(lake.options.values()), {}) for lake in made.values()}
        options[made["moto"].uri] = {
            **options[made["moto"].uri],
            "key": MOTO_KEY,
            "secret": MOTO_SECRET,
        }
        options[made["gcs"].uri] = {**options[made["gcs"].uri], "token": GOOGLE_TOKEN}
        options[made["http"].uri] = {"headers": nginx.authorization}
        secrets = {
            "moto's key": MOTO_KEY,
            "moto's secret": MOTO_SECRET,
            "SeaweedFS' secret": seaweed.secret_key,
            "GCS' token": GOOGLE_TOKEN,
            "Azure's key": azurite.client.credential.account_key,
            "nginx' token": nginx.token,
            "SSH's key": sftp.key.read_text().splitlines()[2],
        }
        yield World(made, {prefix: own for prefix, own in options.items() if own}, secrets)


def in_config_file(options: Mapping[str, Mapping[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts, numbers and truth are written in TOML as in JSON."""
    lines = []
    for prefix, own in options.items():
        tables = {name: value for name, value in own.items() if isinstance(value, Mapping)}
        lines.append(f"[storage_options.{json.dumps(prefix)}]")
        lines += [f"{name} = {json.dumps(value)}" for name, value in own.items() if name not in tables]
        for table, values in tables.items():
            lines.append(f"[storage_options.{json.dumps(prefix)}.{table}]")
            lines += [f"{json.dumps(name)} = {json.dumps(value)}" for name, value in values.items()]
    Path(os.environ["REFART_CONFIG"]).write_text("\n".join(lines))


def in_environment(options: Mapping[str, Mapping[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFART_STORAGE_OPTIONS", json.dumps(options))


Configure = Callable[[Mapping[str, Mapping[str, Any]], pytest.MonkeyPatch], None]
everywhere = pytest.mark.parametrize(
    "configure", [in_config_file, in_environment], ids=["config.toml", "REFART_STORAGE_OPTIONS"]
)


def all_of(world: World, **options: Any) -> Artifact:
    """A draft that points at the folder `data` of every lake, under the lake's name."""
    artifact = Artifact("world", "dataset")
    for name, lake in world.lakes.items():
        if name == "http":  # lists nothing
            for file in ("a.csv", "sub/b.csv"):
                artifact.add_reference(lake.uri_of(f"data/{file}"), name=f"http/{file}", **options)
        else:
            artifact.add_reference(lake.uri_of("data"), name=name, **options)
    return artifact


@everywhere
def test_pitfall_17_many_places_stand_in_one_artifact(
    world: World,
    configure: Configure,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Never one endpoint, region or credential for everything; nor one of them stored or shown."""
    caplog.set_level("DEBUG", "refart")
    expected = {}
    for name, lake in world.lakes.items():
        for file in ("a.csv", "sub/b.csv"):
            expected[f"{name}/{file}"] = f"{file} of {name}".encode()
            lake.put(f"data/{file}", expected[f"{name}/{file}"])
    configure(world.options, monkeypatch)

    with Workspace.open() as workspace, workspace.init() as run:
        as_listed = run.log_artifact(all_of(world))
        report = as_listed.download_report(tmp_path / "root")
        assert contents(report.root) == expected
        assert report.checked_by == {"sha256": 2, "md5": 8, "etag": 2, "weak": 2}

        strong = run.log_artifact(all_of(world, checksum="sha256"))
        assert (strong.version, strong.file_count, strong.weak_count) == ("v1", 14, 0)
        assert strong.download_report(tmp_path / "strong").checked_by == {"sha256": 14}
        assert strong.verify(tmp_path / "strong").ok_files == 14

    def credentials(name: str) -> set[str]:
        proxy = world.lakes[name].proxy
        assert proxy is not None
        return {seen.headers.get("authorization", "").partition("/")[0] for seen in proxy.seen}

    assert credentials("moto") == {f"AWS4-HMAC-SHA256 Credential={MOTO_KEY}"}
    assert credentials("gcs") == {f"Bearer {GOOGLE_TOKEN}"}
    stored = {file: text_of(file) for file in files_of(tmp_path / "workspace", tmp_path / "cache")}
    for file, text in stored.items():
        world.assert_no_secret(text, file)
    world.assert_no_secret(caplog.text, "log")
    for lake in world.lakes.values():  # what is stored is found by such a search
        assert any(lake.uri_of("data") in text for text in stored.values())


def files_of(*folders: Path) -> list[Path]:
    return [path for folder in folders for path in folder.rglob("*") if path.is_file()]


def text_of(file: Path) -> str:
    """What a file holds, with what is compressed in it."""
    text = file.read_bytes().decode("latin-1")
    return text + str(pq.read_table(file).to_pylist()) if text.startswith("PAR1") else text


# -- credentials that are wrong

UNKNOWN = "0ff1c1a1" + "A" * 36
"""A secret that nobody knows."""


def wrong(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Storage options with `UNKNOWN` in them."""
    secret = UNKNOWN
    if name in ("moto", "seaweed"):
        return {**options, "secret": secret}
    if name == "gcs":
        return {**options, "token": secret}
    if name == "azure":
        before, _, rest = options["connection_string"].partition("AccountKey=")
        return {"connection_string": f"{before}AccountKey={secret};{rest.partition(';')[2]}"}
    if name == "http":
        return {"headers": {"Authorization": f"Bearer {secret}"}}
    return {**options, "username": "nobody", "passphrase": secret}


@pytest.mark.parametrize("name", ["moto", "seaweed", "gcs", "azure", "http", "sftp"])
def test_a_wrong_credential_for_one_place_is_an_error_that_names_it(
    world: World, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """And shows nothing of it; nothing is added, and the other places do not suffer."""
    for lake in world.lakes.values():
        lake.put("data/a.csv", b"bytes")
    place = world.lakes[name]
    options = {**world.options, place.uri: wrong(name, world.options[place.uri])}
    in_environment(options, monkeypatch)
    # These two let everybody in, so that their proxies have to say no.
    if name == "moto":
        place.spoil("*", **s3_error(403, "SignatureDoesNotMatch"))
    if name == "gcs":
        place.spoil("*", **gcs_error(401, "authError", f"Invalid Credentials: {UNKNOWN}, token={UNKNOWN}"))

    artifact = Artifact("world", "dataset")
    with pytest.raises(PermissionDeniedError) as caught:
        artifact.add_reference(place.uri_of("data/a.csv"))
    assert place.uri in str(caught.value)
    assert artifact.file_count == 0
    shown = "".join(traceback.format_exception(caught.value))
    denied = cli("put", place.uri_of("data/a.csv"), "-n", "world", code=PermissionDeniedError.exit_code)
    assert place.uri in denied.stderr
    for text in (shown, denied.stdout + denied.stderr):
        assert UNKNOWN[:12] not in text
        world.assert_no_secret(text, "error")
    for other in world.lakes.values():
        if other is not place:
            artifact.add_reference(other.uri_of("data/a.csv"), overwrite=True)


# -- credentials that are found


def logged_and_downloaded(lake: Lake, root: Path) -> None:
    """By the command line, without any storage option."""
    assert "REFART_STORAGE_OPTIONS" not in os.environ
    lake.put("d/k", b"bytes")
    cli("put", lake.uri_of("d"), "-n", "things")
    cli("get", "things", "--root", str(root))
    assert contents(root) == {"k": b"bytes"}


@pytest.fixture
def stack(refart_workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Iterator[ExitStack]:
    nobody(monkeypatch)
    with ExitStack() as stack:
        yield stack


def test_the_aws_environment_is_used(
    request: pytest.FixtureRequest,
    stack: ExitStack,
    seaweed: SeaweedFS,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    for name, value in seaweed.environment.items():
        monkeypatch.setenv(name, value)
    logged_and_downloaded(lakes.seaweed(versioned=True)(request, stack, False), tmp_path / "root")


def test_an_aws_profile_is_used(
    request: pytest.FixtureRequest,
    stack: ExitStack,
    seaweed: SeaweedFS,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """From the files that the AWS command line keeps."""
    credentials, config = tmp_path / "credentials", tmp_path / "config"
    credentials.write_text(
        f"[lake]\naws_access_key_id = {seaweed.access_key}\naws_secret_access_key = {seaweed.secret_key}\n"
    )
    config.write_text(f"[profile lake]\nregion = us-east-1\nendpoint_url = {seaweed.url}\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(credentials))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_PROFILE", "lake")
    logged_and_downloaded(lakes.seaweed(versioned=False)(request, stack, False), tmp_path / "root")


def test_google_application_credentials_are_used(
    request: pytest.FixtureRequest,
    stack: ExitStack,
    fake_gcs: FakeGCS,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """A service account's file, whose token comes from where the file says: here a proxy that gives one out."""
    issuer = FaultProxy(fake_gcs.url)
    stack.callback(issuer.close)
    answer = json.dumps({"access_token": GOOGLE_TOKEN, "expires_in": 3600, "token_type": "Bearer"})
    issuer.add("*", status=200, body=answer.encode(), headers={"Content-Type": "application/json"})
    account = tmp_path / "account.json"
    account.write_text(json.dumps(service_account() | {"token_uri": f"{issuer.url}/token"}))
    lake = lakes.gcs(versioned=False)(request, stack, True)
    assert lake.proxy is not None
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(account))
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", lake.proxy.url)
    logged_and_downloaded(lake, tmp_path / "root")
    assert {seen.headers["authorization"] for seen in lake.proxy.seen} == {f"Bearer {GOOGLE_TOKEN}"}


def test_the_azure_connection_string_is_used(
    request: pytest.FixtureRequest,
    stack: ExitStack,
    azurite: Azurite,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", azurite.connection_string)
    logged_and_downloaded(lakes.azurite(request, stack, False), tmp_path / "root")


# -- drivers that are missing

WITHOUT = """
import sys
missing, uri = sys.argv[1:]
sys.modules[missing] = None  # as if it were not installed
import refart
from refart.cli import main
try:
    refart.Artifact("things", "dataset").add_reference(uri)
except refart.NotInstalledError as error:
    print(error)
sys.argv[1:] = ["put", uri, "-n", "things"]
main()
"""


@pytest.mark.parametrize(
    ("missing", "uri", "extra"),
    [
        ("botocore", "s3://lake/k", "s3"),
        ("gcsfs", "gs://lake/k", "gcs"),
        ("google.auth", "gs://lake/k", "gcs"),
        ("azure.storage.blob", "az://container/k", "azure"),
        ("azure.identity", "https://account.blob.core.windows.net/container/k", "azure"),
        ("requests", "https://example.org/k", "http"),
        ("paramiko", "sftp://example.org/k", "sftp"),
        ("webdav4", "webdav://folder/k", "webdav"),
    ],
)
def test_a_missing_driver_is_one_sentence_that_says_what_to_install(
    refart_workspace: Workspace, missing: str, uri: str, extra: str
) -> None:
    """From Python and from the command line; never a traceback."""
    done = run_python(WITHOUT, missing, uri)
    assert done.returncode == NotInstalledError.exit_code
    [sentence] = done.stdout.splitlines()
    assert sentence.endswith(f", which is not installed: pip install 'refart[{extra}]'")
    assert missing.partition(".")[0] in sentence
    assert done.stderr == f"error: {sentence}\n"
